//! Signed notes (<https://c2sp.org/signed-note>): a text, an empty line, and a line for each
//! signature.
//!
//! Invariant: the text of a note is given only after a signature of a known key over it was
//! verified, and no signature of that key failed. Absent: types of keys other than Ed25519, whose
//! signatures are passed over.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// Longest note in bytes. A note with sixteen post-quantum signatures, which every reader should
/// accept, stays below.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Most signatures of a note, as in the Go implementation.
pub const NOTE_SIGNATURES_MAX: usize = 100;
/// Longest name of a key in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 256;

/// Bytes of an Ed25519 public key.
pub(super) const PUBLIC_KEY_BYTES: usize = 32;

/// How a signature line begins: an em dash and a space.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// Signature type of Ed25519.
const ED25519_TYPE: u8 = 1;
/// Bytes of a key's id, before the signature itself.
const KEY_ID_BYTES: usize = 4;

/// Why a note, a checkpoint or the text form of a key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note is too long to be looked at.
    #[error("the note has {found} bytes, more than {max}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The note has too many signatures.
    #[error("the note has more than {max} signatures")]
    TooManySignatures {
        /// The bound.
        max: usize,
    },
    /// The note has a character that notes must not have.
    #[error(
        "line {line} of the note holds the control character {character:?}; notes are plain lines that end in a line feed"
    )]
    ControlCharacter {
        /// Number of the line, from 1.
        line: usize,
        /// The character.
        character: char,
    },
    /// The note does not consist of a text, an empty line and signatures.
    #[error("the note is not whole: {problem}")]
    Form {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A line after the empty one is no signature.
    #[error("line {line} of the note is not a signature (dash, name, base64): {problem}")]
    Signature {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key did not sign the note.
    #[error(
        "the note is not signed by {key}; check that it is the public key of the device that wrote the log"
    )]
    NotSigned {
        /// The key.
        key: VerifierKey,
    },
    /// There is a signature under the key's name and id, but the key did not make it for this text.
    #[error("the signature of {key} does not fit the note: the note was altered or forged")]
    Forged {
        /// The key.
        key: VerifierKey,
    },
    /// The note is signed, but is no checkpoint.
    #[error("line {line} of the checkpoint is wrong: {problem}")]
    Checkpoint {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The checkpoint is of another log.
    #[error("the checkpoint is that of the log {found}, but the key is that of {expected}")]
    Origin {
        /// Name of the key.
        expected: KeyName,
        /// Origin in the checkpoint.
        found: KeyName,
    },
    /// Not the name of a key.
    #[error(
        "a log's name must have 1 to {KEY_NAME_BYTES_MAX} bytes without spaces, control characters and +, as in example.com/device-7"
    )]
    Name,
    /// Not the text form of a public key.
    #[error("the public key is not of the form name+id+key: {problem}")]
    VerifierKey {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Name of a key and of the log that it signs: not empty, without white space, control characters
/// and plus signs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`NoteError::Name`].
    pub fn new(name: impl Into<String>) -> Result<Self, NoteError> {
        let name = name.into();
        let forbidden = |character: char| {
            character.is_whitespace() || character.is_control() || character == '+'
        };
        if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || name.contains(forbidden) {
            return Err(NoteError::Name);
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for KeyName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = NoteError;

    fn from_str(name: &str) -> Result<Self, NoteError> {
        Self::new(name)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The public half of a [`SigningKey`](super::SigningKey), with its name. Its text form is
/// `name+id+key`: the id in eight hexadecimal digits, the key in base64 with its type before it,
/// as in Go's `note` package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: [u8; KEY_ID_BYTES],
    public_key: [u8; PUBLIC_KEY_BYTES],
}

impl VerifierKey {
    pub(super) fn new(name: KeyName, public_key: [u8; PUBLIC_KEY_BYTES]) -> Self {
        let id = key_id(&name, &typed(&public_key));
        Self {
            name,
            id,
            public_key,
        }
    }

    /// Parses the text form.
    ///
    /// # Errors
    ///
    /// [`NoteError::VerifierKey`] or [`NoteError::Name`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = |problem| NoteError::VerifierKey { problem };
        let (name, rest) = text.split_once('+').ok_or(wrong("it has no +"))?;
        let (id, key) = rest.split_once('+').ok_or(wrong("it has only one +"))?;
        let name = KeyName::new(name)?;
        let key = BASE64_STANDARD
            .decode(key)
            .map_err(|_| wrong("the key is not base64"))?;
        let public_key = match key.split_first() {
            Some((&ED25519_TYPE, public_key)) => public_key,
            _ => return Err(wrong("the key is not of type 1 (Ed25519)")),
        };
        let public_key = public_key
            .try_into()
            .map_err(|_| wrong("the key has not 32 bytes"))?;
        let verifier = Self::new(name, public_key);
        if verifier.id_text() != id {
            return Err(wrong("the id is not that of this name and key"));
        }
        Ok(verifier)
    }

    /// Name of the key, which is the origin of the checkpoints that it signs.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The Ed25519 public key as RFC 8032 encodes it.
    #[must_use]
    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public_key
    }

    /// The text of a note that this key signed, with the line feed at its end. Signatures of other
    /// keys are passed over; if one of this key fails, the whole note is refused.
    ///
    /// # Errors
    ///
    /// What is wrong with the note or its signature.
    pub fn verify<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let note = Note::parse(note)?;
        let mut is_signed = false;
        for signature in note.signatures {
            if signature.name != self.name.as_str() || signature.id != self.id {
                continue;
            }
            if !self.has_signed(note.text.as_bytes(), &signature.bytes) {
                return Err(NoteError::Forged { key: self.clone() });
            }
            is_signed = true;
        }
        if !is_signed {
            return Err(NoteError::NotSigned { key: self.clone() });
        }
        Ok(note.text)
    }

    /// Whether this key signed these bytes.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        ED25519
            .verify_sig(&self.public_key, bytes, signature)
            .is_ok()
    }

    /// The line that shows a signature of this key.
    pub(super) fn signature_line(&self, signature: &[u8]) -> String {
        let encoded = BASE64_STANDARD.encode([&self.id, signature].concat());
        format!("{SIGNATURE_PREFIX}{} {encoded}\n", self.name)
    }

    fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::parse(text)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode(typed(&self.public_key));
        write!(formatter, "{}+{}+{key}", self.name, self.id_text())
    }
}

/// A public key after the byte of its type.
fn typed(public_key: &[u8; PUBLIC_KEY_BYTES]) -> [u8; 1 + PUBLIC_KEY_BYTES] {
    let mut typed = [ED25519_TYPE; 1 + PUBLIC_KEY_BYTES];
    typed[1..].copy_from_slice(public_key);
    typed
}

/// The first bytes of the SHA-256 of name, line feed, type and key.
fn key_id(name: &KeyName, typed: &[u8]) -> [u8; KEY_ID_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_str());
    hasher.update(b"\n");
    hasher.update(typed);
    let hash = hasher.finalize();
    let (id, _) = hash
        .split_first_chunk()
        .expect("a hash is longer than an id");
    *id
}

/// A note whose form was checked, but none of its signatures.
struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

struct Signature<'a> {
    name: &'a str,
    id: [u8; KEY_ID_BYTES],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    fn parse(note: &'a str) -> Result<Self, NoteError> {
        check_bounds(note)?;
        let form = |problem| NoteError::Form { problem };
        // The text can have empty lines; the last one ends it.
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .ok_or(form("it has no empty line between text and signatures"))?;
        let text = &note[..=text.len()];
        let signatures = signatures
            .strip_suffix('\n')
            .ok_or(form("it does not end in a signature and a line feed"))?;
        let line_before = text.lines().count() + 1;
        let signatures = signatures
            .split('\n')
            .enumerate()
            .map(|(place, line)| {
                if place == NOTE_SIGNATURES_MAX {
                    return Err(NoteError::TooManySignatures {
                        max: NOTE_SIGNATURES_MAX,
                    });
                }
                Signature::parse(line).map_err(|problem| NoteError::Signature {
                    line: line_before + place + 1,
                    problem,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { text, signatures })
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Result<Self, &'static str> {
        let line = line
            .strip_prefix(SIGNATURE_PREFIX)
            .ok_or("it does not begin with an em dash and a space")?;
        let (name, encoded) = line.split_once(' ').ok_or("it has no name")?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err("its name is empty or has spaces or +");
        }
        let decoded = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| "what follows the name is not base64")?;
        match decoded.split_first_chunk() {
            Some((id, bytes)) if !bytes.is_empty() => Ok(Self {
                name,
                id: *id,
                bytes: bytes.to_vec(),
            }),
            _ => Err("it is too short"),
        }
    }
}

fn check_bounds(note: &str) -> Result<(), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLong {
            found: note.len(),
            max: NOTE_BYTES_MAX,
        });
    }
    let forbidden = |character: char| character < ' ' && character != '\n';
    match note.char_indices().find(|(_, found)| forbidden(*found)) {
        None => Ok(()),
        Some((place, character)) => Err(NoteError::ControlCharacter {
            line: note[..place].matches('\n').count() + 1,
            character,
        }),
    }
}
