//! A generation that has a sequence: what it computes next, and what it tells its receiver.
//!
//! Invariant: its sequence holds its text up to the tokens that were not computed yet: the rest of its prompt, or the
//! latest token and those that a constraint forced behind it.
//! Absent: the backend, and other generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::backend::{Batch, SequenceId};
use crate::error::{EngineError, Result};
use crate::generation::{GenerationState, Step};
use crate::job::{Event, FinishReason, Finished, Timings, Usage};
use crate::lookup::PromptLookup;
use crate::worker::Caller;

/// A generation in progress.
pub(crate) struct Active {
    pub(crate) sequence: SequenceId,
    state: GenerationState,
    /// Tokens that the sequence holds.
    computed: usize,
    /// Those that it held from the start.
    cached: usize,
    /// Tokens that the next pass computes ahead; each follows from the one before if the guess is right.
    guess: Vec<u32>,
    lookup: Option<PromptLookup>,
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    clock: Clock,
}

/// When what happened.
struct Clock {
    submitted: Instant,
    started: Instant,
    first_token: Option<Instant>,
}

/// A generation's part of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Pushed {
    pub(crate) sequence: SequenceId,
    /// Tokens of its text.
    pub(crate) tokens: usize,
    /// Tokens behind them that are only guessed.
    pub(crate) guessed: usize,
    /// Rows of logits; none where more of the text is to be computed first.
    pub(crate) logits: usize,
}

/// What a pass meant for a generation.
pub(crate) enum Outcome {
    /// It goes on.
    GoesOn {
        /// Tokens that its sequence keeps; what was guessed wrong goes.
        keeps: usize,
        /// Guesses that were right.
        right: usize,
    },
    /// It is over.
    Ended(FinishReason),
    /// It failed.
    Failed(EngineError),
}

impl Active {
    /// Tells the receiver that processing begins.
    pub(crate) fn start(
        caller: Caller,
        state: GenerationState,
        (sequence, cached): (SequenceId, usize),
        lookup: Option<PromptLookup>,
        started: Instant,
    ) -> Self {
        let prompt_tokens = state.prompt_tokens();
        send(&caller.events, Event::Started { prompt_tokens });
        Self {
            sequence,
            state,
            computed: cached,
            cached,
            guess: Vec::new(),
            lookup,
            events: caller.events,
            cancelled: caller.cancelled,
            clock: Clock {
                submitted: caller.submitted,
                started,
                first_token: None,
            },
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn is_prefilling(&self) -> bool {
        self.computed < self.state.prompt_tokens()
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.state.prompt_tokens(),
            cached_prompt_tokens: self.cached,
            completion_tokens: self.state.completion_tokens(),
        }
    }

    /// Puts what is to be computed next into the batch, up to `tokens_max` tokens, and up to `guess_max` guesses behind
    /// it if that is all.
    pub(crate) fn push(
        &mut self,
        batch: &mut Batch,
        tokens_max: usize,
        guess_max: usize,
    ) -> Pushed {
        let pending = &self.state.tokens()[self.computed..];
        let tokens = pending.len().min(tokens_max);
        let is_all = tokens == pending.len();
        self.guess.clear();
        if let (Some(lookup), true) = (&mut self.lookup, is_all && guess_max > 0) {
            let guess_max = guess_max.min(self.state.tokens_left().saturating_sub(1));
            self.guess
                .extend_from_slice(lookup.guess(self.state.tokens(), guess_max));
        }
        let pushed = Pushed {
            sequence: self.sequence,
            tokens,
            guessed: self.guess.len(),
            logits: if is_all { 1 + self.guess.len() } else { 0 },
        };
        let guess = self.guess.iter().copied();
        batch.push(
            self.sequence,
            pending[..tokens].iter().copied().chain(guess),
            pushed.logits,
        );
        self.computed += tokens;
        pushed
    }

    /// Chooses tokens from the logits `[rows, vocabulary]` after the latest token and each guess, as far as the guesses
    /// are right, and tells the receiver. Also says how many tokens there are more.
    pub(crate) fn advance(&mut self, logits: &mut [f32], vocabulary: usize) -> (Outcome, usize) {
        let before = self.state.completion_tokens();
        let outcome = self.choose(logits, vocabulary);
        (outcome, self.state.completion_tokens() - before)
    }

    fn choose(&mut self, logits: &mut [f32], vocabulary: usize) -> Outcome {
        let mut right = 0;
        for row in logits.chunks_exact_mut(vocabulary) {
            let token = match self.take(|state| state.step(row).map(Some)) {
                Ok(token) => token,
                Err(outcome) => return outcome,
            };
            if self.guess.get(right).copied() != token {
                break;
            }
            right += 1;
        }
        if let (Some(lookup), false) = (&mut self.lookup, self.guess.is_empty()) {
            lookup.learn(self.guess.len(), right);
        }
        self.computed += right;
        // What follows without a choice needs no logits.
        loop {
            match self.take(GenerationState::forced_step) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Outcome::GoesOn {
                        keeps: self.computed,
                        right,
                    };
                }
                Err(outcome) => return outcome,
            }
        }
    }

    /// Takes one token, if there is one, and tells the receiver; what ends the generation is the error.
    fn take(
        &mut self,
        next: impl FnOnce(&mut GenerationState) -> Result<Option<Step>>,
    ) -> std::result::Result<Option<u32>, Outcome> {
        let step = next(&mut self.state);
        self.clock.first_token.get_or_insert_with(Instant::now);
        match step {
            Ok(None) => Ok(None),
            Ok(Some(Step::Token { id, text })) => {
                match self.events.send(Event::Token { id, text }) {
                    Ok(()) => Ok(Some(id)),
                    Err(_) => Err(Outcome::Ended(FinishReason::Cancelled)),
                }
            }
            Ok(Some(Step::Last { id, text, reason })) => {
                send(&self.events, Event::Token { id, text });
                Err(Outcome::Ended(reason))
            }
            Ok(Some(Step::End)) => Err(Outcome::Ended(FinishReason::Stop)),
            Err(error) => Err(Outcome::Failed(error)),
        }
    }

    /// Tells the receiver how it ended.
    pub(crate) fn finish(mut self, finish_reason: FinishReason) {
        let finished = Finished {
            finish_reason,
            text_tail: self.state.tail(),
            usage: self.usage(),
            timings: self.clock.timings(Instant::now()),
            mean_probability: self.state.mean_probability(),
        };
        send(&self.events, Event::Done(finished));
    }

    /// Tells the receiver why it ended.
    pub(crate) fn fail(self, error: EngineError) {
        send(&self.events, Event::Failed(error));
    }
}

impl Clock {
    fn timings(&self, end: Instant) -> Timings {
        let first_token = self.first_token.unwrap_or(end);
        Timings {
            queued_ms: milliseconds(self.started - self.submitted),
            prefill_ms: milliseconds(first_token - self.started),
            decode_ms: milliseconds(end - first_token),
        }
    }
}

/// A receiver that went away has cancelled by that; the next round sees it.
pub(crate) fn send(events: &Sender<Event>, event: Event) {
    let _receiver_may_be_gone = events.send(event);
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
