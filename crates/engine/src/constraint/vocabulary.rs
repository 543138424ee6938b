//! A model's vocabulary as the constraints see it: the bytes that each token adds to a text.
//!
//! Invariants: a token that is no text has no bytes, so no grammar can match it; every byte can be written by some token,
//! so no text is out of reach.

use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::{EngineError, Result};
use crate::tokenizer::Tokenizer;

/// The longest token that constrained text is made of. The tree of tokens allows for 1024.
const TOKEN_BYTES_MAX: usize = 512;
/// Most bytes of all tokens together: the tree of tokens holds no more than 2^22 places.
const VOCABULARY_BYTES_MAX: usize = (1 << 22) - 2;

/// A tokenizer with the tree of its tokens.
pub(super) struct TextVocabulary {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl TextVocabulary {
    /// # Errors
    /// [`EngineError::Vocabulary`] when a byte cannot be written or the tokens are too long.
    pub(super) fn new(tokenizer: Tokenizer) -> Result<Self> {
        let texts = texts(&tokenizer)?;
        let mut ends = tokenizer.special().end_of_generation.iter().copied();
        let first_end = ends.next();
        let size = u32::try_from(texts.len()).map_err(|_| unusable("it has too many tokens"))?;
        let info = TokRxInfo::new(size, first_end.unwrap_or(INVALID_TOKEN));
        let mut trie = TokTrie::from(&info, &texts);
        if let Some(first) = first_end {
            let ends: Vec<u32> = std::iter::once(first).chain(ends).collect();
            trie = trie.with_eos_tokens(&ends);
        }
        Ok(Self { tokenizer, trie })
    }

    /// Whether `tokens` put together are `text`.
    fn is_written(&self, text: &str, tokens: &[TokenId]) -> bool {
        let mut rest = text.as_bytes();
        tokens.iter().all(|&token| {
            let written = self.trie.token(token);
            match rest.strip_prefix(written) {
                Some(after) if !written.is_empty() => {
                    rest = after;
                    true
                }
                _ => false,
            }
        }) && rest.is_empty()
    }
}

impl TokenizerEnv for TextVocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = self.tokenizer.encode_continuation(text);
            if self.is_written(text, &tokens) {
                tokens
            } else {
                self.trie.greedy_tokenize(text.as_bytes())
            }
        })
    }
}

/// The bytes of each token, none for those that are no text.
fn texts(tokenizer: &Tokenizer) -> Result<Vec<Vec<u8>>> {
    let ends = &tokenizer.special().end_of_generation;
    let mut texts = Vec::with_capacity(tokenizer.len());
    let mut is_byte_written = [false; 256];
    let mut bytes_total = 0;
    for id in (0..).take(tokenizer.len()) {
        let mut text = Vec::new();
        if !ends.contains(&id) {
            tokenizer.append_text(id, &mut text);
        }
        if text.len() > TOKEN_BYTES_MAX {
            text.clear();
        }
        if let [byte] = *text {
            is_byte_written[usize::from(byte)] = true;
        }
        bytes_total += text.len();
        texts.push(text);
    }
    if bytes_total > VOCABULARY_BYTES_MAX {
        return Err(unusable("its tokens are too long"));
    }
    match is_byte_written.iter().position(|is_written| !is_written) {
        None => Ok(texts),
        Some(byte) => Err(unusable(&format!("no token is the byte {byte:#04x}"))),
    }
}

fn unusable(reason: &str) -> EngineError {
    EngineError::Vocabulary {
        reason: format!("{reason}, so output cannot be kept to a schema"),
    }
}
