//! The numbers and names beside a fixed text.
//!
//! Invariant: names have the form of a name, and nothing is of a caller's content.

use jiff::Timestamp;
use postern_service::{Denial, RefusalKind, RequestFault};
use serde::Serialize;

/// What a program may want to act on; each member is left out where it does not apply.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Facts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    /// Of what the operator wrote, for whoever may administer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review_status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<&'static str>,
    #[serde(flatten)]
    pub(super) limit: Option<LimitFacts>,
}

/// The numbers of a limit that does not allow a call.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LimitFacts {
    account: String,
    pub(super) limit: &'static str,
    allowed: u64,
    used: u64,
    reserved: u64,
    asked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after_s: Option<u64>,
    /// When a day or month ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<Timestamp>,
}

pub(super) fn facts(kind: &RefusalKind) -> Facts {
    match *kind {
        RefusalKind::Denied(ref denial) => denial_facts(denial),
        RefusalKind::Malformed(RequestFault::Json { line, column }) => Facts {
            line: Some(line),
            column: Some(column),
            ..Facts::default()
        },
        RefusalKind::ContextOverflow {
            prompt_tokens,
            max_tokens,
            context_tokens,
        } => Facts {
            prompt_tokens: Some(prompt_tokens),
            max_tokens: Some(max_tokens),
            context_tokens: Some(context_tokens),
            ..Facts::default()
        },
        RefusalKind::DeadlineExceeded { deadline_s } => Facts {
            deadline_s: Some(deadline_s),
            ..Facts::default()
        },
        RefusalKind::RightMissing { right } => Facts {
            right: Some(right.as_str()),
            ..Facts::default()
        },
        RefusalKind::ReloadFailed { ref reason } => Facts {
            reason: Some(reason.clone()),
            ..Facts::default()
        },
        RefusalKind::ReviewClosed { status } => Facts {
            review_status: Some(status.as_str()),
            ..Facts::default()
        },
        RefusalKind::OverLimit {
            ref account,
            shortfall,
        } => Facts {
            limit: Some(LimitFacts {
                account: account.to_string(),
                limit: shortfall.limit.as_str(),
                allowed: shortfall.allowed,
                used: shortfall.used,
                reserved: shortfall.reserved,
                asked: shortfall.asked,
                retry_after_s: shortfall.retry_after_s,
                resets_at: shortfall
                    .resets_unix_s
                    .and_then(|unix_s| Timestamp::from_second(unix_s).ok()),
            }),
            ..Facts::default()
        },
        _ => Facts::default(),
    }
}

fn denial_facts(denial: &Denial) -> Facts {
    let mut facts = Facts {
        field: denial.field(),
        variable: denial.variable().map(str::to_owned),
        ..Facts::default()
    };
    match *denial {
        Denial::VariableOversized {
            bytes, bytes_max, ..
        } => {
            facts.bytes = Some(bytes);
            facts.bytes_max = Some(bytes_max);
        }
        Denial::ParameterOutOfRange {
            minimum, maximum, ..
        } => {
            facts.minimum = Some(minimum);
            facts.maximum = Some(maximum);
        }
        Denial::PromptOversized { bytes_max } => facts.bytes_max = Some(bytes_max),
        _ => {}
    }
    facts
}
