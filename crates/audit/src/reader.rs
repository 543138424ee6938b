//! Reading and verifying a log, for anyone who has its files.
//!
//! Invariant: a record is handed out only after its place in the chain was verified, and after the
//! first error nothing more is. Memory is one record and the open calls, whatever the log's
//! length. Absent: locks and writes; a log can be read while a daemon appends to it, and a record
//! that is just being written then shows as a torn tail, so ask again.
//!
//! What the files alone cannot show: that whole records were cut off the very end, or that
//! someone who may write the files computed another history. [`verify_with`] shows both, down to
//! the record of a receipt that was kept elsewhere.

use std::path::Path;

use jiff::Timestamp;

use crate::calls::OpenCall;
use crate::entry::Entry;
use crate::error::{AuditError, Reason};
use crate::log::Receipt;
use crate::scan::Record;
use crate::walk::{Step, Walk};

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

/// What a log without a fault amounts to, as far as it goes: see [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of records.
    pub records: u64,
    /// Number of segments.
    pub segments: u64,
    /// Head of the last record, lower-case hex. With index `records - 1` it is the receipt that
    /// witnesses the whole log.
    pub head: String,
    /// Time of the first record.
    pub first_time: Timestamp,
    /// Time of the last record.
    pub last_time: Timestamp,
    /// Calls without an end (at most [`OPEN_CALLS_MAX`](crate::OPEN_CALLS_MAX)), oldest first.
    pub open_calls: Vec<OpenCall>,
}

/// Iterates over the records of a log, verifying each. Ends after the first error.
#[derive(Debug)]
pub struct Reader {
    walk: Walk,
    ended: bool,
}

/// Reads a log from its beginning.
///
/// # Errors
/// [`AuditError::NoLog`] where there is no segment, [`AuditError::Io`] where the directory cannot
/// be listed. Each item can be [`AuditError::Broken`] or [`AuditError::Io`].
pub fn read(dir: &Path) -> Result<Reader, AuditError> {
    let walk = Walk::open(dir)?;
    if walk.segments() == 0 {
        return Err(AuditError::NoLog {
            dir: dir.to_owned(),
        });
    }
    Ok(Reader { walk, ended: false })
}

/// Verifies a whole log: every byte, the order, the segments, and that calls are admitted and
/// ended once.
///
/// # Errors
/// [`AuditError::Broken`] names the first bad place and what is wrong with it;
/// [`Reason::TornTail`] is the one kind that opening the log for writing would repair. Also
/// [`AuditError::NoLog`] and [`AuditError::Io`].
pub fn verify(dir: &Path) -> Result<Verified, AuditError> {
    verify_expecting(dir, None)
}

/// Verifies a whole log, and that it holds the very record of a receipt.
///
/// # Errors
/// As [`verify`]; and [`Reason::ReceiptMissing`] if the log ends before that record,
/// [`Reason::ReceiptHead`] if another history stands there.
pub fn verify_with(dir: &Path, receipt: &Receipt) -> Result<Verified, AuditError> {
    verify_expecting(dir, Some(receipt))
}

impl Iterator for Reader {
    type Item = Result<Stored, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.next_record() {
            Ok(record) => record?,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Stored {
            index: record.index,
            time: record.time,
            head: record.head.to_string(),
            segment: self.walk.segment(),
            entry: record.entry,
        }))
    }
}

impl Reader {
    fn next_record(&mut self) -> Result<Option<Box<Record>>, AuditError> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        let record = match self.walk.next()? {
            Step::Record(record) => record,
            Step::Torn(cut) => {
                let reason = Reason::TornTail { bytes: cut.bytes };
                return Err(self.walk.broken(reason));
            }
            Step::End => return Ok(None),
        };
        self.ended = false;
        Ok(Some(record))
    }
}

fn verify_expecting(dir: &Path, receipt: Option<&Receipt>) -> Result<Verified, AuditError> {
    let mut reader = read(dir)?;
    let mut span = None;
    while let Some(record) = reader.next_record()? {
        if let Some(receipt) = receipt {
            check_receipt(&reader.walk, &record, receipt)?;
        }
        let (first_time, ..) = span.unwrap_or((record.time, record.time, record.head));
        span = Some((first_time, record.time, record.head));
    }
    let records = reader.walk.joint().index;
    if let Some(expected) = receipt.map(|receipt| receipt.index)
        && expected >= records
    {
        return Err(reader.walk.broken(Reason::ReceiptMissing { expected }));
    }
    let Some((first_time, last_time, head)) = span else {
        return Err(reader.walk.broken(Reason::NoRecords));
    };
    Ok(Verified {
        records,
        segments: u64::from(reader.walk.segments()),
        head: head.to_string(),
        first_time,
        last_time,
        open_calls: reader.walk.calls().list(),
    })
}

fn check_receipt(walk: &Walk, record: &Record, receipt: &Receipt) -> Result<(), AuditError> {
    if record.index != receipt.index {
        return Ok(());
    }
    let found = record.head.to_string();
    if found == receipt.head {
        return Ok(());
    }
    let expected = receipt.head.clone();
    Err(walk.broken_record(record, Reason::ReceiptHead { expected, found }))
}
