//! How long an open log keeps content, and what it does when the disk is nearly full.
//!
//! Invariant: one thread at a time destroys content, each time after a durable record that says so,
//! and appends go on meanwhile. Absent: a timer. The daemon says when.

use std::sync::{MutexGuard, PoisonError};

use super::AuditLog;
use crate::config::{DiskFull, Retention};
use crate::entry::{Entry, Expired};
use crate::error::AuditError;
use crate::expiry;

impl AuditLog {
    /// Keeps content as long as this from here on.
    pub fn set_retention(&self, retention: Retention) {
        *self.retention() = retention;
    }

    /// Destroys the content that is kept no longer, and tells which; each after its record. Call it
    /// once a day or so. May take as long as writing the segments anew; appends go on meanwhile.
    ///
    /// # Errors
    /// As [`AuditLog::append`], and [`AuditError::Io`] and [`AuditError::Broken`] where a segment
    /// cannot be written anew. What was recorded by then is destroyed when the log is next opened.
    pub fn expire(&self) -> Result<Vec<Expired>, AuditError> {
        let retention = self.retention();
        let now = self.composer().now();
        let due = self.writer()?.due(&retention, now);
        for expired in &due {
            self.destroy(expired)?;
        }
        Ok(due)
    }

    /// Refuses a call while the disk is nearly full, after what the configuration allows to do.
    pub(super) fn check_disk(&self) -> Result<(), AuditError> {
        if self.disk.check(&self.dir).is_ok() {
            return Ok(());
        }
        let retention = self.retention();
        loop {
            // Looked at again, since another thread may just have made room.
            let nearly_full = match self.disk.check(&self.dir) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let oldest = match self.disk.when_full() {
                DiskFull::Refuse => None,
                DiskFull::Expire => self.writer()?.oldest(&retention),
            };
            let Some(expired) = oldest else {
                return Err(nearly_full);
            };
            ::log::warn!("the disk is nearly full: destroying content before its time");
            self.destroy(&expired)?;
        }
    }

    fn destroy(&self, expired: &Expired) -> Result<(), AuditError> {
        self.append_any(&Entry::Expired(expired.clone()))?;
        let key = (expired.segment, expired.class);
        expiry::destroy(&self.dir, key)?;
        self.writer()?.forget(key);
        Ok(())
    }

    fn retention(&self) -> MutexGuard<'_, Retention> {
        self.retention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
