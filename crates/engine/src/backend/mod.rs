//! What computes: a backend turns token ids into logits, for several sequences with a KV cache each.
//!
//! Invariants: what a sequence computes does not depend on the other sequences, bit for bit, so
//! the same seed gives the same text whatever else is going on; a backend never sees text.
//!
//! What is absent: sampling, scheduling, tokenization.

mod architecture;
mod candle;
mod native;
mod rope;
#[cfg(test)]
mod tests;
mod threads;

use self::architecture::Architecture;
use crate::config::{BackendChoice, EngineConfig};
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, Quantization};
use crate::model_file::VerifiedModel;

/// Architectures (`general.architecture`) that a backend computes. Mistral models call themselves `llama`.
pub const KNOWN_ARCHITECTURES: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3"];

/// The names of the backends.
const NATIVE: &str = "native";
const CANDLE: &str = "candle";

/// A place in a backend that holds one sequence's KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SequenceId(usize);

/// What a sequence is opened for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// What it begins with.
    pub(crate) prompt: &'a [u32],
    /// Leading tokens of the prompt that are a template's own text, the same for everybody.
    pub(crate) shared_tokens: usize,
    /// Whose the rest is: it is found again for this name only.
    pub(crate) tenant: &'a str,
    /// Most tokens that it may have, at most the backend's context.
    pub(crate) tokens_max: usize,
}

impl Opening<'_> {
    /// For a sequence that shares nothing with any other.
    pub(crate) fn apart(tokens_max: usize) -> Self {
        Self {
            prompt: &[],
            shared_tokens: 0,
            tenant: "",
            tokens_max,
        }
    }
}

/// Rows of one pass: tokens to append to sequences, one after another.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) tokens: Vec<u32>,
    pub(crate) parts: Vec<Part>,
}

/// What a pass appends to one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) sequence: SequenceId,
    /// How many of the batch's tokens, at least one.
    pub(crate) tokens: usize,
    /// How many of them, from the last one back, logits are wanted for.
    pub(crate) logits: usize,
}

/// How full the KV cache is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cache {
    /// Pages of the whole cache; 0 where a backend has no pages.
    pub pages: usize,
    /// Pages of sequences that are being generated.
    pub pages_in_use: usize,
    /// Pages that are kept in case that a prompt begins as theirs did; they are given up when room is needed.
    pub pages_kept: usize,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.parts.clear();
    }

    pub(crate) fn push(
        &mut self,
        sequence: SequenceId,
        tokens: impl IntoIterator<Item = u32>,
        logits: usize,
    ) {
        let before = self.tokens.len();
        self.tokens.extend(tokens);
        self.parts.push(Part {
            sequence,
            tokens: self.tokens.len() - before,
            logits,
        });
    }

    /// Each part with its tokens.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Part, &[u32])> {
        let mut rest = &self.tokens[..];
        self.parts.iter().map(move |part| {
            let (tokens, after) = rest.split_at(part.tokens);
            rest = after;
            (*part, tokens)
        })
    }
}

/// Computes logits for sequences that grow at their end.
pub(crate) trait Backend {
    /// Its name in records.
    fn name(&self) -> &'static str;

    /// Most tokens of one sequence.
    fn context_tokens(&self) -> usize;

    /// Number of logits of one token.
    fn vocabulary(&self) -> usize;

    /// Whether a row's result has the same bits whatever else is in the batch and however a sequence was cut into
    /// batches. Only then may batches be cut freely, and tokens be computed ahead.
    fn rows_are_independent(&self) -> bool;

    /// Makes room for a new sequence, and says how many tokens of its prompt it has already; `None` where there is no room now.
    fn open(&mut self, opening: &Opening<'_>) -> Option<(SequenceId, usize)>;

    /// Frees a sequence.
    fn close(&mut self, sequence: SequenceId);

    /// Appends the batch's tokens to its sequences, of which each is there once. `logits` becomes what is wanted of each part, row
    /// by row `[rows, vocabulary]`.
    fn forward(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<()>;

    /// Takes back what a sequence has beyond its first `tokens` tokens, at most what the last batch appended to it. Only
    /// where rows are independent.
    fn truncate(&mut self, sequence: SequenceId, tokens: usize);

    /// How full the KV cache is.
    fn cache(&self) -> Cache;
}

/// Loads the model into the backend that computes it. The verified bytes are given up on the way.
pub(crate) fn load(
    model: VerifiedModel,
    gguf: &Gguf,
    config: &EngineConfig,
) -> Result<Box<dyn Backend>> {
    Ok(match choose(gguf, config.backend)? {
        NATIVE => Box::new(native::NativeBackend::load(model, gguf, config)?),
        _ => Box::new(candle::CandleBackend::load(model, gguf, config)?),
    })
}

/// The name of the backend that computes the model, from the model's head alone.
///
/// # Errors
/// Where the architecture or a storage type is not known, metadata makes no sense, or the wanted backend does not
/// compute such models.
pub(crate) fn choose(gguf: &Gguf, wanted: BackendChoice) -> Result<&'static str> {
    if gguf.tensors().is_empty() {
        return Err(EngineError::TensorsAbsent);
    }
    let native = native::computes(gguf)?;
    match wanted {
        BackendChoice::Auto | BackendChoice::Native if native => Ok(NATIVE),
        BackendChoice::Native => Err(EngineError::Backend {
            backend: NATIVE,
            doing: "choosing the backend",
            reason: "it does not compute this architecture or these storage types; \
                     use `backend = \"auto\"`"
                .to_owned(),
        }),
        BackendChoice::Auto | BackendChoice::Candle => {
            check_candle(gguf)?;
            Ok(CANDLE)
        }
    }
}

fn check_candle(gguf: &Gguf) -> Result<()> {
    candle::check(gguf)?;
    for tensor in gguf.tensors() {
        let quantization = Quantization::from_id(tensor.type_id);
        if quantization.is_none_or(|quantization| quantization.candle.is_none()) {
            return Err(EngineError::QuantizationUnsupported {
                name: tensor.name.clone(),
                quantization: quantization.map_or_else(
                    || format!("type {}", tensor.type_id),
                    |known| known.name.to_owned(),
                ),
                backend: CANDLE,
            });
        }
    }
    Ok(())
}

/// The model's context, or less where the configuration says so.
fn context_tokens(config: &EngineConfig, architecture: &Architecture) -> usize {
    let max = config.context_tokens_max.unwrap_or(usize::MAX);
    architecture.context_tokens.min(max)
}

fn check_tokens(tokens: impl IntoIterator<Item = u32>, vocabulary: usize) -> Result<()> {
    match tokens.into_iter().find(|&id| id as usize >= vocabulary) {
        Some(id) => Err(EngineError::UnknownToken { id, vocabulary }),
        None => Ok(()),
    }
}
