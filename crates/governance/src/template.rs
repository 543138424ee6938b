//! One prompt template: what its file says, checked and compiled.
//!
//! The file format is in [`crate::template_file`].
//!
//! # Checksum
//!
//! SHA-256 over canonical JSON (keys in byte order, no white space) of the parsed template:
//! `{"author","description","format":"postern-template/1","id","intent","max_tokens","risk",
//! "system" or null,"temperature","user","variables":{name:{"bytes_max","default" or null,
//! "description","required"}}}`. Comments, layout, quoting and the order of fields in the file do
//! not matter; a default that is written out hashes like one that is left out.
//!
//! Invariant: a [`Template`] has passed every check and its bodies compile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::body::Bodies;
use crate::canonical::Canonical;
use crate::names::TemplateId;

/// Bound of a variable that its template does not declare, in bytes.
pub const VARIABLE_BYTES_DEFAULT: usize = 16 * 1024;
/// Largest bound that a template may give a variable, in bytes.
pub const VARIABLE_BYTES_LIMIT: usize = 256 * 1024;
/// Most variables of a template.
pub const VARIABLES_MAX: usize = 32;
/// Largest `max_tokens` that a template may have.
pub const MAX_TOKENS_LIMIT: u32 = 131_072;
/// Longest variable name, in bytes.
pub(crate) const VARIABLE_NAME_BYTES_MAX: usize = 64;

/// Name of the system body.
pub(crate) const SYSTEM: &str = "system";
/// Name of the user body.
pub(crate) const USER: &str = "user";

/// What may go wrong if a template's answer is wrong or misused, as its author judges it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// A wrong answer is a nuisance.
    Low,
    /// A wrong answer costs work, and a human sees it first.
    Medium,
    /// A wrong answer does harm.
    High,
}

impl Risk {
    /// The name in files and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a template demands of one variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableSpec {
    /// What belongs in it.
    pub description: String,
    /// Longest value, in bytes of UTF-8.
    pub bytes_max: usize,
    /// Whether a call without it is refused.
    pub required: bool,
    /// Value of an optional variable that a call leaves out; without one, the empty string.
    pub default: Option<String>,
}

/// How often a rule found a secret in a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redaction {
    /// The variable; `output` for what the model wrote.
    pub variable: String,
    /// The rule, such as `payment-card`.
    pub rule: String,
    /// How many places were replaced.
    pub count: u64,
}

/// A prompt template.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Template {
    /// Name and version.
    pub id: TemplateId,
    /// What it does, for people.
    pub description: String,
    /// Who answers for it.
    pub author: String,
    /// What its answers are for.
    pub intent: String,
    /// What a wrong answer may cost.
    pub risk: Risk,
    /// Most tokens that a call may generate.
    pub max_tokens: u32,
    /// Temperature of a call that names none; 0 is greedy.
    pub temperature: f32,
    /// Body of the system message, if there is one.
    pub system: Option<String>,
    /// Body of the user message.
    pub user: String,
    /// What may and must be sent, by name.
    pub variables: BTreeMap<String, VariableSpec>,
    /// SHA-256 of the canonical bytes, 64 lower-case hex digits.
    ///
    /// The canonical bytes are JSON of the parsed template with keys in byte order and no white
    /// space: `format` (`postern-template/1`) and the fields above, where an absent `system` or
    /// default is null and every default is written out. Comments and layout do not matter.
    pub checksum: String,
    /// The bodies, ready to render.
    #[serde(skip)]
    pub(crate) bodies: Bodies,
}

impl Template {
    /// What the checksum is taken over; see the head of this module.
    pub(crate) fn canonical(&self) -> Canonical {
        let system = self
            .system
            .as_deref()
            .map_or(Canonical::Null, Canonical::text);
        let variables = self.variables.iter();
        let variables = variables.map(|(name, spec)| (name.clone(), spec.canonical()));
        Canonical::object([
            ("format", Canonical::text("postern-template/1")),
            ("id", Canonical::text(self.id.as_str())),
            ("description", Canonical::text(&self.description)),
            ("author", Canonical::text(&self.author)),
            ("intent", Canonical::text(&self.intent)),
            ("risk", Canonical::text(self.risk.as_str())),
            ("max_tokens", Canonical::Integer(self.max_tokens.into())),
            ("temperature", Canonical::Number(self.temperature)),
            ("system", system),
            ("user", Canonical::text(&self.user)),
            ("variables", Canonical::Object(variables.collect())),
        ])
    }
}

impl VariableSpec {
    fn canonical(&self) -> Canonical {
        let default = self
            .default
            .as_deref()
            .map_or(Canonical::Null, Canonical::text);
        Canonical::object([
            ("description", Canonical::text(&self.description)),
            ("bytes_max", Canonical::Integer(self.bytes_max as u64)),
            ("required", Canonical::Bool(self.required)),
            ("default", default),
        ])
    }
}

/// Whether a text has the form of a variable name: `[a-z_][a-z0-9_]*`, at most 64 bytes.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
    name.len() <= VARIABLE_NAME_BYTES_MAX
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}
