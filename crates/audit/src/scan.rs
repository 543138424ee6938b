//! Reads one segment and judges each byte of it.
//!
//! Invariant: a frame is handed out only if its hash follows from its bytes and all bytes before.
//! Damage is called torn only at the end of the last segment and only in a form that a broken-off
//! write leaves: the file ends within a frame, or the end of the frame and all that follows are
//! zero bytes, as a file system leaves blocks it never wrote. Everything else is broken.
//! Absent: any write. Memory is one frame, whatever the file's length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::chain::{HASH_BYTES, Head, hex, record_head, segment_head};
use crate::config::RECORD_BYTES_LIMIT;
use crate::encoding::decode_body;
use crate::entry::{Cut, Entry};
use crate::error::{AuditError, Reason};
use crate::segment::{
    FRAME_BYTES, FRAME_PREFIX_BYTES, HEADER_BODY_BYTES_MAX, HEADER_PREFIX_BYTES, Header, MAGIC,
    VERSION, open_to_read,
};

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A record whose place in the chain is verified.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) index: u64,
    /// Where its frame begins in the segment, in bytes.
    pub(crate) offset: u64,
    pub(crate) time: Timestamp,
    pub(crate) head: Head,
    pub(crate) entry: Entry,
}

/// What stands next in a segment.
#[derive(Debug)]
pub(crate) enum Frame {
    Record(Box<Record>),
    Torn(Cut),
    End,
}

/// Where a segment has to go on from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joint {
    pub(crate) segment: u32,
    pub(crate) index: u64,
    pub(crate) head: Head,
}

/// One segment, read from its beginning.
#[derive(Debug)]
pub(crate) struct SegmentScan {
    path: PathBuf,
    source: BufReader<File>,
    is_last: bool,
    segment: u32,
    /// Where the next frame begins.
    offset: u64,
    /// Index of the next record.
    index: u64,
    head: Head,
    body: Vec<u8>,
}

impl SegmentScan {
    /// Opens the segment at `path` and verifies its header. `is_last` says that no segment
    /// follows, so that its end may be torn.
    pub(crate) fn open(path: PathBuf, joint: Joint, is_last: bool) -> Result<Self, AuditError> {
        let broken = |reason| AuditError::Broken {
            file: path.clone(),
            offset: 0,
            index: joint.index,
            reason,
        };
        let file = open_to_read(&path).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => broken(Reason::SegmentMissing),
            Some(Errno::LOOP) => broken(Reason::NotAFile),
            _ => AuditError::io("open", &path, error),
        })?;
        let metadata = file.metadata();
        if !metadata
            .map_err(|error| AuditError::io("inspect", &path, error))?
            .is_file()
        {
            return Err(broken(Reason::NotAFile));
        }
        let mut scan = Self {
            source: BufReader::with_capacity(READ_BUFFER_BYTES, file),
            is_last,
            segment: joint.segment,
            offset: 0,
            index: joint.index,
            head: joint.head,
            body: Vec::new(),
            path,
        };
        scan.read_header()?;
        Ok(scan)
    }

    /// Reads and judges the next frame.
    pub(crate) fn next(&mut self) -> Result<Frame, AuditError> {
        let mut prefix = [0; FRAME_PREFIX_BYTES];
        match self.fill(&mut prefix)? {
            0 => return Ok(Frame::End),
            FRAME_PREFIX_BYTES => {}
            found => return self.ends_within(FRAME_PREFIX_BYTES - found),
        }
        let [length, complement] = big_endian_pair(prefix);
        if length != !complement {
            return if prefix == [0; FRAME_PREFIX_BYTES] && self.unwritten_to_the_end()? {
                self.torn()
            } else {
                Err(self.broken(Reason::LengthCopies))
            };
        }
        if length == 0 || length > RECORD_BYTES_LIMIT {
            return Err(self.broken(Reason::RecordLength {
                found: length,
                max: RECORD_BYTES_LIMIT,
            }));
        }
        self.read_record(length as usize)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame begins, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the next segment has to go on, once this one is at its end.
    pub(crate) fn joint(&self) -> Joint {
        Joint {
            segment: self.segment + 1,
            index: self.index,
            head: self.head,
        }
    }

    fn read_header(&mut self) -> Result<(), AuditError> {
        let mut bytes = vec![0; HEADER_PREFIX_BYTES];
        let found = self.fill(&mut bytes)?;
        let magic_found = found.min(MAGIC.len());
        if bytes[..magic_found] != MAGIC[..magic_found] {
            return Err(self.broken(Reason::Magic));
        }
        if found < HEADER_PREFIX_BYTES {
            return Err(self.header_ends(HEADER_PREFIX_BYTES - found));
        }
        let lengths: [u8; 8] = bytes[8..].try_into().expect("the prefix has 16 bytes");
        let [version, length] = big_endian_pair(lengths);
        if version != VERSION {
            return Err(self.broken(Reason::Version {
                found: version,
                known: VERSION,
            }));
        }
        if length > HEADER_BODY_BYTES_MAX {
            return Err(self.broken(Reason::HeaderLength {
                found: length,
                max: HEADER_BODY_BYTES_MAX,
            }));
        }
        bytes.resize(HEADER_PREFIX_BYTES + length as usize + HASH_BYTES, 0);
        let found = self.fill(&mut bytes[HEADER_PREFIX_BYTES..])?;
        let wanted = length as usize + HASH_BYTES;
        if found < wanted {
            return Err(self.header_ends(wanted - found));
        }
        let (hashed, stored) = bytes.split_at(HEADER_PREFIX_BYTES + length as usize);
        let head = segment_head(hashed);
        if head.0 != *stored {
            return Err(self.broken(Reason::HeaderHash));
        }
        self.check_joint(&hashed[HEADER_PREFIX_BYTES..])?;
        self.head = head;
        self.offset = bytes.len() as u64;
        Ok(())
    }

    fn check_joint(&self, body: &[u8]) -> Result<(), AuditError> {
        let header: Header = serde_json::from_slice(body).map_err(|error| {
            self.broken(Reason::HeaderBody {
                detail: error.to_string(),
            })
        })?;
        if header.segment != self.segment {
            return Err(self.broken(Reason::SegmentNumber {
                expected: self.segment,
                found: header.segment,
            }));
        }
        if header.first_index != self.index {
            return Err(self.broken(Reason::FirstIndex {
                expected: self.index,
                found: header.first_index,
            }));
        }
        let expected = self.head.to_string();
        if header.previous_head != expected {
            return Err(self.broken(Reason::PreviousHead {
                expected,
                found: header.previous_head,
            }));
        }
        Ok(())
    }

    fn read_record(&mut self, length: usize) -> Result<Frame, AuditError> {
        let mut bytes = std::mem::take(&mut self.body);
        bytes.resize(length + HASH_BYTES, 0);
        let found = self.fill(&mut bytes)?;
        if found < bytes.len() {
            return self.ends_within(bytes.len() - found);
        }
        let (body, stored) = bytes.split_at(length);
        let head = record_head(&self.head, body);
        if head.0 != *stored {
            return self.wrong_hash(head, stored);
        }
        let body =
            decode_body(body).map_err(|detail| self.broken(Reason::RecordBody { detail }))?;
        if body.index != self.index {
            return Err(self.broken(Reason::RecordIndex { found: body.index }));
        }
        let offset = self.offset;
        self.head = head;
        self.index += 1;
        self.offset += (FRAME_BYTES + length) as u64;
        self.body = bytes;
        Ok(Frame::Record(Box::new(Record {
            index: body.index,
            offset,
            time: body.time,
            head,
            entry: body.entry,
        })))
    }

    fn wrong_hash(&mut self, computed: Head, stored: &[u8]) -> Result<Frame, AuditError> {
        if stored == [0; HASH_BYTES] && self.unwritten_to_the_end()? {
            return self.torn();
        }
        Err(self.broken(Reason::RecordHash {
            computed: computed.to_string(),
            stored: hex(stored),
        }))
    }

    fn ends_within(&mut self, missing: usize) -> Result<Frame, AuditError> {
        if self.is_last {
            return self.torn();
        }
        Err(self.header_ends(missing))
    }

    fn header_ends(&self, missing: usize) -> AuditError {
        self.broken(Reason::EndsWithin {
            missing: missing as u64,
        })
    }

    /// Whether this is the last segment and all bytes from here on are zero.
    fn unwritten_to_the_end(&mut self) -> Result<bool, AuditError> {
        if !self.is_last {
            return Ok(false);
        }
        loop {
            let bytes = self
                .source
                .fill_buf()
                .map_err(|error| AuditError::io("read", &self.path, error))?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            let count = bytes.len();
            self.source.consume(count);
        }
    }

    /// Describes everything after the last whole record.
    fn torn(&mut self) -> Result<Frame, AuditError> {
        let path = &self.path;
        let failed = |error| AuditError::io("read", path, error);
        let source = &mut self.source;
        source.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut bytes = 0;
        loop {
            let buffer = source.fill_buf().map_err(failed)?;
            if buffer.is_empty() {
                break;
            }
            hasher.update(buffer);
            let count = buffer.len();
            bytes += count as u64;
            source.consume(count);
        }
        Ok(Frame::Torn(Cut {
            segment: self.segment,
            offset: self.offset,
            bytes,
            sha256: hex(&hasher.finalize()),
        }))
    }

    /// Reads until the buffer is full or the file ends; returns how many bytes it read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, AuditError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(AuditError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    /// An error about a record that was handed out.
    pub(crate) fn broken_record(&self, record: &Record, reason: Reason) -> AuditError {
        AuditError::Broken {
            file: self.path.clone(),
            offset: record.offset,
            index: record.index,
            reason,
        }
    }

    /// An error about the next frame.
    pub(crate) fn broken(&self, reason: Reason) -> AuditError {
        AuditError::Broken {
            file: self.path.clone(),
            offset: self.offset,
            index: self.index,
            reason,
        }
    }
}

fn big_endian_pair(bytes: [u8; 8]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = bytes;
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}
