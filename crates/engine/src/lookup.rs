//! Prompt lookup: guesses how a text goes on from what followed the same tokens before, in the prompt or in the text so
//! far. Guesses are computed in one pass with the token they follow; those that turn out wrong are thrown away, so
//! no text changes.
//!
//! Absent: a second model; any choice of tokens, which is the sampler's.
//!
//! Source: Saxena, *Prompt Lookup Decoding*, 2023; the idea of verified guesses is arXiv:2211.17192.

use std::collections::HashMap;
use std::time::Duration;

/// Tokens that have to be the same before a guess is made: as many as there are, the more the better.
const MATCH_TOKENS_MAX: usize = 3;
const MATCH_TOKENS_MIN: usize = 2;
/// Tokens of a guess: with the token that they follow as many rows as a pass computes for hardly more than one.
const GUESS_TOKENS: usize = 3;
/// Tokens of a guess after as few tokens as may be, with nothing right before it.
const GUESS_TOKENS_UNSURE: usize = 2;
/// Tokens of a guess while a text is copied: that pass costs more, and gives more.
pub(crate) const GUESS_TOKENS_MAX: usize = 7;
/// So many tokens were right in a row where a text is being copied.
const COPIED_TOKENS: usize = 9;
/// So many guesses in a row may be wrong from their first token on.
const MISSES_MAX: usize = 2;
/// Tokens generated without a guess after one more; doubled each time.
const PAUSE_TOKENS_FIRST: usize = 4;
const PAUSE_TOKENS_MAX: usize = 128;

/// Guesses for one text.
pub(crate) struct PromptLookup {
    /// Where the text goes on after some tokens were last seen, by their number.
    after: [HashMap<[u32; MATCH_TOKENS_MAX], usize>; MATCH_TOKENS_MAX - MATCH_TOKENS_MIN + 1],
    /// Places up to here are known.
    seen: usize,
    /// Tokens that were right since the last wrong one.
    right_in_a_row: usize,
    misses: usize,
    pause: usize,
    next_pause: usize,
}

impl PromptLookup {
    /// For a text of up to `tokens_max` tokens.
    pub(crate) fn new(tokens_max: usize) -> Self {
        Self {
            after: std::array::from_fn(|_| HashMap::with_capacity(tokens_max)),
            seen: MATCH_TOKENS_MIN,
            right_in_a_row: 0,
            misses: 0,
            pause: 0,
            next_pause: PAUSE_TOKENS_FIRST,
        }
    }

    /// How `text` may go on, at most `tokens_max` tokens; empty where there is no guess worth trying.
    pub(crate) fn guess<'a>(&mut self, text: &'a [u32], tokens_max: usize) -> &'a [u32] {
        while self.seen < text.len() {
            for (after, tokens) in self.after.iter_mut().zip(MATCH_TOKENS_MIN..) {
                after.extend(before(text, self.seen, tokens).map(|key| (key, self.seen)));
            }
            self.seen += 1;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        let mut longest_first = self.after.iter().enumerate().rev();
        let found = longest_first.find_map(|(fewer, after)| {
            let matched = MATCH_TOKENS_MIN + fewer;
            let from = after.get(&before(text, text.len(), matched)?)?;
            Some((*from, matched))
        });
        let Some((from, matched)) = found else {
            return &[];
        };
        let wanted = match self.right_in_a_row {
            COPIED_TOKENS.. => GUESS_TOKENS_MAX,
            0 if matched == MATCH_TOKENS_MIN => GUESS_TOKENS_UNSURE,
            _ => GUESS_TOKENS,
        };
        let count = tokens_max.min(wanted).min(text.len() - from);
        &text[from..from + count]
    }

    /// Takes in how many of `guessed` tokens were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        self.right_in_a_row = match right == guessed {
            true => self.right_in_a_row + right,
            false => 0,
        };
        if right > 0 {
            self.misses = 0;
            self.next_pause = PAUSE_TOKENS_FIRST;
            return;
        }
        self.misses += 1;
        if self.misses > MISSES_MAX {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSE_TOKENS_MAX);
        }
    }
}

/// The last `tokens` tokens before a place, if there are as many.
fn before(text: &[u32], place: usize, tokens: usize) -> Option<[u32; MATCH_TOKENS_MAX]> {
    let from = place.checked_sub(tokens)?;
    let mut key = [0; MATCH_TOKENS_MAX];
    key[..tokens].copy_from_slice(&text[from..place]);
    Some(key)
}

/// Passes with guesses are not tried for as many passes after they turned out slower.
const SLOWER_PAUSE_PASSES: usize = 256;
/// Passes of a kind that are measured before they are judged.
const MEASURED_PASSES_MIN: usize = 4;
/// Weight of the latest pass in the running mean.
const LATEST_WEIGHT: f64 = 0.2;

/// Whether passes with guesses give more tokens a second than passes without, on this machine and with this many
/// sequences at a time.
#[derive(Default)]
pub(crate) struct Payoff {
    sequences: usize,
    plain: Speed,
    guessing: Speed,
    pause: usize,
}

/// Tokens of a sequence a second.
#[derive(Default)]
struct Speed {
    mean: f64,
    passes: usize,
}

impl Payoff {
    /// Whether the next pass may have guesses, for `sequences` sequences.
    pub(crate) fn allows(&mut self, sequences: usize) -> bool {
        if sequences != self.sequences {
            *self = Self {
                sequences,
                ..Self::default()
            };
        }
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        true
    }

    /// Takes in a pass that gave `tokens` tokens.
    pub(crate) fn measure(&mut self, guessed: bool, tokens: usize, took: Duration) {
        let speed = tokens as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
        match guessed {
            true => self.guessing.take_in(speed),
            false => self.plain.take_in(speed),
        }
        let measured = self.plain.passes.min(self.guessing.passes) >= MEASURED_PASSES_MIN;
        if measured && self.guessing.mean < self.plain.mean {
            self.guessing = Speed::default();
            self.pause = SLOWER_PAUSE_PASSES;
        }
    }
}

impl Speed {
    fn take_in(&mut self, speed: f64) {
        let weight = match self.passes {
            0 => 1.0,
            _ => LATEST_WEIGHT,
        };
        self.mean += weight * (speed - self.mean);
        self.passes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_what_followed_the_last_time() {
        let mut lookup = PromptLookup::new(32);
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3];
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6]);
        assert_eq!(lookup.guess(&text, 2), [4, 5]);
        for _ in 0..3 {
            lookup.learn(3, 3);
        }
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6, 7, 8, 1, 2]);
        lookup.learn(7, 1);
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6]);
    }

    #[test]
    fn guesses_less_after_fewer_of_the_same_tokens() {
        let text = [2, 3, 4, 5, 6, 1, 2, 3];
        let mut lookup = PromptLookup::new(32);
        assert_eq!(lookup.guess(&text, 7), [4, 5]);
        lookup.learn(2, 2);
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6]);
    }

    #[test]
    fn prefers_what_followed_more_of_the_same_tokens() {
        let text = [1, 2, 3, 9, 2, 3, 8, 1, 2, 3];
        assert_eq!(PromptLookup::new(32).guess(&text, 1), [9]);
        let text = [1, 2, 3, 9, 2, 3, 8, 7, 2, 3];
        assert_eq!(PromptLookup::new(32).guess(&text, 1), [8]);
    }

    #[test]
    fn waits_longer_each_time_nothing_was_right() {
        let mut lookup = PromptLookup::new(4096);
        let mut text = vec![7; 8];
        let mut waits = |lookup: &mut PromptLookup| {
            lookup.learn(3, 0);
            let mut waited = 0;
            while lookup.guess(&text, 7).is_empty() {
                text.push(7);
                waited += 1;
            }
            waited
        };
        let waited = [0; 9].map(|_| waits(&mut lookup));
        assert_eq!(waited, [0, 0, 4, 8, 16, 32, 64, 128, 128]);
        lookup.learn(3, 1);
        let waited = [0; 3].map(|_| waits(&mut lookup));
        assert_eq!(waited, [0, 0, 4]);
    }

    #[test]
    fn passes_that_are_slower_are_left_alone_for_a_while() {
        let mut payoff = Payoff::default();
        let millisecond = Duration::from_millis(1);
        for _ in 0..MEASURED_PASSES_MIN {
            assert!(payoff.allows(1));
            payoff.measure(false, 1, millisecond);
            payoff.measure(true, 2, 3 * millisecond);
        }
        let refused = (0..1000).take_while(|_| !payoff.allows(1)).count();
        assert_eq!(refused, SLOWER_PAUSE_PASSES);
        assert!(payoff.allows(2));
    }
}
