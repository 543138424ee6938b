//! Files of age keys: recipients, which are public, and identities, which are secret.
//!
//! Invariant: whatever a line holds, no error repeats it; somebody may have put a secret there.
//! Absent: passphrases, plugins, ssh keys, and armor. A data key is wrapped to X25519 keys alone.

use std::path::Path;

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use zeroize::Zeroizing;

use age::secrecy::ExposeSecret;
use age::x25519;

use super::SealError;
use crate::key_file::{self, KeyFileError};

/// Most recipients of one log.
pub const RECIPIENTS_MAX: usize = 64;
/// Most identities of one file.
pub const IDENTITIES_MAX: usize = 1024;

/// Longest file of keys, in bytes.
const FILE_BYTES_MAX: usize = 128 * 1024;

const RECIPIENTS: &str = "auditors' public keys (age recipients)";
const RECIPIENT_PREFIX: &str = "age1";
const IDENTITIES: &str = "auditor's secret keys (age identities)";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-1";

/// Public keys of the auditors: who can read what is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients {
    keys: Vec<x25519::Recipient>,
}

impl Recipients {
    /// Reads a file of [recipients](Self::parse).
    ///
    /// # Errors
    ///
    /// [`SealError::File`], and those of [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, SealError> {
        Self::parse(text_of(&read_file(path)?, path)?)
    }

    /// Parses one `age1...` a line, as `age-keygen -y` prints them. Empty lines and lines that
    /// begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// [`SealError::Line`], [`SealError::Empty`] or [`SealError::TooMany`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let keys = parse_lines(text, RECIPIENTS, RECIPIENTS_MAX, parse_recipient)?;
        if keys.is_empty() {
            return Err(SealError::Empty {
                kind: RECIPIENTS,
                prefix: RECIPIENT_PREFIX,
            });
        }
        Ok(Self { keys })
    }

    /// The keys in their text form.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = String> + '_ {
        self.keys.iter().map(x25519::Recipient::to_string)
    }

    pub(super) fn as_age(&self) -> impl Iterator<Item = &dyn age::Recipient> {
        self.keys.iter().map(|key| key as &dyn age::Recipient)
    }
}

/// Secret keys of an auditor, wiped from memory when they are dropped.
pub struct Identities {
    keys: Vec<x25519::Identity>,
}

impl Identities {
    /// One new random identity.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            keys: vec![x25519::Identity::generate()],
        }
    }

    /// Reads a file of [identities](Self::parse).
    ///
    /// # Errors
    ///
    /// [`SealError::File`], and those of [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, SealError> {
        Self::parse(text_of(&read_file(path)?, path)?)
    }

    /// Parses one `AGE-SECRET-KEY-1...` a line, as `age-keygen` writes them. Empty lines and lines
    /// that begin with `#` are passed over.
    ///
    /// # Errors
    ///
    /// [`SealError::Line`], [`SealError::Empty`] or [`SealError::TooMany`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let keys = parse_lines(text, IDENTITIES, IDENTITIES_MAX, parse_identity)?;
        if keys.is_empty() {
            return Err(SealError::Empty {
                kind: IDENTITIES,
                prefix: IDENTITY_PREFIX,
            });
        }
        Ok(Self { keys })
    }

    /// The public keys that belong to them.
    #[must_use]
    pub fn recipients(&self) -> Recipients {
        Recipients {
            keys: self.keys.iter().map(x25519::Identity::to_public).collect(),
        }
    }

    /// The file that [`parse`](Self::parse) reads: each identity below a comment with its public
    /// key, as `age-keygen` writes it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // Written in one piece of memory, so that growing leaves no copy behind.
        const BYTES_EACH_MAX: usize = 256;
        let mut text = Zeroizing::new(String::with_capacity(self.keys.len() * BYTES_EACH_MAX));
        for key in &self.keys {
            text.push_str("# public key: ");
            text.push_str(&key.to_public().to_string());
            text.push('\n');
            text.push_str(key.to_string().expose_secret());
            text.push('\n');
        }
        text
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn as_age(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(|key| key as &dyn age::Identity)
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identities({} secret)", self.keys.len())
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SealError> {
    Ok(key_file::read(path, FILE_BYTES_MAX)?.0)
}

fn text_of<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, SealError> {
    let not_text = |_| KeyFileError::NotText {
        path: path.to_owned(),
    };
    Ok(str::from_utf8(bytes).map_err(not_text)?)
}

fn parse_lines<Key>(
    text: &str,
    kind: &'static str,
    keys_max: usize,
    parse: impl Fn(&str) -> Result<Key, &'static str>,
) -> Result<Vec<Key>, SealError> {
    let mut keys = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if keys.len() == keys_max {
            return Err(SealError::TooMany {
                kind,
                max: keys_max,
            });
        }
        keys.push(parse(line).map_err(|problem| SealError::Line {
            kind,
            line: place + 1,
            problem,
        })?);
    }
    Ok(keys)
}

fn parse_recipient(line: &str) -> Result<x25519::Recipient, &'static str> {
    if is_identity(line) {
        return Err(
            "it is a secret key; take it out of this file, and use the public key that age-keygen -y makes of it",
        );
    }
    let key = line.parse().map_err(|_| {
        "a public key of age begins with age1 and has a checksum; ssh keys and plugins are not supported"
    })?;
    if !is_contributory(line) {
        return Err("its point is of low order, so everybody could open what is sealed to it");
    }
    Ok(key)
}

fn parse_identity(line: &str) -> Result<x25519::Identity, &'static str> {
    if line.starts_with(RECIPIENT_PREFIX) {
        return Err("it is a public key; use the file that age-keygen wrote");
    }
    line.parse().map_err(|_| {
        "a secret key of age begins with AGE-SECRET-KEY-1 and has a checksum; files with a passphrase and plugins are not supported"
    })
}

fn is_identity(line: &str) -> bool {
    line.get(..IDENTITY_PREFIX.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(IDENTITY_PREFIX))
}

/// Whether the secret that is shared with this public key depends on our part of it. The age
/// library panics where it does not (RFC 7748, section 6.1).
fn is_contributory(recipient: &str) -> bool {
    let Ok((_, point)) = bech32::decode(recipient) else {
        return false;
    };
    let Ok(own) = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()) else {
        return false;
    };
    let point = UnparsedPublicKey::new(&X25519, &point);
    agree_ephemeral(own, point, (), |_shared| Ok(())).is_ok()
}
