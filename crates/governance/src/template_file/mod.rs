//! The files that a template is written in, and every check of what they say.
//!
//! Three formats, told apart by the ending of the file's name, make one [`Draft`]; from there on
//! there is only one way to a [`Template`]:
//!
//! - [`yaml`] (`.yaml`, `.yml`): all fields, plainly;
//! - [`markdown`] (`.md`, `.prompt`): the fields of dotprompt as front matter, then the text;
//! - [`json`] (`.json`): `{"id","author","intent","model","content"}`, for programs that write it.
//!
//! Absent: reading the file, which is in [`crate::source`].

mod json;
mod markdown;
mod variables;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_saphyr::Spanned;

use crate::GovernanceError;
use crate::body::{BODY_BYTES_MAX, Bodies};
use crate::decision::{TEMPERATURE_MAX, is_refused_control};
use crate::names::{TemplateId, UseCase};
use crate::output_record::OutputRecord;
use crate::schema::Schema;
use crate::template::{MAX_TOKENS_LIMIT, Risk, SYSTEM, Template, USER};
use crate::variable::Writing;
use variables::VariableDraft;

/// Longest `description`, `author`, `intent` or `model`, in bytes.
const PROSE_BYTES_MAX: usize = 1024;
/// Most tokens of a template in Markdown or JSON that names no bound.
const MAX_TOKENS_DEFAULT: u32 = 512;

/// A value with its line in the file.
#[derive(Debug, Clone, PartialEq)]
struct Located<T> {
    value: T,
    /// From 1; 0 where unknown.
    line: u64,
}

impl<T> From<Spanned<T>> for Located<T> {
    fn from(spanned: Spanned<T>) -> Self {
        Self {
            line: spanned.defined.line(),
            value: spanned.value,
        }
    }
}

/// What a file says, before it is checked.
struct Draft {
    id: Located<TemplateId>,
    description: Located<String>,
    author: Located<String>,
    intent: Located<String>,
    use_case: Option<Located<UseCase>>,
    risk: Risk,
    model: Option<Located<String>>,
    max_tokens: Located<u32>,
    temperature: Option<Located<f32>>,
    system: Option<Located<String>>,
    user: Located<String>,
    variables: Option<BTreeMap<String, Located<VariableDraft>>>,
    output_schema: Option<Located<Value>>,
    output_record: Option<Located<OutputRecord>>,
}

/// The format that a file's name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Yaml,
    Markdown,
    Json,
}

/// Endings of tests and recordings, which stand beside the templates.
const BESIDE: [&str; 3] = [".test.yaml", ".test.yml", ".recorded.json"];

/// The stem and the format of a template's file name; `None` for names of other files.
fn split_name(file: &str) -> Option<(&str, Format)> {
    if BESIDE.iter().any(|ending| file.ends_with(ending)) {
        return None;
    }
    let endings = [
        (".yaml", Format::Yaml),
        (".yml", Format::Yaml),
        (".md", Format::Markdown),
        (".prompt", Format::Markdown),
        (".json", Format::Json),
    ];
    let (stem, format) = endings
        .into_iter()
        .find_map(|(ending, format)| Some((file.strip_suffix(ending)?, format)))?;
    Some((stem, format))
}

/// Whether a file of a template folder is a template: YAML always, and Markdown and JSON where the
/// name is an id with its version, so that a `README.md` can stand there too.
pub(crate) fn is_template_name(file: &str) -> bool {
    if file.starts_with('.') {
        return false;
    }
    match split_name(file) {
        Some((_, Format::Yaml)) => true,
        Some((stem, _)) => file.ends_with(".prompt") || stem.parse::<TemplateId>().is_ok(),
        None => false,
    }
}

/// Parses and checks one template file.
///
/// # Errors
///
/// Names the file, the line where the parser knows it, and the reason.
pub(crate) fn parse_template(file: &str, text: &str) -> Result<Template, GovernanceError> {
    let draft = match split_name(file) {
        Some((_, Format::Markdown)) => markdown::parse(file, text)?,
        Some((_, Format::Json)) => json::parse(file, text)?,
        Some((_, Format::Yaml)) | None => yaml::parse(file, text)?,
    };
    check_file_name(file, &draft.id)?;
    check_fields(file, &draft)?;
    let declared = match &draft.variables {
        Some(declared) => Some(variables::checked(file, declared)?),
        None => None,
    };
    let writings: BTreeMap<&str, Writing> = declared
        .iter()
        .flatten()
        .map(|(name, spec)| (name.as_str(), spec.writing()))
        .collect();
    let (bodies, used) = compile(file, &draft, &writings)?;
    if let Some(declared) = &draft.variables {
        variables::check_use(file, text, declared, &used)?;
    }
    let variables = match declared {
        Some(declared) => declared,
        None => variables::undeclared(file, text, used)?,
    };
    let output = match draft.output_schema {
        Some(schema) => Some(output_schema(file, schema)?),
        None => None,
    };
    let mut template = Template {
        line: draft.id.line,
        id: draft.id.value,
        description: draft.description.value,
        author: draft.author.value,
        intent: draft.intent.value,
        use_case: draft.use_case.map(|located| located.value),
        risk: draft.risk,
        model: draft.model.map(|located| located.value),
        max_tokens: draft.max_tokens.value,
        temperature: draft.temperature.map_or(0.0, |located| located.value),
        system: draft.system.map(|located| located.value),
        user: draft.user.value,
        variables,
        output,
        output_record: draft.output_record.map(|located| located.value),
        checksum: String::new(),
        bodies,
    };
    template.checksum = template.canonical().sha256_hex();
    Ok(template)
}

fn output_schema(file: &str, schema: Located<Value>) -> Result<Schema, GovernanceError> {
    Schema::compile(schema.value)
        .map_err(|reason| field_error(file, schema.line, "output.schema", &reason))
}

fn check_file_name(file: &str, id: &Located<TemplateId>) -> Result<(), GovernanceError> {
    if split_name(file).is_some_and(|(stem, _)| stem == id.value.as_str()) {
        return Ok(());
    }
    Err(GovernanceError::FileName {
        file: file.to_owned(),
        line: id.line,
        id: id.value.to_string(),
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

fn check_fields(file: &str, draft: &Draft) -> Result<(), GovernanceError> {
    let prose = [
        ("description", &draft.description),
        ("author", &draft.author),
        ("intent", &draft.intent),
    ];
    let model = draft.model.as_ref().map(|model| ("model", model));
    for (field, text) in prose.into_iter().chain(model) {
        let refuse = |reason| Err(field_error(file, text.line, field, reason));
        if text.value.trim().is_empty() {
            return refuse("is empty; say something a reviewer can use");
        }
        if text.value.len() > PROSE_BYTES_MAX {
            return refuse("is longer than 1024 bytes; make it shorter");
        }
    }
    if let Some(use_case) = &draft.use_case
        && use_case.value.is_any()
    {
        let reason = "cannot be `any`, which only a model can be meant for; name one use, or remove the line";
        return Err(field_error(file, use_case.line, "use_case", reason));
    }
    let max_tokens = &draft.max_tokens;
    if !(1..=MAX_TOKENS_LIMIT).contains(&max_tokens.value) {
        let line = max_tokens.line;
        return Err(field_error(
            file,
            line,
            "max_tokens",
            "must be from 1 to 131072",
        ));
    }
    if let Some(temperature) = &draft.temperature
        && !(0.0..=TEMPERATURE_MAX).contains(&temperature.value)
    {
        let line = temperature.line;
        return Err(field_error(
            file,
            line,
            "temperature",
            "must be from 0 to 2",
        ));
    }
    if let Some(record) = &draft.output_record
        && record.value != OutputRecord::Hash
    {
        let reason = "can only be `hash` here, as whether texts are kept is for the policy to say; remove the line";
        return Err(field_error(file, record.line, "audit.output", reason));
    }
    check_body_text(file, USER, &draft.user)?;
    match &draft.system {
        Some(system) => check_body_text(file, SYSTEM, system),
        None => Ok(()),
    }
}

fn check_body_text(file: &str, field: &str, body: &Located<String>) -> Result<(), GovernanceError> {
    let refuse = |reason| Err(field_error(file, body.line, field, reason));
    if body.value.trim().is_empty() {
        return refuse("is empty; write the text of the message");
    }
    if body.value.len() > BODY_BYTES_MAX {
        return refuse("is longer than 65536 bytes; make it shorter");
    }
    if body.value.contains(is_refused_control) {
        return refuse("holds a control character; only tab and line breaks are allowed");
    }
    Ok(())
}

fn compile(
    file: &str,
    draft: &Draft,
    writings: &BTreeMap<&str, Writing>,
) -> Result<(Bodies, BTreeSet<String>), GovernanceError> {
    let mut texts = vec![(USER, draft.user.value.as_str())];
    texts.extend(draft.system.as_ref().map(|s| (SYSTEM, s.value.as_str())));
    Bodies::compile(&texts, writings).map_err(|(field, fault)| {
        let body = match field {
            SYSTEM => draft.system.as_ref().unwrap_or(&draft.user),
            _ => &draft.user,
        };
        GovernanceError::Body {
            file: file.to_owned(),
            line: body.line,
            field,
            body_line: fault.line,
            reason: fault.reason,
        }
    })
}
