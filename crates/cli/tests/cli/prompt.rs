//! `postern prompt`: checks, tests, recordings, diffs and the lock of a folder of templates.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Ran, home, postern};

const TEMPLATE: &str = "\
id: echo.v1
description: Repeats.
author: somebody
intent: a test
risk: low
max_tokens: 16
system: Repeat what stands between BEGIN DATA and END DATA.
user: \"Text: {{ text }}\"
variables:
  text: {description: What to repeat., bytes_max: 64}
";

const TESTS: &str = "\
tests:
  - name: a word
    variables: {text: hello}
  - name: a card & a <tag>
    variables: {text: 'card 4111 1111 1111 1111'}
    safety: {personal: ['4111 1111 1111 1111']}
  - name: too long
    variables: {text: 0123456789012345678901234567890123456789012345678901234567890123456789}
    denied: variable-oversized
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let home = home();
    fs::create_dir(home.path().join("prompts")).expect("a folder");
    for (name, text) in files {
        write(home.path(), name, text);
    }
    home
}

fn write(home: &Path, name: &str, text: &str) {
    fs::write(home.join("prompts").join(name), text).expect("a file");
}

fn prompt(home: &TempDir, arguments: &str) -> Ran {
    let arguments = arguments.split(' ');
    postern(home.path(), ["prompt"].into_iter().chain(arguments))
}

#[test]
fn shipped_prompts_pass_their_checks_and_tests() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prompts");
    let deploy = deploy.to_str().expect("UTF-8");
    let home = home();
    postern(home.path(), ["prompt", "check", deploy, "--strict"]).exits(0);
    postern(home.path(), ["prompt", "test", deploy]).exits(0);
    postern(home.path(), ["prompt", "lock", deploy, "--check"]).exits(0);
    // The embedded model answers anew as it was recorded, through the whole path.
    let live = [
        "prompt",
        "test",
        deploy,
        "--template",
        "coffee.v1",
        "--live",
        "--json",
    ];
    let ran = postern(home.path(), live).exits(0);
    assert_eq!(ran.json()["failed"], 0);
    let diff = [
        "prompt",
        "diff",
        deploy,
        "coffee.v1",
        "--live",
        "--exit-code",
    ];
    postern(home.path(), diff).exits(0);
}

#[test]
fn a_change_is_caught_by_the_lock_by_its_tests_and_by_diff() {
    let home = folder(&[("echo.v1.yaml", TEMPLATE), ("echo.v1.test.yaml", TESTS)]);
    let missing = prompt(&home, "test prompts").exits(6);
    assert!(missing.stdout.contains("snapshot-missing"), "{missing:#?}");
    prompt(&home, "test prompts --record").exits(0);
    prompt(&home, "test prompts").exits(0);
    let unlocked = prompt(&home, "check prompts").exits(0);
    assert!(unlocked.stdout.contains("lock-missing"), "{unlocked:#?}");
    prompt(&home, "check prompts --strict").exits(6);
    prompt(&home, "lock prompts --check").exits(6);
    prompt(&home, "lock prompts").exits(0);
    prompt(&home, "lock prompts --check").exits(0);
    prompt(&home, "check prompts --strict").exits(0);

    write(
        home.path(),
        "echo.v1.yaml",
        &TEMPLATE.replace("Text:", "The text:"),
    );
    let checked = prompt(&home, "check prompts").exits(6);
    assert!(checked.stdout.contains("lock-changed"), "{checked:#?}");
    let tested = prompt(&home, "test prompts").exits(6);
    assert!(
        tested.stdout.contains("+Text:").eq(&false) && tested.stdout.contains("+The text:"),
        "{tested:#?}"
    );
    let compared = prompt(&home, "diff prompts --json").exits(0).json();
    assert_eq!(
        (&compared["compared"], &compared["changed"]),
        (&2.into(), &2.into())
    );
    prompt(&home, "diff prompts --exit-code").exits(6);
    let kept = prompt(&home, "lock prompts").exits(6);
    assert!(
        kept.stderr
            .contains("changed since they were recorded: echo.v1"),
        "{kept:#?}"
    );
    let served = "generate --template echo.v1 --var text=x --prompts prompts --state-dir state";
    let refused = postern(home.path(), served.split(' ')).exits(1);
    assert!(
        refused.stderr.contains("is not what prompts.lock"),
        "{refused:#?}"
    );
    prompt(&home, "lock prompts --renew echo.v1").exits(0);
    prompt(&home, "check prompts --strict").exits(0);
}

#[test]
fn another_version_is_compared_on_the_recorded_inputs() {
    let home = folder(&[("echo.v1.yaml", TEMPLATE), ("echo.v1.test.yaml", TESTS)]);
    prompt(&home, "test prompts --record").exits(0);
    let second = TEMPLATE
        .replace("echo.v1", "echo_v2")
        .replace("Text:", "Say:");
    write(home.path(), "echo_v2.yaml", &second);
    let compared = prompt(&home, "diff prompts echo.v1 --to echo_v2 --json")
        .exits(0)
        .json();
    assert_eq!(compared["changed"], 2);
    assert_eq!(compared["tests"][0]["template"], "echo_v2");
    let lines = compared["tests"][0]["prompt"].as_str().expect("a diff");
    assert!(
        lines.contains("-Text: BEGIN DATA") && lines.contains("+Say: BEGIN DATA"),
        "{lines}"
    );
}

#[test]
fn reports_tell_people_scripts_and_machines_the_same() {
    let failing = TESTS.replace(
        "text: hello}",
        "text: hello}\n    prompt: {contains: [\"<b> & \\\"c\\\"\"]}",
    );
    let home = folder(&[("echo.v1.yaml", TEMPLATE), ("echo.v1.test.yaml", &failing)]);
    prompt(&home, "test prompts --record").exits(6);
    let arguments = "test prompts --json --junit out/junit.xml --sarif out/tests.sarif";
    let json = prompt(&home, arguments).exits(6).json();
    assert_eq!((&json["checked"], &json["failed"]), (&3.into(), &1.into()));
    let finding = &json["cases"][0]["findings"][0];
    assert_eq!(
        (&finding["check"], &finding["line"]),
        (&"prompt-contains".into(), &2.into())
    );
    let junit = fs::read_to_string(home.path().join("out/junit.xml")).expect("a report");
    insta::assert_snapshot!("prompt_junit", junit);
    let sarif = fs::read_to_string(home.path().join("out/tests.sarif")).expect("a report");
    let sarif: Value = serde_json::from_str(&sarif).expect("JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(
        (&result["ruleId"], &result["level"]),
        (&"prompt-contains".into(), &"error".into())
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(
        place["artifactLocation"]["uri"],
        "prompts/echo.v1.test.yaml"
    );
    assert_eq!(place["region"]["startLine"], 2);
}

#[test]
fn every_kind_of_assertion_can_fail() {
    let home = folder(&[("echo.v1.yaml", TEMPLATE)]);
    let cases = [
        ("denied: variable-missing", "denied"),
        ("prompt: {not_contains: [hello]}", "prompt-not-contains"),
        ("safety: {secrets: [hello]}", "safety-prompt"),
        ("output: {contains: [x]}", "output-missing"),
    ];
    for (assertion, check) in cases {
        let tests =
            format!("tests:\n  - name: a\n    variables: {{text: hello}}\n    {assertion}\n");
        write(home.path(), "echo.v1.test.yaml", &tests);
        let json = prompt(&home, "test prompts --record --json")
            .exits(6)
            .json();
        assert_eq!(json["cases"][0]["findings"][0]["check"], check, "{json:#}");
    }
    let recording = |output: &str| {
        let recorded = fs::read_to_string(home.path().join("prompts/echo.v1.recorded.json"));
        let mut json: Value = serde_json::from_str(&recorded.expect("a recording")).expect("JSON");
        let lines = json["cases"]["a"]["prompt"]
            .as_array()
            .expect("lines")
            .clone();
        let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        json["cases"]["a"]["output"] = serde_json::json!({
            "text": [output], "model": "m", "model_sha256": "0", "prompt_sha256": sha256(&lines.join("\n")),
        });
        write(home.path(), "echo.v1.recorded.json", &json.to_string());
    };
    let cases = [
        (
            "output: {json_schema: {type: object}}",
            "output-json-schema",
        ),
        ("output: {contains: [hello]}", "output-contains"),
        ("output: {not_contains: [bye]}", "output-not-contains"),
        ("output: {regex: ['^hello']}", "output-regex"),
        ("output: {not_regex: ['b.e']}", "output-not-regex"),
        ("output: {chars_min: 10}", "output-length"),
        ("output: {chars_max: 2}", "output-length"),
        (
            "output: {similar_to: {text: something else, at_least: 0.9}}",
            "output-similarity",
        ),
        (
            "safety: {injections: [{text: hello, must_not_say: [bye]}]}",
            "safety-output",
        ),
    ];
    let plain = "tests:\n  - name: a\n    variables: {text: hello}\n";
    write(home.path(), "echo.v1.test.yaml", plain);
    prompt(&home, "test prompts --record").exits(0);
    recording("bye");
    for (assertion, check) in cases {
        write(
            home.path(),
            "echo.v1.test.yaml",
            &format!("{plain}    {assertion}\n"),
        );
        let json = prompt(&home, "test prompts --json").exits(6).json();
        assert_eq!(json["cases"][0]["findings"][0]["check"], check, "{json:#}");
    }
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn each_bad_file_is_reported_and_hides_no_other() {
    let home = folder(&[
        ("echo.v1.yaml", TEMPLATE),
        (
            "echo_v1.json",
            r#"{"id":"echo_v1","author":"a","intent":"i","model":"m","content":"x"}"#,
        ),
        (
            "echo.v1.test.yaml",
            "tests:\n  - name: a\n    variabels: {}\n",
        ),
        ("lost.v1.test.yaml", "tests: []\n"),
        ("bad.v1.yaml", "id: bad.v1\nid: bad.v1\n"),
        (
            "filter.v1.yaml",
            &TEMPLATE
                .replace("echo.v1", "filter.v1")
                .replace("{{ text }}", "{{ text|shout }}"),
        ),
        ("echo.v1.recorded.json", "{\"format\": 1}"),
        ("prompts.lock", "version: 2\nprompts: {}\n"),
    ]);
    let json = prompt(&home, "check prompts --json").exits(6).json();
    let cases = json["cases"].as_array().expect("cases").iter();
    let mut errors: Vec<String> = cases
        .flat_map(|case| case["findings"].as_array().expect("findings").clone())
        .filter(|finding| finding["level"] == "error")
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("check"), text("file"), finding["line"])
        })
        .collect();
    errors.sort();
    assert_eq!(
        errors,
        [
            "load bad.v1.yaml 2",
            "load echo_v1.json 1",
            "load filter.v1.yaml 9",
            "lock prompts.lock 1",
            "recording echo.v1.recorded.json 1",
            "stray lost.v1.test.yaml null",
            "tests echo.v1.test.yaml 3",
        ]
    );
}

#[test]
fn a_prompt_is_rendered_as_a_call_would_be() {
    let home = folder(&[("echo.v1.yaml", TEMPLATE), ("echo.v1.test.yaml", TESTS)]);
    let ran = prompt(&home, "render prompts echo.v1 --var text=<|im_start|>").exits(0);
    assert!(ran.stdout.contains("< |im_start|>"), "{ran:#?}");
    let arguments = [
        "prompt", "render", "prompts", "echo.v1", "--test", "a word", "--json",
    ];
    let json = postern(home.path(), arguments).exits(0).json();
    assert_eq!(
        (&json["template"]["id"], &json["variables"]["text"]),
        (&"echo.v1".into(), &"hello".into())
    );
    let refused = prompt(&home, "render prompts echo.v1").exits(1);
    assert!(refused.stderr.contains("variable-missing"), "{refused:#?}");
    let unknown = prompt(&home, "render prompts none.v1").exits(1);
    assert!(unknown.stderr.contains("there are echo.v1"), "{unknown:#?}");
}
