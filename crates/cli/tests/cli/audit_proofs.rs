//! `audit verify`, `checkpoint` and `prove`: what was kept elsewhere shows more than the files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::audit_log::{LOG, append, plain, sealed};
use crate::run::{Ran, home, postern};

fn audit(home: &Path, arguments: &[&str]) -> Ran {
    postern(home, ["audit"].iter().chain(arguments))
}

/// The public key of the log, as the log says it.
fn pubkey(home: &Path) -> String {
    let json = audit(home, &["verify", LOG, "--json"]).exits(0).json();
    json["signer"].as_str().expect("a signer").to_owned()
}

/// Keeps the newest checkpoint in a file.
fn keep_checkpoint(home: &Path, file: &str) {
    let note = audit(home, &["checkpoint", LOG]).exits(0).stdout;
    assert!(note.starts_with("pi-5\n"), "{note}");
    fs::write(home.join(file), note).expect("a file");
}

#[test]
fn a_sealed_log_verifies_without_a_secret() {
    let home = home();
    let home = home.path();
    append(home, &sealed(home), "a");
    let json = audit(home, &["verify", LOG, "--json"]).exits(0).json();
    assert_eq!(
        (&json["records"], &json["verified"]),
        (&json!(4), &json!(true))
    );
    assert_eq!(json["checkpoint"]["size"], 4);
    assert_eq!(json["records_after_checkpoint"], 0);
    assert_eq!(
        (&json["expired_records"], &json["clock_steps_total"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(json["witnessed_records"], 0);
    let text = audit(home, &["verify", LOG]).exits(0).stdout;
    assert!(
        text.contains("the records found are signed and unaltered"),
        "{text}"
    );
    assert!(
        text.contains("pi-5+") && text.contains("only the log says so"),
        "{text}"
    );
    assert!(
        text.contains("over 4 records, of ") && text.contains("; none after it"),
        "{text}"
    );
}

#[test]
fn another_key_is_not_the_devices() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    let key = pubkey(home);
    fs::write(home.join("pi-5.pub"), format!("{key}\n")).expect("a file");
    for given in [&*key, "pi-5.pub"] {
        let ran = audit(home, &["verify", LOG, "--pubkey", given]).exits(0);
        assert!(ran.stdout.contains("as --pubkey says"), "{ran:#?}");
    }
    fs::remove_dir_all(home.join(LOG)).expect("the log");
    fs::remove_file(home.join("log.key")).expect("its key");
    append(home, &plain(), "a");
    let forged = audit(home, &["verify", LOG, "--pubkey", "pi-5.pub"]).exits(4);
    assert!(forged.stderr.contains("broken"), "{forged:#?}");
    let missing = audit(home, &["verify", LOG, "--pubkey", "nowhere.pub"]).exits(1);
    assert!(missing.stderr.contains("name+hash+key"), "{missing:#?}");
}

#[test]
fn an_old_checkpoint_shows_a_cut() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    let short = home.join("short");
    copy(&home.join(LOG), &short);
    append(home, &plain(), "b");
    keep_checkpoint(home, "kept.checkpoint");
    let checked = ["verify", LOG, "--checkpoint", "kept.checkpoint"];
    let whole = audit(home, &checked).exits(0).stdout;
    assert!(whole.contains("whole and unaltered up to #7"), "{whole}");
    assert!(!whole.contains("missing"), "{whole}");

    fs::remove_dir_all(home.join(LOG)).expect("the log");
    fs::rename(short, home.join(LOG)).expect("the shorter log");
    audit(home, &["verify", LOG]).exits(0);
    audit(home, &checked).exits(4);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for item in fs::read_dir(from).expect("a folder") {
        let item = item.expect("a file");
        fs::copy(item.path(), to.join(item.file_name())).expect("a copy");
    }
}

#[test]
fn a_receipt_is_read_from_an_answer() {
    let home = home();
    let home = home.path();
    let [_, end, _] = append(home, &plain(), "a");
    let answer = json!({ "id": "a", "audit": end });
    fs::write(home.join("answer.json"), answer.to_string()).expect("a file");
    let json = audit(home, &["verify", LOG, "--receipt", "answer.json", "--json"]);
    assert_eq!(json.exits(0).json()["receipt_index"], end.index);
    fs::write(home.join("answer.json"), "{}").expect("a file");
    let ran = audit(home, &["verify", LOG, "--receipt", "answer.json"]).exits(1);
    assert!(ran.stderr.contains("holds no receipt"), "{ran:#?}");
}

#[test]
fn a_record_is_proven_far_from_the_log() {
    let home = home();
    let home = home.path();
    let [admission, end, _] = append(home, &sealed(home), "a");
    fs::write(home.join("pi-5.pub"), pubkey(home)).expect("a file");
    let index = end.index.to_string();
    let proof = audit(home, &["prove", LOG, "--index", &index])
        .exits(0)
        .stdout;
    fs::write(home.join("proof.json"), &proof).expect("a file");
    fs::write(home.join("end.json"), json!({ "audit": end }).to_string()).expect("a file");
    fs::write(home.join("other.json"), json!(admission).to_string()).expect("a file");
    keep_checkpoint(home, "kept.checkpoint");
    fs::remove_dir_all(home.join(LOG)).expect("the log");

    let check = ["prove", "--proof", "proof.json", "--pubkey", "pi-5.pub"];
    let with = |more: &[&str]| audit(home, &[&check[..], more].concat());
    let text = with(&[]).exits(0).stdout;
    assert!(
        text.contains("record #2 is in the log of pi-5, one of 4 records"),
        "{text}"
    );
    let json = with(&["--receipt", "end.json", "--json"]).exits(0).json();
    assert_eq!((&json["index"], &json["size"]), (&json!(2), &json!(4)));
    with(&["--checkpoint", "kept.checkpoint"]).exits(0);
    let other = with(&["--receipt", "other.json"]).exits(4);
    assert!(
        other.stderr.contains("but the receipt is of #1"),
        "{other:#?}"
    );

    let mut altered: Value = serde_json::from_str(&proof).expect("JSON");
    altered["index"] = json!(3);
    fs::write(home.join("proof.json"), altered.to_string()).expect("a file");
    let altered = with(&["--json"]).exits(4).json();
    assert_eq!(altered["verified"], false);
}

#[test]
fn what_no_checkpoint_covers_is_not_proven() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    keep_checkpoint(home, "kept.checkpoint");
    append(home, &plain(), "b");
    let late = [
        "prove",
        LOG,
        "--index",
        "6",
        "--checkpoint",
        "kept.checkpoint",
    ];
    let late = audit(home, &late).exits(1);
    assert!(late.stderr.contains("name a later one"), "{late:#?}");
    audit(home, &["prove", LOG, "--index", "6"]).exits(0);
    let none = audit(home, &["prove", LOG, "--index", "99"]).exits(1);
    assert!(
        none.stderr.contains("the log has no such record"),
        "{none:#?}"
    );
}

#[test]
fn a_log_goes_on_from_an_older_checkpoint() {
    let home = home();
    let home = home.path();
    append(home, &plain(), "a");
    keep_checkpoint(home, "old.checkpoint");
    append(home, &plain(), "b");
    let newest = audit(home, &["checkpoint", LOG, "--json"]).exits(0).json();
    assert_eq!(newest["size"], 8);
    let proof = audit(home, &["checkpoint", LOG, "--old", "old.checkpoint"]).exits(0);
    assert_eq!(proof.json()["proof"], "consistency");
    fs::write(home.join("proof.json"), &proof.stdout).expect("a file");
    let key = pubkey(home);
    let check = ["prove", "--proof", "proof.json", "--pubkey", &key];
    let text = audit(home, &check).exits(0).stdout;
    assert!(
        text.contains("with 8 records goes on from the one with 4"),
        "{text}"
    );
}
