//! From a job to a generation that can begin: its parameters checked, its prompt as tokens.
//!
//! Absent: the queue, the backend, and whoever waits for the answer.

use crate::chat_template::ChatTemplate;
use crate::constraint::Constraint;
use crate::error::{EngineError, Result};
use crate::generation::GenerationState;
use crate::job::{EncodedPrompt, Job, Prompt};
use crate::sampler::Sampler;
use crate::tokenizer::Tokenizer;

/// What of a model decides how jobs begin.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat_template: Option<ChatTemplate>,
    /// Tokens of prompt and answer that fit.
    pub(crate) context_tokens: usize,
}

/// What is to be generated.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) job: Job,
    /// Tokens to take instead of choosing any; see [`crate::forced_generation`].
    pub(crate) script: Option<Vec<u32>>,
    /// What the job's output is held to, compiled.
    pub(crate) constraint: Option<Constraint>,
}

/// A generation that can begin.
pub(crate) struct Prepared {
    pub(crate) state: GenerationState,
    /// Leading tokens of the prompt that are the same for everybody.
    pub(crate) shared_tokens: usize,
    pub(crate) tenant: String,
}

impl Intake {
    /// # Errors
    /// Whatever makes the job's parameters or its prompt unusable.
    pub(crate) fn prepare(&self, order: Order) -> Result<Prepared> {
        let Order {
            job,
            script,
            constraint,
        } = order;
        if job.max_tokens == 0 {
            return Err(EngineError::ParameterInvalid {
                parameter: "max_tokens",
                found: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        let EncodedPrompt {
            ids: prompt,
            shared_tokens,
        } = self.encode(job.prompt)?;
        if prompt.is_empty() {
            return Err(EngineError::PromptEmpty);
        }
        if prompt.len().saturating_add(job.max_tokens) > self.context_tokens {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: prompt.len(),
                max_tokens: job.max_tokens,
                context_tokens: self.context_tokens,
            });
        }
        let sampler = match script {
            Some(script) => Sampler::scripted(script),
            None => Sampler::new(job.sampling)?,
        };
        Ok(Prepared {
            state: GenerationState::new(
                self.tokenizer.clone(),
                prompt,
                sampler,
                job.stop,
                job.max_tokens,
                constraint,
            )?,
            shared_tokens,
            tenant: job.tenant,
        })
    }

    /// The prompt's tokens, and how many of the first are the same for everybody.
    ///
    /// # Errors
    /// Whatever makes the prompt unusable, but its length.
    pub(crate) fn encode(&self, prompt: Prompt) -> Result<EncodedPrompt> {
        let (ids, shared_tokens) = match prompt {
            Prompt::Chat(messages) => {
                let template = self
                    .chat_template
                    .as_ref()
                    .ok_or(EngineError::ChatTemplateMissing)?;
                let rendered = template.render(&self.tokenizer, &messages, None)?;
                let ids = self.tokenizer.encode_chat(&rendered)?;
                let shared_tokens = self.tokenizer.shared_tokens(&rendered, &ids)?;
                (ids, shared_tokens)
            }
            Prompt::Text(text) => {
                let mut ids = self.tokenizer.encode(&text, false)?;
                let special = self.tokenizer.special();
                if let (true, Some(bos)) = (special.add_bos, special.bos) {
                    ids.insert(0, bos);
                }
                (ids, 0)
            }
            Prompt::Tokens(ids) => (ids, 0),
            Prompt::Encoded(encoded) => (encoded.ids, encoded.shared_tokens),
        };
        // Also of what was encoded before: it may have been by another engine.
        let vocabulary = self.tokenizer.len();
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(EngineError::UnknownToken { id, vocabulary }),
            None => Ok(EncodedPrompt { ids, shared_tokens }),
        }
    }
}
