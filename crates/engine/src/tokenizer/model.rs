//! The BPE model of a vocabulary, built in process from its tokens and merges.
//!
//! Invariant: the model knows no reserved token, so that no text can merge into one, and it knows a token
//! for every byte, so that no text is lost.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};

use super::byte_level;
use super::sentence_piece::merges;
use super::stream::byte_value;
use super::vocabulary::{Kind, Vocabulary};
use crate::error::{EngineError, Result};

/// Words whose tokens are remembered, for each thread that encodes. A word of the longest kind that is
/// remembered takes about 8 KiB.
const CACHED_WORDS_MAX: usize = 1024;

/// The merges of a byte-level vocabulary, over all tokens that text may become. Merges that make or
/// need a reserved token are left out.
pub(super) fn byte_level(
    vocabulary: &Vocabulary,
    merges: &[String],
    ignore_merges: bool,
) -> Result<BPE> {
    let (reserved, open): (Vec<_>, Vec<_>) = vocabulary
        .iter()
        .partition(|(id, _, _)| vocabulary.is_reserved(*id));
    let reserved: Vec<&str> = reserved.into_iter().map(|(_, text, _)| text).collect();
    let reserved_first: HashSet<u8> = reserved.iter().map(|text| text.as_bytes()[0]).collect();
    let reserved: HashSet<&str> = reserved.into_iter().collect();
    let is_reserved =
        |text: &str| reserved_first.contains(&text.as_bytes()[0]) && reserved.contains(text);

    let bytes_max = open.iter().map(|(_, text, _)| text.len()).max();
    let ids: Vocab = open
        .into_iter()
        .map(|(id, text, _)| (text.to_owned(), id))
        .collect();
    check_alphabet(&ids)?;
    let mut pairs = Merges::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let invalid = |reason: &str| EngineError::Vocabulary {
            reason: format!("merge {index} ({merge:?}) {reason}"),
        };
        let (left, right) =
            merge_parts(merge).ok_or_else(|| invalid("is not two parts with a space between"))?;
        if is_reserved(left)
            || is_reserved(right)
            || (reserved_first.contains(&left.as_bytes()[0])
                && is_reserved(&[left, right].concat()))
        {
            continue;
        }
        // The model's builder finds missing tokens, but relies on this bound.
        if Some(left.len() + right.len()) > bytes_max {
            return Err(invalid("makes a text that is longer than any token"));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    build(BPE::builder().ignore_merges(ignore_merges), ids, pairs)
}

/// The two parts of a merge. A part may begin with a space, so the separator is the first space after
/// the first character.
fn merge_parts(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let separator = first + merge[first..].find(' ')?;
    let (left, right) = (&merge[..separator], &merge[separator + 1..]);
    (!right.is_empty()).then_some((left, right))
}

/// Every byte that UTF-8 text can hold needs a token, or text would be lost.
fn check_alphabet(ids: &Vocab) -> Result<()> {
    let missing = (0..=0xF4_u8)
        .filter(|byte| !matches!(byte, 0xC0 | 0xC1))
        .find(|byte| !ids.contains_key(byte_level::character(*byte).to_string().as_str()));
    match missing {
        None => Ok(()),
        Some(byte) => Err(EngineError::Vocabulary {
            reason: format!("no token stands for byte 0x{byte:02X}"),
        }),
    }
}

/// The merges of a SentencePiece vocabulary, over normal tokens, with a byte token for each byte.
pub(super) fn sentence_piece(vocabulary: &Vocabulary) -> Result<BPE> {
    let mut bytes_found = [false; 256];
    let mut ids = Vocab::new();
    for (id, text, kind) in vocabulary.iter() {
        match kind {
            Kind::Byte => {
                if let Some(byte) = byte_value(text) {
                    bytes_found[usize::from(byte)] = true;
                    ids.insert(format!("<0x{byte:02X}>"), id);
                }
            }
            Kind::Normal | Kind::Unused => {
                ids.insert(text.to_owned(), id);
            }
            Kind::Unknown | Kind::Control | Kind::UserDefined => {}
        }
    }
    if let Some(byte) = bytes_found.iter().position(|found| !found) {
        return Err(EngineError::Vocabulary {
            reason: format!("no token stands for byte 0x{byte:02X}"),
        });
    }
    build(BPE::builder().byte_fallback(true), ids, merges(vocabulary))
}

fn build(builder: BpeBuilder, ids: Vocab, merges: Merges) -> Result<BPE> {
    builder
        .vocab_and_merges(ids, merges)
        .cache_capacity(CACHED_WORDS_MAX)
        .build()
        .map_err(|error| EngineError::Vocabulary {
            reason: error.to_string(),
        })
}
