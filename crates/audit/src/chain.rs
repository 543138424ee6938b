//! The hash chain: what binds every stored byte to all bytes before it.
//!
//! Invariant: hashes over headers, records, other frames and chain links can never be confused, since
//! each begins with its own prefix. A record's link covers its leaf hash, and the leaf covers the
//! content by its digest alone: so content can be destroyed one day while chain and tree still
//! verify, and what the clear part says stays proven. The leaf hash is that of RFC 6962, section 2.1,
//! over those bytes. Absent: keys. Whoever can write the files can compute a new chain, but
//! not the signatures in it, which `signature` makes.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::clear::{CLEAR_BYTES, KIND_RECORD};
use crate::merkle::{Hash, leaf_hash};

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;
/// Bytes of what a leaf is the hash of: the clear part and the content's digest.
pub(crate) const LEAF_BYTES: usize = CLEAR_BYTES + HASH_BYTES;

const CHECKPOINT_PREFIX: &[u8] = &[2];
const SIGNATURE_PREFIX: &[u8] = &[3];
const SEGMENT_PREFIX: &[u8] = b"postern-audit/segment/v2\0";
const FRAME_PREFIX: &[u8] = b"postern-audit/frame/v2\0";

/// The chain's hash at one place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) Hash);

impl Head {
    /// The head before the first segment.
    pub(crate) const GENESIS: Self = Self([0; HASH_BYTES]);

    /// Head after a frame with this digest: a record's leaf hash, or that of another frame's body.
    pub(crate) fn after(&self, digest: &Hash) -> Self {
        Self(sha256(&[FRAME_PREFIX, &self.0, digest]))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

/// Head after a segment's header; `header` is everything from the magic to the header's body.
pub(crate) fn segment_head(header: &[u8]) -> Head {
    Head(sha256(&[SEGMENT_PREFIX, header]))
}

/// Leaf hash of a record, of which content only the digest need be known. The first byte of the
/// clear part counts as that of a record with content, whatever became of it.
pub(crate) fn record_leaf(clear: &[u8; CLEAR_BYTES], content_digest: &Hash) -> Hash {
    let mut leaf = [0; LEAF_BYTES];
    leaf[..CLEAR_BYTES].copy_from_slice(clear);
    leaf[0] = KIND_RECORD;
    leaf[CLEAR_BYTES..].copy_from_slice(content_digest);
    leaf_hash(&leaf)
}

/// Digest of a record's stored content.
pub(crate) fn content_digest(content: &[u8]) -> Hash {
    sha256(&[content])
}

/// Digest of the body of a checkpoint's frame.
pub(crate) fn checkpoint_digest(body: &[u8]) -> Hash {
    sha256(&[CHECKPOINT_PREFIX, body])
}

/// Digest of the body of a signature's frame.
pub(crate) fn signature_digest(body: &[u8]) -> Hash {
    sha256(&[SIGNATURE_PREFIX, body])
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads a hash from lower-case hex.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    let mut hash = [0; HASH_BYTES];
    if digits.len() != 2 * HASH_BYTES {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
