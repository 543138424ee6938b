//! What a record says, in one sentence for people.
//!
//! Invariant: a sentence has no content of variables; those stand in fields of their own, which a
//! receiver can leave out. Absent: translation.

use super::{Actor, Told};
use crate::entry::{Administered, Completed, Cut, Entry, Expired, Outcome, Refused};
use crate::refused_more::RefusedMore;

pub(super) fn sentence(told: &Told<'_>) -> String {
    let who = who(told);
    match &told.record.entry {
        Entry::Opened { version, cut } => opened(version, cut.as_ref()),
        Entry::Admitted(admitted) => format!(
            "A call of {who} was admitted, with template {} and model {}.",
            admitted.template.id, admitted.model.id
        ),
        Entry::Refused(refused) => refusal(&who, refused),
        Entry::RefusedMore(more) => refusals(more),
        Entry::Completed(completed) => format!("A call of {who} {}.", end(completed)),
        Entry::Administered(administered) => administration(&who, administered),
        Entry::Interrupted { .. } => {
            format!("A call of {who} had no end when the log was opened again.")
        }
        Entry::Expired(expired) => expiry(expired),
    }
}

/// Why, for a person.
pub(super) fn detail(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Refused(refused) => Some(refused.detail.clone()),
        Entry::Administered(administered) => Some(administered.detail.clone()),
        Entry::Completed(completed) => match &completed.outcome {
            Outcome::Held { reasons } => Some(reasons.join(", ")),
            _ => None,
        },
        Entry::Opened { .. }
        | Entry::Admitted(_)
        | Entry::RefusedMore(_)
        | Entry::Interrupted { .. }
        | Entry::Expired(_) => None,
    }
}

fn who(told: &Told<'_>) -> String {
    match told.actor() {
        Actor::Identity(identity) => identity.to_owned(),
        Actor::Local => "somebody at the device".to_owned(),
        Actor::Unknown => "an unknown client".to_owned(),
        Actor::Log => "the log".to_owned(),
    }
}

fn opened(version: &str, cut: Option<&Cut>) -> String {
    let cut = cut.map_or_else(String::new, |cut| {
        let Cut { bytes, segment, .. } = cut;
        format!("; {bytes} bytes of a torn write were cut from segment {segment}")
    });
    format!("The log was opened by version {version}{cut}.")
}

fn refusal(who: &str, refused: &Refused) -> String {
    let template = refused.template.as_ref();
    let template = template.map_or_else(String::new, |id| format!(" with template {id}"));
    let held = refused.subject.as_ref();
    let held = held.map_or_else(String::new, |id| format!(" about the held output {id}"));
    format!(
        "A call of {who}{template}{held} was refused: {}.",
        refused.code
    )
}

fn refusals(more: &RefusedMore) -> String {
    let counts = more.counts.iter();
    let counts: Vec<String> = counts
        .map(|one| format!("{} of {}", one.count, one.code))
        .collect();
    format!(
        "{} more were refused without records of their own: {}.",
        more.total(),
        counts.join(", ")
    )
}

fn end(completed: &Completed) -> String {
    match &completed.outcome {
        Outcome::Completed => "was completed".to_owned(),
        Outcome::Length => "reached the greatest length of its answer".to_owned(),
        Outcome::Cancelled => "was cancelled".to_owned(),
        Outcome::Deadline => "reached its deadline".to_owned(),
        Outcome::Filtered => "was ended by the output filter".to_owned(),
        Outcome::Held { reasons } => format!("was held for a review: {}", reasons.join(", ")),
        Outcome::Failed { code } => format!("failed: {code}"),
    }
}

fn administration(who: &str, administered: &Administered) -> String {
    let Administered {
        action, subject, ..
    } = administered;
    format!("{action} of {subject} by {who}.")
}

fn expiry(expired: &Expired) -> String {
    let Expired {
        segment,
        class,
        reason,
    } = expired;
    format!("The content of class {class} in segment {segment} was destroyed: {reason}.")
}
