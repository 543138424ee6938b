//! Rotary position embedding (RoFormer, arXiv:2104.09864): pairs of a head's elements turn by an angle that grows with
//! the position.
//!
//! Cosines and sines are computed when a position is first used, and kept in memory that was reserved for all positions
//! and is backed by the system as it is written. The frequencies and the magnitude are final: scalings of the context
//! are the caller's.
//!
//! Invariant: a row's result depends on that row and its position alone, and has the same bits on every instruction
//! set.
//!
//! What is absent: model metadata.
#![expect(unsafe_code, reason = "runs on all threads and instruction sets")]

use std::sync::Once;

use crate::isa::{Isa, Kernel};
use crate::memory::{AlignedBytes, Shared};
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
    /// `[positions][2][pairs]`: cosines, then sines.
    angles: AlignedBytes,
    /// Which chunks of the angles are written; they are not written again.
    chunks: Vec<Once>,
}

impl RopeTable {
    /// A table for positions below `positions_max`; pair `i` turns by `frequencies[i]` a position, and cosines and sines
    /// are multiplied by `magnitude`. Twice as many elements of a head as there are frequencies are rotated.
    #[must_use]
    pub fn new(frequencies: &[f32], magnitude: f32, positions_max: usize) -> Self {
        let chunks = positions_max.div_ceil(CHUNK_POSITIONS);
        let row_bytes = 2 * size_of_val(frequencies);
        Self {
            frequencies: frequencies.to_vec(),
            magnitude,
            positions_max,
            angles: AlignedBytes::zeroed(chunks * CHUNK_POSITIONS * row_bytes),
            chunks: (0..chunks).map(|_| Once::new()).collect(),
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
        self.chunks[chunk].call_once(|| self.write_chunk(chunk * CHUNK_POSITIONS));
        // SAFETY: there is room for all positions, and the position's chunk was written, once and for all.
        let row = unsafe { std::slice::from_raw_parts(self.row(position), self.width()) };
        row.split_at(self.frequencies.len())
    }

    /// Where the angles of a position are.
    fn row(&self, position: usize) -> *mut f32 {
        let angles: *mut f32 = self.angles.as_ptr().cast_mut().cast();
        angles.wrapping_add(position * self.width())
    }

    /// Computes the angles of a chunk; to be called once for each.
    fn write_chunk(&self, first_position: usize) {
        for position in first_position..first_position + CHUNK_POSITIONS {
            // SAFETY: there is room for whole chunks, and nobody reads or writes this one before its `Once` is done.
            let row = unsafe { std::slice::from_raw_parts_mut(self.row(position), self.width()) };
            let (cosines, sines) = row.split_at_mut(self.frequencies.len());
            for (pair, frequency) in self.frequencies.iter().enumerate() {
                let (sine, cosine) = (position as f32 * frequency).sin_cos();
                cosines[pair] = cosine * self.magnitude;
                sines[pair] = sine * self.magnitude;
            }
        }
    }

    /// Rotates `x`, `[n_tokens, heads, head_width]`, in place by `positions`, `[n_tokens]`, on all threads.
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
