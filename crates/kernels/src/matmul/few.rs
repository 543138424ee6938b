//! One tile of tokens: codes are used as they come from memory. This is how a token is decoded.
//!
//! Panels are read front to back, which processors notice by themselves; to ask for memory ahead only takes their room
//! for outstanding reads.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::ops::Range;

use super::Job;
use super::accumulate::{Blocks, accumulate};
use crate::isa::{Isa, Kernel};
use crate::packed::{BLOCK, Layout, Pair, Panel, Quads};

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
                self.job.put::<S, T, false>(isa, panel, tile.first, &sums);
            }
        }
    }
}

impl<S: Isa, L: Layout> Blocks<S> for Panel<L> {
    #[inline(always)]
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe { self.quads(isa, block) }
    }

    #[inline(always)]
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe { self.factors(isa, block) }
    }
}
