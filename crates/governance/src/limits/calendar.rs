//! Days and calendar months of UTC, as numbers that grow by one.

use super::LimitKey;

const SECONDS_PER_DAY: i64 = 86_400;
const MONTHS_PER_YEAR: i64 = 12;
const EPOCH_YEAR: i64 = 1970;

/// Days of 400 years, after which the calendar repeats itself.
const DAYS_PER_ERA: i64 = 146_097;
const YEARS_PER_ERA: i64 = 400;

/// What a budget is given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// A day of UTC.
    Day,
    /// A calendar month of UTC.
    Month,
}

impl Span {
    /// Both, the shorter first.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The limit that is given for it.
    #[must_use]
    pub fn limit(self) -> LimitKey {
        match self {
            Self::Day => LimitKey::TokensPerDay,
            Self::Month => LimitKey::TokensPerMonth,
        }
    }

    /// The number of the day or month in which a second since 1970-01-01 UTC lies; that of the
    /// epoch is 0.
    #[must_use]
    pub fn number_at(self, unix_s: i64) -> i64 {
        let day = unix_s.div_euclid(SECONDS_PER_DAY);
        match self {
            Self::Day => day,
            Self::Month => month_of_day(day),
        }
    }

    /// The first second after the day or month of this number, or the largest number where there
    /// is none.
    #[must_use]
    pub fn end_unix_s(self, number: i64) -> i64 {
        let next = number.saturating_add(1);
        let day = match self {
            Self::Day => next,
            Self::Month => first_day_of_month(next),
        };
        day.saturating_mul(SECONDS_PER_DAY)
    }
}

/// The number of the month in which a day lies.
fn month_of_day(day: i64) -> i64 {
    let (era, day) = (day.div_euclid(DAYS_PER_ERA), day.rem_euclid(DAYS_PER_ERA));
    let months_per_era = YEARS_PER_ERA * MONTHS_PER_YEAR;
    // Were all months alike, it would be this one. It is off by a month at most.
    let mut month = day * months_per_era / DAYS_PER_ERA + 1;
    while first_day_of_month(month) > day {
        month -= 1;
    }
    era * months_per_era + month
}

/// The number of the first day of a month.
fn first_day_of_month(month: i64) -> i64 {
    let year = EPOCH_YEAR.saturating_add(month.div_euclid(MONTHS_PER_YEAR));
    let before = (0..month.rem_euclid(MONTHS_PER_YEAR)).map(|month| days_of_month(year, month));
    days_before_year(year)
        .saturating_sub(days_before_year(EPOCH_YEAR))
        .saturating_add(before.sum())
}

/// Days from the beginning of the year 1 of the Gregorian calendar to that of `year`.
fn days_before_year(year: i64) -> i64 {
    let past = year.saturating_sub(1);
    let leap_days = past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    past.saturating_mul(365).saturating_add(leap_days)
}

/// Days of a month, which counts from 0.
fn days_of_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 if is_leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}
