//! Destroys the content of one class in one finished segment, and nothing else of it.
//!
//! Invariant: whoever gets here has a durable `expired` record, so content is never gone without
//! one; and at every moment the segment's name leads to a whole segment. A new file without the
//! content and without its wrapped key takes the segment's name. The old file keeps a second name
//! until all of it is overwritten, so that a crash in between
//! leaves it to be found. Absent: which content expires; what a disk keeps of overwritten blocks,
//! which no program knows.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::chain::{HASH_BYTES, content_digest};
use crate::clear::{CLEAR_BYTES, KIND_EXPIRED};
use crate::error::AuditError;
use crate::header::SegmentHeader;
use crate::history::ContentKey;
use crate::scan::{Frame, SegmentScan};
use crate::segment::{encode_header, segment_path, sync_directory};

/// A segment without the content that expired, while it is made.
const NEW_NAME: &str = "expiring.new";
/// Second name of a segment whose content is about to be overwritten.
const OLD_NAME: &str = "expiring.old";
const FILE_MODE: u32 = 0o600;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Destroys the content of a class in a finished segment.
pub(crate) fn destroy(dir: &Path, key: ContentKey) -> Result<(), AuditError> {
    finish(dir)?;
    let path = segment_path(dir, key.0);
    let mut scan = SegmentScan::open_alone(path.clone(), key.0)?;
    let failed = |error| AuditError::io("destroy expired content of", &path, error);
    let new = create(&dir.join(NEW_NAME)).map_err(failed)?;
    let mut new = BufWriter::new(new);
    write_without(&mut scan, key, &mut new)?;
    let new = new
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    let replace = || -> io::Result<()> {
        new.sync_all()?;
        std::fs::hard_link(&path, dir.join(OLD_NAME))?;
        sync_directory(dir)?;
        std::fs::rename(dir.join(NEW_NAME), &path)?;
        sync_directory(dir)
    };
    replace().map_err(failed)?;
    finish(dir)
}

/// Overwrites what an expiry has replaced, or takes back what it has only begun.
pub(crate) fn finish(dir: &Path) -> Result<(), AuditError> {
    let old = dir.join(OLD_NAME);
    let failed = |error| AuditError::io("overwrite", &old, error);
    remove(&dir.join(NEW_NAME)).map_err(failed)?;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(&old);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let finish = || -> io::Result<()> {
        // With two names it is still the segment itself: the expiry did not get far.
        if file.metadata()?.nlink() == 1 {
            overwrite(&file)?;
        }
        remove(&old)?;
        sync_directory(dir)
    };
    finish().map_err(failed)
}

/// Writes a segment with the content of one class replaced by its digests.
fn write_without(
    scan: &mut SegmentScan,
    (segment, class): ContentKey,
    out: &mut impl Write,
) -> Result<(), AuditError> {
    let path = scan.path().to_owned();
    let failed = |error| AuditError::io("destroy expired content of", &path, error);
    let header = header_without(scan.header(), class.place());
    out.write_all(&header).map_err(failed)?;
    loop {
        let frame = scan.next()?;
        let (body, head) = match frame {
            Frame::Record(record) if record.has_content => {
                let is_expiring = record.clear.entry_type.class() == class;
                (is_expiring.then(|| body_without(scan.body())), record.head)
            }
            Frame::Record(record) => (None, record.head),
            Frame::Checkpoint(_) | Frame::Signature(_) => (None, scan.tip().head),
            Frame::Torn(_) | Frame::End => break,
        };
        let body = body.as_deref().unwrap_or(scan.body());
        write_frame(out, body, &head.0).map_err(failed)?;
    }
    ::log::info!("destroying expired content of {class} in segment {segment}");
    Ok(())
}

fn header_without(header: &SegmentHeader, place: usize) -> Vec<u8> {
    let mut keys = header.keys.clone();
    if let Some(keys) = &mut keys {
        keys[place].clear();
    }
    let (bytes, head) = encode_header(&header.body, keys.as_ref());
    assert_eq!(head, header.head, "a header is written as it was read");
    bytes
}

fn body_without(body: &[u8]) -> Vec<u8> {
    let (clear, content) = body.split_at(CLEAR_BYTES);
    let mut expired = clear.to_vec();
    expired[0] = KIND_EXPIRED;
    expired.extend_from_slice(&content_digest(content));
    expired
}

fn write_frame(out: &mut impl Write, body: &[u8], head: &[u8; HASH_BYTES]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&(!length).to_be_bytes())?;
    out.write_all(body)?;
    out.write_all(head)
}

/// Zeros instead of all that a file holds.
fn overwrite(file: &File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let mut at = 0;
    while at < bytes {
        let count = (bytes - at).min(ZEROS.len() as u64);
        file.write_all_at(
            &ZEROS[..usize::try_from(count).map_err(io::Error::other)?],
            at,
        )?;
        at += count;
    }
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
