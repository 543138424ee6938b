//! Figures about a log: calls, tokens, refusals, redactions, reviews, times.
//!
//! Invariant: memory is bounded by named constants, whatever the log's length and however many
//! names are in it: a page of a Raspberry Pi's whole year needs no more than that of an hour.
//! Counts are exact; what is not counted by its own name is counted as other. Percentiles are
//! within [`RELATIVE_ERROR_MAX`]. Absent: choosing records, and reading them.

mod chart;
mod days;
mod figures;
mod markup;
mod names;
mod page;
mod quantiles;
mod report;
mod reviews;
mod table;

use jiff::Timestamp;

pub use days::DAYS_MAX;
pub use names::NAMES_MAX;
pub use quantiles::{DURATION_US_MAX, RELATIVE_ERROR_MAX};
pub use report::{
    Count, Counts, Day, DayFigures, Distribution, Latency, ReviewFigures, Stats, Totals, Unread,
    UsageFigures, UsageOfName, Usages,
};
pub use reviews::REVIEWS_PENDING_MAX;

use crate::content::Content;
use crate::entry::{Admitted, Completed, Entry, Outcome, RedactionCount, Refused};
use crate::in_flight::{CallNames, CallsInFlight};
use crate::outcome_kind::OutcomeKind;
use crate::reader::Stored;
use crate::record::Record;
use crate::refused_more::RefusedMore;
use days::DayCounter;
use names::{CountByName, UsageByName};
use quantiles::Quantiles;
use reviews::ReviewCounter;

/// The kinds that a call can end as, in the order in which reports name them.
const ENDS: [OutcomeKind; 8] = [
    OutcomeKind::Completed,
    OutcomeKind::Length,
    OutcomeKind::Held,
    OutcomeKind::Filtered,
    OutcomeKind::Cancelled,
    OutcomeKind::Deadline,
    OutcomeKind::Failed,
    OutcomeKind::Interrupted,
];

/// Counts records. Show it every record of the log from its beginning, so that the end of a call
/// can be counted for its caller: [`Collector::add`] those that are wanted, [`Collector::skip`] all
/// others, and [`Collector::add_unread`] those whose content is sealed or has expired.
#[derive(Debug, Default)]
pub struct Collector {
    in_flight: CallsInFlight,
    span: Option<(Timestamp, Timestamp)>,
    records: u64,
    unread: Unread,
    totals: Totals,
    ends: [u64; ENDS.len()],
    templates: UsageByName,
    identities: UsageByName,
    models: UsageByName,
    refusals: CountByName,
    failures: CountByName,
    held_reasons: CountByName,
    redactions: CountByName,
    reviews: ReviewCounter,
    queued: Quantiles,
    first_token: Quantiles,
    total: Quantiles,
    days: DayCounter,
}

impl Collector {
    /// A collector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a record that is not wanted.
    pub fn skip(&mut self, record: &Record) {
        let _names = self.in_flight.follow(record);
        if let Entry::Completed(completed) = &record.entry
            && matches!(completed.outcome, Outcome::Held { .. })
        {
            self.reviews.expect(&completed.request_id, record.time);
        }
    }

    /// Takes note of a record that is not wanted and cannot be read.
    pub fn skip_unread(&mut self, stored: &Stored) {
        self.in_flight.follow_unread(stored);
    }

    /// Counts a record whose content cannot be read.
    pub fn add_unread(&mut self, stored: &Stored) {
        self.skip_unread(stored);
        match stored.content {
            Content::Entry(_) => {}
            Content::Sealed => self.unread.sealed += 1,
            Content::Expired => self.unread.expired += 1,
        }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record) {
        let names = self.in_flight.follow(record);
        self.records += 1;
        let (first, last) = self.span.unwrap_or((record.time, record.time));
        self.span = Some((first.min(record.time), last.max(record.time)));
        match &record.entry {
            Entry::Opened { .. } => self.totals.openings += 1,
            Entry::Admitted(admitted) => self.add_admission(record.time, admitted),
            Entry::Refused(refused) => self.add_refusal(record.time, refused),
            Entry::RefusedMore(more) => self.add_refusals(record.time, more),
            Entry::Completed(completed) => self.add_end(record.time, completed, names.as_ref()),
            Entry::Administered(administered) => {
                self.totals.administrative_actions += 1;
                self.reviews.decide(administered, record.time);
            }
            Entry::Interrupted { .. } => self.count_end(OutcomeKind::Interrupted),
            Entry::Expired(_) => self.totals.expiries += 1,
        }
    }

    /// The figures so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let ends = ENDS.iter().zip(self.ends);
        let outcomes = ends.map(|(kind, count)| Count {
            name: kind.as_str().to_owned(),
            count,
        });
        Stats {
            first_time: self.span.map(|(first, _)| first),
            last_time: self.span.map(|(_, last)| last),
            records: self.records,
            unread: self.unread,
            totals: Totals {
                open_calls: self.in_flight.count() as u64,
                ..self.totals
            },
            outcomes: outcomes.collect(),
            templates: self.templates.report(),
            identities: self.identities.report(),
            models: self.models.report(),
            refusals: self.refusals.report(),
            failures: self.failures.report(),
            held_reasons: self.held_reasons.report(),
            redactions: self.redactions.report(),
            reviews: self.reviews.report(),
            latency: Latency {
                relative_error_max: RELATIVE_ERROR_MAX,
                queued: self.queued.report(),
                first_token: self.first_token.report(),
                total: self.total.report(),
            },
            days: self.days.report(),
            earlier: self.days.earlier(),
        }
    }

    fn add_admission(&mut self, time: Timestamp, admitted: &Admitted) {
        self.totals.calls += 1;
        self.templates.of_call(&admitted.template.id).calls += 1;
        self.identities.of_call(&admitted.identity).calls += 1;
        self.models.of_call(&admitted.model.id).calls += 1;
        self.add_redactions(time, &admitted.redactions);
        self.days.at(time).calls += 1;
    }

    fn add_refusal(&mut self, time: Timestamp, refused: &Refused) {
        self.totals.refusals += 1;
        self.refusals.add(&refused.code, 1);
        if let Some(template) = &refused.template {
            self.templates.of_refusal(template).refusals += 1;
        }
        if let Some(identity) = &refused.identity {
            self.identities.of_refusal(identity).refusals += 1;
        }
        self.days.at(time).refusals += 1;
    }

    /// Counts what was refused and has no record of its own, on the day of the record.
    fn add_refusals(&mut self, time: Timestamp, more: &RefusedMore) {
        add(&mut self.totals.refusals, more.total());
        for one in &more.counts {
            self.refusals.add(&one.code, one.count);
        }
        add(&mut self.days.at(time).refusals, more.total());
    }

    fn add_end(&mut self, time: Timestamp, completed: &Completed, names: Option<&CallNames>) {
        self.count_end(OutcomeKind::of_end(&completed.outcome));
        match &completed.outcome {
            Outcome::Held { reasons } => {
                self.reviews.hold(&completed.request_id, time);
                for reason in reasons {
                    self.held_reasons.add(reason, 1);
                }
                self.days.at(time).held += 1;
            }
            Outcome::Failed { code } => self.failures.add(code, 1),
            _ => {}
        }
        self.add_tokens(time, completed, names);
        self.add_redactions(time, &completed.output_redactions);
        let timings = &completed.timings;
        self.queued.add(timings.queued_us);
        if let Some(first_token_us) = timings.first_token_us {
            self.first_token.add(first_token_us);
        }
        self.total.add(timings.total_us);
    }

    fn add_tokens(&mut self, time: Timestamp, completed: &Completed, names: Option<&CallNames>) {
        let usage = completed.usage;
        let day = self.days.at(time);
        let totals = &mut self.totals;
        add(&mut totals.prompt_tokens, usage.prompt_tokens);
        add(&mut totals.completion_tokens, usage.completion_tokens);
        add(&mut day.prompt_tokens, usage.prompt_tokens);
        add(&mut day.completion_tokens, usage.completion_tokens);
        let mut rows = match names {
            Some(names) => [
                self.templates.of_call(&names.template.id),
                self.identities.of_call(&names.identity),
                self.models.of_call(&names.model.id),
            ],
            None => [
                self.templates.other(),
                self.identities.other(),
                self.models.other(),
            ],
        };
        for row in &mut rows {
            add(&mut row.prompt_tokens, usage.prompt_tokens);
            add(&mut row.completion_tokens, usage.completion_tokens);
        }
    }

    fn add_redactions(&mut self, time: Timestamp, redactions: &[RedactionCount]) {
        for redaction in redactions {
            add(&mut self.totals.redactions, redaction.count);
            add(&mut self.days.at(time).redactions, redaction.count);
            self.redactions.add(&redaction.rule, redaction.count);
        }
    }

    fn count_end(&mut self, kind: OutcomeKind) {
        let counts = ENDS.iter().zip(&mut self.ends);
        for (_, count) in counts.filter(|(end, _)| **end == kind) {
            *count += 1;
        }
    }
}

/// Adds what a record says, which may be any number.
fn add(sum: &mut u64, number: u64) {
    *sum = sum.saturating_add(number);
}
