//! The backend that computes with candle's quantized tensors.
//!
//! One decoder serves all architectures; [`Architecture`] says in what they differ. It is our own and
//! not the models of candle-transformers 0.11.1, because these cannot hold several sequences over one
//! set of weights (qwen2), ignore the files' RoPE scaling, head width and context beyond 4096 tokens
//! (llama), rotate in half precision (qwen3), ignore the RoPE base and allocate the whole context for
//! each sequence (phi3), or use another activation and mask what an earlier prefill chunk wrote (gemma3).
//! Where they are right, tests compare this decoder with them.
//!
//! Candle keeps a second, repacked copy of most quantized matrices from their first use on (x86-64 and
//! aarch64), so a model takes about twice the size of its file; there is no switch for that.
//!
//! Sequences are computed one after another rather than stacked into one matrix: candle picks
//! kernels by the number of rows, so stacking would let one call change another's logits.

mod attention;
mod decoder;
mod rope;
#[cfg(test)]
mod tests;
mod threads;
mod weights;

use candle_core::Device;

use self::attention::KvCache;
use self::decoder::Decoder;
use super::architecture::Architecture;
use super::{Backend, Batch, CANDLE, Cache, Opening, SequenceId, check_tokens, context_tokens};
use crate::config::EngineConfig;
use crate::error::{EngineError, Result};
use crate::gguf::Gguf;
use crate::model_file::VerifiedModel;

/// Enough rows for candle to choose the kernels of a prompt.
const WARM_UP_TOKENS: usize = 4;

/// A decoder and the KV caches of its sequences.
pub(crate) struct CandleBackend {
    decoder: Decoder,
    context_tokens: usize,
    sequences: Vec<Option<KvCache>>,
    /// Logits of one row.
    row: Vec<f32>,
}

impl CandleBackend {
    pub(crate) fn load(
        mut model: VerifiedModel,
        gguf: &Gguf,
        config: &EngineConfig,
    ) -> Result<Self> {
        threads::fix(config.threads, model.bytes())?;
        let architecture = Architecture::read(gguf)?;
        let context_tokens = context_tokens(config, &architecture);
        let decoder = Decoder::load(&mut model.reader(), gguf, architecture, context_tokens)?;
        let mut backend = Self {
            decoder,
            context_tokens,
            sequences: (0..config.sequences_max).map(|_| None).collect(),
            row: Vec::new(),
        };
        backend.warm_up()?;
        Ok(backend)
    }

    /// Computes a few tokens for nothing: a model that cannot compute fails here and not in its first call,
    /// and that call need not wait for candle to repack the weights.
    fn warm_up(&mut self) -> Result<()> {
        let mut batch = Batch::default();
        let (sequence, _) = self
            .open(&Opening::apart(self.context_tokens))
            .expect("there is room for at least one sequence");
        batch.push(
            sequence,
            [0; WARM_UP_TOKENS].into_iter().take(self.context_tokens),
            1,
        );
        let outcome = self.forward(&batch, &mut Vec::new());
        self.close(sequence);
        outcome
    }

    fn append(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        logits: Option<&mut Vec<f32>>,
    ) -> Result<()> {
        check_tokens(tokens.iter().copied(), self.decoder.vocabulary())?;
        let cache = self.sequences[sequence.0]
            .as_mut()
            .expect("a sequence is used only between open and close");
        let decoder = &self.decoder;
        // Keeps candle's threads warm across the many short parallel sections of one pass.
        Device::Cpu
            .with_context(|| decoder.forward(tokens, cache, logits))
            .map_err(|error| failed("computing", &error))
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        CANDLE
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    fn vocabulary(&self) -> usize {
        self.decoder.vocabulary()
    }

    fn rows_are_independent(&self) -> bool {
        false
    }

    fn open(&mut self, _: &Opening<'_>) -> Option<(SequenceId, usize)> {
        let free = self.sequences.iter().position(Option::is_none)?;
        self.sequences[free] = Some(self.decoder.empty_cache(self.context_tokens));
        Some((SequenceId(free), 0))
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequences[sequence.0] = None;
    }

    fn forward(&mut self, batch: &Batch, logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        let mut row = std::mem::take(&mut self.row);
        for (part, tokens) in batch.iter() {
            assert!(part.logits <= 1, "only the last row's logits are computed");
            let wanted = (part.logits == 1).then_some(&mut row);
            self.append(part.sequence, tokens, wanted)?;
            if part.logits == 1 {
                logits.extend_from_slice(&row);
            }
        }
        self.row = row;
        Ok(())
    }

    fn truncate(&mut self, _: SequenceId, _: usize) {
        unreachable!("no tokens are computed ahead where rows depend on each other");
    }

    fn cache(&self) -> Cache {
        Cache::default()
    }
}

/// Checks that the architecture is one of ours and that its metadata makes sense.
pub(super) fn check(gguf: &Gguf) -> Result<()> {
    Architecture::read(gguf).map(|_| ())
}

fn failed(doing: &'static str, error: &candle_core::Error) -> EngineError {
    EngineError::Backend {
        backend: CANDLE,
        doing,
        reason: error.to_string(),
    }
}
