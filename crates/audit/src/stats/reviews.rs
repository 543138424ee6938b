//! How many answers were held, and how long they waited for somebody.
//!
//! Invariant: at most [`REVIEWS_PENDING_MAX`] held answers are remembered; of more, the oldest is
//! forgotten, and its decision counts without a time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::quantiles::Quantiles;
use super::report::ReviewFigures;
use crate::entry::Administered;
use crate::verdict::Verdict;

/// Most held answers whose decision is waited for.
pub const REVIEWS_PENDING_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct ReviewCounter {
    held_at_by_id: BTreeMap<String, Timestamp>,
    held: u64,
    approved: u64,
    rejected: u64,
    waited: Quantiles,
}

impl ReviewCounter {
    /// Counts a held answer.
    pub(super) fn hold(&mut self, request_id: &str, time: Timestamp) {
        self.held += 1;
        self.expect(request_id, time);
    }

    /// Takes note of a held answer that is not counted, but whose decision may be.
    pub(super) fn expect(&mut self, request_id: &str, time: Timestamp) {
        self.held_at_by_id.insert(request_id.to_owned(), time);
        if self.held_at_by_id.len() > REVIEWS_PENDING_MAX {
            let oldest = self
                .held_at_by_id
                .iter()
                .min_by_key(|(_, held_at)| **held_at);
            if let Some(request_id) = oldest.map(|(id, _)| id.clone()) {
                self.held_at_by_id.remove(&request_id);
            }
        }
    }

    /// Counts a record if it decides on a held answer.
    pub(super) fn decide(&mut self, administered: &Administered, time: Timestamp) {
        match Verdict::of(administered) {
            Some(Verdict::Approved) => self.approved += 1,
            Some(Verdict::Rejected) => self.rejected += 1,
            None => return,
        }
        if let Some(held_at) = self.held_at_by_id.remove(&administered.subject) {
            // A clock that was set back gives a negative time, which is none.
            let waited_us = time.as_microsecond() - held_at.as_microsecond();
            self.waited.add(u64::try_from(waited_us).unwrap_or(0));
        }
    }

    pub(super) fn report(&self) -> ReviewFigures {
        ReviewFigures {
            held: self.held,
            approved: self.approved,
            rejected: self.rejected,
            pending: self.held_at_by_id.len() as u64,
            time_to_decision: self.waited.report(),
        }
    }
}
