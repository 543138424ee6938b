//! A delivery that is broken off goes on where it was, or says why it must not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use postern_audit::{
    AuditConfig, AuditError, AuditLog, CURSOR_BYTES_MAX, Cursor, CursorProblem, Delivery, Entry,
    Exporter, Format, Outcome, Record,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::records::{admitted, completed, refused};

/// Heads of a log of five records.
const LOG: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];

fn cursor_path(dir: &TempDir) -> PathBuf {
    dir.path().join("siem.cursor")
}

/// Delivers what is due of the log, noting each record, and gives the delivered indices.
fn deliver(path: &Path, log: &[&str]) -> Result<Vec<u64>, AuditError> {
    let mut cursor = Cursor::open(path)?;
    let mut delivered = Vec::new();
    for (index, head) in (0..).zip(log) {
        if let Delivery::Due(mark) = cursor.judge(index, head)? {
            delivered.push(index);
            cursor.note_delivered(mark)?;
        }
    }
    cursor.judge_end()?;
    Ok(delivered)
}

fn problem(result: Result<impl std::fmt::Debug, AuditError>) -> CursorProblem {
    match result {
        Err(AuditError::Cursor { problem, .. }) => problem,
        other => panic!("not a cursor's problem: {other:?}"),
    }
}

#[test]
fn a_delivery_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    assert_eq!(deliver(&path, &LOG[..2]).unwrap(), [0, 1]);
    assert_eq!(deliver(&path, &LOG[..2]).unwrap(), [0_u64; 0]);
    assert_eq!(deliver(&path, &LOG).unwrap(), [2, 3, 4]);
    assert_eq!(Cursor::open(&path).unwrap().next_index(), 5);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"format\":1,\"index\":4,\"head\":\"h4\"}\n");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_was_not_noted_is_delivered_again() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    let mut cursor = Cursor::open(&path).unwrap();
    let mut marks = Vec::new();
    for (index, head) in (0..).zip(LOG) {
        if let Delivery::Due(mark) = cursor.judge(index, head).unwrap() {
            marks.push(mark);
        }
    }
    cursor.note_delivered(marks[2].clone()).unwrap();
    // A confirmation that comes late takes nothing back.
    cursor.note_delivered(marks[0].clone()).unwrap();
    assert_eq!(cursor.next_index(), 3);
    drop(cursor);
    assert_eq!(deliver(&path, &LOG).unwrap(), [3, 4]);
}

#[test]
fn another_history_is_not_continued() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    deliver(&path, &LOG[..3]).unwrap();
    let forged = ["h0", "h1", "f2", "f3", "f4"];
    let expected = CursorProblem::OtherHistory {
        index: 2,
        expected: "h2".to_owned(),
        found: "f2".to_owned(),
    };
    assert_eq!(problem(deliver(&path, &forged)), expected);
    let expected = CursorProblem::LogShorter {
        index: 2,
        records: 2,
    };
    assert_eq!(problem(deliver(&path, &LOG[..2])), expected);
    // Nothing of this changed the cursor.
    assert_eq!(deliver(&path, &LOG).unwrap(), [3, 4]);
}

#[test]
fn records_left_out_are_noticed() {
    let dir = TempDir::new().unwrap();
    let mut cursor = Cursor::open(&cursor_path(&dir)).unwrap();
    let expected = CursorProblem::OutOfOrder {
        expected: 0,
        found: 1,
    };
    assert_eq!(problem(cursor.judge(1, "h1")), expected);
}

#[test]
fn one_process_at_a_time_delivers() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    let cursor = Cursor::open(&path).unwrap();
    assert_eq!(problem(Cursor::open(&path)), CursorProblem::InUse);
    drop(cursor);
    Cursor::open(&path).unwrap();
}

#[test]
fn what_is_not_a_cursor_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    let too_long = "x".repeat(CURSOR_BYTES_MAX as usize + 1);
    let broken = [
        "",
        "{}",
        "5",
        "{\"format\":2,\"index\":4,\"head\":\"h4\"}",
        "{\"format\":1,\"index\":-1,\"head\":\"h4\"}",
        "{\"format\":1,\"index\":18446744073709551615,\"head\":\"h4\"}",
        "{\"format\":1,\"index\":4,\"head\":\"h4\"} {}",
        &too_long,
    ];
    for text in broken {
        fs::write(&path, text).unwrap();
        let found = problem(Cursor::open(&path));
        let is_expected = match text.len() as u64 > CURSOR_BYTES_MAX {
            true => {
                found
                    == CursorProblem::TooLong {
                        max: CURSOR_BYTES_MAX,
                    }
            }
            false => matches!(found, CursorProblem::Malformed { .. }),
        };
        assert!(is_expected, "{text}: {found:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(problem(Cursor::open(&path)), CursorProblem::NotAFile);
    fs::remove_dir(&path).unwrap();
    symlink(dir.path().join("elsewhere"), &path).unwrap();
    assert_eq!(problem(Cursor::open(&path)), CursorProblem::NotAFile);
}

/// A log whose content lies open.
fn plain() -> AuditConfig {
    AuditConfig {
        plaintext: true,
        ..AuditConfig::default()
    }
}

/// Delivers a real log as lines, and says which records they are of.
fn deliver_lines(log: &Path, cursor: &Path) -> Result<Vec<u64>, AuditError> {
    let mut cursor = Cursor::open(cursor)?;
    let mut exporter = Exporter::new(Format::JsonLines, "pi-5", Vec::new());
    let mut marks = Vec::new();
    for stored in postern_audit::read(log)? {
        let stored = stored?;
        let delivery = cursor.judge(stored.index, &stored.head)?;
        match (Record::of(&stored), &delivery) {
            (None, _) => exporter.skip_unread(&stored),
            (Some(record), Delivery::Done) => exporter.skip(&record),
            (Some(record), Delivery::Due(_)) => exporter.write(&record).unwrap(),
        }
        if let Delivery::Due(mark) = delivery {
            marks.push(mark);
        }
    }
    cursor.judge_end()?;
    let lines = String::from_utf8(exporter.finish().unwrap()).unwrap();
    if let Some(last) = marks.pop() {
        cursor.note_delivered(last)?;
    }
    let values = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    Ok(values
        .map(|value| value["index"].as_u64().unwrap())
        .collect())
}

#[test]
fn a_real_log_is_delivered_in_parts() {
    let dir = TempDir::new().unwrap();
    let (log_path, path) = (dir.path().join("log"), cursor_path(&dir));
    let (log, _) = AuditLog::open(&log_path, &plain()).unwrap();
    let admission = Entry::Admitted(admitted("a", "kiosk", "coffee.v1"));
    let receipt = log.append(&admission).unwrap();
    assert_eq!(deliver_lines(&log_path, &path).unwrap(), [0, 1]);
    let end = completed("a", receipt.index, Outcome::Completed);
    log.append(&Entry::Completed(end)).unwrap();
    assert_eq!(deliver_lines(&log_path, &path).unwrap(), [2]);
    drop(log);
    // Another log in the same place has another history, even with the same entries.
    fs::remove_dir_all(&log_path).unwrap();
    let (log, _) = AuditLog::open(&log_path, &plain()).unwrap();
    for _ in 0..3 {
        log.append(&Entry::Refused(refused("r", None, "token-missing")))
            .unwrap();
    }
    let found = problem(deliver_lines(&log_path, &path));
    assert!(
        matches!(found, CursorProblem::OtherHistory { index: 2, .. }),
        "{found:?}"
    );
}

#[test]
fn a_staged_file_of_a_crash_is_overwritten() {
    let dir = TempDir::new().unwrap();
    let path = cursor_path(&dir);
    fs::write(
        dir.path().join("siem.cursor.new"),
        "half a line that a crash le",
    )
    .unwrap();
    assert_eq!(deliver(&path, &LOG[..1]).unwrap(), [0]);
    assert_eq!(deliver(&path, &LOG).unwrap(), [1, 2, 3, 4]);
}
