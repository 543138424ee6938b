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
//! [`screening`].
//!
//! Invariant: default deny. There are no wildcards and no groups; what is not written is refused.
//!
//! The checksum is SHA-256 over canonical JSON of the parsed policy:
//! `{"format":"postern-policy/2","identities":{name:{"description","templates":{id:{"max_tokens"
//! or null}}}},"screening":{..}}`.

mod screening;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::canonical::Canonical;
use crate::injection::Level;
use crate::names::{Identity, TemplateId};
use crate::sanitizer::{Mode, Settings};
use crate::{GovernanceError, source};
use screening::{InjectionFile, SanitizerFile};

pub use screening::Action;
pub(crate) use screening::{Invisible, Screening};

/// The only version of the format.
const POLICY_VERSION: u32 = 1;

/// Which identity may use which template, within which bounds.
#[derive(Debug, Clone)]
pub struct Policy {
    file: String,
    identities: BTreeMap<Identity, Granted>,
    pub(crate) screening: Screening,
    checksum: String,
}

#[derive(Debug, Clone)]
struct Granted {
    description: String,
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
        let mut identities = BTreeMap::new();
        for (identity, granted) in parsed.identities {
            let checked = check_identity(file_name, &identity, granted)?;
            identities.insert(identity, checked);
        }
        let screening = Screening::new(file_name, parsed.sanitizer, parsed.injection)?;
        let checksum = canonical(&identities, &screening).sha256_hex();
        Ok(Self {
            file: file_name.to_owned(),
            identities,
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
) -> Result<Granted, GovernanceError> {
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
        templates,
    })
}

fn canonical(identities: &BTreeMap<Identity, Granted>, screening: &Screening) -> Canonical {
    let grant = |grant: &Grant| {
        let bound = grant
            .max_tokens
            .map_or(Canonical::Null, |n| Canonical::Integer(n.into()));
        Canonical::object([("max_tokens", bound)])
    };
    let entries = identities.iter().map(|(identity, granted)| {
        let templates = granted.templates.iter();
        let templates = templates.map(|(id, bounds)| (id.to_string(), grant(bounds)));
        let entry = Canonical::object([
            ("description", Canonical::text(&granted.description)),
            ("templates", Canonical::Object(templates.collect())),
        ]);
        (identity.to_string(), entry)
    });
    Canonical::object([
        ("format", Canonical::text("postern-policy/2")),
        ("identities", Canonical::Object(entries.collect())),
        ("screening", screening.canonical()),
    ])
}
