//! A set of tokens, as one bit each.
//!
//! Invariant: it holds at least one token.

use llguidance::toktrie::SimpleVob;

/// Bits of a word of the set.
const WORD_BITS: usize = u32::BITS as usize;

/// The tokens that may come next; never empty.
#[derive(Debug, Clone)]
pub struct TokenMask {
    tokens: SimpleVob,
}

impl TokenMask {
    /// The mask of `tokens`, if there are any.
    pub(super) fn new(tokens: SimpleVob) -> Option<Self> {
        (!tokens.is_zero()).then_some(Self { tokens })
    }

    /// The mask of `tokens` of a vocabulary, if there are any.
    pub(crate) fn of(tokens: &[u32], vocabulary: usize) -> Option<Self> {
        let mut bits = SimpleVob::alloc(vocabulary);
        for &token in tokens {
            bits.allow_token(token);
        }
        Self::new(bits)
    }

    /// Whether `token` may come next.
    pub fn allows(&self, token: u32) -> bool {
        self.octet(token as usize / 8) >> (token % 8) & 1 == 1
    }

    /// How many tokens may come next; at least 1.
    pub fn count(&self) -> usize {
        self.tokens.num_set()
    }

    /// The tokens that may come next, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.tokens.iter()
    }

    /// Whether the tokens `8 * index` to `8 * index + 7` may come next, the first in the lowest bit. Beyond the
    /// vocabulary nothing may.
    pub(crate) fn octet(&self, index: usize) -> u8 {
        let bit = index * 8;
        let word = self.tokens.as_slice().get(bit / WORD_BITS);
        (word.copied().unwrap_or(0) >> (bit % WORD_BITS)) as u8
    }
}
