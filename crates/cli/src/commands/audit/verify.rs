//! `postern audit verify`: a verdict on a whole log, and what it rests on.

use postern_audit::{
    ClockStep, Receipt, Verified, VerifiedCheckpoint, VerifierKey, Witness, verify_against,
};
use serde_json::{Value, json};

use super::{classified, inputs};
use crate::arguments::audit::VerifyArguments;
use crate::terminal::{Screen, Tone};

const MICROSECONDS_A_SECOND: f64 = 1e6;

/// Verifies a log; one that is broken, or lacks what a witness shows, is an error.
pub(super) fn run(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let witness = witness(arguments)?;
    let verified = verify_against(dir, &witness).map_err(|error| classified(dir, error))?;
    let witnessed = Witnessed::of(&witness, &verified)?;
    let mut screen = Screen::new();
    if arguments.json {
        return screen.json(&as_json(&verified, &witness, &witnessed));
    }
    let verdict = screen.paint(Tone::Good, witnessed.verdict());
    screen.line(format_args!("{}: {verdict}", dir.display()))?;
    for (label, text) in facts(&verified, &witness, &witnessed) {
        screen.line(format_args!("  {label:<10}  {text}"))?;
    }
    Ok(())
}

/// What a verification without a fault has shown, and no more: records that were cut off the end
/// leave a log that looks as good, unless a receipt names one of them.
pub(crate) fn verdict(receipt: Option<&Receipt>) -> String {
    match receipt {
        None => "the records found are signed and unaltered".into(),
        Some(receipt) => format!(
            "whole and unaltered up to #{}, the record of the receipt",
            receipt.index
        ),
    }
}

fn witness(arguments: &VerifyArguments) -> anyhow::Result<Witness> {
    let receipts = arguments.receipts.iter().map(inputs::receipt);
    let checkpoints = arguments.checkpoints.iter();
    let checkpoints = checkpoints.map(|path| inputs::checkpoint(path));
    let checkpoints: Vec<String> = checkpoints.collect::<anyhow::Result<_>>()?;
    Ok(Witness {
        receipts: receipts.collect::<anyhow::Result<_>>()?,
        ..inputs::witness(arguments.pubkey.as_deref(), &checkpoints)?
    })
}

/// How far what was kept elsewhere shows the log to be whole.
struct Witnessed<'a> {
    /// The last record of which a receipt was given.
    receipt: Option<&'a Receipt>,
    /// Records that the largest of the given checkpoints covers, those of receipts included.
    checkpoint_records: u64,
}

impl<'a> Witnessed<'a> {
    fn of(witness: &'a Witness, verified: &Verified) -> anyhow::Result<Self> {
        let signer = VerifierKey::parse(&verified.signer)?;
        let of_receipts = witness.receipts.iter().map(|receipt| &receipt.checkpoint);
        let of_receipts = of_receipts.filter(|note| !note.is_empty());
        let mut checkpoint_records = 0;
        for note in witness.checkpoints.iter().chain(of_receipts) {
            checkpoint_records = checkpoint_records.max(signer.open(note)?.size);
        }
        Ok(Self {
            receipt: witness.receipts.iter().max_by_key(|receipt| receipt.index),
            checkpoint_records,
        })
    }

    /// Records that are known to be all that there were up to them.
    fn records(&self) -> u64 {
        let of_receipt = self.receipt.map_or(0, |receipt| receipt.index + 1);
        of_receipt.max(self.checkpoint_records)
    }

    fn verdict(&self) -> String {
        let of_receipt = self.receipt.map_or(0, |receipt| receipt.index + 1);
        if self.checkpoint_records > of_receipt {
            let last = self.checkpoint_records - 1;
            return format!("whole and unaltered up to #{last}, the last record of a checkpoint");
        }
        verdict(self.receipt)
    }
}

/// What a person is told, each with its label.
fn facts(
    verified: &Verified,
    witness: &Witness,
    witnessed: &Witnessed<'_>,
) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("records", verified.records.to_string()),
        ("segments", verified.segments.to_string()),
        ("first", verified.first_time.to_string()),
        ("last", verified.last_time.to_string()),
        ("head", verified.head.clone()),
        ("signer", signer(verified, witness)),
        ("checkpoint", checkpoint(verified)),
    ];
    if verified.expired_records > 0 {
        let expired = verified.expired_records;
        facts.push((
            "expired",
            format!("the content of {expired} records was destroyed, as records of it say"),
        ));
    }
    if let Some(first) = verified.clock_steps.first() {
        facts.push(("clock", clock(first, verified.clock_steps_total)));
    }
    if witnessed.records() == 0 {
        let unknown =
            "unknown: only --receipt or --checkpoint shows whether the newest records are missing";
        facts.push(("end", unknown.to_owned()));
    }
    if !verified.open_calls.is_empty() {
        let open = verified.open_calls.len();
        facts.push((
            "open calls",
            format!("{open} (running now, or cut by a crash)"),
        ));
    }
    facts
}

fn signer(verified: &Verified, witness: &Witness) -> String {
    let basis = match witness.signer {
        Some(_) => "as --pubkey says",
        None => "only the log says so: compare it, or give --pubkey",
    };
    format!("{} ({basis})", verified.signer)
}

fn checkpoint(verified: &Verified) -> String {
    let Some(VerifiedCheckpoint { size, time, .. }) = &verified.checkpoint else {
        return "none: the log was not closed in order".to_owned();
    };
    let after = match verified.after_checkpoint {
        0 => "none after it".to_owned(),
        after => {
            format!("{after} after it (still being written, or not closed in order)")
        }
    };
    format!("over {size} records, of {time}; {after}")
}

fn clock(first: &ClockStep, total: u64) -> String {
    let back_s = first.back_us as f64 / MICROSECONDS_A_SECOND;
    let times = match total {
        1 => "once".to_owned(),
        total => format!("{total} times"),
    };
    format!(
        "set back {times}, first before #{} in segment {}, by {back_s:.3} s",
        first.index, first.segment
    )
}

fn as_json(verified: &Verified, witness: &Witness, witnessed: &Witnessed<'_>) -> Value {
    let open_calls = verified.open_calls.iter().map(|call| {
        json!({
            "admitted_index": call.admitted_index,
            "request_id": call.request_id,
        })
    });
    let clock_steps = verified.clock_steps.iter().map(|step| {
        json!({
            "segment": step.segment,
            "offset": step.offset,
            "index": step.index,
            "back_us": step.back_us,
        })
    });
    json!({
        "verified": true,
        "records": verified.records,
        "segments": verified.segments,
        "head": verified.head,
        "root": verified.root,
        "first_time": verified.first_time,
        "last_time": verified.last_time,
        "signer": verified.signer,
        "signer_given": witness.signer.is_some(),
        "checkpoint": verified.checkpoint,
        "records_after_checkpoint": verified.after_checkpoint,
        "expired_records": verified.expired_records,
        "receipt_index": witnessed.receipt.map(|receipt| receipt.index),
        "witnessed_records": witnessed.records(),
        "open_calls": open_calls.collect::<Vec<_>>(),
        "clock_steps": clock_steps.collect::<Vec<_>>(),
        "clock_steps_total": verified.clock_steps_total,
    })
}
