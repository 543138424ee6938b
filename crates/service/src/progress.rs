//! What is known of a running call, kept where it survives whatever ends it.
//!
//! The digest covers exactly the text that was handed to the caller's stream.

use std::time::{Duration, Instant};

use postern_governance::OutputFilter;
use sha2::{Digest as _, Sha256};

/// Text, counts and times of one generation.
pub(crate) struct Progress {
    filter: OutputFilter,
    text: String,
    digest: Sha256,
    arrived: Instant,
    first_token: Option<Duration>,
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) queued_ms: f64,
    pub(crate) prefill_ms: f64,
    pub(crate) decode_ms: f64,
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
            completion_tokens: 0,
            queued_ms: 0.0,
            prefill_ms: 0.0,
            decode_ms: 0.0,
        }
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

    fn released(&mut self, safe: String) -> Option<String> {
        if safe.is_empty() {
            return None;
        }
        self.text.push_str(&safe);
        self.digest.update(safe.as_bytes());
        Some(safe)
    }
}
