//! What a person is told of a record.
//!
//! Invariant: what callers and models wrote is shown escaped, one line each, so that a terminal
//! obeys nothing of it. Absent: all that `--json` has and nobody reads.

use jiff::Timestamp;
use postern_audit::{Admitted, Completed, Entry, Outcome, RefusedMore};

/// The request that a record is about.
pub(super) fn request_id(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Opened { .. }
        | Entry::RefusedMore(_)
        | Entry::Administered(_)
        | Entry::Expired(_) => None,
        Entry::Admitted(admitted) => Some(&admitted.request_id),
        Entry::Refused(refused) => Some(&refused.request_id),
        Entry::Completed(completed) => Some(&completed.request_id),
        Entry::Interrupted { request_id, .. } => Some(request_id),
    }
}

/// What a person wants to know of a record; `--json` has all of it.
pub(super) fn details(entry: &Entry) -> Vec<String> {
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
        Entry::Admitted(admitted) => of_admitted(admitted),
        Entry::Refused(refused) => {
            let who = refused.identity.as_deref().unwrap_or("-");
            let about = refused.template.as_deref().or(refused.subject.as_deref());
            let about = about.unwrap_or("-");
            vec![
                format!(
                    "{} -> {}: {}",
                    who.escape_debug(),
                    about.escape_debug(),
                    refused.code
                ),
                refused.detail.escape_debug().to_string(),
            ]
        }
        Entry::RefusedMore(more) => of_refused_more(more),
        Entry::Completed(completed) => of_completed(completed),
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
        Entry::Expired(expired) => {
            let (class, segment, reason) = (expired.class, expired.segment, &expired.reason);
            vec![format!(
                "content of class {class} in segment {segment} destroyed: {reason}"
            )]
        }
    }
}

fn of_admitted(admitted: &Admitted) -> Vec<String> {
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

fn of_completed(completed: &Completed) -> Vec<String> {
    let (usage, outcome) = (&completed.usage, outcome(&completed.outcome));
    let (read, made) = (usage.prompt_tokens, usage.completion_tokens);
    let sha256 = short(&completed.output_sha256);
    let mut lines = vec![format!(
        "{outcome}, {read} tokens in, {made} out, output sha256 {sha256}"
    )];
    lines.extend(completed.output.iter().map(|text| {
        let what = match completed.keeps_whole_output() {
            true => "output",
            false => "beginning of the output",
        };
        format!("{what}: {}", text.escape_debug())
    }));
    lines
}

fn of_refused_more(more: &RefusedMore) -> Vec<String> {
    let since = Timestamp::from_microsecond(more.since_us).unwrap_or_default();
    let until = Timestamp::from_microsecond(more.until_us).unwrap_or_default();
    let mut lines = vec![format!(
        "{} more from {since:.3} to {until:.3}, not recorded one by one",
        more.total()
    )];
    let counts = more.counts.iter();
    lines.extend(counts.map(|one| format!("{}: {}", one.code.escape_debug(), one.count)));
    lines
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
