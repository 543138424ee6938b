//! What kinds of entries there are, which class each belongs to, and how each is told in bytes.
//!
//! Invariant: a code is never given to another type, and the class of a type never changes, since
//! stored logs rest on both. Absent: what the entries say.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::entry::Entry;

/// Number of classes.
pub(crate) const CLASSES: usize = 3;

/// What is kept, sealed and destroyed together: each class has a key of its own in each segment.
/// In the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// What was done to the daemon and to the log itself.
    Administration,
    /// Calls that were admitted, and their ends.
    Calls,
    /// Calls that were turned away, and people who did not prove who they are.
    Refusals,
}

impl Class {
    /// All classes, in the order of their names.
    pub const ALL: [Self; CLASSES] = [Self::Administration, Self::Calls, Self::Refusals];

    /// Its name, as in files and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Administration => "administration",
            Self::Calls => "calls",
            Self::Refusals => "refusals",
        }
    }

    /// Its place in [`Class::ALL`].
    pub(crate) fn place(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Type of an entry, which stands in the clear part of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryType {
    /// [`Entry::Opened`].
    Opened = 1,
    /// [`Entry::Admitted`].
    Admitted = 2,
    /// [`Entry::Refused`].
    Refused = 3,
    /// [`Entry::Completed`].
    Completed = 4,
    /// [`Entry::Administered`].
    Administered = 5,
    /// [`Entry::Interrupted`].
    Interrupted = 6,
    /// [`Entry::Expired`].
    Expired = 7,
    /// [`Entry::RefusedMore`].
    RefusedMore = 8,
}

impl EntryType {
    const ALL: [Self; 8] = [
        Self::Opened,
        Self::Admitted,
        Self::Refused,
        Self::Completed,
        Self::Administered,
        Self::Interrupted,
        Self::Expired,
        Self::RefusedMore,
    ];

    /// The class that such entries belong to.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Admitted | Self::Completed | Self::Interrupted => Class::Calls,
            Self::Refused | Self::RefusedMore => Class::Refusals,
            Self::Opened | Self::Administered | Self::Expired => Class::Administration,
        }
    }

    /// Its name, as in an entry's member `type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Completed => "completed",
            Self::Administered => "administered",
            Self::Interrupted => "interrupted",
            Self::Expired => "expired",
            Self::RefusedMore => "refused-more",
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

impl fmt::Display for EntryType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Entry {
    /// Type of this entry.
    #[must_use]
    pub fn entry_type(&self) -> EntryType {
        match self {
            Self::Opened { .. } => EntryType::Opened,
            Self::Admitted(_) => EntryType::Admitted,
            Self::Refused(_) => EntryType::Refused,
            Self::Completed(_) => EntryType::Completed,
            Self::Administered(_) => EntryType::Administered,
            Self::Interrupted { .. } => EntryType::Interrupted,
            Self::Expired(_) => EntryType::Expired,
            Self::RefusedMore(_) => EntryType::RefusedMore,
        }
    }
}
