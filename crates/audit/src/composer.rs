//! Makes records in the order in which they come, each as soon as it comes: while one group is
//! being written, the next is sealed, hashed and chained.
//!
//! Invariant: `end` and `calls` describe the log as it will be once everything made here is
//! durable. Where a group does not reach the disk, all that was made after it is taken back too and
//! has to be made again, since it is chained to it. A group that is closed ends with a signature.
//! After a failure that nothing goes on from, nothing is made any more. Absent: files.

use std::sync::Arc;

use jiff::Timestamp;

use crate::calls::{CallStep, OpenCalls};
use crate::chain::hex;
use crate::clock::monotonic_us;
use crate::config::AuditConfig;
use crate::error::AuditError;
use crate::group::{End, Flight, Group, Landing, Ticket};
use crate::log::Receipt;
use crate::scribe::{Draft, Scribe, Sealer, frame_bytes_max};
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
    pub(crate) step: CallStep,
    pub(crate) draft: Draft,
}

/// Whether a group ends with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// If one is due.
    AsDue,
    /// If the newest does not cover all records.
    Checkpoint,
}

/// Where a composer begins: after the header of a segment.
pub(crate) struct Opening {
    pub(crate) scribe: Scribe,
    pub(crate) sealer: Sealer,
    /// Length of the segment before its first record.
    pub(crate) header_bytes: u64,
    pub(crate) calls: OpenCalls,
    pub(crate) end: End,
}

/// The log as it will be.
pub(crate) struct Composer {
    limits: Limits,
    scribe: Scribe,
    sealer: Sealer,
    header_bytes: u64,
    calls: OpenCalls,
    end: End,
    /// The group that still takes records.
    group: Group,
    stopped: Option<AuditError>,
}

struct Limits {
    segment_bytes_max: u64,
    checkpoint_records: u64,
    checkpoint_us: u64,
}

impl Composer {
    pub(crate) fn new(config: &AuditConfig, opening: Opening) -> Self {
        Self {
            limits: Limits {
                segment_bytes_max: config.segment_bytes_max,
                checkpoint_records: u64::from(config.checkpoint_records),
                checkpoint_us: u64::from(config.checkpoint_seconds) * MICROSECONDS_A_SECOND,
            },
            scribe: opening.scribe,
            sealer: opening.sealer,
            header_bytes: opening.header_bytes,
            calls: opening.calls,
            end: opening.end,
            group: Group::default(),
            stopped: None,
        }
    }

    /// Makes the record of an entry in the open group, unless there is no room: `None`.
    pub(crate) fn add(&mut self, pending: &Pending) -> Result<Option<Ticket>, AuditError> {
        self.check_running()?;
        if !self.has_room(&pending.draft) {
            return Ok(None);
        }
        self.make(pending).map(Some)
    }

    /// Whether the segment still takes this record; an empty one takes any.
    pub(crate) fn has_room_in_segment(&self, draft: &Draft) -> bool {
        let is_empty = self.end.segment_bytes == self.header_bytes;
        is_empty || frame_bytes_max(draft) <= self.room()
    }

    /// Ends the open group, so that it can be written; `None` if there is nothing to write.
    pub(crate) fn close(&mut self, ending: Ending) -> Result<Option<(Group, End)>, AuditError> {
        self.check_running()?;
        let is_due = match ending {
            Ending::AsDue => !self.group.records.is_empty() && self.is_checkpoint_due(),
            Ending::Checkpoint => self.end.records_after_checkpoint > 0,
        };
        if self.group.records.is_empty() && !is_due {
            return Ok(None);
        }
        let mut group = std::mem::take(&mut self.group);
        let before = group.frames.len();
        if is_due {
            let note = self.scribe.checkpoint(&mut self.end.tip, &mut group.frames);
            group.note = Some(note.into());
            self.end.records_after_checkpoint = 0;
            self.end.checkpoint_us = monotonic_us();
        }
        self.scribe.sign(&mut self.end.tip, &mut group.frames);
        self.end.segment_bytes += (group.frames.len() - before) as u64;
        Ok(Some((group, self.end.clone())))
    }

    /// Takes back a group that did not reach the disk, with all that came after it, and goes on
    /// from where the log ends in truth.
    pub(crate) fn take_back(&mut self, group: Group, durable: &End, error: &AuditError) {
        self.fail(error);
        let open = std::mem::take(&mut self.group);
        open.flight.land(Landing::Again);
        let undo = group.undo.into_iter().chain(open.undo);
        undo.rev().for_each(|undo| self.calls.undo(undo));
        self.end = durable.clone();
    }

    /// Takes note of a failure, and makes nothing any more if it is one that nothing goes on from.
    pub(crate) fn fail(&mut self, error: &AuditError) {
        if matches!(
            error,
            AuditError::Stopped { .. } | AuditError::Displaced { .. }
        ) {
            self.group.flight.land(Landing::Lost(error.clone()));
            self.stopped.get_or_insert_with(|| error.clone());
        }
    }

    /// What the open group's threads wait for.
    pub(crate) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.group.flight)
    }

    /// A header of segment `number` with its signature, the log's end after it, and what its
    /// records are sealed with. Nothing of it counts before [`Composer::begin_segment`].
    pub(crate) fn header(&self, number: u32) -> Result<(Vec<u8>, Sealer, End), AuditError> {
        let mut end = self.end.clone();
        let (mut header, sealer) = self.scribe.begin_segment(number, &mut end.tip)?;
        self.scribe.sign(&mut end.tip, &mut header);
        end.segment_bytes = header.len() as u64;
        Ok((header, sealer, end))
    }

    /// Goes on after such a header, which is durable.
    pub(crate) fn begin_segment(&mut self, sealer: Sealer, end: End) {
        self.sealer = sealer;
        self.header_bytes = end.segment_bytes;
        self.end = end;
    }

    /// Whether records wait for a checkpoint longer than they should.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        let records = self.end.records_after_checkpoint;
        let age_us = monotonic_us().saturating_sub(self.end.checkpoint_us);
        records >= self.limits.checkpoint_records
            || (records > 0 && age_us >= self.limits.checkpoint_us)
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.scribe.now()
    }

    /// Fails where nothing is made any more.
    pub(crate) fn check_running(&self) -> Result<(), AuditError> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Whether the segment and the open group still take this record.
    fn has_room(&self, draft: &Draft) -> bool {
        let bytes = frame_bytes_max(draft);
        let together = self.group.frames.len() as u64 + bytes;
        let in_group = self.group.records.is_empty() || together <= GROUP_BYTES_MAX;
        in_group && self.has_room_in_segment(draft)
    }

    /// Bytes of records that the segment still takes.
    fn room(&self) -> u64 {
        let checkpoint = self.scribe.checkpoint_bytes_max() + SIGNATURE_FRAME_BYTES as u64;
        let taken = self.end.segment_bytes + CHECKPOINTS_RESERVED * checkpoint;
        self.limits.segment_bytes_max.saturating_sub(taken)
    }

    fn make(&mut self, pending: &Pending) -> Result<Ticket, AuditError> {
        let index = self.end.tip.index();
        let undo = self.calls.apply(&pending.step, index);
        let undo = undo.map_err(|problem| AuditError::Call {
            request_id: pending.step.request_id().to_owned(),
            problem,
        })?;
        let frames = &mut self.group.frames;
        let tip = &mut self.end.tip;
        let made = self
            .scribe
            .record(&mut self.sealer, tip, &pending.draft, frames);
        let written = match made {
            Ok(written) => written,
            Err(error) => {
                self.calls.undo(undo);
                return Err(error);
            }
        };
        let is_first = self.group.records.is_empty();
        self.group.undo.push(undo);
        self.group.records.push(written);
        self.end.segment_bytes += written.bytes;
        self.end.records_after_checkpoint += 1;
        Ok(Ticket {
            receipt: Receipt {
                index,
                head: self.end.tip.head.to_string(),
                leaf: hex(&written.leaf),
                checkpoint: String::new(),
            },
            is_first,
            flight: Arc::clone(&self.group.flight),
        })
    }
}
