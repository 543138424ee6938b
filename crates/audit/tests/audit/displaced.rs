//! The log's files are removed, moved, replaced, cut or grown under a running writer: it stops,
//! says so, and writes nothing more.

use std::fs::{self, OpenOptions};
use std::path::Path;

use postern_audit::{AuditError, AuditLog, Displacement, verify_with};
use tempfile::TempDir;

use crate::fixtures::{admitted, open, plain, refused, segments, small_segments};

/// Opens a log, does something to its files, and returns what the log then finds. `damage` gets
/// the log's directory and its only segment.
fn displacement(damage: impl FnOnce(&Path, &Path)) -> (TempDir, String, Displacement) {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("audit");
    let (log, _) = AuditLog::open(&dir, &plain()).unwrap();
    log.append(&admitted("call", "")).unwrap();
    assert!(!log.is_stopped());
    let segment = segments(&dir).pop().unwrap();
    damage(&dir, &segment);
    let after = bytes_below(root.path());

    let error = log.append(&refused("lost")).unwrap_err();
    assert!(log.is_stopped(), "{error}");
    let message = error.to_string();
    assert!(message.contains("restart the daemon"), "{message}");
    for _ in 0..2 {
        let again = log.append(&refused("lost")).unwrap_err();
        assert_eq!(again.to_string(), message, "the log stays stopped");
    }
    assert_eq!(bytes_below(root.path()), after, "nothing was written");
    match error {
        AuditError::Displaced { path, found } => {
            let name = path.strip_prefix(root.path()).unwrap();
            (root, name.display().to_string(), found)
        }
        other => panic!("expected a displaced log, got {other:?}"),
    }
}

/// Every regular file below a directory, with its contents.
fn bytes_below(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(bytes_below(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn set_length(path: &Path, change: impl FnOnce(u64) -> u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    file.set_len(change(bytes)).unwrap();
}

#[test]
fn a_removed_or_moved_segment_stops_the_log() {
    let (_root, name, found) = displacement(|_, segment| fs::remove_file(segment).unwrap());
    assert_eq!(name, "audit/00000000.seg");
    assert!(matches!(found, Displacement::Gone), "{found:?}");

    let (_root, _, found) =
        displacement(|dir, segment| fs::rename(segment, dir.join("taken")).unwrap());
    assert!(matches!(found, Displacement::Gone), "{found:?}");
}

#[test]
fn a_replaced_segment_stops_the_log() {
    // The same bytes in another file, and a link to the very file that was opened.
    let (_root, name, found) = displacement(|dir, segment| {
        fs::copy(segment, dir.join("copy")).unwrap();
        fs::rename(dir.join("copy"), segment).unwrap();
    });
    assert_eq!(name, "audit/00000000.seg");
    assert!(matches!(found, Displacement::Replaced), "{found:?}");

    let (_root, _, found) = displacement(|dir, segment| {
        fs::rename(segment, dir.join("taken")).unwrap();
        std::os::unix::fs::symlink("taken", segment).unwrap();
    });
    assert!(matches!(found, Displacement::Replaced), "{found:?}");
}

#[test]
fn a_segment_with_a_second_name_stops_the_log() {
    let (_root, _, found) =
        displacement(|dir, segment| fs::hard_link(segment, dir.join("second")).unwrap());
    assert!(
        matches!(found, Displacement::Linked { links: 2 }),
        "{found:?}"
    );
}

#[test]
fn a_cut_or_grown_segment_stops_the_log_and_gets_no_hole() {
    let changes: [fn(u64) -> u64; 4] = [|_| 0, |_| 10, |bytes| bytes - 1, |bytes| bytes + 1];
    for change in changes {
        let (_root, name, found) = displacement(|_, segment| set_length(segment, change));
        assert_eq!(name, "audit/00000000.seg");
        match found {
            Displacement::Length { expected, found } => assert_eq!(found, change(expected)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_removed_moved_or_replaced_directory_stops_the_log() {
    let (_root, name, found) = displacement(|dir, _| fs::remove_dir_all(dir).unwrap());
    assert_eq!(name, "audit");
    assert!(matches!(found, Displacement::Gone), "{found:?}");

    let (_root, name, found) =
        displacement(|dir, _| fs::rename(dir, dir.with_extension("moved")).unwrap());
    assert_eq!(name, "audit");
    assert!(matches!(found, Displacement::Gone), "{found:?}");

    let (_root, name, found) = displacement(|dir, segment| {
        let moved = dir.with_extension("moved");
        let segment = segment.file_name().unwrap().to_owned();
        fs::rename(dir, &moved).unwrap();
        fs::create_dir(dir).unwrap();
        fs::rename(moved.join(&segment), dir.join(&segment)).unwrap();
    });
    assert_eq!(name, "audit");
    assert!(matches!(found, Displacement::Replaced), "{found:?}");
}

#[test]
fn a_directory_that_is_gone_is_noticed_before_a_new_segment_is_begun() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("audit");
    let (log, _) = open(&dir, &small_segments()).unwrap();
    let filling = admitted("call", &"x".repeat(3500));
    log.append(&filling).unwrap();
    fs::rename(&dir, root.path().join("moved")).unwrap();
    fs::create_dir(&dir).unwrap();
    let next = log.append(&admitted("next", &"x".repeat(3500)));
    assert!(
        matches!(next, Err(AuditError::Displaced { .. })),
        "{next:?}"
    );
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_log_that_was_put_back_goes_on_after_it_is_opened_again() {
    let root = TempDir::new().unwrap();
    let (dir, moved) = (root.path().join("audit"), root.path().join("moved"));
    let (log, _) = open(&dir, &plain()).unwrap();
    let kept = log.append(&refused("kept")).unwrap();
    fs::rename(&dir, &moved).unwrap();
    log.append(&refused("lost")).unwrap_err();
    fs::rename(&moved, &dir).unwrap();
    log.append(&refused("lost")).unwrap_err();
    drop(log);

    let (log, recovery) = open(&dir, &plain()).unwrap();
    assert_eq!((recovery.records, recovery.torn_bytes), (2, 0));
    log.append(&refused("next")).unwrap();
    assert_eq!(verify_with(&dir, &kept).unwrap().records, 4);
}
