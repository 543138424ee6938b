//! Prompt lookup: guesses how a text goes on from what followed the same tokens before, in the prompt or in the text so
//! far. Guesses are computed in one pass with the token they follow; those that turn out wrong are thrown away, so
//! no text changes.
//!
//! Absent: a second model; any choice of tokens, which is the sampler's.
//!
//! Source: Saxena, *Prompt Lookup Decoding*, 2023; the idea of verified guesses is arXiv:2211.17192.

use std::collections::HashMap;
use std::time::Duration;

/// Tokens that have to be the same before a guess is made.
const MATCH_TOKENS: usize = 3;
/// Most tokens guessed at a time: with the token they follow, as many rows as a pass computes for little more than one.
pub(crate) const GUESS_TOKENS_MAX: usize = 7;
/// Tokens of the first guess.
const GUESS_TOKENS_FIRST: usize = 4;
/// Tokens generated without a guess after one of which nothing was right; doubled each time.
const PAUSE_TOKENS_FIRST: usize = 8;
const PAUSE_TOKENS_MAX: usize = 128;

/// Guesses for one text.
pub(crate) struct PromptLookup {
    /// Where the text goes on after some tokens were last seen.
    after: HashMap<[u32; MATCH_TOKENS], usize>,
    /// Places up to here are known.
    seen: usize,
    guess_tokens: usize,
    pause: usize,
    next_pause: usize,
}

impl PromptLookup {
    /// For a text of up to `tokens_max` tokens.
    pub(crate) fn new(tokens_max: usize) -> Self {
        Self {
            after: HashMap::with_capacity(tokens_max),
            seen: MATCH_TOKENS,
            guess_tokens: GUESS_TOKENS_FIRST,
            pause: 0,
            next_pause: PAUSE_TOKENS_FIRST,
        }
    }

    /// How `text` may go on, at most `tokens_max` tokens; empty where there is no guess worth trying.
    pub(crate) fn guess<'a>(&mut self, text: &'a [u32], tokens_max: usize) -> &'a [u32] {
        while self.seen < text.len() {
            self.after.insert(before(text, self.seen), self.seen);
            self.seen += 1;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return &[];
        }
        if text.len() < MATCH_TOKENS {
            return &[];
        }
        let Some(&from) = self.after.get(&before(text, text.len())) else {
            return &[];
        };
        let count = tokens_max.min(self.guess_tokens).min(text.len() - from);
        &text[from..from + count]
    }

    /// Takes in how many of `guessed` tokens were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        if right == 0 {
            self.guess_tokens = GUESS_TOKENS_FIRST;
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSE_TOKENS_MAX);
        } else {
            self.next_pause = PAUSE_TOKENS_FIRST;
            self.guess_tokens = match right == guessed {
                true => (2 * self.guess_tokens).min(GUESS_TOKENS_MAX),
                false => right + 1,
            };
        }
    }
}

fn before(text: &[u32], place: usize) -> [u32; MATCH_TOKENS] {
    std::array::from_fn(|index| text[place - MATCH_TOKENS + index])
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
        let text = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6, 9]);
        assert_eq!(lookup.guess(&text, 2), [4, 5]);
        lookup.learn(4, 4);
        assert_eq!(lookup.guess(&text, 7), [4, 5, 6, 9, 1, 2, 3]);
        lookup.learn(7, 1);
        assert_eq!(lookup.guess(&text, 7), [4, 5]);
    }

    #[test]
    fn waits_longer_each_time_nothing_was_right() {
        let mut lookup = PromptLookup::new(4096);
        let mut text = vec![7; 8];
        let mut waits = |lookup: &mut PromptLookup| {
            lookup.learn(4, 0);
            let mut waited = 0;
            while lookup.guess(&text, 7).is_empty() {
                text.push(7);
                waited += 1;
            }
            waited
        };
        assert_eq!(
            [0; 6].map(|_| waits(&mut lookup)),
            [8, 16, 32, 64, 128, 128]
        );
        lookup.learn(4, 1);
        assert_eq!(waits(&mut lookup), 8);
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
