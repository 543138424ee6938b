//! What the schemas of others have no place for, under names of our own.
//!
//! Invariant: no number is greater than a signed integer of 64 bits, or of 32 where the schema has
//! such: a receiver would refuse the line for it. Such a number, which no real call has, is left
//! out, and a seed, which can have any value, is text. Named values are lists and not objects, so
//! that a receiver's index does not grow with their names. Absent: what a schema has a place for.

use serde_json::{Value, json};

use super::{Told, microseconds};
use crate::entry::{
    Admitted, BudgetUse, Completed, Cut, Entry, ModelRef, Parameters, RedactionCount, Timings,
    shortest,
};
use crate::outcome_kind::codes_of_end;
use crate::refused_more::RefusedMore;

/// A number that fits into 64 bits with a sign.
pub(super) fn long(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

/// A number that fits into 32 bits with a sign.
pub(super) fn integer(number: u64) -> Option<i32> {
    i32::try_from(number).ok()
}

/// What was sent with a call.
pub(super) fn request(admitted: &Admitted) -> Value {
    let variables = admitted.variables.iter();
    let variables = variables.map(|(name, value)| json!({ "name": name, "value": value }));
    json!({
        "variables": variables.collect::<Vec<_>>(),
        "parameters": parameters(&admitted.parameters),
    })
}

fn parameters(parameters: &Parameters) -> Value {
    json!({
        "max_tokens": parameters.max_tokens,
        "temperature": shortest(parameters.temperature),
        "seed": parameters.seed.to_string(),
        "stream": parameters.stream,
    })
}

/// What else a record says.
pub(super) fn remainder(told: &Told<'_>) -> Value {
    match &told.record.entry {
        Entry::Opened { version, cut } => json!({
            "log_opened_by": version,
            "cut": cut.as_ref().map(cut_off),
        }),
        Entry::Admitted(admitted) => of_admitted(admitted),
        Entry::Refused(refused) => json!({
            "token_id": refused.token_id,
            "certificate_sha256": filled(&refused.certificate_sha256),
            "template": refused.template.as_ref().map(|id| json!({ "id": id })),
            "subject": refused.subject,
            "rules_sha256": filled(&refused.rules_sha256),
        }),
        Entry::RefusedMore(more) => json!({ "refused_more": refused_more(more) }),
        Entry::Completed(completed) => of_completed(told, completed),
        Entry::Administered(administered) => json!({
            "action": administered.action,
            "subject": administered.subject,
            "rules_sha256": filled(&administered.rules_sha256),
        }),
        Entry::Interrupted { admitted_index, .. } => json!({
            "admitted_index": long(*admitted_index),
            "template": told.names.map(|names| json!(names.template)),
            "model": told.names.map(|names| model(&names.model)),
        }),
        Entry::Expired(expired) => json!({ "expired": expired }),
    }
}

fn of_admitted(admitted: &Admitted) -> Value {
    json!({
        "token_id": admitted.token_id,
        "certificate_sha256": filled(&admitted.certificate_sha256),
        "template": admitted.template,
        "model": model(&admitted.model),
        "policy_sha256": admitted.policy_sha256,
        "rules_sha256": filled(&admitted.rules_sha256),
        "rules": admitted.rules,
        "redactions": redactions(&admitted.redactions),
        "injection_score": admitted.injection_score,
        "budgets": admitted.budgets.iter().map(budget).collect::<Vec<_>>(),
    })
}

fn refused_more(more: &RefusedMore) -> Value {
    let counts = more.counts.iter();
    let counts = counts.map(|one| json!({ "code": one.code, "count": long(one.count) }));
    json!({
        "counts": counts.collect::<Vec<_>>(),
        "since": microseconds(more.since_us),
        "until": microseconds(more.until_us),
    })
}

fn of_completed(told: &Told<'_>, completed: &Completed) -> Value {
    json!({
        "admitted_index": long(completed.admitted_index),
        "token_id": told.names.map(|names| &names.token_id),
        "template": told.names.map(|names| json!(names.template)),
        "model": told.names.map(|names| model(&names.model)),
        "outcome_codes": codes_of_end(&completed.outcome),
        "output_sha256": completed.output_sha256,
        "redactions": redactions(&completed.output_redactions),
        "schema_valid": completed.schema_valid,
        "mean_probability": completed.mean_probability.map(shortest),
        "timings": timings(&completed.timings),
    })
}

fn cut_off(cut: &Cut) -> Value {
    json!({
        "segment": cut.segment,
        "offset": long(cut.offset),
        "bytes": long(cut.bytes),
        "sha256": cut.sha256,
    })
}

fn model(model: &ModelRef) -> Value {
    json!({
        "id": model.id,
        "sha256": model.sha256,
        "tokenizer_sha256": model.tokenizer_sha256,
        "chat_template_sha256": model.chat_template_sha256,
    })
}

fn redactions(redactions: &[RedactionCount]) -> Vec<Value> {
    let shown = redactions.iter().map(|redaction| {
        json!({
            "variable": redaction.variable,
            "rule": redaction.rule,
            "count": long(redaction.count),
        })
    });
    shown.collect()
}

fn budget(budget: &BudgetUse) -> Value {
    json!({
        "account": budget.account,
        "limit": budget.limit,
        "allowed": long(budget.allowed),
        "before": long(budget.before),
        "after": long(budget.after),
    })
}

fn timings(timings: &Timings) -> Value {
    json!({
        "queued_us": long(timings.queued_us),
        "first_token_us": timings.first_token_us.and_then(long),
        "total_us": long(timings.total_us),
    })
}

/// A checksum that stands empty where it is not known.
pub(super) fn filled(digest: &str) -> Option<&str> {
    (!digest.is_empty()).then_some(digest)
}
