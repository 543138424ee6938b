//! A JSON Schema of a template: for one variable, or for the output.
//!
//! Invariant: a [`Schema`] is within its bounds and refers to nothing outside of itself; a check
//! ends for every value, since a reference never leads back to itself without a step into the
//! value, and patterns are matched without backtracking.
//!
//! Absent: remote references, anchors and dynamic references; formats, which are annotations.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Longest schema, in bytes of compact JSON.
pub const TEMPLATE_SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Deepest nesting of output that is checked; deeper output is refused.
pub const OUTPUT_NESTING_MAX: usize = 64;
/// Most bytes of memory that one compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A compiled JSON Schema (draft 2020-12 unless it names another).
#[derive(Clone)]
pub struct Schema {
    value: Value,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to stand behind the field's name in a message.
    pub fn compile(value: Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("is not an object; write a JSON Schema".to_owned());
        }
        if value.to_string().len() > TEMPLATE_SCHEMA_BYTES_MAX {
            return Err(format!(
                "is longer than {TEMPLATE_SCHEMA_BYTES_MAX} bytes of compact JSON; make it smaller"
            ));
        }
        check_references(&value)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options()
            .with_pattern_options(patterns)
            .should_validate_formats(false);
        let validator = options.build(&value).map_err(|error| {
            format!(
                "does not compile: {error}, at `{}` of the schema",
                error.instance_path()
            )
        })?;
        Ok(Self {
            value,
            validator: Arc::new(validator),
        })
    }

    /// The schema as it was written.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.value
    }

    /// The keyword that `value` breaks first, and where that stands in the schema. Nothing of the
    /// value is repeated.
    #[must_use]
    pub fn broken_by(&self, value: &Value) -> Option<(&'static str, String)> {
        let error = self.validator.validate(value).err()?;
        let path = error.schema_path().to_string();
        Some((keyword(error.kind().keyword()), path))
    }

    /// What is wrong with a whole output, if anything; nothing of the output is repeated.
    #[must_use]
    pub fn output_fault(&self, output: &str) -> Option<String> {
        let Ok(value) = serde_json::from_str::<Value>(output) else {
            return Some("it is not JSON".to_owned());
        };
        if nesting(&value) > OUTPUT_NESTING_MAX {
            return Some(format!(
                "it is nested deeper than {OUTPUT_NESTING_MAX} levels"
            ));
        }
        let (keyword, path) = self.broken_by(&value)?;
        Some(format!("it breaks `{keyword}` at `{path}` of the schema"))
    }
}

/// The keyword as a text without a lifetime; of those that a schema can break.
fn keyword(found: &str) -> &'static str {
    const KEYWORDS: [&str; 31] = [
        "additionalItems",
        "additionalProperties",
        "anyOf",
        "const",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "falseSchema",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "propertyNames",
        "required",
        "type",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
        "$ref",
    ];
    let known = KEYWORDS.into_iter().find(|known| *known == found);
    known.unwrap_or("a keyword")
}

fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(nesting).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or(0),
        _ => 1,
    }
}

/// Keywords whose schemas apply to the same value as the schema that they stand in: a reference
/// below only these comes back without a step into the value.
const IN_PLACE: [&str; 9] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "$ref",
];

/// Refuses references that leave the schema or lead back to themselves in place.
fn check_references(root: &Value) -> Result<(), String> {
    let mut references = Vec::new();
    collect_references(root, &mut references)?;
    for target in references {
        let pointer = target.strip_prefix('#');
        if !pointer.is_some_and(|pointer| pointer.is_empty() || pointer.starts_with('/'))
            || target.contains('%')
        {
            return Err(format!(
                "refers to {target:?}; a reference is `#` or `#/` and a path within the schema"
            ));
        }
        let mut seen = BTreeSet::new();
        if leads_back(root, target, target, &mut seen) {
            return Err(format!(
                "refers to {target:?} in a circle that no value can end"
            ));
        }
    }
    Ok(())
}

/// Keywords that would let a reference lead elsewhere than to its path.
const REBASING: [&str; 6] = [
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
];

fn collect_references<'v>(value: &'v Value, references: &mut Vec<&'v str>) -> Result<(), String> {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("$ref", Value::String(target)) => references.push(target),
                    (key, Value::String(_) | Value::Bool(_)) if REBASING.contains(&key) => {
                        return Err(format!("uses `{key}`, which is not supported"));
                    }
                    _ => collect_references(member, references)?,
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                collect_references(element, references)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether the schema at `from` applies `target` again to the same value.
fn leads_back<'v>(
    root: &'v Value,
    from: &'v str,
    target: &str,
    seen: &mut BTreeSet<&'v str>,
) -> bool {
    if !seen.insert(from) {
        return false;
    }
    let Some(schema) = root.pointer(from.trim_start_matches('#')) else {
        return false;
    };
    let mut next = Vec::new();
    in_place_references(schema, &mut next);
    next.into_iter()
        .any(|found| found == target || leads_back(root, found, target, seen))
}

fn in_place_references<'v>(schema: &'v Value, references: &mut Vec<&'v str>) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                if let ("$ref", Value::String(target)) = (key.as_str(), member) {
                    references.push(target);
                } else if key == "dependentSchemas" {
                    for dependent in member.as_object().into_iter().flat_map(|map| map.values()) {
                        in_place_references(dependent, references);
                    }
                } else if IN_PLACE.contains(&key.as_str()) {
                    in_place_references(member, references);
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                in_place_references(element, references);
            }
        }
        _ => {}
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Schema {}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}
