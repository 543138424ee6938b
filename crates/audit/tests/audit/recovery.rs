//! Opening after a crash: torn tails, unfinished calls, and a recovery that was itself cut off.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use postern_audit::{Content, Cut, Entry, Reason, read, verify};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, broken, completed, copy, frame_offsets, open, plain, record_offsets, refused, sample,
    segments, signed_ends, small_segments, uncheckpointed,
};

fn cuts(dir: &Path) -> Vec<Cut> {
    read(dir)
        .unwrap()
        .filter_map(|record| match record.unwrap().content {
            Content::Entry(Entry::Opened { cut, .. }) => cut,
            _ => None,
        })
        .collect()
}

/// A log whose last segment holds an admitted call and then these bytes.
fn torn(tail: impl FnOnce(&[u8]) -> Vec<u8>) -> (TempDir, u64, Vec<u8>) {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    log.append(&admitted("call", "")).unwrap();
    drop(log);
    uncheckpointed(dir.path());
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let whole = bytes.len();
    let frame = record_offsets(&bytes)[1];
    let next = frame_offsets(&bytes).into_iter().find(|&at| at > frame);
    let tail = tail(&bytes[frame..next.unwrap()]);
    bytes.extend_from_slice(&tail);
    fs::write(path, bytes).unwrap();
    (dir, whole as u64, tail)
}

#[test]
fn torn_tails_are_told_cut_and_recorded() {
    let cut_frame = |length: usize| move |frame: &[u8]| frame[..length].to_vec();
    check_torn(cut_frame(1));
    check_torn(cut_frame(4));
    check_torn(cut_frame(7));
    check_torn(cut_frame(8));
    check_torn(cut_frame(9));
    check_torn(|frame| frame[..frame.len() - 32].to_vec());
    check_torn(|frame| frame[..frame.len() - 1].to_vec());
    // Blocks that were allocated but never written.
    check_torn(|_| vec![0; 1]);
    check_torn(|_| vec![0; 8]);
    check_torn(|_| vec![0; 9000]);
    check_torn(|frame| {
        let mut unwritten = frame.to_vec();
        unwritten[100..].fill(0);
        unwritten.extend([0; 5000]);
        unwritten
    });
}

fn check_torn(tail: impl FnOnce(&[u8]) -> Vec<u8>) {
    let (dir, offset, tail) = torn(tail);
    let place = broken(verify(dir.path()));
    let bytes = tail.len() as u64;
    assert_eq!((place.offset, place.index), (offset, 2));
    assert_eq!(place.reason, Reason::TornTail { bytes });
    assert_eq!(
        broken(read(dir.path()).unwrap().collect::<Result<Vec<_>, _>>()).index,
        2
    );

    let (log, recovery) = open(dir.path(), &plain()).unwrap();
    assert_eq!(recovery.torn_bytes, bytes);
    assert_eq!(recovery.interrupted, [1]);
    assert_eq!(recovery.records, 2);
    let receipt = log.append(&refused("next")).unwrap();
    assert_eq!(receipt.index, 4, "opened, call, opened, interrupted, next");
    drop(log);
    verify(dir.path()).unwrap();
    let cuts = cuts(dir.path());
    assert_eq!(cuts.len(), 1);
    assert_eq!(
        (cuts[0].segment, cuts[0].offset, cuts[0].bytes),
        (0, offset, bytes)
    );
    assert_eq!(cuts[0].sha256, sha256(&tail));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn what_no_broken_write_leaves_is_refused() {
    let whole_with_wrong_hash = |frame: &[u8]| frame.to_vec();
    check_refused(whole_with_wrong_hash);
    check_refused(|_| b"not a record at all".to_vec());
    check_refused(|_| [vec![0; 500], vec![1]].concat());
    check_refused(|_| [u32::MAX.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    check_refused(|_| [0_u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat());
    check_refused(|frame| {
        let mut hole = frame.to_vec();
        hole[20..200].fill(0);
        hole
    });
}

fn check_refused(tail: impl FnOnce(&[u8]) -> Vec<u8>) {
    let (dir, offset, _) = torn(tail);
    let path = &segments(dir.path())[0];
    let before = fs::read(path).unwrap();
    let place = broken(verify(dir.path()));
    assert_eq!((&place.file, place.offset, place.index), (path, offset, 2));
    assert!(
        !matches!(place.reason, Reason::TornTail { .. }),
        "{place:?}"
    );
    assert_eq!(broken(open(dir.path(), &plain())).reason, place.reason);
    assert_eq!(fs::read(path).unwrap(), before);
    assert_eq!(segments(dir.path()).len(), 1);
}

/// A log whose last write is a record, as a kill would leave it.
struct Unclosed {
    dir: TempDir,
    /// Of the last segment.
    name: OsString,
    bytes: Vec<u8>,
    /// Where the last write begins.
    whole: usize,
    /// Index of the record in it.
    last: u64,
}

fn unclosed() -> Unclosed {
    let dir = TempDir::new().unwrap();
    let last = sample(dir.path()).index;
    uncheckpointed(dir.path());
    let path = segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let signed = signed_ends(&bytes);
    Unclosed {
        name: path.file_name().unwrap().to_owned(),
        whole: signed[signed.len() - 2],
        dir,
        bytes,
        last,
    }
}

#[test]
fn a_last_write_that_is_zero_from_anywhere_on_is_recovered() {
    // Fewer zeros can stand at the end of a hash by chance.
    const ZEROS_MIN: usize = 8;
    let Unclosed {
        dir,
        name,
        bytes,
        whole,
        last,
    } = unclosed();
    for written in whole..=bytes.len() - ZEROS_MIN {
        let copy = copy(dir.path());
        let mut unwritten = bytes.clone();
        unwritten[written..].fill(0);
        fs::write(copy.path().join(&name), &unwritten).unwrap();
        let (_, recovery) = open(copy.path(), &small_segments()).unwrap();
        assert_eq!(recovery.torn_bytes, (bytes.len() - whole) as u64);
        assert_eq!(recovery.records, last);
        verify(copy.path()).unwrap();
    }
}

#[test]
fn a_signature_that_ends_with_zeros_of_its_own_counts_before_others() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &plain()).unwrap();
    let path = segments(dir.path()).pop().unwrap();
    let mut records = 1;
    let bytes = loop {
        log.append(&refused("one")).unwrap();
        records += 1;
        let bytes = fs::read(&path).unwrap();
        if bytes.ends_with(&[0]) {
            break bytes;
        }
    };
    let copy = copy(dir.path());
    let unwritten = [&bytes[..], &[0; 4096]].concat();
    fs::write(copy.path().join(path.file_name().unwrap()), unwritten).unwrap();
    let (_, recovery) = open(copy.path(), &plain()).unwrap();
    assert_eq!(
        (recovery.records, recovery.torn_bytes),
        (records, 4096),
        "no record is lost"
    );
    verify(copy.path()).unwrap();
}

#[test]
fn a_cut_anywhere_within_the_last_write_is_recovered() {
    let Unclosed {
        dir,
        name,
        bytes,
        whole,
        last,
    } = unclosed();
    for length in (whole + 1..bytes.len()).step_by(5) {
        let copy = copy(dir.path());
        fs::write(copy.path().join(&name), &bytes[..length]).unwrap();
        let (_, recovery) = open(copy.path(), &small_segments()).unwrap();
        assert_eq!(recovery.torn_bytes, (length - whole) as u64);
        assert_eq!(recovery.records, last);
        verify(copy.path()).unwrap();
    }
}

#[test]
fn unfinished_calls_are_closed_once_across_restarts() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(dir.path(), &small_segments()).unwrap();
    let first = log.append(&admitted("first", "")).unwrap();
    let second = log.append(&admitted("second", "")).unwrap();
    for turn in 0..10 {
        log.append(&refused(&format!("turn-{turn}"))).unwrap();
    }
    let third = log.append(&admitted("third", "")).unwrap();
    log.append(&completed("second", second.index)).unwrap();
    drop(log);
    assert!(
        segments(dir.path()).len() > 1,
        "the calls stand in earlier segments"
    );

    let (log, recovery) = open(dir.path(), &small_segments()).unwrap();
    assert_eq!(recovery.interrupted, [first.index, third.index]);
    assert!(log.append(&completed("first", first.index)).is_err());
    let again = log.append(&admitted("first", "again")).unwrap();
    drop(log);
    let (_log, recovery) = open(dir.path(), &small_segments()).unwrap();
    assert_eq!(
        recovery.interrupted,
        [again.index],
        "only the new call of that id"
    );

    let closed: Vec<(String, u64)> = read(dir.path())
        .unwrap()
        .filter_map(|record| match record.unwrap().content {
            Content::Entry(Entry::Interrupted {
                request_id,
                admitted_index,
            }) => Some((request_id, admitted_index)),
            _ => None,
        })
        .collect();
    assert_eq!(closed[0], ("first".to_owned(), first.index));
    assert_eq!(closed[1], ("third".to_owned(), third.index));
    assert_eq!(closed.len(), 3);
}

/// The states in which a crash can leave a recovery that found a torn tail: what is staged, and
/// whether the tail was cut already.
#[test]
fn a_recovery_that_was_cut_off_is_finished_or_done_again() {
    let (dir, offset, tail) = torn(|frame| frame[..50].to_vec());
    let done = copy(dir.path());
    drop(open(done.path(), &plain()).unwrap());
    let staged = fs::read(&segments(done.path())[1]).unwrap();

    for (staged, is_cut) in [
        (&staged[..0], false),
        (&staged[..10], false),
        (&staged[..staged.len() - 1], false),
        (&b"garbage"[..], false),
        (&staged[..], false),
        (&staged[..], true),
    ] {
        let crashed = copy(dir.path());
        fs::write(crashed.path().join("segment.new"), staged).unwrap();
        if is_cut {
            let path = &segments(crashed.path())[0];
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..offset as usize]).unwrap();
        }
        let (_log, recovery) = open(crashed.path(), &plain()).unwrap();
        assert_eq!(recovery.torn_bytes, tail.len() as u64);
        assert_eq!(recovery.interrupted, [1]);
        verify(crashed.path()).unwrap();
        let cuts = cuts(crashed.path());
        assert_eq!(cuts.len(), 1, "the cut is recorded once");
        assert_eq!(cuts[0].bytes, tail.len() as u64);
        assert!(!crashed.path().join("segment.new").exists());
    }
}
