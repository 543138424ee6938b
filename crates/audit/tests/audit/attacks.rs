//! What somebody may do who can write the log's files: each attack is told with its place, on a
//! plaintext and on a sealed log.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::Timestamp;
use postern_audit::{
    AuditConfig, AuditLog, Checkpoint, Class, Reason, Receipt, SigningKey, Verified, VerifierKey,
    Witness, read, verify, verify_against,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fixtures::{
    admitted, broken, completed, copy, frame_offsets, open, plain, record_offsets, refused,
    sample_with, sealed, segments, signed_ends, signing_key, unmade_key,
};

const ORIGIN: &str = "postern";
/// In the second segment: the first frame after what its opening wrote, two records, a checkpoint and
/// a signature.
const AFTER_OPENING: usize = 4;

/// Segments of a few records, and a checkpoint after every three.
fn small(config: AuditConfig) -> AuditConfig {
    AuditConfig {
        segment_bytes_max: 6000,
        checkpoint_records: 3,
        ..config
    }
}

/// A log to be attacked.
pub(crate) struct Victim {
    pub(crate) dir: TempDir,
    config: AuditConfig,
    pub(crate) last: Receipt,
    /// What the log amounts to.
    pub(crate) whole: Verified,
}

pub(crate) fn victim(config: AuditConfig) -> Victim {
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

    pub(crate) fn last_segment(&self) -> PathBuf {
        segments(self.dir.path()).pop().unwrap()
    }

    pub(crate) fn last_number(&self) -> usize {
        self.whole.segments as usize - 1
    }

    fn signer(&self) -> VerifierKey {
        self.whole.signer.parse().unwrap()
    }

    /// Another log of the same shape.
    pub(crate) fn like_it(&self) -> TempDir {
        let other = TempDir::new().unwrap();
        sample_with(other.path(), &self.config);
        other
    }

    fn rewrite(&self, segment: usize, change: impl Fn(&mut Vec<u8>)) {
        let path = self.segment(segment);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Changes the row of frames and nothing within them.
    fn reframe(&self, segment: usize, change: impl Fn(&mut Vec<Vec<u8>>)) {
        self.rewrite(segment, |bytes| {
            let offsets = frame_offsets(bytes);
            let frames = offsets.windows(2);
            let mut frames = frames.map(|at| bytes[at[0]..at[1]].to_vec()).collect();
            change(&mut frames);
            bytes.truncate(offsets[0]);
            bytes.extend(frames.concat());
        });
    }

    /// Changes frames and computes all hashes after them anew.
    fn forge(
        &self,
        segment: usize,
        key: Option<&Ed25519KeyPair>,
        change: impl Fn(&mut Vec<Vec<u8>>),
    ) {
        self.rewrite(segment, |bytes| {
            let mut changed = bodies(bytes);
            change(&mut changed);
            *bytes = rechained(bytes, &changed, key);
        });
    }

    /// Body of a record that nobody wrote, and that would follow the log.
    fn invented(&self) -> Vec<u8> {
        let counter = if self.config.plaintext { 0 } else { u64::MAX };
        [
            &[1, 3][..],
            &self.whole.records.to_be_bytes(),
            &[0; 16],
            &u64::MAX.to_be_bytes(),
            &counter.to_be_bytes(),
            b"{}",
        ]
        .concat()
    }

    /// Writes another note in place of the last one.
    fn replace_last_note(&self, note: impl Fn(&Checkpoint) -> String) {
        self.forge(self.last_number(), None, |bodies| {
            let last = bodies.iter_mut().rfind(|body| body[0] == 2).unwrap();
            let text = String::from_utf8(last[17..].to_vec()).unwrap();
            let checkpoint = own_key().verifier().open(&text).unwrap();
            last.truncate(17);
            last.extend(note(&checkpoint).into_bytes());
        });
    }

    /// Changes the wrapped keys of a segment.
    fn rekey(&self, change: impl Fn(&mut Vec<Vec<u8>>)) {
        self.rewrite(1, |bytes| {
            let mut keys = keys_of(bytes);
            change(&mut keys);
            *bytes = with_keys(bytes, &keys);
        });
    }
}

impl Attack {
    /// The victim after the attack.
    pub(crate) fn on(&self, victim: Victim) -> Victim {
        (self.act)(&victim);
        victim
    }
}

/// One way to alter a log, and what a verifier says then.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    act: fn(&Victim),
    /// The segment that is named, and whether the reason is the right one.
    expected: (&'static str, fn(&Reason) -> bool),
}

/// An attack whose every step needs nothing but the files.
const fn attack(
    name: &'static str,
    act: fn(&Victim),
    segment: &'static str,
    is_expected: fn(&Reason) -> bool,
) -> Attack {
    Attack {
        name,
        act,
        expected: (segment, is_expected),
    }
}

pub(crate) const ATTACKS: [Attack; 24] = [
    attack(
        "byte-flipped",
        |victim| {
            victim.rewrite(1, |bytes| {
                let first = frame_offsets(bytes)[0];
                bytes[first + 60] ^= 1;
            });
        },
        "00000001.seg",
        is_hash,
    ),
    attack(
        "record-deleted",
        |victim| victim.reframe(1, |frames| drop(frames.remove(0))),
        "00000001.seg",
        is_hash,
    ),
    attack(
        "records-swapped",
        |victim| victim.reframe(1, |frames| frames.swap(0, 1)),
        "00000001.seg",
        is_hash,
    ),
    attack(
        "record-repeated",
        |victim| victim.reframe(1, |frames| frames.insert(1, frames[0].clone())),
        "00000001.seg",
        is_hash,
    ),
    attack(
        "record-inserted",
        |victim| {
            let other = victim.like_it();
            let bytes = fs::read(&segments(other.path())[0]).unwrap();
            let offsets = frame_offsets(&bytes);
            let frame = bytes[offsets[0]..offsets[1]].to_vec();
            victim.reframe(1, |frames| frames.insert(1, frame.clone()));
        },
        "00000001.seg",
        is_hash,
    ),
    attack(
        "record-altered-and-hashed-anew",
        |victim| {
            victim.forge(1, None, |bodies| {
                *bodies[AFTER_OPENING].last_mut().unwrap() ^= 1
            })
        },
        "00000001.seg",
        |reason| *reason == Reason::Signature,
    ),
    attack(
        "record-altered-and-signed-with-another-key",
        |victim| {
            let key = pair("forged.key");
            victim.forge(1, Some(&key), |bodies| {
                *bodies[AFTER_OPENING].last_mut().unwrap() ^= 1
            });
        },
        "00000001.seg",
        |reason| *reason == Reason::Signature,
    ),
    attack(
        "record-added-and-signed-with-another-key",
        |victim| {
            let key = pair("forged.key");
            victim.forge(victim.last_number(), Some(&key), |bodies| {
                let signature = bodies.last().unwrap().clone();
                bodies.extend([victim.invented(), signature]);
            });
        },
        "last",
        |reason| *reason == Reason::Signature,
    ),
    attack(
        "signatures-left-out-of-a-segment",
        |victim| victim.forge(1, None, |bodies| bodies.retain(|body| body[0] != 4)),
        "00000001.seg",
        |reason| *reason == Reason::NotSigned,
    ),
    attack(
        "last-segment-cut-to-its-header",
        |victim| {
            victim.rewrite(victim.last_number(), |bytes| {
                bytes.truncate(frame_offsets(bytes)[0]);
            });
        },
        "last",
        |reason| *reason == Reason::NotSigned,
    ),
    attack(
        "tail-cut-below-the-checkpoint",
        |victim| {
            victim.rewrite(victim.last_number(), |bytes| {
                let record = *record_offsets(bytes).last().unwrap();
                let mut ends = signed_ends(bytes).into_iter();
                bytes.truncate(ends.rfind(|&end| end <= record).unwrap());
            });
        },
        "last",
        |reason| matches!(reason, Reason::CutOff { .. }),
    ),
    attack(
        "last-segment-removed",
        |victim| fs::remove_file(victim.last_segment()).unwrap(),
        "one before",
        |reason| matches!(reason, Reason::CutOff { .. }),
    ),
    attack(
        "segment-replaced-by-an-older-copy",
        |victim| {
            victim.rewrite(1, |bytes| bytes.truncate(signed_ends(bytes)[1]));
        },
        "00000002.seg",
        |reason| matches!(reason, Reason::FirstIndex { .. }),
    ),
    attack(
        "checkpoint-removed",
        |victim| {
            victim.reframe(1, |frames| {
                let checkpoint = frames.iter().position(|frame| frame[8] == 2);
                frames.remove(checkpoint.unwrap());
            });
        },
        "00000001.seg",
        is_hash,
    ),
    attack(
        "segment-removed",
        |victim| fs::remove_file(victim.segment(1)).unwrap(),
        "00000001.seg",
        |reason| *reason == Reason::SegmentMissing,
    ),
    attack(
        "two-devices-spliced",
        |victim| {
            let other = victim.like_it();
            fs::copy(&segments(other.path())[1], victim.segment(1)).unwrap();
        },
        "00000001.seg",
        |reason| matches!(reason, Reason::PreviousHead { .. }),
    ),
    attack(
        "header-of-another-device",
        |victim| {
            let other = victim.like_it();
            fs::copy(&segments(other.path())[0], victim.segment(0)).unwrap();
        },
        "00000001.seg",
        |reason| matches!(reason, Reason::PreviousHead { .. }),
    ),
    attack(
        "checkpoint-forged-with-another-key",
        |victim| victim.replace_last_note(|checkpoint| stranger("forged.key").sign(checkpoint)),
        "last",
        |reason| matches!(reason, Reason::Checkpoint { .. }),
    ),
    attack(
        "checkpoint-signed-over-another-root",
        |victim| {
            victim.replace_last_note(|checkpoint| {
                own_key().sign(&Checkpoint {
                    root: [7; 32],
                    ..checkpoint.clone()
                })
            });
        },
        "last",
        |reason| matches!(reason, Reason::CheckpointRoot { .. }),
    ),
    attack(
        "checkpoint-signed-over-fewer-records",
        |victim| {
            victim.replace_last_note(|checkpoint| {
                own_key().sign(&Checkpoint {
                    size: checkpoint.size - 1,
                    ..checkpoint.clone()
                })
            });
        },
        "last",
        |reason| matches!(reason, Reason::CheckpointPlace { .. }),
    ),
    attack(
        "content-taken-out-as-if-it-had-expired",
        |victim| victim.rewrite(0, expire_frames),
        "00000000.seg",
        |reason| {
            matches!(
                reason,
                Reason::ExpiredUnrecorded { .. } | Reason::ExpiredPartly { .. }
            )
        },
    ),
    attack(
        "wrapped-keys-of-two-classes-swapped",
        |victim| victim.rekey(|keys| keys.swap(0, 1)),
        "00000001.seg",
        |reason| matches!(reason, Reason::WrappedKey { .. }),
    ),
    attack(
        "wrapped-key-of-another-segment",
        |victim| {
            let other = keys_of(&fs::read(victim.segment(0)).unwrap());
            victim.rekey(|keys| keys[1].clone_from(&other[1]));
        },
        "00000001.seg",
        |reason| {
            matches!(
                reason,
                Reason::WrappedKey {
                    class: Class::Calls
                }
            )
        },
    ),
    attack(
        "wrapped-key-destroyed",
        |victim| victim.rekey(|keys| keys[1].clear()),
        "00000001.seg",
        |reason| {
            matches!(
                reason,
                Reason::ExpiredPartly {
                    class: Class::Calls
                }
            )
        },
    ),
];

fn is_hash(reason: &Reason) -> bool {
    matches!(reason, Reason::RecordHash { .. })
}

#[test]
fn attacks_on_the_files_are_told_with_their_place() {
    for config in [plain(), sealed()] {
        let is_sealed = !config.plaintext;
        for attack in &ATTACKS {
            if !is_sealed && attack.name.starts_with("wrapped-key") {
                continue;
            }
            let victim = attack.on(victim(config.clone()));
            let place = broken(verify(victim.dir.path()));
            let told = format!("{} (sealed: {is_sealed}): {place:?}", attack.name);
            let (segment, is_expected) = attack.expected;
            let named = match segment {
                "last" => victim.last_number(),
                "one before" => segments(victim.dir.path()).len() - 1,
                segment => segment[..8].parse().unwrap(),
            };
            let named = format!("{named:08}.seg");
            assert_eq!(place.file.file_name().unwrap(), &*named, "{told}");
            assert!(is_expected(&place.reason), "{told}");
            let reopened = open(victim.dir.path(), &victim.config);
            assert_eq!(broken(reopened).reason, place.reason, "{told}");
        }
    }
}

/// Whoever can write the files can add to them; but nobody signed that.
#[test]
fn records_that_nobody_signed_are_no_part_of_the_log() {
    for config in [plain(), sealed()] {
        let victim = victim(config);
        let (last, index) = (victim.last_number(), victim.whole.records);
        let length = fs::metadata(victim.last_segment()).unwrap().len();
        victim.forge(last, None, |bodies| bodies.push(victim.invented()));
        let added = fs::metadata(victim.last_segment()).unwrap().len() - length;
        let place = broken(verify(victim.dir.path()));
        assert_eq!((place.offset, place.index), (length, index));
        assert_eq!(place.reason, Reason::TornTail { bytes: added });
        let handed_out = read(victim.dir.path()).unwrap().filter(Result::is_ok);
        assert_eq!(handed_out.count() as u64, index);

        let (log, recovery) = open(victim.dir.path(), &victim.config).unwrap();
        assert_eq!((recovery.torn_bytes, recovery.records), (added, index));
        drop(log);
        let verified = verify(victim.dir.path()).unwrap();
        assert_eq!(verified.records, index + 1, "only that the log was opened");
    }
}

#[test]
fn a_tail_that_was_cut_shows_to_every_witness() {
    for config in [plain(), sealed()] {
        let victim = victim(config);
        let path = victim.last_segment();
        let bytes = fs::read(&path).unwrap();
        let checkpoint = victim.whole.checkpoint.clone().unwrap().note;
        let witnessed = |witness: Witness| verify_against(victim.dir.path(), &witness);
        // Whoever cuts the log can take the checkpoint beside it away, too.
        fs::remove_file(victim.dir.path().join("checkpoint")).unwrap();
        for end in signed_ends(&bytes) {
            fs::write(&path, &bytes[..end]).unwrap();
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
                let is_whole = end == bytes.len();
                assert_eq!(found.after_checkpoint == 0, is_whole, "it says so");
                of_checkpoint.unwrap();
                of_receipt.unwrap();
                continue;
            }
            let place = broken(of_checkpoint);
            let expected = victim.whole.records;
            assert_eq!(place.reason, Reason::CheckpointMissing { expected });
            assert_eq!(place.offset, end as u64);
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

/// The raw pair of a key, which signs whatever one likes.
fn pair(name: &str) -> Ed25519KeyPair {
    let seed = fs::read(signing_key(name)).unwrap();
    Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

/// The frames' bodies.
fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
    let offsets = frame_offsets(bytes);
    let frames = offsets.windows(2);
    frames
        .map(|frame| bytes[frame[0] + 8..frame[1] - 32].to_vec())
        .collect()
}

/// The segment with other frames: the chain is computed anew, and signatures are made anew if there
/// is a key.
fn rechained(bytes: &[u8], bodies: &[Vec<u8>], key: Option<&Ed25519KeyPair>) -> Vec<u8> {
    let begin = frame_offsets(bytes)[0];
    let mut rebuilt = bytes[..begin].to_vec();
    let mut head = bytes[begin - 32..begin].to_vec();
    for body in bodies {
        let mut body = body.clone();
        if let (4, Some(key)) = (body[0], key) {
            let message = [b"postern-audit/signature/v2\0", &head[..]].concat();
            body.splice(1.., key.sign(&message).as_ref().iter().copied());
        }
        head = sha256(&[b"postern-audit/frame/v2\0", &head, &digest(&body)]);
        let length = body.len() as u32;
        rebuilt.extend(length.to_be_bytes());
        rebuilt.extend((!length).to_be_bytes());
        rebuilt.extend(&body);
        rebuilt.extend(&head);
    }
    rebuilt
}

fn digest(body: &[u8]) -> Vec<u8> {
    match body[0] {
        2 => sha256(&[&[2], body]),
        4 => sha256(&[&[3], body]),
        _ => sha256(&[&[0, 1], &body[1..42], &sha256(&[&body[42..]])]),
    }
}

/// Puts a digest in place of each content of a segment, which leaves all heads as they are.
fn expire_frames(bytes: &mut Vec<u8>) {
    let offsets = frame_offsets(bytes);
    let records = record_offsets(bytes);
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
    *bytes = rebuilt;
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
