//! The inner step: some blocks of a panel times those of a tile.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::ops::Range;

use crate::activations::Tile;
use crate::isa::{Centred, Isa, Weights};
use crate::packed::{BLOCK, Kind, Pair, Quads};

/// Where the codes and scales of a panel's blocks come from.
pub(super) trait Blocks<S: Isa>: Copy {
    /// The codes of a block.
    type Codes: Codes<S>;

    /// Codes as [`Isa::dot`] takes them.
    ///
    /// # Safety
    /// The block must be there, and the instruction set.
    unsafe fn codes(self, isa: S, block: usize) -> Self::Codes;

    /// Scales and minima; of those that the kind of format does not have, anything.
    ///
    /// # Safety
    /// As above.
    unsafe fn scales<K: Kind>(self, isa: S, block: usize) -> (Pair<S>, Pair<S>);
}

/// The codes of a block: four groups a half.
pub(super) trait Codes<S: Isa>: Copy {
    /// One group.
    ///
    /// # Safety
    /// `index` must be below 8, and the instruction set must be there.
    unsafe fn group(self, isa: S, index: usize) -> S::Bytes;
}

impl<S: Isa> Codes<S> for Quads<S> {
    #[inline(always)]
    unsafe fn group(self, _: S, index: usize) -> S::Bytes {
        self[index / 4][index % 4]
    }
}

/// The groups from `FIRST` on, `GROUPS` in all.
struct Groups<C, const FIRST: usize, const GROUPS: usize>(C);

impl<C: Copy, const FIRST: usize, const GROUPS: usize> Clone for Groups<C, FIRST, GROUPS> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Copy, const FIRST: usize, const GROUPS: usize> Copy for Groups<C, FIRST, GROUPS> {}

impl<S: Isa, C: Codes<S>, const FIRST: usize, const GROUPS: usize> Weights<S>
    for Groups<C, FIRST, GROUPS>
{
    const GROUPS: usize = GROUPS;

    #[inline(always)]
    unsafe fn group(self, isa: S, index: usize) -> S::Bytes {
        // SAFETY: the caller's promise.
        unsafe { self.0.group(isa, FIRST + index) }
    }
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
            let (scales, mins) = weights.scales::<K>(isa, block);
            let activations = tile.codes.add(at * BLOCK);
            if K::HALVED {
                let offsets = tile.half_offsets.wrapping_add(2 * at);
                let mut first = start::<S, K, T>(isa, offsets);
                let mut second = start::<S, K, T>(isa, offsets.wrapping_add(T));
                dot::<S, K, _, T>(isa, &mut first, Groups::<_, 0, 4>(codes), activations);
                let activations = activations.wrapping_add(16 * T);
                dot::<S, K, _, T>(isa, &mut second, Groups::<_, 4, 4>(codes), activations);
                for token in 0..T {
                    let whole = isa.mul(isa.to_floats(first[token]), scales[0]);
                    let whole = isa.mul_add(isa.to_floats(second[token]), scales[1], whole);
                    let scale = isa.splat(*tile.scales.add(at + token));
                    sums[token] = isa.mul_add(whole, scale, sums[token]);
                    if !K::CENTRED {
                        for (half, &min) in mins.iter().enumerate() {
                            let sum = tile.scaled_half_sums.add(2 * at + half * T + token);
                            sums[token] = isa.neg_mul_add(min, isa.splat(*sum), sums[token]);
                        }
                    }
                }
            } else {
                let mut ints = start::<S, K, T>(isa, tile.offsets.wrapping_add(at));
                dot::<S, K, _, T>(isa, &mut ints, Groups::<_, 0, 8>(codes), activations);
                for token in 0..T {
                    let scale = isa.splat(*tile.scales.add(at + token));
                    let scale = isa.mul(scales[0], scale);
                    sums[token] = isa.mul_add(isa.to_floats(ints[token]), scale, sums[token]);
                    if !K::CENTRED {
                        let sum = isa.splat(*tile.scaled_sums.add(at + token));
                        sums[token] = isa.neg_mul_add(mins[0], sum, sums[token]);
                    }
                }
            }
        }
    }
}

/// What integer sums begin with: what takes back the bias of the weights, which is `128` in `offsets`.
#[inline(always)]
unsafe fn start<S: Isa, K: Kind, const T: usize>(isa: S, offsets: *const i32) -> [S::Ints; T] {
    let down = match S::CENTRED {
        Centred::Biased => Some(0),
        Centred::Stored if K::BITS < 8 => Some(8 - K::BITS),
        Centred::Stored | Centred::Signed => None,
    };
    // SAFETY: the caller's promise.
    unsafe {
        let mut ints = [isa.splat_ints(0); T];
        if let (Some(down), true) = (down, K::CENTRED) {
            for (token, ints) in ints.iter_mut().enumerate() {
                *ints = isa.splat_ints(*offsets.add(token) >> down);
            }
        }
        ints
    }
}

#[inline(always)]
unsafe fn dot<S: Isa, K: Kind, W: Weights<S>, const T: usize>(
    isa: S,
    sums: &mut [S::Ints; T],
    weights: W,
    activations: *const i8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match K::BITS {
            0..=4 => isa.dot::<W, T, 4>(sums, weights, activations),
            5 => isa.dot::<W, T, 5>(sums, weights, activations),
            6 => isa.dot::<W, T, 6>(sums, weights, activations),
            _ => isa.dot::<W, T, 8>(sums, weights, activations),
        }
    }
}
