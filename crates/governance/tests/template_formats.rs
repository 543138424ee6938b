//! One template in three formats, and what is refused in those that are not YAML.

use std::fs;

use postern_governance::{
    LOCK_FILE, LockState, OutputRecord, PromptLock, Template, TemplateSet, Trust,
};

const YAML: &str = r#"
id: summary.v1
description: Summarizes.
author: somebody
intent: a test
risk: low
model: small-1
max_tokens: 64
temperature: 0.5
system: "You summarize. 😀"
user: "{{ text }} in {{ words }} words"
variables:
  text:
    description: What to summarize.
    schema: {type: string, description: What to summarize., maxLength: 100}
    data_class: personal
  words:
    schema: {type: integer}
    required: false
    default: "50"
output:
  schema: {type: object, properties: {b: {type: string}, a: {type: number}}, required: [b]}
audit: {output: hash}
"#;

const MARKDOWN: &str = r#"---
model: small-1
config: {temperature: 0.5, maxOutputTokens: 64}
input:
  schema:
    type: object
    properties:
      text: {type: string, description: What to summarize., maxLength: 100, x-data-class: personal}
      words: {type: integer}
    required: [text]
  default: {words: "50"}
output:
  format: json
  schema: {type: object, properties: {b: {type: string}, a: {type: number}}, required: [b]}
metadata:
  id: summary.v1
  description: Summarizes.
  author: somebody
  intent: a test
  risk: low
  audit: {output: hash}
---

{{role "system"}}
You summarize. 😀
{{role "user"}}
{{ text }} in {{ words }} words
"#;

const JSON: &str = r#"{
  "id": "summary.v1", "description": "Summarizes.", "author": "somebody", "intent": "a test",
  "risk": "low", "model": "small-1", "max_tokens": 64, "temperature": 0.5,
  "system": "You summarize. \ud83d\ude00",
  "content": "{{ text }} in {{ words }} words",
  "variables": {
    "text": {
      "description": "What to summarize.", "data_class": "personal",
      "schema": {"type": "string", "description": "What to summarize.", "maxLength": 100}
    },
    "words": {"schema": {"type": "integer"}, "required": false, "default": "50"}
  },
  "output": {
    "schema": {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}, "required": ["b"]}
  },
  "audit": {"output": "hash"}
}"#;

const SMALL_JSON: &str =
    r#"{"id": "small_v2", "author": "a", "intent": "i", "model": "m", "content": "{{ x }}"}"#;

fn load(file: &str, text: &str) -> Result<Template, String> {
    let set = TemplateSet::from_sources([(file, text)]).map_err(|error| error.to_string())?;
    Ok(set.iter().next().expect("one template").clone())
}

#[test]
fn three_formats_are_one_template_with_one_checksum() {
    let yaml = load("summary.v1.yaml", YAML).expect("YAML");
    let markdown = load("summary.v1.md", MARKDOWN).expect("Markdown");
    let dotprompt = load("summary.v1.prompt", &MARKDOWN.replace('\n', "\r\n")).expect("CRLF");
    let json = load("summary.v1.json", JSON).expect("JSON");
    for other in [&markdown, &dotprompt, &json] {
        assert_eq!(other.checksum, yaml.checksum, "{other:#?}\n{yaml:#?}");
    }
    assert_eq!(yaml.output_record, Some(OutputRecord::Hash));
    assert_eq!(yaml.variables["text"].bytes_max, 400);
    assert_eq!(yaml.variables["text"].trust, Trust::Untrusted);
    // The order of an output's members is part of what the template says.
    let reordered = YAML.replace(
        "b: {type: string}, a: {type: number}",
        "a: {type: number}, b: {type: string}",
    );
    assert_ne!(
        load("summary.v1.yaml", &reordered).expect("YAML").checksum,
        yaml.checksum
    );
}

#[test]
fn the_small_forms_have_careful_defaults() {
    let json = load("small_v2.json", SMALL_JSON).expect("JSON");
    assert_eq!(
        (json.id.parts(), json.max_tokens, json.risk.as_str()),
        (("small", "2"), 512, "high")
    );
    assert_eq!(json.description, "i");
    let markdown = "---\nmetadata: {id: small_v2, author: a, intent: i}\nmodel: m\n---\n{{ x }}\n";
    assert_eq!(
        load("small_v2.md", markdown).expect("Markdown").checksum,
        json.checksum
    );
}

/// Each case: file name, text, and what the message must say, the place first.
fn check(cases: &[(&str, &str, String, &[&str])]) {
    let mut failures = Vec::new();
    for (name, file, text, expected) in cases {
        let message =
            load(file, text).map_or_else(|message| message, |_| "it was loaded".to_owned());
        let missing: Vec<_> = expected
            .iter()
            .filter(|part| !message.contains(**part))
            .collect();
        if !missing.is_empty() || !message.starts_with(file) {
            failures.push(format!("{name}: {message:?} lacks {missing:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_json_is_refused_with_line_and_reason() {
    let file = "summary.v1.json";
    let with = |from: &str, to: &str| JSON.replace(from, to);
    check(&[
        ("empty", file, String::new(), &[":1:", "not JSON"]),
        ("a list", file, "[]".to_owned(), &[":1:"]),
        ("YAML", file, YAML.to_owned(), &["not JSON"]),
        ("comment", file, format!("{JSON} # no"), &["not JSON"]),
        (
            "trailing comma",
            file,
            with("\"somebody\",", "\"somebody\",,"),
            &[":2:", "not JSON"],
        ),
        (
            "no author",
            file,
            with("\"author\": \"somebody\", ", ""),
            &["author"],
        ),
        (
            "no intent",
            file,
            with("\"intent\": \"a test\",", ""),
            &["intent"],
        ),
        (
            "no model",
            file,
            with("\"model\": \"small-1\", ", ""),
            &["model"],
        ),
        (
            "blank author",
            file,
            with("somebody", " "),
            &[":2:", "`author`", "empty"],
        ),
        (
            "unknown field",
            file,
            with("\"risk\"", "\"rsik\""),
            &[":3:", "rsik"],
        ),
        (
            "key twice",
            file,
            with("\"risk\": \"low\"", "\"id\": \"x.v1\""),
            &[":3:", "twice"],
        ),
        (
            "key of a schema twice",
            file,
            with(
                "\"type\": \"integer\"",
                "\"type\": \"integer\", \"type\": \"string\"",
            ),
            &[":11:", "twice"],
        ),
        (
            "lone surrogate",
            file,
            with("\\ud83d\\ude00", "\\ud83d"),
            &[":4:", "surrogate"],
        ),
        (
            "lone low surrogate",
            file,
            with("\\ud83d\\ude00", "\\ude00"),
            &[":4:", "surrogate"],
        ),
        (
            "NUL",
            file,
            with("\\ud83d\\ude00", "\\u0000"),
            &[":4:", "`system`", "control"],
        ),
        (
            "raw NUL",
            file,
            with("\\ud83d\\ude00", "\0"),
            &[":4:", "control"],
        ),
        (
            "deep",
            file,
            format!("{{\"id\": {}{}}}", "[".repeat(100), "]".repeat(100)),
            &[":1:"],
        ),
        ("very deep", file, "[".repeat(100_000), &[":1:"]),
        (
            "other name",
            "other.v1.json",
            JSON.to_owned(),
            &[":2:", "`summary.v1`", "name the file"],
        ),
    ]);
}

#[test]
fn bad_markdown_is_refused_with_line_and_reason() {
    let file = "summary.v1.md";
    let with = |from: &str, to: &str| MARKDOWN.replace(from, to);
    check(&[
        (
            "no front matter",
            file,
            "# Hello".to_owned(),
            &[":1:", "front matter is missing"],
        ),
        (
            "open front matter",
            file,
            "---\nmodel: x\n".to_owned(),
            &[":1:", "never closed"],
        ),
        (
            "no metadata",
            file,
            "---\nmodel: x\n---\nx".to_owned(),
            &["metadata"],
        ),
        (
            "no author",
            file,
            with("  author: somebody\n", ""),
            &["author"],
        ),
        (
            "unknown field",
            file,
            with("model: small-1", "modle: small-1"),
            &[":2:", "modle"],
        ),
        (
            "key twice",
            file,
            with("model: small-1", "model: a\nmodel: b"),
            &[":3:", "twice"],
        ),
        ("alias", file, with("model: small-1", "model: *a"), &[":2:"]),
        (
            "anchor",
            file,
            with("model: small-1", "model: &a b"),
            &["anchor"],
        ),
        (
            "unknown required",
            file,
            with("required: [text]", "required: [tex]"),
            &["`tex`"],
        ),
        (
            "other variables",
            file,
            with("required: [text]", "additionalProperties: true"),
            &["additionalProperties"],
        ),
        (
            "bad trust",
            file,
            with("x-data-class: personal", "x-trust: 7"),
            &[":8:", "x-trust"],
        ),
        (
            "keyword",
            file,
            with("x-data-class: personal", "properties: {}"),
            &[":8:", "properties"],
        ),
        (
            "text with a schema",
            file,
            with("format: json", "format: text"),
            &["output.schema"],
        ),
        (
            "circle",
            file,
            with(
                "{type: object, properties: {b: {type: string}",
                "{allOf: [{$ref: '#'}], properties: {b: {type: string}",
            ),
            &[":14:", "circle"],
        ),
        (
            "remote",
            file,
            with(
                "{type: object, properties: {b: {type: string}",
                "{$ref: 'https://example.org/x', properties: {b: {type: string}",
            ),
            &[":14:", "within the schema"],
        ),
        (
            "bad schema",
            file,
            with("{type: number}", "{type: nmber}"),
            &[":14:", "does not compile"],
        ),
        (
            "role of the model",
            file,
            with("{{role \"user\"}}", "{{role \"model\"}}"),
            &[":26:", "model"],
        ),
        (
            "two of the system",
            file,
            with("{{role \"user\"}}", "{{role \"system\"}}"),
            &[":26:", "system"],
        ),
        (
            "Handlebars",
            file,
            with("{{ text }}", "{{#if text}}x{{/if}}"),
            &["`user`", "`#`"],
        ),
        (
            "no text",
            file,
            with("{{ text }} in {{ words }} words", ""),
            &["`user`", "empty"],
        ),
    ]);
}

#[test]
fn other_markdown_and_json_may_stand_beside_templates() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("README.md", "# Prompts"),
        ("package.json", "{}"),
        ("small_v2.test.yaml", "no template"),
        ("small_v2.recorded.json", "no template"),
        ("small_v2.json", SMALL_JSON),
        ("summary.v1.md", MARKDOWN),
    ] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let set = TemplateSet::load(dir.path()).expect("they load");
    let ids: Vec<_> = set
        .iter()
        .map(|template| template.id.as_str().to_owned())
        .collect();
    assert_eq!(ids, ["small_v2", "summary.v1"]);
}

#[test]
fn two_spellings_of_one_id_are_refused() {
    let dotted = SMALL_JSON.replace("small_v2", "small.v2");
    let both = TemplateSet::from_sources([
        ("small.v2.json", dotted.as_str()),
        ("small_v2.json", SMALL_JSON),
    ]);
    let message = both.expect_err("one id").to_string();
    assert!(
        message.starts_with("small_v2.json:1: the id `small_v2` is already taken by small.v2.json"),
        "{message}"
    );
}

fn locked(template: &str, lock: &str) -> Result<TemplateSet, String> {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("small_v2.json"), template).expect("a file");
    fs::write(dir.path().join(LOCK_FILE), lock).expect("a file");
    TemplateSet::load(dir.path()).map_err(|error| error.to_string())
}

#[test]
fn a_template_that_is_not_as_recorded_is_refused_until_the_lock_is_renewed() {
    let small = load("small_v2.json", SMALL_JSON).expect("JSON");
    let changed_text = SMALL_JSON.replace("{{ x }}", "Now {{ x }}");
    let changed = load("small_v2.json", &changed_text).expect("JSON");
    let none = Default::default();
    let lock = PromptLock::default().renewed([&small], &none, "2026-11-27");
    assert_eq!(
        PromptLock::from_source(&lock.to_source())
            .expect("a lock")
            .to_source(),
        lock.to_source()
    );
    locked(SMALL_JSON, &lock.to_source()).expect("as recorded");

    let message = locked(&changed_text, &lock.to_source()).expect_err("it changed");
    assert!(
        message.starts_with(
            "small_v2.json:1: the template `small_v2` is not what prompts.lock:5 records"
        ) && message.contains("postern prompt lock --renew small_v2"),
        "{message}"
    );
    assert_eq!(lock.state(&changed), LockState::Changed);
    let unrenewed = lock.renewed([&changed], &none, "2026-11-28");
    assert_eq!(unrenewed.to_source(), lock.to_source());
    let renewed = lock.renewed([&changed], &[changed.id.clone()].into(), "2026-11-28");
    locked(&changed_text, &renewed.to_source()).expect("renewed");
    assert!(renewed.to_source().contains("2026-11-28"));

    let empty = PromptLock::default().to_source();
    let message = locked(SMALL_JSON, &empty).expect_err("not recorded");
    assert!(
        message.contains("is not recorded in prompts.lock"),
        "{message}"
    );
    // A record outlives its template, so the id cannot come back with another content.
    assert_eq!(
        lock.renewed([], &none, "2026-11-28").state(&changed),
        LockState::Changed
    );
}

#[test]
fn a_lock_that_is_wrong_is_refused_with_line_and_reason() {
    let small = load("small_v2.json", SMALL_JSON).expect("JSON");
    let lock = PromptLock::default()
        .renewed([&small], &Default::default(), "2026-11-27")
        .to_source();
    for (text, expected) in [
        (String::new(), "prompts.lock:"),
        (
            "version: 2\nprompts: {}".to_owned(),
            "prompts.lock:1: field `version` must be 1",
        ),
        (
            lock.replace(&small.checksum, "abc"),
            "prompts.lock:5: field `prompts.small_v2.sha256` must be 64",
        ),
        (lock.replace("small_v2", "small"), "prompts.lock:4:"),
        (lock.replace("    date", "    day"), "prompts.lock:8:"),
        (format!("{lock}  small_v2: {{}}\n"), "prompts.lock:9:"),
    ] {
        let message = locked(SMALL_JSON, &text).expect_err("it is wrong");
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn output_schemas_may_recurse_and_say_what_is_wrong_without_the_text() {
    let tree = "{$ref: '#/$defs/tree', $defs: {tree: {type: object, required: [name], properties: \
                {name: {type: string}, parts: {type: array, items: {$ref: '#/$defs/tree'}}}}}}";
    let schema =
        "{type: object, properties: {b: {type: string}, a: {type: number}}, required: [b]}";
    let template =
        load("summary.v1.yaml", &YAML.replace(schema, tree)).expect("it steps into the value");
    let schema = template.output.expect("a schema");
    assert_eq!(
        schema.output_fault(r#"{"name":"a","parts":[{"name":"b"}]}"#),
        None
    );
    let deep = format!(
        "{}1{}",
        r#"{"name":"a","parts":["#.repeat(40),
        "]}".repeat(40)
    );
    for (output, expected) in [
        ("hunter2", "it is not JSON"),
        ("", "it is not JSON"),
        (r#"{"name":"hunter2"} more"#, "it is not JSON"),
        (r#""\ud800""#, "it is not JSON"),
        (r#"{"name":1}"#, "it breaks `type` at"),
        (r#"{"hunter2":"x"}"#, "it breaks `required` at"),
        (deep.as_str(), "it is nested deeper than 64 levels"),
    ] {
        let fault = schema.output_fault(output).expect("it is wrong");
        assert!(
            fault.starts_with(expected) && !fault.contains("hunter2"),
            "{fault}"
        );
    }
}
