//! What became of a request, in one word: what queries choose by and what reports count.
//!
//! Invariant: every entry has exactly one kind, and the names are those that records use. Absent:
//! the codes themselves, which belong to whoever writes the records.

use std::fmt;
use std::str::FromStr;

use crate::entry::{Entry, Outcome};
use crate::error::AuditError;
use crate::whole_calls::Call;

/// What a record, or a call as a whole, says happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// The log was opened by a daemon.
    Opened,
    /// A call was admitted, whatever became of it.
    Admitted,
    /// A call was admitted and has no end yet.
    Open,
    /// A call was refused before it was admitted.
    Refused,
    /// More was refused than had records of its own.
    RefusedMore,
    /// The model ended its answer.
    Completed,
    /// The answer reached its greatest length.
    Length,
    /// The caller went away or withdrew the call.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// The output filter ended the answer.
    Filtered,
    /// The answer was kept until somebody has looked at it.
    Held,
    /// Something failed.
    Failed,
    /// The call had no end when the log was opened again.
    Interrupted,
    /// A person changed something that decides about calls.
    Administered,
    /// Content was destroyed, since it is kept no longer.
    Expired,
}

impl OutcomeKind {
    /// All kinds, in the order in which people are told of them.
    pub const ALL: [Self; 15] = [
        Self::Opened,
        Self::Admitted,
        Self::Open,
        Self::Refused,
        Self::RefusedMore,
        Self::Completed,
        Self::Length,
        Self::Cancelled,
        Self::Deadline,
        Self::Filtered,
        Self::Held,
        Self::Failed,
        Self::Interrupted,
        Self::Administered,
        Self::Expired,
    ];

    /// What one record says. Never [`OutcomeKind::Open`], which only a whole call can be.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Opened { .. } => Self::Opened,
            Entry::Admitted(_) => Self::Admitted,
            Entry::Refused(_) => Self::Refused,
            Entry::RefusedMore(_) => Self::RefusedMore,
            Entry::Completed(completed) => Self::of_end(&completed.outcome),
            Entry::Administered(_) => Self::Administered,
            Entry::Interrupted { .. } => Self::Interrupted,
            Entry::Expired(_) => Self::Expired,
        }
    }

    pub(crate) fn of_end(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Length => Self::Length,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Deadline => Self::Deadline,
            Outcome::Filtered => Self::Filtered,
            Outcome::Held { .. } => Self::Held,
            Outcome::Failed { .. } => Self::Failed,
        }
    }

    /// The kind in kebab-case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Admitted => "admitted",
            Self::Open => "open",
            Self::Refused => "refused",
            Self::RefusedMore => "refused-more",
            Self::Completed => "completed",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
            Self::Filtered => "filtered",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Administered => "administered",
            Self::Expired => "expired",
        }
    }

    /// Whether records of this kind also say why, as a code.
    fn has_codes(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::RefusedMore
                | Self::Held
                | Self::Failed
                | Self::Administered
                | Self::Expired
        )
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The codes in which a record says why: one of a refusal, a failure, an administrative action or
/// an expiry, any number of a held answer and of counted refusals, none of anything else.
pub(crate) fn codes(entry: &Entry) -> Vec<&str> {
    match entry {
        Entry::Refused(refused) => vec![&refused.code],
        Entry::RefusedMore(more) => more.counts.iter().map(|one| &*one.code).collect(),
        Entry::Administered(administered) => vec![&administered.action],
        Entry::Expired(expired) => vec![&expired.reason],
        Entry::Completed(completed) => {
            let codes = codes_of_end(&completed.outcome).iter();
            codes.map(String::as_str).collect()
        }
        Entry::Opened { .. } | Entry::Admitted(_) | Entry::Interrupted { .. } => Vec::new(),
    }
}

/// The same of how a call ended.
pub(crate) fn codes_of_end(outcome: &Outcome) -> &[String] {
    match outcome {
        Outcome::Failed { code } => std::slice::from_ref(code),
        Outcome::Held { reasons } => reasons,
        Outcome::Completed
        | Outcome::Length
        | Outcome::Cancelled
        | Outcome::Deadline
        | Outcome::Filtered => &[],
    }
}

/// A kind of outcome to look for, with or without a code, as `refused` or `refused:token-expired`. What was refused and
/// only counted is found as `refused`, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomePattern {
    kind: OutcomeKind,
    code: Option<String>,
}

impl OutcomePattern {
    /// Whether an entry of this kind is what is looked for.
    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let kind = OutcomeKind::of(entry);
        let counted = (OutcomeKind::Refused, OutcomeKind::RefusedMore);
        (self.kind == kind || (self.kind, kind) == counted) && self.allows(codes(entry))
    }

    /// Whether a call as a whole is what is looked for. Every call was admitted.
    pub(crate) fn matches_call(&self, call: &Call) -> bool {
        let codes = call.codes().iter().map(String::as_str);
        let outcome = self.kind == call.outcome() && self.allows(codes);
        outcome || self.kind == OutcomeKind::Admitted
    }

    fn allows<'a>(&self, codes: impl IntoIterator<Item = &'a str>) -> bool {
        let wanted = self.code.as_deref();
        wanted.is_none_or(|wanted| codes.into_iter().any(|code| code == wanted))
    }
}

impl FromStr for OutcomePattern {
    type Err = AuditError;

    /// Reads `kind` or `kind:code`.
    ///
    /// # Errors
    /// [`AuditError::OutcomePattern`] if there is no such kind, or if it has no codes.
    fn from_str(text: &str) -> Result<Self, AuditError> {
        let (name, code) = match text.split_once(':') {
            Some((name, code)) => (name, Some(code)),
            None => (text, None),
        };
        let kind = OutcomeKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name);
        match (kind, code) {
            (Some(kind), None) => Ok(Self { kind, code: None }),
            (Some(kind), Some(code)) if kind.has_codes() && !code.is_empty() => Ok(Self {
                kind,
                code: Some(code.to_owned()),
            }),
            _ => Err(AuditError::OutcomePattern {
                found: text.to_owned(),
            }),
        }
    }
}
