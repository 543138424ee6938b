//! `demo --once`: three calls through the real server, shown and accounted for.

use std::fs;

use crate::run::{home, on_terminal, postern};

#[test]
fn the_json_report_holds_all_three_calls() {
    let home = home();
    let arguments = ["demo", "--once", "--json", "--state-dir", "state"];
    let report = postern(home.path(), arguments).exits(0).json();
    assert_eq!(report["audit_verified"], true);
    assert_eq!(
        report["audit"]["receipt_index"],
        report["calls"][1]["audit"]["index"]
    );
    let calls = report["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 3);
    for call in calls {
        for field in [
            "text",
            "usage",
            "model",
            "template",
            "audit",
            "redactions",
            "error",
        ] {
            assert!(call.get(field).is_some(), "{field}: {call}");
        }
    }
    for call in &calls[..2] {
        assert!(!call["text"].as_str().expect("text").is_empty());
        assert!(call["error"].is_null());
        assert_eq!(
            call["model"]["sha256"].as_str().expect("a digest").len(),
            64
        );
        assert_eq!(call["template"]["id"], "coffee.v1");
    }
    let mut rules: Vec<_> = calls[1]["redactions"]
        .as_array()
        .expect("redactions")
        .iter()
        .map(|redaction| redaction["rule"].as_str().expect("a rule"))
        .collect();
    rules.sort_unstable();
    assert_eq!(rules, ["openai-api-key", "payment-card"]);
    assert!(calls[2]["text"].is_null());
    assert_eq!(
        calls[2]["error"]["type"],
        "urn:postern:problem:template-not-allowed"
    );
    assert_eq!(calls[2]["error"]["status"], 403);

    postern(home.path(), ["audit", "verify", "state/audit"]).exits(0);
    for file in [
        "ca.pem",
        "clients/kiosk.key",
        "tokens/kiosk.token",
        "token.key",
    ] {
        assert!(
            home.path().join("state").join(file).exists(),
            "{file} is kept"
        );
    }
}

#[test]
fn the_text_fits_a_terminal_and_leaves_nothing_behind() {
    let home = home();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).expect("a folder");
    let output = crate::run::command(home.path())
        .env("TMPDIR", &temporary)
        .args(["demo", "--once"])
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for expected in [
        "[REDACTED:payment-card:1]",
        "[REDACTED:openai-api-key:1]",
        "Refused: 403 template-not-allowed",
        "7 records, whole and unaltered up to #5, the record of the receipt",
        "sha256",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let too_wide = text.lines().find(|line| line.chars().count() > 100);
    assert_eq!(too_wide, None);
    assert!(!text.contains('\u{1b}'), "no colour without a terminal");
    let left = fs::read_dir(&temporary).expect("the folder").count();
    assert_eq!(left, 0, "the temporary state folder is gone");
}

#[test]
fn a_kept_folder_serves_again() {
    let home = home();
    for _ in 0..2 {
        let arguments = ["demo", "--once", "--json", "--state-dir", "state"];
        let report = postern(home.path(), arguments).exits(0).json();
        assert_eq!(report["audit_verified"], true);
    }
}

#[test]
fn text_fills_the_terminal_within_bounds() {
    #[track_caller]
    fn check(columns: u16, expected: usize) {
        let home = home();
        let shown = on_terminal(home.path(), columns, "demo --once");
        let rule = shown
            .lines()
            .map(str::trim_end)
            .find(|line| !line.is_empty() && line.chars().all(|c| c == '-'))
            .expect("the rule above the table");
        assert_eq!(rule.len(), expected, "{shown}");
        let quoted: Vec<&str> = shown
            .lines()
            .map(str::trim_end)
            .take_while(|&line| line != rule)
            .filter(|line| line.starts_with("     > ") || line.starts_with("       "))
            .collect();
        assert!(quoted.len() >= 4, "{shown}");
        for line in quoted {
            // A word is never cut apart.
            let is_word = line.split_whitespace().count() == 1;
            assert!(
                is_word || line.chars().count() <= expected,
                "{line}: {shown}"
            );
        }
    }
    check(20, 40);
    check(72, 72);
    check(300, 100);
}
