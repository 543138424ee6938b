//! Who there is, and who may use which template.
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
//! Identities may have roles, and files of rules in Cedar beside this one say what follows:
//!
//! ```yaml
//! authorization: [authorization.cedar]
//! roles:
//!   ci: {description: "Jobs that build and test."}
//! identities:
//!   ci-runner: {roles: [ci]}
//! ```
//!
//! A grant under `templates` and a rule are the same thing; see [`crate::authorization`].
//!
//! Two further sections, `sanitizer` and `injection`, are about the content of variables; see
//! [`screening`]. `review` is about outputs that a person has to look at; see [`crate::review`]. `limits` says how much
//! may be used; see [`limits`]. `audit` says what the audit log keeps of outputs; see [`crate::output_record`].
//!
//! Invariant: default deny. What no grant and no rule allows is refused.
//!
//! The checksum is SHA-256 over canonical JSON of the parsed policy:
//! `{"format":"postern-policy/2","identities":{name:{"description","templates":{id:{"max_tokens"
//! or null}}}},"screening":{..}}`; `roles` of an identity, `roles`, `authorization` (each file as Cedar's JSON), `review`,
//! `limits` and `audit` stand there if the policy has them.

mod limits;
mod screening;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::authorization::RuleSource;
use crate::canonical::Canonical;
use crate::injection::Level;
use crate::limits::{Account, AppliedLimits, Limits};
use crate::names::{Identity, RoleName, TemplateId};
use crate::output_record::{AuditFile, OutputRules};
use crate::review::{ReviewFile, ReviewRules};
use crate::sanitizer::{Mode, Settings};
use crate::{GovernanceError, source};
use limits::{LimitsFile, PolicyLimits, TemplateFile};
use screening::{InjectionFile, SanitizerFile};

pub use screening::Action;
pub(crate) use screening::{Invisible, Screening};

/// Most files of rules beside a policy.
pub const AUTHORIZATION_FILES_MAX: usize = 16;

/// Most roles of one identity.
pub const ROLES_MAX: usize = 16;

/// The only version of the format.
const POLICY_VERSION: u32 = 1;

/// Which identity may use which template, within which bounds.
#[derive(Debug, Clone)]
pub struct Policy {
    file: String,
    roles: BTreeMap<RoleName, Role>,
    identities: BTreeMap<Identity, Granted>,
    limits: PolicyLimits,
    authorization: Vec<RuleSource>,
    pub(crate) screening: Screening,
    pub(crate) review: ReviewRules,
    pub(crate) outputs: OutputRules,
    checksum: String,
}

#[derive(Debug, Clone)]
struct Role {
    description: String,
}

#[derive(Debug, Clone)]
struct Granted {
    description: String,
    roles: BTreeSet<RoleName>,
    /// Each grant with its line in the file, from 1.
    templates: BTreeMap<TemplateId, (Grant, u64)>,
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
    authorization: Vec<Spanned<String>>,
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
    #[serde(default)]
    review: ReviewFile,
    #[serde(default, deserialize_with = "AuditFile::written")]
    audit: Option<AuditFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleFile {
    description: Option<String>,
    #[serde(default)]
    limits: LimitsFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    description: Option<String>,
    #[serde(default)]
    roles: Vec<Spanned<RoleName>>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    templates: BTreeMap<TemplateId, Spanned<GrantFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    max_tokens: Option<u32>,
}

impl Policy {
    /// Reads a policy file and the files of rules that it names, which lie beside it.
    ///
    /// # Errors
    ///
    /// That a file cannot be read or is wrong, with line and reason.
    pub fn load(file: &Path) -> Result<Self, GovernanceError> {
        let text = source::read(file, source::SOURCE_BYTES_MAX)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::parse(&source::file_name(file), &text, |name| {
            source::read(&folder.join(name), source::SOURCE_BYTES_MAX).map(Some)
        })
    }

    /// Parses a policy that names no file of rules; `file_name` is for messages.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and reason.
    pub fn from_source(file_name: &str, text: &str) -> Result<Self, GovernanceError> {
        Self::from_sources(file_name, text, &[])
    }

    /// Parses a policy and the files of rules that it names, given as name and text.
    ///
    /// # Errors
    ///
    /// As [`Policy::from_source`], or that a file which the policy names is not among them.
    pub fn from_sources(
        file_name: &str,
        text: &str,
        authorization: &[(&str, &str)],
    ) -> Result<Self, GovernanceError> {
        Self::parse(file_name, text, |name| {
            let mut given = authorization.iter();
            let found = given.find(|(given, _)| *given == name);
            Ok(found.map(|(_, text)| (*text).to_owned()))
        })
    }

    fn parse(
        file_name: &str,
        text: &str,
        read: impl Fn(&str) -> Result<Option<String>, GovernanceError>,
    ) -> Result<Self, GovernanceError> {
        let mut parsed: PolicyFile = source::parse(file_name, text)?;
        if parsed.version.value != POLICY_VERSION {
            return Err(GovernanceError::Field {
                file: file_name.to_owned(),
                line: parsed.version.defined.line(),
                field: "version".to_owned(),
                reason: format!("must be {POLICY_VERSION}"),
            });
        }
        let of_templates = parsed.templates.iter_mut();
        let of_templates =
            of_templates.filter_map(|(id, said)| Some((id.clone(), said.value.audit.take()?)));
        let outputs = OutputRules::new(parsed.audit, of_templates);
        let mut limits = PolicyLimits::shared(file_name, parsed.limits, parsed.templates)?;
        let mut roles = BTreeMap::new();
        for (name, role) in parsed.roles {
            limits.set(file_name, Account::Role(name.clone()), role.limits)?;
            let description = role.description.unwrap_or_default();
            roles.insert(name, Role { description });
        }
        let mut identities = BTreeMap::new();
        for (identity, mut granted) in parsed.identities {
            let own = std::mem::take(&mut granted.limits);
            limits.set(file_name, Account::Identity(identity.clone()), own)?;
            let checked = check_identity(file_name, &identity, granted, &roles)?;
            identities.insert(identity, checked);
        }
        let authorization = rule_sources(file_name, parsed.authorization, read)?;
        let screening = Screening::new(file_name, parsed.sanitizer, parsed.injection)?;
        let review = ReviewRules::new(file_name, parsed.review)?;
        let mut policy = Self {
            file: file_name.to_owned(),
            roles,
            identities,
            limits,
            authorization,
            screening,
            review,
            outputs,
            checksum: String::new(),
        };
        policy.checksum = policy.canonical()?.sha256_hex();
        Ok(policy)
    }

    /// Whether the policy names this identity at all.
    #[must_use]
    pub fn knows(&self, identity: &Identity) -> bool {
        self.identities.contains_key(identity)
    }

    /// The bounds that the policy's grant of this template to this identity has, if there is such a grant. Whether a call is
    /// allowed is for [`crate::RuleSet::authorize`] to say.
    #[must_use]
    pub fn grant(&self, identity: &Identity, template: &TemplateId) -> Option<Grant> {
        let granted = self.identities.get(identity)?;
        granted.templates.get(template).map(|(grant, _)| *grant)
    }

    /// Every grant with its line in the file, in byte order of identity and template.
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&Identity, &TemplateId, Grant, u64)> {
        self.identities.iter().flat_map(|(identity, granted)| {
            let templates = granted.templates.iter();
            templates.map(move |(template, (grant, line))| (identity, template, *grant, *line))
        })
    }

    /// All limits that hold together for calls of this identity to this template: of the identity, of each of its
    /// roles, and of the template, in this order. What is not limited is left out.
    #[must_use]
    pub fn limits(&self, identity: &Identity, template: &TemplateId) -> Vec<AppliedLimits> {
        let identity_account = std::iter::once(Account::Identity(identity.clone()));
        let roles = self.roles_of(identity).cloned().map(Account::Role);
        let template = std::iter::once(Account::Template(template.clone()));
        self.limited(identity_account.chain(roles).chain(template))
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
        let roles = self.roles.keys().cloned().map(Account::Role);
        let templates = self.limits.templates().map(|(id, _)| id.clone());
        let templates = templates.map(Account::Template);
        self.limited(identities.chain(roles).chain(templates))
    }

    /// Those of the accounts that something is limited of.
    fn limited(&self, accounts: impl Iterator<Item = Account>) -> Vec<AppliedLimits> {
        let limited = accounts.filter_map(|account| {
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
        self.limits.templates()
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

    /// Every identity that the policy lists, in byte order.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.keys()
    }

    /// Whether the policy grants this identity any template by name.
    pub(crate) fn has_grants(&self, identity: &Identity) -> bool {
        let granted = self.identities.get(identity);
        granted.is_some_and(|granted| !granted.templates.is_empty())
    }

    /// The roles of an identity, in byte order.
    pub fn roles_of(&self, identity: &Identity) -> impl Iterator<Item = &RoleName> {
        let granted = self.identities.get(identity).into_iter();
        granted.flat_map(|granted| &granted.roles)
    }

    /// Every role, in byte order.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &RoleName> {
        self.roles.keys()
    }

    /// The names of the files of rules, which lie beside the policy.
    pub fn rule_files(&self) -> impl Iterator<Item = &str> {
        self.authorization.iter().map(|source| &*source.file)
    }

    /// The files of rules.
    pub(crate) fn authorization(&self) -> &[RuleSource] {
        &self.authorization
    }

    /// Name of the file it came from, for messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    fn canonical(&self) -> Result<Canonical, GovernanceError> {
        let identities = self.identities.iter();
        let identities =
            identities.map(|(identity, granted)| (identity.to_string(), granted.canonical()));
        let mut members = BTreeMap::from([
            ("format".to_owned(), Canonical::text("postern-policy/2")),
            (
                "identities".to_owned(),
                Canonical::Object(identities.collect()),
            ),
            ("screening".to_owned(), self.screening.canonical()),
        ]);
        if self.review != ReviewRules::default() {
            members.insert("review".to_owned(), self.review.canonical());
        }
        if !self.roles.is_empty() {
            let roles = self.roles.iter().map(|(name, role)| {
                let role = Canonical::object([("description", Canonical::text(&role.description))]);
                (name.to_string(), role)
            });
            members.insert("roles".to_owned(), Canonical::Object(roles.collect()));
        }
        if !self.authorization.is_empty() {
            let mut files = BTreeMap::new();
            for source in &self.authorization {
                files.insert(source.file.clone(), source.canonical()?);
            }
            members.insert("authorization".to_owned(), Canonical::Object(files));
        }
        if let Some(limits) = self.limits.canonical() {
            members.insert("limits".to_owned(), limits);
        }
        if let Some(outputs) = self.outputs.canonical() {
            members.insert("audit".to_owned(), outputs);
        }
        Ok(Canonical::Object(members))
    }
}

impl Granted {
    fn canonical(&self) -> Canonical {
        let templates = self.templates.iter().map(|(id, (grant, _))| {
            let bound = grant
                .max_tokens
                .map_or(Canonical::Null, |n| Canonical::Integer(n.into()));
            (id.to_string(), Canonical::object([("max_tokens", bound)]))
        });
        let mut members = BTreeMap::from([
            ("description".to_owned(), Canonical::text(&self.description)),
            (
                "templates".to_owned(),
                Canonical::Object(templates.collect()),
            ),
        ]);
        if !self.roles.is_empty() {
            let roles = self.roles.iter();
            let roles = roles.map(|role| (role.to_string(), Canonical::Bool(true)));
            members.insert("roles".to_owned(), Canonical::Object(roles.collect()));
        }
        Canonical::Object(members)
    }
}

fn check_identity(
    file: &str,
    identity: &Identity,
    granted: IdentityFile,
    declared: &BTreeMap<RoleName, Role>,
) -> Result<Granted, GovernanceError> {
    let fault = |line, field: String, reason: String| GovernanceError::Field {
        file: file.to_owned(),
        line,
        field,
        reason,
    };
    let mut roles = BTreeSet::new();
    for role in granted.roles {
        let field = || format!("identities.{identity}.roles");
        let line = role.defined.line();
        let name = role.value;
        if !declared.contains_key(&name) {
            let reason = format!("names `{name}`, which is not among `roles`; declare it there");
            return Err(fault(line, field(), reason));
        }
        if !roles.insert(name.clone()) {
            return Err(fault(line, field(), format!("names `{name}` twice")));
        }
        if roles.len() > ROLES_MAX {
            let reason = format!("names more than {ROLES_MAX} roles; join some into one");
            return Err(fault(line, field(), reason));
        }
    }
    let mut templates = BTreeMap::new();
    for (template, grant) in granted.templates {
        let line = grant.defined.line();
        if grant.value.max_tokens == Some(0) {
            let field = format!("identities.{identity}.templates.{template}.max_tokens");
            let reason = "must be at least 1; remove the template to refuse it";
            return Err(fault(line, field, reason.to_owned()));
        }
        let max_tokens = grant.value.max_tokens;
        templates.insert(template, (Grant { max_tokens }, line));
    }
    Ok(Granted {
        description: granted.description.unwrap_or_default(),
        roles,
        templates,
    })
}

/// The files of rules that a policy names.
fn rule_sources(
    file: &str,
    names: Vec<Spanned<String>>,
    read: impl Fn(&str) -> Result<Option<String>, GovernanceError>,
) -> Result<Vec<RuleSource>, GovernanceError> {
    let fault = |line, reason: String| GovernanceError::Field {
        file: file.to_owned(),
        line,
        field: "authorization".to_owned(),
        reason,
    };
    let mut sources: Vec<RuleSource> = Vec::new();
    for name in names {
        let line = name.defined.line();
        let name = name.value;
        if sources.len() == AUTHORIZATION_FILES_MAX {
            let reason = format!("may name at most {AUTHORIZATION_FILES_MAX} files");
            return Err(fault(line, reason));
        }
        if !is_file_name(&name) {
            let reason = format!(
                "names `{}`; name a file beside this one, such as `authorization.cedar`",
                name.escape_debug()
            );
            return Err(fault(line, reason));
        }
        if sources.iter().any(|source| source.file == name) {
            return Err(fault(line, format!("names `{name}` twice")));
        }
        let Some(text) = read(&name)? else {
            return Err(fault(line, format!("names `{name}`, which is not there")));
        };
        sources.push(RuleSource { file: name, text });
    }
    Ok(sources)
}

/// Whether a name is that of a file of rules, without any folder.
fn is_file_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.ends_with(".cedar") && !name.starts_with('.') && name.chars().all(allowed)
}
