//! Which administrative records are about a held answer, and what they decide.
//!
//! Invariant: such a record's subject is the request id of the held call. Absent: the answer.

use crate::entry::Administered;

/// Action of a record that lets a held answer go out.
pub const REVIEW_APPROVED: &str = "review-approved";
/// Action of a record that does not.
pub const REVIEW_REJECTED: &str = "review-rejected";
/// Action of a record that somebody was given the text of a held answer.
pub const REVIEW_READ: &str = "review-read";

/// What was decided on a held answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Approved,
    Rejected,
}

impl Verdict {
    /// The decision, if the record is one.
    pub(crate) fn of(administered: &Administered) -> Option<Self> {
        match administered.action.as_str() {
            REVIEW_APPROVED => Some(Self::Approved),
            REVIEW_REJECTED => Some(Self::Rejected),
            _ => None,
        }
    }
}
