//! Who may use which template.
//!
//! ```yaml
//! version: 1
//! identities:
//!   kiosk:
//!     description: "The screen in the hall."   # optional
//!     templates:
//!       coffee.v1: {}                          # with the template's own bounds
//!   ci-runner:
//!     templates:
//!       triage.v1: {max_tokens: 256}           # at most this many tokens a call
//! ```
//!
//! Two further sections, `sanitizer` and `injection`, are about the content of variables; see
//! [`screening`]. `limits` says how much may be used; see [`limits`].
//!
//! Invariant: default deny. There are no wildcards; what is not written is refused.
//!
//! The checksum is SHA-256 over canonical JSON of the parsed policy:
//! `{"format":"postern-policy/2","identities":{name:{"description","templates":{id:{"max_tokens"
//! or null}}}},"screening":{..}}`, and `"limits":{..}` and an identity's `"roles":{..}` where there are any.

mod limits;
mod screening;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::canonical::Canonical;
use crate::injection::Level;
use crate::limits::{Account, AppliedLimits, Limits};
use crate::names::{Identity, RoleName, TemplateId};
use crate::sanitizer::{Mode, Settings};
use crate::{GovernanceError, source};
use limits::{LimitsFile, PolicyLimits, RoleFile, TemplateFile};
use screening::{InjectionFile, SanitizerFile};

pub use screening::Action;
pub(crate) use screening::{Invisible, Screening};

/// Most roles of one identity.
pub const ROLES_MAX: usize = 16;

/// The only version of the format.
const POLICY_VERSION: u32 = 1;

/// Which identity may use which template, within which bounds.
#[derive(Debug, Clone)]
pub struct Policy {
    file: String,
    identities: BTreeMap<Identity, Granted>,
    limits: PolicyLimits,
    pub(crate) screening: Screening,
    checksum: String,
}

#[derive(Debug, Clone)]
struct Granted {
    description: String,
    roles: Vec<RoleName>,
    templates: BTreeMap<TemplateId, Grant>,
}

/// What an identity may do with a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Most tokens that a call may generate, if less than the template's own bound.
    pub max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: Spanned<u32>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    roles: BTreeMap<RoleName, RoleFile>,
    #[serde(default)]
    templates: BTreeMap<TemplateId, Spanned<TemplateFile>>,
    identities: BTreeMap<Identity, IdentityFile>,
    #[serde(default)]
    sanitizer: SanitizerFile,
    #[serde(default)]
    injection: InjectionFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    description: Option<String>,
    #[serde(default)]
    roles: Vec<Spanned<RoleName>>,
    #[serde(default)]
    limits: LimitsFile,
    templates: BTreeMap<TemplateId, Spanned<GrantFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    max_tokens: Option<u32>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    ///
    /// That the file cannot be read or is wrong, with line and reason.
    pub fn load(file: &Path) -> Result<Self, GovernanceError> {
        let text = source::read(file, source::SOURCE_BYTES_MAX)?;
        Self::from_source(&source::file_name(file), &text)
    }

    /// Parses a policy; `file_name` is for messages.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and reason.
    pub fn from_source(file_name: &str, text: &str) -> Result<Self, GovernanceError> {
        let parsed: PolicyFile = source::parse(file_name, text)?;
        if parsed.version.value != POLICY_VERSION {
            return Err(GovernanceError::Field {
                file: file_name.to_owned(),
                line: parsed.version.defined.line(),
                field: "version".to_owned(),
                reason: format!("must be {POLICY_VERSION}"),
            });
        }
        let mut limits =
            PolicyLimits::shared(file_name, parsed.limits, parsed.roles, parsed.templates)?;
        let mut identities = BTreeMap::new();
        for (identity, mut granted) in parsed.identities {
            let own = std::mem::take(&mut granted.limits);
            limits.set_own(file_name, &identity, own)?;
            let checked = check_identity(file_name, &identity, granted, &limits.roles)?;
            identities.insert(identity, checked);
        }
        let screening = Screening::new(file_name, parsed.sanitizer, parsed.injection)?;
        let checksum = canonical(&identities, &screening, &limits).sha256_hex();
        Ok(Self {
            file: file_name.to_owned(),
            identities,
            limits,
            screening,
            checksum,
        })
    }

    /// Whether the policy names this identity at all.
    #[must_use]
    pub fn knows(&self, identity: &Identity) -> bool {
        self.identities.contains_key(identity)
    }

    /// Whether this identity may use this template.
    #[must_use]
    pub fn allows(&self, identity: &Identity, template: &TemplateId) -> bool {
        self.grant(identity, template).is_some()
    }

    /// What this identity may do with this template; `None` is "nothing".
    #[must_use]
    pub fn grant(&self, identity: &Identity, template: &TemplateId) -> Option<Grant> {
        let granted = self.identities.get(identity)?;
        granted.templates.get(template).copied()
    }

    /// Every grant, in byte order of identity and template.
    pub fn grants(&self) -> impl Iterator<Item = (&Identity, &TemplateId, Grant)> {
        self.identities.iter().flat_map(|(identity, granted)| {
            let templates = granted.templates.iter();
            templates.map(move |(template, grant)| (identity, template, *grant))
        })
    }

    /// All limits that hold together for calls of this identity to this template: of the identity, of each of its
    /// roles, and of the template, in this order. What is not limited is left out.
    #[must_use]
    pub fn limits(&self, identity: &Identity, template: &TemplateId) -> Vec<AppliedLimits> {
        let granted = self.identities.get(identity);
        let roles = granted.map_or(&[][..], |granted| &granted.roles);
        self.limits.applied(identity, roles, template)
    }

    /// The limits of an account; `None` where nothing of it is limited.
    #[must_use]
    pub fn limits_of(&self, account: &Account) -> Option<Limits> {
        self.limits.of(account)
    }

    /// Every account that something is limited of: identities, roles, templates, each in byte order.
    #[must_use]
    pub fn accounts(&self) -> Vec<AppliedLimits> {
        let identities = self.identities.keys().cloned().map(Account::Identity);
        let roles = self.limits.roles.keys().cloned().map(Account::Role);
        let templates = self.limits.templates.keys().cloned();
        let all = identities
            .chain(roles)
            .chain(templates.map(Account::Template));
        let limited = all.filter_map(|account| {
            let limits = self.limits.of(&account)?;
            Some(AppliedLimits { account, limits })
        });
        limited.collect()
    }

    /// Most tokens of an answer that the limits leave to this identity with this template.
    pub(crate) fn output_tokens(&self, identity: &Identity, template: &TemplateId) -> Option<u32> {
        let applied = self.limits(identity, template).into_iter();
        let bounds = applied.filter_map(|applied| applied.limits.output_tokens);
        bounds
            .min()
            .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// Templates that `templates` names, with the line of each.
    pub(crate) fn limited_templates(&self) -> impl Iterator<Item = (&TemplateId, u64)> {
        let templates = self.limits.templates.iter();
        templates.map(|(id, limited)| (id, limited.line))
    }

    /// How output is cleaned: as a variable of no named class, and a secret that would refuse a
    /// call is redacted, as it is too late to refuse.
    pub(crate) fn output_settings(&self) -> Settings {
        let mut settings = self.screening.settings(None);
        for mode in [&mut settings.modes.secret, &mut settings.modes.personal] {
            if *mode == Mode::Refuse {
                *mode = Mode::Redact;
            }
        }
        settings
    }

    /// What happens with a text of this level.
    #[must_use]
    pub fn injection_action(&self, level: Level) -> Action {
        self.screening.action(level)
    }

    /// SHA-256 of the canonical bytes, 64 lower-case hex digits: JSON of the parsed policy with
    /// keys in byte order and no white space, so comments and layout do not matter.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Name of the file it came from, for messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }
}

fn check_identity(
    file: &str,
    identity: &Identity,
    granted: IdentityFile,
    known_roles: &BTreeMap<RoleName, Limits>,
) -> Result<Granted, GovernanceError> {
    let unknown = granted.roles.iter();
    let mut unknown = unknown.filter(|role| !known_roles.contains_key(&role.value));
    if let Some(role) = unknown.next() {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: role.defined.line(),
            field: format!("identities.{identity}.roles"),
            reason: format!(
                "names `{}`, which `roles` does not have; add it there, or take it out here",
                role.value
            ),
        });
    }
    if let Some(role) = granted.roles.get(ROLES_MAX) {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: role.defined.line(),
            field: format!("identities.{identity}.roles"),
            reason: format!("names more than {ROLES_MAX} roles; join some into one"),
        });
    }
    let mut named = BTreeSet::new();
    if let Some(role) = granted.roles.iter().find(|role| !named.insert(&role.value)) {
        return Err(GovernanceError::Field {
            file: file.to_owned(),
            line: role.defined.line(),
            field: format!("identities.{identity}.roles"),
            reason: format!("names `{}` twice; keep one", role.value),
        });
    }
    let mut templates = BTreeMap::new();
    for (template, grant) in granted.templates {
        if grant.value.max_tokens == Some(0) {
            return Err(GovernanceError::Field {
                file: file.to_owned(),
                line: grant.defined.line(),
                field: format!("identities.{identity}.templates.{template}.max_tokens"),
                reason: "must be at least 1; remove the template to refuse it".to_owned(),
            });
        }
        let max_tokens = grant.value.max_tokens;
        templates.insert(template, Grant { max_tokens });
    }
    Ok(Granted {
        description: granted.description.unwrap_or_default(),
        roles: granted.roles.into_iter().map(|role| role.value).collect(),
        templates,
    })
}

fn canonical(
    identities: &BTreeMap<Identity, Granted>,
    screening: &Screening,
    limits: &PolicyLimits,
) -> Canonical {
    let grant = |grant: &Grant| {
        let bound = grant
            .max_tokens
            .map_or(Canonical::Null, |n| Canonical::Integer(n.into()));
        Canonical::object([("max_tokens", bound)])
    };
    let entries = identities.iter().map(|(identity, granted)| {
        let templates = granted.templates.iter();
        let templates = templates.map(|(id, bounds)| (id.to_string(), grant(bounds)));
        let mut entry = BTreeMap::from([
            (
                "description".to_owned(),
                Canonical::text(&granted.description),
            ),
            (
                "templates".to_owned(),
                Canonical::Object(templates.collect()),
            ),
        ]);
        if !granted.roles.is_empty() {
            let roles = granted.roles.iter();
            let roles = roles.map(|role| (role.to_string(), Canonical::Null));
            entry.insert("roles".to_owned(), Canonical::Object(roles.collect()));
        }
        (identity.to_string(), Canonical::Object(entry))
    });
    let mut policy = BTreeMap::from([
        ("format".to_owned(), Canonical::text("postern-policy/2")),
        (
            "identities".to_owned(),
            Canonical::Object(entries.collect()),
        ),
        ("screening".to_owned(), screening.canonical()),
    ]);
    if let Some(limits) = limits.canonical() {
        policy.insert("limits".to_owned(), limits);
    }
    Canonical::Object(policy)
}
