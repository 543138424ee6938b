//! Validated names: who calls, in which role, which template, and what it is for.
//!
//! Invariant: a value of these types has passed its check; there is no other way to make one, not
//! through serde either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::GovernanceError;

/// Longest identity, role or template id, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Most digits of a template's version.
const VERSION_DIGITS_MAX: usize = 6;

/// Who calls: the name in the client certificate, the token and the policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Identity(String);

/// What a caller is there for, such as `ci`: identities have roles in the policy, and rules and limits name them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RoleName(String);

/// A template with its version, such as `coffee.v1` or `coffee_v1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TemplateId(String);

/// What a template is for and a model is meant for, as both name it: `triage`, `test-generation`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UseCase(String);

/// The use case that stands for all.
const ANY_USE: &str = "any";

impl UseCase {
    /// Every use there is: a model that is meant for it may answer every template.
    #[must_use]
    pub fn any() -> Self {
        Self(ANY_USE.to_owned())
    }

    /// Whether this stands for every use.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0 == ANY_USE
    }
}

impl TemplateId {
    /// The name and the number of the version. Two spellings of one template have the same parts.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        split_version(&self.0).expect("an id has a version, which was checked")
    }
}

impl FromStr for Identity {
    type Err = GovernanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match name_fault(text) {
            Some(reason) => Err(GovernanceError::InvalidIdentity { reason }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for RoleName {
    type Err = GovernanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match name_fault(text) {
            Some(reason) => Err(GovernanceError::InvalidRole { reason }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for TemplateId {
    type Err = GovernanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match name_fault(text).or_else(|| version_fault(text)) {
            Some(reason) => Err(GovernanceError::InvalidTemplateId { reason }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for UseCase {
    type Err = GovernanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match use_case_fault(text) {
            Some(reason) => Err(GovernanceError::InvalidUseCase { reason }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

fn name_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Some("it is longer than 64 bytes");
    }
    if !text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        return Some("it does not begin with a-z or 0-9");
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    if !text.bytes().all(allowed) {
        return Some("it holds a character that is not allowed");
    }
    None
}

fn use_case_fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Some("it is longer than 64 bytes");
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !text.bytes().all(allowed) {
        return Some("it holds a character that is not allowed");
    }
    if text.split('-').any(str::is_empty) {
        return Some("a `-` of it does not stand between two words");
    }
    None
}

/// What stands before and behind the last `.v` or `_v`.
fn split_version(text: &str) -> Option<(&str, &str)> {
    let separator = text.rfind(".v").max(text.rfind("_v"))?;
    Some((&text[..separator], &text[separator + 2..]))
}

fn version_fault(text: &str) -> Option<&'static str> {
    let Some((name, version)) = split_version(text) else {
        return Some("it does not end in a version such as `.v1` or `_v1`");
    };
    if name.is_empty() {
        return Some("there is no name before the version");
    }
    let digits = version.bytes().all(|b| b.is_ascii_digit());
    if !digits || version.is_empty() || version.len() > VERSION_DIGITS_MAX {
        return Some("its version is not `.v` or `_v` and a number of at most 6 digits");
    }
    if version.starts_with('0') {
        return Some("its version begins with 0; versions count from 1");
    }
    None
}

/// What all names have alike: their text, and a way in through serde that checks it.
macro_rules! name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

name!(Identity);
name!(RoleName);
name!(TemplateId);
name!(UseCase);
