//! Schemas that attack their compiler or the steps of a generation: each ends in an error or stays within the limits.

use postern_engine::{
    Constraint, EngineError, Grammars, SCHEMA_BYTES_MAX, SCHEMA_COUNT_MAX, SCHEMA_MEMBERS_MAX,
    SCHEMA_NESTING_MAX, SCHEMA_PATTERN_CHARACTERS_MAX, SCHEMA_REFERENCES_MAX,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::made_vocabulary::made;

/// Tokens that are taken of a schema that compiles.
const STEPS: usize = 60;

/// What compiling a schema has to come to.
#[derive(Clone, Copy)]
enum Outcome {
    /// An error that says this.
    Refused(&'static str),
    /// Either; where it compiles, tokens can be taken until a limit says no.
    WithinLimits,
}

use Outcome::{Refused, WithinLimits};

fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// An object with one member. Unlike the macro, it takes the value as it is, however deep.
fn object(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// `levels` objects, each a property of the one around it.
fn nested(levels: usize, inner: Value) -> Value {
    (0..levels).fold(inner, |inner, _| object("properties", object("p", inner)))
}

/// Definitions that refer to the next one from deep inside.
fn chain(references: usize, levels: usize) -> Value {
    let definition = |index: usize| {
        let next = json!({ "$ref": format!("#/$defs/d{}", (index + 1) % references) });
        (format!("d{index}"), nested(levels, next))
    };
    let definitions: Map<String, Value> = (0..references).map(definition).collect();
    json!({ "$ref": "#/$defs/d0", "$defs": definitions })
}

fn not_schemas() -> Vec<(&'static str, Value, Outcome)> {
    vec![
        ("a truth value", json!(true), Refused("not an object")),
        ("a number", json!(7), Refused("not an object")),
        ("no known type", json!({ "type": "tea" }), Refused("tea")),
        (
            "a type that is a number",
            json!({ "type": 7 }),
            Refused("type"),
        ),
        (
            "properties that are a list",
            json!({ "properties": [] }),
            Refused("properties"),
        ),
        (
            "a length below zero",
            json!({ "type": "string", "maxLength": -1 }),
            Refused("maxLength"),
        ),
        ("a broken pattern", pattern("("), Refused("unclosed group")),
        ("a look-ahead", pattern("(?=a)b"), Refused("look-around")),
        (
            "a back reference",
            pattern(r"(a)\1"),
            Refused("backreference"),
        ),
        (
            "a keyword that is not supported",
            json!({ "type": "array", "uniqueItems": true }),
            Refused("uniqueItems"),
        ),
        (
            "what cannot be met",
            json!({ "type": "integer", "minimum": 2, "maximum": 1 }),
            Refused("Unsatisfiable"),
        ),
        (
            "alternatives that overlap",
            json!({ "oneOf": [{ "type": "string" }, { "pattern": "a" }] }),
            Refused("oneOf"),
        ),
        (
            "options of the compiler",
            json!({ "x-guidance": { "lenient": true } }),
            Refused("x-guidance"),
        ),
        (
            "a reference whose quotation would be cut inside of a character",
            json!({ "$ref": [format!("x{}", "é".repeat(200))] }),
            Refused("panic"),
        ),
    ]
}

fn references() -> Vec<(&'static str, Value, Outcome)> {
    vec![
        (
            "a remote reference",
            json!({ "$ref": "https://example.org/schema" }),
            Refused("leaves the schema"),
        ),
        (
            "a reference to a file",
            json!({ "items": { "$ref": "/etc/passwd" } }),
            Refused("leaves the schema"),
        ),
        (
            "a reference to nothing",
            json!({ "$ref": "#/$defs/none" }),
            Refused("not found"),
        ),
        (
            "a reference to itself",
            json!({ "$ref": "#" }),
            WithinLimits,
        ),
        (
            "two references to each other",
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
            WithinLimits,
        ),
        (
            "an object that never ends",
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "required": ["a"], "additionalProperties": false }),
            WithinLimits,
        ),
        (
            "too many references",
            chain(SCHEMA_REFERENCES_MAX + 1, 1),
            Refused("different references"),
        ),
        (
            "as deep as the bounds let it be",
            chain(SCHEMA_REFERENCES_MAX, (SCHEMA_NESTING_MAX - 4) / 2),
            WithinLimits,
        ),
    ]
}

fn sizes() -> Vec<(&'static str, Value, Outcome)> {
    let names = |count: usize| -> Map<String, Value> {
        (0..count)
            .map(|index| (format!("p{index}"), json!({})))
            .collect()
    };
    let texts: Vec<String> = (0..5000).map(|index| format!("t{index}")).collect();
    let any_of = |index: usize| -> Value {
        let one = |choice: usize| json!({ "properties": { (format!("p{index}_{choice}")): { "type": "null" } } });
        json!({ "anyOf": (0..4).map(one).collect::<Vec<_>>() })
    };
    vec![
        (
            "too long",
            json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) }),
            Refused("bytes"),
        ),
        (
            "too deep",
            nested(SCHEMA_NESTING_MAX, json!({})),
            Refused("nested deeper"),
        ),
        (
            "far too deep",
            nested(500, json!({})),
            Refused("nested deeper"),
        ),
        (
            "lists far too deep",
            object(
                "enum",
                (0..1000).fold(json!({}), |inner, _| Value::Array(vec![inner])),
            ),
            Refused("nested deeper"),
        ),
        (
            "too many members",
            json!({ "properties": names(SCHEMA_MEMBERS_MAX + 1) }),
            Refused("members"),
        ),
        (
            "many members",
            json!({ "properties": names(SCHEMA_MEMBERS_MAX) }),
            WithinLimits,
        ),
        ("a large enum", json!({ "enum": texts }), WithinLimits),
        (
            "a product of alternatives",
            json!({ "allOf": (0..12).map(any_of).collect::<Vec<_>>() }),
            Refused(""),
        ),
        (
            "a length beyond the bound",
            json!({ "type": "string", "maxLength": SCHEMA_COUNT_MAX + 1 }),
            Refused("maxLength"),
        ),
        (
            "more items than can be",
            json!({ "type": "array", "minItems": 1e18 }),
            Refused("minItems"),
        ),
        (
            "the longest string",
            json!({ "type": "string", "minLength": SCHEMA_COUNT_MAX }),
            WithinLimits,
        ),
        (
            "the longest array",
            json!({ "type": "array", "minItems": SCHEMA_COUNT_MAX, "maxItems": SCHEMA_COUNT_MAX }),
            WithinLimits,
        ),
        (
            "the longest arrays in each other",
            (0..5).fold(
                json!({}),
                |items, _| json!({ "type": "array", "items": items, "minItems": SCHEMA_COUNT_MAX }),
            ),
            WithinLimits,
        ),
        (
            "members of any name, which could be the same",
            json!({ "type": "object", "minProperties": SCHEMA_COUNT_MAX }),
            Refused("minProperties"),
        ),
        (
            "a huge number",
            json!({ "type": "number", "minimum": -1e308, "maximum": 1e308 }),
            WithinLimits,
        ),
        (
            "a tiny step",
            json!({ "type": "number", "multipleOf": 1e-300 }),
            WithinLimits,
        ),
        (
            "a huge step",
            json!({ "type": "integer", "multipleOf": 1e300 }),
            WithinLimits,
        ),
    ]
}

fn patterns() -> Vec<(&'static str, Value, Outcome)> {
    vec![
        (
            "nested repetition",
            pattern("^(([a-z])+.)+[A-Z]([a-z])+$"),
            WithinLimits,
        ),
        (
            "ambiguous repetition",
            pattern("^(a|a)*(a|aa)*b$"),
            WithinLimits,
        ),
        (
            "optional parts",
            pattern(&format!("^{}{}$", "a?".repeat(50), "a".repeat(50))),
            WithinLimits,
        ),
        (
            "exponentially many states",
            pattern("(a|b)*a(a|b){20}$"),
            WithinLimits,
        ),
        (
            "a repetition of repetitions",
            pattern("^((a{1,100}){1,100}){1,100}$"),
            Refused("1000000 characters"),
        ),
        (
            "a repetition of repetitions without end",
            pattern("^((a{4000000000}){4000000000}){4000000000}$"),
            Refused("characters"),
        ),
        (
            "the longest pattern",
            pattern(&format!(
                "^(a|[0-9]){{{}}}$",
                SCHEMA_PATTERN_CHARACTERS_MAX / 2
            )),
            WithinLimits,
        ),
        (
            "a long pattern of members",
            object("patternProperties", object("^a{1,20000}$", json!({}))),
            Refused("20000 characters"),
        ),
        (
            "a repetition without end",
            pattern("^a{4000000000}$"),
            Refused("4000000000 characters"),
        ),
        (
            "classes of all of Unicode",
            pattern(r"^[\p{L}\p{N}\p{S}]{1,200}\w{1,200}$"),
            WithinLimits,
        ),
        (
            "groups in groups",
            pattern(&format!("{}a{}", "(".repeat(240), ")".repeat(240))),
            WithinLimits,
        ),
        (
            "alternatives in alternatives",
            pattern(&(0..120).fold("a".to_owned(), |inner, _| format!("(b|{inner}c)?"))),
            WithinLimits,
        ),
        (
            "far too many groups",
            pattern(&"(".repeat(20_000)),
            Refused(""),
        ),
    ]
}

/// Compiles and takes the first or last allowed tokens in turn.
fn check(grammars: &Grammars, schema: &Value) -> Result<(), EngineError> {
    let mut constraint = Constraint::new(grammars, schema)?;
    for step in 0..STEPS {
        if constraint.is_complete() {
            break;
        }
        let mask = match constraint.mask() {
            Ok(mask) => mask,
            Err(error) => {
                assert!(
                    matches!(error, EngineError::ConstraintFailed { .. }),
                    "{error}"
                );
                break;
            }
        };
        let token = if step % 2 == 0 {
            mask.iter().next()
        } else {
            mask.iter().last()
        };
        if constraint
            .commit(token.expect("a mask is never empty"))
            .is_err()
        {
            break;
        }
    }
    Ok(())
}

#[test]
fn an_attack_is_refused_or_stays_within_the_limits() {
    let grammars = Grammars::new(made("gpt2"));
    let mut faults = Vec::new();
    for (name, schema, outcome) in [not_schemas(), references(), sizes(), patterns()].concat() {
        match (outcome, check(&grammars, &schema)) {
            (_, Err(EngineError::SchemaInvalid { reason })) if reason.len() > 2000 => {
                faults.push(format!("{name}: the reason is too long"));
            }
            (Refused(part), Err(EngineError::SchemaInvalid { reason }))
                if reason.contains(part) => {}
            (WithinLimits, Ok(()) | Err(EngineError::SchemaInvalid { .. })) => {}
            (_, other) => faults.push(format!("{name}: {other:?}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Values that are often schemas, and often nearly so.
fn nearly_schemas() -> impl Strategy<Value = Value> {
    let keyword = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "required",
        "additionalProperties",
        "patternProperties",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "multipleOf",
        "minItems",
        "maxItems",
        "minProperties",
        "a",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..40).prop_map(Value::from),
        prop::sample::select(vec![
            "string",
            "object",
            "array",
            "integer",
            "number",
            "null",
            "#",
            "#/$defs/a",
            "date",
            "é"
        ])
        .prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keyword.clone(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    });
    value.prop_filter("an object", Value::is_object)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_schema_makes_it_panic(schemas in prop::collection::vec(nearly_schemas(), 1..8)) {
        let grammars = Grammars::new(made("gpt2"));
        for schema in schemas {
            let outcome = check(&grammars, &schema);
            prop_assert!(matches!(outcome, Ok(()) | Err(EngineError::SchemaInvalid { .. })), "{outcome:?}");
        }
    }
}
