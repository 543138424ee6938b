//! Records as documents of the Elastic Common Schema, version 9.4.0:
//! <https://www.elastic.co/docs/reference/ecs>.
//!
//! Invariant: a field outside `postern` is a field of the schema, with its type and, where it has
//! allowed values, one of them; what the schema has no field for stands under `postern`, as it
//! asks for custom fields. Absent: `gen_ai.response.finish_reasons`, which the schema declares as
//! nested objects although its values are words, so that an index would refuse them.

use serde_json::{Value, json};

use super::remainder::{filled, integer, long, remainder, request};
use super::wording::{detail, sentence};
use super::{Actor, Told, VERSION, microseconds, precise};
use crate::entry::{Admitted, Completed, Entry, Outcome, shortest};
use crate::outcome_kind::{OutcomeKind, codes};
use crate::verdict::{REVIEW_READ, Verdict};

const SCHEMA_VERSION: &str = "9.4.0";
const NANOSECONDS_A_MICROSECOND: u64 = 1000;

/// One document.
pub(super) fn document(told: &Told<'_>) -> Value {
    let record = told.record;
    let identity = match told.actor() {
        Actor::Identity(identity) => Some(identity),
        Actor::Local | Actor::Unknown | Actor::Log => None,
    };
    json!({
        "@timestamp": precise(record),
        "ecs": { "version": SCHEMA_VERSION },
        "message": sentence(told),
        "event": event(told),
        "host": { "name": told.device },
        "service": { "name": "postern", "type": "postern", "version": VERSION },
        "user": identity.map(|name| json!({ "id": name, "name": name })),
        "related": identity.map(|name| json!({ "user": [name] })),
        "http": told.request_id().map(|id| json!({ "request": { "id": id } })),
        "gen_ai": gen_ai(told),
        "error": error(&record.entry),
        "tls": tls(&record.entry),
        "postern": postern(told),
    })
}

fn event(told: &Told<'_>) -> Value {
    let entry = &told.record.entry;
    let classes = Classes::of(entry);
    let kind = OutcomeKind::of(entry);
    let period = match entry {
        Entry::RefusedMore(more) => Some(more),
        _ => None,
    };
    json!({
        "kind": "event",
        "category": classes.categories,
        "type": classes.types,
        "outcome": classes.outcome,
        "action": action(entry, kind),
        "code": codes(entry).first(),
        "reason": detail(entry),
        "id": told.uid(),
        "sequence": long(told.record.index),
        "module": "postern",
        "dataset": "postern.audit",
        "provider": "postern",
        "duration": duration(entry),
        "start": period.map(|more| microseconds(more.since_us)),
        "end": period.map(|more| microseconds(more.until_us)),
    })
}

/// The schema's three words for an event below its kind.
struct Classes {
    categories: &'static [&'static str],
    types: &'static [&'static str],
    outcome: &'static str,
}

impl Classes {
    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Opened { .. } => Self::new(&["process"], &["start"], "success"),
            Entry::Admitted(_) => Self::new(&["api"], &["allowed", "start"], "success"),
            Entry::Refused(_) | Entry::RefusedMore(_) => {
                Self::new(&["api"], &["denied"], "failure")
            }
            Entry::Completed(completed) => Self::of_end(completed),
            Entry::Administered(administered) => match Verdict::of(administered) {
                Some(Verdict::Approved) => Self::new(&["api"], &["admin", "allowed"], "success"),
                Some(Verdict::Rejected) => Self::new(&["api"], &["admin", "denied"], "success"),
                None if administered.action == REVIEW_READ => {
                    Self::new(&["api"], &["access", "admin"], "success")
                }
                None => Self::new(&["configuration"], &["change"], "success"),
            },
            Entry::Interrupted { .. } => Self::new(&["api"], &["end"], "failure"),
            Entry::Expired(_) => Self::new(&["file"], &["deletion"], "success"),
        }
    }

    fn of_end(completed: &Completed) -> Self {
        match completed.outcome {
            Outcome::Completed | Outcome::Length => Self::new(&["api"], &["end"], "success"),
            Outcome::Held { .. } => Self::new(&["api"], &["end"], "unknown"),
            Outcome::Filtered => Self::new(&["api"], &["denied", "end"], "failure"),
            Outcome::Cancelled | Outcome::Deadline | Outcome::Failed { .. } => {
                Self::new(&["api"], &["end"], "failure")
            }
        }
    }

    fn new(
        categories: &'static [&'static str],
        types: &'static [&'static str],
        outcome: &'static str,
    ) -> Self {
        Self {
            categories,
            types,
            outcome,
        }
    }
}

fn action(entry: &Entry, kind: OutcomeKind) -> &str {
    match entry {
        Entry::Administered(administered) => &administered.action,
        _ => kind.as_str(),
    }
}

/// How long a call took, in nanoseconds.
fn duration(entry: &Entry) -> Option<i64> {
    let Entry::Completed(completed) = entry else {
        return None;
    };
    let total_us = completed.timings.total_us;
    total_us
        .checked_mul(NANOSECONDS_A_MICROSECOND)
        .and_then(long)
}

fn gen_ai(told: &Told<'_>) -> Value {
    let Some(names) = told.names else {
        return match &told.record.entry {
            Entry::Completed(completed) => json!({ "usage": usage(completed) }),
            _ => Value::Null,
        };
    };
    let (asked, answered) = match &told.record.entry {
        Entry::Admitted(admitted) => (Some(admitted), None),
        Entry::Completed(completed) => (None, Some(completed)),
        _ => (None, None),
    };
    json!({
        "system": "postern",
        "operation": { "name": "chat" },
        "request": gen_ai_request(&names.model.id, asked),
        "response": answered.map(|completed| json!({
            "id": completed.request_id,
            "model": names.model.id,
        })),
        "usage": answered.map(usage),
    })
}

fn gen_ai_request(model: &str, asked: Option<&Admitted>) -> Value {
    let parameters = asked.map(|admitted| &admitted.parameters);
    json!({
        "model": model,
        "max_tokens": parameters.and_then(|p| integer(p.max_tokens.into())),
        "temperature": parameters.map(|sent| shortest(sent.temperature)),
        // The schema's integer has 32 bits; the whole seed stands under `postern`.
        "seed": parameters.and_then(|p| integer(p.seed)),
    })
}

fn usage(completed: &Completed) -> Value {
    json!({
        "input_tokens": integer(completed.usage.prompt_tokens),
        "output_tokens": integer(completed.usage.completion_tokens),
    })
}

fn error(entry: &Entry) -> Value {
    match entry {
        Entry::Completed(completed) => match &completed.outcome {
            Outcome::Failed { code } => json!({ "code": code }),
            _ => Value::Null,
        },
        _ => Value::Null,
    }
}

/// The certificate of the client, in the schema's upper case.
fn tls(entry: &Entry) -> Value {
    let sha256 = match entry {
        Entry::Admitted(admitted) => &admitted.certificate_sha256,
        Entry::Refused(refused) => &refused.certificate_sha256,
        _ => return Value::Null,
    };
    let sha256 = filled(sha256).map(str::to_uppercase);
    json!({ "client": { "hash": { "sha256": sha256 } } })
}

fn postern(told: &Told<'_>) -> Value {
    let mut fields = remainder(told);
    let Value::Object(members) = &mut fields else {
        return fields;
    };
    match &told.record.entry {
        Entry::Admitted(admitted) => {
            members.insert("request".to_owned(), request(admitted));
        }
        Entry::Completed(completed) => {
            members.insert("output".to_owned(), json!(completed.output));
        }
        _ => {}
    }
    fields
}
