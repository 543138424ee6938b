//! Words into tokens: what a word's characters are at first, and which of them merge.
//!
//! Invariant: no reserved token is ever made, so that no text can merge into one, and there is a token
//! for every byte, so that no text is lost.

use super::bpe::Merges;
use super::byte_level;
use super::sentence_piece;
use super::vocabulary::{Kind, Vocabulary, byte_value};
use crate::error::{EngineError, Result};
use crate::gguf::Texts;

/// The tokens that words become.
pub(super) struct Model {
    /// The token of each byte, where text can hold that byte.
    bytes: [Option<u32>; 256],
    /// Whether a word that is a token is not put together from parts.
    ignore_merges: bool,
    merges: Merges,
}

impl Model {
    /// A byte-level vocabulary with its merges. Merges that make or need a reserved token are left out.
    pub(super) fn byte_level(
        vocabulary: &Vocabulary,
        texts: &Texts,
        ignore_merges: bool,
    ) -> Result<Self> {
        let mut merges = Merges::with_capacity(texts.len());
        let mut joined = String::new();
        for (rank, text) in (0_u32..).zip(texts.iter()) {
            let invalid = |reason: String| EngineError::Vocabulary {
                reason: format!("merge {rank} ({text:?}) {reason}"),
            };
            let (left, right) = merge_parts(text)
                .ok_or_else(|| invalid("is not two parts with a space between".to_owned()))?;
            let id = |text: &str| {
                let id = vocabulary.tokens.id(text);
                id.ok_or_else(|| invalid(format!("needs {text:?}, which is no token")))
            };
            let (left_id, right_id) = (id(left)?, id(right)?);
            if vocabulary.is_reserved(left_id) || vocabulary.is_reserved(right_id) {
                continue;
            }
            joined.clear();
            joined.extend([left, right]);
            let whole = id(&joined)?;
            if !vocabulary.is_reserved(whole) {
                merges.push(rank, left_id, right_id, whole);
            }
        }
        Ok(Self {
            bytes: alphabet(vocabulary)?,
            ignore_merges,
            merges,
        })
    }

    /// A SentencePiece vocabulary, with a byte token for each byte.
    pub(super) fn sentence_piece(vocabulary: &Vocabulary) -> Result<Self> {
        let ranked = sentence_piece::merges(vocabulary);
        let mut merges = Merges::with_capacity(ranked.len());
        for (rank, (left, right, whole)) in (0_u32..).zip(ranked) {
            merges.push(rank, left, right, whole);
        }
        Ok(Self {
            bytes: byte_tokens(vocabulary)?,
            ignore_merges: false,
            merges,
        })
    }

    /// Appends the tokens of a word of a byte-level vocabulary. `written` is memory to use again.
    pub(super) fn encode_bytes(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        written: &mut String,
        ids: &mut Vec<u32>,
    ) {
        if self.ignore_merges {
            byte_level::write(word, written);
            if let Some(id) = vocabulary.mergeable(written) {
                ids.push(id);
                return;
            }
        }
        self.merges
            .apply(word.bytes().filter_map(|byte| self.byte(byte)), ids);
    }

    /// Appends the tokens of a word of a SentencePiece vocabulary. A character that is no token becomes its bytes.
    pub(super) fn encode_characters(
        &self,
        vocabulary: &Vocabulary,
        word: &str,
        ids: &mut Vec<u32>,
    ) {
        let symbols = word.char_indices().flat_map(|(start, character)| {
            let text = &word[start..start + character.len_utf8()];
            let whole = vocabulary.mergeable(text);
            let bytes = if whole.is_none() { text } else { "" };
            whole
                .into_iter()
                .chain(bytes.bytes().filter_map(|byte| self.byte(byte)))
        });
        self.merges.apply(symbols, ids);
    }

    /// The token of a byte of UTF-8 text; there always is one, as was checked when the model was made.
    fn byte(&self, byte: u8) -> Option<u32> {
        self.bytes[usize::from(byte)]
    }
}

/// The two parts of a merge. A part may begin with a space, so the separator is the first space after
/// the first character.
fn merge_parts(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let separator = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..separator], &merge[separator + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// The tokens of the byte-level alphabet. Every byte that UTF-8 text can hold needs one, or text would be lost.
fn alphabet(vocabulary: &Vocabulary) -> Result<[Option<u32>; 256]> {
    let mut bytes = [None; 256];
    for (byte, token) in (0..=u8::MAX).zip(&mut bytes) {
        *token = vocabulary.mergeable(byte_level::character(byte).encode_utf8(&mut [0; 4]));
        if token.is_none() && !matches!(byte, 0xC0 | 0xC1 | 0xF5..) {
            return Err(no_token_for(byte));
        }
    }
    Ok(bytes)
}

/// The byte tokens of a SentencePiece vocabulary; each byte needs one.
fn byte_tokens(vocabulary: &Vocabulary) -> Result<[Option<u32>; 256]> {
    let mut bytes = [None; 256];
    for (id, text, kind) in vocabulary.iter() {
        if let (Kind::Byte, Some(byte)) = (kind, byte_value(text)) {
            bytes[usize::from(byte)] = Some(id);
        }
    }
    match (0..=u8::MAX).find(|&byte| bytes[usize::from(byte)].is_none()) {
        Some(byte) => Err(no_token_for(byte)),
        None => Ok(bytes),
    }
}

fn no_token_for(byte: u8) -> EngineError {
    EngineError::Vocabulary {
        reason: format!("no token stands for byte 0x{byte:02X}"),
    }
}
