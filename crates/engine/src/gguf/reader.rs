//! Primitive reads that know where they are and how much is left.
//!
//! Invariant: no allocation is larger than what is left of the file, nor than
//! the bound that the caller names.

use std::io::Read;

use super::HEADER_BYTES_MAX;
use crate::error::{EngineError, Result};

/// A little-endian reader over a file of known size.
pub(super) struct Reader<R> {
    source: R,
    offset: u64,
    end: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R, file_bytes: u64) -> Self {
        Self {
            source,
            offset: 0,
            end: file_bytes,
        }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn invalid(&self, reason: String) -> EngineError {
        EngineError::GgufInvalid {
            offset: self.offset,
            reason,
        }
    }

    /// Checks that `count` items of at least `bytes_min` each are within `max` and within the file.
    pub(super) fn check_count(
        &self,
        what: &'static str,
        count: u64,
        max: u64,
        bytes_min: u64,
    ) -> Result<()> {
        if count > max {
            return Err(EngineError::GgufBound {
                offset: self.offset,
                what,
                found: count,
                max,
            });
        }
        let left = self.left();
        match count.checked_mul(bytes_min) {
            Some(needed) if needed <= left => Ok(()),
            _ => Err(self.invalid(format!(
                "{count} {what} cannot fit in the {left} bytes that are left of the file"
            ))),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads `bytes` bytes that the caller has checked with [`Self::check_count`].
    pub(super) fn bytes(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let mut buffer = Vec::new();
        self.bytes_into(bytes, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads a length-prefixed UTF-8 string of at most `bytes_max` bytes.
    pub(super) fn string(&mut self, what: &'static str, bytes_max: u64) -> Result<String> {
        let mut buffer = Vec::new();
        self.string_into(what, bytes_max, &mut buffer)
            .map(str::to_owned)
    }

    /// Like [`Self::string`], into memory that the caller uses again.
    pub(super) fn string_into<'a>(
        &mut self,
        what: &'static str,
        bytes_max: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a str> {
        let length = self.u64()?;
        self.check_count(what, length, bytes_max, 1)?;
        let start = self.offset;
        self.bytes_into(length, buffer)?;
        std::str::from_utf8(buffer).map_err(|_| EngineError::GgufInvalid {
            offset: start,
            reason: format!("a {what} is not UTF-8"),
        })
    }

    fn bytes_into(&mut self, bytes: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let length = usize::try_from(bytes).map_err(|_| self.truncated(bytes))?;
        if bytes > self.left() {
            return Err(self.truncated(bytes));
        }
        buffer.clear();
        buffer.resize(length, 0);
        self.fill(buffer)
    }

    fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        let needed = buffer.len() as u64;
        if needed > self.left() {
            return Err(self.truncated(needed));
        }
        if self.offset + needed > HEADER_BYTES_MAX {
            return Err(EngineError::GgufBound {
                offset: self.offset,
                what: "bytes before the tensor data",
                found: self.offset + needed,
                max: HEADER_BYTES_MAX,
            });
        }
        self.source
            .read_exact(buffer)
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => self.truncated(needed),
                _ => EngineError::GgufRead {
                    offset: self.offset,
                    source,
                },
            })?;
        self.offset += needed;
        Ok(())
    }

    fn truncated(&self, needed: u64) -> EngineError {
        self.invalid(format!(
            "{needed} more bytes were expected, but the file ends at {}; it is cut short or \
             damaged, fetch it again",
            self.end
        ))
    }
}
