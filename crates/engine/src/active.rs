//! A generation that has a sequence: what it computes next, and what it tells its receiver.
//!
//! Invariant: its sequence holds a prefix of its prompt, or all of its text but the latest token.
//! Absent: the backend, and other generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::backend::{Batch, SequenceId};
use crate::error::EngineError;
use crate::generation::{GenerationState, Step};
use crate::job::{Event, FinishReason, Finished, Timings, Usage};
use crate::lookup::PromptLookup;
use crate::worker::Request;

/// A generation in progress.
pub(crate) struct Active {
    pub(crate) sequence: SequenceId,
    state: GenerationState,
    /// Prompt tokens that the sequence holds.
    prefilled: usize,
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

/// What a pass meant for a generation.
pub(crate) enum Outcome {
    /// It goes on. Its sequence keeps this many tokens.
    GoesOn { keeps: usize },
    /// It is over.
    Ended(FinishReason),
    /// It failed.
    Failed(EngineError),
}

impl Active {
    /// Tells the receiver that processing begins.
    pub(crate) fn start(
        request: Request,
        state: GenerationState,
        (sequence, cached): (SequenceId, usize),
        lookup: Option<PromptLookup>,
        started: Instant,
    ) -> Self {
        let prompt_tokens = state.prompt_tokens();
        send(&request.events, Event::Started { prompt_tokens });
        Self {
            sequence,
            state,
            prefilled: cached,
            cached,
            guess: Vec::new(),
            lookup,
            events: request.events,
            cancelled: request.cancelled,
            clock: Clock {
                submitted: request.submitted,
                started,
                first_token: None,
            },
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Prompt tokens that are still to be computed.
    pub(crate) fn prompt_left(&self) -> usize {
        self.state.prompt_tokens() - self.prefilled
    }

    pub(crate) fn is_prefilling(&self) -> bool {
        self.prompt_left() > 0
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.state.prompt_tokens(),
            cached_prompt_tokens: self.cached,
            completion_tokens: self.state.completion_tokens(),
        }
    }

    /// Puts up to `tokens_max` tokens of the prompt into the batch.
    pub(crate) fn push_prompt(&mut self, batch: &mut Batch, tokens_max: usize) -> usize {
        let count = self.prompt_left().min(tokens_max);
        let chunk = &self.state.prompt()[self.prefilled..][..count];
        let logits = usize::from(count == self.prompt_left());
        batch.push(self.sequence, chunk.iter().copied(), logits);
        self.prefilled += count;
        count
    }

    /// Puts the latest token into the batch, and up to `guess_max` guesses behind it. Says how many guesses.
    pub(crate) fn push_token(&mut self, batch: &mut Batch, guess_max: usize) -> usize {
        let guess_max = guess_max.min(self.state.tokens_left().saturating_sub(1));
        self.guess.clear();
        if let Some(lookup) = &mut self.lookup {
            self.guess
                .extend_from_slice(lookup.guess(self.state.tokens(), guess_max));
        }
        let tokens = std::iter::once(self.state.last_token()).chain(self.guess.iter().copied());
        batch.push(self.sequence, tokens, 1 + self.guess.len());
        self.guess.len()
    }

    /// Chooses tokens from the logits `[rows, vocabulary]` after the latest token and each guess, as far as the guesses
    /// are right, and tells the receiver. Also says how many guesses were.
    pub(crate) fn advance(&mut self, logits: &mut [f32], vocabulary: usize) -> (Outcome, usize) {
        let mut right = 0;
        for row in logits.chunks_exact_mut(vocabulary) {
            let token = match self.step(row) {
                Ok(token) => token,
                Err(outcome) => return (outcome, right),
            };
            if self.guess.get(right) != Some(&token) {
                break;
            }
            right += 1;
        }
        if let (Some(lookup), false) = (&mut self.lookup, self.guess.is_empty()) {
            lookup.learn(self.guess.len(), right);
        }
        // The latest token was chosen and not computed.
        let keeps = self.state.tokens().len() - 1;
        (Outcome::GoesOn { keeps }, right)
    }

    /// Chooses one token and tells the receiver; what ends the generation is the error.
    fn step(&mut self, logits: &mut [f32]) -> Result<u32, Outcome> {
        let step = self.state.step(logits);
        self.clock.first_token.get_or_insert_with(Instant::now);
        match step {
            Ok(Step::Token { id, text }) => match self.events.send(Event::Token { id, text }) {
                Ok(()) => Ok(id),
                Err(_) => Err(Outcome::Ended(FinishReason::Cancelled)),
            },
            Ok(Step::Last { id, text, reason }) => {
                send(&self.events, Event::Token { id, text });
                Err(Outcome::Ended(reason))
            }
            Ok(Step::End) => Err(Outcome::Ended(FinishReason::Stop)),
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
