//! `postern sanitize`.

use std::fs;

use crate::run::{home, postern, postern_fed};

const CARD: &str = "4111 1111 1111 1111";

#[test]
fn standard_input_is_cleaned() {
    let text = format!("pay with {CARD}\nand {CARD}\n");
    let ran = postern_fed(home().path(), ["sanitize"], &text).exits(0);
    assert_eq!(
        ran.stdout,
        "pay with [REDACTED:payment-card:1]\nand [REDACTED:payment-card:1]\n"
    );
}

#[test]
fn reports_say_where_and_never_what() {
    let home = home();
    fs::write(home.path().join("a.txt"), format!("first line\nä {CARD}\n")).expect("a file");
    let json = postern(home.path(), ["sanitize", "a.txt", "--report", "json"]).exits(0);
    assert!(!json.stdout.contains("4111"));
    let finding = &json.json()["findings"][0];
    assert_eq!(finding["rule"], "payment-card");
    assert_eq!(finding["start"]["line"], 2);
    assert_eq!(finding["start"]["column"], 3);
    let sarif = postern(home.path(), ["sanitize", "a.txt", "--report", "sarif"]).exits(0);
    assert!(!sarif.stdout.contains("4111"));
    let sarif = sarif.json();
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "payment-card");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        (region["startLine"].as_u64(), region["endColumn"].as_u64()),
        (Some(2), Some(22))
    );
}

#[test]
fn findings_can_fail_a_pipeline() {
    let home = home();
    postern_fed(home.path(), ["sanitize", "--fail"], CARD).exits(6);
    postern_fed(home.path(), ["sanitize", "--fail"], "nothing").exits(0);
    let only = postern_fed(
        home.path(),
        ["sanitize", "--fail", "--only", "secret"],
        CARD,
    )
    .exits(0);
    assert_eq!(only.stdout, CARD);
}

#[test]
fn bad_input_is_named() {
    let home = home();
    fs::write(home.path().join("bad.txt"), b"good \xff bad").expect("a file");
    let ran = postern(home.path(), ["sanitize", "bad.txt"]).exits(1);
    assert!(
        ran.stderr.contains("bad.txt: byte 5 is not valid UTF-8"),
        "{ran:#?}"
    );
    fs::write(home.path().join("cut.txt"), b"cut \xe2\x82").expect("a file");
    let ran = postern(home.path(), ["sanitize", "cut.txt"]).exits(1);
    assert!(ran.stderr.contains("byte 4"), "{ran:#?}");
    let ran = postern(home.path(), ["sanitize", "missing.txt"]).exits(1);
    assert!(ran.stderr.contains("missing.txt"), "{ran:#?}");
    fs::write(home.path().join("rules.toml"), "version = 1\ncolour = 2\n").expect("a file");
    let ran = postern_fed(home.path(), ["sanitize", "--rules", "rules.toml"], "x").exits(1);
    assert!(ran.stderr.contains("rules.toml:2"), "{ran:#?}");
}
