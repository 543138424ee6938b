//! Whether there is room for more calls.
//!
//! Invariant: a disk that is nearly full shows before a write fails, so that what must still be
//! recorded (refusals, ends of calls, what was destroyed) has room. Absent: making room.

use std::path::Path;

use crate::config::{AuditConfig, DiskFull};
use crate::error::AuditError;

/// When the disk counts as nearly full, and what is done about it.
pub(crate) struct DiskBound {
    free_bytes_min: u64,
    when_full: DiskFull,
}

impl DiskBound {
    pub(crate) fn of(config: &AuditConfig) -> Self {
        Self {
            free_bytes_min: config.disk_free_bytes_min,
            when_full: config.disk_full,
        }
    }

    pub(crate) fn when_full(&self) -> DiskFull {
        self.when_full
    }

    /// Refuses where the file system of the log has less room than it should.
    pub(crate) fn check(&self, dir: &Path) -> Result<(), AuditError> {
        let min = self.free_bytes_min;
        if min == 0 {
            return Ok(());
        }
        // Where the system does not tell, the write itself will show.
        let Ok(disk) = rustix::fs::statvfs(dir) else {
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < min {
            return Err(AuditError::DiskNearlyFull { free, min });
        }
        Ok(())
    }
}
