//! The bytes of a segment: its name, its header, its frames. See FORMAT.md.
//!
//! Invariant: a segment file appears under its name only with a whole, durable header, because it
//! is written under [`STAGED_NAME`] and renamed. So a damaged header is never a torn write.
//! Absent: what records say, and the judgement of damage, which is `scan`'s.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::chain::{HASH_BYTES, Head, record_head, segment_head};
use crate::error::{AuditError, Reason};
use crate::presence::Identity;

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"PSTAUDIT";
/// Version of the format that this crate writes and reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes before the header's body: magic, version, length.
pub(crate) const HEADER_PREFIX_BYTES: usize = 16;
/// Longest body of a header, in bytes.
pub(crate) const HEADER_BODY_BYTES_MAX: u32 = 64 * 1024;
/// Bytes before a record's body: its length and the length's complement.
pub(crate) const FRAME_PREFIX_BYTES: usize = 8;
/// Bytes of a frame beside the body.
pub(crate) const FRAME_BYTES: usize = FRAME_PREFIX_BYTES + HASH_BYTES;
/// Segments are numbered with eight digits.
pub(crate) const SEGMENTS_MAX: u32 = 100_000_000;
/// The next segment while it is made; not part of the log yet.
pub(crate) const STAGED_NAME: &str = "segment.new";

const EXTENSION: &str = ".seg";
const FILE_MODE: u32 = 0o600;

/// Body of a segment's header. The fields stand in canonical order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) first_index: u64,
    pub(crate) previous_head: String,
    pub(crate) segment: u32,
}

/// The header's bytes with the hash that ends them, and the head after it.
pub(crate) fn encode_header(header: &Header) -> (Vec<u8>, Head) {
    let body = serde_json::to_vec(header).expect("a header is plain data");
    let length = u32::try_from(body.len()).expect("a header is short");
    let mut bytes = Vec::with_capacity(HEADER_PREFIX_BYTES + body.len() + HASH_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    let head = segment_head(&bytes);
    bytes.extend_from_slice(&head.0);
    (bytes, head)
}

/// Appends the frame of a record to `out` and returns the head after it.
pub(crate) fn encode_frame(out: &mut Vec<u8>, previous: &Head, body: &[u8]) -> Head {
    let length = u32::try_from(body.len()).expect("a body is bounded by the configuration");
    let head = record_head(previous, body);
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

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(EXTENSION)?;
    let plain = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}
