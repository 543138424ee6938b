//! How many threads suit a model.

/// A model of at most this many bytes is computed by one thread: a pass over so few weights ends before another
/// thread has begun, and waiting for threads that other programs hold up costs hundreds of times the pass.
const ONE_THREAD_MODEL_BYTES_MAX: u64 = 32 << 20;

/// One for a small model; else one a physical core, or fewer where the process may use fewer.
pub(super) fn suited_to(model_bytes: u64) -> usize {
    if model_bytes <= ONE_THREAD_MODEL_BYTES_MAX {
        return 1;
    }
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    candle_core::utils::get_num_threads().min(available)
}
