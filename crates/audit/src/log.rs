//! The open log: many threads append, one at a time writes for all that wait.
//!
//! Invariant: [`AuditLog::append`] returns a receipt only after its record is durable. Absent: a
//! thread of its own; timers. So a checkpoint that falls due while nothing is appended is written
//! when somebody asks for it, or at the end.

mod appending;
mod keeping;
mod proving;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, TryLockError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::composer::{Composer, Ending};
use crate::config::{AuditConfig, Retention};
use crate::disk::DiskBound;
use crate::entry::Entry;
use crate::error::{AuditError, EntryProblem};
use crate::lock::DirectoryLock;
use crate::recovery::{recover, signing_key};
use crate::scribe::{Clock, Scribe};
use crate::writer::{SharedLeaves, Writer};

/// Most appends that may wait for the disk at once.
pub const APPENDS_WAITING_MAX: usize = 1024;

/// The log, open for writing; one writer a directory. `Send` and `Sync`: share it by reference or
/// in an `Arc`. It is closed, and its lock released, when it is dropped.
pub struct AuditLog {
    dir: PathBuf,
    record_bytes_max: u32,
    signer: String,
    leaves: SharedLeaves,
    disk: DiskBound,
    /// Locked while content is destroyed: by one thread at a time.
    retention: Mutex<Retention>,
    /// Locked while a group is written; where both are locked, this comes first.
    writer: Mutex<Writer>,
    composer: Mutex<Composer>,
    waiting: AtomicUsize,
    _lock: DirectoryLock,
}

/// Where an entry is stored, and what binds it there: what a client keeps to witness the log later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Index of the record, counted from 0 over all segments.
    pub index: u64,
    /// The record's chain hash, lower-case hex.
    pub head: String,
    /// The record's leaf hash in the Merkle tree, lower-case hex; empty where it was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub leaf: String,
    /// The newest checkpoint (a signed note) when the record was durable, which may not cover it
    /// yet; empty where it was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checkpoint: String,
}

/// What opening the log found and repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn write that were cut from the end.
    pub torn_bytes: u64,
    /// Calls that had no end and were closed as interrupted, by the indices of their `Admitted`
    /// records, oldest first.
    pub interrupted: Vec<u64>,
    /// Whole records that were in the log before.
    pub records: u64,
    /// How many of them stood after the newest checkpoint: none, if the log was closed in order.
    pub after_checkpoint: u64,
}

impl AuditLog {
    /// Opens the log in `dir`, or begins one there, with the system's clock. The whole log is
    /// verified first, so this takes as long as reading it.
    ///
    /// # Errors
    /// [`AuditError::NoRecipients`] where nothing says how content is written,
    /// [`AuditError::SigningKey`] and [`AuditError::OtherSigner`] where the key that signs cannot be
    /// had or is not this log's; [`AuditError::Locked`] while another writer has it, [`AuditError::WritableDirectory`] and
    /// [`AuditError::ForeignDirectory`] where other users could change it, [`AuditError::Broken`]
    /// where it was altered, [`AuditError::Config`] for bounds out of range, [`AuditError::Io`]
    /// where a file cannot be read or written.
    pub fn open(dir: &Path, config: &AuditConfig) -> Result<(Self, Recovery), AuditError> {
        Self::open_with_clock(dir, config, Timestamp::now)
    }

    /// As [`AuditLog::open`], with the clock that stamps the records.
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn open_with_clock(
        dir: &Path,
        config: &AuditConfig,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Result<(Self, Recovery), AuditError> {
        config.check()?;
        config.check_sealing()?;
        let lock = DirectoryLock::take(dir)?;
        let clock: Clock = Box::new(clock);
        let scribe = Scribe::new(config, signing_key(dir, config)?, clock)?;
        let signer = scribe.signer();
        let (composer, writer, recovery) = recover(dir, lock.identity(), config, scribe)?;
        let log = Self {
            dir: dir.to_owned(),
            record_bytes_max: config.record_bytes_max,
            signer,
            leaves: writer.leaves(),
            disk: DiskBound::of(config),
            retention: Mutex::new(config.retention.clone()),
            writer: Mutex::new(writer),
            composer: Mutex::new(composer),
            waiting: AtomicUsize::new(0),
            _lock: lock,
        };
        Ok((log, recovery))
    }

    /// Appends one entry and returns after it is on the disk. Blocks; may be called from any
    /// number of threads. The end of a call that would be too large for a record only with its
    /// output's text is written without that text.
    ///
    /// # Errors
    /// Nothing of the entry is in the log after any of them:
    /// [`AuditError::InvalidEntry`], [`AuditError::RecordTooLarge`] and [`AuditError::Call`] say
    /// what is wrong with it; [`AuditError::DiskNearlyFull`], [`AuditError::Busy`] and [`AuditError::Write`] may pass, so a later
    /// append can work. After [`AuditError::Displaced`], which says that the log's files are gone,
    /// replaced or cut, and after [`AuditError::Stopped`], every append fails until the log is
    /// opened again; only after the latter is it open whether the entry is on the disk.
    pub fn append(&self, entry: &Entry) -> Result<Receipt, AuditError> {
        if matches!(
            entry,
            Entry::Opened { .. } | Entry::Interrupted { .. } | Entry::Expired(_)
        ) {
            return Err(AuditError::InvalidEntry {
                field: "type",
                problem: EntryProblem::Reserved,
            });
        }
        if matches!(entry, Entry::Admitted(_)) {
            self.check_disk()?;
        }
        self.append_any(entry)
    }

    /// Makes sure that a checkpoint covers all records, and gives the newest one as a signed note.
    /// Blocks as [`AuditLog::append`] does.
    ///
    /// # Errors
    /// [`AuditError::Write`], [`AuditError::Displaced`] and [`AuditError::Stopped`], as for an append.
    pub fn checkpoint(&self) -> Result<String, AuditError> {
        Ok(self.flush(Ending::Checkpoint)?.as_ref().to_owned())
    }

    /// The same, if there are records that wait longer for a checkpoint than the configuration
    /// allows: what a daemon calls now and then, so that a quiet log does not stay without.
    ///
    /// # Errors
    /// As [`AuditLog::checkpoint`].
    pub fn checkpoint_if_due(&self) -> Result<String, AuditError> {
        if self.composer().is_checkpoint_due() {
            return self.checkpoint();
        }
        Ok(self.writer()?.note.as_ref().to_owned())
    }

    /// The key that checks this log's signatures, as `name+hash+key`: what an auditor is given.
    #[must_use]
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Whether the log has stopped after a failure and must be opened again. Never waits for the
    /// disk.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let has_composer_stopped = match self.composer.try_lock() {
            Ok(composer) => composer.check_running().is_err(),
            // It is at work.
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Poisoned(_)) => true,
        };
        has_composer_stopped || self.writer.is_poisoned()
    }

    /// The directory of the log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for AuditLog {
    /// Ends a log that is closed in order with a checkpoint over all of it.
    fn drop(&mut self) {
        if self.is_stopped() {
            return;
        }
        if let Err(error) = self.checkpoint() {
            ::log::warn!("the audit log ends without a checkpoint: {error}");
        }
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AuditLog")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;
    use crate::entry::Refused;
    use crate::verify::{Witness, verify, verify_against};

    const THREADS: usize = 8;

    fn refused(request_id: &str) -> Entry {
        Entry::Refused(Refused {
            request_id: request_id.to_owned(),
            identity: None,
            template: None,
            subject: None,
            code: "template-unknown".to_owned(),
            detail: String::new(),
            rules_sha256: String::new(),
            token_id: None,
            certificate_sha256: String::new(),
        })
    }

    fn plain() -> AuditConfig {
        AuditConfig {
            plaintext: true,
            ..AuditConfig::default()
        }
    }

    /// Has the log write to a device that fails in its own way, until the log is opened again.
    fn check_stops(device: &str, expected_action: &str) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("audit");
        let config = plain();
        let (log, _) = AuditLog::open(&dir, &config).unwrap();
        log.append(&refused("before")).unwrap();
        let failing = OpenOptions::new().write(true).open(device).unwrap();
        log.writer().unwrap().replace_file(failing);

        let append = || match log.append(&refused("lost")) {
            Err(AuditError::Stopped { action, .. }) => assert_eq!(action, expected_action),
            other => panic!("{other:?}"),
        };
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(append);
            }
        });
        append();
        assert!(log.is_stopped());
        drop(log);
        let (log, recovery) = AuditLog::open(&dir, &config).unwrap();
        assert_eq!(recovery.records, 2);
        assert_eq!(log.append(&refused("after")).unwrap().index, 3);
        verify(&dir).unwrap();
    }

    #[test]
    fn a_failed_sync_stops_the_log() {
        // Takes every write, but cannot be synced.
        check_stops("/dev/null", "sync");
    }

    #[test]
    fn a_failed_cut_stops_the_log() {
        // Fails every write for want of room, and cannot be cut back.
        check_stops("/dev/full", "cut back");
    }

    #[test]
    fn appends_that_wait_for_the_disk_are_bounded() {
        const STACK_BYTES: usize = 256 * 1024;
        let root = tempfile::tempdir().unwrap();
        let (log, _) = AuditLog::open(&root.path().join("audit"), &plain()).unwrap();
        let disk = log.writer().unwrap();
        thread::scope(|scope| {
            for _ in 0..APPENDS_WAITING_MAX {
                let waiting = thread::Builder::new().stack_size(STACK_BYTES);
                let append = || drop(log.append(&refused("waits")).unwrap());
                waiting.spawn_scoped(scope, append).unwrap();
            }
            while log.waiting.load(Ordering::Relaxed) < APPENDS_WAITING_MAX {
                thread::yield_now();
            }
            match log.append(&refused("one-too-many")) {
                Err(AuditError::Busy { max }) => assert_eq!(max, APPENDS_WAITING_MAX),
                other => panic!("{other:?}"),
            }
            assert!(!log.is_stopped(), "and that is told at once");
            drop(disk);
        });
        let last = log.append(&refused("after")).unwrap();
        assert_eq!(last.index, 1 + APPENDS_WAITING_MAX as u64);
    }

    /// A thread can panic where records are made, where checkpoints are, and where files are written.
    #[test]
    fn a_thread_that_panics_stops_the_log_and_leaves_nobody_waiting() {
        const READINGS: u64 = 40;
        let config = AuditConfig {
            checkpoint_records: 1,
            ..plain()
        };
        for panics_at in 3..READINGS {
            let root = tempfile::tempdir().unwrap();
            let dir = root.path().join("audit");
            let readings = AtomicU64::new(0);
            let clock = move || {
                assert!(readings.fetch_add(1, Ordering::Relaxed) != panics_at);
                Timestamp::now()
            };
            let (log, _) = AuditLog::open_with_clock(&dir, &config, clock).unwrap();
            let append = || match log.append(&refused("any")) {
                Ok(receipt) => Some(receipt),
                Err(AuditError::Stopped { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            let promised: Vec<Receipt> = thread::scope(|scope| {
                let threads = (0..READINGS).map(|_| scope.spawn(append));
                let threads: Vec<_> = threads.collect();
                let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
                let (done, panicked): (Vec<_>, Vec<_>) = ended.partition(Result::is_ok);
                assert_eq!(panicked.len(), 1);
                done.into_iter().filter_map(Result::unwrap).collect()
            });
            assert!(log.is_stopped());
            assert_eq!(append(), None);
            drop(log);
            let witness = Witness {
                receipts: promised,
                ..Witness::default()
            };
            drop(AuditLog::open(&dir, &config).unwrap());
            verify_against(&dir, &witness).unwrap();
        }
    }
}
