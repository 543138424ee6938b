//! Who did not prove who they are: how many of them are recorded one by one, and what is counted instead.
//!
//! A stranger needs no permission to fail, so records of it are bounded: the first [`STRANGERS_RECORDED_MAX`] of a window have
//! one each, of all peers together, and the rest are counted by code.
//!
//! Invariants: each is either recorded or counted, also if its record could not be written or its client went away
//! before; what is counted stays until a record of it is written. Memory does not grow with their number: codes are
//! those of [`AuthenticationError`](crate::AuthenticationError). Absent: clocks and the audit log, which callers have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postern_audit::{RefusalCount, RefusedMore};

/// Most failed authentications of a window that are recorded one by one.
pub const STRANGERS_RECORDED_MAX: u32 = 30;

/// How long a window is. The first failed authentication after its end begins the next.
const WINDOW: Duration = Duration::from_secs(60);

/// How long something is counted until there should be a record of it: what a kill can take.
const TALLY_AGE_MAX: Duration = Duration::from_secs(5);

/// The failed authentications of a service.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the running window began, if there was any.
    began: Option<Instant>,
    /// Places that were given in it.
    places: u32,
    /// What is counted and not told.
    tally: Option<Tally>,
}

/// An instant by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Decides about windows, since nobody can set it.
    pub(crate) monotonic: Instant,
    /// What records say.
    pub(crate) wall: Timestamp,
}

impl Strangers {
    /// Takes note of one: gives it a place among those that are recorded, or counts it.
    pub(crate) fn arrive(self: &Arc<Self>, code: &'static str, at: Moment) -> Option<Place> {
        let mut state = self.state();
        let over = |began| is_past(began, WINDOW, at.monotonic);
        if state.began.is_none_or(over) {
            state.began = Some(at.monotonic);
            state.places = 0;
        }
        if state.places == STRANGERS_RECORDED_MAX {
            state.count(code, at);
            return None;
        }
        state.places += 1;
        Some(Place {
            strangers: Arc::clone(self),
            code,
            at,
            is_recorded: false,
        })
    }

    /// What was counted, if it is due. Whoever takes it has it recorded or gives it back.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Tally> {
        let is_due = |tally: &mut Tally| is_past(tally.began, TALLY_AGE_MAX, now);
        self.state().tally.take_if(is_due)
    }

    /// All that was counted. Whoever takes it has it recorded or gives it back.
    pub(crate) fn take_all(&self) -> Option<Tally> {
        self.state().tally.take()
    }

    /// Takes back what could not be recorded, to be tried again after a while.
    pub(crate) fn give_back(&self, tally: Tally, now: Instant) {
        let mut state = self.state();
        let kept = match state.tally.take() {
            Some(newer) => tally.with(newer),
            None => tally,
        };
        state.tally = Some(Tally { began: now, ..kept });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, code: &'static str, at: Moment) {
        let one = Tally {
            began: at.monotonic,
            counts: BTreeMap::from([(code, 1)]),
            since: at.wall,
            until: at.wall,
        };
        self.tally = Some(match self.tally.take() {
            Some(tally) => tally.with(one),
            None => one,
        });
    }
}

/// A place for a record. One that is given up counts as one more without a record.
#[derive(Debug)]
pub(crate) struct Place {
    strangers: Arc<Strangers>,
    code: &'static str,
    at: Moment,
    is_recorded: bool,
}

impl Place {
    /// Says that the record is on disk.
    pub(crate) fn recorded(mut self) {
        self.is_recorded = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.strangers.state().count(self.code, self.at);
        }
    }
}

/// How many were counted, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// When the first of them came, or a record of them was last tried.
    began: Instant,
    counts: BTreeMap<&'static str, u64>,
    since: Timestamp,
    until: Timestamp,
}

impl Tally {
    fn with(mut self, later: Self) -> Self {
        for (code, count) in later.counts {
            *self.counts.entry(code).or_default() += count;
        }
        self.since = self.since.min(later.since);
        self.until = self.until.max(later.until);
        self
    }

    /// What the audit log is told.
    pub(crate) fn entry(&self) -> RefusedMore {
        let counts = self.counts.iter().map(|(&code, &count)| RefusalCount {
            code: code.to_owned(),
            count,
        });
        let more = RefusedMore {
            counts: counts.collect(),
            since_us: self.since.as_microsecond(),
            until_us: self.until.as_microsecond(),
        };
        more.bounded()
    }
}

fn is_past(began: Instant, length: Duration, now: Instant) -> bool {
    now.saturating_duration_since(began) >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds after `began`, by both clocks.
    fn after(began: Instant, seconds: u64) -> Moment {
        Moment {
            monotonic: began + Duration::from_secs(seconds),
            wall: Timestamp::from_second(seconds.cast_signed()).unwrap(),
        }
    }

    /// Has so many arrive at once, and says how many of them got a record.
    fn arrive(strangers: &Arc<Strangers>, count: usize, code: &'static str, at: Moment) -> usize {
        let places = (0..count).filter_map(|_| strangers.arrive(code, at));
        let places: Vec<Place> = places.collect();
        let recorded = places.len();
        places.into_iter().for_each(Place::recorded);
        recorded
    }

    fn counts(tally: &Tally) -> Vec<(&'static str, u64)> {
        tally.counts.iter().map(|(&code, &n)| (code, n)).collect()
    }

    #[test]
    fn each_window_has_its_records_and_the_rest_is_counted() {
        let strangers = Arc::new(Strangers::default());
        let began = Instant::now();
        let records_max = STRANGERS_RECORDED_MAX as usize;
        assert_eq!(arrive(&strangers, 10, "a", after(began, 0)), 10);
        assert_eq!(
            arrive(&strangers, 100, "a", after(began, 5)),
            records_max - 10
        );
        assert_eq!(arrive(&strangers, 7, "b", after(began, 9)), 0);
        let not_yet = strangers.take_due(after(began, 9).monotonic);
        assert_eq!(not_yet, None, "more may come");
        let due = strangers.take_due(after(began, 10).monotonic).unwrap();
        assert_eq!(counts(&due), [("a", 80), ("b", 7)]);
        let entry = due.entry();
        assert_eq!((entry.since_us, entry.until_us), (5_000_000, 9_000_000));
        assert_eq!(strangers.take_all(), None);

        // The next window has records of its own.
        assert_eq!(arrive(&strangers, 1, "b", after(began, 59)), 0);
        assert_eq!(counts(&strangers.take_all().unwrap()), [("b", 1)]);
        assert_eq!(arrive(&strangers, 1, "b", after(began, 60)), 1);
        assert_eq!(
            arrive(&strangers, 100, "b", after(began, 61)),
            records_max - 1
        );
        assert_eq!(counts(&strangers.take_all().unwrap()), [("b", 71)]);
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_and_kept() {
        let strangers = Arc::new(Strangers::default());
        let began = Instant::now();
        drop(strangers.arrive("a", after(began, 0)).unwrap());
        strangers.arrive("a", after(began, 1)).unwrap().recorded();
        let tally = strangers.take_all().unwrap();
        assert_eq!(counts(&tally), [("a", 1)]);
        drop(strangers.arrive("b", after(began, 2)).unwrap());
        strangers.give_back(tally, after(began, 70).monotonic);
        let soon = strangers.take_due(after(began, 74).monotonic);
        assert_eq!(soon, None, "it is tried again after a while");
        let tally = strangers.take_due(after(began, 75).monotonic).unwrap();
        assert_eq!(counts(&tally), [("a", 1), ("b", 1)]);
    }
}
