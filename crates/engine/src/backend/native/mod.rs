//! The backend that computes with our own kernels: the llama family (with Mistral and SmolLM2), Qwen 2 and Qwen 3.
//!
//! Weights are packed once while the model is loaded, and the bytes of the file are given up tensor by tensor. All sequences share one
//! paged KV cache, and one pass over the weights serves all sequences. A row of a batch gets the same bits whatever other
//! rows are in it, so neither sharing a pass nor sharing pages changes a text.
//!
//! Invariant: a token allocates nothing but, at first, room for logits in the caller's vector.
//!
//! What is absent: windows, fused tensors, other activations than SiLU. Architectures that need these run on candle.

mod decoder;
mod prefix_cache;
mod sequences;
#[cfg(test)]
mod tests;
mod weights;

use postern_kernels::{Cpu, Format, PAGE_TOKENS, Pool};

use self::decoder::Decoder;
use self::sequences::{Rows, Sequences};
use super::architecture::{Activation, Architecture};
use super::{
    Backend, Batch, Cache, NATIVE, Opening, SequenceId, check_tokens, context_tokens, threads,
};
use crate::config::{EngineConfig, SEQUENCES_MAX};
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::model_file::VerifiedModel;

/// A decoder and its sequences.
pub(crate) struct NativeBackend {
    decoder: Decoder,
    sequences: Sequences,
    context_tokens: usize,
}

/// Whether this backend computes the model.
pub(super) fn computes(gguf: &Gguf) -> Result<bool> {
    let architecture = Architecture::read(gguf)?;
    let plain = architecture.window.is_none()
        && architecture.embedding_scale.is_none()
        && architecture.activation == Activation::Silu
        && !architecture.fused
        && !architecture.post_norms
        && architecture.head_width <= postern_kernels::HEAD_WIDTH_MAX;
    let formats = gguf
        .tensors()
        .iter()
        .all(|tensor| Format::from_id(tensor.type_id).is_some());
    Ok(plain && formats)
}

impl NativeBackend {
    pub(crate) fn load(
        mut model: VerifiedModel,
        gguf: &Gguf,
        config: &EngineConfig,
    ) -> Result<Self> {
        let threads = config
            .threads
            .unwrap_or_else(|| threads::suited_to(model.bytes()));
        let pool = Pool::new(threads, Cpu::detect()).map_err(|source| EngineError::Thread {
            name: "compute",
            source,
        })?;
        let architecture = Architecture::read(gguf)?;
        let (pages, context_tokens) = room(config, &architecture)?;
        let sequences =
            Sequences::new(sequences::shape(&architecture), pages, config.sequences_max);
        let decoder = Decoder::load(
            pool,
            &mut model.reader(),
            gguf,
            architecture,
            context_tokens,
            config.batch_rows_max(),
        )?;
        Ok(Self {
            decoder,
            sequences,
            context_tokens,
        })
    }
}

/// Pages of the KV cache, and tokens of the longest sequence that fits them.
fn room(config: &EngineConfig, architecture: &Architecture) -> Result<(usize, usize)> {
    let wanted_tokens = context_tokens(config, architecture);
    let page_bytes = sequences::shape(architecture).page_bytes();
    let pages_wanted = wanted_tokens.div_ceil(PAGE_TOKENS) * config.sequences_max;
    let pages = (config.kv_cache_bytes() / page_bytes).min(pages_wanted);
    if pages == 0 {
        return Err(EngineError::ConfigInvalid {
            field: "kv-cache-mib",
            found: config.kv_cache_mib.to_string(),
            expected: format!(
                "at least {}, one page of this model",
                page_bytes.div_ceil(1 << 20)
            ),
        });
    }
    let tokens = wanted_tokens.min(pages * PAGE_TOKENS);
    if tokens < wanted_tokens {
        log::warn!(
            kv_cache_mib = config.kv_cache_mib, context_tokens = tokens;
            "the KV cache holds fewer tokens than the context of {wanted_tokens}"
        );
    }
    Ok((pages, tokens))
}

impl Backend for NativeBackend {
    fn name(&self) -> &'static str {
        NATIVE
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    fn vocabulary(&self) -> usize {
        self.decoder.vocabulary()
    }

    fn rows_are_independent(&self) -> bool {
        true
    }

    fn open(&mut self, opening: &Opening<'_>) -> Option<(SequenceId, usize)> {
        self.sequences.open(opening)
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }

    fn forward(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<()> {
        check_tokens(batch.tokens.iter().copied(), self.vocabulary())?;
        for (part, tokens) in batch.iter() {
            self.sequences.append(part.sequence, tokens);
        }
        let (cache, rows) = self.sequences.parts();
        let mut spans = [Rows::none(); SEQUENCES_MAX];
        for (span, part) in spans.iter_mut().zip(&batch.parts) {
            *span = rows.last(part.sequence, part.tokens);
        }
        let spans = &spans[..batch.parts.len()];
        self.decoder.forward(cache, spans, batch, logits);
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, tokens: usize) {
        self.sequences.truncate(sequence, tokens);
    }

    fn cache(&self) -> Cache {
        self.sequences.usage()
    }
}
