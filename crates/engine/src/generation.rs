//! One generation as a state machine: logits in, one token and its certain text out.
//!
//! Invariant: text never ends inside of a character, nor inside of what may become a stop string.
//! What is absent: the model, the clock, and the receiver.

use crate::error::Result;
use crate::job::FinishReason;
use crate::sampler::Sampler;
use crate::stop::StopStrings;
use crate::tokenizer::{TokenStream, Tokenizer};

/// A generation in progress.
pub(crate) struct GenerationState {
    /// Prompt, then what was generated.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    max_tokens: usize,
    sampler: Sampler,
    stream: TokenStream,
    stop: StopStrings,
    tokenizer: Tokenizer,
}

/// What one step led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// A token, with the text that became certain; generation goes on.
    Token { id: u32, text: String },
    /// A last token with its text, then the end.
    Last {
        id: u32,
        text: String,
        reason: FinishReason,
    },
    /// The model ended the text with a token that has none.
    End,
}

impl GenerationState {
    /// # Errors
    /// Parameters out of bounds, and prompt tokens that the vocabulary does not have.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        prompt: Vec<u32>,
        sampler: Sampler,
        stop: Vec<String>,
        max_tokens: usize,
    ) -> Result<Self> {
        Ok(Self {
            prompt_tokens: prompt.len(),
            max_tokens,
            sampler,
            stream: tokenizer.stream(prompt.last().copied())?,
            stop: StopStrings::new(stop)?,
            tokens: prompt,
            tokenizer,
        })
    }

    pub(crate) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_tokens]
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(crate) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// Prompt, then what was generated.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that may still be generated.
    pub(crate) fn tokens_left(&self) -> usize {
        self.max_tokens - self.completion_tokens()
    }

    pub(crate) fn last_token(&self) -> u32 {
        *self.tokens.last().expect("a prompt has at least one token")
    }

    /// Chooses the next token from the logits after the latest one.
    ///
    /// # Errors
    /// [`crate::EngineError::NonFiniteLogits`].
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Result<Step> {
        // Embeddings may be padded beyond the vocabulary; what lies there is no token.
        let vocabulary = self.tokenizer.len().min(logits.len());
        let id = self
            .sampler
            .choose(&mut logits[..vocabulary], &self.tokens)?;
        self.tokens.push(id);
        if self.tokenizer.special().end_of_generation.contains(&id) {
            return Ok(Step::End);
        }
        let released = self.stop.push(self.stream.push(id)?);
        let text = released.text;
        if released.stopped {
            return Ok(Step::Last {
                id,
                text,
                reason: FinishReason::Stop,
            });
        }
        if self.completion_tokens() == self.max_tokens {
            return Ok(Step::Last {
                id,
                text,
                reason: FinishReason::Length,
            });
        }
        Ok(Step::Token { id, text })
    }

    /// Text that was held back, once the generation has ended other than by a stop string. A stop
    /// string that only the last bytes complete still ends the text before it.
    pub(crate) fn tail(&mut self) -> String {
        let rest = self.stream.finish();
        let released = self.stop.push(rest);
        if released.stopped {
            return released.text;
        }
        released.text + &self.stop.finish()
    }
}
