//! How many threads candle computes with.
//!
//! Candle sizes its pools once a process, from environment variables that it reads at first
//! use; there is no other setting. So the number is fixed here, once, before anything is computed.
#![expect(
    unsafe_code,
    reason = "candle takes its number of threads from the environment only"
)]

use std::sync::Mutex;

use crate::backend::threads;
use crate::error::{EngineError, Result};

static FIXED: Mutex<Option<usize>> = Mutex::new(None);

/// Fixes the number of threads of this process: `wanted`, or what suits a model of `model_bytes`.
///
/// # Errors
/// [`EngineError::ThreadsFixed`] if it was fixed to another number before.
pub(super) fn fix(wanted: Option<usize>, model_bytes: u64) -> Result<()> {
    let mut fixed = FIXED.lock().expect("nothing panics while the lock is held");
    match (*fixed, wanted) {
        (None, _) => {
            let threads = wanted.unwrap_or_else(|| threads::suited_to(model_bytes));
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

fn set(threads: usize) {
    for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        // SAFETY: the standard library serializes its own accesses to the environment, and candle
        // reads it through the standard library. What remains is foreign code that calls getenv
        // at the same moment; this runs once, while the model is loaded and before the process
        // serves anything.
        unsafe { std::env::set_var(variable, threads.to_string()) };
    }
}
