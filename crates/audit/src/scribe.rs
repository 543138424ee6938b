//! Makes headers, records and checkpoints: everything that is sealed, hashed or signed.
//!
//! Invariant: no two contents are sealed under one key with one counter, whatever becomes of them:
//! each segment has keys of its own, and a counter that only goes up, also after a failed write.
//! The keys leave memory with the segment, so nothing that was written can be read here again.
//! Absent: files; what may be written, which `writer` and `recovery` decide.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::chain::{checkpoint_digest, content_digest, hex, record_leaf, signature_digest};
use crate::checkpoint::{Checkpoint, SigningKey};
use crate::clear::{CLEAR_BYTES, Clear, KIND_CHECKPOINT, KIND_SIGNATURE, Subject};
use crate::clock::monotonic_us;
use crate::config::AuditConfig;
use crate::content::associated_data;
use crate::error::AuditError;
use crate::header::Tip;
use crate::kind::{CLASSES, Class, EntryType};
use crate::merkle::Hash;
use crate::scan::CHECKPOINT_PREFIX_BYTES;
use crate::seal::{DataKey, Recipients, SEAL_TAG_BYTES, SealError};
use crate::segment::{FRAME_BYTES, Header, KeyArea, WrappedKey, encode_frame, encode_header};
use crate::signature::sign;

/// Most bytes of a record's body that are not the entry's.
pub(crate) const ENVELOPE_BYTES: usize = CLEAR_BYTES + SEAL_TAG_BYTES;

/// Bytes of a checkpoint's note beside the origin, which it has twice: 20 digits of its size, 44 of
/// its root, 92 of its signature, a dash, and what stands between.
const NOTE_BYTES_MAX: usize = 20 + 44 + 92 + 3 + 8;
const BOOT_BYTES: usize = 16;

/// The writer's clock.
pub(crate) type Clock = Box<dyn Fn() -> Timestamp + Send>;

/// One entry, ready to be sealed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) entry_type: EntryType,
    pub(crate) subject: Subject,
    /// The entry as canonical JSON.
    pub(crate) json: String,
}

/// A record that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) leaf: Hash,
    pub(crate) class: Class,
    pub(crate) wall_us: i64,
    /// Length of its frame.
    pub(crate) bytes: u64,
}

/// Who writes, seals and signs.
pub(crate) struct Scribe {
    signing: SigningKey,
    /// `None` for a plaintext log.
    recipients: Option<Recipients>,
    boot: String,
    clock: Clock,
}

/// What the records of one segment are sealed with.
pub(crate) struct Sealer {
    segment: u32,
    /// `None` in a plaintext segment.
    keys: Option<[DataKey; CLASSES]>,
    counter: u64,
}

impl Scribe {
    pub(crate) fn new(
        config: &AuditConfig,
        signing: SigningKey,
        clock: Clock,
    ) -> Result<Self, AuditError> {
        let recipients = if config.plaintext {
            None
        } else {
            let parsed = Recipients::parse(&config.recipients.join("\n"));
            Some(parsed.map_err(|error| AuditError::Recipients {
                detail: error.to_string(),
            })?)
        };
        let mut boot = [0; BOOT_BYTES];
        aws_lc_rs::rand::fill(&mut boot).map_err(|_| seal_error(&SealError::Randomness))?;
        Ok(Self {
            signing,
            recipients,
            boot: hex(&boot),
            clock,
        })
    }

    /// The key that checks what is signed here.
    pub(crate) fn signer(&self) -> String {
        self.signing.verifier().to_string()
    }

    /// A whole header of a segment that follows `tip`, and what its records are sealed with. `tip`
    /// goes on after it.
    pub(crate) fn begin_segment(
        &self,
        segment: u32,
        tip: &mut Tip,
    ) -> Result<(Vec<u8>, Sealer), AuditError> {
        let (keys, area) = match &self.recipients {
            Some(recipients) => {
                let (keys, area) = wrapped_keys(recipients).map_err(|error| seal_error(&error))?;
                (Some(keys), Some(area))
            }
            None => (None, None),
        };
        let named = area.as_ref().map(|area| {
            let named = |class: Class| (class, WrappedKey::of(&area[class.place()]));
            Class::ALL
                .map(named)
                .into_iter()
                .collect::<BTreeMap<_, _>>()
        });
        let (header, head) = encode_header(
            &Header {
                boot: self.boot.clone(),
                first_index: tip.index(),
                keys: named,
                origin: self.signing.name().to_string(),
                previous_head: tip.head.to_string(),
                segment,
                signer: self.signer(),
                tree: tip.tree_before(),
            },
            area.as_ref(),
        );
        tip.head = head;
        let sealer = Sealer {
            segment,
            keys,
            counter: 0,
        };
        Ok((header, sealer))
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Appends the frame of the next record to `out` and moves `tip` after it.
    pub(crate) fn record(
        &self,
        sealer: &mut Sealer,
        tip: &mut Tip,
        draft: &Draft,
        out: &mut Vec<u8>,
    ) -> Result<Written, AuditError> {
        let clear = Clear {
            entry_type: draft.entry_type,
            index: tip.index(),
            wall_us: self.now().as_microsecond(),
            monotonic_us: monotonic_us(),
            subject: draft.subject,
            counter: sealer.next_counter(),
        };
        let bytes = clear.encode();
        let mut body = Vec::with_capacity(ENVELOPE_BYTES + draft.json.len());
        body.extend_from_slice(&bytes);
        body.extend_from_slice(draft.json.as_bytes());
        sealer
            .seal(&clear, &bytes, &mut body)
            .map_err(|error| seal_error(&error))?;
        let leaf = record_leaf(&bytes, &content_digest(&body[CLEAR_BYTES..]));
        tip.head = encode_frame(out, &tip.head, &body, &leaf);
        tip.tree.push(leaf);
        Ok(Written {
            leaf,
            class: draft.entry_type.class(),
            wall_us: clear.wall_us,
            bytes: (FRAME_BYTES + body.len()) as u64,
        })
    }

    /// Appends the frame of a checkpoint over all records so far to `out`, moves `tip` after it,
    /// and gives its note.
    pub(crate) fn checkpoint(&self, tip: &mut Tip, out: &mut Vec<u8>) -> String {
        let note = self.signing.sign(&Checkpoint {
            origin: self.signing.name().clone(),
            size: tip.tree.size(),
            root: tip.tree.root(),
        });
        let mut body = vec![KIND_CHECKPOINT];
        body.extend_from_slice(&self.now().as_microsecond().to_be_bytes());
        body.extend_from_slice(&monotonic_us().to_be_bytes());
        body.extend_from_slice(note.as_bytes());
        tip.head = encode_frame(out, &tip.head, &body, &checkpoint_digest(&body));
        note
    }

    /// Appends the frame that signs everything up to `tip` to `out`, and moves `tip` after it. Each
    /// write ends with one.
    pub(crate) fn sign(&self, tip: &mut Tip, out: &mut Vec<u8>) {
        let mut body = vec![KIND_SIGNATURE];
        body.extend_from_slice(&sign(&self.signing, &tip.head));
        tip.head = encode_frame(out, &tip.head, &body, &signature_digest(&body));
    }

    /// Most bytes of a checkpoint's frame.
    pub(crate) fn checkpoint_bytes_max(&self) -> u64 {
        let note = 2 * self.signing.name().as_str().len() + NOTE_BYTES_MAX;
        (FRAME_BYTES + CHECKPOINT_PREFIX_BYTES + note) as u64
    }
}

impl Sealer {
    fn next_counter(&mut self) -> u64 {
        if self.keys.is_none() {
            return 0;
        }
        self.counter += 1;
        self.counter
    }

    fn seal(
        &self,
        clear: &Clear,
        bytes: &[u8; CLEAR_BYTES],
        body: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let key = &keys[clear.entry_type.class().place()];
        let associated = associated_data(self.segment, bytes);
        key.seal_from(clear.counter, &associated, body, CLEAR_BYTES)
    }
}

/// Bytes of a record's frame at most.
pub(crate) fn frame_bytes_max(draft: &Draft) -> u64 {
    (FRAME_BYTES + ENVELOPE_BYTES + draft.json.len()) as u64
}

fn wrapped_keys(recipients: &Recipients) -> Result<([DataKey; CLASSES], KeyArea), SealError> {
    let mut area = KeyArea::default();
    let mut wrap = |class: Class| -> Result<DataKey, SealError> {
        let key = DataKey::generate()?;
        area[class.place()] = key.wrap(recipients)?;
        Ok(key)
    };
    let [first, second, third] = Class::ALL;
    let keys = [wrap(first)?, wrap(second)?, wrap(third)?];
    Ok((keys, area))
}

fn seal_error(error: &SealError) -> AuditError {
    AuditError::Seal {
        detail: error.to_string(),
    }
}
