//! One prompt template: what its file says, checked and compiled.
//!
//! # File format
//!
//! ```yaml
//! id: coffee.v1                 # equals the file name
//! description: "One line."
//! author: ...
//! intent: ...
//! risk: low                     # low | medium | high
//! max_tokens: 96                # most tokens that a call may generate
//! temperature: 0                # of a call that names none; 0, the default, is greedy
//! system: "..."                 # optional
//! user: "{{wishes}}"
//! variables:                    # optional: without it, what the bodies use is declared
//!   wishes: {description: "...", bytes_max: 1024, required: true}
//! ```
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

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::body::{BODY_BYTES_MAX, Bodies};
use crate::canonical::Canonical;
use crate::decision::TEMPERATURE_MAX;
use crate::names::TemplateId;
use crate::{GovernanceError, source};

/// Bound of a variable that its template does not declare, in bytes.
pub const VARIABLE_BYTES_DEFAULT: usize = 16 * 1024;
/// Largest bound that a template may give a variable, in bytes.
pub const VARIABLE_BYTES_LIMIT: usize = 256 * 1024;
/// Most variables of a template.
pub const VARIABLES_MAX: usize = 32;
/// Largest `max_tokens` that a template may have.
pub const MAX_TOKENS_LIMIT: u32 = 131_072;
/// Longest `description`, `author` or `intent`, in bytes.
const PROSE_BYTES_MAX: usize = 1024;
/// Longest variable name, in bytes.
const VARIABLE_NAME_BYTES_MAX: usize = 64;

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
    pub checksum: String,
    /// The bodies, ready to render.
    #[serde(skip)]
    pub(crate) bodies: Bodies,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    id: Spanned<TemplateId>,
    description: Spanned<String>,
    author: Spanned<String>,
    intent: Spanned<String>,
    risk: Risk,
    max_tokens: Spanned<u32>,
    temperature: Option<Spanned<f32>>,
    system: Option<Spanned<String>>,
    user: Spanned<String>,
    variables: Option<BTreeMap<String, Spanned<VariableFile>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariableFile {
    description: Option<String>,
    bytes_max: Option<usize>,
    required: Option<bool>,
    default: Option<String>,
}

impl Template {
    /// Parses and checks one template file.
    ///
    /// # Errors
    ///
    /// Names the file, the line where the parser knows it, and the reason.
    pub(crate) fn from_source(file: &str, text: &str) -> Result<Self, GovernanceError> {
        let parsed: TemplateFile = source::parse(file, text)?;
        check_file_name(file, &parsed.id.value)?;
        check_fields(file, &parsed)?;
        let (bodies, used) = compile(file, &parsed)?;
        let variables = match &parsed.variables {
            Some(declared) => declared_variables(file, declared, &used)?,
            None => implicit_variables(file, used)?,
        };
        let mut template = Self {
            id: parsed.id.value,
            description: parsed.description.value,
            author: parsed.author.value,
            intent: parsed.intent.value,
            risk: parsed.risk,
            max_tokens: parsed.max_tokens.value,
            temperature: parsed.temperature.map_or(0.0, |spanned| spanned.value),
            system: parsed.system.map(|spanned| spanned.value),
            user: parsed.user.value,
            variables,
            checksum: String::new(),
            bodies,
        };
        template.checksum = template.canonical().sha256_hex();
        Ok(template)
    }

    /// What the checksum is taken over; see the head of this module.
    fn canonical(&self) -> Canonical {
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

fn check_file_name(file: &str, id: &TemplateId) -> Result<(), GovernanceError> {
    let stem = file.strip_suffix(".yaml").or(file.strip_suffix(".yml"));
    if stem == Some(id.as_str()) {
        return Ok(());
    }
    Err(GovernanceError::FileName {
        file: file.to_owned(),
        id: id.to_string(),
    })
}

fn field_error(file: &str, line: u64, field: &str, reason: &str) -> GovernanceError {
    GovernanceError::Field {
        file: file.to_owned(),
        line,
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

fn line_of<T>(spanned: &Spanned<T>) -> u64 {
    spanned.defined.line()
}

fn check_fields(file: &str, parsed: &TemplateFile) -> Result<(), GovernanceError> {
    let prose = [
        ("description", &parsed.description),
        ("author", &parsed.author),
        ("intent", &parsed.intent),
    ];
    for (field, text) in prose {
        let refuse = |reason| Err(field_error(file, line_of(text), field, reason));
        if text.value.trim().is_empty() {
            return refuse("is empty; say something a reviewer can use");
        }
        if text.value.len() > PROSE_BYTES_MAX {
            return refuse("is longer than 1024 bytes; make it shorter");
        }
    }
    let max_tokens = &parsed.max_tokens;
    if !(1..=MAX_TOKENS_LIMIT).contains(&max_tokens.value) {
        let line = line_of(max_tokens);
        return Err(field_error(
            file,
            line,
            "max_tokens",
            "must be from 1 to 131072",
        ));
    }
    if let Some(temperature) = &parsed.temperature
        && !(0.0..=TEMPERATURE_MAX).contains(&temperature.value)
    {
        let line = line_of(temperature);
        return Err(field_error(
            file,
            line,
            "temperature",
            "must be from 0 to 2",
        ));
    }
    check_body_text(file, USER, &parsed.user)?;
    match &parsed.system {
        Some(system) => check_body_text(file, SYSTEM, system),
        None => Ok(()),
    }
}

fn check_body_text(file: &str, field: &str, body: &Spanned<String>) -> Result<(), GovernanceError> {
    let refuse = |reason| Err(field_error(file, line_of(body), field, reason));
    if body.value.trim().is_empty() {
        return refuse("is empty; write the text of the message");
    }
    if body.value.len() > BODY_BYTES_MAX {
        return refuse("is longer than 65536 bytes; make it shorter");
    }
    if body.value.contains(crate::decision::is_refused_control) {
        return refuse("holds a control character; only tab and line breaks are allowed");
    }
    Ok(())
}

fn compile(
    file: &str,
    parsed: &TemplateFile,
) -> Result<(Bodies, BTreeSet<String>), GovernanceError> {
    let mut texts = vec![(USER, parsed.user.value.as_str())];
    texts.extend(parsed.system.as_ref().map(|s| (SYSTEM, s.value.as_str())));
    Bodies::compile(&texts).map_err(|(field, fault)| {
        let body = match field {
            SYSTEM => parsed.system.as_ref().unwrap_or(&parsed.user),
            _ => &parsed.user,
        };
        GovernanceError::Body {
            file: file.to_owned(),
            line: line_of(body),
            field,
            body_line: fault.line,
            reason: fault.reason,
        }
    })
}

fn declared_variables(
    file: &str,
    declared: &BTreeMap<String, Spanned<VariableFile>>,
    used: &BTreeSet<String>,
) -> Result<BTreeMap<String, VariableSpec>, GovernanceError> {
    if let Some(variable) = used.iter().find(|name| !declared.contains_key(*name)) {
        return Err(GovernanceError::VariableUndeclared {
            file: file.to_owned(),
            variable: variable.clone(),
        });
    }
    let mut variables = BTreeMap::new();
    for (name, spanned) in declared {
        check_variable_name(file, line_of(spanned), name)?;
        if !used.contains(name) {
            return Err(GovernanceError::VariableUnused {
                file: file.to_owned(),
                variable: name.clone(),
            });
        }
        variables.insert(name.clone(), variable_spec(file, name, spanned)?);
    }
    check_variable_count(file, &variables)?;
    Ok(variables)
}

fn implicit_variables(
    file: &str,
    used: BTreeSet<String>,
) -> Result<BTreeMap<String, VariableSpec>, GovernanceError> {
    let mut variables = BTreeMap::new();
    for name in used {
        check_variable_name(file, 0, &name)?;
        let spec = VariableSpec {
            description: String::new(),
            bytes_max: VARIABLE_BYTES_DEFAULT,
            required: true,
            default: None,
        };
        variables.insert(name, spec);
    }
    check_variable_count(file, &variables)?;
    Ok(variables)
}

fn check_variable_name(file: &str, line: u64, name: &str) -> Result<(), GovernanceError> {
    if is_variable_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(VARIABLE_NAME_BYTES_MAX).collect();
    let field = format!("variables.{}", shown.escape_debug());
    let reason = "has a name that is not of a-z, 0-9 and `_`, at most 64 bytes";
    Err(field_error(file, line, &field, reason))
}

fn check_variable_count(
    file: &str,
    variables: &BTreeMap<String, VariableSpec>,
) -> Result<(), GovernanceError> {
    if variables.len() > VARIABLES_MAX {
        return Err(field_error(
            file,
            0,
            "variables",
            "has more than 32 entries",
        ));
    }
    Ok(())
}

fn variable_spec(
    file: &str,
    name: &str,
    spanned: &Spanned<VariableFile>,
) -> Result<VariableSpec, GovernanceError> {
    let refuse = |field: &str, reason| {
        let field = format!("variables.{name}.{field}");
        Err(field_error(file, line_of(spanned), &field, reason))
    };
    let declared = &spanned.value;
    let bytes_max = declared.bytes_max.unwrap_or(VARIABLE_BYTES_DEFAULT);
    if !(1..=VARIABLE_BYTES_LIMIT).contains(&bytes_max) {
        return refuse("bytes_max", "must be from 1 to 262144");
    }
    let required = declared.required.unwrap_or(true);
    if required && declared.default.is_some() {
        return refuse(
            "default",
            "makes no sense for a required variable; remove one of the two",
        );
    }
    let default = declared.default.clone();
    if default.as_ref().is_some_and(|text| text.len() > bytes_max) {
        return refuse("default", "is longer than bytes_max");
    }
    let default_text = default.as_deref().unwrap_or_default();
    if default_text.contains(crate::decision::is_refused_control) {
        return refuse("default", "holds a control character");
    }
    Ok(VariableSpec {
        description: declared.description.clone().unwrap_or_default(),
        bytes_max,
        required,
        default,
    })
}
