//! One prompt template: what its file says, checked and compiled.
//!
//! The file formats are in [`crate::template_file`].
//!
//! # Checksum
//!
//! SHA-256 over canonical JSON (keys in byte order, no white space) of the parsed template:
//! `{"author","description","format":"postern-template/2","id","intent","max_tokens","model","output","risk",
//! "system","temperature","user","variables":{name:{"bytes_max","data_class","default","description",
//! "fence","required","schema","trust","trust_reason"}}}`, with null for what is absent, and `"use_case"` and
//! `"audit":{"output"}` only where they are given. Schemas
//! stand as they were written, compactly, because the order of their members is the order of the
//! output. Comments, layout, quoting, the order of fields and the format of the file do not
//! matter; a default that is written out hashes like one that is left out.
//!
//! Invariant: a [`Template`] has passed every check and its bodies compile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::body::{self, Bodies};
use crate::canonical::Canonical;
use crate::names::{TemplateId, UseCase};
use crate::output_record::OutputRecord;
use crate::schema::Schema;
use crate::variable::{VariableSpec, Writing};

/// Largest `max_tokens` that a template may have.
pub const MAX_TOKENS_LIMIT: u32 = 131_072;
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

    /// 1, 2 or 3, for rules that compare.
    pub(crate) fn level(self) -> i64 {
        match self {
            Self::Low => 1,
            Self::Medium => 2,
            Self::High => 3,
        }
    }
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
    /// The part of the intent that a registry of models is asked for; never [`UseCase::any`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_case: Option<UseCase>,
    /// What a wrong answer may cost.
    pub risk: Risk,
    /// Id of the model that it was written and tested for; a note for people, which no call is
    /// refused for.
    pub model: Option<String>,
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
    /// What the output has to be: JSON of this schema. Without it, any text.
    pub output: Option<Schema>,
    /// The most that the audit log may keep of an output, if its author says so: only ever
    /// [`OutputRecord::Hash`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_record: Option<OutputRecord>,
    /// SHA-256 of the canonical bytes, 64 lower-case hex digits.
    ///
    /// The canonical bytes are JSON of the parsed template with keys in byte order and no white
    /// space: `format` (`postern-template/2`) and the fields above, where what is absent is null
    /// (but `use_case` and `audit` are left out) and every default is written out. Comments, layout and file format do not matter.
    pub checksum: String,
    /// Line of the id in its file, from 1.
    #[serde(skip)]
    pub(crate) line: u64,
    /// The bodies, ready to render.
    #[serde(skip)]
    pub(crate) bodies: Bodies,
}

impl Template {
    /// Whether a message with this body is nothing but the data of one variable.
    pub(crate) fn is_data_message(&self, body: &str) -> bool {
        let name = body::only_variable(body);
        let spec = name.and_then(|name| self.variables.get(name));
        spec.is_some_and(|spec| spec.writing() == Writing::Message)
    }

    /// What the checksum is taken over; see the head of this module.
    pub(crate) fn canonical(&self) -> Canonical {
        let output = self.output.as_ref();
        let output = output.map_or(Canonical::Null, |schema| {
            Canonical::Json(schema.json().clone())
        });
        let variables = self.variables.iter();
        let variables = variables.map(|(name, spec)| (name.clone(), spec.canonical()));
        let canonical = Canonical::object([
            ("format", Canonical::text("postern-template/2")),
            ("id", Canonical::text(self.id.as_str())),
            ("description", Canonical::text(&self.description)),
            ("author", Canonical::text(&self.author)),
            ("intent", Canonical::text(&self.intent)),
            ("risk", Canonical::text(self.risk.as_str())),
            ("model", Canonical::optional(self.model.as_deref())),
            ("output", output),
            ("max_tokens", Canonical::Integer(self.max_tokens.into())),
            ("temperature", Canonical::Number(self.temperature)),
            ("system", Canonical::optional(self.system.as_deref())),
            ("user", Canonical::text(&self.user)),
            ("variables", Canonical::Object(variables.collect())),
        ]);
        let canonical = match &self.use_case {
            Some(use_case) => canonical.with("use_case", Canonical::text(use_case.as_str())),
            None => canonical,
        };
        match self.output_record {
            Some(record) => canonical.with("audit", record.canonical()),
            None => canonical,
        }
    }
}
