//! Puts records on the disk, in order.
//!
//! Invariant: between two calls of [`Writer::commit`] the last segment ends with a whole, durable
//! record, and `bytes`, `head`, `next_index` and `calls` describe exactly what is durable. A group
//! of records is one write and one `fdatasync`; it is acknowledged as a whole or not at all.
//! Absent: threads and waiting, which are `log`'s.
//!
//! Before each group the files are looked at; where they were removed, replaced or cut, the writer
//! stops and writes nothing. After a failed write the file is cut back and the writer goes on.
//! After a failed sync, or a failed cut, it stops: Linux may have dropped the unwritten pages and would report the next sync
//! as good, so only opening the log again, which reads the disk anew, can tell what is there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::calls::{CallStep, OpenCalls, Undo};
use crate::chain::Head;
use crate::encoding::{ENVELOPE_BYTES_MAX, encode_body};
use crate::error::AuditError;
use crate::log::Receipt;
use crate::presence::{Identity, check_directory, check_segment};
use crate::scan::Joint;
use crate::segment::{
    FRAME_BYTES, Header, SEGMENTS_MAX, encode_frame, encode_header, publish, remove_staged,
    segment_path, stage,
};

/// Most bytes of frames in one write; a single longer record still gets a write of its own.
const GROUP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The writer's clock.
pub(crate) type Clock = Box<dyn Fn() -> Timestamp + Send>;

/// One entry on its way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) ticket: u64,
    pub(crate) step: CallStep,
    /// The entry as canonical JSON.
    pub(crate) entry: String,
}

/// What became of one pending entry.
pub(crate) type Answer = (u64, Result<Receipt, AuditError>);

/// The end of the log.
pub(crate) struct Writer {
    dir: PathBuf,
    /// Which directory was opened under that path.
    directory: Identity,
    clock: Clock,
    segment_bytes_max: u64,
    segment: u32,
    file: File,
    /// Which file that is.
    identity: Identity,
    path: PathBuf,
    /// Durable length of the segment.
    bytes: u64,
    /// Length of a segment without records.
    header_bytes: u64,
    head: Head,
    next_index: u64,
    calls: OpenCalls,
    stopped: Option<AuditError>,
}

/// A group of frames that is ready to be written.
#[derive(Default)]
struct Group {
    frames: Vec<u8>,
    receipts: Vec<(u64, Receipt)>,
    undo: Vec<Undo>,
}

impl Writer {
    /// Goes on after `joint`, at the end of a segment that was just published.
    pub(crate) fn new(
        (dir, directory): (&Path, Identity),
        segment_bytes_max: u64,
        (file, identity): (File, Identity),
        (header_bytes, bytes): (u64, u64),
        joint: Joint,
        calls: OpenCalls,
        clock: Clock,
    ) -> Self {
        let segment = joint.segment - 1;
        Self {
            dir: dir.to_owned(),
            directory,
            clock,
            segment_bytes_max,
            segment,
            file,
            identity,
            path: segment_path(dir, segment),
            bytes,
            header_bytes,
            head: joint.head,
            next_index: joint.index,
            calls,
            stopped: None,
        }
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

    /// Why the writer has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<&AuditError> {
        self.stopped.as_ref()
    }

    /// Path of the segment in work.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to another file from here on, so that a test can have one that fails.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    /// Stops where the files are not the log any more: what is written to them would be lost.
    fn check_presence(&mut self) -> Result<(), AuditError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let there = check_directory(&self.dir, self.directory)
            .and_then(|()| check_segment(&self.path, self.identity, self.bytes));
        if let Err(displaced) = &there {
            self.stopped = Some(displaced.clone());
        }
        there
    }

    /// Begins a new segment where the next record would make this one too long.
    fn make_room(&mut self, next: &Pending) -> Result<(), AuditError> {
        let is_empty = self.bytes == self.header_bytes;
        if is_empty || self.bytes + frame_bytes_max(next) <= self.segment_bytes_max {
            return Ok(());
        }
        self.rotate()
    }

    /// How many of the entries share the next write: at least one, and no more than the segment
    /// and the write can hold.
    fn group_len(&self, entries: &[Pending]) -> usize {
        let room = self.segment_bytes_max.saturating_sub(self.bytes);
        let room = room.min(GROUP_BYTES_MAX);
        let mut sum = 0;
        let fitting = entries.iter().take_while(|entry| {
            sum += frame_bytes_max(entry);
            sum <= room
        });
        fitting.count().max(1)
    }

    fn commit_group(&mut self, entries: &[Pending], answers: &mut Vec<Answer>) {
        let mut group = Group::default();
        let mut head = self.head;
        let mut index = self.next_index;
        for pending in entries {
            match self.calls.apply(&pending.step, index) {
                Ok(undo) => group.undo.push(undo),
                Err(problem) => {
                    let request_id = pending.step.request_id().to_owned();
                    let error = AuditError::Call {
                        request_id,
                        problem,
                    };
                    answers.push((pending.ticket, Err(error)));
                    continue;
                }
            }
            let body = encode_body(&pending.entry, index, (self.clock)());
            head = encode_frame(&mut group.frames, &head, body.as_bytes());
            let receipt = Receipt {
                index,
                head: head.to_string(),
            };
            group.receipts.push((pending.ticket, receipt));
            index += 1;
        }
        match self.write(&group.frames) {
            Ok(()) => {
                self.head = head;
                self.next_index = index;
                let receipts = group.receipts.into_iter();
                answers.extend(receipts.map(|(ticket, receipt)| (ticket, Ok(receipt))));
            }
            Err(error) => {
                for undo in group.undo.into_iter().rev() {
                    self.calls.undo(undo);
                }
                let receipts = group.receipts.into_iter();
                answers.extend(receipts.map(|(ticket, _)| (ticket, Err(error.clone()))));
            }
        }
    }

    fn write(&mut self, frames: &[u8]) -> Result<(), AuditError> {
        if frames.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all_at(frames, self.bytes) {
            return Err(self.cut_back(error));
        }
        if let Err(error) = self.file.sync_data() {
            // Best effort: the callers were not answered, so their records need not remain.
            let _ = self.file.set_len(self.bytes);
            return Err(self.stop("sync", error));
        }
        self.bytes += frames.len() as u64;
        Ok(())
    }

    /// Removes what a failed write left, durably, so that no later crash finds it again.
    fn cut_back(&mut self, error: io::Error) -> AuditError {
        let cut = self.file.set_len(self.bytes);
        if let Err(cut_error) = cut.and_then(|()| self.file.sync_all()) {
            return self.stop("cut back", cut_error);
        }
        AuditError::Write {
            action: "append to",
            path: self.path.clone(),
            source: Arc::new(error),
        }
    }

    fn rotate(&mut self) -> Result<(), AuditError> {
        let segment = self.segment + 1;
        let (header, head) = encode_header(&Header {
            first_index: self.next_index,
            previous_head: self.head.to_string(),
            segment,
        });
        let path = segment_path(&self.dir, segment);
        let failed = |source| AuditError::Write {
            action: "begin segment",
            path: path.clone(),
            source: Arc::new(source),
        };
        if segment >= SEGMENTS_MAX {
            return Err(failed(io::Error::other("all segment numbers are used")));
        }
        let (file, identity) = match stage(&self.dir, &header) {
            Ok(staged) => staged,
            Err(error) => {
                // Best effort: the next attempt and the next opening remove it, too.
                let _ = remove_staged(&self.dir);
                return Err(failed(error));
            }
        };
        if let Err(error) = publish(&self.dir, segment) {
            // Whether the segment exists after a power loss is unknown now.
            return Err(self.stop("publish the segment after", error));
        }
        self.segment = segment;
        self.file = file;
        self.identity = identity;
        self.path = path;
        self.header_bytes = header.len() as u64;
        self.bytes = self.header_bytes;
        self.head = head;
        Ok(())
    }

    fn stop(&mut self, action: &'static str, source: io::Error) -> AuditError {
        let stopped = AuditError::Stopped {
            action,
            path: self.path.clone(),
            source: Arc::new(source),
        };
        self.stopped = Some(stopped.clone());
        stopped
    }
}

fn frame_bytes_max(pending: &Pending) -> u64 {
    (FRAME_BYTES + ENVELOPE_BYTES_MAX + pending.entry.len()) as u64
}
