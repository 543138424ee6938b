//! Records that share one write and one sync, and the threads that wait for them.
//!
//! Invariant: each group gets exactly one outcome, which all of its records share; a ticket shows
//! it to the thread that appended the record. Absent: how a group is made and written, which are
//! `composer`'s and `writer`'s.

use std::sync::{Arc, OnceLock};

use crate::calls::Undo;
use crate::error::AuditError;
use crate::header::Tip;
use crate::log::Receipt;
use crate::scribe::Written;

/// Where the log ends, or will.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) tip: Tip,
    /// Length of the segment in work.
    pub(crate) segment_bytes: u64,
    /// Records after the newest checkpoint.
    pub(crate) records_after_checkpoint: u64,
    /// When that was made, by the monotonic clock.
    pub(crate) checkpoint_us: u64,
}

/// Frames on their way to the disk, in order.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) frames: Vec<u8>,
    pub(crate) records: Vec<Written>,
    /// What to take back, last first, if the frames do not reach the disk.
    pub(crate) undo: Vec<Undo>,
    /// Note of the checkpoint that ends the group, if one does.
    pub(crate) note: Option<Arc<str>>,
    pub(crate) flight: Arc<Flight>,
}

/// What became of a group, once that is known.
#[derive(Debug, Default)]
pub(crate) struct Flight(OnceLock<Landing>);

/// What became of a group.
#[derive(Clone, Debug)]
pub(crate) enum Landing {
    /// It is durable, and this is the note of the newest checkpoint.
    Durable(Arc<str>),
    /// It will never be.
    Lost(AuditError),
    /// It was not written, because the group that it was chained to was lost.
    Again,
}

impl Flight {
    /// Tells all that wait. Only the first landing counts.
    pub(crate) fn land(&self, landing: Landing) {
        let _ = self.0.set(landing);
    }
}

/// The place of one record in a group.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// What the caller gets if the group reaches the disk, yet without a checkpoint.
    pub(crate) receipt: Receipt,
    /// Whether the record is the first of its group, so that its thread sees to the group.
    pub(crate) is_first: bool,
    pub(crate) flight: Arc<Flight>,
}

impl Ticket {
    /// Waits until the record is durable, or will never be; `None` if it has to be made again.
    pub(crate) fn wait(self) -> Result<Option<Receipt>, AuditError> {
        match self.flight.0.wait() {
            Landing::Durable(note) => Ok(Some(Receipt {
                checkpoint: note.as_ref().to_owned(),
                ..self.receipt
            })),
            Landing::Lost(error) => Err(error.clone()),
            Landing::Again => Ok(None),
        }
    }
}
