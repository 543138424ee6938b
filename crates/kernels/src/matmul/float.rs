//! Unquantized weights times unquantized activations.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::ops::Range;

use super::Job;
use crate::activations::Tile;
use crate::isa::{Isa, Kernel, LANES};
use crate::packed::Element;

/// Some panels of a product.
pub(super) struct Float<'a, E> {
    job: &'a Job<'a>,
    panels: Range<usize>,
    element: PhantomData<E>,
}

impl<'a, E> Float<'a, E> {
    pub(super) fn new(job: &'a Job<'a>, panels: Range<usize>) -> Self {
        Self {
            job,
            panels,
            element: PhantomData,
        }
    }
}

impl<E: Element> Kernel for Float<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let activations = self.job.activations;
        for tile in 0..activations.tiles() {
            let tile = activations.tile(tile);
            for panel in self.panels.clone() {
                // SAFETY: the caller's promise.
                unsafe {
                    for_width!(tile.width, T => {
                        let sums = self.sums::<S, T>(isa, panel, tile);
                        self.job.put::<S, T, false>(isa, panel, tile.first, &sums);
                    });
                }
            }
        }
    }
}

impl<E: Element> Float<'_, E> {
    #[inline(always)]
    unsafe fn sums<S: Isa, const T: usize>(
        &self,
        isa: S,
        panel: usize,
        tile: Tile,
    ) -> [S::Floats; T] {
        let weights = self.job.matrix.panel(panel);
        // SAFETY: the columns lie in the panel and in the tile.
        unsafe {
            let mut sums = [isa.splat(0.0); T];
            for column in 0..self.job.matrix.columns() {
                let weights = E::load(isa, weights.add(column * LANES * E::BYTES));
                for (token, sum) in sums.iter_mut().enumerate() {
                    let value = isa.splat(*tile.floats.add(column * T + token));
                    *sum = isa.mul_add(weights, value, *sum);
                }
            }
            sums
        }
    }
}
