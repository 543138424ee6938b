//! Figures by day, in UTC.
//!
//! Invariant: at most [`DAYS_MAX`] days have figures of their own, the newest; those of earlier
//! days are in one sum.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::report::{Day, DayFigures};

/// Most days that are counted each by itself.
pub const DAYS_MAX: usize = 400;

#[derive(Debug, Default)]
pub(super) struct DayCounter {
    by_day: BTreeMap<Date, DayFigures>,
    earlier: Option<DayFigures>,
}

impl DayCounter {
    /// The figures of the day that this time is in.
    pub(super) fn at(&mut self, time: Timestamp) -> &mut DayFigures {
        let day = time.to_zoned(TimeZone::UTC).date();
        self.make_room(day);
        let first = self.by_day.keys().next();
        if self.by_day.len() >= DAYS_MAX && first.is_some_and(|first| day < *first) {
            return self.earlier.get_or_insert_default();
        }
        self.by_day.entry(day).or_default()
    }

    pub(super) fn report(&self) -> Vec<Day> {
        let days = self.by_day.iter();
        let rows = days.map(|(&day, &figures)| Day { day, figures });
        rows.collect()
    }

    /// The sum of the days before the first that is reported, if there are any.
    pub(super) fn earlier(&self) -> Option<DayFigures> {
        self.earlier
    }

    /// Puts the first day with those before it, if a later one needs its place.
    fn make_room(&mut self, day: Date) {
        if self.by_day.len() < DAYS_MAX || self.by_day.contains_key(&day) {
            return;
        }
        let Some(first) = self.by_day.first_entry().filter(|first| *first.key() < day) else {
            return;
        };
        let figures = first.remove();
        self.earlier = Some(self.earlier.unwrap_or_default().plus(&figures));
    }
}
