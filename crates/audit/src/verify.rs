//! Verifying a log, for a stranger who has its files, a public key and nothing else.
//!
//! Invariant: a log passes only if every byte of it is as it was written, as far as the files and
//! what was handed in can show. No secret is needed: contents are judged by their digests alone.
//! Memory is one record and what `history` keeps, whatever the log's length. Absent: locks and
//! writes.
//!
//! What the files alone cannot show: that whole records were cut off the very end, or that someone
//! who has the signing key too computed another history. A [`Witness`] shows both: a receipt down
//! to its record, a checkpoint down to its size.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::calls::OpenCall;
use crate::chain::hex;
use crate::checkpoint::{Checkpoint, VerifierKey};
use crate::clock::{ClockStep, wall_time};
use crate::error::{AuditError, Reason};
use crate::history::{History, NewestCheckpoint};
use crate::log::Receipt;
use crate::merkle::{Frontier, Hash};
use crate::scan::Record;
use crate::walk::{Step, Walk};

/// What a log without a fault amounts to, as far as it goes: see [`verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of records.
    pub records: u64,
    /// Number of segments.
    pub segments: u64,
    /// Head of the last record, lower-case hex. With index `records - 1` it is the receipt that
    /// witnesses the whole log.
    pub head: String,
    /// Root of the Merkle tree over all records, lower-case hex.
    pub root: String,
    /// Time of the first record.
    pub first_time: Timestamp,
    /// Time of the last record.
    pub last_time: Timestamp,
    /// The key that signed the log, as `name+hash+key`. Unless it was handed in, it is only
    /// what the log says.
    pub signer: String,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<VerifiedCheckpoint>,
    /// Records after the newest checkpoint. After a clean close there are none.
    pub after_checkpoint: u64,
    /// Records whose content expired.
    pub expired_records: u64,
    /// Calls without an end (at most [`OPEN_CALLS_MAX`](crate::OPEN_CALLS_MAX)), oldest first.
    pub open_calls: Vec<OpenCall>,
    /// Where the writer's clock was set back, at most [`CLOCK_STEPS_MAX`](crate::CLOCK_STEPS_MAX).
    pub clock_steps: Vec<ClockStep>,
    /// How often it was.
    pub clock_steps_total: u64,
}

/// The newest checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedCheckpoint {
    /// How many records it covers.
    pub size: u64,
    /// Root of the tree over them, lower-case hex.
    pub root: String,
    /// When it was signed, by the writer's clock.
    pub time: Timestamp,
    /// The signed note itself.
    pub note: String,
}

/// What was kept outside the log and has to agree with it.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// The key that must have signed the log.
    pub signer: Option<VerifierKey>,
    /// Receipts of records that must be there.
    pub receipts: Vec<Receipt>,
    /// Checkpoints (signed notes) whose tree must be the beginning of this log's.
    pub checkpoints: Vec<String>,
}

/// Verifies a whole log: every byte, the order, the segments, the checkpoints, and that calls are
/// admitted and ended once.
///
/// # Errors
/// [`AuditError::Broken`] names the first bad place and what is wrong with it;
/// [`Reason::TornTail`] is the one kind that opening the log for writing would repair. Also
/// [`AuditError::NoLog`] and [`AuditError::Io`].
pub fn verify(dir: &Path) -> Result<Verified, AuditError> {
    verify_against(dir, &Witness::default())
}

/// Verifies a whole log, and that it holds the very record of a receipt.
///
/// # Errors
/// As [`verify`]; and [`Reason::ReceiptMissing`] if the log ends before that record,
/// [`Reason::ReceiptHead`] or [`Reason::ReceiptLeaf`] if another history stands there.
pub fn verify_with(dir: &Path, receipt: &Receipt) -> Result<Verified, AuditError> {
    let witness = Witness {
        receipts: vec![receipt.clone()],
        ..Witness::default()
    };
    verify_against(dir, &witness)
}

/// Verifies a whole log against what was kept outside of it. A receipt that has a checkpoint counts
/// as that checkpoint, too.
///
/// # Errors
/// As [`verify_with`]; [`Reason::Signer`] if another key signs, [`Reason::CheckpointMissing`] and
/// [`Reason::CheckpointRoot`] if the log is not a continuation of a checkpoint's;
/// [`AuditError::Witness`] if a checkpoint is not the signer's at all.
pub fn verify_against(dir: &Path, witness: &Witness) -> Result<Verified, AuditError> {
    let history = History::signed_by(witness.signer.clone());
    let mut walk = Walk::open(dir, history, None)?;
    if walk.segments() == 0 {
        return Err(AuditError::NoLog {
            dir: dir.to_owned(),
        });
    }
    let mut expected = Expected::of(witness);
    let mut span = None;
    loop {
        match walk.next()? {
            Step::Record(record, _) => {
                let time = record.clear.wall_us;
                let (first_us, ..) = span.unwrap_or((time, time, record.head));
                span = Some((first_us, time, record.head));
                expected.see(&walk, &record)?;
            }
            Step::Checkpoint => {}
            Step::Torn(cut) => {
                return Err(walk.broken(Reason::TornTail { bytes: cut.bytes }));
            }
            Step::End => break,
        }
    }
    expected.end(&walk)?;
    let Some((first_us, last_us, head)) = span else {
        return Err(walk.broken(Reason::NoRecords));
    };
    summary(&walk, (first_us, last_us), head.to_string())
}

/// The key that signs a log's checkpoints, as the log itself says: an auditor gets it elsewhere.
/// Its name is that of the device.
///
/// # Errors
/// As [`verify`], of the log's beginning.
pub fn signer(dir: &Path) -> Result<VerifierKey, AuditError> {
    let mut walk = Walk::open(dir, History::default(), None)?;
    if walk.segments() == 0 {
        return Err(AuditError::NoLog {
            dir: dir.to_owned(),
        });
    }
    let _first = walk.next()?;
    let signer = walk.history().signer().cloned();
    signer.ok_or_else(|| walk.broken(Reason::NoRecords))
}

fn summary(
    walk: &Walk,
    (first_us, last_us): (i64, i64),
    head: String,
) -> Result<Verified, AuditError> {
    let time =
        |wall_us| wall_time(wall_us).map_err(|detail| walk.broken(Reason::RecordBody { detail }));
    let history = walk.history();
    Ok(Verified {
        records: walk.tip().index(),
        segments: u64::from(walk.segments()),
        head,
        root: hex(&walk.tip().tree.root()),
        first_time: time(first_us)?,
        last_time: time(last_us)?,
        signer: history
            .signer()
            .map(ToString::to_string)
            .unwrap_or_default(),
        checkpoint: history.newest.as_ref().map(VerifiedCheckpoint::of),
        after_checkpoint: history.after_checkpoint,
        expired_records: history.expired_records,
        open_calls: history.calls.list(),
        clock_steps: history.clock.steps.clone(),
        clock_steps_total: history.clock.steps_total,
    })
}

impl VerifiedCheckpoint {
    fn of(newest: &NewestCheckpoint) -> Self {
        Self {
            size: newest.checkpoint.size,
            root: hex(&newest.checkpoint.root),
            time: newest.time,
            note: newest.note.clone(),
        }
    }
}

/// What is still to be seen of a witness, the next one last.
struct Expected<'a> {
    receipts: Vec<&'a Receipt>,
    /// Notes whose signer may be known only once the log is open.
    notes: Vec<&'a str>,
    checkpoints: Vec<Checkpoint>,
    is_opened: bool,
}

impl<'a> Expected<'a> {
    fn of(witness: &'a Witness) -> Self {
        let mut receipts: Vec<&Receipt> = witness.receipts.iter().collect();
        receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.index));
        let from_receipts = receipts.iter().map(|receipt| &receipt.checkpoint);
        let from_receipts = from_receipts.filter(|note| !note.is_empty());
        Self {
            notes: witness
                .checkpoints
                .iter()
                .chain(from_receipts)
                .map(String::as_str)
                .collect(),
            receipts,
            checkpoints: Vec::new(),
            is_opened: false,
        }
    }

    fn see(&mut self, walk: &Walk, record: &Record) -> Result<(), AuditError> {
        if !self.is_opened {
            self.open_notes(walk)?;
        }
        while let Some(receipt) = self.receipts.last()
            && receipt.index == record.clear.index
        {
            check_receipt(record, receipt).map_err(|reason| walk.broken_record(record, reason))?;
            self.receipts.pop();
        }
        while let Some(checkpoint) = self.checkpoints.last()
            && checkpoint.size == walk.tip().index()
        {
            check_root(&walk.tip().tree, checkpoint)
                .map_err(|reason| walk.broken_record(record, reason))?;
            self.checkpoints.pop();
        }
        Ok(())
    }

    fn open_notes(&mut self, walk: &Walk) -> Result<(), AuditError> {
        self.is_opened = true;
        let Some(signer) = walk.history().signer() else {
            return Ok(());
        };
        for note in &self.notes {
            let checkpoint = signer.open(note).map_err(|error| AuditError::Witness {
                what: "checkpoint",
                detail: error.to_string(),
            })?;
            // A log without records is the beginning of every log.
            if checkpoint.size > 0 {
                self.checkpoints.push(checkpoint);
            }
        }
        let order = |checkpoint: &Checkpoint| std::cmp::Reverse(checkpoint.size);
        self.checkpoints.sort_by_key(order);
        Ok(())
    }

    /// Whether anything was not seen when the log ended.
    fn end(&self, walk: &Walk) -> Result<(), AuditError> {
        if let Some(receipt) = self.receipts.last() {
            let expected = receipt.index;
            return Err(walk.broken(Reason::ReceiptMissing { expected }));
        }
        if let Some(checkpoint) = self.checkpoints.last() {
            let expected = checkpoint.size;
            return Err(walk.broken(Reason::CheckpointMissing { expected }));
        }
        Ok(())
    }
}

fn check_receipt(record: &Record, receipt: &Receipt) -> Result<(), Reason> {
    let found = record.head.to_string();
    if found != receipt.head {
        let expected = receipt.head.clone();
        return Err(Reason::ReceiptHead { expected, found });
    }
    let found = hex(&record.leaf);
    if !receipt.leaf.is_empty() && found != receipt.leaf {
        let expected = receipt.leaf.clone();
        return Err(Reason::ReceiptLeaf { expected, found });
    }
    Ok(())
}

fn check_root(tree: &Frontier, checkpoint: &Checkpoint) -> Result<(), Reason> {
    let root: Hash = tree.root();
    if root == checkpoint.root {
        return Ok(());
    }
    Err(Reason::CheckpointRoot {
        size: checkpoint.size,
        expected: hex(&checkpoint.root),
        found: hex(&root),
    })
}
