//! The file that a template is written in: its format and every check.
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
//! Absent: reading the file, which is in [`crate::source`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::body::{BODY_BYTES_MAX, Bodies};
use crate::decision::{TEMPERATURE_MAX, is_refused_control};
use crate::names::TemplateId;
use crate::template::{
    MAX_TOKENS_LIMIT, Risk, SYSTEM, Template, USER, VARIABLE_BYTES_DEFAULT, VARIABLE_BYTES_LIMIT,
    VARIABLE_NAME_BYTES_MAX, VARIABLES_MAX, VariableSpec, is_variable_name,
};
use crate::{GovernanceError, source};

/// Longest `description`, `author` or `intent`, in bytes.
const PROSE_BYTES_MAX: usize = 1024;

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

/// Parses and checks one template file.
///
/// # Errors
///
/// Names the file, the line where the parser knows it, and the reason.
pub(crate) fn parse_template(file: &str, text: &str) -> Result<Template, GovernanceError> {
    let parsed: TemplateFile = source::parse(file, text)?;
    check_file_name(file, &parsed.id.value)?;
    check_fields(file, &parsed)?;
    let (bodies, used) = compile(file, &parsed)?;
    let variables = match &parsed.variables {
        Some(declared) => declared_variables(file, declared, &used)?,
        None => implicit_variables(file, used)?,
    };
    let mut template = Template {
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
    if body.value.contains(is_refused_control) {
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
    if default_text.contains(is_refused_control) {
        return refuse("default", "holds a control character");
    }
    Ok(VariableSpec {
        description: declared.description.clone().unwrap_or_default(),
        bytes_max,
        required,
        default,
    })
}
