//! Loading templates: what is refused and how it is reported, checksums, and the shipped files.

use std::fs;
use std::path::{Path, PathBuf};

use postern_governance::{
    BODY_BYTES_MAX, Circumstances, ModelRef, Policy, RuleSet, SOURCE_BYTES_MAX, Source,
    TemplateSet, VARIABLE_BYTES_DEFAULT,
};

const GOOD: &str = "\
id: hello.v1
description: Says hello.
author: somebody
intent: a test
risk: low
max_tokens: 16
user: \"Hello {{name}}\"
";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

fn load(text: &str) -> Result<TemplateSet, String> {
    TemplateSet::from_sources([("hello.v1.yaml", text)]).map_err(|error| error.to_string())
}

fn good() -> TemplateSet {
    load(GOOD).expect("the good template loads")
}

fn with(line: &str) -> String {
    format!("{GOOD}{line}\n")
}

fn with_user(body: &str) -> String {
    let body = body.replace('\n', "\n  ");
    GOOD.replace(
        "user: \"Hello {{name}}\"\n",
        &format!("user: |\n  {body}\n"),
    )
}

/// Each case: what is wrong, the file, and what the message must say.
fn check(cases: &[(&str, String, &[&str])]) {
    let mut failures = Vec::new();
    for (name, text, expected) in cases {
        let message = match load(text) {
            Ok(_) => "it was loaded".to_owned(),
            Err(message) => message,
        };
        let missing: Vec<_> = expected
            .iter()
            .filter(|part| !message.contains(**part))
            .collect();
        if !missing.is_empty() || !message.contains("hello.v1.yaml") {
            failures.push(format!("{name}: {message:?} lacks {missing:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn malformed_files_are_refused_with_line_and_reason() {
    let deep = format!("variables: {}{}", "[".repeat(40), "]".repeat(40));
    check(&[
        ("not YAML", "id: [unclosed".to_owned(), &[":1:"]),
        ("empty", String::new(), &[":"]),
        ("a list", "- 1\n- 2\n".to_owned(), &[":1:"]),
        (
            "missing field",
            GOOD.replace("author: somebody\n", ""),
            &["author"],
        ),
        ("unknown field", with("owner: me"), &[":8:", "owner"]),
        ("duplicate key", with("risk: high"), &[":8:", "risk"]),
        ("alias", with("system: *a"), &[":8:"]),
        ("anchor", with("system: &a text"), &["anchor"]),
        ("merge key", with("<<: {system: x}"), &[":8:"]),
        ("two documents", with("---\nid: other.v1"), &["document"]),
        ("unknown tag", with("system: !secret x"), &[":8:"]),
        ("deep nesting", with(&deep), &[":8:"]),
        ("wrong type", GOOD.replace("16", "many"), &[":6:"]),
        ("negative bound", GOOD.replace("16", "-1"), &[":6:"]),
        ("unknown risk", GOOD.replace("low", "none"), &[":5:"]),
        (
            "bad id",
            GOOD.replace("hello.v1", "Hello.v1"),
            &[":1:", "template id"],
        ),
        (
            "id without version",
            GOOD.replace("hello.v1", "hello"),
            &[":1:", "version"],
        ),
        (
            "version zero",
            GOOD.replace("hello.v1", "hello.v0"),
            &[":1:", "version"],
        ),
        (
            "other file name",
            GOOD.replace("hello.v1", "other.v1"),
            &[":1:", "`other.v1`", "name the file"],
        ),
        (
            "unquoted braces",
            GOOD.replace("\"Hello {{name}}\"", "{{name}}"),
            &[":7:"],
        ),
        (
            "too large",
            with(&format!("# {}", "x".repeat(SOURCE_BYTES_MAX))),
            &["262144 bytes"],
        ),
    ]);
}

#[test]
fn fields_out_of_bounds_are_refused_with_line_and_reason() {
    check(&[
        (
            "blank author",
            GOOD.replace("somebody", "\" \""),
            &[":3:", "`author`", "empty"],
        ),
        (
            "blank intent",
            GOOD.replace("a test", "''"),
            &[":4:", "`intent`"],
        ),
        (
            "long description",
            GOOD.replace("Says hello.", &"x".repeat(1025)),
            &[":2:", "`description`", "1024"],
        ),
        (
            "no tokens",
            GOOD.replace("16", "0"),
            &[":6:", "`max_tokens`"],
        ),
        (
            "too many tokens",
            GOOD.replace("16", "131073"),
            &[":6:", "`max_tokens`"],
        ),
        (
            "hot",
            with("temperature: 2.5"),
            &[":8:", "`temperature`", "0 to 2"],
        ),
        ("not a number", with("temperature: .nan"), &["temperature"]),
        ("empty user", with_user(" "), &["`user`", "empty"]),
        ("empty system", with("system: ''"), &[":8:", "`system`"]),
        (
            "control character",
            with("system: \"a\\0b\""),
            &[":8:", "`system`", "control"],
        ),
        (
            "long body",
            with_user(&"x".repeat(BODY_BYTES_MAX + 1)),
            &["`user`", "65536"],
        ),
    ]);
}

#[test]
fn variables_must_be_declared_and_used() {
    let declare = |variables: &str| with(&format!("variables:\n{variables}"));
    check(&[
        (
            "undeclared",
            declare("  other: {}"),
            &[":7:", "`name`", "not declared"],
        ),
        (
            "no variables at all",
            with("variables: {}"),
            &[":7:", "`name`", "not declared"],
        ),
        (
            "unused",
            declare("  name: {}\n  other: {}"),
            &[":10:", "`other`", "not used"],
        ),
        (
            "unknown field",
            declare("  name: {size: 3}"),
            &[":9:", "size"],
        ),
        (
            "no bytes",
            declare("  name: {bytes_max: 0}"),
            &[":9:", "name.bytes_max"],
        ),
        (
            "too many bytes",
            declare("  name: {bytes_max: 262145}"),
            &["name.bytes_max"],
        ),
        (
            "required with a default",
            declare("  name: {required: true, default: x}"),
            &["name.default", "required"],
        ),
        (
            "long default",
            declare("  name: {required: false, bytes_max: 2, default: xyz}"),
            &["name.default", "longer"],
        ),
        (
            "bad name",
            declare("  name: {}\n  Name: {}"),
            &["variables.Name"],
        ),
        (
            "bad undeclared name",
            with_user("{{ Name }}"),
            &["variables.Name"],
        ),
        (
            "too many",
            with_user(
                &(0..33)
                    .map(|n| format!("{{{{ v{n} }}}}"))
                    .collect::<String>(),
            ),
            &["variables", "32"],
        ),
    ]);
}

#[test]
fn bodies_outside_of_the_small_language_are_refused() {
    let cases = [
        (
            "unclosed variable",
            "a\n{{ name",
            &["`user`", "line 2", "never closed"][..],
        ),
        ("unclosed comment", "{# name", &["never closed"]),
        ("unclosed string", "{{ \"name }}", &["never closed"]),
        ("unclosed if", "{% if name %}x", &["`user`"]),
        ("syntax", "{{ name name }}", &["`user`"]),
        ("include", "{% include 'other' %}", &["include"]),
        ("extends", "{% extends 'other' %}", &["extends"]),
        ("import", "{% import 'other' as o %}", &["import"]),
        ("set", "{% set x = name %}", &["set"]),
        ("macro", "{% macro m() %}{% endmacro %}", &["macro"]),
        ("raw", "{% raw %}x{% endraw %}", &["raw"]),
        (
            "filter block",
            "{% filter upper %}x{% endfilter %}",
            &["filter"],
        ),
        ("concatenation", "{{ name ~ name }}", &["`~`"]),
        ("multiplication", "{{ name * 1000000000 }}", &["`*`"]),
        ("addition", "{{ name + name }}", &["`+`"]),
        ("attribute", "{{ name.upper }}", &["`.`"]),
        ("index", "{{ name[0] }}", &["indexed"]),
        ("call", "{{ range(1000000000) }}", &["called"]),
        ("map", "{{ {'a': name} }}", &["`{`"]),
        ("test", "{{ name is defined }}", &["is"]),
        (
            "unknown filter",
            "{{ name | shout }}",
            &["no filter `shout`", "trim"],
        ),
        (
            "chain of filters",
            "{{ name|tojson|tojson|tojson }}",
            &["at most 2 filters"],
        ),
    ];
    check(&cases.map(|(name, body, expected)| (name, with_user(body), expected)));
}

#[test]
fn undeclared_variables_get_the_named_default_bound() {
    let templates = good();
    let template = templates.get("hello.v1").expect("it is there");
    let spec = &template.variables["name"];
    assert_eq!(spec.bytes_max, VARIABLE_BYTES_DEFAULT);
    assert!(spec.required);
    assert_eq!(template.temperature, 0.0);
}

#[test]
fn loop_variables_are_no_variables_of_the_call() {
    let text = with_user("{% for word in ['a', 'b'] %}{{ word }}{{ name }}{% endfor %}");
    let templates = load(&text).expect("it loads");
    let template = templates.get("hello.v1").expect("it is there");
    assert_eq!(template.variables.keys().collect::<Vec<_>>(), ["name"]);
}

#[test]
fn two_files_with_one_id_are_refused() {
    let twice = TemplateSet::from_sources([("hello.v1.yaml", GOOD), ("hello.v1.yml", GOOD)]);
    let message = twice.expect_err("the id is taken").to_string();
    assert!(
        message.contains("hello.v1.yml") && message.contains("hello.v1.yaml"),
        "{message}"
    );
}

fn checksum(text: &str) -> String {
    let templates = load(text).expect("it loads");
    templates
        .get("hello.v1")
        .expect("it is there")
        .checksum
        .clone()
}

#[test]
fn checksums_depend_on_content_and_not_on_layout() {
    // SHA-256 of {"author":"somebody","description":"Says hello.","format":"postern-template/2",
    // "id":"hello.v1","intent":"a test","max_tokens":16,"model":null,"output":null,"risk":"low",
    // "system":null,"temperature":0,"user":"Hello {{name}}","variables":{"name":{
    // "bytes_max":16384,"data_class":"internal","default":null,"description":"","fence":"marks",
    // "required":true,"schema":null,"trust":"untrusted","trust_reason":null}}} without the line
    // breaks.
    let golden = "043e89ceff277b5f34da1e07731acf132bf1d5be70fc339197fd969ce68ab333";
    assert_eq!(checksum(GOOD), golden);
    let mut lines: Vec<&str> = GOOD.lines().collect();
    lines.reverse();
    let same = [
        ("reordered", lines.join("\n")),
        ("commented", format!("# a comment\n\n{GOOD}# another\n")),
        ("quoted", GOOD.replace("somebody", "'somebody'")),
        ("with CRLF", GOOD.replace('\n', "\r\n")),
        ("with the default temperature", with("temperature: 0.0")),
        (
            "with the default variable",
            with("variables:\n  name: {bytes_max: 16384}"),
        ),
    ];
    for (name, text) in same {
        assert_eq!(checksum(&text), golden, "{name}");
    }
    let other = [
        ("author", GOOD.replace("somebody", "somebody else")),
        ("risk", GOOD.replace("low", "high")),
        ("tokens", GOOD.replace("16", "17")),
        ("body", GOOD.replace("Hello {{name}}", "Hello {{name}}.")),
        (
            "white space of the body",
            GOOD.replace("Hello {{name}}", "Hello  {{name}}"),
        ),
        ("system", with("system: x")),
        ("temperature", with("temperature: 0.5")),
        ("bound", with("variables:\n  name: {bytes_max: 16383}")),
    ];
    for (name, text) in other {
        assert_ne!(checksum(&text), golden, "{name}");
    }
}

#[test]
fn only_yaml_files_of_the_folder_are_read() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in [
        "README.md",
        ".hidden.v1.yaml",
        "hello.v1.yaml~",
        "notes.txt",
    ] {
        fs::write(dir.path().join(name), "not a template").expect("a file");
    }
    let empty = TemplateSet::load(dir.path())
        .expect_err("there is none")
        .to_string();
    assert!(empty.contains("no template"), "{empty}");
    fs::write(dir.path().join("hello.v1.yaml"), GOOD).expect("a file");
    fs::write(
        dir.path().join("bye.v2.yml"),
        GOOD.replace("hello.v1", "bye.v2"),
    )
    .expect("a file");
    let templates = TemplateSet::load(dir.path()).expect("they load");
    let ids: Vec<String> = templates
        .iter()
        .map(|template| template.id.to_string())
        .collect();
    assert_eq!(ids, ["bye.v2", "hello.v1"]);
}

#[test]
fn the_first_bad_file_in_order_of_names_refuses_all() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["c.v1.yaml", "b.v1.yaml"] {
        fs::write(dir.path().join(name), "id: [").expect("a file");
    }
    fs::write(dir.path().join("a.v1.yaml"), GOOD.replace("hello", "a")).expect("a file");
    let message = TemplateSet::load(dir.path())
        .expect_err("b is wrong")
        .to_string();
    assert!(message.starts_with("b.v1.yaml:1:"), "{message}");
}

#[test]
fn what_is_no_regular_file_or_not_utf8_is_refused() {
    let message = |prepare: fn(&Path)| {
        let dir = tempfile::tempdir().expect("a folder");
        prepare(dir.path());
        TemplateSet::load(dir.path())
            .expect_err("it is wrong")
            .to_string()
    };
    let folder = message(|dir| fs::create_dir(dir.join("hello.v1.yaml")).expect("a folder"));
    assert!(
        folder.contains("hello.v1.yaml: is not a regular file"),
        "{folder}"
    );
    let bytes = message(|dir| fs::write(dir.join("hello.v1.yaml"), b"id: \xff").expect("a file"));
    assert!(bytes.contains("hello.v1.yaml:1: byte 4"), "{bytes}");
    let large = message(|dir| {
        let large = vec![b'#'; SOURCE_BYTES_MAX + 1];
        fs::write(dir.join("hello.v1.yaml"), large).expect("a file");
    });
    assert!(large.contains("hello.v1.yaml: is larger"), "{large}");
    let missing = TemplateSet::load(Path::new("no/such/folder")).expect_err("it is missing");
    assert!(missing.to_string().contains("no/such/folder"), "{missing}");
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("real"), GOOD).expect("a file");
    let link = dir.path().join("hello.v1.yaml");
    std::os::unix::fs::symlink(dir.path().join("real"), link).expect("a link");
    let message = TemplateSet::load(dir.path())
        .expect_err("it is a link")
        .to_string();
    assert!(message.contains("not a regular file"), "{message}");
}

#[test]
fn the_shipped_templates_and_policy_fit_each_other() {
    let templates = TemplateSet::load(&deploy("prompts")).expect("the templates load");
    let policy = Policy::load(&deploy("policy/policy.yaml")).expect("the policy loads");
    let rules = RuleSet::new(templates, policy).expect("they fit");
    let model = ModelRef {
        id: "coffee-1".to_owned(),
        sha256: "00".repeat(32),
    };
    let now = Circumstances {
        source: Source::Network,
        time_unix_s: 1_795_780_800,
    };
    let mut pairs = Vec::new();
    for identity in rules.policy.identities() {
        let templates = rules.templates.iter();
        let open = templates.filter(|template| rules.opens(identity, template, &model, &now));
        pairs.extend(open.map(|template| format!("{identity} {}", template.id)));
    }
    assert_eq!(
        pairs,
        [
            "ci-runner impl-test-gen.v1",
            "ci-runner triage.v1",
            "kiosk coffee.v1",
            "operator coffee.v1",
            "operator impl-test-gen.v1",
            "operator triage.v1",
        ]
    );
    let coffee = rules.templates.get("coffee.v1").expect("it ships");
    assert_eq!(
        coffee.system.as_deref(),
        Some(
            "You are the coffee guide of Millbrook. Recommend one coffee shop that meets every wish."
        )
    );
    assert_eq!(
        (coffee.user.as_str(), coffee.max_tokens),
        ("{{wishes}}", 96)
    );
}
