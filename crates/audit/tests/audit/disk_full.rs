//! No room: the append fails, nothing of it stays, and later appends work when there is room.
//!
//! The limit is the system's own on file sizes, set in a child process, so that a write comes back
//! short and then fails, as on a full disk.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use postern_audit::{
    AuditConfig, AuditError, AuditLog, Entry, Receipt, Stored, read, verify, verify_with,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, child, child_dir, completed, plain, record_offsets, refused, sealed, segments,
    small_segments,
};

fn check_in_child(test: &str) {
    let dir = TempDir::new().unwrap();
    let output = child(test, dir.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("1 passed"), "the child ran its test: {text}");
}

/// Limits the size that files of this process can grow to.
fn limit_file_bytes(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

fn last_bytes(dir: &Path) -> u64 {
    fs::metadata(segments(dir).last().unwrap()).unwrap().len()
}

#[test]
fn a_full_disk_refuses_and_later_goes_on() {
    check_in_child("disk_full::child_append");
}

#[test]
#[ignore = "runs as a child process"]
fn child_append() {
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &plain()).unwrap();
    let first = log.append(&admitted("before", "")).unwrap();
    let bytes = last_bytes(&dir);
    for room in [0, 1, 8, 9, 300] {
        limit_file_bytes(Some(bytes + room));
        let entry = admitted("too-much", &"x".repeat(2000));
        assert!(matches!(log.append(&entry), Err(AuditError::Write { .. })));
        assert_eq!(last_bytes(&dir), bytes, "the file is cut back");
        assert_eq!(verify(&dir).unwrap().records, 2);
        assert!(!log.is_stopped());
    }
    limit_file_bytes(None);
    let call = log.append(&admitted("too-much", "")).unwrap();
    assert_eq!(call.index, first.index + 1, "the failed call left no trace");
    log.append(&completed("before", first.index)).unwrap();
    let last = log.append(&completed("too-much", call.index)).unwrap();
    assert_eq!(verify_with(&dir, &last).unwrap().records, 5);
}

#[test]
fn a_full_disk_refuses_a_new_segment_and_later_goes_on() {
    check_in_child("disk_full::child_rotate");
}

#[test]
#[ignore = "runs as a child process"]
fn child_rotate() {
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &small_segments()).unwrap();
    while last_bytes(&dir) < 2800 {
        log.append(&refused("fill")).unwrap();
    }
    limit_file_bytes(Some(20));
    let entry = admitted("call", &"x".repeat(500));
    for _ in 0..3 {
        assert!(matches!(log.append(&entry), Err(AuditError::Write { .. })));
        assert_eq!(segments(&dir).len(), 1);
        assert!(!dir.join("segment.new").exists());
    }
    limit_file_bytes(None);
    let last = log.append(&entry).unwrap();
    assert_eq!(verify_with(&dir, &last).unwrap().segments, 2);
}

#[test]
fn a_full_disk_at_opening_changes_nothing() {
    check_in_child("disk_full::child_open");
}

#[test]
#[ignore = "runs as a child process"]
fn child_open() {
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &plain()).unwrap();
    log.append(&admitted("unfinished", "")).unwrap();
    drop(log);
    // A torn tail, so that there is something to cut.
    let path = segments(&dir).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&[0, 0, 1]);
    fs::write(&path, &bytes).unwrap();

    limit_file_bytes(Some(40));
    let opened = AuditLog::open(&dir, &plain());
    assert!(matches!(opened, Err(AuditError::Io { .. })), "{opened:?}");
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "nothing was cut unrecorded"
    );
    limit_file_bytes(None);
    let (_log, recovery) = AuditLog::open(&dir, &plain()).unwrap();
    assert_eq!(recovery.torn_bytes, 3);
    assert_eq!(recovery.interrupted, [1]);
    verify(&dir).unwrap();
}

#[test]
fn a_sealed_record_that_failed_to_be_written_is_sealed_anew() {
    check_in_child("disk_full::child_seal");
}

/// The sealing counter makes the nonce, so it may not come back for other content.
#[test]
#[ignore = "runs as a child process"]
fn child_seal() {
    const FAILURES: u64 = 3;
    let Some(dir) = child_dir() else { return };
    let (log, _) = AuditLog::open(&dir, &sealed()).unwrap();
    log.append(&refused("before")).unwrap();
    limit_file_bytes(Some(last_bytes(&dir) + 9));
    for attempt in 0..FAILURES {
        log.append(&refused(&format!("attempt-{attempt}")))
            .unwrap_err();
    }
    limit_file_bytes(None);
    log.append(&refused("after")).unwrap();
    let bytes = fs::read(&segments(&dir)[0]).unwrap();
    let counters: Vec<u64> = record_offsets(&bytes)
        .into_iter()
        .map(|at| u64::from_be_bytes(bytes[at + 42..at + 50].try_into().unwrap()))
        .collect();
    assert_eq!(counters, [1, 2, 3 + FAILURES]);
    verify(&dir).unwrap();
}

#[test]
fn what_was_made_behind_a_failed_write_leaves_no_trace() {
    check_in_child("disk_full::child_many");
}

/// Records are made while those before them are written, and are made again if that fails.
#[test]
#[ignore = "runs as a child process"]
fn child_many() {
    const THREADS: usize = 8;
    const CALLS: usize = 40;
    let Some(dir) = child_dir() else { return };
    let config = AuditConfig {
        segment_bytes_max: 32 * 1024,
        ..plain()
    };
    let (log, _) = AuditLog::open(&dir, &config).unwrap();
    let append = |entry: &Entry, failures: &mut usize| loop {
        match log.append(entry) {
            Ok(receipt) => return receipt,
            Err(AuditError::Write { .. }) => *failures += 1,
            Err(error) => panic!("{error}"),
        }
    };
    let call_all = |worker: usize| {
        let mut failures = 0;
        let receipts: Vec<Receipt> = (0..CALLS)
            .flat_map(|call| {
                let id = format!("{worker}-{call}");
                let begun = append(&admitted(&id, "anything"), &mut failures);
                let ended = append(&completed(&id, begun.index), &mut failures);
                [begun, ended]
            })
            .collect();
        (receipts, failures)
    };
    limit_file_bytes(Some(last_bytes(&dir)));
    let (receipts, failures) = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn({
                    let call_all = &call_all;
                    move || call_all(worker)
                })
            })
            .collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(2));
            limit_file_bytes(None);
            thread::sleep(Duration::from_millis(1));
            limit_file_bytes(Some(last_bytes(&dir) + 2000));
        }
        limit_file_bytes(None);
        let done = workers.into_iter().map(|worker| worker.join().unwrap());
        let (receipts, failures): (Vec<_>, Vec<_>) = done.unzip();
        (receipts.concat(), failures.iter().sum::<usize>())
    });
    drop(log);

    assert!(failures > THREADS, "the disk was full for whole groups");
    let records: Vec<Stored> = read(&dir).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1 + 2 * THREADS * CALLS);
    for receipt in &receipts {
        assert_eq!(records[receipt.index as usize].head, receipt.head);
    }
    assert!(verify(&dir).unwrap().open_calls.is_empty());
}
