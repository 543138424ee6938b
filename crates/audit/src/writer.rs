//! Puts records on the disk, in order.
//!
//! Invariant: between two calls of [`Writer::commit`] the last segment ends with a whole, durable
//! signature, and `bytes`, `tip`, `calls` and `leaves` describe exactly what is durable. A group of
//! records, with the checkpoint that may follow them and the signature that ends it, is one write
//! and one `fdatasync`; it is acknowledged as a whole or not at all. Absent: threads and waiting, which are `log`'s.
//!
//! Before each group the files are looked at; where they were removed, replaced or cut, the writer
//! stops and writes nothing. After a failed write the file is cut back and the writer goes on.
//! After a failed sync, or a failed cut, it stops: Linux may have dropped the unwritten pages and
//! would report the next sync as good, so only opening the log again, which reads the disk anew,
//! can tell what is there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::calls::{CallStep, OpenCalls, Undo};
use crate::chain::hex;
use crate::clock::monotonic_us;
use crate::config::{AuditConfig, Retention};
use crate::entry::Expired;
use crate::error::AuditError;
use crate::header::Tip;
use crate::history::ContentKey;
use crate::leaves::LeafCache;
use crate::log::Receipt;
use crate::presence::{Identity, check_directory, check_segment};
use crate::retention::Inventory;
use crate::scribe::{Draft, Scribe, Sealer, Written, frame_bytes_max};
use crate::segment::{SEGMENTS_MAX, publish, remove_staged, save_checkpoint, segment_path, stage};
use crate::signature::SIGNATURE_FRAME_BYTES;

/// Most bytes of frames in one write; a single longer record still gets a write of its own.
const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Checkpoints for which a segment keeps room, each with the signature after it: one that falls
/// due, and the one that ends it.
const CHECKPOINTS_RESERVED: u64 = 2;
const MICROSECONDS_A_SECOND: u64 = 1_000_000;

/// One entry on its way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) ticket: u64,
    pub(crate) step: CallStep,
    pub(crate) draft: Draft,
}

/// What became of one pending entry.
pub(crate) type Answer = (u64, Result<Receipt, AuditError>);

/// The leaves of the log, which are read while it is written.
pub(crate) type SharedLeaves = Arc<Mutex<LeafCache>>;

/// Where a writer begins: at the end of a segment that was just published, which ends with a
/// checkpoint and its signature.
pub(crate) struct Beginning {
    pub(crate) dir: PathBuf,
    /// Which directory was opened under that path.
    pub(crate) directory: Identity,
    pub(crate) segment: SegmentFile,
    pub(crate) tip: Tip,
    pub(crate) calls: OpenCalls,
    pub(crate) scribe: Scribe,
    /// The checkpoint's note.
    pub(crate) note: String,
    pub(crate) leaves: SharedLeaves,
    /// The content that is there.
    pub(crate) inventory: Inventory,
}

/// The segment in work.
pub(crate) struct SegmentFile {
    pub(crate) number: u32,
    pub(crate) file: File,
    /// Which file that is.
    pub(crate) identity: Identity,
    pub(crate) path: PathBuf,
    /// Durable length of the segment.
    pub(crate) bytes: u64,
    /// Length of the segment before its first record.
    pub(crate) header_bytes: u64,
    pub(crate) sealer: Sealer,
}

/// The end of the log.
pub(crate) struct Writer {
    dir: PathBuf,
    directory: Identity,
    limits: Limits,
    segment: SegmentFile,
    tip: Tip,
    calls: OpenCalls,
    scribe: Scribe,
    leaves: SharedLeaves,
    inventory: Inventory,
    newest: Newest,
    stopped: Option<AuditError>,
}

struct Limits {
    segment_bytes_max: u64,
    checkpoint_records: u64,
    checkpoint_us: u64,
}

/// The newest checkpoint, and how old it is.
struct Newest {
    note: String,
    at_us: u64,
    records_after: u64,
}

/// A group of frames that is ready to be written.
struct Group {
    frames: Vec<u8>,
    /// The log with them.
    tip: Tip,
    receipts: Vec<(u64, Receipt)>,
    records: Vec<Written>,
    undo: Vec<Undo>,
    /// Note of the checkpoint that ends the group, if one does.
    note: Option<String>,
}

impl Writer {
    pub(crate) fn new(config: &AuditConfig, beginning: Beginning) -> Self {
        let writer = Self {
            dir: beginning.dir,
            directory: beginning.directory,
            limits: Limits {
                segment_bytes_max: config.segment_bytes_max,
                checkpoint_records: u64::from(config.checkpoint_records),
                checkpoint_us: u64::from(config.checkpoint_seconds) * MICROSECONDS_A_SECOND,
            },
            segment: beginning.segment,
            tip: beginning.tip,
            calls: beginning.calls,
            scribe: beginning.scribe,
            leaves: beginning.leaves,
            inventory: beginning.inventory,
            newest: Newest {
                note: beginning.note,
                at_us: monotonic_us(),
                records_after: 0,
            },
            stopped: None,
        };
        save_checkpoint(&writer.dir, &writer.newest.note);
        writer
    }

    /// Writes the entries in order, in as few groups as their sizes allow, and answers each.
    pub(crate) fn commit(&mut self, batch: &[Pending]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while let Some(first) = rest.first() {
            let ready = self.check_presence().and_then(|()| self.make_room(first));
            if let Err(error) = ready {
                answers.extend(rest.iter().map(|one| (one.ticket, Err(error.clone()))));
                break;
            }
            let (group, later) = rest.split_at(self.group_len(rest));
            self.commit_group(group, &mut answers);
            rest = later;
        }
        answers
    }

    /// Writes a checkpoint over all records, if the newest does not cover them, and gives the
    /// newest one's note.
    pub(crate) fn checkpoint(&mut self) -> Result<String, AuditError> {
        self.check_presence()?;
        self.write_checkpoint()?;
        Ok(self.newest.note.clone())
    }

    /// Whether records wait for a checkpoint longer than they should.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.is_due_after(self.newest.records_after)
    }

    /// Note of the newest checkpoint.
    pub(crate) fn newest_checkpoint(&self) -> &str {
        &self.newest.note
    }

    /// The leaves, to be read beside the writer.
    pub(crate) fn leaves(&self) -> SharedLeaves {
        Arc::clone(&self.leaves)
    }

    /// Content that has to be destroyed by now.
    pub(crate) fn due(&self, retention: &Retention) -> Vec<Expired> {
        let now = self.scribe.now();
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

    /// Why the writer has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<&AuditError> {
        self.stopped.as_ref()
    }

    /// Path of the segment in work.
    pub(crate) fn path(&self) -> &Path {
        &self.segment.path
    }

    /// Writes to another file from here on, so that a test can have one that fails.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.segment.file = file;
    }

    /// Stops where the files are not the log any more: what is written to them would be lost.
    fn check_presence(&mut self) -> Result<(), AuditError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let segment = &self.segment;
        let there = check_directory(&self.dir, self.directory)
            .and_then(|()| check_segment(&segment.path, segment.identity, segment.bytes));
        if let Err(displaced) = &there {
            self.stopped = Some(displaced.clone());
        }
        there
    }

    /// Begins a new segment where the next record would make this one too long.
    fn make_room(&mut self, next: &Pending) -> Result<(), AuditError> {
        let is_empty = self.segment.bytes == self.segment.header_bytes;
        if is_empty || frame_bytes_max(&next.draft) <= self.room() {
            return Ok(());
        }
        self.rotate()
    }

    /// Bytes of records that the segment still takes.
    fn room(&self) -> u64 {
        let checkpoint = self.scribe.checkpoint_bytes_max() + SIGNATURE_FRAME_BYTES as u64;
        let reserved = CHECKPOINTS_RESERVED * checkpoint;
        let taken = self.segment.bytes + reserved;
        self.limits.segment_bytes_max.saturating_sub(taken)
    }

    /// How many of the entries share the next write: at least one, and no more than the segment
    /// and the write can hold.
    fn group_len(&self, entries: &[Pending]) -> usize {
        let room = self.room().min(GROUP_BYTES_MAX);
        let mut sum = 0;
        let fitting = entries.iter().take_while(|entry| {
            sum += frame_bytes_max(&entry.draft);
            sum <= room
        });
        fitting.count().max(1)
    }

    fn commit_group(&mut self, entries: &[Pending], answers: &mut Vec<Answer>) {
        let mut group = Group::after(&self.tip);
        for pending in entries {
            if let Err(error) = self.add(pending, &mut group) {
                answers.push((pending.ticket, Err(error)));
            }
        }
        let records_after = self.newest.records_after + group.records.len() as u64;
        if !group.records.is_empty() && self.is_due_after(records_after) {
            let note = self.scribe.checkpoint(&mut group.tip, &mut group.frames);
            group.note = Some(note);
        }
        if !group.records.is_empty() {
            self.scribe.sign(&mut group.tip, &mut group.frames);
        }
        match self.write(&group.frames) {
            Ok(()) => self.settle(group, answers),
            Err(error) => {
                for undo in group.undo.into_iter().rev() {
                    self.calls.undo(undo);
                }
                let receipts = group.receipts.into_iter();
                answers.extend(receipts.map(|(ticket, _)| (ticket, Err(error.clone()))));
            }
        }
    }

    fn add(&mut self, pending: &Pending, group: &mut Group) -> Result<(), AuditError> {
        let index = group.tip.index();
        let undo = self.calls.apply(&pending.step, index);
        let undo = undo.map_err(|problem| AuditError::Call {
            request_id: pending.step.request_id().to_owned(),
            problem,
        })?;
        let sealer = &mut self.segment.sealer;
        let made = self
            .scribe
            .record(sealer, &mut group.tip, &pending.draft, &mut group.frames);
        let written = match made {
            Ok(written) => written,
            Err(error) => {
                self.calls.undo(undo);
                return Err(error);
            }
        };
        group.undo.push(undo);
        let receipt = Receipt {
            index,
            head: group.tip.head.to_string(),
            leaf: hex(&written.leaf),
            checkpoint: String::new(),
        };
        group.records.push(written);
        group.receipts.push((pending.ticket, receipt));
        Ok(())
    }

    /// Takes in a group that is durable.
    fn settle(&mut self, group: Group, answers: &mut Vec<Answer>) {
        self.tip = group.tip;
        self.newest.records_after += group.records.len() as u64;
        let mut leaves = lock(&self.leaves);
        for record in &group.records {
            leaves.push(record.leaf);
            let key = (self.segment.number, record.class);
            self.inventory.add(key, record.wall_us, record.bytes);
        }
        drop(leaves);
        if let Some(note) = group.note {
            self.set_newest(note);
        }
        for (ticket, mut receipt) in group.receipts {
            receipt.checkpoint.clone_from(&self.newest.note);
            answers.push((ticket, Ok(receipt)));
        }
    }

    fn is_due_after(&self, records: u64) -> bool {
        let age_us = monotonic_us().saturating_sub(self.newest.at_us);
        records >= self.limits.checkpoint_records
            || (records > 0 && age_us >= self.limits.checkpoint_us)
    }

    fn write_checkpoint(&mut self) -> Result<(), AuditError> {
        if self.newest.records_after == 0 {
            return Ok(());
        }
        let mut tip = self.tip.clone();
        let mut frame = Vec::new();
        let note = self.scribe.checkpoint(&mut tip, &mut frame);
        self.scribe.sign(&mut tip, &mut frame);
        self.write(&frame)?;
        self.tip = tip;
        self.set_newest(note);
        Ok(())
    }

    fn set_newest(&mut self, note: String) {
        save_checkpoint(&self.dir, &note);
        self.newest = Newest {
            note,
            at_us: monotonic_us(),
            records_after: 0,
        };
    }

    fn write(&mut self, frames: &[u8]) -> Result<(), AuditError> {
        if frames.is_empty() {
            return Ok(());
        }
        let segment = &self.segment;
        if let Err(error) = segment.file.write_all_at(frames, segment.bytes) {
            return Err(self.cut_back(error));
        }
        if let Err(error) = segment.file.sync_data() {
            // Best effort: the callers were not answered, so their records need not remain.
            let _ = segment.file.set_len(segment.bytes);
            return Err(self.stop("sync", error));
        }
        self.segment.bytes += frames.len() as u64;
        Ok(())
    }

    /// Removes what a failed write left, durably, so that no later crash finds it again.
    fn cut_back(&mut self, error: io::Error) -> AuditError {
        let file = &self.segment.file;
        let cut = file.set_len(self.segment.bytes);
        if let Err(cut_error) = cut.and_then(|()| file.sync_all()) {
            return self.stop("cut back", cut_error);
        }
        AuditError::Write {
            action: "append to",
            path: self.segment.path.clone(),
            source: Arc::new(error),
        }
    }

    /// Ends the segment with a checkpoint and begins the next.
    fn rotate(&mut self) -> Result<(), AuditError> {
        self.write_checkpoint()?;
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
        let mut tip = self.tip.clone();
        let (mut header, sealer) = self.scribe.begin_segment(number, &mut tip)?;
        self.scribe.sign(&mut tip, &mut header);
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
            return Err(self.stop("publish the segment after", error));
        }
        self.tip = tip;
        self.segment = SegmentFile {
            number,
            file,
            identity,
            path,
            bytes: header.len() as u64,
            header_bytes: header.len() as u64,
            sealer,
        };
        Ok(())
    }

    fn stop(&mut self, action: &'static str, source: io::Error) -> AuditError {
        let stopped = AuditError::Stopped {
            action,
            path: self.segment.path.clone(),
            source: Arc::new(source),
        };
        self.stopped = Some(stopped.clone());
        stopped
    }
}

impl Group {
    fn after(tip: &Tip) -> Self {
        Self {
            frames: Vec::new(),
            tip: tip.clone(),
            receipts: Vec::new(),
            records: Vec::new(),
            undo: Vec::new(),
            note: None,
        }
    }
}

/// The leaves are whole after each push, so a poisoned lock is still good.
pub(crate) fn lock(leaves: &SharedLeaves) -> MutexGuard<'_, LeafCache> {
    leaves.lock().unwrap_or_else(PoisonError::into_inner)
}
