//! Records as reports see them: where, when and what.
//!
//! Invariant: whatever the log's format adds to a stored record, reports depend on these three
//! alone. A record whose content is sealed or destroyed is none: reports are told of it apart, and
//! count it. Absent: hashes and places in files, which belong to those who verify.

use jiff::Timestamp;

use crate::entry::Entry;
use crate::reader::Stored;

/// A record that was read and verified, as far as reports need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Index of the record, counted from 0 over all segments.
    pub index: u64,
    /// When it was written, by the writer's clock.
    pub time: Timestamp,
    /// What it says.
    pub entry: Entry,
}

impl Record {
    /// What a stored record says; `None` if its content is sealed or has expired.
    #[must_use]
    pub fn of(stored: &Stored) -> Option<Self> {
        let entry = stored.entry()?.clone();
        Some(Self {
            index: stored.index,
            time: stored.time,
            entry,
        })
    }
}
