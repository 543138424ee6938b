//! `postern audit verify` and `postern audit show`.

use std::path::Path;

use postern_audit::{AuditError, Entry, Outcome, Receipt, Stored};
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
            "first_time": verified.first_time,
            "last_time": verified.last_time,
            "receipt_index": receipt.map(|receipt| receipt.index),
            "open_calls": verified.open_calls.iter().map(|call| &call.request_id).collect::<Vec<_>>(),
        }));
    }
    let verdict = screen.paint(Tone::Good, verdict(receipt));
    screen.line(format_args!("{}: {verdict}", dir.display()))?;
    screen.line(format_args!("  records     {}", verified.records))?;
    screen.line(format_args!("  segments    {}", verified.segments))?;
    screen.line(format_args!("  first       {}", verified.first_time))?;
    screen.line(format_args!("  last        {}", verified.last_time))?;
    screen.line(format_args!("  head        {}", verified.head))?;
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

/// Prints the records, of one request or all.
pub(crate) fn show(dir: &Path, request: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let mut screen = Screen::new();
    let mut shown = 0_u64;
    for stored in postern_audit::read(dir).map_err(|error| classified(dir, error))? {
        let stored = stored.map_err(|error| classified(dir, error))?;
        if request.is_some_and(|id| request_id(&stored.entry) != Some(id)) {
            continue;
        }
        shown += 1;
        if as_json {
            screen.json_line(&json!({
                "index": stored.index,
                "time": stored.time,
                "segment": stored.segment,
                "head": stored.head,
                "entry": stored.entry,
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
    let tone = match &stored.entry {
        Entry::Refused(_) | Entry::Interrupted { .. } => Tone::Bad,
        Entry::Opened { .. } => Tone::Quiet,
        Entry::Admitted(_) | Entry::Completed(_) | Entry::Administered(_) => Tone::Heading,
    };
    let what = screen.paint(tone, format_args!("{:<11}", name(&stored.entry)));
    let request = request_id(&stored.entry).unwrap_or("");
    screen.line(format_args!("#{index:<5} {time:.3}  {what} {request}"))?;
    for line in details(&stored.entry) {
        screen.line(format_args!("       {line}"))?;
    }
    Ok(())
}

fn name(entry: &Entry) -> &'static str {
    match entry {
        Entry::Opened { .. } => "opened",
        Entry::Admitted(_) => "admitted",
        Entry::Refused(_) => "refused",
        Entry::Completed(_) => "completed",
        Entry::Administered(_) => "administered",
        Entry::Interrupted { .. } => "interrupted",
    }
}

fn request_id(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Opened { .. } | Entry::Administered(_) => None,
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
