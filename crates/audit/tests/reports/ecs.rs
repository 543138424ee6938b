//! ECS documents against the schema: fields that it knows, with its types and allowed values.
//!
//! The table states facts of version 9.4.0 of the schema (`generated/csv/fields.csv`,
//! `schemas/event.yml`), as far as documents have them.

use postern_audit::Format;
use serde_json::Value;

use crate::exporting::lines;

/// The schema's type of a field.
enum Kind {
    Keyword,
    /// A keyword with one of these values.
    OneOf(&'static [&'static str]),
    /// A list of keywords with these values.
    ListOf(&'static [&'static str]),
    Keywords,
    Text,
    Date,
    /// A signed integer of 32 bits.
    Integer,
    Long,
    Double,
}

const FIELDS: &[(&str, Kind)] = &[
    ("@timestamp", Kind::Date),
    ("message", Kind::Text),
    ("ecs.version", Kind::OneOf(&["9.4.0"])),
    ("error.code", Kind::Keyword),
    ("event.action", Kind::Keyword),
    (
        "event.category",
        Kind::ListOf(&["api", "configuration", "file", "process"]),
    ),
    ("event.code", Kind::Keyword),
    ("event.dataset", Kind::Keyword),
    ("event.duration", Kind::Long),
    ("event.end", Kind::Date),
    ("event.id", Kind::Keyword),
    (
        "event.kind",
        Kind::OneOf(&["alert", "event", "metric", "state"]),
    ),
    ("event.module", Kind::Keyword),
    (
        "event.outcome",
        Kind::OneOf(&["failure", "success", "unknown"]),
    ),
    ("event.provider", Kind::Keyword),
    ("event.reason", Kind::Keyword),
    ("event.sequence", Kind::Long),
    ("event.start", Kind::Date),
    (
        "event.type",
        Kind::ListOf(&[
            "access", "admin", "allowed", "change", "deletion", "denied", "end", "start",
        ]),
    ),
    ("gen_ai.operation.name", Kind::Keyword),
    ("gen_ai.request.max_tokens", Kind::Integer),
    ("gen_ai.request.model", Kind::Keyword),
    ("gen_ai.request.seed", Kind::Integer),
    ("gen_ai.request.temperature", Kind::Double),
    ("gen_ai.response.id", Kind::Keyword),
    ("gen_ai.response.model", Kind::Keyword),
    ("gen_ai.system", Kind::Keyword),
    ("gen_ai.usage.input_tokens", Kind::Integer),
    ("gen_ai.usage.output_tokens", Kind::Integer),
    ("host.name", Kind::Keyword),
    ("http.request.id", Kind::Keyword),
    ("related.user", Kind::Keywords),
    ("service.name", Kind::Keyword),
    ("service.type", Kind::Keyword),
    ("service.version", Kind::Keyword),
    ("tls.client.hash.sha256", Kind::Keyword),
    ("user.id", Kind::Keyword),
    ("user.name", Kind::Keyword),
];

/// Which words of `event.type` the schema expects beside each of `event.category`.
const EXPECTED_TYPES: [(&str, &[&str]); 4] = [
    (
        "api",
        &[
            "access", "admin", "allowed", "change", "creation", "deletion", "denied", "end",
            "info", "start", "user",
        ],
    ),
    (
        "configuration",
        &["access", "change", "creation", "deletion", "info"],
    ),
    (
        "file",
        &["access", "change", "creation", "deletion", "info"],
    ),
    ("process", &["access", "change", "end", "info", "start"]),
];

/// Our own fields, which the schema leaves to us.
const OWN: &str = "postern";

#[test]
fn fields_are_of_the_schema() {
    for (shows, line) in lines(Format::Ecs) {
        let Value::Object(members) = line else {
            panic!("{shows}: no object");
        };
        for (name, value) in members.iter().filter(|(name, _)| *name != OWN) {
            check_field(shows, name, value);
        }
    }
}

fn check_field(shows: &str, path: &str, value: &Value) {
    if let Value::Object(members) = value {
        for (name, value) in members {
            check_field(shows, &format!("{path}.{name}"), value);
        }
        return;
    }
    let field = FIELDS.iter().find(|(name, _)| *name == path);
    let Some((_, kind)) = field else {
        panic!("{shows}: the schema has no field {path}");
    };
    assert!(is_of(kind, value), "{shows}: {path} is {value}");
}

fn is_of(kind: &Kind, value: &Value) -> bool {
    let is_one = |words: &[&str], value: &Value| words.iter().any(|word| value == word);
    let elements = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match kind {
        Kind::Keyword | Kind::Text => value.is_string(),
        Kind::OneOf(words) => is_one(words, value),
        Kind::ListOf(words) => {
            let elements = elements(value);
            !elements.is_empty() && elements.iter().all(|element| is_one(words, element))
        }
        Kind::Keywords => elements(value).iter().all(Value::is_string),
        Kind::Date => value
            .as_str()
            .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        Kind::Integer => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        Kind::Long => value.is_i64(),
        Kind::Double => value.is_number(),
    }
}

#[test]
fn types_are_those_expected_of_their_category() {
    for (shows, line) in lines(Format::Ecs) {
        let event = &line["event"];
        for category in event["category"].as_array().unwrap() {
            let expected = EXPECTED_TYPES.iter().find(|(name, _)| category == name);
            let (_, expected) = expected.unwrap();
            for kind in event["type"].as_array().unwrap() {
                assert!(expected.iter().any(|name| kind == name), "{shows}: {kind}");
            }
        }
    }
}
