//! Where the scales of weights lie: apart from the codes, in units for sixteen rows.
//!
//! A weight is `scale · code - min`. Formats of 32-element blocks have a unit a block: the rows' scales in half
//! precision, then, where there are minima, these. Formats of 256-element blocks have a unit for eight blocks: the rows'
//! scale (and minimum) in half precision, then the blocks' multipliers of these, a byte a row.
#![expect(unsafe_code, reason = "vectors from pointers")]

use crate::isa::{Isa, LANES};

/// Bytes of sixteen half-precision numbers.
const HALVES: usize = 2 * LANES;
/// Blocks of 32 in a block of 256.
const BLOCKS: usize = 8;

/// Scales or minima of both halves of a block; the second is used only where the halves differ.
pub(crate) type Pair<S> = [<S as Isa>::Floats; 2];

/// A layout of scales.
pub(crate) trait Scales {
    /// Blocks of 32 columns in a unit.
    const UNIT_BLOCKS: usize;
    /// Bytes of a unit.
    const UNIT_BYTES: usize;
    /// Whether each half of a block has its own.
    const HALVED: bool;
    /// Whether there are minima.
    const MINS: bool;

    /// Scales and minima of block `block % UNIT_BLOCKS` of a unit.
    ///
    /// # Safety
    /// `unit` must be valid for [`Scales::UNIT_BYTES`], and the instruction set must be there.
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, block: usize) -> (Pair<S>, Pair<S>);
}

/// One scale a block.
pub(crate) struct Plain;

impl Scales for Plain {
    const UNIT_BLOCKS: usize = 1;
    const UNIT_BYTES: usize = HALVES;
    const HALVED: bool = false;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, _: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe { ([isa.load_f16(unit.cast()); 2], [isa.splat(0.0); 2]) }
    }
}

/// One scale and one minimum a block.
pub(crate) struct PlainMin;

impl Scales for PlainMin {
    const UNIT_BLOCKS: usize = 1;
    const UNIT_BYTES: usize = 2 * HALVES;
    const HALVED: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, _: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            (
                [isa.load_f16(unit.cast()); 2],
                [isa.load_f16(unit.add(HALVES).cast()); 2],
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
    const UNIT_BLOCKS: usize = BLOCKS;
    const UNIT_BYTES: usize = Self::MINS + BLOCKS * LANES;
    const HALVED: bool = false;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = block % BLOCKS * LANES;
            let scale = isa.load_u8(unit.add(Self::SCALES + at));
            let min = isa.load_u8(unit.add(Self::MINS + at));
            (
                [isa.mul(isa.load_f16(unit.cast()), scale); 2],
                [isa.mul(isa.load_f16(unit.add(HALVES).cast()), min); 2],
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
    const UNIT_BLOCKS: usize = BLOCKS;
    const UNIT_BYTES: usize = Self::SCALES + 2 * BLOCKS * LANES;
    const HALVED: bool = true;
    const MINS: bool = false;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = isa.load_f16(unit.cast());
            let first = unit.add(Self::SCALES + block % BLOCKS * 2 * LANES);
            let halves = [first, first.add(LANES)];
            (
                halves.map(|from| isa.mul(whole, isa.load_i8(from.cast()))),
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
    const UNIT_BLOCKS: usize = BLOCKS;
    const UNIT_BYTES: usize = Self::SCALES + 2 * BLOCKS * LANES;
    const HALVED: bool = true;
    const MINS: bool = true;

    #[inline(always)]
    unsafe fn load<S: Isa>(isa: S, unit: *const u8, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = isa.load_f16(unit.cast());
            let whole_min = isa.load_f16(unit.add(HALVES).cast());
            let first = unit.add(Self::SCALES + block % BLOCKS * 2 * LANES);
            let both = [isa.load_u8(first), isa.load_u8(first.add(LANES))];
            // Moved by less than half of a sixteenth, rounding to nearest is rounding down: the upper four bits.
            let upper = both.map(|both| {
                let sixteenths = isa.mul(both, isa.splat(1.0 / 16.0));
                isa.round(isa.sub(sixteenths, isa.splat(15.0 / 32.0)))
            });
            let lower = [0, 1].map(|i| isa.neg_mul_add(upper[i], isa.splat(16.0), both[i]));
            (
                lower.map(|scale| isa.mul(whole, scale)),
                upper.map(|min| isa.mul(whole_min, min)),
            )
        }
    }
}
