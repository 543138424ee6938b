//! Finds where in a text one of many short texts begins.
//!
//! A table of bits over the first bytes of what is sought lets nearly all places of an ordinary text go, and none of
//! them has to wait for the one before it; an automaton looks at what is left. ASCII letters of either case are the same.
//!
//! The sanitizer marks its keywords in a like way, but in pieces of a stream and together with the beginnings of words,
//! and by three bytes; words of a language begin alike, and have to be told apart by more.

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, StartKind};

/// Bits of the table, as a power of two.
const TABLE_BITS: u32 = 16;
const TABLE_WORDS: usize = 1 << (TABLE_BITS - 6);
/// Most bytes that a place is known by.
const KEY_BYTES_MAX: usize = 8;

/// Texts that are sought, each with what it means.
pub(super) struct Beginnings<M> {
    automaton: AhoCorasick,
    meanings: Vec<M>,
    table: Box<[u64; TABLE_WORDS]>,
    key_mask: u64,
}

impl<M: Copy> Beginnings<M> {
    /// What is sought. A place is known by `key_bytes`; a text may be shorter by one, and is then known with any byte
    /// behind it.
    ///
    /// # Panics
    ///
    /// If a text is shorter, `key_bytes` is not from 1 to 8, or the texts are too many for an automaton.
    pub(super) fn new(sought: impl IntoIterator<Item = (String, M)>, key_bytes: usize) -> Self {
        assert!((1..=KEY_BYTES_MAX).contains(&key_bytes));
        let (texts, meanings): (Vec<String>, Vec<M>) = sought.into_iter().unzip();
        let key_mask = u64::MAX >> (8 * (KEY_BYTES_MAX - key_bytes));
        let mut table = Box::new([0; TABLE_WORDS]);
        for text in &texts {
            assert!(text.len() + 1 >= key_bytes, "{text:?} is too short");
            let next_max = if text.len() < key_bytes { u8::MAX } else { 0 };
            for next in 0..=next_max {
                let mut first = [next; KEY_BYTES_MAX];
                let len = text.len().min(KEY_BYTES_MAX);
                first[..len].copy_from_slice(&text.as_bytes()[..len]);
                for bit in bits(key(first) & key_mask) {
                    table[bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .start_kind(StartKind::Anchored)
            .build(texts);
        Self {
            automaton: automaton.expect("a few thousand short texts make an automaton"),
            meanings,
            table,
            key_mask,
        }
    }

    /// Each place where one begins, with its meaning.
    pub(super) fn in_text(&self, text: &str, mut found: impl FnMut(M, usize)) {
        let bytes = text.as_bytes();
        for (at, first) in bytes.array_windows().enumerate() {
            if self.may_begin(*first) {
                self.look_at(text, at, &mut found);
            }
        }
        let behind = (bytes.len() + 1).saturating_sub(KEY_BYTES_MAX);
        for at in behind..bytes.len() {
            self.look_at(text, at, &mut found);
        }
    }

    /// The meanings of those that begin at a place.
    pub(super) fn at(&self, text: &str, at: usize, mut found: impl FnMut(M, usize)) {
        let first = text.as_bytes()[at..].first_chunk();
        if first.is_none_or(|first| self.may_begin(*first)) {
            self.look_at(text, at, &mut found);
        }
    }

    fn may_begin(&self, first: [u8; KEY_BYTES_MAX]) -> bool {
        let [first, second] = bits(key(first) & self.key_mask);
        let is_set = |bit: usize| self.table[bit / 64] >> (bit % 64) & 1 == 1;
        is_set(first) && is_set(second)
    }

    fn look_at(&self, text: &str, at: usize, found: &mut impl FnMut(M, usize)) {
        let here = Input::new(text).range(at..).anchored(Anchored::Yes);
        let mut state = OverlappingState::start();
        loop {
            self.automaton.find_overlapping(here.clone(), &mut state);
            match state.get_match() {
                Some(hit) => found(self.meanings[hit.pattern()], at),
                None => return,
            }
        }
    }
}

/// First bytes, with letters in lower case.
fn key(first: [u8; KEY_BYTES_MAX]) -> u64 {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    u64::from_le_bytes(first) | LOWER
}

/// Which bits of the table stand for a key, as in a Bloom filter.
fn bits(key: u64) -> [usize; 2] {
    // Multipliers with bits all over spread keys evenly; the first is 2^64 over the golden ratio (Knuth, volume 3, 6.4).
    let bit = |multiplier| (key.wrapping_mul(multiplier) >> (64 - TABLE_BITS)) as usize;
    [bit(0x9e37_79b9_7f4a_7c15), bit(0xd6e8_feb8_6659_fd93)]
}
