//! One row out of a packed matrix: how an embedding is looked up.
#![expect(unsafe_code, reason = "vectors from pointers")]

use super::{BLOCK, Element, Format, Kind, Layout, PackedMatrix, Panel, Scales, for_format};
use crate::isa::{Centred, Cpu, Isa, Kernel, LANES};
use crate::memory::LINE_BYTES;

pub(super) fn decode(matrix: &PackedMatrix, cpu: Cpu, row: usize, out: &mut [f32]) {
    // SAFETY: the kernel stays within the row's panel, and `row` was checked to be in the matrix.
    unsafe { cpu.run(Decode { matrix, row, out }) }
}

struct Decode<'a> {
    matrix: &'a PackedMatrix,
    row: usize,
    out: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        // SAFETY: the caller's promise.
        unsafe {
            for_format!(self.matrix.format,
                L => self.quantized::<S, L>(isa),
                E => self.float::<S, E>(isa)
            );
        }
    }
}

impl Decode<'_> {
    #[inline(always)]
    unsafe fn quantized<S: Isa, L: Layout>(self, isa: S) {
        let panel = Panel::<L>::new(self.matrix, self.row / LANES);
        let lane = self.row % LANES;
        for (block, out) in self.out.chunks_exact_mut(BLOCK).enumerate() {
            let mut bytes = [[0; LINE_BYTES]; BLOCK / 4];
            let mut factors = [[0.0; LANES]; 4];
            // SAFETY: the block lies in the panel; the arrays hold what is stored.
            unsafe {
                let codes = panel.quads(isa, block);
                for (group, &codes) in codes.iter().flatten().enumerate() {
                    isa.store_bytes(codes, bytes[group].as_mut_ptr());
                }
                let (scales, mins) = panel.factors(isa, block);
                let pairs = scales.into_iter().chain(mins);
                for (floats, array) in pairs.zip(&mut factors) {
                    isa.store(floats, array.as_mut_ptr());
                }
            }
            for (column, out) in out.iter_mut().enumerate() {
                let code = bytes[column / 4][4 * lane + column % 4];
                let half = if L::Scales::HALVED { column / 16 } else { 0 };
                let min = if L::Scales::MINS {
                    factors[2 + half][lane]
                } else {
                    0.0
                };
                *out = factors[half][lane] * f32::from(unbiased::<S, L>(code)) - min;
            }
        }
    }

    #[inline(always)]
    unsafe fn float<S: Isa, E: Element>(self, isa: S) {
        let panel = self.matrix.panel(self.row / LANES);
        for (column, out) in self.out.iter_mut().enumerate() {
            let mut sixteen = [0.0; LANES];
            // SAFETY: the column lies in the panel; the array holds what is stored.
            unsafe {
                let from = panel.add(column * LANES * E::BYTES);
                isa.store(E::load(isa, from), sixteen.as_mut_ptr());
            }
            *out = sixteen[self.row % LANES];
        }
    }
}

fn unbiased<S: Isa, L: Layout>(code: u8) -> i16 {
    match (L::Kind::CENTRED, S::CENTRED) {
        (false, _) => i16::from(code),
        (true, Centred::Biased) => i16::from(code) - 128,
        (true, Centred::Stored) if L::Kind::BITS < 8 => {
            i16::from(code) - (1 << (L::Kind::BITS - 1))
        }
        (true, Centred::Signed | Centred::Stored) => i16::from(code.cast_signed()),
    }
}
