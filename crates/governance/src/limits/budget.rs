//! Tokens of the running day and month of an account.
//!
//! A reservation belongs to the day and month in which it was made: it is settled there, and where
//! they are over when the call ends, nothing of it is carried into the next.
//!
//! A period begins when the clock first shows it, and there is no way back: a clock that is set back
//! stays in the period that it had reached. Only an [`Adjustment`] by a person begins the one that the
//! clock shows.

use super::meter::RUNNING_RETRY_AFTER_S;
use super::{LimitKey, Limits, Shortfall, Span};

const PERCENT: u64 = 100;

/// What an account used, by day and month. The default is one that used nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// The running day.
    pub day: Spending,
    /// The running calendar month.
    pub month: Spending,
}

/// What was used in one period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Number of the day or month; see [`Span::number_at`].
    pub number: i64,
    /// Tokens that were used.
    pub used: u64,
    /// Tokens that running calls may still use.
    pub reserved: u64,
    /// Tokens that may be used beyond the limit, given for this period only.
    pub granted: u64,
    /// Whether the warning of this period was given.
    pub warned: bool,
}

/// What was reserved for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Most tokens that the call uses.
    pub tokens: u64,
    /// Number of the day that it counts in.
    pub day: i64,
    /// Number of the month that it counts in.
    pub month: i64,
}

/// What a person sets in the running day or month; `None` leaves a figure as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adjustment {
    /// Tokens that count as used.
    pub used: Option<u64>,
    /// Tokens beyond the limit, in place of those granted before.
    pub granted: Option<u64>,
}

/// That an account passed the part of its budget at which a warning is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// The budget.
    pub limit: LimitKey,
    /// What it allows, grants included.
    pub allowed: u64,
    /// What is used.
    pub used: u64,
}

impl Budget {
    /// Reserves `tokens` at `unix_s`.
    ///
    /// # Errors
    ///
    /// The first budget that they do not fit in; nothing is reserved then.
    pub fn reserve(
        self,
        limits: &Limits,
        unix_s: i64,
        tokens: u64,
    ) -> Result<(Self, Reservation), Shortfall> {
        let now = self.at(unix_s);
        let reserve = |span, spending: Spending| match limits.budget(span) {
            Some(limit) => spending.reserve(span, limit, unix_s, tokens),
            None => Ok(spending.reserved(tokens)),
        };
        let reserved = Self {
            day: reserve(Span::Day, now.day)?,
            month: reserve(Span::Month, now.month)?,
        };
        let reservation = Reservation {
            tokens,
            day: reserved.day.number,
            month: reserved.month.number,
        };
        Ok((reserved, reservation))
    }

    /// Replaces a reservation by what was used.
    #[must_use]
    pub fn settle(self, reservation: Reservation, used: u64) -> Self {
        let Reservation { tokens, day, month } = reservation;
        Self {
            day: self.day.settle(day, tokens, used),
            month: self.month.settle(month, tokens, used),
        }
    }

    /// The budget as the clock shows it at `unix_s`: where a new day or month has begun, nothing is used.
    #[must_use]
    pub fn at(self, unix_s: i64) -> Self {
        Self {
            day: self.day.at(Span::Day.number_at(unix_s)),
            month: self.month.at(Span::Month.number_at(unix_s)),
        }
    }

    /// Sets figures of the day or month that the clock shows at `unix_s`, also where that has been left
    /// before: so a clock that ran ahead can be mended.
    #[must_use]
    pub fn adjust(mut self, span: Span, adjustment: Adjustment, unix_s: i64) -> Self {
        let spending = match span {
            Span::Day => &mut self.day,
            Span::Month => &mut self.month,
        };
        let number = span.number_at(unix_s);
        if spending.number != number {
            *spending = Spending::of(number);
        }
        spending.used = adjustment.used.unwrap_or(spending.used);
        spending.granted = adjustment.granted.unwrap_or(spending.granted);
        spending.warned = false;
        self
    }

    /// The warnings that are due, each once in a period.
    #[must_use]
    pub fn crossings(mut self, limits: &Limits) -> (Self, Vec<Crossing>) {
        let mut crossings = Vec::new();
        for (span, spending) in [(Span::Day, &mut self.day), (Span::Month, &mut self.month)] {
            let Some(limit) = limits.budget(span) else {
                continue;
            };
            let allowed = limit.saturating_add(spending.granted);
            if !spending.warned && is_part(spending.used, allowed, limits.warn_percent()) {
                spending.warned = true;
                crossings.push(Crossing {
                    limit: span.limit(),
                    allowed,
                    used: spending.used,
                });
            }
        }
        (self, crossings)
    }

    /// What is spent of a day or month.
    #[must_use]
    pub fn spending(&self, span: Span) -> Spending {
        match span {
            Span::Day => self.day,
            Span::Month => self.month,
        }
    }
}

impl Spending {
    fn of(number: i64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// The same period, or the one of a greater number, in which nothing is used.
    fn at(self, number: i64) -> Self {
        if number > self.number {
            Self::of(number)
        } else {
            self
        }
    }

    fn reserve(self, span: Span, limit: u64, unix_s: i64, tokens: u64) -> Result<Self, Shortfall> {
        let allowed = limit.saturating_add(self.granted);
        let committed = self.used.saturating_add(self.reserved);
        if committed.saturating_add(tokens) <= allowed {
            return Ok(self.reserved(tokens));
        }
        let resets_unix_s = span.end_unix_s(self.number);
        let until_reset_s = resets_unix_s.saturating_sub(unix_s).max(1).unsigned_abs();
        let retry_after_s = if self.used.saturating_add(tokens) <= allowed {
            // Running calls hold what is missing, and mostly give some of it back.
            Some(RUNNING_RETRY_AFTER_S.min(until_reset_s))
        } else {
            // The next period has no grant.
            (tokens <= limit).then_some(until_reset_s)
        };
        Err(Shortfall {
            limit: span.limit(),
            allowed,
            used: self.used,
            reserved: self.reserved,
            asked: tokens,
            retry_after_s,
            resets_unix_s: Some(resets_unix_s),
        })
    }

    fn reserved(self, tokens: u64) -> Self {
        Self {
            reserved: self.reserved.saturating_add(tokens),
            ..self
        }
    }

    fn settle(self, number: i64, reserved: u64, used: u64) -> Self {
        if number != self.number {
            return self;
        }
        Self {
            used: self.used.saturating_add(used),
            reserved: self.reserved.saturating_sub(reserved),
            ..self
        }
    }
}

/// Whether `used` is at least this many percent of `allowed`.
fn is_part(used: u64, allowed: u64, percent: u8) -> bool {
    u128::from(used) * u128::from(PERCENT) >= u128::from(allowed) * u128::from(percent)
}
