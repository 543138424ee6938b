//! The hash chain: what binds every stored byte to all bytes before it.
//!
//! Invariant: hashes over headers, record bodies and chain links can never be confused, since each
//! begins with its own prefix. A record's link covers only its leaf hash, so that a body can be
//! destroyed one day while the chain still verifies; the leaf hash is that of RFC 6962, section
//! 2.1, so that a Merkle tree can be built over the same records. Absent: keys. Whoever can write
//! the files can compute a new chain; only a head that was kept elsewhere shows that.

use std::fmt;

use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;

const LEAF_PREFIX: &[u8] = &[0];
const SEGMENT_PREFIX: &[u8] = b"postern-audit/segment/v1\0";
const RECORD_PREFIX: &[u8] = b"postern-audit/record/v1\0";

/// The chain's hash at one place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) [u8; HASH_BYTES]);

impl Head {
    /// The head before the first segment.
    pub(crate) const GENESIS: Self = Self([0; HASH_BYTES]);
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

/// Head after a record with this body.
pub(crate) fn record_head(previous: &Head, body: &[u8]) -> Head {
    let leaf = sha256(&[LEAF_PREFIX, body]);
    Head(sha256(&[RECORD_PREFIX, &previous.0, &leaf]))
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

fn sha256(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_is_that_of_rfc_6962() {
        let leaf_of_nothing = hex(&sha256(&[LEAF_PREFIX, b""]));
        assert_eq!(
            leaf_of_nothing,
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }
}
