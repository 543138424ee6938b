//! What a schema must keep to before it is compiled.
//!
//! Invariant: compiling what passes recurses no deeper than [`SCHEMA_NESTING_MAX`] levels for each of
//! [`SCHEMA_REFERENCES_MAX`] references.
//! Absent: the meaning of a schema. Whoever compiles it finds what is wrong or not supported.

use std::collections::{BTreeSet, HashSet};

use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Map, Value};

/// The longest schema, in bytes of compact JSON.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Most levels of objects and arrays in the text of a schema.
pub const SCHEMA_NESTING_MAX: usize = 48;
/// Most members of one object; the time to compile grows with their square.
pub const SCHEMA_MEMBERS_MAX: usize = 512;
/// Most different targets of `$ref`.
pub const SCHEMA_REFERENCES_MAX: usize = 32;
/// The largest bound on lengths, items and members (`minLength`, `maxItems` and their like).
pub const SCHEMA_COUNT_MAX: u64 = 4096;
/// The largest pattern, in characters once its repetitions are written out.
pub const SCHEMA_PATTERN_CHARACTERS_MAX: u64 = 16 * 1024;

/// Keywords whose numbers are bounded by [`SCHEMA_COUNT_MAX`].
const COUNTS: [&str; 6] = [
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];
/// A key by which the compiler takes options; they are not the schema's to choose.
const COMPILER_OPTIONS: &str = "x-guidance";

/// Checks the bounds; the error says what is wrong.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    if !schema.is_object() {
        return Err("it is not an object".to_owned());
    }
    check_value(schema, 1, &mut BTreeSet::new())?;
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!(
            "it has {bytes} bytes, at most {SCHEMA_BYTES_MAX} are allowed"
        ));
    }
    Ok(())
}

fn check_value<'a>(
    value: &'a Value,
    level: usize,
    references: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    if level > SCHEMA_NESTING_MAX {
        return Err(format!(
            "it is nested deeper than {SCHEMA_NESTING_MAX} levels"
        ));
    }
    match value {
        Value::Object(members) => {
            if members.len() > SCHEMA_MEMBERS_MAX {
                return Err(format!(
                    "an object in it has {} members, at most {SCHEMA_MEMBERS_MAX} are allowed",
                    members.len()
                ));
            }
            check_least_members(members)?;
            for (key, member) in members {
                check_member(key, member, references)?;
                check_value(member, level + 1, references)?;
            }
        }
        Value::Array(elements) => {
            for element in elements {
                check_value(element, level + 1, references)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn check_member<'a>(
    key: &str,
    member: &'a Value,
    references: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    match (key, member) {
        ("$ref", Value::String(target)) => {
            if !target.starts_with('#') {
                return Err(format!("`$ref` leaves the schema for {target:?}"));
            }
            references.insert(target);
            if references.len() > SCHEMA_REFERENCES_MAX {
                return Err(format!(
                    "it has more than {SCHEMA_REFERENCES_MAX} different references"
                ));
            }
        }
        ("pattern", Value::String(pattern)) => check_pattern(pattern)?,
        ("patternProperties", Value::Object(members)) => {
            members
                .keys()
                .try_for_each(|pattern| check_pattern(pattern))?;
        }
        (COMPILER_OPTIONS, _) => {
            return Err(format!("`{COMPILER_OPTIONS}` is no keyword of JSON Schema"));
        }
        (key, Value::Number(count))
            if COUNTS.contains(&key) && count.as_f64() > Some(SCHEMA_COUNT_MAX as f64) =>
        {
            return Err(format!(
                "`{key}` is {count}, at most {SCHEMA_COUNT_MAX} is allowed"
            ));
        }
        _ => {}
    }
    Ok(())
}

/// Members whose names are free could all have the same one, and would be one member then, so no more than one can be asked
/// for.
fn check_least_members(schema: &Map<String, Value>) -> Result<(), String> {
    let Some(least) = schema.get("minProperties").and_then(Value::as_u64) else {
        return Ok(());
    };
    let required = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().collect::<HashSet<_>>().len() as u64,
        _ => 0,
    };
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && !schema.contains_key("patternProperties");
    if is_closed || least <= required + 1 {
        return Ok(());
    }
    Err(format!(
        "`minProperties` is {least}, but `required` names {required}: name all but one, or allow no others by \
         `\"additionalProperties\": false`"
    ))
}

/// The compiler says what is wrong with what is no pattern.
fn check_pattern(pattern: &str) -> Result<(), String> {
    let characters = regex_syntax::parse(pattern).map_or(0, |parsed| characters(&parsed));
    if characters > SCHEMA_PATTERN_CHARACTERS_MAX {
        return Err(format!(
            "the pattern {pattern:?} stands for {characters} characters, with its repetitions written out; at most \
             {SCHEMA_PATTERN_CHARACTERS_MAX} are allowed"
        ));
    }
    Ok(())
}

fn characters(parsed: &Hir) -> u64 {
    match parsed.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(_) => 1,
        HirKind::Capture(capture) => characters(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            characters(&repetition.sub).saturating_mul(times.into())
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(characters(part))),
    }
}
