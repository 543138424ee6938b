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
        let last = self.ask_for_the_first(isa);
        // SAFETY: the caller's promise.
        unsafe {
            for panel in self.panels {
                let mut sums = [isa.splat(0.0); T];
                let weights = Stream {
                    panel: Panel::<L>::new(self.job.matrix, panel),
                    last,
                };
                accumulate::<S, L::Kind, _, T>(isa, weights, 0..blocks, 0, tile, &mut sums);
                self.job.put(isa, panel, tile.first, &sums);
            }
        }
    }
}

impl<L: Layout, const T: usize> Few<'_, L, T> {
    /// Asks for the memory that is multiplied before what is asked for on the way. Gives the last place to ask for:
    /// what follows is another task's.
    #[inline(always)]
    fn ask_for_the_first<S: Isa>(&self, isa: S) -> *const u8 {
        let matrix = self.job.matrix;
        let first = matrix.panel(self.panels.start);
        let bytes = self.panels.len() * matrix.panel_bytes();
        for at in (0..bytes.min(PREFETCH_BYTES)).step_by(LINE_BYTES) {
            isa.prefetch(first.wrapping_add(at));
        }
        first.wrapping_add(bytes - L::Bits::BYTES)
    }
}

/// A panel, and the last place to ask for.
struct Stream<L> {
    panel: Panel<L>,
    last: *const u8,
}

impl<L> Clone for Stream<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Stream<L> {}

impl<S: Isa, L: Layout> Blocks<S> for Stream<L> {
    #[inline(always)]
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = self.panel.codes(block);
            let ahead = codes.wrapping_add(PREFETCH_BYTES).min(self.last);
            for line in 0..L::Bits::GROUPS {
                isa.prefetch(ahead.wrapping_add(line * LINE_BYTES));
            }
            self.panel.quads(isa, block)
        }
    }

    #[inline(always)]
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe { self.panel.factors(isa, block) }
    }
}
