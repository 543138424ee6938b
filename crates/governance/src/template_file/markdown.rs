//! A template in Markdown with YAML front matter, under the field names of dotprompt.
//!
//! ```text
//! ---
//! model: qwen2.5-0.5b
//! config: {temperature: 0, maxOutputTokens: 256}
//! input:
//!   schema:
//!     type: object
//!     properties:
//!       text: {type: string, maxLength: 4000, description: "What to summarize."}
//!     required: [text]
//! output:
//!   schema: {type: object, properties: {summary: {type: string}}}
//! metadata:
//!   id: summary.v1
//!   author: ...
//!   intent: ...
//! ---
//! {{role "system"}}
//! You summarize texts.
//! {{role "user"}}
//! {{ text }}
//! ```
//!
//! Text before any role is the user's. What dotprompt has no name for are `x-` members of a
//! property: `x-trust`, `x-trust-reason`, `x-data-class`, `x-fence`, `x-bytes-max`. A property that
//! `required` does not list is optional, and `input.default` may give it a value. In `metadata`,
//! `description` (by default the intent), `use_case`, `risk` (by default high) and `audit` may be added.
//!
//! Absent: Handlebars. The text is in the same small language as that of all formats.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::json::default_max_tokens;
use super::variables::VariableDraft;
use super::{Draft, Located, field_error};
use crate::names::{TemplateId, UseCase};
use crate::output_record::AuditFile;
use crate::template::Risk;
use crate::{GovernanceError, source};

/// The line before and behind the front matter.
const DELIMITER: &str = "---";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    model: Option<Spanned<String>>,
    config: Option<ConfigFile>,
    input: Option<InputFile>,
    output: Option<OutputFile>,
    metadata: MetadataFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    temperature: Option<Spanned<f32>>,
    #[serde(rename = "maxOutputTokens")]
    max_output_tokens: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputFile {
    schema: Spanned<InputSchema>,
    default: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputSchema {
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "that it can be read is all there is to check")]
    kind: Option<ObjectOnly>,
    properties: BTreeMap<String, Spanned<Map<String, Value>>>,
    required: Option<Spanned<Vec<String>>>,
    #[serde(rename = "additionalProperties")]
    additional_properties: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ObjectOnly {
    Object,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputFile {
    format: Option<OutputFormat>,
    schema: Option<Spanned<Value>>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum OutputFormat {
    Json,
    Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetadataFile {
    id: Spanned<TemplateId>,
    author: Spanned<String>,
    intent: Spanned<String>,
    description: Option<Spanned<String>>,
    use_case: Option<Spanned<UseCase>>,
    risk: Option<Risk>,
    #[serde(default, deserialize_with = "AuditFile::written")]
    audit: Option<AuditFile>,
}

pub(super) fn parse(file: &str, text: &str) -> Result<Draft, GovernanceError> {
    let (front, body) = split(file, text)?;
    let parsed: FrontMatter = source::parse(file, &front)?;
    let output_schema = output_schema(file, parsed.output)?;
    let variables = match parsed.input {
        Some(input) => Some(variables(file, input)?),
        None => None,
    };
    let (system, user) = messages(file, body)?;
    let (temperature, max_tokens) = match parsed.config {
        Some(config) => (config.temperature, config.max_output_tokens),
        None => (None, None),
    };
    let metadata = parsed.metadata;
    let intent: Located<String> = metadata.intent.into();
    Ok(Draft {
        id: metadata.id.into(),
        description: metadata
            .description
            .map_or_else(|| intent.clone(), Into::into),
        author: metadata.author.into(),
        intent,
        use_case: metadata.use_case.map(Into::into),
        risk: metadata.risk.unwrap_or(Risk::High),
        model: parsed.model.map(Into::into),
        max_tokens: max_tokens.map_or_else(default_max_tokens, Into::into),
        temperature: temperature.map(Into::into),
        system,
        user,
        variables,
        output_schema,
        output_record: metadata.audit.map(|audit| audit.output.into()),
    })
}

/// The front matter, on the lines that it has in the file, and the text behind it.
fn split<'t>(file: &str, text: &'t str) -> Result<(String, Located<&'t str>), GovernanceError> {
    let missing = |line, reason: &str| {
        Err(GovernanceError::Syntax {
            file: file.to_owned(),
            line,
            column: 1,
            reason: reason.to_owned(),
        })
    };
    let mut front = String::new();
    let mut read = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        read += line.len();
        let is_delimiter = line.trim_end_matches(['\n', '\r']) == DELIMITER;
        match (index, is_delimiter) {
            (0, true) => front.push('\n'),
            (0, false) => {
                return missing(
                    1,
                    "front matter is missing; begin the file with a line `---`",
                );
            }
            (_, true) => {
                let body = Located {
                    value: &text[read..],
                    line: index as u64 + 2,
                };
                return Ok((front, body));
            }
            (_, false) => front.push_str(line),
        }
    }
    missing(
        1,
        "the front matter is never closed; end it with a line `---`",
    )
}

fn output_schema(
    file: &str,
    output: Option<OutputFile>,
) -> Result<Option<Located<Value>>, GovernanceError> {
    let Some(output) = output else {
        return Ok(None);
    };
    match (output.format, output.schema) {
        (Some(OutputFormat::Text), Some(schema)) => Err(field_error(
            file,
            schema.defined.line(),
            "output.schema",
            "makes no sense for text; write `format: json` or remove the schema",
        )),
        (Some(OutputFormat::Json), None) => Err(field_error(
            file,
            0,
            "output.schema",
            "is missing; write the JSON Schema of the output",
        )),
        (_, schema) => Ok(schema.map(Into::into)),
    }
}

fn variables(
    file: &str,
    input: InputFile,
) -> Result<BTreeMap<String, Located<VariableDraft>>, GovernanceError> {
    let line = input.schema.defined.line();
    let InputSchema {
        properties,
        required,
        additional_properties,
        ..
    } = input.schema.value;
    if additional_properties.is_some_and(|allowed| allowed.value) {
        let field = "input.schema.additionalProperties";
        let reason = "cannot be true; calls with other variables are always refused";
        return Err(field_error(file, line, field, reason));
    }
    let required = required.map(|spanned| spanned.value).unwrap_or_default();
    let mut defaults = input.default.unwrap_or_default();
    let mut variables = BTreeMap::new();
    for (name, property) in properties {
        let line = property.defined.line();
        let is_required = required.contains(&name);
        let default = defaults.remove(&name).map(|spanned| spanned.value);
        let value = VariableDraft::of_property(property.value, is_required, default).map_err(
            |(member, reason)| {
                let field = format!("input.schema.properties.{}.{member}", name.escape_debug());
                field_error(file, line, &field, &reason)
            },
        )?;
        variables.insert(name, Located { value, line });
    }
    let unknown = required.iter().find(|name| !variables.contains_key(*name));
    let unknown = unknown.or_else(|| defaults.keys().next());
    if let Some(name) = unknown {
        let reason = format!(
            "has no property `{}`, which `required` or `default` names",
            name.escape_debug()
        );
        return Err(field_error(file, line, "input.schema", &reason));
    }
    Ok(variables)
}

/// The text of the system, if there is one, and of the user.
type Messages = (Option<Located<String>>, Located<String>);

fn messages(file: &str, body: Located<&str>) -> Result<Messages, GovernanceError> {
    let mut system: Option<Located<String>> = None;
    let mut user: Option<Located<String>> = None;
    let mut is_system = false;
    for (offset, line) in body.value.split_inclusive('\n').enumerate() {
        let at = body.line + offset as u64;
        if let Some(role) = role(line) {
            is_system = role == "system";
            let message = if is_system { &mut system } else { &mut user };
            let is_known = is_system || role == "user";
            if !is_known || message.is_some() {
                let reason = format!(
                    "role `{}` is not possible here; write one message of the system and one of the user",
                    role.escape_debug()
                );
                return Err(field_error(file, at, "role", &reason));
            }
            *message = Some(Located {
                value: String::new(),
                line: at + 1,
            });
            continue;
        }
        let message = if is_system { &mut system } else { &mut user };
        if message.is_none() && line.trim().is_empty() {
            continue;
        }
        let message = message.get_or_insert_with(|| Located {
            value: String::new(),
            line: at,
        });
        message.value.push_str(line);
    }
    let end = Located {
        value: String::new(),
        line: body.line,
    };
    for message in [&mut system, &mut user].into_iter().flatten() {
        message.value = message.value.replace("\r\n", "\n").trim_end().to_owned();
    }
    Ok((system, user.unwrap_or(end)))
}

/// The role that a line begins, as in `{{role "system"}}`.
fn role(line: &str) -> Option<&str> {
    let inside = line.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let quoted = inside.strip_prefix("role")?.trim();
    quoted.strip_prefix('"')?.strip_suffix('"')
}
