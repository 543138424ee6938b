//! Records as API Activity of the Open Cybersecurity Schema Framework, version 1.8.0, with the
//! profiles AI Operation and Security Control: <https://schema.ocsf.io/1.8.0/classes/api_activity>.
//!
//! Invariant: every attribute that the class and its objects require is there, and each number of
//! an enumeration stands beside its caption. Absent: attributes of which a record knows nothing
//! (addresses, HTTP headers); texts of prompts as attributes, which came with version 1.9.

use serde_json::{Value, json};

use super::remainder::{integer, remainder, request};
use super::wording::{detail, sentence};
use super::{Actor, Told, VERSION, precise};
use crate::entry::{Completed, Entry, ModelRef, Outcome};
use crate::outcome_kind::{OutcomeKind, codes};
use crate::verdict::{REVIEW_READ, Verdict};

const SCHEMA_VERSION: &str = "1.8.0";
const CATEGORY: Caption = (6, "Application Activity");
const CLASS: Caption = (6003, "API Activity");
const PROFILES: [&str; 2] = ["ai_operation", "security_control"];
/// Multiplies the class in the number of an event's type.
const TYPE_FACTOR: u32 = 100;
const MICROSECONDS_A_MILLISECOND: i64 = 1000;

/// A value of an enumeration: its number and its caption.
type Caption = (u32, &'static str);

const ACTIVITY_CREATE: Caption = (1, "Create");
const ACTIVITY_READ: Caption = (2, "Read");
const ACTIVITY_UPDATE: Caption = (3, "Update");
const ACTIVITY_DELETE: Caption = (4, "Delete");
const ACTIVITY_OTHER: Caption = (99, "Other");

const SEVERITY_INFORMATIONAL: Caption = (1, "Informational");
const SEVERITY_LOW: Caption = (2, "Low");
const SEVERITY_MEDIUM: Caption = (3, "Medium");

const STATUS_SUCCESS: Caption = (1, "Success");
const STATUS_FAILURE: Caption = (2, "Failure");
/// The one status whose caption is the source's own.
const STATUS_HELD: Caption = (99, "Held");

const ACTION_ALLOWED: Caption = (1, "Allowed");
const ACTION_DENIED: Caption = (2, "Denied");
const ACTION_OBSERVED: Caption = (3, "Observed");

const DISPOSITION_ALLOWED: Caption = (1, "Allowed");
const DISPOSITION_BLOCKED: Caption = (2, "Blocked");
const DISPOSITION_QUARANTINED: Caption = (3, "Quarantined");
const DISPOSITION_APPROVED: Caption = (8, "Approved");
const DISPOSITION_LOGGED: Caption = (17, "Logged");
const DISPOSITION_REJECTED: Caption = (25, "Rejected");
const DISPOSITION_ERROR: Caption = (27, "Error");

const USER_OTHER: Caption = (99, "Client certificate");
const TOKEN_API: Caption = (7, "API Token");
const ENDPOINT_SERVER: Caption = (1, "Server");
const RESOURCE_TARGET: Caption = (1, "Target");
const RESOURCE_AFFECTED: Caption = (3, "Affected");
const ROLE_USER: Caption = (1, "User");
const ROLE_ASSISTANT: Caption = (2, "Assistant");

/// One event.
pub(super) fn api_activity(told: &Told<'_>) -> Value {
    let record = told.record;
    let judged = Judged::of(&record.entry);
    let kind = OutcomeKind::of(&record.entry);
    let more = match &record.entry {
        Entry::RefusedMore(more) => Some(more),
        _ => None,
    };
    json!({
        "category_uid": CATEGORY.0,
        "category_name": CATEGORY.1,
        "class_uid": CLASS.0,
        "class_name": CLASS.1,
        "activity_id": judged.activity.0,
        "activity_name": judged.activity.1,
        "type_uid": CLASS.0 * TYPE_FACTOR + judged.activity.0,
        "type_name": format!("{}: {}", CLASS.1, judged.activity.1),
        "severity_id": judged.severity.0,
        "severity": judged.severity.1,
        "time": record.time.as_millisecond(),
        "count": more.and_then(|more| integer(more.total())),
        "start_time": more.map(|more| more.since_us.div_euclid(MICROSECONDS_A_MILLISECOND)),
        "end_time": more.map(|more| more.until_us.div_euclid(MICROSECONDS_A_MILLISECOND)),
        "status_id": judged.status.0,
        "status": judged.status.1,
        "status_code": codes(&record.entry).first().copied().unwrap_or(kind.as_str()),
        "status_detail": detail(&record.entry),
        "action_id": judged.action.0,
        "action": judged.action.1,
        "disposition_id": judged.disposition.0,
        "disposition": judged.disposition.1,
        "message": sentence(told),
        "metadata": metadata(told, kind),
        "actor": actor(told),
        "api": api(told, kind),
        "src_endpoint": source(told),
        "dst_endpoint": {
            "name": told.device,
            "svc_name": "postern",
            "type_id": ENDPOINT_SERVER.0,
            "type": ENDPOINT_SERVER.1,
        },
        "resources": resources(told),
        "authorizations": authorizations(&record.entry),
        "policy": policy(&record.entry),
        "ai_model": told.names.map(|names| ai_model(&names.model)),
        "message_context": message_context(told),
        "unmapped": remainder(told),
    })
}

/// What a security control would say of a record.
struct Judged {
    activity: Caption,
    severity: Caption,
    status: Caption,
    action: Caption,
    disposition: Caption,
}

impl Judged {
    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Opened { cut, .. } => Self {
                activity: ACTIVITY_OTHER,
                severity: match cut {
                    Some(_) => SEVERITY_MEDIUM,
                    None => SEVERITY_INFORMATIONAL,
                },
                status: STATUS_SUCCESS,
                action: ACTION_OBSERVED,
                disposition: DISPOSITION_LOGGED,
            },
            Entry::Admitted(_) => Self::call(STATUS_SUCCESS, SEVERITY_INFORMATIONAL),
            Entry::Refused(_) => Self {
                action: ACTION_DENIED,
                disposition: DISPOSITION_BLOCKED,
                ..Self::call(STATUS_FAILURE, SEVERITY_LOW)
            },
            Entry::RefusedMore(_) => Self {
                action: ACTION_DENIED,
                disposition: DISPOSITION_BLOCKED,
                ..Self::call(STATUS_FAILURE, SEVERITY_MEDIUM)
            },
            Entry::Completed(completed) => Self::of_end(completed),
            Entry::Administered(administered) => {
                let (action, disposition) = match Verdict::of(administered) {
                    Some(Verdict::Approved) => (ACTION_ALLOWED, DISPOSITION_APPROVED),
                    Some(Verdict::Rejected) => (ACTION_DENIED, DISPOSITION_REJECTED),
                    None => (ACTION_ALLOWED, DISPOSITION_ALLOWED),
                };
                let activity = match &*administered.action {
                    REVIEW_READ => ACTIVITY_READ,
                    _ => ACTIVITY_UPDATE,
                };
                Self {
                    activity,
                    action,
                    disposition,
                    ..Self::call(STATUS_SUCCESS, SEVERITY_INFORMATIONAL)
                }
            }
            Entry::Interrupted { .. } => Self {
                disposition: DISPOSITION_ERROR,
                ..Self::call(STATUS_FAILURE, SEVERITY_LOW)
            },
            Entry::Expired(_) => Self {
                activity: ACTIVITY_DELETE,
                action: ACTION_OBSERVED,
                disposition: DISPOSITION_LOGGED,
                ..Self::call(STATUS_SUCCESS, SEVERITY_INFORMATIONAL)
            },
        }
    }

    fn of_end(completed: &Completed) -> Self {
        match completed.outcome {
            Outcome::Completed | Outcome::Length => {
                Self::call(STATUS_SUCCESS, SEVERITY_INFORMATIONAL)
            }
            Outcome::Cancelled | Outcome::Deadline => {
                Self::call(STATUS_FAILURE, SEVERITY_INFORMATIONAL)
            }
            Outcome::Filtered => Self {
                action: ACTION_DENIED,
                disposition: DISPOSITION_BLOCKED,
                ..Self::call(STATUS_FAILURE, SEVERITY_MEDIUM)
            },
            Outcome::Held { .. } => Self {
                action: ACTION_DENIED,
                disposition: DISPOSITION_QUARANTINED,
                ..Self::call(STATUS_HELD, SEVERITY_MEDIUM)
            },
            Outcome::Failed { .. } => Self {
                disposition: DISPOSITION_ERROR,
                ..Self::call(STATUS_FAILURE, SEVERITY_LOW)
            },
        }
    }

    /// A call that was allowed: it creates an answer.
    fn call(status: Caption, severity: Caption) -> Self {
        Self {
            activity: ACTIVITY_CREATE,
            severity,
            status,
            action: ACTION_ALLOWED,
            disposition: DISPOSITION_ALLOWED,
        }
    }
}

fn metadata(told: &Told<'_>, kind: OutcomeKind) -> Value {
    json!({
        "version": SCHEMA_VERSION,
        "profiles": PROFILES,
        "product": { "name": "Postern", "vendor_name": "Postern", "version": VERSION },
        "log_name": "audit",
        "log_provider": "postern",
        "uid": told.uid(),
        "original_event_uid": told.record.index.to_string(),
        "original_time": precise(told.record),
        "sequence": integer(told.record.index),
        "event_code": kind.as_str(),
        "correlation_uid": told.request_id(),
    })
}

/// A name that nobody chose stands as the application, so that it is never taken for an identity.
fn actor(told: &Told<'_>) -> Value {
    match told.actor() {
        Actor::Identity(identity) => json!({ "user": {
            "uid": identity,
            "name": identity,
            "type_id": USER_OTHER.0,
            "type": USER_OTHER.1,
        } }),
        Actor::Local => json!({ "app_name": "postern, run at the device" }),
        Actor::Unknown => json!({ "app_name": "unknown client" }),
        Actor::Log => json!({ "app_name": "postern" }),
    }
}

fn source(told: &Told<'_>) -> Value {
    match told.actor() {
        Actor::Identity(identity) => json!({ "name": identity }),
        Actor::Local | Actor::Log => json!({ "name": told.device }),
        Actor::Unknown => json!({ "name": "unknown client" }),
    }
}

fn api(told: &Told<'_>, kind: OutcomeKind) -> Value {
    let operation = match &told.record.entry {
        Entry::Opened { .. } => "open-log",
        Entry::Expired(_) => "expire-content",
        Entry::RefusedMore(_) => "authenticate",
        Entry::Administered(administered) => &administered.action,
        _ => "generate",
    };
    let data = match &told.record.entry {
        Entry::Admitted(admitted) => Some(request(admitted)),
        _ => None,
    };
    json!({
        "operation": operation,
        "service": { "name": "postern", "version": VERSION },
        "request": told.request_id().map(|id| json!({ "uid": id, "data": data })),
        "response": response(&told.record.entry, kind),
        "token": told.token_id().map(|id| json!({
            "uid": id,
            "type_id": TOKEN_API.0,
            "type": TOKEN_API.1,
        })),
    })
}

fn response(entry: &Entry, kind: OutcomeKind) -> Value {
    match entry {
        Entry::Refused(refused) => json!({
            "error": refused.code,
            "error_message": refused.detail,
            "message": kind.as_str(),
        }),
        Entry::Completed(completed) => json!({
            "error": match &completed.outcome {
                Outcome::Failed { code } => Some(code),
                _ => None,
            },
            "message": kind.as_str(),
            "data": { "output": completed.output, "output_sha256": completed.output_sha256 },
        }),
        _ => Value::Null,
    }
}

fn resources(told: &Told<'_>) -> Vec<Value> {
    let template = |name: &str, sha256: Option<&String>| {
        json!({
            "name": name,
            "uid": sha256,
            "type": "prompt template",
            "role_id": RESOURCE_TARGET.0,
            "role": RESOURCE_TARGET.1,
        })
    };
    let held = |id: &String| {
        json!({
            "name": id,
            "type": "held output",
            "role_id": RESOURCE_TARGET.0,
            "role": RESOURCE_TARGET.1,
        })
    };
    match (&told.record.entry, told.names) {
        (Entry::Refused(refused), _) => {
            let templates = refused.template.iter().map(|name| template(name, None));
            templates.chain(refused.subject.iter().map(held)).collect()
        }
        (Entry::Administered(administered), _) => vec![json!({
            "name": administered.subject,
            "type": "subject of an administrative action",
            "role_id": RESOURCE_AFFECTED.0,
            "role": RESOURCE_AFFECTED.1,
        })],
        (Entry::Expired(expired), _) => vec![json!({
            "name": format!("{} of segment {}", expired.class, expired.segment),
            "type": "content of the audit log",
            "role_id": RESOURCE_AFFECTED.0,
            "role": RESOURCE_AFFECTED.1,
        })],
        (_, Some(names)) => vec![template(&names.template.id, Some(&names.template.sha256))],
        (_, None) => Vec::new(),
    }
}

fn authorizations(entry: &Entry) -> Vec<Value> {
    let Entry::Admitted(admitted) = entry else {
        return Vec::new();
    };
    let rules = admitted.rules.iter();
    let decisions = rules.map(|rule| json!({ "decision": "Allowed", "policy": { "uid": rule } }));
    decisions.collect()
}

fn policy(entry: &Entry) -> Value {
    match entry {
        Entry::Admitted(admitted) => json!({
            "name": "policy",
            "uid": admitted.policy_sha256,
            "is_applied": true,
        }),
        _ => Value::Null,
    }
}

fn ai_model(model: &ModelRef) -> Value {
    json!({ "ai_provider": "Internal", "name": model.id, "uid": model.sha256 })
}

fn message_context(told: &Told<'_>) -> Value {
    let service = json!({ "name": "postern", "version": VERSION });
    match &told.record.entry {
        Entry::Admitted(admitted) => json!({
            "uid": admitted.request_id,
            "ai_role_id": ROLE_USER.0,
            "ai_role": ROLE_USER.1,
            "service": service,
        }),
        Entry::Completed(completed) => {
            let usage = completed.usage;
            let total = usage.prompt_tokens.checked_add(usage.completion_tokens);
            json!({
                "uid": completed.request_id,
                "ai_role_id": ROLE_ASSISTANT.0,
                "ai_role": ROLE_ASSISTANT.1,
                "service": service,
                "prompt_tokens": integer(usage.prompt_tokens),
                "completion_tokens": integer(usage.completion_tokens),
                "total_tokens": total.and_then(integer),
            })
        }
        _ => Value::Null,
    }
}
