//! Where the scales of weights lie: before the codes of one or more blocks, for sixteen rows, in whole cache lines.
//!
//! A weight is `scale · code - min`. Formats of 32-element blocks have the rows' scales in half precision, then, where
//! there are minima, these; without minima two blocks share a line. Formats of 256-element blocks have, for eight blocks, the rows'
//! scale (and minimum) in half precision, then the blocks' multipliers of these, a byte a row.
#![expect(unsafe_code, reason = "vectors from pointers")]

use crate::isa::{Isa, LANES, each};
use crate::memory::LINE_BYTES;

/// Bytes of sixteen half-precision numbers.
const HALVES: usize = 2 * LANES;
/// Blocks of 32 in a block of 256.
const BLOCKS: usize = 8;

/// Scales or minima of both halves of a block; the second is used only where the halves differ.
pub(crate) type Pair<S> = [<S as Isa>::Floats; 2];

/// A layout of scales.
pub(crate) trait Scales {
    /// Blocks of 32 columns whose scales lie together.
    const RUN_BLOCKS: usize;
    /// Bytes of their scales: whole cache lines.
    const RUN_BYTES: usize;
    /// Blocks in a block of the file's format.
    const STORED_BLOCKS: usize;
    /// Whether each half of a block has its own.
    const HALVED: bool;
    /// Whether there are minima.
    const MINS: bool;

    /// Scales and minima of block `block % RUN_BLOCKS` of a run.
    ///
    /// # Safety
    /// `run` must be valid for [`Scales::RUN_BYTES`], and the instruction set must be there.
    unsafe fn load<S: Isa>(isa: S, run: *const u8, block: usize) -> (Pair<S>, Pair<S>);
}

/// One scale a block.
pub(crate) struct Plain;

impl Scales for Plain {
    const RUN_BLOCKS: usize = 2;
    const STORED_BLOCKS: usize = 1;
    const RUN_BYTES: usize = 2 * HALVES;
    const HALVED: bool = false;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, run: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let scales = isa.load_f16(run.add(block % 2 * HALVES).cast());
            ([scales; 2], [isa.splat(0.0); 2])
        }
    }
}

/// One scale and one minimum a block.
pub(crate) struct PlainMin;

impl Scales for PlainMin {
    const RUN_BLOCKS: usize = 1;
    const STORED_BLOCKS: usize = 1;
    const RUN_BYTES: usize = 2 * HALVES;
    const HALVED: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, run: *const u8, _: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            (
                [isa.load_f16(run.cast()); 2],
                [isa.load_f16(run.add(HALVES).cast()); 2],
            )
        }
    }
}

/// Scale and minimum of 256, times an unsigned byte each for a block.
pub(crate) struct SuperMin;

impl SuperMin {
    pub(super) const SCALES: usize = 2 * HALVES;
    pub(super) const MINS: usize = Self::SCALES + BLOCKS * LANES;
}

impl Scales for SuperMin {
    const RUN_BLOCKS: usize = BLOCKS;
    const STORED_BLOCKS: usize = BLOCKS;
    const RUN_BYTES: usize = Self::MINS + BLOCKS * LANES;
    const HALVED: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, run: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = block % BLOCKS * LANES;
            let scale = isa.load_u8(run.add(Self::SCALES + at));
            let min = isa.load_u8(run.add(Self::MINS + at));
            (
                [isa.mul(isa.load_f16(run.cast()), scale); 2],
                [isa.mul(isa.load_f16(run.add(HALVES).cast()), min); 2],
            )
        }
    }
}

/// Scale of 256, times a signed byte for a half of a block.
pub(crate) struct SuperHalved;

impl SuperHalved {
    pub(super) const SCALES: usize = HALVES;
}

impl Scales for SuperHalved {
    const RUN_BLOCKS: usize = BLOCKS;
    const STORED_BLOCKS: usize = BLOCKS;
    const RUN_BYTES: usize = (Self::SCALES + 2 * BLOCKS * LANES).next_multiple_of(LINE_BYTES);
    const HALVED: bool = true;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, run: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = isa.load_f16(run.cast());
            let first = run.add(Self::SCALES + block % BLOCKS * 2 * LANES);
            let halves = [first, first.add(LANES)];
            (
                each!(2, half => isa.mul(whole, isa.load_i8(halves[half].cast()))),
                [isa.splat(0.0); 2],
            )
        }
    }
}

/// Scale and minimum of 256, times four bits each, in one byte, for a half of a block.
pub(crate) struct SuperHalvedMin;

impl SuperHalvedMin {
    pub(super) const SCALES: usize = 2 * HALVES;
}

impl Scales for SuperHalvedMin {
    const RUN_BLOCKS: usize = BLOCKS;
    const STORED_BLOCKS: usize = BLOCKS;
    const RUN_BYTES: usize = (Self::SCALES + 2 * BLOCKS * LANES).next_multiple_of(LINE_BYTES);
    const HALVED: bool = true;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, run: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = isa.load_f16(run.cast());
            let whole_min = isa.load_f16(run.add(HALVES).cast());
            let first = run.add(Self::SCALES + block % BLOCKS * 2 * LANES);
            let both = [isa.load_u8(first), isa.load_u8(first.add(LANES))];
            // Moved by less than half of a sixteenth, rounding to nearest is rounding down: the upper four bits.
            let upper: Pair<S> = each!(2, half => {
                let sixteenths = isa.mul(both[half], isa.splat(1.0 / 16.0));
                isa.round(isa.sub(sixteenths, isa.splat(15.0 / 32.0)))
            });
            let lower: Pair<S> =
                each!(2, half => isa.neg_mul_add(upper[half], isa.splat(16.0), both[half]));
            (
                each!(2, half => isa.mul(whole, lower[half])),
                each!(2, half => isa.mul(whole_min, upper[half])),
            )
        }
    }
}
