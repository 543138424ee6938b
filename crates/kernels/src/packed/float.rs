//! Unquantized weights: panels of `[columns][16 rows]`.
#![expect(unsafe_code, reason = "vectors from pointers")]

use crate::isa::{Isa, LANES};

/// A number format of unquantized weights.
pub(crate) trait Element {
    /// Bytes of a number.
    const BYTES: usize;

    /// Loads sixteen.
    ///
    /// # Safety
    /// `from` must be valid for sixteen, and the instruction set must be there.
    unsafe fn load<S: Isa>(isa: S, from: *const u8) -> S::Floats;
}

/// `f32`.
pub(crate) struct FloatF32;

impl Element for FloatF32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { isa.load(from.cast()) }
    }
}

/// IEEE half precision.
pub(crate) struct FloatF16;

impl Element for FloatF16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { isa.load_f16(from.cast()) }
    }
}

/// The upper half of `f32`.
pub(crate) struct FloatBf16;

impl Element for FloatBf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, from: *const u8) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { isa.load_bf16(from.cast()) }
    }
}

pub(super) fn pack_row<E: Element>(row: &[u8], lane: usize, panel: &mut [u8]) {
    let columns = panel.chunks_exact_mut(LANES * E::BYTES);
    for (number, column) in row.chunks_exact(E::BYTES).zip(columns) {
        column[lane * E::BYTES..(lane + 1) * E::BYTES].copy_from_slice(number);
    }
}
