//! Checkpoints: the size and root of the tree, signed, in the form that witnesses and other
//! people's tools read (<https://c2sp.org/tlog-checkpoint>).
//!
//! A [`SigningKey`] signs a [`Checkpoint`]; a [`VerifierKey`], which is public, opens it again.
//!
//! Invariant: a [`Checkpoint`] is what its key signed, or about to be signed; a note that was not
//! verified never becomes one, and its origin is the name of the key. Absent: when checkpoints
//! are written, whether two of them agree (`merkle` shows that), and keys of witnesses.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::merkle::Hash;

mod note;
mod signing_key;

pub use note::{
    KEY_NAME_BYTES_MAX, KeyName, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, NoteError, VerifierKey,
};
pub use signing_key::{KeyError, SigningKey};

/// Size and root of a log's tree at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log, which is also the name of the key that signs.
    pub origin: KeyName,
    /// Leaves of the tree.
    pub size: u64,
    /// Root of the tree, as [`Frontier::root`](crate::Frontier::root) gives it.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed text: three lines.
    fn to_text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Parses the text of a note. Lines after the third are extensions and are passed over, as
    /// the specification asks; we write none.
    fn from_text(text: &str) -> Result<Self, NoteError> {
        let malformed = |line, problem| NoteError::Checkpoint { line, problem };
        let mut lines = text.lines();
        let origin = lines.next().unwrap_or_default();
        let origin = KeyName::new(origin)
            .map_err(|_| malformed(1, "it is not the name of a log (no spaces, no +)"))?;
        let size = parse_size(lines.next().unwrap_or_default())
            .ok_or(malformed(2, "it is not a number of leaves in decimal"))?;
        let root = BASE64_STANDARD
            .decode(lines.next().unwrap_or_default())
            .ok()
            .and_then(|root| root.try_into().ok())
            .ok_or(malformed(3, "it is not a hash of 32 bytes in base64"))?;
        match lines.position(str::is_empty) {
            Some(place) => Err(malformed(4 + place, "it is empty")),
            None => Ok(Self { origin, size, root }),
        }
    }
}

/// Decimal digits without a sign or leading zeros.
fn parse_size(line: &str) -> Option<u64> {
    let plain = line.bytes().all(|byte| byte.is_ascii_digit());
    let short = line == "0" || !line.starts_with('0');
    (plain && short).then(|| line.parse().ok()).flatten()
}

impl SigningKey {
    /// The checkpoint as a signed note. Its origin should be this key's name: a note with another
    /// does not [`open`](VerifierKey::open).
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        self.sign_text(&checkpoint.to_text())
    }
}

impl VerifierKey {
    /// The checkpoint in a note that this key signed. Signatures of other keys are passed over.
    ///
    /// # Errors
    ///
    /// What is wrong with the note, its signature or the checkpoint in it.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::from_text(self.verify(note)?)?;
        if checkpoint.origin != *self.name() {
            return Err(NoteError::Origin {
                expected: self.name().clone(),
                found: checkpoint.origin,
            });
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests;
