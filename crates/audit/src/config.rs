//! What an operator may set about the log.
//!
//! Invariant: a checked configuration never exceeds the limits of the format, so whatever the
//! writer stores under it, the verifier accepts; and content is never written in the clear unless
//! the configuration says so. Absent: the directory, which belongs to whoever composes the
//! daemon's configuration file.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoint::KeyName;
use crate::error::AuditError;
use crate::kind::Class;
use crate::seal::RECIPIENTS_MAX;

/// Largest frame body the format allows, in bytes: bounds what a reader allocates.
pub const RECORD_BYTES_LIMIT: u32 = 16 * 1024 * 1024;
/// Smallest value of `record-bytes-max`, in bytes.
pub const RECORD_BYTES_FLOOR: u32 = 4 * 1024;
/// Largest value of `segment-bytes-max`, in bytes.
pub const SEGMENT_BYTES_LIMIT: u64 = 4 * 1024 * 1024 * 1024;
/// Smallest value of `segment-bytes-max`, in bytes.
pub const SEGMENT_BYTES_FLOOR: u64 = 4 * 1024;
/// Largest value of `checkpoint-records`.
pub const CHECKPOINT_RECORDS_LIMIT: u32 = 1_000_000;
/// Largest value of `checkpoint-seconds`: one day.
pub const CHECKPOINT_SECONDS_LIMIT: u32 = 24 * 60 * 60;

const KEY_EXTENSION: &str = "key";

/// Section `[audit]` of the configuration, without the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AuditConfig {
    /// A segment that would grow beyond this many bytes is closed and the next one begun.
    /// A single record larger than this still gets a segment of its own.
    pub segment_bytes_max: u64,
    /// A record whose body would be longer than this many bytes is refused.
    pub record_bytes_max: u32,
    /// Public keys (`age1…`) of the auditors, each of whom can read all content; nobody else can,
    /// not even the daemon.
    pub recipients: Vec<String>,
    /// Whether content is written unsealed, for all to read who have the files. Not together with
    /// recipients.
    pub plaintext: bool,
    /// Name of this device in its checkpoints. A log keeps the one it began with.
    pub origin: String,
    /// File of the key that signs the log; made where there is none. `None` for a file beside
    /// the log's folder, of the same name and `.key`.
    pub signing_key: Option<PathBuf>,
    /// A checkpoint is written after this many records at the latest.
    pub checkpoint_records: u32,
    /// A checkpoint is written with the first record that comes this many seconds after the one
    /// before, or by [`AuditLog::checkpoint_if_due`](crate::AuditLog::checkpoint_if_due).
    pub checkpoint_seconds: u32,
    /// How long content is kept.
    pub retention: Retention,
    /// The disk counts as nearly full with less free room than this many bytes; 0 for never. A
    /// segment that loses content needs room to be written anew, so it should be a few segments.
    pub disk_free_bytes_min: u64,
    /// What is done about a call when the disk is nearly full.
    pub disk_full: DiskFull,
}

/// What is done about a call when the disk is nearly full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFull {
    /// It is refused.
    #[default]
    Refuse,
    /// The oldest content that no hold covers is destroyed before its time; if there is none left,
    /// the call is refused.
    Expire,
}

/// How long content is kept, by class. What is older is destroyed, one class of one finished
/// segment at a time; leaf hashes, checkpoints and clear parts stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Retention {
    /// Of what was done to the daemon.
    pub administration: Keep,
    /// Of calls.
    pub calls: Keep,
    /// Of refusals.
    pub refusals: Keep,
    /// Legal holds: nothing that was written in one of these times is destroyed.
    pub holds: Vec<Hold>,
}

/// Bounds for the content of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Keep {
    /// Days after which content is destroyed; 0 for never.
    pub days: u32,
    /// Bytes of all content of the class, beyond which the oldest is destroyed; 0 for no bound.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { days: 90, bytes: 0 }
    }
}

/// A time from which everything is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hold {
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub until: Timestamp,
}

impl Retention {
    pub(crate) fn of(&self, class: Class) -> Keep {
        match class {
            Class::Administration => self.administration,
            Class::Calls => self.calls,
            Class::Refusals => self.refusals,
        }
    }
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 * 1024 * 1024,
            record_bytes_max: 1024 * 1024,
            recipients: Vec::new(),
            plaintext: false,
            origin: "postern".to_owned(),
            signing_key: None,
            checkpoint_records: 1000,
            checkpoint_seconds: 60,
            retention: Retention::default(),
            disk_free_bytes_min: 128 * 1024 * 1024,
            disk_full: DiskFull::default(),
        }
    }
}

impl AuditConfig {
    /// Checks each value against the limits of the format. What only opening a log needs, as who
    /// can read it, is left to [`AuditConfig::check_sealing`].
    ///
    /// # Errors
    /// [`AuditError::Config`] names the first field out of its range, [`AuditError::Origin`] an
    /// origin that cannot name a key.
    pub fn check(&self) -> Result<(), AuditError> {
        check_range(
            "segment-bytes-max",
            self.segment_bytes_max,
            (SEGMENT_BYTES_FLOOR, SEGMENT_BYTES_LIMIT),
        )?;
        check_range(
            "record-bytes-max",
            u64::from(self.record_bytes_max),
            (u64::from(RECORD_BYTES_FLOOR), u64::from(RECORD_BYTES_LIMIT)),
        )?;
        check_range(
            "checkpoint-records",
            u64::from(self.checkpoint_records),
            (1, u64::from(CHECKPOINT_RECORDS_LIMIT)),
        )?;
        check_range(
            "checkpoint-seconds",
            u64::from(self.checkpoint_seconds),
            (1, u64::from(CHECKPOINT_SECONDS_LIMIT)),
        )?;
        check_range(
            "recipients",
            self.recipients.len() as u64,
            (0, RECIPIENTS_MAX as u64),
        )?;
        self.key_name().map(drop)
    }

    /// Checks that the configuration says how content is written.
    ///
    /// # Errors
    /// [`AuditError::NoRecipients`] and [`AuditError::PlaintextWithRecipients`].
    pub fn check_sealing(&self) -> Result<(), AuditError> {
        match (self.plaintext, self.recipients.is_empty()) {
            (false, true) => Err(AuditError::NoRecipients),
            (true, false) => Err(AuditError::PlaintextWithRecipients),
            _ => Ok(()),
        }
    }

    /// The origin as the name of a key.
    pub(crate) fn key_name(&self) -> Result<KeyName, AuditError> {
        KeyName::new(&*self.origin).map_err(|error| AuditError::Origin {
            found: self.origin.clone(),
            detail: error.to_string(),
        })
    }

    /// Path of the signing key's file for a log in this directory.
    #[must_use]
    pub fn signing_key_path(&self, dir: &Path) -> PathBuf {
        self.signing_key.clone().unwrap_or_else(|| {
            let mut name = dir.file_name().unwrap_or("audit".as_ref()).to_owned();
            name.push(".");
            name.push(KEY_EXTENSION);
            dir.with_file_name(name)
        })
    }
}

fn check_range(field: &'static str, found: u64, (min, max): (u64, u64)) -> Result<(), AuditError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(AuditError::Config {
        field,
        found,
        min,
        max,
    })
}
