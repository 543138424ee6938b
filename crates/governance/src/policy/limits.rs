//! What the policy says about limits: of each identity, and of roles and templates together.
//!
//! ```yaml
//! limits:                      # of each identity, where it has none of its own; key by key
//!   requests_per_minute: 60    # each key may be left out: no limit
//!   tokens_per_minute: 20000   # tokens are those of prompt and answer
//!   concurrent_calls: 4
//!   prompt_tokens: 4096        # of one call
//!   output_tokens: 512         # of one call
//!   tokens_per_day: 200000     # a day and a calendar month of UTC
//!   tokens_per_month: 3000000
//!   warn_percent: 80           # of a day's or month's tokens
//! identities:
//!   kiosk: {limits: {tokens_per_day: 50000}, templates: {coffee.v1: {}}}
//! roles:
//!   ci: {limits: {concurrent_calls: 2}}            # all identities of the role together
//! templates:
//!   triage.v1: {limits: {tokens_per_day: 100000}}  # all callers of the template together
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::limits::{Account, LIMIT_MAX, Limits};
use crate::names::TemplateId;
use crate::output_record::AuditFile;

/// Most percent that `warn_percent` may be.
const PERCENT_MAX: u64 = 100;

/// A `limits` section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    #[serde(default, deserialize_with = "written")]
    requests_per_minute: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    tokens_per_minute: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    concurrent_calls: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    prompt_tokens: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    output_tokens: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    tokens_per_day: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    tokens_per_month: Option<Spanned<i64>>,
    #[serde(default, deserialize_with = "written")]
    warn_percent: Option<Spanned<i64>>,
}

/// A number that is there if its key is: a line without one would be no limit, which nobody means who writes it.
fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Spanned<i64>>, D::Error> {
    Spanned::deserialize(from).map(Some)
}

/// What the policy says of a template, whoever uses it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateFile {
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default, deserialize_with = "AuditFile::written")]
    pub(super) audit: Option<AuditFile>,
}

impl LimitsFile {
    /// The limits, each within its bounds; `section` is where they stand in the file, for messages.
    fn check(self, file: &str, section: &str) -> Result<Limits, GovernanceError> {
        let check = |key: &str, given: Option<Spanned<i64>>, max: u64| {
            let Some(given) = given else { return Ok(None) };
            let value = u64::try_from(given.value).ok();
            let value = value.filter(|value| (1..=max).contains(value));
            value.map(Some).ok_or_else(|| GovernanceError::Field {
                file: file.to_owned(),
                line: given.defined.line(),
                field: format!("{section}.{key}"),
                reason: reason(given.value, max),
            })
        };
        let warn_percent = check("warn_percent", self.warn_percent, PERCENT_MAX)?;
        let check = |key, given| check(key, given, LIMIT_MAX);
        Ok(Limits {
            requests_per_minute: check("requests_per_minute", self.requests_per_minute)?,
            tokens_per_minute: check("tokens_per_minute", self.tokens_per_minute)?,
            concurrent_calls: check("concurrent_calls", self.concurrent_calls)?,
            prompt_tokens: check("prompt_tokens", self.prompt_tokens)?,
            output_tokens: check("output_tokens", self.output_tokens)?,
            tokens_per_day: check("tokens_per_day", self.tokens_per_day)?,
            tokens_per_month: check("tokens_per_month", self.tokens_per_month)?,
            warn_percent: warn_percent.map(|percent| percent as u8),
        })
    }
}

fn reason(found: i64, max: u64) -> String {
    let advice = if found <= 0 {
        "; remove the line for no limit, or take the template or identity out to allow nothing"
    } else {
        ""
    };
    format!("is {found}, but must be from 1 to {max}{advice}")
}

/// All limits of a policy, checked.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyLimits {
    /// Of identities that have none of their own.
    default: Limits,
    accounts: BTreeMap<Account, Limits>,
    /// The templates that are named, with their lines in the file.
    templates: BTreeMap<TemplateId, u64>,
}

impl PolicyLimits {
    /// The limits that are given of identities in general and of templates.
    pub(super) fn shared(
        file: &str,
        default: LimitsFile,
        templates: BTreeMap<TemplateId, Spanned<TemplateFile>>,
    ) -> Result<Self, GovernanceError> {
        let mut shared = Self {
            default: default.check(file, "limits")?,
            ..Self::default()
        };
        for (id, said) in templates {
            shared.templates.insert(id.clone(), said.defined.line());
            shared.set(file, Account::Template(id), said.value.limits)?;
        }
        Ok(shared)
    }

    /// Adds the limits of one account.
    pub(super) fn set(
        &mut self,
        file: &str,
        account: Account,
        limits: LimitsFile,
    ) -> Result<(), GovernanceError> {
        let section = match &account {
            Account::Identity(name) => format!("identities.{name}.limits"),
            Account::Role(name) => format!("roles.{name}.limits"),
            Account::Template(id) => format!("templates.{id}.limits"),
        };
        let limits = limits.check(file, &section)?;
        if !limits.is_empty() {
            self.accounts.insert(account, limits);
        }
        Ok(())
    }

    /// The limits of an account; `None` where nothing is limited.
    pub(super) fn of(&self, account: &Account) -> Option<Limits> {
        let own = self.accounts.get(account).copied().unwrap_or_default();
        let limits = match account {
            Account::Identity(_) => own.or(&self.default),
            Account::Role(_) | Account::Template(_) => own,
        };
        (!limits.is_empty()).then_some(limits)
    }

    /// The templates that are named, with their lines in the file.
    pub(super) fn templates(&self) -> impl Iterator<Item = (&TemplateId, u64)> {
        self.templates.iter().map(|(id, line)| (id, *line))
    }

    /// For the policy's checksum; `None` where nothing is limited, so that the checksum of such a policy is what
    /// it was before there were limits.
    pub(super) fn canonical(&self) -> Option<Canonical> {
        if self.default.is_empty() && self.accounts.is_empty() {
            return None;
        }
        let accounts = self.accounts.iter();
        let accounts = accounts.map(|(account, limits)| (account.to_string(), canonical(limits)));
        Some(Canonical::object([
            ("default", canonical(&self.default)),
            ("accounts", Canonical::Object(accounts.collect())),
        ]))
    }
}

fn canonical(limits: &Limits) -> Canonical {
    let entries = [
        ("requests_per_minute", limits.requests_per_minute),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("concurrent_calls", limits.concurrent_calls),
        ("prompt_tokens", limits.prompt_tokens),
        ("output_tokens", limits.output_tokens),
        ("tokens_per_day", limits.tokens_per_day),
        ("tokens_per_month", limits.tokens_per_month),
        ("warn_percent", limits.warn_percent.map(u64::from)),
    ];
    let given = entries
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), Canonical::Integer(value?))));
    Canonical::Object(given.collect())
}
