//! A real process that appends is killed, again and again: what it was promised is there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use postern_audit::{AuditConfig, AuditError, AuditLog, Receipt, read, verify, verify_with};
use tempfile::TempDir;

use crate::fixtures::{admitted, child, child_dir, completed, plain};

const ROUNDS: u64 = 40;

fn config() -> AuditConfig {
    AuditConfig {
        segment_bytes_max: 1024 * 1024,
        ..plain()
    }
}

#[test]
fn a_killed_writer_leaves_every_promised_record() {
    let dir = TempDir::new().unwrap();
    let mut torn = 0;
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let promised = append_until_killed(dir.path(), round);
        let (log, recovery) = AuditLog::open(dir.path(), &config()).unwrap();
        drop(log);
        torn += u64::from(recovery.torn_bytes > 0);
        interrupted += recovery.interrupted.len();
        let verified = verify(dir.path()).unwrap();
        assert_eq!(verified.open_calls, [], "every call has its end");
        let last = promised.iter().max_by_key(|receipt| receipt.index);
        verify_with(dir.path(), last.expect("the child got receipts")).unwrap();
        check_promises(dir.path(), &promised);
    }
    println!("{torn} torn tails and {interrupted} interrupted calls in {ROUNDS} kills");
    assert!(interrupted > 0, "some kill came within a call");
}

/// Lets a child append, kills it after some receipts and some time, and returns the receipts that
/// it was given.
fn append_until_killed(dir: &Path, round: u64) -> Vec<Receipt> {
    let mut process = child("crash::child_appends", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut promised = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let Some(receipt) = parse(&line) else {
            continue;
        };
        promised.push(receipt);
        if promised.len() as u64 == 4 + round % 7 {
            check_lock(dir, &process);
            thread::sleep(Duration::from_micros(round * 331 % 5000));
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    promised
}

fn parse(line: &str) -> Option<Receipt> {
    let (index, head) = line.strip_prefix("receipt ")?.split_once(' ')?;
    (head.len() == 64).then(|| Receipt {
        index: index.parse().unwrap(),
        head: head.to_owned(),
        leaf: String::new(),
        checkpoint: String::new(),
    })
}

fn check_lock(dir: &Path, process: &Child) {
    match AuditLog::open(dir, &config()) {
        Err(AuditError::Locked { holder, .. }) => assert_eq!(holder, Some(process.id())),
        other => panic!("{other:?}"),
    }
}

fn check_promises(dir: &Path, promised: &[Receipt]) {
    let heads: Vec<String> = read(dir)
        .unwrap()
        .map(|record| record.unwrap().head)
        .collect();
    for receipt in promised {
        assert_eq!(heads[receipt.index as usize], receipt.head);
    }
}

#[test]
#[ignore = "runs as a child process"]
fn child_appends() {
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &config()).unwrap();
    thread::scope(|scope| {
        for worker in 0..3 {
            let log = &log;
            scope.spawn(move || {
                for call in 0.. {
                    let id = format!("{worker}-{call}");
                    // From a few bytes to most of a megabyte, so that a kill can fall into a write.
                    let wishes = "x".repeat(3 << (call * 7 % 18));
                    let receipt = log.append(&admitted(&id, &wishes)).unwrap();
                    promise(&receipt);
                    promise(&log.append(&completed(&id, receipt.index)).unwrap());
                }
            });
        }
    });
}

/// One write a line, so that a kill leaves no half receipt but at the very end.
fn promise(receipt: &Receipt) {
    let line = format!("\nreceipt {} {}\n", receipt.index, receipt.head);
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
