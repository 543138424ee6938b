//! Content that its writer cannot read again: data keys, wrapped to auditors in age's format.
//!
//! A [`DataKey`] seals contents with ChaCha20-Poly1305 (RFC 8439) and leaves the memory of the
//! process when it is dropped. What stays is its wrapped form, a whole age file
//! (<https://age-encryption.org/v1>) that only an auditor's identity opens, with this module or
//! with `age -d -i`.
//!
//! Invariant: sealing allocates nothing and copies nothing; a content is sealed where it lies. The
//! nonce is four zero bytes and a counter, and whoever holds the key must give each counter once.
//! Absent: the counter, and what is in the associated data. Not wiped: the buffer through which
//! the age library passes a key while it wraps it.

use std::io::{Read, Write};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::key_file::KeyFileError;

mod keys;

pub use keys::{IDENTITIES_MAX, Identities, RECIPIENTS_MAX, Recipients};

/// Bytes that sealing adds to a content: the tag of Poly1305.
pub const SEAL_TAG_BYTES: usize = 16;

/// Longest wrapped key in bytes. One for [`RECIPIENTS_MAX`] recipients has under 8 KiB.
pub const WRAPPED_KEY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a data key.
const DATA_KEY_BYTES: usize = 32;

/// Bytes of a content's counter in the nonce.
const COUNTER_BYTES: usize = size_of::<u64>();

/// What went wrong with a data key, a sealed content, or a file of age keys.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SealError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A line is not what such a file holds. The line itself is not told: it can be a secret.
    #[error("line {line} of the {kind} is not a key: {problem}")]
    Line {
        /// Which sort of file.
        kind: &'static str,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// The file has no key.
    #[error("the {kind} hold no key; one line for each key is expected, beginning with {prefix}")]
    Empty {
        /// Which sort of file.
        kind: &'static str,
        /// How a key begins.
        prefix: &'static str,
    },
    /// The file has too many keys.
    #[error("the {kind} hold more than {max} keys; leave some out")]
    TooMany {
        /// Which sort of file.
        kind: &'static str,
        /// The bound.
        max: usize,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a key; nothing can be sealed without them")]
    Randomness,
    /// The key could not be wrapped.
    #[error("cannot wrap a data key to the auditors: {detail}")]
    Wrap {
        /// What the age library says.
        detail: String,
    },
    /// None of the identities belongs to a recipient of the wrapped key.
    #[error(
        "the data key is wrapped to none of the {identities} identities given; use the identity file of an auditor whose public key was configured when the log was written"
    )]
    NoIdentity {
        /// How many were tried.
        identities: usize,
    },
    /// The wrapped key is not a whole, unaltered age file.
    #[error("the wrapped data key does not open: {detail}")]
    Unwrap {
        /// What the age library says.
        detail: String,
    },
    /// The wrapped key is too long.
    #[error("the wrapped data key has {found} bytes, more than {max}")]
    WrappedLength {
        /// Its length in bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The age file opens, but does not hold a data key.
    #[error("the wrapped data key has not {DATA_KEY_BYTES} bytes inside")]
    KeyLength,
    /// ChaCha20-Poly1305 takes no content of this length.
    #[error("a content of {found} bytes cannot be sealed: it is too long for the cipher")]
    ContentLength {
        /// Its length in bytes.
        found: usize,
    },
    /// The content, its counter, its associated data or the key is not the one it was sealed with.
    #[error(
        "the sealed content does not open with this data key: it was altered, or belongs to another place or key"
    )]
    Forged,
}

/// A key that seals contents, wiped from memory when it is dropped.
pub struct DataKey {
    /// In one place on the heap, so that moving the key leaves no copy behind.
    bytes: Zeroizing<Vec<u8>>,
    cipher: LessSafeKey,
}

impl DataKey {
    /// A new random key.
    ///
    /// # Errors
    ///
    /// [`SealError::Randomness`].
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new(vec![0; DATA_KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError::Randomness)?;
        Self::from_bytes(bytes)
    }

    /// The key in a form that only the recipients can open: a binary age file.
    ///
    /// # Errors
    ///
    /// [`SealError::Wrap`].
    pub fn wrap(&self, recipients: &Recipients) -> Result<Vec<u8>, SealError> {
        let failed = |detail: String| SealError::Wrap { detail };
        let encryptor = age::Encryptor::with_recipients(recipients.as_age())
            .map_err(|error| failed(error.to_string()))?;
        let mut wrapped = Vec::new();
        let mut writer = encryptor
            .wrap_output(&mut wrapped)
            .map_err(|error| failed(error.to_string()))?;
        writer
            .write_all(&self.bytes)
            .and_then(|()| writer.finish())
            .map_err(|error| failed(error.to_string()))?;
        Ok(wrapped)
    }

    /// Opens what [`wrap`](Self::wrap) gave.
    ///
    /// # Errors
    ///
    /// [`SealError::NoIdentity`] if it is for others; [`SealError::WrappedLength`],
    /// [`SealError::Unwrap`] or [`SealError::KeyLength`] if it is damaged or something else.
    pub fn unwrap(wrapped: &[u8], identities: &Identities) -> Result<Self, SealError> {
        if wrapped.len() > WRAPPED_KEY_BYTES_MAX {
            return Err(SealError::WrappedLength {
                found: wrapped.len(),
                max: WRAPPED_KEY_BYTES_MAX,
            });
        }
        let failed = |detail: String| SealError::Unwrap { detail };
        let reader = age::Decryptor::new_buffered(wrapped)
            .and_then(|decryptor| decryptor.decrypt(identities.as_age()))
            .map_err(|error| match error {
                age::DecryptError::NoMatchingKeys => SealError::NoIdentity {
                    identities: identities.len(),
                },
                error => failed(error.to_string()),
            })?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(DATA_KEY_BYTES + 2));
        reader
            .take(DATA_KEY_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(error.to_string()))?;
        Self::from_bytes(bytes)
    }

    /// Seals all bytes of `content` where they lie and appends the tag.
    ///
    /// # Errors
    ///
    /// As for [`seal_from`](Self::seal_from).
    pub fn seal(&self, counter: u64, aad: &[u8], content: &mut Vec<u8>) -> Result<(), SealError> {
        self.seal_from(counter, aad, content, 0)
    }

    /// Seals the bytes of `buffer` from `begin` on where they lie and appends the tag of
    /// [`SEAL_TAG_BYTES`] bytes. Allocates only if the buffer has no room for the tag. No counter
    /// may be given twice to one key.
    ///
    /// # Errors
    ///
    /// [`SealError::ContentLength`] for a content of more than 256 GiB; the buffer's bytes are
    /// useless then.
    ///
    /// # Panics
    ///
    /// If `begin` is beyond the buffer's end.
    pub fn seal_from(
        &self,
        counter: u64,
        aad: &[u8],
        buffer: &mut Vec<u8>,
        begin: usize,
    ) -> Result<(), SealError> {
        let content = &mut buffer[begin..];
        let found = content.len();
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), content)
            .map_err(|_| SealError::ContentLength { found })?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens a sealed content, tag at its end, where it lies, and gives the part of it that is
    /// content.
    ///
    /// # Errors
    ///
    /// [`SealError::Forged`]; the buffer's bytes are useless then.
    pub fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], SealError> {
        self.cipher
            .open_in_place(nonce(counter), Aad::from(aad), sealed)
            .map_err(|_| SealError::Forged)
    }

    fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SealError> {
        // The library's own copy of the key is wiped by its allocator when it is freed.
        let cipher =
            UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealError::KeyLength)?;
        Ok(Self {
            bytes,
            cipher: LessSafeKey::new(cipher),
        })
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DataKey(secret)")
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - COUNTER_BYTES..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
