//! The bounds of the log that an operator may set.
//!
//! Invariant: a checked configuration never exceeds the limits of the format, so whatever the
//! writer stores under it, the verifier accepts. Absent: the directory, which belongs to whoever
//! composes the daemon's configuration file.

use serde::{Deserialize, Serialize};

use crate::error::AuditError;

/// Largest record body the format allows, in bytes: bounds what a reader allocates.
pub const RECORD_BYTES_LIMIT: u32 = 16 * 1024 * 1024;
/// Smallest value of `record-bytes-max`, in bytes.
pub const RECORD_BYTES_FLOOR: u32 = 4 * 1024;
/// Largest value of `segment-bytes-max`, in bytes.
pub const SEGMENT_BYTES_LIMIT: u64 = 4 * 1024 * 1024 * 1024;
/// Smallest value of `segment-bytes-max`, in bytes.
pub const SEGMENT_BYTES_FLOOR: u64 = 4 * 1024;

/// Section `[audit]` of the configuration, without the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AuditConfig {
    /// A segment that would grow beyond this many bytes is closed and the next one begun.
    /// A single record larger than this still gets a segment of its own.
    pub segment_bytes_max: u64,
    /// A record whose body would be longer than this many bytes is refused.
    pub record_bytes_max: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 * 1024 * 1024,
            record_bytes_max: 1024 * 1024,
        }
    }
}

impl AuditConfig {
    /// Checks each value against the limits of the format.
    ///
    /// # Errors
    /// [`AuditError::Config`] names the first field out of its range.
    pub fn check(&self) -> Result<(), AuditError> {
        check_range(
            "segment-bytes-max",
            self.segment_bytes_max,
            SEGMENT_BYTES_FLOOR,
            SEGMENT_BYTES_LIMIT,
        )?;
        check_range(
            "record-bytes-max",
            u64::from(self.record_bytes_max),
            u64::from(RECORD_BYTES_FLOOR),
            u64::from(RECORD_BYTES_LIMIT),
        )
    }
}

fn check_range(field: &'static str, found: u64, min: u64, max: u64) -> Result<(), AuditError> {
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
