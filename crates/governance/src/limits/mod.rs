//! How much an identity, a role or a template may use: arithmetic only.
//!
//! An [`Account`] is what a limit holds for, [`Limits`] is what the policy allows it. Two states are
//! kept for an account, by whoever has a clock and a disk:
//!
//! - [`Meter`]: token buckets of requests and tokens a minute, and how many calls run. It counts
//!   milliseconds of a clock that never goes back.
//! - [`Budget`]: tokens of the running day and month, used and reserved. It goes by the wall clock.
//!
//! Both say yes or no before a call: "no" is a [`Shortfall`] with the numbers. What a call may
//! need at most is *reserved* before it, and *settled* to what it used after it.
//!
//! Invariants, whatever times and counts come: used and reserved tokens together never exceed
//! what is allowed, a clock that goes back gives nothing back, and nothing overflows or panics.
//!
//! Absent: the clock, the disk, and which limits hold for a call; see [`crate::Policy::limits`].

mod bucket;
mod budget;
mod calendar;
mod meter;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::names::{Identity, RoleName, TemplateId};

pub use budget::{Adjustment, Budget, Crossing, Reservation, Spending};
pub use calendar::Span;
pub use meter::Meter;

/// Highest value that a limit may have: more than a device computes in a lifetime, and small enough
/// that no product of it with a time overflows.
pub const LIMIT_MAX: u64 = 1_000_000_000_000;

/// Part of a day's or month's tokens at which a warning is due, in percent, unless the policy says otherwise.
pub const WARN_PERCENT_DEFAULT: u8 = 80;

/// What the policy allows an account. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Calls that may begin in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Calls that may run or wait at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_calls: Option<u64>,
    /// Tokens of the prompt of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer of one call; a bound beside those of template and grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Tokens of prompts and answers in a day, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Tokens of prompts and answers in a calendar month, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// Part of a day's or month's tokens at which a warning is due, from 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn_percent: Option<u8>,
}

impl Limits {
    /// These limits, and those of `others` where these have none.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            requests_per_minute: self.requests_per_minute.or(others.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.or(others.tokens_per_minute),
            concurrent_calls: self.concurrent_calls.or(others.concurrent_calls),
            prompt_tokens: self.prompt_tokens.or(others.prompt_tokens),
            output_tokens: self.output_tokens.or(others.output_tokens),
            tokens_per_day: self.tokens_per_day.or(others.tokens_per_day),
            tokens_per_month: self.tokens_per_month.or(others.tokens_per_month),
            warn_percent: self.warn_percent.or(others.warn_percent),
        }
    }

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether tokens of a day or month are limited, which has to be remembered on disk.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        self.tokens_per_day.is_some() || self.tokens_per_month.is_some()
    }

    /// Tokens allowed in a day or month.
    #[must_use]
    pub fn budget(&self, span: Span) -> Option<u64> {
        match span {
            Span::Day => self.tokens_per_day,
            Span::Month => self.tokens_per_month,
        }
    }

    pub(crate) fn warn_percent(&self) -> u8 {
        self.warn_percent.unwrap_or(WARN_PERCENT_DEFAULT)
    }

    /// Whether a prompt of this many tokens may be sent at all.
    ///
    /// # Errors
    ///
    /// The [`Shortfall`] of `prompt_tokens`; waiting does not help.
    pub fn check_prompt(&self, tokens: u64) -> Result<(), Shortfall> {
        match self.prompt_tokens {
            Some(allowed) if tokens > allowed => {
                Err(Shortfall::never(LimitKey::PromptTokens, allowed, tokens))
            }
            _ => Ok(()),
        }
    }
}

/// Limits that hold for a call, with whom they are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedLimits {
    /// Whose they are.
    pub account: Account,
    /// What it may use.
    pub limits: Limits,
}

/// What a limit holds for. Written `identity/kiosk`, `role/ci`, `template/triage.v1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// One identity.
    Identity(Identity),
    /// All identities of a role together.
    Role(RoleName),
    /// All callers of a template together.
    Template(TemplateId),
}

const IDENTITY: &str = "identity";
const ROLE: &str = "role";
const TEMPLATE: &str = "template";

/// A text that is no [`Account`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an account; an account is identity/NAME, role/NAME or template/ID, \
     such as identity/kiosk or template/triage.v1"
)]
pub struct AccountInvalid;

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(name) => write!(f, "{IDENTITY}/{name}"),
            Self::Role(name) => write!(f, "{ROLE}/{name}"),
            Self::Template(id) => write!(f, "{TEMPLATE}/{id}"),
        }
    }
}

impl FromStr for Account {
    type Err = AccountInvalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').ok_or(AccountInvalid)?;
        let account = match kind {
            IDENTITY => name.parse().map(Self::Identity),
            ROLE => name.parse().map(Self::Role),
            TEMPLATE => name.parse().map(Self::Template),
            _ => return Err(AccountInvalid),
        };
        account.map_err(|_| AccountInvalid)
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// One key of a `limits` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// `requests_per_minute`.
    RequestsPerMinute,
    /// `tokens_per_minute`.
    TokensPerMinute,
    /// `concurrent_calls`.
    ConcurrentCalls,
    /// `prompt_tokens`.
    PromptTokens,
    /// `tokens_per_day`.
    TokensPerDay,
    /// `tokens_per_month`.
    TokensPerMonth,
}

impl LimitKey {
    /// The name in policies and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::ConcurrentCalls => "concurrent_calls",
            Self::PromptTokens => "prompt_tokens",
            Self::TokensPerDay => "tokens_per_day",
            Self::TokensPerMonth => "tokens_per_month",
        }
    }
}

/// Why a call may not begin, with the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// The limit that would be exceeded.
    pub limit: LimitKey,
    /// What it allows, grants included.
    pub allowed: u64,
    /// What is used up: tokens, requests, or calls that run.
    pub used: u64,
    /// Tokens that running calls may still use.
    pub reserved: u64,
    /// What the call may need.
    pub asked: u64,
    /// Whole seconds after which the same call may be tried again; `None` if it can never pass, because it asks
    /// for more than the whole limit.
    pub retry_after_s: Option<u64>,
    /// When a day or month ends, in seconds since 1970-01-01 UTC.
    pub resets_unix_s: Option<i64>,
}

impl Shortfall {
    /// A call that is larger than the whole limit.
    fn never(limit: LimitKey, allowed: u64, asked: u64) -> Self {
        Self {
            limit,
            allowed,
            used: 0,
            reserved: 0,
            asked,
            retry_after_s: None,
            resets_unix_s: None,
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            limit,
            allowed,
            used,
            reserved,
            asked,
            ..
        } = self;
        write!(
            f,
            "the call asks for {asked}, but of {limit} {allowed}, {used} are used and {reserved} reserved",
            limit = limit.as_str()
        )
    }
}
