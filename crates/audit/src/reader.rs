//! Reading a log, for anyone who has its files.
//!
//! Invariant: a record is handed out only after its place in the chain was verified, and after the
//! first error nothing more is. Memory is one record and the open calls, whatever the log's
//! length. Absent: locks and writes; a log can be read while a daemon appends to it, and a record
//! that is just being written then shows as a torn tail, so ask again. What the files alone cannot
//! show is in `verify`.

use std::path::Path;

use jiff::Timestamp;

use crate::chain::hex;
use crate::clear::Subject;
use crate::clock::wall_time;
use crate::content::{Content, Contents};
use crate::entry::Entry;
use crate::error::{AuditError, Reason};
use crate::history::History;
use crate::kind::EntryType;
use crate::scan::Record;
use crate::seal::Identities;
use crate::walk::{Step, Walk};

/// A record that was read and verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Index of the record, counted from 0 over all segments.
    pub index: u64,
    /// When it was written, by the writer's clock.
    pub time: Timestamp,
    /// When it was written, in microseconds since the writer's machine was started.
    pub monotonic_us: u64,
    /// The chain's hash up to and including this record, lower-case hex.
    pub head: String,
    /// The record's leaf hash in the Merkle tree, lower-case hex.
    pub leaf: String,
    /// Number of the segment that holds it.
    pub segment: u32,
    /// Of what type its entry is, which is known of every record.
    pub entry_type: EntryType,
    /// Index of the `Admitted` record of the call that it ends, if it ends one; known of every
    /// record, too.
    pub ended_call: Option<u64>,
    /// What it says, as far as that can be read.
    pub content: Content,
}

impl Stored {
    /// The entry, if it could be read.
    #[must_use]
    pub fn entry(&self) -> Option<&Entry> {
        self.content.entry()
    }
}

/// Iterates over the records of a log, verifying each. Ends after the first error.
#[derive(Debug)]
pub struct Reader {
    walk: Walk,
    ended: bool,
}

/// Reads a log from its beginning, with the content that is not sealed.
///
/// # Errors
/// [`AuditError::NoLog`] where there is no segment, [`AuditError::Io`] where the directory cannot
/// be listed. Each item can be [`AuditError::Broken`] or [`AuditError::Io`].
pub fn read(dir: &Path) -> Result<Reader, AuditError> {
    Reader::open(dir, None)
}

/// Reads a log from its beginning, with the content that one of these identities opens.
///
/// # Errors
/// As [`read`].
pub fn read_with(dir: &Path, identities: Identities) -> Result<Reader, AuditError> {
    Reader::open(dir, Some(identities))
}

impl Reader {
    fn open(dir: &Path, identities: Option<Identities>) -> Result<Self, AuditError> {
        let walk = Walk::open(dir, History::default(), Some(Contents::new(identities)))?;
        if walk.segments() == 0 {
            return Err(AuditError::NoLog {
                dir: dir.to_owned(),
            });
        }
        Ok(Self { walk, ended: false })
    }

    fn next_record(&mut self) -> Result<Option<(Record, Content)>, AuditError> {
        loop {
            match self.walk.next()? {
                Step::Record(record, content) => {
                    return Ok(Some((record, content.unwrap_or(Content::Sealed))));
                }
                Step::Checkpoint => {}
                Step::Torn(cut) => {
                    let reason = Reason::TornTail { bytes: cut.bytes };
                    return Err(self.walk.broken(reason));
                }
                Step::End => return Ok(None),
            }
        }
    }

    fn stored(&self, record: &Record, content: Content) -> Result<Stored, AuditError> {
        let clear = &record.clear;
        let time = wall_time(clear.wall_us).map_err(|detail| {
            self.walk
                .broken_record(record, Reason::RecordBody { detail })
        })?;
        Ok(Stored {
            index: clear.index,
            time,
            monotonic_us: clear.monotonic_us,
            head: record.head.to_string(),
            leaf: hex(&record.leaf),
            segment: self.walk.segment(),
            entry_type: clear.entry_type,
            ended_call: match clear.subject {
                Subject::Call(admitted_index) => Some(admitted_index),
                Subject::Nothing | Subject::Content { .. } => None,
            },
            content,
        })
    }
}

impl Iterator for Reader {
    type Item = Result<Stored, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.next_record() {
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Ok(Some((record, content))) => self.stored(&record, content),
            Err(error) => Err(error),
        };
        self.ended = next.is_err();
        Some(next)
    }
}
