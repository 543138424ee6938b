//! What somebody may do who can write the log's files: each attack is told with its place, on a
//! plaintext and on a sealed log.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use postern_audit::{
    AuditConfig, AuditLog, Checkpoint, Class, Reason, Receipt, SigningKey, Verified, VerifierKey,
    Witness, verify, verify_against,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, broken, completed, copy, frame_offsets, open, plain, record_offsets, refused,
    sample_with, sealed, segments, signing_key, unmade_key,
};

const ORIGIN: &str = "postern";

/// Segments of a few records, and a checkpoint after every three.
fn small(config: AuditConfig) -> AuditConfig {
    AuditConfig {
        segment_bytes_max: 6000,
        checkpoint_records: 3,
        ..config
    }
}

/// A log to be attacked.
struct Victim {
    dir: TempDir,
    config: AuditConfig,
    last: Receipt,
    /// What the log amounts to.
    whole: Verified,
}

fn victim(config: AuditConfig) -> Victim {
    let dir = TempDir::new().unwrap();
    let config = small(config);
    let last = sample_with(dir.path(), &config);
    let whole = verify(dir.path()).unwrap();
    assert_eq!(whole.after_checkpoint, 0);
    Victim {
        dir,
        config,
        last,
        whole,
    }
}

impl Victim {
    fn segment(&self, number: usize) -> PathBuf {
        segments(self.dir.path())[number].clone()
    }

    fn last_segment(&self) -> PathBuf {
        segments(self.dir.path()).pop().unwrap()
    }

    fn signer(&self) -> VerifierKey {
        self.whole.signer.parse().unwrap()
    }
}

/// What an attack leads to: which segment is named, and why.
type Expectation = (&'static str, fn(&Reason) -> bool);

struct Attack {
    name: &'static str,
    act: fn(&Victim),
    expected: Expectation,
}

const ATTACKS: [Attack; 9] = [
    Attack {
        name: "segment-replaced-by-an-older-copy",
        act: |victim| {
            let path = victim.segment(1);
            let bytes = fs::read(&path).unwrap();
            let older = frame_offsets(&bytes)[3];
            fs::write(path, &bytes[..older]).unwrap();
        },
        expected: ("00000002.seg", |reason| {
            matches!(reason, Reason::FirstIndex { .. })
        }),
    },
    Attack {
        name: "checkpoint-removed",
        act: |victim| remove_frame(&victim.segment(1), 2),
        expected: ("00000001.seg", |reason| {
            matches!(reason, Reason::RecordHash { .. })
        }),
    },
    Attack {
        name: "segment-removed",
        act: |victim| fs::remove_file(victim.segment(1)).unwrap(),
        expected: ("00000001.seg", |reason| *reason == Reason::SegmentMissing),
    },
    Attack {
        name: "two-devices-spliced",
        act: |victim| {
            let other = TempDir::new().unwrap();
            sample_with(other.path(), &victim.config);
            fs::copy(&segments(other.path())[1], victim.segment(1)).unwrap();
        },
        expected: ("00000001.seg", |reason| {
            matches!(reason, Reason::PreviousHead { .. })
        }),
    },
    Attack {
        name: "header-of-another-device",
        act: |victim| {
            let other = TempDir::new().unwrap();
            sample_with(other.path(), &victim.config);
            fs::copy(&segments(other.path())[0], victim.segment(0)).unwrap();
        },
        expected: ("00000001.seg", |reason| {
            matches!(reason, Reason::PreviousHead { .. })
        }),
    },
    Attack {
        name: "checkpoint-forged-with-another-key",
        act: |victim| {
            replace_last_note(&victim.last_segment(), |checkpoint| {
                stranger("forged.key").sign(checkpoint)
            });
        },
        expected: ("last", |reason| matches!(reason, Reason::Checkpoint { .. })),
    },
    Attack {
        name: "checkpoint-signed-over-another-root",
        act: |victim| {
            replace_last_note(&victim.last_segment(), |checkpoint| {
                own_key().sign(&Checkpoint {
                    root: [7; 32],
                    ..checkpoint.clone()
                })
            });
        },
        expected: ("last", |reason| {
            matches!(reason, Reason::CheckpointRoot { .. })
        }),
    },
    Attack {
        name: "checkpoint-signed-over-fewer-records",
        act: |victim| {
            replace_last_note(&victim.last_segment(), |checkpoint| {
                own_key().sign(&Checkpoint {
                    size: checkpoint.size - 1,
                    ..checkpoint.clone()
                })
            });
        },
        expected: ("last", |reason| {
            matches!(reason, Reason::CheckpointPlace { .. })
        }),
    },
    Attack {
        name: "content-taken-out-as-if-it-had-expired",
        act: |victim| expire_frames(&victim.segment(0)),
        expected: ("00000000.seg", |reason| {
            matches!(
                reason,
                Reason::ExpiredUnrecorded { .. } | Reason::ExpiredPartly { .. }
            )
        }),
    },
];

#[test]
fn attacks_on_the_files_are_told_with_their_place() {
    for config in [plain(), sealed()] {
        let is_sealed = !config.plaintext;
        for attack in &ATTACKS {
            let victim = victim(config.clone());
            (attack.act)(&victim);
            let place = broken(verify(victim.dir.path()));
            let told = format!("{} (sealed: {is_sealed}): {place:?}", attack.name);
            let (segment, is_expected) = attack.expected;
            let last = victim.last_segment();
            let named = match segment {
                "last" => last.file_name().unwrap(),
                segment => segment.as_ref(),
            };
            assert_eq!(place.file.file_name().unwrap(), named, "{told}");
            assert!(is_expected(&place.reason), "{told}");
            let reopened = open(victim.dir.path(), &victim.config);
            assert_eq!(broken(reopened).reason, place.reason, "{told}");
        }
    }
}

#[test]
fn swapped_and_destroyed_keys_are_told() {
    let swap_classes: fn(&Victim) = |victim| {
        let path = victim.segment(1);
        let bytes = fs::read(&path).unwrap();
        let mut keys = keys_of(&bytes);
        keys.swap(0, 1);
        fs::write(path, with_keys(&bytes, &keys)).unwrap();
    };
    let swap_segments: fn(&Victim) = |victim| {
        let other = keys_of(&fs::read(victim.segment(0)).unwrap());
        let path = victim.segment(1);
        let bytes = fs::read(&path).unwrap();
        let mut keys = keys_of(&bytes);
        keys[1].clone_from(&other[1]);
        fs::write(path, with_keys(&bytes, &keys)).unwrap();
    };
    let destroy: fn(&Victim) = |victim| {
        let path = victim.segment(1);
        let bytes = fs::read(&path).unwrap();
        let mut keys = keys_of(&bytes);
        keys[1].clear();
        fs::write(path, with_keys(&bytes, &keys)).unwrap();
    };
    let expected = |class| Reason::WrappedKey { class };
    for (act, expected) in [
        (swap_classes, expected(Class::Administration)),
        (swap_segments, expected(Class::Calls)),
        (
            destroy,
            Reason::ExpiredPartly {
                class: Class::Calls,
            },
        ),
    ] {
        let victim = victim(sealed());
        act(&victim);
        let place = broken(verify(victim.dir.path()));
        assert_eq!(place.file, victim.segment(1));
        assert_eq!(place.reason, expected, "{place:?}");
    }
}

#[test]
fn a_tail_that_was_cut_shows_to_every_witness() {
    for config in [plain(), sealed()] {
        let victim = victim(config);
        let path = victim.last_segment();
        let bytes = fs::read(&path).unwrap();
        let frames = frame_offsets(&bytes);
        let checkpoint = victim.whole.checkpoint.clone().unwrap().note;
        let witnessed = |witness: Witness| verify_against(victim.dir.path(), &witness);
        for cut in 1..frames.len() {
            fs::write(&path, &bytes[..frames[cut]]).unwrap();
            let found = verify(victim.dir.path()).unwrap();
            let missing = victim.whole.records - found.records;
            let of_checkpoint = witnessed(Witness {
                checkpoints: vec![checkpoint.clone()],
                ..Witness::default()
            });
            let of_receipt = witnessed(Witness {
                receipts: vec![victim.last.clone()],
                ..Witness::default()
            });
            if missing == 0 {
                let whole = frames[cut] == bytes.len();
                assert_eq!(
                    found.after_checkpoint == 0,
                    whole,
                    "an end without checkpoint"
                );
                of_checkpoint.unwrap();
                of_receipt.unwrap();
                continue;
            }
            let place = broken(of_checkpoint);
            let expected = victim.whole.records;
            assert_eq!(place.reason, Reason::CheckpointMissing { expected });
            assert_eq!(place.offset, frames[cut] as u64);
            let expected = victim.last.index;
            assert_eq!(
                broken(of_receipt).reason,
                Reason::ReceiptMissing { expected }
            );
        }
    }
}

#[test]
fn another_continuation_of_the_same_log_contradicts_a_checkpoint() {
    let victim = victim(sealed());
    let fork = copy(victim.dir.path());
    let grow = |dir: &Path, request_id: &str| {
        let (log, _) = AuditLog::open(dir, &victim.config).unwrap();
        for _ in 0..3 {
            log.append(&refused(request_id)).unwrap();
        }
        log.checkpoint().unwrap()
    };
    let checkpoint = grow(victim.dir.path(), "told");
    grow(fork.path(), "made-up");
    let witness = Witness {
        checkpoints: vec![checkpoint],
        signer: Some(victim.signer()),
        ..Witness::default()
    };
    verify_against(victim.dir.path(), &witness).unwrap();
    let place = broken(verify_against(fork.path(), &witness));
    assert!(
        matches!(place.reason, Reason::CheckpointRoot { .. }),
        "{place:?}"
    );
}

#[test]
fn a_history_made_anew_with_another_key_shows_to_who_has_the_signers_key() {
    let victim = victim(sealed());
    let forged = TempDir::new().unwrap();
    let config = AuditConfig {
        signing_key: Some(signing_key("forger.key")),
        ..victim.config.clone()
    };
    sample_with(forged.path(), &config);
    verify(forged.path()).unwrap();
    let witness = Witness {
        signer: Some(victim.signer()),
        ..Witness::default()
    };
    let place = broken(verify_against(forged.path(), &witness));
    assert_eq!((place.offset, place.index), (0, 0));
    assert!(matches!(place.reason, Reason::Signer { .. }), "{place:?}");
}

#[test]
fn a_clock_that_was_rolled_back_is_told_with_its_place() {
    let dir = TempDir::new().unwrap();
    let at = |second: i64| move || Timestamp::from_second(second).unwrap();
    let (log, _) = AuditLog::open_with_clock(dir.path(), &plain(), at(5000)).unwrap();
    let call = log.append(&admitted("call", "")).unwrap();
    log.append(&completed("call", call.index)).unwrap();
    drop(log);
    let (log, _) = AuditLog::open_with_clock(dir.path(), &plain(), at(2000)).unwrap();
    log.append(&refused("later")).unwrap();
    drop(log);
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.clock_steps_total, 1);
    let step = verified.clock_steps[0];
    let second = fs::read(&segments(dir.path())[1]).unwrap();
    let offset = frame_offsets(&second)[0] as u64;
    assert_eq!((step.segment, step.offset, step.index), (1, offset, 3));
    assert_eq!(step.back_us, 3_000_000_000);
}

#[test]
fn a_log_is_not_continued_under_another_key_or_name() {
    let victim = victim(plain());
    let before = segments(victim.dir.path());
    let other_key = AuditConfig {
        signing_key: Some(signing_key("replaced.key")),
        ..victim.config.clone()
    };
    let other_name = AuditConfig {
        origin: "another-device".to_owned(),
        ..victim.config.clone()
    };
    for config in [other_key, other_name] {
        let error = AuditLog::open(victim.dir.path(), &config).unwrap_err();
        let is_told = matches!(error, postern_audit::AuditError::OtherSigner { .. });
        assert!(is_told, "{error:?}");
    }
    let lost = AuditConfig {
        signing_key: Some(unmade_key("never-made.key")),
        ..victim.config.clone()
    };
    let error = AuditLog::open(victim.dir.path(), &lost).unwrap_err();
    let is_told = matches!(error, postern_audit::AuditError::SigningKey { .. });
    assert!(is_told, "{error:?}");
    assert!(!unmade_key("never-made.key").exists());
    assert_eq!(segments(victim.dir.path()), before);
}

fn stranger(name: &str) -> SigningKey {
    SigningKey::load(&signing_key(name), ORIGIN.parse().unwrap()).unwrap()
}

/// As if somebody who has the device's key forged with it.
fn own_key() -> SigningKey {
    SigningKey::load(&signing_key("signing.key"), ORIGIN.parse().unwrap()).unwrap()
}

fn remove_frame(path: &Path, frame: usize) {
    let bytes = fs::read(path).unwrap();
    let offsets = frame_offsets(&bytes);
    let rest = [&bytes[..offsets[frame]], &bytes[offsets[frame + 1]..]].concat();
    fs::write(path, rest).unwrap();
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn frame(head_before: &[u8], body: &[u8], digest: &[u8]) -> Vec<u8> {
    let length = body.len() as u32;
    let head = sha256(&[b"postern-audit/frame/v2\0", head_before, digest]);
    let lengths = [length.to_be_bytes(), (!length).to_be_bytes()].concat();
    [&lengths, body, &head].concat()
}

/// Writes another note in place of the last one and computes its head anew.
fn replace_last_note(path: &Path, note: impl Fn(&Checkpoint) -> String) {
    let mut bytes = fs::read(path).unwrap();
    let offsets = frame_offsets(&bytes);
    let at = offsets[offsets.len() - 2];
    let end = bytes.len() - 32;
    let text = String::from_utf8(bytes[at + 25..end].to_vec()).unwrap();
    let checkpoint = own_key().verifier().open(&text).unwrap();
    let body = [&bytes[at + 8..at + 25], note(&checkpoint).as_bytes()].concat();
    let forged = frame(&bytes[at - 32..at], &body, &sha256(&[&[2], &body]));
    bytes.truncate(at);
    bytes.extend(forged);
    fs::write(path, bytes).unwrap();
}

/// Puts a digest in place of each content of a segment, which leaves all heads as they are.
fn expire_frames(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let offsets = frame_offsets(&bytes);
    let records = record_offsets(&bytes);
    let mut rebuilt = bytes[..offsets[0]].to_vec();
    for window in offsets.windows(2) {
        let (at, end) = (window[0], window[1]);
        if !records.contains(&at) {
            rebuilt.extend(&bytes[at..end]);
            continue;
        }
        let clear = &bytes[at + 8..at + 50];
        let digest = sha256(&[&bytes[at + 50..end - 32]]);
        let body = [&[3], &clear[1..], &digest].concat();
        let lengths = [74_u32.to_be_bytes(), (!74_u32).to_be_bytes()].concat();
        rebuilt.extend([&lengths, &body, &bytes[end - 32..end]].concat());
    }
    fs::write(path, rebuilt).unwrap();
}

/// Appends a record that nobody signed: that the content of a class of segment 1 has expired.
fn forge_expiry(path: &Path, index: u64, class: u64) {
    let mut bytes = fs::read(path).unwrap();
    let offsets = frame_offsets(&bytes);
    let records = record_offsets(&bytes);
    let newest = *records.last().unwrap();
    // Its clocks are those of the record before.
    let clocks = &bytes[newest + 18..newest + 34];
    let subject = (class << 32) + 1;
    let clear = [
        &[1, 7],
        &index.to_be_bytes()[..],
        clocks,
        &subject.to_be_bytes(),
        &0_u64.to_be_bytes(),
    ]
    .concat();
    let content = b"{}";
    let leaf = sha256(&[&[0], &clear, &sha256(&[content])]);
    let body = [&clear[..], content].concat();
    let end = *offsets.last().unwrap();
    let forged = frame(&bytes[end - 32..end], &body, &leaf);
    bytes.extend(forged);
    fs::write(path, bytes).unwrap();
}

#[test]
fn destroyed_content_is_not_explained_by_records_that_nobody_signed() {
    let victim = victim(plain());
    let records = victim.whole.records;
    expire_frames(&victim.segment(1));
    for class in 0..3 {
        forge_expiry(&victim.last_segment(), records + class, class);
    }
    let place = broken(verify(victim.dir.path()));
    assert!(
        matches!(place.reason, Reason::ExpiredUnrecorded { segment: 1, .. }),
        "{place:?}"
    );
    let reopened = open(victim.dir.path(), &victim.config);
    assert_eq!(broken(reopened).reason, place.reason);
}

/// Where the key area of a segment begins.
fn key_area(bytes: &[u8]) -> usize {
    20 + u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize
}

/// The wrapped keys of a segment, in the order of their classes.
fn keys_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let area = key_area(bytes);
    let header: serde_json::Value = serde_json::from_slice(&bytes[16..area - 4]).unwrap();
    let mut at = area + 3;
    ["administration", "calls", "refusals"]
        .iter()
        .map(|class| {
            let begin = at;
            at += header["keys"][class]["bytes"].as_u64().unwrap() as usize;
            bytes[begin..at].to_vec()
        })
        .collect()
}

/// The segment with other keys in its key area; an empty one counts as destroyed.
fn with_keys(bytes: &[u8], keys: &[Vec<u8>]) -> Vec<u8> {
    let area = key_area(bytes);
    let length = u32::from_be_bytes(bytes[area - 4..area].try_into().unwrap()) as usize;
    let flags: Vec<u8> = keys.iter().map(|key| u8::from(!key.is_empty())).collect();
    let new_area = [flags, keys.concat()].concat();
    let mut rebuilt = bytes[..area - 4].to_vec();
    rebuilt.extend((new_area.len() as u32).to_be_bytes());
    rebuilt.extend(new_area);
    rebuilt.extend(&bytes[area + length..]);
    rebuilt
}
