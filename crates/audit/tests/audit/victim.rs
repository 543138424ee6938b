//! A log to be attacked, and the means of somebody who can write its files.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::signature::Ed25519KeyPair;
use postern_audit::{AuditConfig, Checkpoint, Receipt, SigningKey, Verified, VerifierKey, verify};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::fixtures::{frame_offsets, record_offsets, sample_with, segments, signing_key};

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
pub(crate) struct Victim {
    pub(crate) dir: TempDir,
    pub(crate) config: AuditConfig,
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
    pub(crate) fn segment(&self, number: usize) -> PathBuf {
        segments(self.dir.path())[number].clone()
    }

    pub(crate) fn last_segment(&self) -> PathBuf {
        segments(self.dir.path()).pop().unwrap()
    }

    pub(crate) fn last_number(&self) -> usize {
        self.whole.segments as usize - 1
    }

    pub(crate) fn signer(&self) -> VerifierKey {
        self.whole.signer.parse().unwrap()
    }

    /// Another log of the same shape.
    pub(crate) fn like_it(&self) -> TempDir {
        let other = TempDir::new().unwrap();
        sample_with(other.path(), &self.config);
        other
    }

    pub(crate) fn rewrite(&self, segment: usize, change: impl Fn(&mut Vec<u8>)) {
        let path = self.segment(segment);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Changes the row of frames and nothing within them.
    pub(crate) fn reframe(&self, segment: usize, change: impl Fn(&mut Vec<Vec<u8>>)) {
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
    pub(crate) fn forge(
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
    pub(crate) fn invented(&self) -> Vec<u8> {
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
    pub(crate) fn replace_last_note(&self, note: impl Fn(&Checkpoint) -> String) {
        self.forge(self.last_number(), None, |bodies| {
            let last = bodies.iter_mut().rfind(|body| body[0] == 2).unwrap();
            let text = String::from_utf8(last[17..].to_vec()).unwrap();
            let checkpoint = own_key().verifier().open(&text).unwrap();
            last.truncate(17);
            last.extend(note(&checkpoint).into_bytes());
        });
    }

    /// Changes the wrapped keys of a segment.
    pub(crate) fn rekey(&self, change: impl Fn(&mut Vec<Vec<u8>>)) {
        self.rewrite(1, |bytes| {
            let mut keys = keys_of(bytes);
            change(&mut keys);
            *bytes = with_keys(bytes, &keys);
        });
    }
}

pub(crate) fn stranger(name: &str) -> SigningKey {
    SigningKey::load(&signing_key(name), ORIGIN.parse().unwrap()).unwrap()
}

/// As if somebody who has the device's key forged with it.
pub(crate) fn own_key() -> SigningKey {
    SigningKey::load(&signing_key("signing.key"), ORIGIN.parse().unwrap()).unwrap()
}

/// The raw pair of a key, which signs whatever one likes.
pub(crate) fn pair(name: &str) -> Ed25519KeyPair {
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
pub(crate) fn expire_frames(bytes: &mut Vec<u8>) {
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
pub(crate) fn keys_of(bytes: &[u8]) -> Vec<Vec<u8>> {
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
