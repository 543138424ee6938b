//! `postern audit verify` and `postern audit show`.

use std::path::Path;

use postern_audit::{AuditError, Content, Entry, EntryType, Identities, Outcome, Receipt, Stored};
use serde_json::json;

use crate::error::CommandError;
use crate::terminal::{Screen, Tone};

/// Verifies a log; one that is broken, or lacks the record of the receipt, is an error.
pub(crate) fn verify(dir: &Path, receipt: Option<&Receipt>, as_json: bool) -> anyhow::Result<()> {
    let verified = match receipt {
        Some(receipt) => postern_audit::verify_with(dir, receipt),
        None => postern_audit::verify(dir),
    }
    .map_err(|error| classified(dir, error))?;
    let mut screen = Screen::new();
    if as_json {
        return screen.json(&json!({
            "verified": true,
            "records": verified.records,
            "segments": verified.segments,
            "head": verified.head,
            "root": verified.root,
            "signer": verified.signer,
            "checkpoint": verified.checkpoint,
            "after_checkpoint": verified.after_checkpoint,
            "expired_records": verified.expired_records,
            "first_time": verified.first_time,
            "last_time": verified.last_time,
            "receipt_index": receipt.map(|receipt| receipt.index),
            "open_calls": verified.open_calls.iter().map(|call| call.admitted_index).collect::<Vec<_>>(),
        }));
    }
    let verdict = screen.paint(Tone::Good, verdict(receipt));
    screen.line(format_args!("{}: {verdict}", dir.display()))?;
    screen.line(format_args!("  records     {}", verified.records))?;
    screen.line(format_args!("  segments    {}", verified.segments))?;
    screen.line(format_args!("  first       {}", verified.first_time))?;
    screen.line(format_args!("  last        {}", verified.last_time))?;
    screen.line(format_args!("  head        {}", verified.head))?;
    screen.line(format_args!("  signer      {}", verified.signer))?;
    if let Some(checkpoint) = &verified.checkpoint {
        screen.line(format_args!(
            "  checkpoint  {} records, {}; {} records after it",
            checkpoint.size, checkpoint.time, verified.after_checkpoint
        ))?;
    }
    if verified.expired_records > 0 {
        screen.line(format_args!(
            "  expired     the content of {} records",
            verified.expired_records
        ))?;
    }
    for step in &verified.clock_steps {
        screen.line(format_args!(
            "  clock       set back by {} ms or more before #{}",
            step.back_us / 1000,
            step.index
        ))?;
    }
    if receipt.is_none() {
        screen.line(format_args!(
            "  end         unknown: only --receipt shows whether the newest records are missing"
        ))?;
    }
    if !verified.open_calls.is_empty() {
        let open = verified.open_calls.len();
        screen.line(format_args!(
            "  open calls  {open} (running now, or cut by a crash)"
        ))?;
    }
    Ok(())
}

/// What a verification without a fault has shown, and no more: records that were cut off the end
/// leave a log that looks as good, unless a receipt names one of them.
pub(crate) fn verdict(receipt: Option<&Receipt>) -> String {
    match receipt {
        None => "the records found are chained and unaltered".into(),
        Some(receipt) => format!(
            "whole and unaltered up to #{}, the record of the receipt",
            receipt.index
        ),
    }
}

/// Prints the records, of one request or all. What is sealed can be read with the identities of a file.
pub(crate) fn show(
    dir: &Path,
    request: Option<&str>,
    identity_file: Option<&Path>,
    as_json: bool,
) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let mut shown = 0_u64;
    let reader = match identity_file {
        Some(file) => postern_audit::read_with(dir, Identities::read(file)?),
        None => postern_audit::read(dir),
    };
    for stored in reader.map_err(|error| classified(dir, error))? {
        let stored = stored.map_err(|error| classified(dir, error))?;
        if request.is_some_and(|id| stored.entry().and_then(request_id) != Some(id)) {
            continue;
        }
        shown += 1;
        if as_json {
            screen.json_line(&json!({
                "index": stored.index,
                "time": stored.time,
                "segment": stored.segment,
                "head": stored.head,
                "leaf": stored.leaf,
                "type": stored.entry_type.name(),
                "entry": stored.entry(),
            }))?;
        } else {
            show_record(&mut screen, &stored)?;
        }
    }
    if let (0, Some(id)) = (shown, request) {
        anyhow::bail!("the log in {} has no record of request {id}", dir.display());
    }
    Ok(())
}

fn show_record(screen: &mut Screen, stored: &Stored) -> Result<(), CommandError> {
    let (index, time) = (stored.index, stored.time);
    let tone = match stored.entry_type {
        EntryType::Refused | EntryType::Interrupted => Tone::Bad,
        EntryType::Opened | EntryType::Expired => Tone::Quiet,
        EntryType::Admitted | EntryType::Completed | EntryType::Administered => Tone::Heading,
    };
    let what = screen.paint(tone, format_args!("{:<12}", stored.entry_type.name()));
    let request = stored.entry().and_then(request_id).unwrap_or("");
    screen.line(format_args!("#{index:<5} {time:.3}  {what} {request}"))?;
    let lines = match &stored.content {
        Content::Entry(entry) => details(entry),
        Content::Sealed => vec!["sealed; an auditor's --identity-file opens it".to_owned()],
        Content::Expired => vec!["its content has expired".to_owned()],
    };
    for line in lines {
        screen.line(format_args!("       {line}"))?;
    }
    Ok(())
}

fn request_id(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Opened { .. } | Entry::Administered(_) | Entry::Expired(_) => None,
        Entry::Admitted(admitted) => Some(&admitted.request_id),
        Entry::Refused(refused) => Some(&refused.request_id),
        Entry::Completed(completed) => Some(&completed.request_id),
        Entry::Interrupted { request_id, .. } => Some(request_id),
    }
}

/// What a person wants to know of a record; `--json` has all of it.
fn details(entry: &Entry) -> Vec<String> {
    match entry {
        Entry::Opened { version, cut } => {
            let mut lines = vec![format!("postern {version}")];
            if let Some(cut) = cut {
                lines.push(format!(
                    "{} torn bytes were cut from segment {}",
                    cut.bytes, cut.segment
                ));
            }
            lines
        }
        Entry::Admitted(admitted) => {
            let (who, template, model) = (&admitted.identity, &admitted.template, &admitted.model);
            let mut lines = vec![format!(
                "{who} -> {} ({}), model {} ({})",
                template.id,
                short(&template.sha256),
                model.id,
                short(&model.sha256)
            )];
            lines.extend(admitted.variables.iter().map(|(name, value)| {
                // One line a variable, and nothing that a terminal would obey.
                format!("{name}: {}", value.escape_debug())
            }));
            lines.extend(admitted.budgets.iter().map(|budget| {
                format!(
                    "budget of {}, {}: {} of {} before, {} with this call",
                    budget.account, budget.limit, budget.before, budget.allowed, budget.after
                )
            }));
            lines.extend(admitted.redactions.iter().map(|redaction| {
                format!(
                    "redacted in {}: {} x{}",
                    redaction.variable, redaction.rule, redaction.count
                )
            }));
            lines
        }
        Entry::Refused(refused) => {
            let who = refused.identity.as_deref().unwrap_or("-");
            let template = refused.template.as_deref().unwrap_or("-");
            vec![
                format!(
                    "{} -> {}: {}",
                    who.escape_debug(),
                    template.escape_debug(),
                    refused.code
                ),
                refused.detail.escape_debug().to_string(),
            ]
        }
        Entry::Completed(completed) => {
            let (usage, outcome) = (&completed.usage, outcome(&completed.outcome));
            let (read, made) = (usage.prompt_tokens, usage.completion_tokens);
            let output = short(&completed.output_sha256);
            vec![format!(
                "{outcome}, {read} tokens in, {made} out, output sha256 {output}"
            )]
        }
        Entry::Administered(administered) => {
            let who = administered.identity.as_deref().unwrap_or("at the device");
            let (action, subject) = (&administered.action, &administered.subject);
            vec![
                format!("{who}: {action} {subject}"),
                administered.detail.escape_debug().to_string(),
            ]
        }
        Entry::Expired(expired) => vec![format!(
            "content of {} in segment {}: {}",
            expired.class.name(),
            expired.segment,
            expired.reason
        )],
        Entry::Interrupted { admitted_index, .. } => {
            vec![format!("admitted as #{admitted_index}, never ended")]
        }
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed => "ended by the model".into(),
        Outcome::Length => "cut at max_tokens".into(),
        Outcome::Cancelled => "cancelled".into(),
        Outcome::Deadline => "cut at the deadline".into(),
        Outcome::Filtered => "ended by the output filter".into(),
        Outcome::Held { reasons } => format!("held for review: {}", reasons.join(", ")),
        Outcome::Failed { code } => format!("failed: {code}"),
    }
}

/// Enough of a digest to recognize it.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// A log that cannot be read is a failure; one that can be read and is wrong has its own code.
fn classified(dir: &Path, error: AuditError) -> anyhow::Error {
    match error {
        AuditError::Broken { .. } => CommandError::AuditBroken {
            message: error.to_string(),
        }
        .into(),
        _ => anyhow::Error::new(error).context(format!("audit log {}", dir.display())),
    }
}
