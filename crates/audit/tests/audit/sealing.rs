//! Who can read what a sealed log says, and with what.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use postern_audit::{
    AuditConfig, AuditLog, Content, Entry, EntryType, Identities, read, read_with, verify,
};
use tempfile::TempDir;

use crate::fixtures::{admitted, auditor, completed, open, refused, sample_with, sealed, segments};

const SECRET: &str = "what nobody but an auditor may read";

fn contents(dir: &Path, identities: Option<Identities>) -> Vec<Content> {
    let reader = match identities {
        Some(identities) => read_with(dir, identities),
        None => read(dir),
    };
    reader
        .unwrap()
        .map(|stored| stored.unwrap().content)
        .collect()
}

fn copy_of(identities: &Identities) -> Identities {
    Identities::parse(&identities.to_text()).unwrap()
}

#[test]
fn only_an_auditor_reads_what_was_sealed() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &sealed()).unwrap();
    let entries = [
        admitted("call", SECRET),
        refused("refused"),
        completed("call", 1),
    ];
    for entry in &entries {
        log.append(entry).unwrap();
    }
    drop(log);
    for path in segments(dir.path()) {
        let bytes = fs::read(path).unwrap();
        for secret in [SECRET, "kiosk", "template-unknown", "request_id"] {
            let found = bytes
                .windows(secret.len())
                .any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{secret:?} lies open");
        }
    }
    let stored = contents(dir.path(), Some(copy_of(auditor())));
    assert!(matches!(stored[0], Content::Entry(Entry::Opened { .. })));
    for (content, entry) in stored[1..].iter().zip(&entries) {
        assert_eq!(content.entry(), Some(entry));
    }
    for identities in [None, Some(Identities::generate())] {
        let stored = contents(dir.path(), identities);
        assert_eq!(stored, vec![Content::Sealed; 4]);
    }
}

#[test]
fn types_and_order_are_known_without_a_key() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &sealed()).unwrap();
    log.append(&admitted("unfinished", SECRET)).unwrap();
    drop(log);
    let (_log, recovery) = open(dir.path(), &sealed()).unwrap();
    assert_eq!(recovery.interrupted, [1]);
    let types: Vec<EntryType> = read(dir.path())
        .unwrap()
        .map(|stored| stored.unwrap().entry_type)
        .collect();
    let expected = [
        EntryType::Opened,
        EntryType::Admitted,
        EntryType::Opened,
        EntryType::Interrupted,
    ];
    assert_eq!(types, expected);
    let ends = contents(dir.path(), Some(copy_of(auditor())));
    let named = Content::Entry(Entry::Interrupted {
        request_id: "unfinished".to_owned(),
        admitted_index: 1,
    });
    assert_eq!(ends[3], named, "a reader knows whose call it was");
}

#[test]
fn each_of_several_auditors_reads_alone_and_auditors_can_change() {
    let dir = TempDir::new().unwrap();
    let (first, second) = (Identities::generate(), Identities::generate());
    let config = |auditors: &[&Identities]| AuditConfig {
        recipients: auditors
            .iter()
            .flat_map(|one| one.recipients().keys().collect::<Vec<_>>())
            .collect(),
        ..sealed()
    };
    for auditors in [&[&first, &second][..], &[&second][..]] {
        let (log, _) = AuditLog::open(dir.path(), &config(auditors)).unwrap();
        log.append(&refused("refused")).unwrap();
    }
    let read_by = |identities: &Identities| -> Vec<bool> {
        let stored = contents(dir.path(), Some(copy_of(identities)));
        stored.iter().map(|one| one.entry().is_some()).collect()
    };
    assert_eq!(read_by(&second), [true; 4]);
    assert_eq!(read_by(&first), [true, true, false, false]);
    verify(dir.path()).unwrap();
}

/// The wrapped keys of a segment.
fn wrapped_keys(bytes: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
    let mut at = 16 + length + 4 + 3;
    let mut keys = Vec::new();
    for class in ["administration", "calls", "refusals"] {
        let count = header["keys"][class]["bytes"].as_u64().unwrap() as usize;
        keys.push(bytes[at..at + count].to_vec());
        at += count;
    }
    keys
}

#[test]
fn a_stock_age_opens_the_keys_of_a_segment() {
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        segment_bytes_max: 6000,
        ..sealed()
    };
    sample_with(dir.path(), &config);
    let identity = dir.path().join("identity");
    fs::write(&identity, auditor().to_text().as_bytes()).unwrap();
    for key in wrapped_keys(&fs::read(&segments(dir.path())[0]).unwrap()) {
        let started = Command::new("age")
            .args(["-d", "-i"])
            .arg(&identity)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut process) = started else {
            println!("no age here, nothing compared");
            return;
        };
        process.stdin.take().unwrap().write_all(&key).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len(), 32);
    }
}
