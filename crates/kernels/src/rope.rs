//! Rotary position embedding (RoFormer, arXiv:2104.09864): pairs of a head's elements turn by an angle that grows with
//! the position.
//!
//! Cosines and sines are computed when a position is first used, and kept. The frequencies and the magnitude are final:
//! scalings of the context are the caller's.
//!
//! Invariant: a row's result depends on that row and its position alone, and has the same bits on every instruction
//! set.
//!
//! What is absent: model metadata.
#![expect(unsafe_code, reason = "runs on all threads and instruction sets")]

use std::sync::OnceLock;

use crate::isa::{Isa, Kernel};
use crate::memory::Shared;
use crate::pool::Pool;

/// Positions whose cosines and sines are computed together.
const CHUNK_POSITIONS: usize = 64;
/// Tasks that a job is cut into, for each thread.
const TASKS_PER_THREAD: usize = 4;

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Elements 2i and 2i+1, as llama's files have it.
    Adjacent,
    /// Elements i and i + width/2, as GPT-NeoX and most others have it.
    Halves,
}

/// Cosines and sines of all positions up to a greatest one.
#[derive(Debug)]
pub struct RopeTable {
    frequencies: Vec<f32>,
    magnitude: f32,
    positions_max: usize,
    /// Each `[CHUNK_POSITIONS][2][pairs]`: cosines, then sines.
    chunks: Vec<OnceLock<Box<[f32]>>>,
}

impl RopeTable {
    /// A table for positions below `positions_max`; pair `i` turns by `frequencies[i]` a position, and cosines and sines
    /// are multiplied by `magnitude`. Twice as many elements of a head as there are frequencies are rotated.
    #[must_use]
    pub fn new(frequencies: &[f32], magnitude: f32, positions_max: usize) -> Self {
        Self {
            frequencies: frequencies.to_vec(),
            magnitude,
            positions_max,
            chunks: (0..positions_max.div_ceil(CHUNK_POSITIONS))
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// Elements of a head that are rotated.
    #[must_use]
    pub fn width(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Cosines and sines of one position, each `[pairs]`.
    fn angles(&self, position: usize) -> (&[f32], &[f32]) {
        assert!(
            position < self.positions_max,
            "position {position} lies beyond the context of {} tokens",
            self.positions_max
        );
        let chunk = position / CHUNK_POSITIONS;
        let floats = self.chunks[chunk].get_or_init(|| self.chunk(chunk * CHUNK_POSITIONS));
        let pairs = self.frequencies.len();
        floats[position % CHUNK_POSITIONS * 2 * pairs..][..2 * pairs].split_at(pairs)
    }

    fn chunk(&self, first_position: usize) -> Box<[f32]> {
        let pairs = self.frequencies.len();
        let mut floats = vec![0.0; CHUNK_POSITIONS * 2 * pairs];
        for (offset, row) in floats.chunks_exact_mut((2 * pairs).max(1)).enumerate() {
            let (cosines, sines) = row.split_at_mut(pairs);
            for (pair, frequency) in self.frequencies.iter().enumerate() {
                let (sine, cosine) = ((first_position + offset) as f32 * frequency).sin_cos();
                cosines[pair] = cosine * self.magnitude;
                sines[pair] = sine * self.magnitude;
            }
        }
        floats.into_boxed_slice()
    }

    /// Rotates `x`, `[n_tokens, heads, head_width]`, in place by `positions`, `[n_tokens]`, on all threads. Allocates
    /// only for positions that no call has used before.
    ///
    /// # Panics
    /// If the lengths do not fit together, or a position lies beyond the table.
    pub fn rotate(
        &self,
        pool: &mut Pool,
        style: RopeStyle,
        x: &mut [f32],
        heads: usize,
        head_width: usize,
        positions: &[usize],
    ) {
        let row_width = heads * head_width;
        let tokens = positions.len();
        assert!(
            self.width() <= head_width,
            "{} elements of a head of {head_width} cannot be rotated",
            self.width()
        );
        assert_eq!(x.len(), tokens * row_width, "each row has a position");
        let cpu = pool.cpu();
        let x = Shared::new(x);
        let per_task = tokens.div_ceil(pool.threads() * TASKS_PER_THREAD).max(1);
        pool.run(tokens.div_ceil(per_task), &|task| {
            let first = task * per_task;
            for (offset, position) in positions[first..].iter().take(per_task).enumerate() {
                let (cosines, sines) = self.angles(*position);
                let token = first + offset;
                let rotation = Rotation {
                    style,
                    // SAFETY: `x` is borrowed until all tasks are done, and each row belongs to one task.
                    row: unsafe { x.part(token * row_width, row_width) },
                    head_width,
                    cosines,
                    sines,
                };
                // SAFETY: the kernel asks for nothing.
                unsafe { cpu.run(rotation) };
            }
        });
    }
}

/// The heads of one token. The loops are plain: the compiler makes vectors of them.
struct Rotation<'a> {
    style: RopeStyle,
    row: &'a mut [f32],
    head_width: usize,
    cosines: &'a [f32],
    sines: &'a [f32],
}

impl Kernel for Rotation<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, _: S) {
        let pairs = self.cosines.len();
        for head in self.row.chunks_exact_mut(self.head_width) {
            let angles = self.cosines.iter().zip(self.sines);
            match self.style {
                RopeStyle::Adjacent => {
                    for (pair, (cosine, sine)) in head.chunks_exact_mut(2).zip(angles) {
                        (pair[0], pair[1]) = turned(pair[0], pair[1], *cosine, *sine);
                    }
                }
                RopeStyle::Halves => {
                    let (low, high) = head[..2 * pairs].split_at_mut(pairs);
                    for ((low, high), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
                        (*low, *high) = turned(*low, *high, *cosine, *sine);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn turned(a: f32, b: f32, cosine: f32, sine: f32) -> (f32, f32) {
    (a * cosine - b * sine, a * sine + b * cosine)
}
