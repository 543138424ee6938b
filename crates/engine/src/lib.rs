//! A verified model file in, tokens out.
//!
//! ```text
//! ModelManifest -> VerifiedModel -> Engine::start -> Engine::submit(Job) -> Generation -> Event*
//! ```
//!
//! Invariants: a model is usable only after its SHA-256 equals its pin, and the bytes that
//! were hashed are the bytes that run; only messages cross the line to the worker thread; every
//! queue, count and length is bounded.
//!
//! What is absent: HTTP, async, policy, templates of the product, audit. This crate knows none of them.

mod active;
mod backend;
pub mod chat_template;
mod config;
mod constraint;
mod digest;
mod engine;
mod error;
mod forced;
mod generation;
pub mod gguf;
mod inspect;
mod intake;
mod job;
mod lookup;
mod manifest;
mod model_file;
mod queue;
mod sampler;
mod stats;
mod stop;
mod tokenizer;
mod worker;

pub use backend::{Cache, KNOWN_ARCHITECTURES};
pub use chat_template::{ChatDate, ChatTemplate};
pub use config::{BackendChoice, EngineConfig};
pub use constraint::{
    Constraint, Grammars, SCHEMA_BYTES_MAX, SCHEMA_COUNT_MAX, SCHEMA_MEMBERS_MAX,
    SCHEMA_NESTING_MAX, SCHEMA_PATTERN_CHARACTERS_MAX, SCHEMA_REFERENCES_MAX, TokenMask,
};
pub use digest::Sha256Digest;
pub use engine::{Canceller, Engine, Generation, Next};
pub use error::{EngineError, Result};
pub use forced::{ForcedTokens, forced_generation, forced_logits};
pub use inspect::{
    ModelReport, QuantizationReport, SpecialToken, TensorReport, VocabularyReport, inspect,
};
pub use job::{
    ChatMessage, EncodedPrompt, EngineStats, Event, FinishReason, Finished, Job, ModelInfo,
    OutputFormat, Prompt, Role, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX, Sampling, Timings, Usage,
    Work,
};
pub use manifest::ModelManifest;
pub use model_file::{LoadProgress, VerifiedModel};
pub use tokenizer::{ChatPrompt, SpecialTokens, TEXT_BYTES_MAX, TokenStream, Tokenizer};
