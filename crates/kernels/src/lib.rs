//! Quantized matrix kernels, packed weight layouts, attention over a paged KV cache: all that a decoder computes, and the only
//! SIMD of Postern.
//!
//! Weights arrive as the bytes of a GGUF tensor ([`Format`]) and are packed once, sixteen rows side by side
//! ([`PackedMatrix`]). Activations are quantized to 8 bits ([`Activations`]), and [`matmul`] multiplies. Everything is
//! written once over the sixteen lanes of an instruction set, and gives the same bits on each of them ([`Cpu`]), with any
//! number of threads ([`Pool`]) and whatever else is in the batch.
//!
//! What is absent: models, files, sampling; allocation, locks and system calls in what is called per token, but for what
//! wakes a thread that sleeps ([`Pool`]).

mod activations;
mod attention;
mod format;
mod isa;
mod kv_cache;
mod matmul;
mod memory;
mod packed;
mod pool;
mod rope;
mod specification;
mod vector;

pub use activations::{Activations, Input};
pub use attention::{Attention, SEGMENT_TOKENS};
pub use format::Format;
pub use isa::Cpu;
pub use kv_cache::{HEAD_WIDTH_MAX, KvCache, KvShape, PAGE_TOKENS, PageId, Span};
pub use matmul::{PRODUCTS_MAX, Product, matmul};
pub use memory::{Arena, FloatBuffer, ReleasableBytes};
pub use packed::{PackError, PackedMatrix};
pub use pool::{Pool, THREADS_MAX};
pub use rope::{RopeStyle, RopeTable};
pub use specification::dequantize;
pub use vector::{exp_assign, rms_norm_rows};
