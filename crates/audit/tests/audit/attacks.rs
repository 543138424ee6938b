//! What somebody may do who can write the log's files: each attack is told with its place, on a
//! plaintext and on a sealed log.

use std::fs;
use std::path::Path;

use postern_audit::{
    AuditConfig, AuditLog, Checkpoint, Class, Reason, Witness, read, verify, verify_against,
};
use tempfile::TempDir;

use crate::fixtures::{
    broken, copy, frame_offsets, open, plain, record_offsets, refused, sample_with, sealed,
    segments, signed_ends, signing_key, unmade_key,
};
use crate::victim::{Victim, expire_frames, keys_of, own_key, pair, stranger, victim};

/// In the second segment: the first frame after what its opening wrote, two records, a checkpoint and
/// a signature.
const AFTER_OPENING: usize = 4;

/// One way to alter a log, and what a verifier says then.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    act: fn(&Victim),
    /// The segment that is named, and whether the reason is the right one.
    expected: (&'static str, fn(&Reason) -> bool),
}

impl Attack {
    /// The victim after the attack.
    pub(crate) fn on(&self, victim: Victim) -> Victim {
        (self.act)(&victim);
        victim
    }
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
