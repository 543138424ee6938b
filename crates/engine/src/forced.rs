//! Tokens that are given instead of chosen: for comparing logits with references, and for measuring what a text costs that
//! a model with random weights would never write.
//!
//! Invariant: prompts are prefilled in the worker's chunks and further tokens are decoded one at a time, those of all
//! sequences in one pass, so these are the logits that generations would sample from. Between two tokens nothing is
//! allocated here.
//! Absent: sampling, queues, threads; and the product, which never asks for logits.

use crate::backend::{self, Backend, Batch, Opening, SequenceId};
use crate::config::EngineConfig;
use crate::engine::{Engine, Generation};
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::job::Job;
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
/// Shows them with the index of the sequence: after each prompt, then after each step, in the order of the sequences.
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

    let ids = sequences
        .iter()
        .map(|tokens| open(&mut *backend, *tokens))
        .collect::<Result<Vec<_>>>()?;
    let (mut batch, mut logits) = (Batch::default(), Vec::new());
    for (index, (tokens, &sequence)) in sequences.iter().zip(&ids).enumerate() {
        let mut chunks = tokens.prompt.chunks(config.prefill_chunk_tokens).peekable();
        while let Some(chunk) = chunks.next() {
            batch.clear();
            let wanted = usize::from(chunks.peek().is_none());
            batch.push(sequence, chunk.iter().copied(), wanted);
            backend.forward(&batch, &mut logits)?;
        }
        show(index, &logits);
    }
    let vocabulary = backend.vocabulary();
    let longest = sequences.iter().map(|tokens| tokens.next.len()).max();
    for at in 0..longest.unwrap_or(0) {
        batch.clear();
        for (tokens, &sequence) in sequences.iter().zip(&ids) {
            if let Some(&token) = tokens.next.get(at) {
                batch.push(sequence, [token], 1);
            }
        }
        backend.forward(&batch, &mut logits)?;
        let active = (0..sequences.len()).filter(|&index| at < sequences[index].next.len());
        for (index, logits) in active.zip(logits.chunks_exact(vocabulary)) {
            show(index, logits);
        }
    }
    for sequence in ids {
        backend.close(sequence);
    }
    Ok(backend.name())
}

/// A sequence that begins with nothing: its prompt is computed, whatever others begin with.
fn open(backend: &mut dyn Backend, tokens: ForcedTokens<'_>) -> Result<SequenceId> {
    let opening = Opening::apart(tokens.prompt.len() + tokens.next.len());
    match backend.open(&opening) {
        Some((sequence, _)) => Ok(sequence),
        None => Err(EngineError::Backend {
            backend: backend.name(),
            doing: "opening a sequence",
            reason: "the KV cache has no room for all of them; give it more or take fewer"
                .to_owned(),
        }),
    }
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

/// Generates with `engine`, but takes the tokens of `script` instead of choosing any; everything else, guesses that are
/// checked against it included, is as for any job.
///
/// # Errors
/// As [`Engine::submit`].
pub fn forced_generation(engine: &Engine, job: Job, script: Vec<u32>) -> Result<Generation> {
    engine.submit_scripted(job, Some(script))
}
