//! Schemas whose output is bounded, so that any choice of tokens comes to an end.

use serde_json::{Value, json};

/// Each with a name. A number without both bounds would have no last digit.
pub(crate) fn bounded() -> Vec<(&'static str, Value)> {
    vec![
        ("nested objects", nested_objects()),
        (
            "an enum of every type",
            json!({ "enum": ["a", "naïve", "\"quoted\"\n\\", "a/b", 7, -0.5, null, true, { "k": [1] }, []] }),
        ),
        (
            "an array with bounds",
            json!({
                "type": "array",
                "items": { "type": "integer", "minimum": -5, "maximum": 120 },
                "minItems": 2,
                "maxItems": 5,
            }),
        ),
        (
            "a tuple",
            json!({
                "type": "array",
                "prefixItems": [{ "const": "é" }, { "type": "boolean" }, { "enum": [1, 2] }],
                "minItems": 2,
                "items": false,
            }),
        ),
        (
            "numbers",
            json!({
                "type": "object",
                "properties": {
                    "whole": { "type": "integer", "exclusiveMinimum": 9, "maximum": 1000 },
                    "even": { "type": "integer", "minimum": 0, "maximum": 98, "multipleOf": 2 },
                    "one_of_few": { "enum": [0.1, 1e3, -2.5] },
                },
                "required": ["whole", "even", "one_of_few"],
                "additionalProperties": false,
            }),
        ),
        (
            "strings with patterns",
            json!({
                "type": "object",
                "properties": {
                    "order": { "type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$" },
                    "inside": { "type": "string", "pattern": "[xyz]{2}", "maxLength": 9 },
                    "word": { "type": "string", "pattern": "^(espresso|caffè (latte|mocha))$" },
                    "day": { "type": "string", "format": "date" },
                },
                "required": ["order", "inside", "word", "day"],
                "additionalProperties": false,
            }),
        ),
        ("unicode", unicode()),
        (
            "alternatives",
            json!({
                "anyOf": [
                    { "type": "null" },
                    {
                        "type": "object",
                        "properties": { "kind": { "const": "a" }, "a": { "type": "boolean" } },
                        "required": ["kind", "a"],
                        "additionalProperties": false,
                    },
                    {
                        "type": "object",
                        "properties": { "kind": { "const": "b" }, "b": { "type": ["null", "boolean"] } },
                        "required": ["kind"],
                        "additionalProperties": false,
                    },
                ],
            }),
        ),
        (
            "all of two",
            json!({
                "allOf": [
                    { "type": "object", "properties": { "a": { "type": "integer", "minimum": 3, "maximum": 900 } }, "required": ["a"] },
                    { "properties": { "a": { "maximum": 40 }, "b": { "enum": ["x", "y"] } }, "additionalProperties": false },
                ],
            }),
        ),
        (
            "definitions",
            json!({
                "$defs": { "size": { "enum": ["small", "large"] } },
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "size": { "$ref": "#/$defs/size" } },
                    "required": ["size"],
                    "additionalProperties": false,
                },
                "minItems": 1,
                "maxItems": 3,
            }),
        ),
        (
            "members by pattern",
            json!({
                "type": "object",
                "patternProperties": { "^[a-c]{1,2}$": { "type": "integer", "minimum": 0, "maximum": 9 } },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 3,
            }),
        ),
        (
            "names that need escapes",
            json!({
                "type": "object",
                "properties": { "a\"b\\c\n": { "const": "\u{7}/\u{7f}" }, "$ref": { "const": "" } },
                "required": ["a\"b\\c\n", "$ref"],
                "additionalProperties": false,
            }),
        ),
    ]
}

fn nested_objects() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An order",
        "type": "object",
        "properties": {
            "drink": {
                "type": "object",
                "description": "what is wanted",
                "properties": {
                    "name": { "enum": ["espresso", "flat white"] },
                    "size": { "type": "integer", "minimum": 1, "maximum": 3 },
                    "extra": {
                        "type": "object",
                        "properties": { "milk": { "type": "boolean" } },
                        "additionalProperties": false,
                    },
                },
                "required": ["name", "size"],
                "additionalProperties": false,
            },
            "a_to_go": { "type": "boolean" },
        },
        "required": ["drink", "a_to_go"],
        "additionalProperties": false,
    })
}

fn unicode() -> Value {
    json!({
        "type": "object",
        "properties": {
            "größe": { "enum": ["klein", "groß", "抹茶", "☕️", "👩‍🍳"] },
            "any": { "type": "string", "minLength": 1, "maxLength": 6 },
            "кириллица": { "type": "string", "pattern": "^[а-я]{2,5}$" },
            "emoji": { "type": "string", "pattern": "^[\u{1F600}-\u{1F64F}]{1,2}$" },
        },
        "required": ["größe", "any", "кириллица", "emoji"],
        "additionalProperties": false,
    })
}
