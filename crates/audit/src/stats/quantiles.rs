//! Percentiles of durations, without keeping them.
//!
//! Invariant: memory is that of one histogram whose buckets grow with the value, some 40 KiB, and
//! a percentile is at most [`RELATIVE_ERROR_MAX`] above a duration that was recorded. Count, mean
//! and maximum are exact.

use hdrhistogram::Histogram;

use super::report::Distribution;

/// By how much a percentile may be above the true one, as a part of it.
pub const RELATIVE_ERROR_MAX: f64 = 0.01;
/// Longest duration that percentiles tell apart from longer ones, in microseconds: 366 days.
pub const DURATION_US_MAX: u64 = 366 * 24 * 60 * 60 * 1_000_000;
/// Two significant digits are what [`RELATIVE_ERROR_MAX`] says.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Durations, counted by their size.
#[derive(Debug)]
pub(super) struct Quantiles {
    histogram: Histogram<u64>,
    sum_us: u128,
    max_us: u64,
}

impl Default for Quantiles {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, DURATION_US_MAX, SIGNIFICANT_DIGITS);
        Self {
            histogram: histogram.expect("the bounds are in order, and the digits at most five"),
            sum_us: 0,
            max_us: 0,
        }
    }
}

impl Quantiles {
    pub(super) fn add(&mut self, duration_us: u64) {
        self.histogram.saturating_record(duration_us);
        self.sum_us += u128::from(duration_us);
        self.max_us = self.max_us.max(duration_us);
    }

    pub(super) fn report(&self) -> Option<Distribution> {
        let count = self.histogram.len();
        let mean_us = self.sum_us.checked_div(u128::from(count))?;
        let quantile = |part: f64| self.histogram.value_at_quantile(part).min(self.max_us);
        Some(Distribution {
            count,
            mean_us: u64::try_from(mean_us).unwrap_or(u64::MAX),
            p50_us: quantile(0.50),
            p90_us: quantile(0.90),
            p95_us: quantile(0.95),
            p99_us: quantile(0.99),
            max_us: self.max_us,
        })
    }
}
