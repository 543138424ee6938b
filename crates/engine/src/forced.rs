//! The logits of tokens that are given, for comparing backends with references, and for measuring them alone.
//!
//! Invariant: prompts are prefilled in the worker's chunks and further tokens are decoded one at a time, those of all
//! sequences in one pass, so these are the logits that generations would sample from. Between two tokens nothing is
//! allocated here.
//! Absent: sampling, queues, threads; and the product, which never asks for logits.

use crate::backend::{self, DecodeStep};
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::model_file::VerifiedModel;

/// The tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct ForcedTokens<'a> {
    /// What is prefilled: at least one token.
    pub prompt: &'a [u32],
    /// What is decoded after it, a token at a time; a sequence without more tokens rests.
    pub next: &'a [u32],
}

/// Computes for each sequence the logits `[vocabulary]` that follow its prompt and, after it, each of its next tokens.
/// Shows them with the index of the sequence: after all prompts, then after each step, in the order of the sequences.
/// Returns the name of the backend.
///
/// # Errors
/// Whatever makes the configuration, the model or a token unusable, more sequences than the configuration allows
/// among it; see [`EngineError`].
pub fn forced_logits(
    mut model: VerifiedModel,
    config: &EngineConfig,
    sequences: &[ForcedTokens<'_>],
    show: &mut dyn FnMut(usize, &[f32]),
) -> Result<&'static str> {
    config.check()?;
    check_count(sequences.len(), config)?;
    let length = model.bytes();
    let gguf = Gguf::read(model.reader(), length)?;
    let mut backend = backend::load(model, &gguf, config)?;
    for tokens in sequences {
        check_length(*tokens, backend.context_tokens())?;
    }

    let ids: Vec<_> = sequences.iter().map(|_| backend.open()).collect();
    let mut logits = vec![Vec::new(); sequences.len()];
    for ((tokens, &sequence), logits) in sequences.iter().zip(&ids).zip(&mut logits) {
        let mut chunks = tokens.prompt.chunks(config.prefill_chunk_tokens).peekable();
        while let Some(chunk) = chunks.next() {
            let wanted = chunks.peek().is_none().then_some(&mut *logits);
            backend.prefill(sequence, chunk, wanted)?;
        }
    }
    for (index, logits) in logits.iter().enumerate() {
        show(index, logits);
    }
    let longest = sequences.iter().map(|tokens| tokens.next.len()).max();
    let mut steps = Vec::with_capacity(sequences.len());
    for at in 0..longest.unwrap_or(0) {
        steps.clear();
        steps.extend(
            sequences
                .iter()
                .zip(&ids)
                .filter_map(|(tokens, &sequence)| {
                    let &token = tokens.next.get(at)?;
                    Some(DecodeStep { sequence, token })
                }),
        );
        backend.decode(&steps, &mut logits[..steps.len()])?;
        let active = (0..sequences.len()).filter(|&index| at < sequences[index].next.len());
        for (index, logits) in active.zip(&logits) {
            show(index, logits);
        }
    }
    for sequence in ids {
        backend.close(sequence);
    }
    Ok(backend.name())
}

fn check_count(sequences: usize, config: &EngineConfig) -> Result<()> {
    if sequences <= config.sequences_max {
        return Ok(());
    }
    Err(EngineError::ParameterInvalid {
        parameter: "sequences",
        found: sequences.to_string(),
        expected: format!("at most `sequences-max`, {}", config.sequences_max),
    })
}

fn check_length(tokens: ForcedTokens<'_>, context_tokens: usize) -> Result<()> {
    if tokens.prompt.is_empty() {
        return Err(EngineError::PromptEmpty);
    }
    if tokens.prompt.len() + tokens.next.len() > context_tokens {
        return Err(EngineError::ContextOverflow {
            prompt_tokens: tokens.prompt.len(),
            max_tokens: tokens.next.len(),
            context_tokens,
        });
    }
    Ok(())
}
