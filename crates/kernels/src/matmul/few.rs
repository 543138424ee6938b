//! Few tokens: codes are used as they come from memory, and unpacked anew for each tile. This is how tokens are decoded, and,
//! where the instruction set wants it, how a short prompt is processed.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::ops::Range;

use super::Job;
use super::accumulate::{Blocks, accumulate};
use crate::isa::{Isa, Kernel};
use crate::memory::LINE_BYTES;
use crate::packed::{BLOCK, Bits, Kind, Layout, Pair, Panel, Quads};

/// Tokens of a tile from which on memory is asked for, and how far ahead.
const AHEAD_TOKENS_MIN: usize = 4;
const AHEAD_BYTES: usize = 8 << 10;

/// Some panels of a product with tiles of `T` tokens.
pub(super) struct Few<'a, L, const T: usize> {
    job: &'a Job<'a>,
    panels: Range<usize>,
    layout: PhantomData<L>,
}

impl<'a, L, const T: usize> Few<'a, L, T> {
    pub(super) fn new(job: &'a Job<'a>, panels: Range<usize>) -> Self {
        Self {
            job,
            panels,
            layout: PhantomData,
        }
    }
}

impl<L: Layout, const T: usize> Kernel for Few<'_, L, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        if T > S::TILE.min(S::FEW_TOKENS_MAX) {
            unreachable!("no tile is as wide here");
        }
        let activations = self.job.activations;
        let blocks = self.job.matrix.columns() / BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            for panel in self.panels {
                let weights = FromMemory {
                    panel: Panel::<L>::new(self.job.matrix, panel),
                    asks_ahead: T >= AHEAD_TOKENS_MIN,
                };
                for tile in 0..activations.tiles() {
                    let tile = activations.tile(tile);
                    let mut sums = [isa.splat(0.0); T];
                    accumulate::<S, L::Kind, _, T>(isa, weights, 0..blocks, 0, tile, &mut sums);
                    self.job.put::<S, T, false>(isa, panel, tile.first, &sums);
                }
            }
        }
    }
}

/// The blocks of a panel. A processor sees by itself that they are read front to back, but where much is computed with
/// each, it does not look far enough ahead; where little is, being asked only takes its room for outstanding reads.
struct FromMemory<L> {
    panel: Panel<L>,
    asks_ahead: bool,
}

impl<L> Clone for FromMemory<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for FromMemory<L> {}

impl<S: Isa, L: Layout> Blocks<S> for FromMemory<L> {
    type Codes = Quads<S>;

    #[inline(always)]
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S> {
        if self.asks_ahead {
            let next = self.panel.codes(block).wrapping_add(AHEAD_BYTES);
            for line in 0..=L::Bits::GROUPS {
                isa.prefetch(next.wrapping_add(line * LINE_BYTES));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.panel.quads(isa, block) }
    }

    #[inline(always)]
    unsafe fn scales<K: Kind>(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe { self.panel.factors(isa, block) }
    }
}
