//! The open log.
use crate::config::AuditConfig;
use crate::entry::Entry;
use crate::error::AuditError;
use std::path::Path;

/// The log, open for writing; one writer a directory. `Send` and `Sync`.
pub struct AuditLog {}

/// Where an entry is stored, and the chain's hash up to it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Index of the record, counted from 0 over all segments.
    pub index: u64,
    /// The record's chain hash, lower-case hex.
    pub head: String,
}

/// What opening the log found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn write that were cut from the end.
    pub torn_bytes: u64,
    /// Request ids of calls that had no end and were closed as interrupted.
    pub interrupted: Vec<String>,
    /// Whole records that were in the log before.
    pub records: u64,
}

impl AuditLog {
    /// Opens or makes the log in `dir`, with the system's clock.
    ///
    /// # Errors
    pub fn open(dir: &Path, config: &AuditConfig) -> Result<(Self, Recovery), AuditError> {
        let _ = (dir, config);
        unimplemented!()
    }

    /// Appends one entry; returns after it is on the disk.
    ///
    /// # Errors
    pub fn append(&self, entry: &Entry) -> Result<Receipt, AuditError> {
        let _ = entry;
        unimplemented!()
    }

    /// Whether the log has stopped after a failure and must be opened again.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        unimplemented!()
    }
}
