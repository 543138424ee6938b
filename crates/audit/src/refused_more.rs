//! How much was refused that has no record of its own.
//!
//! Invariant: an entry that passed its check has at least one and at most [`REFUSAL_CODES_MAX`] codes. Absent:
//! who was refused, and which refusals are counted only; the writer of the records knows.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::entry::{check_count, check_name, invalid};
use crate::error::{AuditError, EntryProblem};

/// Most codes by which one record counts refusals.
pub const REFUSAL_CODES_MAX: usize = 64;

/// The code that stands for all that have no row.
const OTHER_CODE: &str = "other";

/// What was refused and not recorded one by one, since too much of it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedMore {
    /// How much, by code; the most frequent first.
    pub counts: Vec<RefusalCount>,
    /// When the first of it came, in microseconds since 1970.
    pub since_us: i64,
    /// When the last of it came, likewise.
    pub until_us: i64,
}

/// How often something was refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalCount {
    /// Why, as in [`Refused::code`](crate::Refused::code); `other` for all codes that have no row.
    pub code: String,
    /// How often.
    pub count: u64,
}

impl RefusedMore {
    /// Puts the counts into order, those of the least frequent codes together as `other` where there are more than
    /// [`REFUSAL_CODES_MAX`].
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let by_count = |one: &RefusalCount| (Reverse(one.count), one.code.clone());
        self.counts.sort_by_cached_key(by_count);
        if self.counts.len() > REFUSAL_CODES_MAX {
            let rest = self.counts.split_off(REFUSAL_CODES_MAX - 1);
            self.counts.push(RefusalCount {
                code: OTHER_CODE.to_owned(),
                count: sum(&rest),
            });
        }
        self
    }

    /// How much it is together.
    #[must_use]
    pub fn total(&self) -> u64 {
        sum(&self.counts)
    }

    /// Checks bounds and forms of every field.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        if self.counts.is_empty() {
            return Err(invalid("counts", EntryProblem::Empty));
        }
        check_count("counts", self.counts.len(), REFUSAL_CODES_MAX)?;
        for one in &self.counts {
            check_name("counts", &one.code)?;
        }
        Ok(())
    }
}

fn sum(counts: &[RefusalCount]) -> u64 {
    let counts = counts.iter().map(|one| one.count);
    counts.fold(0, u64::saturating_add)
}
