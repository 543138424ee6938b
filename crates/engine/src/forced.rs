//! Tokens that are given instead of chosen: for comparing logits with references, and for measuring what a text costs that
//! a model with random weights would never write.
//!
//! Invariant: prompts are prefilled in the worker's chunks and further tokens are decoded one at a time, so these
//! are the logits that a generation would sample from.
//! Absent: sampling, queues, threads; and the product, which never asks for logits.

use crate::backend::{self, Batch, Opening};
use crate::config::EngineConfig;
use crate::engine::{Engine, Generation};
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::job::Job;
use crate::model_file::VerifiedModel;

/// Computes the logits `[vocabulary]` that follow `prompt` and, after it, each of `next`, and shows them in this
/// order. Returns the name of the backend.
///
/// # Errors
/// Whatever makes the configuration, the model or a token unusable; see [`EngineError`].
pub fn forced_logits(
    mut model: VerifiedModel,
    config: &EngineConfig,
    prompt: &[u32],
    next: &[u32],
    show: &mut dyn FnMut(&[f32]),
) -> Result<&'static str> {
    config.check()?;
    if prompt.is_empty() {
        return Err(EngineError::PromptEmpty);
    }
    let length = model.bytes();
    let gguf = Gguf::read(model.reader(), length)?;
    let mut backend = backend::load(model, &gguf, config)?;
    let context_tokens = backend.context_tokens();
    if prompt.len() + next.len() > context_tokens {
        return Err(EngineError::ContextOverflow {
            prompt_tokens: prompt.len(),
            max_tokens: next.len(),
            context_tokens,
        });
    }

    let opening = Opening {
        prompt: &[],
        shared_tokens: 0,
        tenant: "",
        tokens_max: prompt.len() + next.len(),
    };
    let (sequence, _) = backend.open(&opening).expect("the first sequence has room");
    let (mut batch, mut logits) = (Batch::default(), Vec::new());
    let mut compute = |tokens: &[u32], wanted: bool| {
        batch.clear();
        batch.push(sequence, tokens.iter().copied(), usize::from(wanted));
        backend.forward(&batch, &mut logits)?;
        if wanted {
            show(&logits);
        }
        Ok(())
    };
    let mut chunks = prompt.chunks(config.prefill_chunk_tokens).peekable();
    while let Some(chunk) = chunks.next() {
        compute(chunk, chunks.peek().is_none())?;
    }
    for token in next {
        compute(std::slice::from_ref(token), true)?;
    }
    backend.close(sequence);
    Ok(backend.name())
}

/// Generates with `engine`, but takes the tokens of `script` instead of choosing any; everything else, guesses that are
/// checked against it included, is as for any job.
///
/// # Errors
/// As [`Engine::submit`].
pub fn forced_generation(engine: &Engine, job: Job, script: Vec<u32>) -> Result<Generation> {
    engine.submit_scripted(job, Some(script))
}
