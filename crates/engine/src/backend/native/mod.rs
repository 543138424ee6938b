//! The backend that computes with our own kernels: the llama family (with Mistral and SmolLM2), Qwen 2 and Qwen 3.
//!
//! Weights are packed once while the model is loaded, and the bytes of the file are given up tensor by tensor. All sequences share one
//! paged KV cache, and one pass over the weights serves all sequences that decode. A row of a batch gets
//! the same bits whatever other rows are in it, so sharing a pass changes no text.
//!
//! Invariant: a token allocates nothing but, at first, room for logits in the caller's vector.
//!
//! What is absent: windows, fused tensors, other activations than SiLU. Architectures that need these run on candle.

mod decoder;
mod sequences;
#[cfg(test)]
mod tests;
mod weights;

use postern_kernels::{Cpu, Format, Pool};

use self::decoder::{BATCH_MAX, Decoder};
use self::sequences::{Sequences, Slots};
use super::architecture::{Activation, Architecture};
use super::{Backend, DecodeStep, NATIVE, SequenceId, check_tokens, context_tokens, threads};
use crate::config::EngineConfig;
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
        let context_tokens = context_tokens(config, &architecture);
        let rows_max = config.prefill_chunk_tokens.max(config.sequences_max);
        let sequences = Sequences::new(&architecture, context_tokens, config.sequences_max);
        let decoder = Decoder::load(
            pool,
            &mut model.reader(),
            gguf,
            architecture,
            context_tokens,
            rows_max,
        )?;
        Ok(Self {
            decoder,
            sequences,
            context_tokens,
        })
    }
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

    fn open(&mut self) -> SequenceId {
        self.sequences.open()
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences.close(sequence);
    }

    fn prefill(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
    ) -> Result<()> {
        check_tokens(tokens.iter().copied(), self.vocabulary())?;
        let mut logits = logits;
        let chunks = tokens.chunks(self.decoder.rows_max());
        let last = chunks.len().saturating_sub(1);
        for (index, chunk) in chunks.enumerate() {
            self.sequences.grow(sequence, chunk.len())?;
            let (cache, slots) = self.sequences.parts();
            let wanted = logits.as_deref_mut().filter(|_| index == last);
            self.decoder.forward(
                cache,
                &[slots.span(sequence, chunk.len())],
                chunk,
                wanted.map_or(&mut [], std::slice::from_mut),
            );
            self.sequences.advance(sequence, chunk.len());
        }
        Ok(())
    }

    fn decode(&mut self, steps: &[DecodeStep], logits: &mut [Vec<f32>]) -> Result<()> {
        check_tokens(steps.iter().map(|step| step.token), self.vocabulary())?;
        for (steps, logits) in steps
            .chunks(BATCH_MAX.min(self.decoder.rows_max()))
            .zip(logits.chunks_mut(BATCH_MAX.min(self.decoder.rows_max())))
        {
            for step in steps {
                self.sequences.grow(step.sequence, 1)?;
            }
            let (cache, slots) = self.sequences.parts();
            let mut spans = [Slots::empty_span(); BATCH_MAX];
            let mut tokens = [0; BATCH_MAX];
            for ((span, token), step) in spans.iter_mut().zip(&mut tokens).zip(steps) {
                *span = slots.span(step.sequence, 1);
                *token = step.token;
            }
            let count = steps.len();
            self.decoder
                .forward(cache, &spans[..count], &tokens[..count], logits);
            for step in steps {
                self.sequences.advance(step.sequence, 1);
            }
        }
        Ok(())
    }
}
