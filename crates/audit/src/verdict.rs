//! Which administrative records decide on a held answer.
//!
//! Invariant: such a record's subject is the request id of the held call. Absent: the answer.

use crate::entry::Administered;

/// Action of a record that lets a held answer go out.
pub const REVIEW_APPROVED: &str = "review-approved";
/// Action of a record that does not.
pub const REVIEW_REJECTED: &str = "review-rejected";

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
