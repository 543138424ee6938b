//! Tokens back into text, at once or one by one.
//!
//! Invariant: the texts that a [`TokenStream`] gives out, put together, are what
//! [`Tokenizer::decode`](super::Tokenizer::decode) gives for the same ids (control tokens aside), and
//! each is whole UTF-8 characters.

use std::sync::Arc;

use super::byte_level;
use super::sentence_piece::SPACE;
use super::vocabulary::{Kind, Scheme, Vocabulary};
use crate::error::{EngineError, Result};

/// The bytes of each token, end to end.
pub(super) struct Bytes {
    blob: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    space_prefix: bool,
}

impl Bytes {
    pub(super) fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let mut bytes = Self {
            blob: Vec::new(),
            ends: Vec::with_capacity(vocabulary.tokens.len()),
            kinds: vocabulary.kinds.clone(),
            space_prefix: vocabulary.space_prefix,
        };
        for (id, text, kind) in vocabulary.iter() {
            bytes
                .blob
                .extend(token_bytes(vocabulary.scheme, id, text, kind)?);
            let end = u32::try_from(bytes.blob.len()).map_err(|_| EngineError::Vocabulary {
                reason: "its tokens are longer than 4 GiB together".to_owned(),
            })?;
            bytes.ends.push(end);
        }
        Ok(bytes)
    }

    fn of(&self, id: u32) -> Result<(&[u8], Kind)> {
        let index = id as usize;
        let (Some(&end), Some(&kind)) = (self.ends.get(index), self.kinds.get(index)) else {
            return Err(EngineError::UnknownToken {
                id,
                vocabulary: self.ends.len(),
            });
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Ok((&self.blob[start as usize..end as usize], kind))
    }
}

fn token_bytes(scheme: Scheme, id: u32, text: &str, kind: Kind) -> Result<Vec<u8>> {
    let raw = || text.as_bytes().to_vec();
    match (kind, scheme) {
        (Kind::Byte, _) => match byte_value(text) {
            Some(byte) => Ok(vec![byte]),
            None => Err(EngineError::Vocabulary {
                reason: format!(
                    "token {id} is a byte token but its text is {text:?}, expected <0x00> to <0xFF>"
                ),
            }),
        },
        (Kind::Control | Kind::Unknown | Kind::UserDefined, _) => Ok(raw()),
        (Kind::Normal | Kind::Unused, Scheme::ByteLevel) => {
            Ok(byte_level::read(text).unwrap_or_else(raw))
        }
        (Kind::Normal | Kind::Unused, Scheme::SentencePiece) => {
            Ok(text.replace(SPACE, " ").into_bytes())
        }
    }
}

/// The value of a byte token's text, such as `<0x0A>`.
pub(super) fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let well_formed = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    well_formed.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Appends the bytes of tokens, leaving out the spaces that encoding put in.
pub(super) struct Joiner {
    bytes: Arc<Bytes>,
    after_special: bool,
}

impl Joiner {
    /// A joiner for text that starts a prompt or follows a special token (`after_special`), or goes on
    /// from other text.
    pub(super) fn new(bytes: Arc<Bytes>, after_special: bool) -> Self {
        Self {
            bytes,
            after_special,
        }
    }

    /// Appends token `id` to `out`, and control tokens only if they are wanted.
    pub(super) fn append(&mut self, id: u32, control: bool, out: &mut Vec<u8>) -> Result<()> {
        let (bytes, kind) = self.bytes.of(id)?;
        let special = is_special(kind);
        let drop_space = self.bytes.space_prefix && self.after_special && kind == Kind::Normal;
        self.after_special = special;
        if special && !control && kind != Kind::UserDefined {
            return Ok(());
        }
        let bytes = if drop_space {
            bytes.strip_prefix(b" ").unwrap_or(bytes)
        } else {
            bytes
        };
        out.extend_from_slice(bytes);
        Ok(())
    }
}

fn is_special(kind: Kind) -> bool {
    matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined)
}

/// Turns tokens into text as they come.
///
/// Bytes that do not complete a character yet are held back; bytes that can never become one are
/// given out as U+FFFD. Control tokens give no text.
pub struct TokenStream {
    joiner: Joiner,
    held: Vec<u8>,
}

impl TokenStream {
    pub(super) fn new(bytes: Arc<Bytes>, last: Option<u32>) -> Result<Self> {
        let after_special = match last {
            Some(id) => is_special(bytes.of(id)?.1),
            None => true,
        };
        Ok(Self {
            joiner: Joiner::new(bytes, after_special),
            held: Vec::new(),
        })
    }

    /// Takes one token and gives the text that is certain now; it may be empty.
    ///
    /// # Errors
    /// [`EngineError::UnknownToken`] when the vocabulary has no such id; the stream is unchanged.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.joiner.append(id, false, &mut self.held)?;
        Ok(take_text(&mut self.held))
    }

    /// Ends the stream: what is still held back becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Takes all text from the front of `held` but a last character that may still be completed.
fn take_text(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in held.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        if chunk.invalid().is_empty() {
            continue;
        }
        let may_be_completed = taken + chunk.invalid().len() == held.len()
            && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if !may_be_completed {
            text.push(char::REPLACEMENT_CHARACTER);
            taken += chunk.invalid().len();
        }
    }
    held.drain(..taken);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_back_only_what_can_still_become_a_character() {
        let llama = "🦙".as_bytes();
        let mut held = Vec::new();
        let mut texts = Vec::new();
        for piece in [
            b"a".as_slice(),
            &llama[..2],
            &llama[2..],
            &[0xFF],
            &llama[..3],
            b"b",
        ] {
            held.extend_from_slice(piece);
            texts.push(take_text(&mut held));
        }
        assert_eq!(texts, ["a", "", "🦙", "\u{FFFD}", "", "\u{FFFD}b"]);
        assert!(held.is_empty());
    }
}
