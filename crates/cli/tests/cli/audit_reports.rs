//! `audit show`, `query` and `stats`: what is sealed stays so without its key.

use std::fs;
use std::path::Path;

use postern_audit::AuditLog;
use serde_json::{Value, json};

use crate::audit_log::{AUDITOR, LOG, WISH, admitted, answered, append, digest, plain, sealed};
use crate::run::{Ran, home, postern};

fn audit(home: &Path, arguments: &[&str]) -> Ran {
    postern(home, ["audit"].iter().chain(arguments))
}

fn lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn without_a_key_the_clear_part_is_shown() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    let text = audit(home, &["show", LOG]).exits(0).stdout;
    assert!(!text.contains(WISH) && !text.contains("kiosk"), "{text}");
    assert!(
        text.contains("of the call admitted as #1; content sealed"),
        "{text}"
    );
    assert!(text.contains("4 records are sealed"), "{text}");
    let shown = lines(&audit(home, &["show", LOG, "--json"]).exits(0));
    assert_eq!(shown.len(), 4);
    assert_eq!(
        (&shown[2]["type"], &shown[2]["content"]),
        (&json!("completed"), &json!("sealed"))
    );
    assert!(shown[2]["entry"].is_null() && shown[2]["ended_call"] == 1);

    let asked = audit(home, &["show", LOG, "--request", "a"]).exits(1);
    assert!(asked.stderr.contains("--identity-file"), "{asked:#?}");
}

#[test]
fn an_auditor_reads_everything() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    let shown = ["show", LOG, "--identity-file", AUDITOR];
    let text = audit(home, &shown).exits(0).stdout;
    assert!(text.contains(WISH) && !text.contains("sealed"), "{text}");
    let public = ["show", LOG, "--identity-file", "nobody.key"];
    let missing = audit(home, &public).exits(1);
    assert!(missing.stderr.contains("nobody.key"), "{missing:#?}");
}

#[test]
fn what_was_asked_and_answered_is_shown() {
    const OUTPUT: &str = "Copper Kettle,\nby the \u{1b}[1mweir\u{1b}[0m.";
    const OUTPUT_SHA256: &str = "4189c25fe7b5fcb94a407c85bef66b8f9ddd3a9a8255f1523c843fcfd5a5f7f1";
    let home = home();
    let home = home.path();
    let noon = || "2026-11-27T12:00:00Z".parse().expect("a time");
    let (log, _) = AuditLog::open_with_clock(&home.join(LOG), &plain(), noon).expect("a log");
    for (id, output, sha256) in [
        ("hashed", None, digest('e')),
        ("kept", Some(OUTPUT), OUTPUT_SHA256.to_owned()),
        ("cut", Some("Copper"), OUTPUT_SHA256.to_owned()),
    ] {
        let admission = log.append(&admitted(id)).expect("an admission");
        let end = answered(id, admission.index, output, sha256);
        log.append(&end).expect("an end");
    }
    drop(log);
    let shown = audit(home, &["query", LOG, "--identity", "kiosk"]).exits(0);
    insta::assert_snapshot!("audit_show_calls", shown.stdout);
    let found = lines(&audit(home, &["query", LOG, "--text", "WEIR", "--json"]).exits(0));
    assert_eq!(found.len(), 2, "an admission and its end");
    assert_eq!(found[1]["entry"]["output"], OUTPUT);
}

#[test]
fn queries_find_whole_calls() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    append(home, &plain(), "b");
    let found = |filter: &[&str]| -> Vec<u64> {
        let arguments = [&["query", LOG, "--json"], filter].concat();
        let lines = lines(&audit(home, &arguments).exits(0));
        let indices = lines.iter().map(|line| line["index"].as_u64());
        indices.map(|index| index.expect("an index")).collect()
    };
    assert_eq!(found(&[]), (0..8).collect::<Vec<_>>());
    assert_eq!(found(&["--identity", "kiosk"]), [1, 2, 5, 6]);
    assert_eq!(found(&["--identity", "kiosk", "--request", "b"]), [5, 6]);
    assert_eq!(found(&["--outcome", "refused:token-missing"]), [3, 7]);
    assert_eq!(found(&["--text", "QUIET"]), [1, 2, 5, 6]);
    assert_eq!(
        found(&["--model", "coffee", "--outcome", "completed"]),
        [1, 2, 5, 6]
    );
    assert_eq!(found(&["--until", "2001-01-01T00:00:00Z"]), [0_u64; 0]);
    audit(home, &["query", LOG, "--since", "yesterday"]).exits(2);
}

#[test]
fn figures_come_as_text_as_json_and_as_a_page() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    let stats = |more: &[&str]| audit(home, &[&["stats", LOG], more].concat()).exits(0);
    let key = ["--identity-file", AUDITOR];
    let json = stats(&[&key[..], &["--json"]].concat()).json();
    assert_eq!(
        (&json["totals"]["calls"], &json["totals"]["refusals"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(json["unread"]["sealed"], 0);
    let text = stats(&key).stdout;
    assert!(
        text.contains("1 admitted, 0 without an end; 1 refused"),
        "{text}"
    );
    let told = stats(&[&key[..], &["--html", "report.html"]].concat());
    assert_eq!(told.stdout, "wrote report.html\n");
    let page = fs::read_to_string(home.join("report.html")).expect("the page");
    assert!(
        page.contains("<title>Audit report of pi-5</title>"),
        "{page}"
    );

    let blind = stats(&["--json"]).json();
    assert_eq!(
        (&blind["records"], &blind["unread"]["sealed"]),
        (&json!(0), &json!(4))
    );
}
