//! What is known of a running call, kept where it survives whatever ends it.
//!
//! The digest covers exactly the text that was handed to the caller's stream.

use std::time::{Duration, Instant};

use postern_engine::Finished;
use postern_governance::{OutputFilter, Redaction};
use sha2::{Digest as _, Sha256};

/// Text, counts and times of one generation.
pub(crate) struct Progress {
    filter: OutputFilter,
    text: String,
    digest: Sha256,
    arrived: Instant,
    first_token: Option<Duration>,
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) queued_ms: f64,
    decode_ms: f64,
    /// Mean probability of the generated tokens, where it was measured.
    pub(crate) mean_probability: Option<f32>,
    /// Whether the whole text fits the template's schema, once that was looked at.
    pub(crate) schema_valid: Option<bool>,
    /// Whether the engine has said its last about the call, so that the counts are final.
    pub(crate) is_final: bool,
}

impl Progress {
    pub(crate) fn new(filter: OutputFilter, arrived: Instant) -> Self {
        Self {
            filter,
            text: String::new(),
            digest: Sha256::new(),
            arrived,
            first_token: None,
            prompt_tokens: 0,
            cached_prompt_tokens: 0,
            completion_tokens: 0,
            queued_ms: 0.0,
            decode_ms: 0.0,
            mean_probability: None,
            schema_valid: None,
            is_final: false,
        }
    }

    /// Tokens of prompt and text together, if they are final.
    pub(crate) fn tokens_used(&self) -> Option<u64> {
        let tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
        self.is_final.then_some(tokens as u64)
    }

    /// Counts a token and gives the text that is safe to hand out, if any.
    pub(crate) fn token(&mut self, text: &str) -> Option<String> {
        self.completion_tokens += 1;
        self.first_token.get_or_insert(self.arrived.elapsed());
        let safe = self.filter.push(text);
        self.released(safe)
    }

    /// Takes the engine's last text and gives all that was held back.
    pub(crate) fn flush(&mut self, tail: &str) -> Option<String> {
        let mut safe = self.filter.push(tail);
        safe.push_str(&self.filter.finish());
        self.released(safe)
    }

    /// Takes over the engine's own counts and times.
    pub(crate) fn finished(&mut self, finished: &Finished) {
        self.prompt_tokens = finished.usage.prompt_tokens;
        self.cached_prompt_tokens = finished.usage.cached_prompt_tokens;
        self.completion_tokens = finished.usage.completion_tokens;
        self.queued_ms = finished.timings.queued_ms;
        self.decode_ms = finished.timings.decode_ms;
        self.mean_probability = finished.mean_probability;
        self.is_final = true;
    }

    /// All text handed out so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of that text in lower-case hexadecimal.
    pub(crate) fn text_sha256(&self) -> String {
        hex(&self.digest.clone().finalize())
    }

    /// What the filter took out of the text.
    pub(crate) fn redactions(&self) -> Vec<Redaction> {
        self.filter.redactions()
    }

    /// Time since the call arrived.
    pub(crate) fn elapsed(&self) -> Duration {
        self.arrived.elapsed()
    }

    /// Time from arrival to the first token, if one came.
    pub(crate) fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// Decoding speed: tokens after the first in the time after the first,
    /// or 0 where there were none.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        let decoded = self.completion_tokens.saturating_sub(1);
        if decoded == 0 || self.decode_ms <= 0.0 {
            return 0.0;
        }
        decoded as f64 * 1000.0 / self.decode_ms
    }

    fn released(&mut self, safe: String) -> Option<String> {
        if safe.is_empty() {
            return None;
        }
        self.text.push_str(&safe);
        self.digest.update(safe.as_bytes());
        Some(safe)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
