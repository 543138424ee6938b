//! `generate` without --url: the same service, policy and audit log, in this process.

use std::path::Path;

use crate::run::{Ran, home, postern, postern_fed};

const WISHES: &str = "wishes=I am looking for a coffee shop with a quiet room and good cake.";

fn generate(home: &Path, arguments: &[&str]) -> Ran {
    let fixed = ["generate", "--state-dir", "state", "--identity", "kiosk"];
    postern(home, fixed.iter().chain(arguments))
}

#[test]
fn the_answer_is_the_same_whole_streamed_and_as_json() {
    let home = home();
    let call = ["--template", "coffee.v1", "--var", WISHES];
    let whole = generate(home.path(), &call).exits(0).stdout;
    assert!(!whole.trim().is_empty());
    let streamed = generate(home.path(), &[call.as_slice(), &["--stream"]].concat()).exits(0);
    assert_eq!(streamed.stdout, whole);

    let answer = generate(home.path(), &[call.as_slice(), &["--json"]].concat())
        .exits(0)
        .json();
    assert_eq!(
        format!("{}\n", answer["text"].as_str().expect("text")),
        whole
    );
    for field in [
        "id",
        "finish_reason",
        "usage",
        "timings",
        "model",
        "template",
        "audit",
    ] {
        assert!(!answer[field].is_null(), "{field}: {answer}");
    }

    let lines = generate(
        home.path(),
        &[call.as_slice(), &["--json", "--stream"]].concat(),
    )
    .exits(0);
    let mut text = String::new();
    let mut done = None;
    for line in lines.stdout.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        match event["event"].as_str() {
            Some("token") => text.push_str(event["text"].as_str().expect("text")),
            Some("done") => done = Some(event["answer"]["text"].clone()),
            _ => panic!("unexpected {event}"),
        }
    }
    assert_eq!(format!("{text}\n"), whole);
    assert_eq!(done.expect("the last line is done"), text);
}

#[test]
fn variables_come_from_files_and_standard_input() {
    let home = home();
    let wish = WISHES.split_once('=').expect("a value").1;
    std::fs::write(home.path().join("wish.txt"), wish).expect("a file");
    let ask = |variable: &str| {
        let arguments = [
            "generate",
            "--state-dir",
            "state",
            "--template",
            "coffee.v1",
            "--var",
            variable,
        ];
        postern_fed(home.path(), arguments, wish).exits(0).stdout
    };
    let inline = ask(WISHES);
    assert_eq!(ask("wishes=@wish.txt"), inline);
    assert_eq!(ask("wishes=@-"), inline);
}

#[test]
fn secrets_are_redacted_and_reported() {
    let home = home();
    let arguments = [
        "--template",
        "coffee.v1",
        "--var",
        "wishes=I want decaf. My card is 4111 1111 1111 1111.",
        "--json",
    ];
    let answer = generate(home.path(), &arguments).exits(0).json();
    let rules: Vec<_> = answer["redactions"]
        .as_array()
        .expect("redactions")
        .iter()
        .map(|redaction| {
            (
                &redaction["variable"],
                &redaction["rule"],
                &redaction["count"],
            )
        })
        .map(|(variable, rule, count)| format!("{variable} {rule} {count}"))
        .collect();
    assert_eq!(rules, ["\"wishes\" \"payment-card\" 1"]);
    let shown = postern(home.path(), ["audit", "show", "state/audit", "--json"]).exits(0);
    assert!(
        shown.stdout.contains("[REDACTED:payment-card:1]"),
        "{shown:#?}"
    );
    assert!(!shown.stdout.contains("4111 1111"), "{shown:#?}");
}

#[test]
fn policy_and_bounds_hold_without_a_server() {
    #[track_caller]
    fn check(arguments: &[&str], status: u16, code: &str, facts: &[&str]) {
        let home = home();
        let all = [arguments, &["--json"]].concat();
        let ran = generate(home.path(), &all).exits(3);
        let json = ran.json();
        assert_eq!(json["error"]["code"], "refused", "{json}");
        let problem = &json["error"]["problem"];
        let kind = problem["type"].as_str().expect("a type");
        assert_eq!(kind, format!("urn:postern:problem:{code}"));
        assert_eq!(problem["status"], status, "{json}");
        for member in ["title", "detail", "instance"].iter().chain(facts) {
            assert!(!problem[member].is_null(), "{member}: {json}");
        }
        let shown = postern(home.path(), ["audit", "show", "state/audit"])
            .exits(0)
            .stdout;
        assert!(shown.contains(code), "the refusal is recorded: {shown}");
    }
    check(
        &["--template", "triage.v1", "--var", "log=x"],
        403,
        "template-not-allowed",
        &["field"],
    );
    check(
        &["--template", "coffee.v1"],
        422,
        "variable-missing",
        &["field", "variable"],
    );
    check(
        &[
            "--template",
            "coffee.v1",
            "--var",
            WISHES,
            "--var",
            "extra=1",
        ],
        422,
        "variable-unknown",
        &["field", "variable"],
    );
    check(
        &[
            "--template",
            "coffee.v1",
            "--var",
            WISHES,
            "--temperature",
            "99",
        ],
        422,
        "parameter-out-of-range",
        &["field", "minimum", "maximum"],
    );
    check(
        &["--template", "tea.v1", "--var", WISHES],
        404,
        "template-unknown",
        &["field"],
    );
}

#[test]
fn what_cannot_be_read_is_named_before_anything_starts() {
    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let home = home();
        let ran = generate(home.path(), arguments).exits(1);
        assert!(ran.stderr.contains(expected), "{ran:#?}");
        assert!(!home.path().join("state").exists(), "nothing was begun");
    }
    let template = ["--template", "coffee.v1"];
    let with = |more: &[&'static str]| [template.as_slice(), more].concat();
    check(&with(&["--var", "wishes=@missing.txt"]), "missing.txt");
    check(
        &with(&["--var", "a=1", "--var", "a=2"]),
        "`a` is given twice",
    );
    check(
        &with(&["--var", "a=@-", "--var", "b=@-"]),
        "standard input can fill only one",
    );
    check(&with(&["--url", "http://localhost:1"]), "https://HOST:PORT");
    check(
        &with(&["--url", "https://localhost:1/v1"]),
        "https://HOST:PORT",
    );
    check(&with(&["--url", "https://localhost:1"]), "state/ca.pem");
}

#[test]
fn flags_of_a_local_run_and_of_a_server_exclude_each_other() {
    let home = home();
    let call = ["--template", "coffee.v1", "--var", WISHES];
    for flag in [
        "--config",
        "--model",
        "--prompts",
        "--policy",
        "--models",
        "--audit-dir",
        "--token-key",
    ] {
        let both = ["--url", "https://localhost:1", flag, "x"];
        let ran = generate(home.path(), &[call.as_slice(), &both].concat()).exits(2);
        for expected in ["--url <URL>", flag, "cannot be used with"] {
            assert!(ran.stderr.contains(expected), "{flag}: {ran:#?}");
        }
    }
    for flag in ["--ca", "--cert", "--key", "--token-file"] {
        let alone = [call.as_slice(), &[flag, "x"]].concat();
        let ran = generate(home.path(), &alone).exits(2);
        assert!(ran.stderr.contains("--url <URL>"), "{flag}: {ran:#?}");
    }
    assert!(!home.path().join("state").exists(), "nothing was begun");
}
