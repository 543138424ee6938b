//! Calls as people see them: what was asked and how it ended, out of two records.
//!
//! Invariant: every record is given on exactly once, as a part of a call or as it is, and memory
//! is bounded by two names, whatever the log's length. Absent: judging; a record that names a call
//! which was not seen to be admitted is given as it is.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::calls::OPEN_CALLS_MAX;
use crate::entry::{Admitted, Completed, Entry};
use crate::outcome_kind::{OutcomeKind, codes_of_end};
use crate::record::Record;

/// Most bytes of admitted records that wait for their ends. Beyond, the oldest call is given
/// without its end, and its end by itself: no call a device can run comes near it.
pub const OPEN_CALLS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What an admitted record takes in memory beyond its texts, in bytes, rounded up.
const ADMITTED_BYTES: usize = 1024;
/// What one element of a list in it takes beyond its texts, in bytes, rounded up.
const ELEMENT_BYTES: usize = 64;

/// A call that was admitted, and its end if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Index of its `Admitted` record.
    pub index: u64,
    /// When it was admitted.
    pub time: Timestamp,
    /// What was asked.
    pub admitted: Admitted,
    /// How it ended; `None` if it has not, as far as the log was read.
    pub end: Option<CallEnd>,
}

impl Call {
    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> OutcomeKind {
        match self.end.as_ref().map(|end| &end.manner) {
            Some(EndManner::Completed(completed)) => OutcomeKind::of_end(&completed.outcome),
            Some(EndManner::Interrupted) => OutcomeKind::Interrupted,
            None => OutcomeKind::Open,
        }
    }

    /// The codes in which its end says why.
    pub(crate) fn codes(&self) -> &[String] {
        match self.end.as_ref().map(|end| &end.manner) {
            Some(EndManner::Completed(completed)) => codes_of_end(&completed.outcome),
            Some(EndManner::Interrupted) | None => &[],
        }
    }
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallEnd {
    /// Index of the record that says so.
    pub index: u64,
    /// When that was written.
    pub time: Timestamp,
    /// How it ended.
    pub manner: EndManner,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum EndManner {
    /// Its end was recorded when it came.
    Completed(Completed),
    /// It had none when the log was opened again.
    Interrupted,
}

/// A call, or a record that belongs to none.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An admitted call.
    Call(Box<Call>),
    /// Any other record, and the end of a call whose admission was not seen.
    Single(Box<Record>),
}

/// Joins the records of calls. A call comes at the place of its end, one without an end after all
/// else; an error of the records comes at its place.
#[derive(Debug)]
pub struct Calls<I> {
    records: I,
    open: BTreeMap<u64, Call>,
    open_bytes: usize,
}

impl<I, E> Calls<I>
where
    I: Iterator<Item = Result<Record, E>>,
{
    /// Joins these records, which must come in their order.
    pub fn new(records: impl IntoIterator<IntoIter = I>) -> Self {
        Self {
            records: records.into_iter(),
            open: BTreeMap::new(),
            open_bytes: 0,
        }
    }
}

impl<I, E> Iterator for Calls<I>
where
    I: Iterator<Item = Result<Record, E>>,
{
    type Item = Result<Event, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.open.len() > OPEN_CALLS_MAX || self.open_bytes > OPEN_CALLS_BYTES_MAX {
                return self.take_oldest().map(Ok);
            }
            let record = match self.records.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => return Some(Err(error)),
                None => return self.take_oldest().map(Ok),
            };
            if let Some(event) = self.place(record) {
                return Some(Ok(event));
            }
        }
    }
}

impl<I> Calls<I> {
    fn place(&mut self, record: Record) -> Option<Event> {
        let Record { index, time, entry } = record;
        match entry {
            Entry::Admitted(admitted) => {
                self.open_bytes += bytes_of(&admitted);
                let end = None;
                let call = Call {
                    index,
                    time,
                    admitted,
                    end,
                };
                self.open.insert(index, call);
                None
            }
            Entry::Completed(completed) if self.open.contains_key(&completed.admitted_index) => {
                let admitted_index = completed.admitted_index;
                let manner = EndManner::Completed(completed);
                self.end(
                    admitted_index,
                    CallEnd {
                        index,
                        time,
                        manner,
                    },
                )
            }
            Entry::Interrupted { admitted_index, .. }
                if self.open.contains_key(&admitted_index) =>
            {
                let manner = EndManner::Interrupted;
                self.end(
                    admitted_index,
                    CallEnd {
                        index,
                        time,
                        manner,
                    },
                )
            }
            entry => Some(Event::Single(Box::new(Record { index, time, entry }))),
        }
    }

    fn end(&mut self, admitted_index: u64, end: CallEnd) -> Option<Event> {
        let mut call = self.open.remove(&admitted_index)?;
        self.open_bytes -= bytes_of(&call.admitted);
        call.end = Some(end);
        Some(Event::Call(Box::new(call)))
    }

    fn take_oldest(&mut self) -> Option<Event> {
        let (_, call) = self.open.pop_first()?;
        self.open_bytes -= bytes_of(&call.admitted);
        Some(Event::Call(Box::new(call)))
    }
}

/// About what an admitted record takes in memory, in bytes.
fn bytes_of(admitted: &Admitted) -> usize {
    let variables = admitted.variables.iter();
    let texts: usize = variables
        .map(|(name, value)| name.len() + value.len())
        .sum();
    let rules: usize = admitted.rules.iter().map(String::len).sum();
    let redactions = admitted.redactions.iter();
    let redacted: usize = redactions.map(|r| r.variable.len() + r.rule.len()).sum();
    let budgets = admitted.budgets.iter();
    let budgeted: usize = budgets.map(|b| b.account.len() + b.limit.len()).sum();
    let elements = admitted.variables.len()
        + admitted.rules.len()
        + admitted.redactions.len()
        + admitted.budgets.len();
    ADMITTED_BYTES + elements * ELEMENT_BYTES + texts + rules + redacted + budgeted
}
