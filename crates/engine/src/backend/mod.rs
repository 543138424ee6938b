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

/// One token of one sequence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeStep {
    pub(crate) sequence: SequenceId,
    pub(crate) token: u32,
}

/// Computes logits for sequences that grow at their end.
pub(crate) trait Backend {
    /// Its name in records.
    fn name(&self) -> &'static str;

    /// Most tokens of one sequence.
    fn context_tokens(&self) -> usize;

    /// Number of logits of one token.
    fn vocabulary(&self) -> usize;

    /// Makes room for a new, empty sequence.
    fn open(&mut self) -> SequenceId;

    /// Frees a sequence and its KV cache.
    fn close(&mut self, sequence: SequenceId);

    /// Appends `tokens` (at least one) to a sequence. Where `logits` is given, it becomes the logits
    /// that follow the last of them.
    fn prefill(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
    ) -> Result<()>;

    /// Appends one token to each of several sequences; `logits[i]` becomes what follows `steps[i]`.
    fn decode(&mut self, steps: &[DecodeStep], logits: &mut [Vec<f32>]) -> Result<()>;
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
