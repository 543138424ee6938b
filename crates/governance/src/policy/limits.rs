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

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::GovernanceError;
use crate::canonical::Canonical;
use crate::limits::{Account, AppliedLimits, LIMIT_MAX, Limits};
use crate::names::{Identity, RoleName, TemplateId};

/// Most percent that `warn_percent` may be.
const PERCENT_MAX: u64 = 100;

/// A `limits` section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    requests_per_minute: Option<Spanned<i64>>,
    tokens_per_minute: Option<Spanned<i64>>,
    concurrent_calls: Option<Spanned<i64>>,
    prompt_tokens: Option<Spanned<i64>>,
    output_tokens: Option<Spanned<i64>>,
    tokens_per_day: Option<Spanned<i64>>,
    tokens_per_month: Option<Spanned<i64>>,
    warn_percent: Option<Spanned<i64>>,
}

/// What the policy says of a role.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleFile {
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    limits: LimitsFile,
}

/// What the policy says of a template, whoever uses it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateFile {
    #[serde(default)]
    limits: LimitsFile,
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
    default: Limits,
    identities: BTreeMap<Identity, Limits>,
    pub(super) roles: BTreeMap<RoleName, Limits>,
    pub(super) templates: BTreeMap<TemplateId, LimitedTemplate>,
}

/// Limits of a template, and where the policy names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitedTemplate {
    limits: Limits,
    pub(super) line: u64,
}

impl PolicyLimits {
    /// Checks what is not said of one identity.
    pub(super) fn shared(
        file: &str,
        default: LimitsFile,
        roles: BTreeMap<RoleName, RoleFile>,
        templates: BTreeMap<TemplateId, Spanned<TemplateFile>>,
    ) -> Result<Self, GovernanceError> {
        let mut shared = Self {
            default: default.check(file, "limits")?,
            ..Self::default()
        };
        for (role, said) in roles {
            let limits = said.limits.check(file, &format!("roles.{role}.limits"))?;
            shared.roles.insert(role, limits);
        }
        for (id, said) in templates {
            let line = said.defined.line();
            let section = format!("templates.{id}.limits");
            let limits = said.value.limits.check(file, &section)?;
            shared
                .templates
                .insert(id, LimitedTemplate { limits, line });
        }
        Ok(shared)
    }

    /// Checks what is said of one identity.
    pub(super) fn set_own(
        &mut self,
        file: &str,
        identity: &Identity,
        own: LimitsFile,
    ) -> Result<(), GovernanceError> {
        let limits = own.check(file, &format!("identities.{identity}.limits"))?;
        self.identities.insert(identity.clone(), limits);
        Ok(())
    }

    /// The limits of an identity, a role or a template; none where nothing is limited.
    pub(super) fn of(&self, account: &Account) -> Option<Limits> {
        let limits = match account {
            Account::Identity(identity) => {
                let own = self.identities.get(identity).copied();
                own.unwrap_or_default().or(&self.default)
            }
            Account::Role(role) => self.roles.get(role).copied().unwrap_or_default(),
            Account::Template(id) => {
                let limited = self.templates.get(id);
                limited.map(|limited| limited.limits).unwrap_or_default()
            }
        };
        (!limits.is_empty()).then_some(limits)
    }

    /// All that hold together for calls of an identity, which has these roles, to a template.
    pub(super) fn applied(
        &self,
        identity: &Identity,
        roles: &[RoleName],
        template: &TemplateId,
    ) -> Vec<AppliedLimits> {
        let identity = std::iter::once(Account::Identity(identity.clone()));
        let roles = roles.iter().cloned().map(Account::Role);
        let template = std::iter::once(Account::Template(template.clone()));
        let accounts = identity.chain(roles).chain(template);
        let applied = accounts.filter_map(|account| {
            let limits = self.of(&account)?;
            Some(AppliedLimits { account, limits })
        });
        applied.collect()
    }

    /// For the policy's checksum; `None` where nothing is limited, so that the checksum of such a policy is what
    /// it was before there were limits.
    pub(super) fn canonical(&self) -> Option<Canonical> {
        let templates = self.templates.iter();
        let templates = templates.map(|(id, limited)| (id, &limited.limits));
        let sections = [
            ("identities", named(self.identities.iter())),
            ("roles", named(self.roles.iter())),
            ("templates", named(templates)),
        ];
        let nothing = sections.iter().all(|(_, entries)| entries.is_empty());
        if self.default.is_empty() && nothing {
            return None;
        }
        let [identities, roles, templates] =
            sections.map(|(name, entries)| (name, Canonical::Object(entries)));
        let default = ("default", canonical(&self.default));
        Some(Canonical::object([default, identities, roles, templates]))
    }
}

/// The limits by name, of those that have any.
fn named<'l, N: ToString + 'l>(
    limits: impl Iterator<Item = (&'l N, &'l Limits)>,
) -> BTreeMap<String, Canonical> {
    limits
        .filter(|(_, limits)| !limits.is_empty())
        .map(|(name, limits)| (name.to_string(), canonical(limits)))
        .collect()
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
