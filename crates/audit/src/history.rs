//! What a log's frames say about each other, judged in order and without a key.
//!
//! Invariant: the same rules hold for a verifier and for a recovery, so nothing is opened for
//! writing that would not verify. Calls are admitted and ended once; one key signs everything, and
//! each checkpoint covers exactly the records before it; sealing counters only go up; and content
//! is gone only where a later record says so. Memory is the open calls and, while their record is
//! still to come, the expired classes of segments. Absent: bytes and hashes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::calls::{CallStep, OpenCalls};
use crate::chain::hex;
use crate::checkpoint::{Checkpoint, VerifierKey};
use crate::clear::Subject;
use crate::clock::{ClockStep, ClockWatch, wall_time};
use crate::error::{AuditError, Reason};
use crate::kind::{CLASSES, Class};
use crate::scan::{Frame, Record, SegmentScan, StoredNote, StoredSignature};
use crate::signature::is_signed;

/// One class of one segment.
pub(crate) type ContentKey = (u32, Class);

/// Everything that the next frame is judged by.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: OpenCalls,
    pub(crate) clock: ClockWatch,
    /// The newest checkpoint, if there is one.
    pub(crate) newest: Option<NewestCheckpoint>,
    /// Records after it.
    pub(crate) after_checkpoint: u64,
    /// Records whose content is gone.
    pub(crate) expired_records: u64,
    signer: Option<VerifierKey>,
    boot: String,
    /// Of the sealing before, in this segment.
    counter: Option<u64>,
    /// Whether content is there, by class, in this segment.
    content: [Option<bool>; CLASSES],
    /// Content that is gone, with no record yet that says so.
    unexplained: BTreeMap<ContentKey, Place>,
    /// The last signature of this segment, which vouches for all before it.
    signature: Option<StoredSignature>,
    /// Content that is there, although a record says that it expired.
    pub(crate) to_destroy: Vec<ContentKey>,
}

/// A checkpoint in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewestCheckpoint {
    pub(crate) note: String,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) time: Timestamp,
}

/// Where something stands in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) index: u64,
}

impl History {
    /// A history that only this key may sign.
    pub(crate) fn signed_by(signer: Option<VerifierKey>) -> Self {
        Self {
            signer,
            ..Self::default()
        }
    }

    /// The key that signs this log, once it is known.
    pub(crate) fn signer(&self) -> Option<&VerifierKey> {
        self.signer.as_ref()
    }

    /// Content that is gone without a record, and its place; asked at the end of a log.
    pub(crate) fn unexplained(&self) -> Option<(ContentKey, Place)> {
        let (&key, &place) = self.unexplained.first_key_value()?;
        Some((key, place))
    }

    pub(crate) fn begin_segment(&mut self, scan: &SegmentScan) -> Result<(), AuditError> {
        let header = scan.header();
        let place = Place {
            offset: 0,
            index: header.body.first_index,
        };
        let signer = self.signer.get_or_insert_with(|| header.signer.clone());
        if *signer != header.signer {
            let reason = Reason::Signer {
                expected: signer.to_string(),
                found: header.signer.to_string(),
            };
            return Err(scan.broken_at(place.offset, place.index, reason));
        }
        if self.boot != header.body.boot {
            self.boot.clone_from(&header.body.boot);
            self.clock.begin_run();
        }
        self.signature = None;
        self.counter = None;
        self.content = [None; CLASSES];
        for class in Class::ALL {
            if header.is_destroyed(class) {
                self.content[class.place()] = Some(false);
                self.unexplained.insert((scan.segment(), class), place);
            }
        }
        Ok(())
    }

    /// Takes a record; `step` is what it does to the calls, as far as that can be read.
    pub(crate) fn record(
        &mut self,
        scan: &SegmentScan,
        record: &Record,
        step: &CallStep,
    ) -> Result<(), AuditError> {
        self.judge_record(scan, record, step)
            .map_err(|reason| self.first_fault(scan, scan.broken_record(record, reason)))?;
        let clear = &record.clear;
        self.clock
            .see((clear.wall_us, clear.monotonic_us), |back_us| ClockStep {
                segment: scan.segment(),
                offset: record.offset,
                index: clear.index,
                back_us,
            });
        self.after_checkpoint += 1;
        Ok(())
    }

    fn judge_record(
        &mut self,
        scan: &SegmentScan,
        record: &Record,
        step: &CallStep,
    ) -> Result<(), Reason> {
        let clear = &record.clear;
        wall_time(clear.wall_us).map_err(|detail| Reason::RecordBody { detail })?;
        self.judge_counter(scan, clear.counter)?;
        self.judge_content(scan, record)?;
        if let Subject::Content { segment, class } = clear.subject {
            if segment >= scan.segment() {
                return Err(Reason::ExpiredUnfinished { segment });
            }
            let key = (segment, class);
            if self.unexplained.remove(&key).is_none() {
                self.to_destroy.push(key);
            }
        }
        match self.calls.apply(step, clear.index) {
            Ok(_) => Ok(()),
            Err(problem) => Err(Reason::Call {
                request_id: step.request_id().to_owned(),
                problem,
            }),
        }
    }

    fn judge_counter(&mut self, scan: &SegmentScan, found: u64) -> Result<(), Reason> {
        let is_sealed = scan.header().keys.is_some();
        let before = self.counter.replace(found);
        let is_new = match before {
            _ if !is_sealed => found == 0,
            None => true,
            Some(before) => found > before,
        };
        if !is_new {
            let before = before.unwrap_or(0);
            return Err(Reason::Counter { before, found });
        }
        Ok(())
    }

    /// All of a class in a segment is there or none, and what is gone waits for its record.
    fn judge_content(&mut self, scan: &SegmentScan, record: &Record) -> Result<(), Reason> {
        let class = record.clear.entry_type.class();
        let before = self.content[class.place()].replace(record.has_content);
        let is_sealed = scan.header().keys.is_some();
        let expected = before.or(is_sealed.then_some(true));
        if expected.is_some_and(|expected| expected != record.has_content) {
            return Err(Reason::ExpiredPartly { class });
        }
        if !record.has_content {
            self.expired_records += 1;
            let place = Place {
                offset: record.offset,
                index: record.clear.index,
            };
            let key = (scan.segment(), class);
            self.unexplained.entry(key).or_insert(place);
        }
        Ok(())
    }

    /// Takes a checkpoint, which must be the signer's and cover exactly the records before it.
    pub(crate) fn checkpoint(
        &mut self,
        scan: &SegmentScan,
        note: StoredNote,
    ) -> Result<(), AuditError> {
        let index = scan.tip().index();
        let offset = note.offset;
        self.judge_checkpoint(scan, note)
            .map_err(|reason| self.first_fault(scan, scan.broken_at(offset, index, reason)))
    }

    /// Takes a signature, which counts if it is the last of its segment.
    pub(crate) fn signature(&mut self, signature: StoredSignature) {
        self.signature = Some(signature);
    }

    /// Checks that the log's key signed the segment that was read to its end.
    pub(crate) fn end_segment(&mut self, scan: &SegmentScan) -> Result<(), AuditError> {
        match self.signature.take() {
            Some(signature) if !is_by_signer(scan, &signature) => Err(first_not_signed(scan)?),
            _ => Ok(()),
        }
    }

    /// This fault, unless an earlier one led to it that only a signature shows.
    fn first_fault(&mut self, scan: &SegmentScan, fault: AuditError) -> AuditError {
        self.end_segment(scan).err().unwrap_or(fault)
    }

    fn judge_checkpoint(&mut self, scan: &SegmentScan, note: StoredNote) -> Result<(), Reason> {
        let header = scan.header();
        let checkpoint = header.signer.open(&note.text);
        let checkpoint = checkpoint.map_err(|error| checkpoint_reason(&error.to_string()))?;
        let tree = &scan.tip().tree;
        if checkpoint.size != tree.size() {
            return Err(Reason::CheckpointPlace {
                expected: tree.size(),
                found: checkpoint.size,
            });
        }
        let root = tree.root();
        if checkpoint.root != root {
            return Err(Reason::CheckpointRoot {
                size: checkpoint.size,
                expected: hex(&checkpoint.root),
                found: hex(&root),
            });
        }
        let time = wall_time(note.wall_us).map_err(|detail| checkpoint_reason(&detail))?;
        self.clock
            .see((note.wall_us, note.monotonic_us), |back_us| ClockStep {
                segment: scan.segment(),
                offset: note.offset,
                index: tree.size(),
                back_us,
            });
        self.after_checkpoint = 0;
        self.newest = Some(NewestCheckpoint {
            note: note.text,
            checkpoint,
            time,
        });
        Ok(())
    }
}

fn is_by_signer(scan: &SegmentScan, signature: &StoredSignature) -> bool {
    is_signed(&scan.header().signer, &signature.head, &signature.bytes)
}

/// Reads a segment again whose last signature is wrong, to find where it begins to be.
fn first_not_signed(scan: &SegmentScan) -> Result<AuditError, AuditError> {
    let mut again = SegmentScan::open_alone(scan.path().to_owned(), scan.segment())?;
    let mut first = again.tip().index();
    loop {
        match again.next()? {
            Frame::Signature(signature) if is_by_signer(&again, &signature) => {
                first = again.tip().index();
            }
            Frame::Signature(StoredSignature { offset, .. }) => {
                return Ok(again.broken_at(offset, first, Reason::Signature));
            }
            Frame::Record(_) | Frame::Checkpoint(_) => {}
            // Only where somebody changes the file meanwhile.
            Frame::Torn(_) | Frame::End => return Ok(again.broken(Reason::Signature)),
        }
    }
}

fn checkpoint_reason(detail: &str) -> Reason {
    Reason::Checkpoint {
        detail: detail.to_owned(),
    }
}
