//! How many threads candle computes with.
//!
//! Candle sizes its pools once a process, from environment variables that it reads at first
//! use; there is no other setting. So the number is fixed here, once, before anything is computed.
#![expect(
    unsafe_code,
    reason = "candle takes its number of threads from the environment only"
)]

use std::sync::Mutex;

use crate::error::{EngineError, Result};

/// A model of at most this many bytes is computed by one thread: a pass over so few weights ends before another
/// thread has begun, and waiting for threads that other programs hold up costs hundreds of times the pass.
const ONE_THREAD_MODEL_BYTES_MAX: u64 = 32 << 20;

static FIXED: Mutex<Option<usize>> = Mutex::new(None);

/// Fixes the number of threads of this process: `wanted`, or what suits a model of `model_bytes`.
///
/// # Errors
/// [`EngineError::ThreadsFixed`] if it was fixed to another number before.
pub(super) fn fix(wanted: Option<usize>, model_bytes: u64) -> Result<()> {
    let mut fixed = FIXED.lock().expect("nothing panics while the lock is held");
    match (*fixed, wanted) {
        (None, _) => {
            let threads = wanted.unwrap_or_else(|| default_threads(model_bytes));
            set(threads);
            *fixed = Some(threads);
            Ok(())
        }
        (Some(current), Some(wanted)) if current != wanted => {
            Err(EngineError::ThreadsFixed { current, wanted })
        }
        (Some(_), _) => Ok(()),
    }
}

/// One for a small model; else one a physical core, or fewer where the process may use fewer.
fn default_threads(model_bytes: u64) -> usize {
    if model_bytes <= ONE_THREAD_MODEL_BYTES_MAX {
        return 1;
    }
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    candle_core::utils::get_num_threads().min(available)
}

fn set(threads: usize) {
    for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: the standard library serializes its own accesses to the environment, and candle
        // reads it through the standard library. What remains is foreign code that calls getenv
        // at the same moment; this runs once, while the model is loaded and before the process
        // serves anything.
        unsafe { std::env::set_var(variable, threads.to_string()) };
    }
}
