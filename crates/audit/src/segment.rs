//! The bytes of a segment: its name, its header, its frames. See FORMAT.md.
//!
//! Invariant: a segment file appears under its name only with a whole, durable header and a
//! signature, because it is written under [`STAGED_NAME`] and renamed. So a damaged header is never
//! a torn write. The
//! head of a header covers the digest of each wrapped key and not the key, so that a key can be
//! destroyed and the chain still verifies. Absent: what records say, and the judgement of damage,
//! which is `scan`'s.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::chain::{HASH_BYTES, Head, content_digest, hex, segment_head};
use crate::error::{AuditError, Reason};
use crate::kind::{CLASSES, Class};
use crate::merkle::Hash;
use crate::presence::Identity;
use crate::seal::WRAPPED_KEY_BYTES_MAX;

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"PSTAUDIT";
/// Version of the format that this crate writes and reads.
pub(crate) const VERSION: u32 = 2;
/// Bytes before the header's body: magic, version, length.
pub(crate) const HEADER_PREFIX_BYTES: usize = 16;
/// Bytes of the length of the key area.
pub(crate) const KEY_AREA_PREFIX_BYTES: usize = 4;
/// Longest body of a header, in bytes.
pub(crate) const HEADER_BODY_BYTES_MAX: u32 = 64 * 1024;
/// Longest key area, in bytes.
pub(crate) const KEY_AREA_BYTES_MAX: u32 = (CLASSES * (1 + WRAPPED_KEY_BYTES_MAX)) as u32;
/// Bytes before a frame's body: its length and the length's complement.
pub(crate) const FRAME_PREFIX_BYTES: usize = 8;
/// Bytes of a frame beside the body.
pub(crate) const FRAME_BYTES: usize = FRAME_PREFIX_BYTES + HASH_BYTES;
/// Segments are numbered with eight digits.
pub(crate) const SEGMENTS_MAX: u32 = 100_000_000;
/// The next segment while it is made; not part of the log yet.
pub(crate) const STAGED_NAME: &str = "segment.new";

/// In the key area: the key of this class follows.
pub(crate) const KEY_PRESENT: u8 = 1;
/// In the key area: the key of this class was destroyed.
pub(crate) const KEY_DESTROYED: u8 = 0;

/// The newest checkpoint; a convenience, no part of the log.
pub(crate) const CHECKPOINT_NAME: &str = "checkpoint";
const CHECKPOINT_STAGED_NAME: &str = "checkpoint.new";
const EXTENSION: &str = ".seg";
const FILE_MODE: u32 = 0o600;

/// Body of a segment's header. The fields stand in canonical order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Random id of the opening of the log that began this segment.
    pub(crate) boot: String,
    pub(crate) first_index: u64,
    /// By class; `None` in a plaintext segment.
    pub(crate) keys: Option<BTreeMap<Class, WrappedKey>>,
    pub(crate) origin: String,
    pub(crate) previous_head: String,
    pub(crate) segment: u32,
    pub(crate) signer: String,
    pub(crate) tree: TreeBefore,
}

/// What the header says of a wrapped key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrappedKey {
    pub(crate) bytes: u32,
    pub(crate) sha256: String,
}

impl WrappedKey {
    pub(crate) fn of(wrapped: &[u8]) -> Self {
        Self {
            bytes: u32::try_from(wrapped.len()).unwrap_or(u32::MAX),
            sha256: hex(&content_digest(wrapped)),
        }
    }

    pub(crate) fn is_of(&self, wrapped: &[u8]) -> bool {
        wrapped.len() == self.bytes as usize && self.sha256 == hex(&content_digest(wrapped))
    }
}

/// The Merkle tree over all records before a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TreeBefore {
    pub(crate) peaks: Vec<String>,
    pub(crate) size: u64,
}

/// The wrapped keys of a segment by [`Class::place`]; an empty one was destroyed.
pub(crate) type KeyArea = [Vec<u8>; CLASSES];

/// The header's bytes with the hash that ends them, and the head after it.
pub(crate) fn encode_header(header: &Header, keys: Option<&KeyArea>) -> (Vec<u8>, Head) {
    let body = serde_json::to_vec(header).expect("a header is plain data");
    let length = u32::try_from(body.len()).expect("a header is short");
    let mut bytes = Vec::with_capacity(HEADER_PREFIX_BYTES + body.len() + HASH_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    let head = segment_head(&bytes);
    let area = keys.map_or_else(Vec::new, encode_key_area);
    let area_length = u32::try_from(area.len()).expect("wrapped keys are bounded");
    bytes.extend_from_slice(&area_length.to_be_bytes());
    bytes.extend_from_slice(&area);
    bytes.extend_from_slice(&head.0);
    (bytes, head)
}

fn encode_key_area(keys: &KeyArea) -> Vec<u8> {
    let flag = |key: &Vec<u8>| {
        if key.is_empty() {
            KEY_DESTROYED
        } else {
            KEY_PRESENT
        }
    };
    let mut area: Vec<u8> = keys.iter().map(flag).collect();
    area.extend(keys.iter().flatten());
    area
}

/// Reads the wrapped keys, each of which must be the one that the header names, or destroyed.
pub(crate) fn decode_key_area(
    area: &[u8],
    named: &BTreeMap<Class, WrappedKey>,
) -> Result<KeyArea, Reason> {
    let misfit = |class| Reason::WrappedKey { class };
    let first = Class::ALL[0];
    let (flags, mut rest) = area.split_at_checked(CLASSES).ok_or(misfit(first))?;
    let mut keys = KeyArea::default();
    for (class, &flag) in Class::ALL.into_iter().zip(flags) {
        let named = named.get(&class).ok_or(misfit(class))?;
        if flag == KEY_DESTROYED {
            continue;
        }
        let key = rest.split_at_checked(named.bytes as usize);
        let (key, after) = key.ok_or(misfit(class))?;
        if flag != KEY_PRESENT || key.is_empty() || !named.is_of(key) {
            return Err(misfit(class));
        }
        keys[class.place()] = key.to_vec();
        rest = after;
    }
    if !rest.is_empty() {
        return Err(misfit(Class::ALL[CLASSES - 1]));
    }
    Ok(keys)
}

/// Appends a frame to `out` and returns the head after it. `digest` is what the chain covers: a
/// record's leaf hash, or the digest of another frame's body.
pub(crate) fn encode_frame(out: &mut Vec<u8>, previous: &Head, body: &[u8], digest: &Hash) -> Head {
    let length = u32::try_from(body.len()).expect("a body is bounded by the configuration");
    let head = previous.after(digest);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&(!length).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&head.0);
    head
}

/// Path of a segment.
pub(crate) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08}{EXTENSION}"))
}

/// How many segments the directory claims: one more than the highest number in it. Constant
/// memory; a number that is missing below shows when it is opened.
pub(crate) fn count_segments(dir: &Path) -> Result<u32, AuditError> {
    let failed = |error| AuditError::io("list", dir, error);
    let mut count = 0;
    for item in std::fs::read_dir(dir).map_err(failed)? {
        let name = item.map_err(failed)?.file_name();
        if !name.as_encoded_bytes().ends_with(EXTENSION.as_bytes()) {
            continue;
        }
        let number = name.to_str().and_then(segment_number);
        let number = number.ok_or_else(|| AuditError::Broken {
            file: dir.join(&name),
            offset: 0,
            index: 0,
            reason: Reason::SegmentName,
        })?;
        count = count.max(number + 1);
    }
    Ok(count)
}

/// Opens a file of the log for reading: never through a link, never waiting for a pipe.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path)
}

/// Cuts a segment file to a length, durably.
pub(crate) fn truncate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags(OFlags::NOFOLLOW))
        .open(path)?;
    file.set_len(bytes)?;
    file.sync_all()
}

/// Writes the beginning of the next segment beside the log, durably, in place of any older one.
pub(crate) fn stage(dir: &Path, bytes: &[u8]) -> io::Result<(File, Identity)> {
    let path = dir.join(STAGED_NAME);
    remove_staged(dir)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    sync_directory(dir)?;
    let identity = Identity::of(&file.metadata()?);
    Ok((file, identity))
}

/// Removes what an unfinished [`stage`] left.
pub(crate) fn remove_staged(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(STAGED_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes the staged file the segment of this number, durably.
pub(crate) fn publish(dir: &Path, segment: u32) -> io::Result<()> {
    std::fs::rename(dir.join(STAGED_NAME), segment_path(dir, segment))?;
    sync_directory(dir)
}

/// Keeps the newest checkpoint in a file of its own, for people and witnesses. It is no part of the
/// log, so the log goes on if that fails.
pub(crate) fn save_checkpoint(dir: &Path, note: &str) {
    let staged = dir.join(CHECKPOINT_STAGED_NAME);
    let save = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
            .open(&staged)?;
        file.write_all(note.as_bytes())?;
        std::fs::rename(&staged, dir.join(CHECKPOINT_NAME))
    };
    if let Err(error) = save() {
        ::log::warn!(
            "cannot keep the newest checkpoint in {}: {error}",
            staged.display()
        );
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the name of a file or directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// The same for what was there before: whoever made it may have been killed before its name was on the disk.
pub(crate) fn keep_name(path: &Path) {
    if let Err(error) = sync_parent(path) {
        // Its folder may be another user's, who has made it long ago.
        ::log::warn!(
            "cannot sync the folder of {}: {error}; if it was only just made, a power loss may take it",
            path.display()
        );
    }
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(EXTENSION)?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
