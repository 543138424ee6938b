//! Two clocks in each record, and what they show about a wall clock that was set back.
//!
//! Invariant: nothing is judged broken for its times, since a wall clock may be wrong without
//! anybody's guilt; but no step back stays unsaid, as long as there are not too many. While one
//! writer runs, its wall clock is compared with the time since the machine was started, which
//! nobody can set. Absent: steps forward, and what the true time is.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Most steps of the clock that are listed; more are counted.
pub const CLOCK_STEPS_MAX: usize = 64;

/// What the wall clock may fall behind the other within one run, at any time, in microseconds.
const LAG_US_MAX: i64 = 1_000_000;
/// And what part of the time that passed: clocks are disciplined by at most 500 millionths.
const LAG_DIVISOR: i64 = 1000;
const MICROSECONDS_A_SECOND: u64 = 1_000_000;
const NANOSECONDS_A_MICROSECOND: u64 = 1000;

/// A place where the writer's wall clock was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// Number of the segment.
    pub segment: u32,
    /// Where the frame that was written after it begins, in bytes.
    pub offset: u64,
    /// Index of that record, or of the one after that checkpoint.
    pub index: u64,
    /// How far it was set back at least, in microseconds.
    pub back_us: u64,
}

/// Microseconds since the machine was started, sleep included.
pub(crate) fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * MICROSECONDS_A_SECOND + nanoseconds / NANOSECONDS_A_MICROSECOND
}

/// The wall time of a record, which any number of microseconds need not be.
pub(crate) fn wall_time(wall_us: i64) -> Result<Timestamp, String> {
    Timestamp::from_microsecond(wall_us).map_err(|error| error.to_string())
}

/// Follows both clocks through a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClockWatch {
    last: Option<(i64, u64)>,
    /// Whether the last times are of the run that comes next, too.
    is_same_run: bool,
    pub(crate) steps: Vec<ClockStep>,
    pub(crate) steps_total: u64,
}

impl ClockWatch {
    /// Another process writes from here on, perhaps after the machine was started anew.
    pub(crate) fn begin_run(&mut self) {
        self.is_same_run = false;
    }

    /// Takes the times of the next frame; `place` says where it stands.
    pub(crate) fn see(
        &mut self,
        (wall_us, monotonic_us): (i64, u64),
        place: impl FnOnce(u64) -> ClockStep,
    ) {
        let back_us = self.back_us(wall_us, monotonic_us);
        self.last = Some((wall_us, monotonic_us));
        self.is_same_run = true;
        if back_us == 0 {
            return;
        }
        self.steps_total += 1;
        if self.steps.len() < CLOCK_STEPS_MAX {
            self.steps.push(place(back_us));
        }
    }

    fn back_us(&self, wall_us: i64, monotonic_us: u64) -> u64 {
        let Some((last_wall_us, last_monotonic_us)) = self.last else {
            return 0;
        };
        let went_back = last_wall_us.saturating_sub(wall_us).max(0);
        if !self.is_same_run {
            return went_back.cast_unsigned();
        }
        let passed = i64::try_from(monotonic_us.saturating_sub(last_monotonic_us));
        let passed = passed.unwrap_or(i64::MAX);
        let lag = passed.saturating_sub(wall_us.saturating_sub(last_wall_us));
        let allowed = LAG_US_MAX.saturating_add(passed / LAG_DIVISOR);
        let lagged = if lag > allowed { lag } else { 0 };
        let turned_back = last_monotonic_us.saturating_sub(monotonic_us);
        turned_back.max(went_back.max(lagged).cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: i64 = 3_600_000_000;
    const HOUR: u64 = HOUR_US.cast_unsigned();

    /// Wall and monotonic times of some frames, and how far back the steps between them go.
    type Case = (&'static [(i64, u64)], &'static [u64]);

    fn steps(frames: &[(i64, u64)]) -> Vec<u64> {
        let mut watch = ClockWatch::default();
        for &times in frames {
            watch.see(times, |back_us| ClockStep {
                segment: 0,
                offset: 0,
                index: 0,
                back_us,
            });
        }
        watch.steps.iter().map(|step| step.back_us).collect()
    }

    #[test]
    fn only_a_clock_that_was_set_back_is_told() {
        let cases: [Case; 6] = [
            (&[(0, 0), (5, 5), (HOUR_US, HOUR)], &[]),
            (&[(0, 0), (HOUR_US, 5)], &[]),
            (&[(10, 0), (9, 5)], &[1]),
            // Set back by an hour, and two passed: it still seems to go on.
            (&[(0, 0), (HOUR_US, 2 * HOUR)], &[HOUR]),
            // As slow as a disciplined clock may be.
            (&[(0, 0), (HOUR_US - 1_800_000, HOUR)], &[]),
            (&[(0, 10), (5, 9)], &[1]),
        ];
        for (frames, expected) in cases {
            assert_eq!(steps(frames), expected, "{frames:?}");
        }
    }
}
