//! Signatures over the chain: each write ends with one, so nothing in a log is only hashed.
//!
//! Invariant: what is signed is the head before the frame, which covers every byte of the log up to
//! there; so the last signature of a log vouches for all of it, and those before it need not be
//! checked but to find the place of a fault. A key also signs checkpoints, whose text never begins
//! as this does. Absent: where such a frame has to stand, which `scan` judges.

use crate::chain::{HASH_BYTES, Head};
use crate::checkpoint::{SigningKey, VerifierKey};
use crate::segment::FRAME_BYTES;

/// Bytes of an Ed25519 signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// Bytes of the body of a signature's frame: kind and signature.
pub(crate) const SIGNATURE_BODY_BYTES: usize = 1 + SIGNATURE_BYTES;
/// Bytes of the whole frame.
pub(crate) const SIGNATURE_FRAME_BYTES: usize = FRAME_BYTES + SIGNATURE_BODY_BYTES;

const HEAD_PREFIX: &[u8] = b"postern-audit/signature/v2\0";
const MESSAGE_BYTES: usize = HEAD_PREFIX.len() + HASH_BYTES;

/// Signs everything up to this head.
pub(crate) fn sign(key: &SigningKey, head: &Head) -> [u8; SIGNATURE_BYTES] {
    key.sign_bytes(&message(head))
}

/// Whether the key signed everything up to this head.
pub(crate) fn is_signed(key: &VerifierKey, head: &Head, signature: &[u8; SIGNATURE_BYTES]) -> bool {
    key.has_signed(&message(head), signature)
}

fn message(head: &Head) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[..HEAD_PREFIX.len()].copy_from_slice(HEAD_PREFIX);
    message[HEAD_PREFIX.len()..].copy_from_slice(&head.0);
    message
}
