//! What the worker tells about itself, for whoever asks from another thread.
//!
//! Invariant: neither side waits for the other. A reader may see some figures of one pass and some of the next.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::Cache;
use crate::job::{EngineStats, Work};

/// The latest figures.
#[derive(Debug, Default)]
pub(crate) struct StatsCell([AtomicU64; 11]);

impl StatsCell {
    pub(crate) fn publish(&self, stats: &EngineStats) {
        let EngineStats {
            queued: _,
            active,
            cache,
            work,
        } = stats;
        let figures = [
            *active as u64,
            cache.pages as u64,
            cache.pages_in_use as u64,
            cache.pages_kept as u64,
            work.passes,
            work.sequences,
            work.prompt_tokens,
            work.cached_prompt_tokens,
            work.completion_tokens,
            work.guessed_tokens,
            work.right_guesses,
        ];
        for (cell, figure) in self.0.iter().zip(figures) {
            cell.store(figure, Ordering::Relaxed);
        }
    }

    /// The figures, with how many jobs wait.
    pub(crate) fn read(&self, queued: usize) -> EngineStats {
        let figures = self.0.each_ref().map(|cell| cell.load(Ordering::Relaxed));
        let [
            active,
            pages,
            pages_in_use,
            pages_kept,
            passes,
            sequences,
            prompt_tokens,
            cached_prompt_tokens,
            completion_tokens,
            guessed_tokens,
            right_guesses,
        ] = figures;
        EngineStats {
            queued,
            active: active as usize,
            cache: Cache {
                pages: pages as usize,
                pages_in_use: pages_in_use as usize,
                pages_kept: pages_kept as usize,
            },
            work: Work {
                passes,
                sequences,
                prompt_tokens,
                cached_prompt_tokens,
                completion_tokens,
                guessed_tokens,
                right_guesses,
            },
        }
    }
}
