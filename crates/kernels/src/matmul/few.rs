//! One tile of tokens: codes are used as they come from memory. This is how a token is decoded.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::ops::Range;

use super::Job;
use super::accumulate::{Blocks, accumulate};
use crate::isa::{Isa, Kernel};
use crate::memory::LINE_BYTES;
use crate::packed::{BLOCK, Bits, Layout, Pair, Panel, Quads};

/// How far before the weights that are multiplied memory is asked for.
const PREFETCH_BYTES: usize = 4 << 10;

/// Some panels of a product with at most `T` tokens.
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
        let blocks = self.job.matrix.columns() / BLOCK;
        let tile = self.job.activations.tile(0);
        // SAFETY: the caller's promise.
        unsafe {
            for panel in self.panels {
                let mut sums = [isa.splat(0.0); T];
                let weights = Panel::<L>::new(self.job.matrix, panel);
                accumulate::<S, L::Kind, _, T>(isa, weights, 0..blocks, 0, tile, &mut sums);
                self.job.put(isa, panel, tile.first, &sums);
            }
        }
    }
}

impl<S: Isa, L: Layout> Blocks<S> for Panel<L> {
    #[inline(always)]
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = Panel::codes(self, block);
            for line in 0..L::Bits::GROUPS {
                isa.prefetch(codes.wrapping_add(PREFETCH_BYTES + line * LINE_BYTES));
            }
            L::finish(isa, L::Bits::unpack(isa, codes))
        }
    }

    #[inline(always)]
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe { self.factors(isa, block) }
    }
}
