//! Every way to alter a log that its files can show, told with its place; and none repaired.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use postern_audit::{AuditConfig, AuditError, Reason, Receipt, verify, verify_with};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tempfile::TempDir;

use crate::fixtures::{
    broken, copy, frame_offsets, open, record_offsets, sample, sample_with, sealed, segments,
    signed_ends, small_segments,
};

#[test]
fn every_flipped_byte_is_found_with_its_place() {
    check_flipped_bytes(&small_segments());
    check_flipped_bytes(&AuditConfig {
        segment_bytes_max: 6000,
        ..sealed()
    });
}

fn check_flipped_bytes(config: &AuditConfig) {
    let dir = TempDir::new().unwrap();
    sample_with(dir.path(), config);
    let whole = verify(dir.path()).unwrap();
    for path in segments(dir.path()) {
        let original = fs::read(&path).unwrap();
        let offsets = frame_offsets(&original);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for (at, byte) in original.iter().enumerate() {
            let flipped = byte ^ (1 << (at % 8));
            file.write_all_at(&[flipped], at as u64).unwrap();
            let place = broken(verify(dir.path()));
            let frame = offsets.iter().rfind(|&&offset| offset <= at).unwrap_or(&0);
            assert_eq!(
                (&place.file, place.offset),
                (&path, *frame as u64),
                "{place:?}"
            );
            assert!(
                !matches!(place.reason, Reason::TornTail { .. }),
                "byte {at}: a flipped byte is no torn write: {place:?}"
            );
            if at % 61 == 0 {
                let reason = broken(open(dir.path(), config)).reason;
                assert_eq!(reason, place.reason, "and is not repaired");
                assert_eq!(fs::read(&path).unwrap()[at], flipped);
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
    }
    assert_eq!(verify(dir.path()).unwrap(), whole);
}

#[test]
fn a_cut_within_an_earlier_segment_is_found() {
    let dir = TempDir::new().unwrap();
    sample(dir.path());
    let paths = segments(dir.path());
    let original = fs::read(&paths[1]).unwrap();
    let offsets = frame_offsets(&original);
    let signed = signed_ends(&original);
    for length in 0..original.len() {
        fs::write(&paths[1], &original[..length]).unwrap();
        let place = broken(verify(dir.path()));
        let (file, is_expected) = if signed.contains(&length) {
            let follows = matches!(
                place.reason,
                // Without the checkpoint that ends the segment, only its head is another.
                Reason::FirstIndex { .. } | Reason::PreviousHead { .. }
            );
            (&paths[2], follows)
        } else if offsets.contains(&length) {
            (&paths[1], place.reason == Reason::NotSigned)
        } else {
            let ends_within = matches!(place.reason, Reason::EndsWithin { .. });
            (&paths[1], ends_within)
        };
        assert_eq!(&place.file, file, "{place:?}");
        assert!(is_expected, "{place:?}");
    }
}

#[test]
fn whole_records_cut_from_the_end_show_only_to_a_witness() {
    let dir = TempDir::new().unwrap();
    let last = sample(dir.path());
    verify_with(dir.path(), &last).unwrap();
    let paths = segments(dir.path());
    let path = paths.last().unwrap();
    let bytes = fs::read(path).unwrap();
    let last_record = *record_offsets(&bytes).last().unwrap();
    let mut signed = signed_ends(&bytes).into_iter();
    let cut_at = signed.rfind(|&end| end <= last_record).unwrap();
    fs::write(path, &bytes[..cut_at]).unwrap();
    let kept = dir.path().join("checkpoint");
    let place = broken(verify(dir.path()));
    assert_eq!(
        place.reason,
        Reason::CutOff {
            kept: last.index + 1
        }
    );
    fs::remove_file(kept).unwrap();

    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.records, last.index);
    let place = broken(verify_with(dir.path(), &last));
    assert_eq!((place.offset, place.index), (cut_at as u64, last.index));
    assert_eq!(
        place.reason,
        Reason::ReceiptMissing {
            expected: last.index
        }
    );

    let forged = Receipt {
        index: 1,
        checkpoint: String::new(),
        ..last
    };
    let place = broken(verify_with(dir.path(), &forged));
    assert_eq!((&place.file, place.index), (&paths[0], 1));
    assert!(matches!(place.reason, Reason::ReceiptHead { .. }));
}

/// Rebuilds the second segment of a plaintext and of a sealed log from its header and frames.
fn check_frames(rebuild: impl Fn(&mut Vec<Vec<u8>>), expected_frame: usize) {
    let larger = AuditConfig {
        segment_bytes_max: 6000,
        ..sealed()
    };
    for config in [small_segments(), larger] {
        check_rebuilt(&config, &rebuild, expected_frame);
    }
}

fn check_rebuilt(
    config: &AuditConfig,
    rebuild: &impl Fn(&mut Vec<Vec<u8>>),
    expected_frame: usize,
) {
    let dir = TempDir::new().unwrap();
    sample_with(dir.path(), config);
    let path = &segments(dir.path())[1];
    let bytes = fs::read(path).unwrap();
    let offsets = frame_offsets(&bytes);
    let mut frames: Vec<Vec<u8>> = offsets
        .windows(2)
        .map(|w| bytes[w[0]..w[1]].to_vec())
        .collect();
    rebuild(&mut frames);
    let mut rebuilt = bytes[..offsets[0]].to_vec();
    rebuilt.extend(frames.concat());
    fs::write(path, rebuilt).unwrap();
    let place = broken(verify(dir.path()));
    assert_eq!(
        (&place.file, place.offset),
        (path, offsets[expected_frame] as u64)
    );
    assert!(
        matches!(place.reason, Reason::RecordHash { .. }),
        "{place:?}"
    );
    broken(open(dir.path(), config));
}

#[test]
fn records_deleted_swapped_repeated_or_inserted_are_found() {
    check_frames(|frames| drop(frames.remove(1)), 1);
    check_frames(|frames| frames.swap(1, 2), 1);
    check_frames(|frames| frames.insert(2, frames[1].clone()), 2);
    check_frames(
        |frames| {
            let other = TempDir::new().unwrap();
            sample(other.path());
            let bytes = fs::read(&segments(other.path())[0]).unwrap();
            let offsets = frame_offsets(&bytes);
            frames.insert(1, bytes[offsets[0]..offsets[1]].to_vec());
        },
        1,
    );
}

/// Alters the files of a sample log and tells the number of the segment that verify names.
fn check_files(alter: impl Fn(&Path), segment: &str, is_expected: impl Fn(&Reason) -> bool) {
    let dir = TempDir::new().unwrap();
    sample(dir.path());
    alter(dir.path());
    for place in [
        broken(verify(dir.path())),
        broken(open(dir.path(), &small_segments())),
    ] {
        assert_eq!(place.file.file_name().unwrap(), segment, "{place:?}");
        assert!(is_expected(&place.reason), "{place:?}");
    }
}

#[test]
fn altered_segment_files_are_found() {
    let file = |dir: &Path, number: usize| dir.join(format!("{number:08}.seg"));
    check_files(
        |dir| fs::remove_file(file(dir, 0)).unwrap(),
        "00000000.seg",
        |reason| *reason == Reason::SegmentMissing,
    );
    check_files(
        |dir| fs::remove_file(file(dir, 1)).unwrap(),
        "00000001.seg",
        |reason| *reason == Reason::SegmentMissing,
    );
    check_files(
        |dir| {
            let last = segments(dir).len() - 1;
            fs::copy(file(dir, last), file(dir, last + 2)).unwrap();
            fs::copy(file(dir, last), file(dir, last + 1)).unwrap();
        },
        "00000005.seg",
        |reason| {
            matches!(
                reason,
                Reason::SegmentNumber {
                    expected: 5,
                    found: 4
                }
            )
        },
    );
    check_files(
        |dir| {
            fs::rename(file(dir, 1), file(dir, 9)).unwrap();
            fs::rename(file(dir, 2), file(dir, 1)).unwrap();
            fs::rename(file(dir, 9), file(dir, 2)).unwrap();
        },
        "00000001.seg",
        |reason| matches!(reason, Reason::SegmentNumber { .. }),
    );
    check_files(
        |dir| fs::copy(file(dir, 0), dir.join("0.seg")).map(drop).unwrap(),
        "0.seg",
        |reason| *reason == Reason::SegmentName,
    );
    check_files(
        |dir| {
            fs::rename(file(dir, 1), dir.join("elsewhere")).unwrap();
            symlink(dir.join("elsewhere"), file(dir, 1)).unwrap();
        },
        "00000001.seg",
        |reason| *reason == Reason::NotAFile,
    );
    check_files(
        |dir| {
            fs::remove_file(file(dir, 1)).unwrap();
            fs::create_dir(file(dir, 1)).unwrap();
        },
        "00000001.seg",
        |reason| *reason == Reason::NotAFile,
    );
    check_files(
        |dir| {
            let other = TempDir::new().unwrap();
            let (log, _) = open(other.path(), &small_segments()).unwrap();
            log.append(&crate::fixtures::refused("elsewhere")).unwrap();
            drop(log);
            fs::copy(file(other.path(), 0), file(dir, 0)).unwrap();
        },
        "00000001.seg",
        |reason| matches!(reason, Reason::PreviousHead { .. }),
    );
    check_files(
        |dir| {
            let mut bytes = fs::read(file(dir, 1)).unwrap();
            bytes[11] = 1;
            fs::write(file(dir, 1), bytes).unwrap();
        },
        "00000001.seg",
        |reason| {
            matches!(reason, Reason::Version { found: 1, known: 2 })
                && reason.to_string().contains("move the log's folder away")
        },
    );
}

/// One change to the bytes of a segment; places are taken modulo the file's length.
#[derive(Clone, Debug)]
enum Mutation {
    Overwrite(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Zero(usize, usize),
    Truncate(usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len().max(1);
        let range = |at: &usize, count: &usize| {
            let from = (at % length).min(bytes.len());
            from..(from + count).min(bytes.len())
        };
        match self {
            Self::Overwrite(at, new) => {
                let range = range(at, &new.len());
                let count = range.len();
                bytes[range].copy_from_slice(&new[..count]);
            }
            Self::Insert(at, new) => {
                let from = range(at, &0).start;
                bytes.splice(from..from, new.iter().copied());
            }
            Self::Remove(at, count) => drop(bytes.drain(range(at, count))),
            Self::Repeat(at, count) => {
                let range = range(at, count);
                let copied = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, copied);
            }
            Self::Zero(at, count) => {
                let range = range(at, count);
                bytes[range].fill(0);
            }
            Self::Truncate(at) => bytes.truncate(range(at, &0).start),
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    let count = 1..2000_usize;
    let some_bytes = prop::collection::vec(any::<u8>(), 1..12);
    prop_oneof![
        (place.clone(), some_bytes.clone()).prop_map(|(at, new)| Mutation::Overwrite(at, new)),
        (place.clone(), some_bytes).prop_map(|(at, new)| Mutation::Insert(at, new)),
        (place.clone(), count.clone()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (place.clone(), count.clone()).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        (place.clone(), count).prop_map(|(at, count)| Mutation::Zero(at, count)),
        place.prop_map(Mutation::Truncate),
    ]
}

/// Whether the bytes are the log's own, cut back to one of its signatures: which only a checkpoint
/// can tell, the one beside it or one elsewhere.
fn is_whole_shorter(original: &[u8], mutated: &[u8]) -> bool {
    original.starts_with(mutated) && signed_ends(original).contains(&mutated.len())
}

#[test]
fn random_mutations_of_a_plaintext_log_are_found() {
    check_random_mutations(&small_segments());
}

#[test]
fn random_mutations_of_a_sealed_log_are_found() {
    check_random_mutations(&AuditConfig {
        segment_bytes_max: 8000,
        ..sealed()
    });
}

/// Half of the ten thousand mutations.
fn check_random_mutations(log_config: &AuditConfig) {
    let dir = TempDir::new().unwrap();
    let last = sample_with(dir.path(), log_config);
    let paths = segments(dir.path());
    let originals: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let config = ProptestConfig {
        cases: 5000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    };
    let cases = (
        0..paths.len(),
        prop::collection::vec(mutation(), 1..4),
        0..40_u32,
    );
    proptest!(config, |((number, mutations, turn) in cases)| {
        let original = &originals[number];
        let mut mutated = original.clone();
        for mutation in &mutations {
            mutation.apply(&mut mutated);
        }
        prop_assume!(mutated != *original);
        replace(&paths[number], &mutated);
        let found = verify(dir.path());
        let witnessed = verify_with(dir.path(), &last);
        let reopened = (turn == 0).then(|| reopen_a_copy(dir.path(), log_config));
        replace(&paths[number], original);

        let is_last = number + 1 == paths.len();
        // Without the checkpoint that a clean close ends it with, a log is whole and says so.
        let is_unclosed = found.as_ref().is_ok_and(|found| found.after_checkpoint > 0);
        prop_assert!(is_unclosed || witnessed.is_err());
        match &found {
            Ok(_) => prop_assert!(is_last && is_whole_shorter(original, &mutated)),
            Err(AuditError::Broken { reason: Reason::TornTail { .. }, .. }) => {
                prop_assert!(is_last);
            }
            Err(AuditError::Broken { .. }) => {
                prop_assert!(reopened.is_none_or(|reopened| !reopened), "never repaired");
                return Ok(());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        prop_assert!(reopened.is_none_or(|reopened| reopened), "a torn tail is cut");
    });
}

/// Writes a file anew. Overwriting it would make some file systems wait for the disk.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Whether a copy of the log can be opened; if so it must verify.
fn reopen_a_copy(dir: &Path, config: &AuditConfig) -> bool {
    let copy = copy(dir);
    let reopened = open(copy.path(), config).is_ok();
    assert!(!reopened || verify(copy.path()).is_ok());
    reopened
}
