//! The variables that a file declares, and their checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Located, field_error};
use crate::GovernanceError;
use crate::decision::is_refused_control;
use crate::schema::Schema;
use crate::source::line_of_use;
use crate::variable::{
    DataClass, Fence, Trust, VARIABLE_BYTES_DEFAULT, VARIABLE_BYTES_LIMIT, VARIABLE_NAME_BYTES_MAX,
    VARIABLES_MAX, VariableSpec, is_variable_name,
};

/// Most bytes of a character in UTF-8.
const CHARACTER_BYTES_MAX: u64 = 4;

/// Keywords that a variable's schema may have. Values are texts, numbers or booleans, so those
/// about members and elements would never apply.
const KEYWORDS: [&str; 14] = [
    "$schema",
    "type",
    "title",
    "description",
    "format",
    "minLength",
    "maxLength",
    "pattern",
    "enum",
    "const",
    "minimum",
    "maximum",
    "multipleOf",
    "examples",
];

/// Types that a variable's schema may ask for.
const TYPES: [&str; 4] = ["string", "integer", "number", "boolean"];

/// What a file says about one variable.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariableDraft {
    description: Option<String>,
    schema: Option<Value>,
    bytes_max: Option<usize>,
    required: Option<bool>,
    default: Option<String>,
    trust: Option<Trust>,
    trust_reason: Option<String>,
    data_class: Option<DataClass>,
    fence: Option<Fence>,
}

impl VariableDraft {
    /// A property of an input schema: its `x-` members are ours, the rest is the schema.
    ///
    /// # Errors
    ///
    /// The member that is wrong, and the reason.
    pub(super) fn of_property(
        mut property: Map<String, Value>,
        is_required: bool,
        default: Option<String>,
    ) -> Result<Self, (&'static str, String)> {
        let description = property.get("description").and_then(Value::as_str);
        Ok(Self {
            description: description.map(str::to_owned),
            bytes_max: take(&mut property, "x-bytes-max")?,
            required: Some(is_required),
            default,
            trust: take(&mut property, "x-trust")?,
            trust_reason: take(&mut property, "x-trust-reason")?,
            data_class: take(&mut property, "x-data-class")?,
            fence: take(&mut property, "x-fence")?,
            schema: Some(Value::Object(property)),
        })
    }
}

fn take<T: DeserializeOwned>(
    property: &mut Map<String, Value>,
    member: &'static str,
) -> Result<Option<T>, (&'static str, String)> {
    let Some(value) = property.shift_remove(member) else {
        return Ok(None);
    };
    let value = serde_json::from_value(value);
    value
        .map(Some)
        .map_err(|error| (member, format!("is wrong: {error}")))
}

/// Declared variables, each checked by itself.
pub(super) fn checked(
    file: &str,
    declared: &BTreeMap<String, Located<VariableDraft>>,
) -> Result<BTreeMap<String, VariableSpec>, GovernanceError> {
    let mut variables = BTreeMap::new();
    for (name, draft) in declared {
        check_name(file, draft.line, name)?;
        variables.insert(name.clone(), spec(file, name, draft)?);
    }
    check_count(file, &variables)?;
    Ok(variables)
}

/// Whether the bodies use what is declared, and nothing else.
pub(super) fn check_use(
    file: &str,
    text: &str,
    declared: &BTreeMap<String, Located<VariableDraft>>,
    used: &BTreeSet<String>,
) -> Result<(), GovernanceError> {
    if let Some(variable) = used.iter().find(|name| !declared.contains_key(*name)) {
        return Err(GovernanceError::VariableUndeclared {
            file: file.to_owned(),
            line: line_of_use(text, variable),
            variable: variable.clone(),
        });
    }
    match declared.iter().find(|(name, _)| !used.contains(*name)) {
        Some((variable, draft)) => Err(GovernanceError::VariableUnused {
            file: file.to_owned(),
            line: draft.line,
            variable: variable.clone(),
        }),
        None => Ok(()),
    }
}

/// The variables of a template that declares none: one of each name that its bodies use.
pub(super) fn undeclared(
    file: &str,
    text: &str,
    used: BTreeSet<String>,
) -> Result<BTreeMap<String, VariableSpec>, GovernanceError> {
    for name in &used {
        check_name(file, line_of_use(text, name), name)?;
    }
    let variables = used
        .into_iter()
        .map(|name| (name, VariableSpec::undeclared()));
    let variables = variables.collect();
    check_count(file, &variables)?;
    Ok(variables)
}

fn check_name(file: &str, line: u64, name: &str) -> Result<(), GovernanceError> {
    if is_variable_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(VARIABLE_NAME_BYTES_MAX).collect();
    let field = format!("variables.{}", shown.escape_debug());
    let reason = "has a name that is not of a-z, 0-9 and `_`, at most 64 bytes";
    Err(field_error(file, line, &field, reason))
}

fn check_count(
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

fn spec(
    file: &str,
    name: &str,
    draft: &Located<VariableDraft>,
) -> Result<VariableSpec, GovernanceError> {
    let refuse = |field: &str, reason: &str| {
        let field = format!("variables.{name}.{field}");
        field_error(file, draft.line, &field, reason)
    };
    let declared = &draft.value;
    let schema = match &declared.schema {
        Some(schema) => {
            let checked = check_schema(schema).and_then(|()| Schema::compile(schema.clone()));
            Some(checked.map_err(|reason| refuse("schema", &reason))?)
        }
        None => None,
    };
    let trust = declared.trust.unwrap_or_default();
    let reason = declared.trust_reason.as_deref().unwrap_or_default().trim();
    match trust {
        Trust::Trusted if reason.is_empty() => {
            let reason = "is missing; say why this text may give the model instructions";
            return Err(refuse("trust_reason", reason));
        }
        Trust::Untrusted if declared.trust_reason.is_some() => {
            let reason = "makes no sense for an untrusted variable; remove it";
            return Err(refuse("trust_reason", reason));
        }
        _ => {}
    }
    let spec = VariableSpec {
        description: declared.description.clone().unwrap_or_default(),
        bytes_max: declared
            .bytes_max
            .unwrap_or_else(|| bytes_of_length(schema.as_ref())),
        schema,
        required: declared.required.unwrap_or(true),
        default: declared.default.clone(),
        trust,
        trust_reason: declared.trust_reason.clone(),
        data_class: declared.data_class.unwrap_or_default(),
        fence: declared.fence.unwrap_or_default(),
    };
    match fault(&spec) {
        Some((field, reason)) => Err(refuse(field, &reason)),
        None => Ok(spec),
    }
}

/// The bound in bytes that the longest text of a schema needs, in the range of bounds.
fn bytes_of_length(schema: Option<&Schema>) -> usize {
    let length = schema.and_then(|schema| schema.json().get("maxLength")?.as_u64());
    length.map_or(VARIABLE_BYTES_DEFAULT, |chars| {
        let bytes = chars.saturating_mul(CHARACTER_BYTES_MAX);
        usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .clamp(1, VARIABLE_BYTES_LIMIT)
    })
}

fn check_schema(schema: &Value) -> Result<(), String> {
    let members = schema.as_object().into_iter().flatten();
    for (keyword, value) in members {
        if !KEYWORDS.contains(&keyword.as_str()) {
            return Err(format!(
                "has `{}`, but a variable's schema may only have {}",
                keyword.escape_debug(),
                KEYWORDS.join(", ")
            ));
        }
        if keyword == "type" && !value.as_str().is_some_and(|kind| TYPES.contains(&kind)) {
            return Err(format!(
                "has a type that is not one of {}",
                TYPES.join(", ")
            ));
        }
    }
    Ok(())
}

fn fault(spec: &VariableSpec) -> Option<(&'static str, String)> {
    let refuse = |field, reason: &str| Some((field, reason.to_owned()));
    if !(1..=VARIABLE_BYTES_LIMIT).contains(&spec.bytes_max) {
        return refuse("bytes_max", "must be from 1 to 262144");
    }
    let default = spec.default.as_deref()?;
    if spec.required {
        return refuse(
            "default",
            "makes no sense for a required variable; remove one of the two",
        );
    }
    if default.len() > spec.bytes_max {
        return refuse("default", "is longer than bytes_max");
    }
    if default.contains(is_refused_control) {
        return refuse("default", "holds a control character");
    }
    let keyword = spec.broken_keyword(default)?;
    Some(("default", format!("breaks `{keyword}` of the schema")))
}
