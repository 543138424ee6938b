//! Tokens back into text, at once or one by one.
//!
//! Invariant: the texts that a [`TokenStream`] gives out, put together, are what
//! [`Tokenizer::decode`](super::Tokenizer::decode) gives for the same ids (control tokens aside), and
//! each is whole UTF-8 characters.

use std::sync::Arc;

use super::byte_level;
use super::sentence_piece::SPACE;
use super::vocabulary::{Kind, Scheme, Vocabulary, byte_value};
use crate::error::{EngineError, Result};

/// Appends the bytes that token `id` stands for.
fn append_bytes(vocabulary: &Vocabulary, id: u32, out: &mut Vec<u8>) -> Result<Kind> {
    let (Some(text), Some(kind)) = (vocabulary.text(id), vocabulary.kind(id)) else {
        return Err(EngineError::UnknownToken {
            id,
            vocabulary: vocabulary.tokens.len(),
        });
    };
    match (kind, vocabulary.scheme) {
        (Kind::Byte, _) => out.extend(byte_value(text)),
        (Kind::Control | Kind::Unknown | Kind::UserDefined, _) => out.extend(text.bytes()),
        (Kind::Normal | Kind::Unused, Scheme::ByteLevel) => byte_level::append(text, out),
        (Kind::Normal | Kind::Unused, Scheme::SentencePiece) => {
            for part in text.split_inclusive(SPACE) {
                match part.strip_suffix(SPACE) {
                    Some(before) => out.extend(before.bytes().chain([b' '])),
                    None => out.extend(part.bytes()),
                }
            }
        }
    }
    Ok(kind)
}

/// Appends the bytes of tokens, leaving out the spaces that encoding put in.
pub(super) struct Joiner {
    vocabulary: Arc<Vocabulary>,
    after_special: bool,
}

impl Joiner {
    /// A joiner for text that starts a prompt or follows a special token (`after_special`), or goes on
    /// from other text.
    pub(super) fn new(vocabulary: Arc<Vocabulary>, after_special: bool) -> Self {
        Self {
            vocabulary,
            after_special,
        }
    }

    /// Appends token `id` to `out`, and control tokens only if they are wanted.
    pub(super) fn append(&mut self, id: u32, control: bool, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let kind = append_bytes(&self.vocabulary, id, out)?;
        let special = is_special(kind);
        let drop_space = self.vocabulary.space_prefix && self.after_special && kind == Kind::Normal;
        self.after_special = special;
        if special && !control && kind != Kind::UserDefined {
            out.truncate(start);
        } else if drop_space && out.get(start) == Some(&b' ') {
            out.remove(start);
        }
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
    pub(super) fn new(vocabulary: Arc<Vocabulary>, last: Option<u32>) -> Result<Self> {
        let mut joiner = Joiner::new(vocabulary, true);
        if let Some(id) = last {
            joiner.append(id, false, &mut Vec::new())?;
        }
        Ok(Self {
            joiner,
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
