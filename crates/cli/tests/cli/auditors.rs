//! Who can read the audit log: nobody but the auditors, and nothing is written before it is said who they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::run::{command, home, postern};

const CALL: [&str; 7] = [
    "generate",
    "--state-dir",
    "state",
    "--template",
    "coffee.v1",
    "--var",
    "wishes=decaf please",
];

#[test]
fn nothing_is_asked_before_it_is_said_who_can_read_the_log() {
    let home = home();
    let refused = command(home.path()).args(CALL).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in ["postern audit keygen", "--auditor", "--audit-plaintext"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn only_an_auditor_reads_what_was_asked() {
    let home = home();
    let keygen = [
        "audit",
        "keygen",
        "--out",
        "auditor.key",
        "--state-dir",
        "state",
    ];
    let public = postern(home.path(), keygen).exits(0).stdout;
    assert!(public.starts_with("age1"), "{public}");
    let mode = |file: &str| {
        let metadata = fs::metadata(home.path().join(file)).expect("the file");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("auditor.key"), 0o600);
    postern(home.path(), keygen).exits(1);

    let called = command(home.path()).args(CALL).output().expect("it runs");
    assert!(called.status.success(), "{called:?}");
    let shown = |more: &[&str]| {
        let words = ["audit", "show", "state/audit"];
        postern(home.path(), words.iter().chain(more))
            .exits(0)
            .stdout
    };
    let sealed = shown(&[]);
    assert!(
        sealed.contains("admitted") && !sealed.contains("decaf"),
        "{sealed}"
    );
    assert!(shown(&["--identity-file", "auditor.key"]).contains("decaf"));
    for segment in fs::read_dir(home.path().join("state/audit")).expect("the log") {
        let bytes = fs::read(segment.expect("a file").path()).expect("a file of ours");
        assert!(!bytes.windows(5).any(|bytes| bytes == b"decaf"));
    }
    postern(home.path(), ["audit", "verify", "state/audit"]).exits(0);

    postern(home.path(), ["audit", "keygen", "--out", "stranger.key"]).exits(0);
    let words = [
        "audit",
        "show",
        "state/audit",
        "--identity-file",
        "stranger.key",
    ];
    let refused = postern(home.path(), words);
    assert!(!refused.stdout.contains("decaf"), "{refused:#?}");
}
