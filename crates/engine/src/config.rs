//! The section `[engine]` of the configuration.

use std::path::PathBuf;

use postern_kernels::THREADS_MAX;
use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// Most prompt tokens that one forward pass may take.
pub(crate) const PREFILL_CHUNK_TOKENS_MAX: usize = 4096;
/// Most sequences that may be active at once.
pub(crate) const SEQUENCES_MAX: usize = 64;
/// Most memory for keys and values, in MiB.
pub(crate) const KV_CACHE_MIB_MAX: usize = 1 << 20;
/// Most jobs that may wait.
pub(crate) const QUEUE_MAX: usize = 1024;

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendChoice {
    /// The native backend where it knows the model, else candle.
    #[default]
    Auto,
    /// Our own kernels, or an error.
    Native,
    /// candle's quantized tensors, also where the native backend could.
    Candle,
}

/// How the engine runs. Every field has a default that suits a small device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EngineConfig {
    /// What computes: `auto`, `native` or `candle`.
    pub backend: BackendChoice,
    /// Threads to compute with; when absent, one for a model of at most 32 MiB, else one per physical core.
    pub threads: Option<usize>,
    /// Upper bound of the context in tokens; the model's own when absent.
    pub context_tokens_max: Option<usize>,
    /// Prompt tokens of one pass when nothing else is being generated: larger is faster.
    pub prefill_chunk_tokens: usize,
    /// Tokens of one pass that takes in a prompt and generates for others, theirs included, but at least four of the
    /// prompt: smaller lets their text flow, larger ends the prompt sooner. On candle the other bound is used for both.
    pub prefill_chunk_tokens_busy: usize,
    /// Sequences that are generated side by side.
    pub sequences_max: usize,
    /// Memory for keys and values of all sequences, which bounds the context, too. On candle each sequence has its own,
    /// as large as its context.
    pub kv_cache_mib: usize,
    /// Guess tokens from what stands in the prompt and the text so far, and compute them ahead; it changes no text and is
    /// not done where it does not pay. Only on the native backend.
    pub prompt_lookup: bool,
    /// Jobs that may wait for a free sequence.
    pub queue_max: usize,
    /// A chat template to use instead of the model's own.
    pub chat_template_file: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            threads: None,
            context_tokens_max: None,
            prefill_chunk_tokens: 128,
            prefill_chunk_tokens_busy: 8,
            sequences_max: 4,
            kv_cache_mib: 512,
            prompt_lookup: true,
            queue_max: 32,
            chat_template_file: None,
        }
    }
}

impl EngineConfig {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// [`EngineError::ConfigInvalid`] naming the field.
    pub fn check(&self) -> Result<()> {
        if let Some(threads) = self.threads {
            check_range("threads", threads, 1, THREADS_MAX)?;
        }
        if let Some(tokens) = self.context_tokens_max {
            check_range("context-tokens-max", tokens, 2, usize::MAX)?;
        }
        check_range(
            "prefill-chunk-tokens",
            self.prefill_chunk_tokens,
            1,
            PREFILL_CHUNK_TOKENS_MAX,
        )?;
        check_range(
            "prefill-chunk-tokens-busy",
            self.prefill_chunk_tokens_busy,
            1,
            PREFILL_CHUNK_TOKENS_MAX,
        )?;
        check_range("sequences-max", self.sequences_max, 1, SEQUENCES_MAX)?;
        check_range("kv-cache-mib", self.kv_cache_mib, 1, KV_CACHE_MIB_MAX)?;
        check_range("queue-max", self.queue_max, 1, QUEUE_MAX)
    }

    /// Most rows of one pass: a chunk of a prompt, or as many tokens ahead, beside one token for each sequence.
    pub(crate) fn batch_rows_max(&self) -> usize {
        self.prefill_chunk_tokens + self.sequences_max
    }

    pub(crate) fn kv_cache_bytes(&self) -> usize {
        self.kv_cache_mib << 20
    }
}

fn check_range(field: &'static str, found: usize, min: usize, max: usize) -> Result<()> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    let expected = if max == usize::MAX {
        format!("at least {min}")
    } else {
        format!("from {min} to {max}")
    };
    Err(EngineError::ConfigInvalid {
        field,
        found: found.to_string(),
        expected,
    })
}
