//! The inner step: some blocks of a panel times those of a tile.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::ops::Range;

use crate::activations::Tile;
use crate::isa::{Isa, each};
use crate::packed::{BLOCK, Kind, Pair, Quads};

/// Where the codes and scales of a panel's blocks come from.
pub(super) trait Blocks<S: Isa>: Copy {
    /// Codes as [`Isa::dot`] takes them.
    ///
    /// # Safety
    /// The block must be there, and the instruction set.
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S>;

    /// Scales and minima.
    ///
    /// # Safety
    /// As above.
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>);
}

/// Adds the products of some blocks: those of `weights` are counted from 0, those of the tile from `from`.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Isa, K: Kind, B: Blocks<S>, const T: usize>(
    isa: S,
    weights: B,
    blocks: Range<usize>,
    from: usize,
    tile: Tile,
    sums: &mut [S::Floats; T],
) {
    for block in blocks {
        let at = (from + block) * T;
        // SAFETY: the caller's promise.
        unsafe {
            let codes = weights.codes(isa, block);
            let (scales, mins) = weights.scales(isa, block);
            let activations: [_; 2] = each!(2, half => tile.codes.add(at * BLOCK + half * 16 * T));
            if K::HALVED {
                let offsets = tile.half_offsets.wrapping_add(2 * at);
                let mut first = start::<S, K, T>(isa, offsets);
                let mut second = start::<S, K, T>(isa, offsets.wrapping_add(T));
                dot::<S, K, T>(isa, &mut first, &codes[0], activations[0]);
                dot::<S, K, T>(isa, &mut second, &codes[1], activations[1]);
                for token in 0..T {
                    let whole = isa.mul(isa.to_floats(first[token]), scales[0]);
                    let whole = isa.mul_add(isa.to_floats(second[token]), scales[1], whole);
                    let scale = isa.splat(*tile.scales.add(at + token));
                    sums[token] = isa.mul_add(whole, scale, sums[token]);
                    if !K::WIDE {
                        for (half, &min) in mins.iter().enumerate() {
                            let sum = tile.scaled_half_sums.add(2 * at + half * T + token);
                            sums[token] = isa.neg_mul_add(min, isa.splat(*sum), sums[token]);
                        }
                    }
                }
            } else {
                let mut ints = start::<S, K, T>(isa, tile.offsets.wrapping_add(at));
                dot::<S, K, T>(isa, &mut ints, &codes[0], activations[0]);
                dot::<S, K, T>(isa, &mut ints, &codes[1], activations[1]);
                for token in 0..T {
                    let scale = isa.splat(*tile.scales.add(at + token));
                    let scale = isa.mul(scales[0], scale);
                    sums[token] = isa.mul_add(isa.to_floats(ints[token]), scale, sums[token]);
                    if !K::WIDE {
                        let sum = isa.splat(*tile.scaled_sums.add(at + token));
                        sums[token] = isa.neg_mul_add(mins[0], sum, sums[token]);
                    }
                }
            }
        }
    }
}

/// What integer sums begin with: what takes back the bias of the weights.
#[inline(always)]
unsafe fn start<S: Isa, K: Kind, const T: usize>(isa: S, offsets: *const i32) -> [S::Ints; T] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut ints = [isa.splat_ints(0); T];
        if K::WIDE && S::BIASED {
            for (token, ints) in ints.iter_mut().enumerate() {
                *ints = isa.splat_ints(*offsets.add(token));
            }
        }
        ints
    }
}

#[inline(always)]
unsafe fn dot<S: Isa, K: Kind, const T: usize>(
    isa: S,
    sums: &mut [S::Ints; T],
    codes: &[S::Bytes; 4],
    activations: *const i8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if K::WIDE {
            isa.dot::<T, true>(sums, codes, activations);
        } else {
            isa.dot::<T, false>(sums, codes, activations);
        }
    }
}
