//! `audit verify` and `audit show`: only an unaltered log gets exit code 0, and none is said to be
//! more than was shown.

use std::fs;
use std::path::{Path, PathBuf};

use postern_audit::{AuditLog, Entry, RefusalCount, RefusedMore};

use crate::audit_log::{LOG, plain};
use crate::run::{home, postern};

/// A state folder with the records of one answered and one refused call.
fn with_records() -> tempfile::TempDir {
    let home = home();
    let generate = [
        "generate",
        "--state-dir",
        "state",
        "--identity",
        "kiosk",
        "--max-tokens",
        "4",
    ];
    let answered = ["--template", "coffee.v1", "--var", "wishes=decaf"];
    postern(home.path(), generate.iter().chain(&answered)).exits(0);
    let refused = ["--template", "triage.v1", "--var", "log=x"];
    postern(home.path(), generate.iter().chain(&refused)).exits(3);
    home
}

fn segments(home: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<_> = fs::read_dir(home.join("state/audit"))
        .expect("the log's folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    segments
}

#[test]
fn a_sound_log_verifies_and_tells_what_happened() {
    let home = with_records();
    let verified = postern(home.path(), ["audit", "verify", "state/audit", "--json"]).exits(0);
    let json = verified.json();
    assert_eq!(json["verified"], true);
    assert_eq!(json["open_calls"], serde_json::json!([]));
    let text = postern(home.path(), ["audit", "verify", "state/audit"])
        .exits(0)
        .stdout;
    assert!(text.contains("signed and unaltered"), "{text}");

    let shown = postern(home.path(), ["audit", "show", "state/audit", "--json"]).exits(0);
    let records: Vec<serde_json::Value> = shown
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(
        records.len() as u64,
        json["records"].as_u64().expect("a count")
    );
    let kinds: Vec<_> = records
        .iter()
        .filter_map(|record| record["entry"]["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "opened",
            "administered",
            "admitted",
            "completed",
            "opened",
            "administered",
            "refused"
        ]
    );
    assert_eq!(records.last().expect("records")["head"], json["head"]);

    assert_eq!(records[1]["entry"]["action"], "model-loaded");

    let request = records[2]["entry"]["request_id"].as_str().expect("an id");
    let of_one = ["audit", "show", "state/audit", "--request", request];
    let text = postern(home.path(), of_one).exits(0).stdout;
    assert!(
        text.contains("admitted") && text.contains("wishes: decaf"),
        "{text}"
    );
    assert!(!text.contains("refused"), "{text}");

    let of_none = [
        "audit",
        "show",
        "state/audit",
        "--request",
        "00000000000000000000000000",
    ];
    postern(home.path(), of_none).exits(1);
}

#[test]
fn an_answer_is_in_the_log_where_the_policy_says_so() {
    let home = home();
    let policy =
        "version: 1\nidentities: {kiosk: {templates: {coffee.v1: {}}}}\naudit: {output: text}\n";
    fs::write(home.path().join("policy.yaml"), policy).expect("a policy");
    let generate = [
        "generate",
        "--state-dir",
        "state",
        "--policy",
        "policy.yaml",
        "--identity",
        "kiosk",
        "--template",
        "coffee.v1",
        "--var",
        "wishes=decaf",
        "--json",
    ];
    let answer = postern(home.path(), generate).exits(0).json();
    let answer = answer["text"].as_str().expect("a text");
    let shown = postern(home.path(), ["audit", "show", "state/audit"]).exits(0);
    let expected = format!("       output: {}\n", answer.escape_debug());
    assert!(shown.stdout.contains(&expected), "{expected} in {shown:#?}");
}

#[test]
fn refusals_that_were_only_counted_are_shown_by_code() {
    let home = home();
    let (log, _) = AuditLog::open(&home.path().join(LOG), &plain()).expect("the log opens");
    let count = |code: &str, count| RefusalCount {
        code: code.to_owned(),
        count,
    };
    let more = RefusedMore {
        counts: vec![count("handshake-failed", 170), count("token-missing", 30)],
        since_us: 1_000_000,
        until_us: 61_000_000,
    };
    log.append(&Entry::RefusedMore(more)).expect("a record");
    drop(log);
    let show = ["audit", "show", LOG, "--outcome", "refused:token-missing"];
    let text = postern(home.path(), show).exits(0).stdout;
    for expected in [
        "refused-more",
        "200 more from 1970-01-01T00:00:01.000Z to 1970-01-01T00:01:01.000Z",
        "handshake-failed: 170",
        "token-missing: 30",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_receipt_tells_whether_the_end_is_there() {
    let home = with_records();
    let shown = postern(home.path(), ["audit", "show", "state/audit", "--json"]).exits(0);
    let last: serde_json::Value =
        serde_json::from_str(shown.stdout.lines().last().expect("a record")).expect("JSON");
    let (index, head) = (
        last["index"].as_u64().expect("index"),
        last["head"].as_str(),
    );
    let head = head.expect("head");
    let verify = |receipt: String| {
        postern(
            home.path(),
            ["audit", "verify", "state/audit", "--receipt", &receipt],
        )
    };
    let whole = verify(format!("{index}:{head}")).exits(0).stdout;
    let verdict = format!("whole and unaltered up to #{index}, the record of the receipt");
    assert!(whole.contains(&verdict), "{whole}");
    assert!(!whole.contains("missing"), "{whole}");
    verify(format!("{index}:{}", "0".repeat(64))).exits(4);
    verify(format!("{}:{head}", index + 1)).exits(4);
}

#[test]
fn a_cut_at_a_record_border_is_not_called_whole() {
    let home = with_records();
    let shown = postern(home.path(), ["audit", "show", "state/audit", "--json"]).exits(0);
    let last: serde_json::Value =
        serde_json::from_str(shown.stdout.lines().last().expect("a record")).expect("JSON");
    let receipt = format!(
        "{}:{}",
        last["index"].as_u64().expect("index"),
        last["head"].as_str().expect("head")
    );
    let newest = segments(home.path()).pop().expect("a segment");
    fs::remove_file(newest).expect("a file of ours");

    let beside = postern(home.path(), ["audit", "verify", "state/audit"]).exits(4);
    assert!(beside.stderr.contains("its end was cut off"), "{beside:#?}");
    fs::remove_file(home.path().join("state/audit/checkpoint")).expect("a file of ours");
    let without = postern(home.path(), ["audit", "verify", "state/audit"]).exits(0);
    assert!(!without.stdout.contains("whole"), "{without:#?}");
    let advice = "only --receipt or --checkpoint shows whether the newest records are missing";
    assert!(without.stdout.contains(advice), "{without:#?}");
    let json = postern(home.path(), ["audit", "verify", "state/audit", "--json"]).exits(0);
    assert!(json.json()["receipt_index"].is_null(), "{json:#?}");
    let with = ["audit", "verify", "state/audit", "--receipt", &receipt];
    postern(home.path(), with).exits(4);
}

#[test]
fn an_altered_log_has_an_exit_code_of_its_own() {
    #[track_caller]
    fn check(what: &str, alter: impl FnOnce(&Path, &[PathBuf])) {
        let home = with_records();
        let segments = segments(home.path());
        alter(home.path(), &segments);
        let plain = postern(home.path(), ["audit", "verify", "state/audit"]);
        assert_eq!(plain.code, Some(4), "{what}: {plain:#?}");
        assert_eq!(plain.stdout, "", "{what}");
        let json = postern(home.path(), ["audit", "verify", "state/audit", "--json"]).exits(4);
        assert_eq!(json.json()["verified"], false, "{what}");
        assert_eq!(json.json()["error"]["code"], "audit-broken", "{what}");
        let shown = postern(home.path(), ["audit", "show", "state/audit"]);
        assert_eq!(shown.code, Some(4), "{what}: {shown:#?}");
    }
    let with_bytes = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).expect("a segment");
        change(&mut bytes);
        fs::write(path, bytes).expect("a segment");
    };
    check("a word of a record replaced", |_, segments| {
        with_bytes(&segments[0], &|bytes| {
            let at = bytes
                .windows(5)
                .position(|five| five == b"decaf")
                .expect("the variable");
            bytes[at..at + 5].copy_from_slice(b"cocoa");
        });
    });
    check("a bit flipped in the middle", |_, segments| {
        with_bytes(&segments[0], &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    });
    check("the first segment emptied", |_, segments| {
        fs::write(&segments[0], b"").expect("write")
    });
    check("garbage for a log", |_, segments| {
        fs::write(&segments[0], b"garbage, and quite a lot of it").expect("write");
    });
}

#[test]
fn where_there_is_no_log_there_is_no_verdict() {
    let home = home();
    for dir in [".", "missing"] {
        let ran = postern(home.path(), ["audit", "verify", dir, "--json"]).exits(1);
        assert!(ran.json()["verified"].is_null(), "{ran:#?}");
    }
}
