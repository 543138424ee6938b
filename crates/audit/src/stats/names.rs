//! Figures by name, for as many names as have room.
//!
//! Invariant: at most [`NAMES_MAX`] names have figures of their own, and those of all others are in
//! one sum, so the sum over all rows is exact. Names of admitted calls come before names that were
//! only refused: whoever asks for templates that do not exist cannot push out those that do.

use std::collections::BTreeMap;

use super::add;
use super::report::{Count, Counts, UsageFigures, UsageOfName, Usages};

/// Most names of one kind (templates, identities, rules, …) that are counted each by itself.
pub const NAMES_MAX: usize = 200;

/// Calls, refusals and tokens by name.
#[derive(Debug, Default)]
pub(super) struct UsageByName {
    by_name: BTreeMap<String, UsageFigures>,
    other: UsageFigures,
}

impl UsageByName {
    /// The figures of a name that an admitted call has.
    pub(super) fn of_call(&mut self, name: &str) -> &mut UsageFigures {
        if !self.has_room(name) {
            self.make_room();
        }
        self.of_refusal(name)
    }

    /// The figures of a name that a refused call has.
    pub(super) fn of_refusal(&mut self, name: &str) -> &mut UsageFigures {
        if self.has_room(name) {
            self.by_name.entry(name.to_owned()).or_default()
        } else {
            &mut self.other
        }
    }

    /// The figures of all that has no row of its own.
    pub(super) fn other(&mut self) -> &mut UsageFigures {
        &mut self.other
    }

    pub(super) fn report(&self) -> Usages {
        let rows = self.by_name.iter().map(|(name, figures)| UsageOfName {
            name: name.clone(),
            figures: *figures,
        });
        let mut rows: Vec<UsageOfName> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.figures.calls, row.figures.refusals)));
        let other = self.other;
        Usages { rows, other }
    }

    fn has_room(&self, name: &str) -> bool {
        self.by_name.len() < NAMES_MAX || self.by_name.contains_key(name)
    }

    /// Counts a name that was only refused, the one with the fewest refusals, as other.
    fn make_room(&mut self) {
        let only_refused = self
            .by_name
            .iter()
            .filter(|(_, figures)| figures.calls == 0);
        let least = only_refused.min_by_key(|(_, figures)| figures.refusals);
        let Some(name) = least.map(|(name, _)| name.clone()) else {
            return;
        };
        if let Some(figures) = self.by_name.remove(&name) {
            self.other = self.other.plus(&figures);
        }
    }
}

/// Counts by name.
#[derive(Debug, Default)]
pub(super) struct CountByName {
    by_name: BTreeMap<String, u64>,
    other: u64,
}

impl CountByName {
    pub(super) fn add(&mut self, name: &str, number: u64) {
        if let Some(count) = self.by_name.get_mut(name) {
            add(count, number);
        } else if self.by_name.len() < NAMES_MAX {
            self.by_name.insert(name.to_owned(), number);
        } else {
            add(&mut self.other, number);
        }
    }

    pub(super) fn report(&self) -> Counts {
        let rows = self.by_name.iter().map(|(name, &count)| Count {
            name: name.clone(),
            count,
        });
        let mut rows: Vec<Count> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        let other = self.other;
        Counts { rows, other }
    }
}
