//! Puts groups of records on the disk, in order.
//!
//! Invariant: between two calls of [`Writer::commit`] the last segment ends with a whole, durable
//! signature, and `end` and `leaves` describe exactly what is durable. A group of records, with the
//! checkpoint that may follow them and the signature that ends it, is one write and one
//! `fdatasync`; it is durable as a whole or not at all. Absent: threads and waiting, which are
//! `log`'s, and how records are made, which is `composer`'s.
//!
//! Before each group the files are looked at; where they were removed, replaced or cut, nothing is
//! written and the log stops. After a failed write the file is cut back and the log goes on. After
//! a failed sync, or a failed cut, it stops: Linux may have dropped the unwritten pages and would
//! report the next sync as good, so only opening the log again, which reads the disk anew, can tell
//! what is there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::composer::Composer;
use crate::config::Retention;
use crate::entry::Expired;
use crate::error::AuditError;
use crate::group::{End, Group};
use crate::history::ContentKey;
use crate::leaves::LeafCache;
use crate::presence::{Identity, check_directory, check_segment};
use crate::retention::Inventory;
use crate::segment::{SEGMENTS_MAX, publish, remove_staged, save_checkpoint, segment_path, stage};

/// The leaves of the log, which are read while it is written.
pub(crate) type SharedLeaves = Arc<Mutex<LeafCache>>;

/// The segment in work.
pub(crate) struct SegmentFile {
    pub(crate) number: u32,
    pub(crate) file: File,
    /// Which file that is.
    pub(crate) identity: Identity,
    pub(crate) path: PathBuf,
}

/// The log as it is on the disk.
pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    /// Which directory was opened under that path.
    pub(crate) directory: Identity,
    pub(crate) segment: SegmentFile,
    pub(crate) end: End,
    /// Note of the newest checkpoint.
    pub(crate) note: Arc<str>,
    pub(crate) leaves: SharedLeaves,
    /// The content that is there.
    pub(crate) inventory: Inventory,
}

impl Writer {
    /// Writes a group, which leads to `end`, and syncs it. Gives the newest checkpoint's note.
    pub(crate) fn commit(&mut self, group: &Group, end: End) -> Result<Arc<str>, AuditError> {
        self.check_presence()?;
        self.write(&group.frames)?;
        self.end = end;
        self.take_in(group);
        Ok(Arc::clone(&self.note))
    }

    /// Begins a new segment where the log ends. Everything made before must be durable.
    pub(crate) fn rotate(&mut self, composer: &mut Composer) -> Result<(), AuditError> {
        self.check_presence()?;
        let number = self.segment.number + 1;
        let path = segment_path(&self.dir, number);
        let failed = |source| AuditError::Write {
            action: "begin segment",
            path: path.clone(),
            source: Arc::new(source),
        };
        if number >= SEGMENTS_MAX {
            return Err(failed(io::Error::other("all segment numbers are used")));
        }
        let (header, sealer, end) = composer.header(number)?;
        let (file, identity) = match stage(&self.dir, &header) {
            Ok(staged) => staged,
            Err(error) => {
                // Best effort: the next attempt and the next opening remove it, too.
                let _ = remove_staged(&self.dir);
                return Err(failed(error));
            }
        };
        if let Err(error) = publish(&self.dir, number) {
            // Whether the segment exists after a power loss is unknown now.
            return Err(self.stopped("publish the segment after", error));
        }
        composer.begin_segment(sealer, end.clone());
        self.end = end;
        self.segment = SegmentFile {
            number,
            file,
            identity,
            path,
        };
        Ok(())
    }

    /// Keeps the newest checkpoint's note beside the log.
    pub(crate) fn save_checkpoint(&self) {
        save_checkpoint(&self.dir, &self.note);
    }

    /// The leaves, to be read beside the writer.
    pub(crate) fn leaves(&self) -> SharedLeaves {
        Arc::clone(&self.leaves)
    }

    /// Content that has to be destroyed by now.
    pub(crate) fn due(&self, retention: &Retention, now: Timestamp) -> Vec<Expired> {
        self.inventory.due(retention, self.segment.number, now)
    }

    /// Content that is destroyed first where room is needed at once.
    pub(crate) fn oldest(&self, retention: &Retention) -> Option<Expired> {
        self.inventory.oldest(&retention.holds, self.segment.number)
    }

    /// Takes note that content was destroyed.
    pub(crate) fn forget(&mut self, key: ContentKey) {
        self.inventory.remove(key);
    }

    /// Writes to another file from here on, so that a test can have one that fails.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.segment.file = file;
    }

    /// Fails where the files are not the log any more: what is written to them would be lost.
    pub(crate) fn check_presence(&self) -> Result<(), AuditError> {
        let segment = &self.segment;
        check_directory(&self.dir, self.directory)?;
        check_segment(&segment.path, segment.identity, self.end.segment_bytes)
    }

    fn write(&self, frames: &[u8]) -> Result<(), AuditError> {
        let file = &self.segment.file;
        let bytes = self.end.segment_bytes;
        if let Err(error) = file.write_all_at(frames, bytes) {
            return Err(self.cut_back(error));
        }
        if let Err(error) = file.sync_data() {
            // Best effort: the callers were not answered, so their records need not remain.
            let _ = file.set_len(bytes);
            return Err(self.stopped("sync", error));
        }
        Ok(())
    }

    /// Removes what a failed write left, durably, so that no later crash finds it again.
    fn cut_back(&self, error: io::Error) -> AuditError {
        let file = &self.segment.file;
        let cut = file.set_len(self.end.segment_bytes);
        if let Err(cut_error) = cut.and_then(|()| file.sync_all()) {
            return self.stopped("cut back", cut_error);
        }
        AuditError::Write {
            action: "append to",
            path: self.segment.path.clone(),
            source: Arc::new(error),
        }
    }

    /// Takes in a group that is durable.
    fn take_in(&mut self, group: &Group) {
        let mut leaves = lock(&self.leaves);
        for record in &group.records {
            leaves.push(record.leaf);
            let key = (self.segment.number, record.class);
            self.inventory.add(key, record.wall_us, record.bytes);
        }
        drop(leaves);
        if let Some(note) = &group.note {
            self.note = Arc::clone(note);
            self.save_checkpoint();
        }
    }

    fn stopped(&self, action: &'static str, source: io::Error) -> AuditError {
        AuditError::Stopped {
            action,
            path: self.segment.path.clone(),
            source: Arc::new(source),
        }
    }
}

/// The leaves are whole after each push, so a poisoned lock is still good.
pub(crate) fn lock(leaves: &SharedLeaves) -> MutexGuard<'_, LeafCache> {
    leaves.lock().unwrap_or_else(PoisonError::into_inner)
}
