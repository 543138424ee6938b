//! A token bucket: what may be taken in a minute, refilled continuously.
//!
//! It holds one minute's worth. Its unit is a sixty-thousandth, so that a limit of `n` a minute
//! refills `n` units in each millisecond, and no fraction is ever lost or gained.

/// Units of one request or token, and milliseconds of a minute.
const UNITS: u64 = 60_000;

const MS_PER_S: u64 = 1000;

/// What was taken from a bucket and has not been refilled since. The default is a full bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    spent_units: u64,
    /// When it was last refilled.
    at_ms: u64,
}

/// Why a bucket gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Empty {
    /// Whole requests or tokens that are taken, rounded up.
    pub(super) spent: u64,
    /// Seconds until there is enough, rounded up; `None` if the bucket never holds as much.
    pub(super) wait_s: Option<u64>,
}

impl Bucket {
    /// Takes `amount` at the time `now_ms` from a bucket of `per_minute`.
    pub(super) fn take(self, per_minute: u64, amount: u64, now_ms: u64) -> Result<Self, Empty> {
        let refilled = self.refilled(per_minute, now_ms);
        let spent = refilled.spent_units.div_ceil(UNITS);
        if amount > per_minute {
            return Err(Empty {
                spent,
                wait_s: None,
            });
        }
        let capacity = per_minute.saturating_mul(UNITS);
        let wanted = amount.saturating_mul(UNITS);
        let spent_units = refilled.spent_units.saturating_add(wanted);
        let missing = spent_units.saturating_sub(capacity);
        if missing > 0 {
            let wait_ms = missing.div_ceil(per_minute.max(1));
            return Err(Empty {
                spent,
                wait_s: Some(wait_ms.div_ceil(MS_PER_S)),
            });
        }
        Ok(Self {
            spent_units,
            ..refilled
        })
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(self, amount: u64) -> Self {
        let units = amount.saturating_mul(UNITS);
        Self {
            spent_units: self.spent_units.saturating_sub(units),
            ..self
        }
    }

    fn refilled(self, per_minute: u64, now_ms: u64) -> Self {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        let units = elapsed_ms.saturating_mul(per_minute);
        Self {
            spent_units: self.spent_units.saturating_sub(units),
            at_ms: self.at_ms.max(now_ms),
        }
    }
}
