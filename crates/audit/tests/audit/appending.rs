//! Writing and reading back: order, receipts, rotation.

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use jiff::Timestamp;
use postern_audit::{
    AuditConfig, AuditError, AuditLog, Entry, Reason, Receipt, Stored, read, verify, verify_with,
};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, completed, open, plain, refused, sample, segments, small_segments,
};

fn stored(dir: &TempDir) -> Vec<Stored> {
    read(dir.path()).unwrap().map(Result::unwrap).collect()
}

#[test]
fn entries_come_back_as_they_were_appended() {
    let dir = TempDir::new().unwrap();
    let (log, recovery) = open(dir.path(), &plain()).unwrap();
    assert_eq!(recovery, postern_audit::Recovery::default());
    let entries = [
        admitted("one", "a \"quiet\" place\nwith\tcake \u{0}\u{1f} é 🦀"),
        refused("two"),
        completed("one", 1),
    ];
    let receipts: Vec<Receipt> = entries.iter().map(|e| log.append(e).unwrap()).collect();
    drop(log);

    let records = stored(&dir);
    assert!(matches!(
        records[0].entry(),
        Some(Entry::Opened { cut: None, .. })
    ));
    for (at, (entry, receipt)) in entries.iter().zip(&receipts).enumerate() {
        let record = &records[at + 1];
        assert_eq!(record.entry(), Some(entry));
        assert_eq!(record.leaf, receipt.leaf);
        assert_eq!((record.index, &record.head), (receipt.index, &receipt.head));
        assert_eq!(
            record.time,
            // One tick was the checkpoint of the opening.
            Timestamp::from_millisecond(1500 * (at as i64 + 2)).unwrap()
        );
        verify_with(dir.path(), receipt).unwrap();
    }
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.records, 4);
    assert_eq!(verified.head, receipts[2].head);
    assert_eq!(verified.first_time, Timestamp::UNIX_EPOCH);
    assert_eq!(verified.last_time, records[3].time);
    assert_eq!(verified.open_calls, []);
}

#[test]
fn open_calls_are_named_while_the_log_is_written() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    log.append(&admitted("b", "")).unwrap();
    log.append(&admitted("a", "")).unwrap();
    let open_calls = verify(dir.path()).unwrap().open_calls;
    let indices: Vec<u64> = open_calls.iter().map(|call| call.admitted_index).collect();
    assert_eq!(indices, [1, 2]);
}

#[test]
fn segments_rotate_by_size_and_stay_one_chain() {
    let dir = TempDir::new().unwrap();
    sample(dir.path());
    let paths = segments(dir.path());
    for path in &paths {
        assert!(fs::metadata(path).unwrap().len() <= small_segments().segment_bytes_max);
    }
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.segments, paths.len() as u64);
    assert_eq!(verified.records, stored(&dir).len() as u64);
}

#[test]
fn a_record_longer_than_a_segment_gets_one_of_its_own() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &small_segments()).unwrap();
    log.append(&admitted("large", &"x".repeat(10_000))).unwrap();
    log.append(&refused("after")).unwrap();
    drop(log);
    let numbers: Vec<u32> = stored(&dir).iter().map(|record| record.segment).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn eight_threads_append_one_chain() {
    const THREADS: usize = 8;
    const CALLS: usize = 25;
    let dir = TempDir::new().unwrap();
    let config = AuditConfig {
        segment_bytes_max: 64 * 1024,
        ..plain()
    };
    let (log, _) = AuditLog::open(dir.path(), &config).unwrap();
    let appended: Vec<(Receipt, Entry)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn({
                    let log = &log;
                    move || append_calls(log, worker, CALLS)
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    drop(log);

    let records = stored(&dir);
    assert_eq!(records.len(), 1 + THREADS * CALLS * 2);
    let indices: BTreeSet<u64> = appended.iter().map(|(receipt, _)| receipt.index).collect();
    assert_eq!(
        indices.len(),
        appended.len(),
        "no two receipts share a record"
    );
    for (receipt, entry) in &appended {
        let record = &records[receipt.index as usize];
        assert_eq!((&record.head, record.entry()), (&receipt.head, Some(entry)));
    }
    assert!(verify(dir.path()).unwrap().segments > 1);
}

#[test]
fn a_log_verifies_while_it_is_written() {
    let dir = TempDir::new().unwrap();
    let (log, _) = AuditLog::open(dir.path(), &small_segments()).unwrap();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|worker| {
                let log = &log;
                scope.spawn(move || append_calls(log, worker, 100))
            })
            .collect();
        let mut records = 0;
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            match verify(dir.path()) {
                Ok(verified) => {
                    assert!(verified.records >= records, "the log only grows");
                    records = verified.records;
                }
                Err(AuditError::Broken {
                    reason: Reason::TornTail { .. },
                    ..
                }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(verify(dir.path()).unwrap().records, 601);
}

/// Appends calls and checks that this thread's records stand in the order of its appends.
fn append_calls(log: &AuditLog, worker: usize, calls: usize) -> Vec<(Receipt, Entry)> {
    let mut appended: Vec<(Receipt, Entry)> = Vec::new();
    for call in 0..calls {
        let id = format!("{worker}-{call}");
        let entry = admitted(&id, "anything");
        let receipt = log.append(&entry).unwrap();
        let end = completed(&id, receipt.index);
        appended.push((receipt, entry));
        appended.push((log.append(&end).unwrap(), end));
    }
    assert!(appended.is_sorted_by_key(|(receipt, _)| receipt.index));
    appended
}
