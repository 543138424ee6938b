//! What a report says, as plain data: its JSON, and what the table and the page are made of.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::figures::count;

/// Figures about the records that were counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Earliest time of a counted record.
    pub first_time: Option<Timestamp>,
    /// Latest time of a counted record.
    pub last_time: Option<Timestamp>,
    /// How many records were counted.
    pub records: u64,
    /// Records that are in none of the other figures.
    pub unread: Unread,
    /// Sums over everything.
    pub totals: Totals,
    /// How calls ended: every manner, also those that did not occur.
    pub outcomes: Vec<Count>,
    /// Calls, refusals and tokens by template.
    pub templates: Usages,
    /// The same by identity.
    pub identities: Usages,
    /// The same by model; refusals name none.
    pub models: Usages,
    /// Refusals by code.
    pub refusals: Counts,
    /// Failed calls by code.
    pub failures: Counts,
    /// Held answers by reason; one can have several.
    pub held_reasons: Counts,
    /// Redactions by rule, in variables and outputs.
    pub redactions: Counts,
    /// Held answers and what was decided on them.
    pub reviews: ReviewFigures,
    /// How long calls took.
    pub latency: Latency,
    /// Figures by day (UTC), oldest first; days without records are not listed.
    pub days: Vec<Day>,
    /// The sum of the days before the first listed, if there are more than
    /// [`DAYS_MAX`](crate::DAYS_MAX).
    pub earlier: Option<DayFigures>,
}

/// Sums over all counted records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Admitted calls.
    pub calls: u64,
    /// Calls without an end at the last record that was shown.
    pub open_calls: u64,
    /// Refused calls and failed authentications, those included that were only counted.
    pub refusals: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
    /// Redactions in variables and outputs.
    pub redactions: u64,
    /// Changes by people, decisions of reviews included, and models that were loaded.
    pub administrative_actions: u64,
    /// How often the log was opened: starts of the daemon.
    pub openings: u64,
    /// How often the content of one class in one segment was destroyed.
    pub expiries: u64,
}

/// Records whose content could not be read, and which are therefore not counted otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Sealed to auditors none of whose identities was given.
    pub sealed: u64,
    /// Destroyed, since they are kept no longer.
    pub expired: u64,
}

impl Unread {
    /// What people are told of them; nothing if there are none.
    pub(super) fn sentence(&self) -> Option<String> {
        (*self != Self::default()).then(|| {
            let (sealed, expired) = (count(self.sealed), count(self.expired));
            format!("{sealed} sealed and {expired} expired, not counted")
        })
    }
}

/// A name and how often it occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The name.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Most frequent first; at most [`NAMES_MAX`](crate::NAMES_MAX).
    pub rows: Vec<Count>,
    /// The sum of all other names.
    pub other: u64,
}

/// Calls, refusals and tokens by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usages {
    /// Most calls first; at most [`NAMES_MAX`](crate::NAMES_MAX).
    pub rows: Vec<UsageOfName>,
    /// The sum of all other names, and of calls whose admission was not seen.
    pub other: UsageFigures,
}

/// The figures of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageOfName {
    /// The name.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: UsageFigures,
}

/// What calls used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageFigures {
    /// Admitted calls.
    pub calls: u64,
    /// Refused calls.
    pub refusals: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Generated tokens.
    pub completion_tokens: u64,
}

/// Held answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReviewFigures {
    /// How many were held.
    pub held: u64,
    /// How many were approved.
    pub approved: u64,
    /// How many were rejected.
    pub rejected: u64,
    /// How many are without a decision, also of those that were held before the counted records.
    pub pending: u64,
    /// From holding an answer to the decision on it.
    pub time_to_decision: Option<Distribution>,
}

/// How long calls took, each from its admission.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// By how much percentiles may be too high, as a part of them.
    pub relative_error_max: f64,
    /// Until the engine began with the call.
    pub queued: Option<Distribution>,
    /// Until the first token, of calls that had one.
    pub first_token: Option<Distribution>,
    /// Until the end.
    pub total: Option<Distribution>,
}

/// Durations, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// How many there are.
    pub count: u64,
    /// Their mean, rounded down.
    pub mean_us: u64,
    /// Half of them are no longer.
    pub p50_us: u64,
    /// 90 % are no longer.
    pub p90_us: u64,
    /// 95 % are no longer.
    pub p95_us: u64,
    /// 99 % are no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The day in UTC.
    pub day: Date,
    /// Its figures.
    #[serde(flatten)]
    pub figures: DayFigures,
}

/// What a day's records say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DayFigures {
    /// Calls admitted.
    pub calls: u64,
    /// Calls refused.
    pub refusals: u64,
    /// Answers held.
    pub held: u64,
    /// Redactions.
    pub redactions: u64,
    /// Tokens of the prompts of calls that ended.
    pub prompt_tokens: u64,
    /// Tokens generated by calls that ended.
    pub completion_tokens: u64,
}

impl Counts {
    /// The sum of all names but the first so many.
    pub(super) fn rest_after(&self, rows_max: usize) -> u64 {
        let rest = self.rows.iter().skip(rows_max);
        rest.fold(self.other, |sum, row| sum.saturating_add(row.count))
    }
}

impl Usages {
    /// The sum of all names but the first so many.
    pub(super) fn rest_after(&self, rows_max: usize) -> UsageFigures {
        let rest = self.rows.iter().skip(rows_max);
        rest.fold(self.other, |sum, row| sum.plus(&row.figures))
    }
}

impl UsageFigures {
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            refusals: self.refusals.saturating_add(other.refusals),
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self
                .completion_tokens
                .saturating_add(other.completion_tokens),
        }
    }
}

impl DayFigures {
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            refusals: self.refusals.saturating_add(other.refusals),
            held: self.held.saturating_add(other.held),
            redactions: self.redactions.saturating_add(other.redactions),
            prompt_tokens: self.prompt_tokens.saturating_add(other.prompt_tokens),
            completion_tokens: self
                .completion_tokens
                .saturating_add(other.completion_tokens),
        }
    }
}
