//! One generation as a state machine: logits in, one token and its certain text out.
//!
//! Invariants: text never ends inside of a character, nor inside of what may become a stop string; with a constraint,
//! every token is one that it allows, and no random number is drawn for a forced one.
//! What is absent: the model, the clock, and the receiver.

use crate::constraint::Constraint;
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
    constraint: Option<Constraint>,
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
        constraint: Option<Constraint>,
    ) -> Result<Self> {
        Ok(Self {
            prompt_tokens: prompt.len(),
            max_tokens,
            sampler,
            stream: tokenizer.stream(prompt.last().copied())?,
            stop: StopStrings::new(stop)?,
            tokens: prompt,
            tokenizer,
            constraint,
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

    /// How probable the chosen tokens were, if that was asked for.
    pub(crate) fn mean_probability(&self) -> Option<f32> {
        self.sampler.mean_probability()
    }

    /// Chooses the next token from the logits after the latest one, unless the constraint forces it.
    ///
    /// # Errors
    /// [`crate::EngineError::NonFiniteLogits`] and [`crate::EngineError::ConstraintFailed`].
    pub(crate) fn step(&mut self, logits: &mut [f32]) -> Result<Step> {
        if let Some(step) = self.forced_step()? {
            return Ok(step);
        }
        // Embeddings may be padded beyond the vocabulary; what lies there is no token.
        let vocabulary = self.tokenizer.len().min(logits.len());
        let allowed = self.constraint.as_mut().map(Constraint::mask).transpose()?;
        let id = self
            .sampler
            .choose(&mut logits[..vocabulary], &self.tokens, allowed)?;
        self.take(id)
    }

    /// Takes the next token without logits if the constraint forces it; `None` where there is a choice. Whoever
    /// repeats this until there is one saves a pass of the model for each token.
    ///
    /// # Errors
    /// [`crate::EngineError::ConstraintFailed`].
    pub(crate) fn forced_step(&mut self) -> Result<Option<Step>> {
        let forced = self.constraint.as_mut().map(Constraint::forced);
        let next = forced.and_then(|tokens| tokens.first().copied());
        next.map(|id| self.take(id)).transpose()
    }

    fn take(&mut self, id: u32) -> Result<Step> {
        if let Some(constraint) = &mut self.constraint {
            constraint.commit(id)?;
        }
        self.tokens.push(id);
        if self.tokenizer.special().end_of_generation.contains(&id) {
            return Ok(Step::End);
        }
        let released = self.stop.push(self.stream.push(id)?);
        let text = released.text;
        let is_complete = self
            .constraint
            .as_ref()
            .is_some_and(Constraint::is_complete);
        if released.stopped || is_complete {
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

#[cfg(test)]
mod tests {
    use postern_testkit::gguf::TinyModel;
    use serde_json::json;

    use super::*;
    use crate::constraint::Grammars;
    use crate::gguf::Gguf;
    use crate::job::Sampling;

    fn tokenizer() -> Tokenizer {
        let file = TinyModel::new("llama").build();
        let length = file.len() as u64;
        let gguf = Gguf::read(std::io::Cursor::new(file), length).expect("a sound file");
        Tokenizer::from_metadata(gguf.metadata()).expect("a sound vocabulary")
    }

    /// Ids and text of a generation, and how many times logits were needed. `takes_forced` leaves them out
    /// where the constraint decides alone.
    fn generate(seed: u64, max_tokens: usize, takes_forced: bool) -> (Vec<u32>, String, usize) {
        let tokenizer = tokenizer();
        let schema = json!({
            "type": "object",
            "properties": { "the first": { "type": "integer", "minimum": 0, "maximum": 999 }, "b": { "enum": ["ä", "in", "it"] } },
            "required": ["the first", "b"],
            "additionalProperties": false,
        });
        let constraint = Constraint::new(&Grammars::new(tokenizer.clone()), &schema);
        let sampling = Sampling {
            temperature: 1.0,
            seed,
            ..Sampling::greedy()
        };
        let constraint = Some(constraint.expect("a sound schema"));
        let state = GenerationState::new(
            tokenizer,
            vec![65],
            Sampler::new(sampling).expect("sound parameters"),
            vec![],
            max_tokens,
            constraint,
        );
        let mut state = state.expect("sound parameters");
        let (mut text, mut passes) = (String::new(), 0);
        loop {
            let forced = if takes_forced {
                state.forced_step()
            } else {
                Ok(None)
            };
            let step = forced.expect("it is allowed").unwrap_or_else(|| {
                passes += 1;
                let wave = |id: usize| {
                    (id as f32 * 0.7 + *state.tokens().last().expect("a prompt has a token") as f32)
                        .sin()
                };
                let mut logits: Vec<f32> = (0..300).map(wave).collect();
                state.step(&mut logits).expect("finite logits")
            });
            match step {
                Step::Token { text: part, .. } => text.push_str(&part),
                Step::Last { text: part, .. } => {
                    text.push_str(&part);
                    break;
                }
                Step::End => break,
            }
        }
        text.push_str(&state.tail());
        (state.tokens, text, passes)
    }

    #[test]
    fn forced_tokens_need_no_logits_and_change_nothing() {
        for seed in 0..10 {
            let (tokens, text, passes) = generate(seed, 100, false);
            let (same_tokens, same_text, fewer_passes) = generate(seed, 100, true);
            assert_eq!((&same_tokens, &same_text), (&tokens, &text), "seed {seed}");
            assert_eq!(passes, tokens.len() - 1);
            assert!(
                fewer_passes < passes / 2,
                "{fewer_passes} of {passes}: {text}"
            );
        }
    }

    #[test]
    fn forced_tokens_count_towards_the_limit() {
        for takes_forced in [false, true] {
            let (tokens, text, _) = generate(0, 3, takes_forced);
            assert_eq!((tokens.len(), text.as_str()), (4, "{\"the"));
        }
    }
}
