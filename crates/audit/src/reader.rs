//! Reading and verifying.
use crate::calls::OpenCall;
use crate::entry::Entry;
use crate::error::AuditError;
use crate::log::Receipt;
use jiff::Timestamp;
use std::path::Path;

/// A record that was read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Index of the record, counted from 0 over all segments.
    pub index: u64,
    /// When it was written, by the writer's clock.
    pub time: Timestamp,
    /// The chain's hash up to and including this record, lower-case hex.
    pub head: String,
    /// Number of the segment that holds it.
    pub segment: u32,
    /// What it says.
    pub entry: Entry,
}

/// What a whole, unaltered log amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of records.
    pub records: u64,
    /// Number of segments.
    pub segments: u64,
    /// Head of the last record, lower-case hex.
    pub head: String,
    /// Time of the first record.
    pub first_time: Timestamp,
    /// Time of the last record.
    pub last_time: Timestamp,
    /// Calls without an end (at most [`OPEN_CALLS_MAX`](crate::OPEN_CALLS_MAX)), oldest first.
    pub open_calls: Vec<OpenCall>,
}

/// Iterates over the records of a log, verifying each.
#[derive(Debug)]
pub struct Reader {}

impl Iterator for Reader {
    type Item = Result<Stored, AuditError>;
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}

/// Reads a log from its beginning.
///
/// # Errors
pub fn read(dir: &Path) -> Result<Reader, AuditError> {
    let _ = dir;
    unimplemented!()
}

/// Verifies a whole log.
///
/// # Errors
pub fn verify(dir: &Path) -> Result<Verified, AuditError> {
    let _ = dir;
    unimplemented!()
}

/// Verifies a whole log, and that it holds the record of a receipt.
///
/// # Errors
pub fn verify_with(dir: &Path, receipt: &Receipt) -> Result<Verified, AuditError> {
    let _ = (dir, receipt);
    unimplemented!()
}
