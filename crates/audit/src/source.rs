//! The bytes of one segment file, front to back.
//!
//! Invariant: a file is opened only if it is a regular file and no link, and reading never waits
//! for anything but the disk. What is read ends where the file ended when it was opened, so that one
//! that grows is read as it stood. Memory is one buffer. Absent: what the bytes mean.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{AuditError, Reason};
use crate::merkle::Hash;
use crate::segment::open_to_read;

const READ_BUFFER_BYTES: usize = 256 * 1024;
const ZEROS_CHUNK_BYTES: usize = 4096;
/// Zero bytes that are not there by chance at the end of a hash.
const UNWRITTEN_BYTES_MIN: u64 = 8;

/// One segment file that is read.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    reader: BufReader<Take<File>>,
    /// Length of the file when it was opened.
    bytes: u64,
}

/// Why there is nothing to read.
pub(crate) enum SourceError {
    /// The log lacks the file, or something else stands in its place.
    Broken(Reason),
    /// The system refused.
    Io(AuditError),
}

impl Source {
    pub(crate) fn open(path: PathBuf) -> Result<Self, SourceError> {
        let failed = |action, error| Err(SourceError::Io(AuditError::io(action, &path, error)));
        let file = match open_to_read(&path) {
            Ok(file) => file,
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => Err(SourceError::Broken(Reason::SegmentMissing)),
                    Some(Errno::LOOP) => Err(SourceError::Broken(Reason::NotAFile)),
                    _ => failed("open", error),
                };
            }
        };
        let bytes = match file.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(SourceError::Broken(Reason::NotAFile)),
            Err(error) => return failed("inspect", error),
        };
        Ok(Self {
            reader: BufReader::with_capacity(READ_BUFFER_BYTES, file.take(bytes)),
            path,
            bytes,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills the buffer from an offset, wherever the reading stands, unless the file ends before.
    pub(crate) fn peek(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, AuditError> {
        if offset + buffer.len() as u64 > self.bytes {
            return Ok(false);
        }
        let file = self.reader.get_ref().get_ref();
        match file.read_exact_at(buffer, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(AuditError::io("read", &self.path, error)),
        }
    }

    /// Reads until the buffer is full or the file ends; returns how many bytes it read.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, AuditError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(AuditError::io("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    /// Where the zero bytes begin that the file ends with; its end, if there are fewer than
    /// [`UNWRITTEN_BYTES_MIN`] of them.
    pub(crate) fn zeros_begin(&self) -> Result<u64, AuditError> {
        let mut begin = self.bytes;
        let mut chunk = [0; ZEROS_CHUNK_BYTES];
        while begin > 0 {
            let length = begin.min(ZEROS_CHUNK_BYTES as u64);
            let chunk = &mut chunk[..usize::try_from(length).unwrap_or(ZEROS_CHUNK_BYTES)];
            if !self.peek(begin - length, chunk)? {
                break;
            }
            let zeros = chunk.iter().rev().take_while(|&&byte| byte == 0).count();
            begin -= zeros as u64;
            if zeros < chunk.len() {
                break;
            }
        }
        if self.bytes - begin < UNWRITTEN_BYTES_MIN {
            return Ok(self.bytes);
        }
        Ok(begin)
    }

    /// Length and SHA-256 of everything from `offset` to the end of the file.
    pub(crate) fn digest_from(&mut self, offset: u64) -> Result<(u64, Hash), AuditError> {
        let path = &self.path;
        let failed = |error| AuditError::io("read", path, error);
        let reader = &mut self.reader;
        reader.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut count = 0;
        loop {
            let buffer = reader.fill_buf().map_err(failed)?;
            if buffer.is_empty() {
                return Ok((count, hasher.finalize().into()));
            }
            hasher.update(buffer);
            let read = buffer.len();
            count += read as u64;
            reader.consume(read);
        }
    }
}
