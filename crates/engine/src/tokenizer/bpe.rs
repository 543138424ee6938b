//! Byte-pair encoding: joins neighbours, the best pair first, until no pair is left that joins.
//!
//! Invariant: time is linear in the symbols of a word, times its logarithm. Memory is one table over pairs of ids; no text
//! is kept here.
//! Absent: how a word becomes its first symbols.
//!
//! Source: Sennrich, Haddow and Birch, *Neural Machine Translation of Rare Words with Subword Units*, 2016.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Which pairs of tokens join to which.
#[derive(Default)]
pub(super) struct Merges {
    by_pair: HashMap<(u32, u32), Merge>,
}

/// What a pair joins to; of two that are possible, the one of the lower rank comes first.
#[derive(Clone, Copy)]
struct Merge {
    rank: u32,
    whole: u32,
}

/// Part of a word: a token, and its neighbours that are still there.
struct Symbol {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    is_joined: bool,
}

/// A join that was possible when it was found: rank, place of the left part, and the result.
type Candidate = Reverse<(u32, usize, u32)>;

impl Merges {
    pub(super) fn with_capacity(pairs: usize) -> Self {
        Self {
            by_pair: HashMap::with_capacity(pairs),
        }
    }

    /// Adds a pair, whose rank is higher than all before. A pair that is there already gets the new rank.
    pub(super) fn push(&mut self, rank: u32, left: u32, right: u32, whole: u32) {
        self.by_pair.insert((left, right), Merge { rank, whole });
    }

    /// Joins what can be joined of `word`, and appends the result to `ids`.
    pub(super) fn apply(&self, word: impl IntoIterator<Item = u32>, ids: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = word
            .into_iter()
            .enumerate()
            .map(|(place, id)| Symbol {
                id,
                before: place.checked_sub(1),
                after: Some(place + 1),
                is_joined: false,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        self.join(&mut symbols);
        ids.extend(
            symbols
                .iter()
                .filter(|symbol| !symbol.is_joined)
                .map(|symbol| symbol.id),
        );
    }

    fn join(&self, symbols: &mut [Symbol]) {
        let mut candidates: BinaryHeap<Candidate> = (0..symbols.len())
            .filter_map(|place| self.candidate(symbols, place))
            .collect();
        while let Some(Reverse((_, place, whole))) = candidates.pop() {
            // One of the parts may have been joined with another since.
            let left = &symbols[place];
            let Some(right) = left.after.filter(|_| !left.is_joined) else {
                continue;
            };
            let merge = self.by_pair.get(&(left.id, symbols[right].id));
            if merge.is_none_or(|merge| merge.whole != whole) {
                continue;
            }
            let after = symbols[right].after;
            symbols[right].is_joined = true;
            symbols[place].id = whole;
            symbols[place].after = after;
            if let Some(after) = after {
                symbols[after].before = Some(place);
            }
            let before = symbols[place].before;
            candidates.extend(before.and_then(|before| self.candidate(symbols, before)));
            candidates.extend(self.candidate(symbols, place));
        }
    }

    /// How the symbol at `place` joins with the one after it.
    fn candidate(&self, symbols: &[Symbol], place: usize) -> Option<Candidate> {
        let left = &symbols[place];
        let right = &symbols[left.after?];
        let merge = self.by_pair.get(&(left.id, right.id))?;
        Some(Reverse((merge.rank, place, merge.whole)))
    }
}
