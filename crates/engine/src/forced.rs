//! The logits of tokens that are given, for comparing backends with references.
//!
//! Invariant: prompts are prefilled in the worker's chunks and further tokens are decoded one at a time, so these
//! are the logits that a generation would sample from.
//! Absent: sampling, queues, threads; and the product, which never asks for logits.

use crate::backend::{self, DecodeStep};
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
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

    let sequence = backend.open();
    let mut logits = [Vec::new()];
    let mut chunks = prompt.chunks(config.prefill_chunk_tokens).peekable();
    while let Some(chunk) = chunks.next() {
        let wanted = chunks.peek().is_none().then_some(&mut logits[0]);
        backend.prefill(sequence, chunk, wanted)?;
    }
    show(&logits[0]);
    for &token in next {
        backend.decode(&[DecodeStep { sequence, token }], &mut logits)?;
        show(&logits[0]);
    }
    backend.close(sequence);
    Ok(backend.name())
}
