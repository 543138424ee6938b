//! Which records and calls a query is about.
//!
//! Invariant: every criterion that is set must hold, and one that a record says nothing about does
//! not hold. So a record that ends a call, which names neither identity nor template, is found by
//! those only as a part of its call (see [`Calls`](crate::Calls)). Absent: order, limits, output.

use jiff::Timestamp;

use crate::entry::{Admitted, Entry};
use crate::outcome_kind::OutcomePattern;
use crate::reader::Stored;
use crate::record::Record;
use crate::whole_calls::{Call, EndManner, Event};

/// What to look for; a criterion that is not set allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Earliest time. A call is in the range if one of its records is.
    pub since: Option<Timestamp>,
    /// The time before which it must have been.
    pub until: Option<Timestamp>,
    /// Identity of the caller, or of whoever administered.
    pub identity: Option<String>,
    /// Id of the template.
    pub template: Option<String>,
    /// Id of the model, or the SHA-256 of its file.
    pub model: Option<String>,
    /// Id of the request, also where a record about its held output names it.
    pub request_id: Option<String>,
    /// Outcomes, any of which is enough; none allows all.
    pub outcomes: Vec<OutcomePattern>,
    /// Text that must occur, in whatever case, in a variable, in an output whose text is kept, or
    /// in what a refusal or an administrative action says.
    pub text: Option<String>,
}

/// Criteria that are ready to be asked about one record after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    criteria: Criteria,
    /// In lower case, as the texts are compared.
    text: Option<String>,
}

impl Filter {
    /// A filter that passes what meets all criteria.
    #[must_use]
    pub fn new(criteria: Criteria) -> Self {
        let text = criteria.text.as_deref().map(str::to_lowercase);
        Self { criteria, text }
    }

    /// Whether a call or a single record meets all criteria.
    #[must_use]
    pub fn passes(&self, event: &Event) -> bool {
        match event {
            Event::Call(call) => self.passes_call(call),
            Event::Single(record) => self.passes_record(record),
        }
    }

    /// Whether one record by itself meets all criteria.
    #[must_use]
    pub fn passes_record(&self, record: &Record) -> bool {
        let names = Names::of(&record.entry);
        self.allows_time(record.time)
            && self.allows_names(&names)
            && self.allows_outcome(&record.entry)
            && self.allows_text(&record.entry)
    }

    /// Whether a record whose content cannot be read could meet all criteria: only its time is
    /// known, so any other criterion leaves it out.
    #[must_use]
    pub fn passes_unread(&self, stored: &Stored) -> bool {
        let Criteria { since, until, .. } = &self.criteria;
        let only_time = Criteria {
            since: *since,
            until: *until,
            ..Criteria::default()
        };
        self.criteria == only_time && self.allows_time(stored.time)
    }

    fn passes_call(&self, call: &Call) -> bool {
        let end_time = call.end.as_ref().map(|end| end.time);
        let in_time = self.allows_time(call.time) || end_time.is_some_and(|t| self.allows_time(t));
        in_time
            && self.allows_names(&Names::of_call(&call.admitted))
            && self.allows_call_outcome(call)
            && self.allows_call_text(call)
    }

    fn allows_time(&self, time: Timestamp) -> bool {
        let Criteria { since, until, .. } = &self.criteria;
        since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until)
    }

    fn allows_names(&self, names: &Names<'_>) -> bool {
        let criteria = &self.criteria;
        let is = |wanted: &Option<String>, found: &[Option<&str>]| {
            let wanted = wanted.as_deref();
            wanted.is_none() || found.contains(&wanted)
        };
        is(&criteria.identity, &[names.identity])
            && is(&criteria.template, &[names.template])
            && is(&criteria.model, &[names.model, names.model_sha256])
            && is(&criteria.request_id, &[names.request_id, names.subject])
    }

    fn allows_outcome(&self, entry: &Entry) -> bool {
        let wanted = &self.criteria.outcomes;
        wanted.is_empty() || wanted.iter().any(|pattern| pattern.matches(entry))
    }

    fn allows_call_outcome(&self, call: &Call) -> bool {
        let wanted = &self.criteria.outcomes;
        wanted.is_empty() || wanted.iter().any(|pattern| pattern.matches_call(call))
    }

    fn allows_text(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Admitted(admitted) => self.occurs_in(admitted.variables.values()),
            Entry::Refused(refused) => self.occurs_in([&refused.detail]),
            Entry::Administered(administered) => {
                self.occurs_in([&administered.subject, &administered.detail])
            }
            Entry::Completed(completed) => self.occurs_in(&completed.output),
            Entry::Opened { .. }
            | Entry::RefusedMore(_)
            | Entry::Interrupted { .. }
            | Entry::Expired(_) => self.text.is_none(),
        }
    }

    fn allows_call_text(&self, call: &Call) -> bool {
        let output = match call.end.as_ref().map(|end| &end.manner) {
            Some(EndManner::Completed(completed)) => completed.output.as_ref(),
            Some(EndManner::Interrupted) | None => None,
        };
        self.occurs_in(call.admitted.variables.values().chain(output))
    }

    fn occurs_in<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> bool {
        self.text.as_ref().is_none_or(|wanted| {
            let mut texts = texts.into_iter();
            texts.any(|text| text.to_lowercase().contains(wanted))
        })
    }
}

/// What an entry says about the names that a query may ask for.
#[derive(Default)]
struct Names<'a> {
    request_id: Option<&'a str>,
    /// Another request that it is about.
    subject: Option<&'a str>,
    identity: Option<&'a str>,
    template: Option<&'a str>,
    model: Option<&'a str>,
    model_sha256: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn of(entry: &'a Entry) -> Self {
        match entry {
            Entry::Opened { .. } | Entry::RefusedMore(_) | Entry::Expired(_) => Self::default(),
            Entry::Admitted(admitted) => Self::of_call(admitted),
            Entry::Refused(refused) => Self {
                request_id: Some(&refused.request_id),
                subject: refused.subject.as_deref(),
                identity: refused.identity.as_deref(),
                template: refused.template.as_deref(),
                ..Self::default()
            },
            Entry::Completed(completed) => Self {
                request_id: Some(&completed.request_id),
                ..Self::default()
            },
            Entry::Administered(administered) => Self {
                subject: Some(&administered.subject),
                identity: administered.identity.as_deref(),
                ..Self::default()
            },
            Entry::Interrupted { request_id, .. } => Self {
                request_id: Some(request_id),
                ..Self::default()
            },
        }
    }

    fn of_call(admitted: &'a Admitted) -> Self {
        Self {
            request_id: Some(&admitted.request_id),
            identity: Some(&admitted.identity),
            template: Some(&admitted.template.id),
            model: Some(&admitted.model.id),
            model_sha256: Some(&admitted.model.sha256),
            subject: None,
        }
    }
}
