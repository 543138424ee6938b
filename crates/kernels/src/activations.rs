//! The other side of a product: activations, quantized to 8 bits in blocks of 32, with their sums.
//!
//! Tokens lie in tiles, as many as one kernel multiplies at a time; a single tile may be narrower. Within a tile of `T`
//! tokens a block is `[8 groups][T tokens][4 columns]`, and what is known of each block `[T]`.
//!
//! A value is `scale · code`, with codes in `-127..=127`. The sums of codes turn a product with shifted weights into the
//! wanted one. A block with a number that is not finite has the scale NaN, so that it is seen in the result.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::ops::Range;

use crate::isa::{Cpu, Isa, Kernel, LANES, each};
use crate::memory::{AlignedBytes, Shared};
use crate::packed::BLOCK;
use crate::pool::Pool;
use crate::vector::{inverse_rms, silu_mul};

/// The largest code.
const CODE_MAX: f32 = 127.0;
/// Blocks whose greatest value is below this are zeros: its reciprocal would not be finite.
const MAGNITUDE_MIN: f32 = 1e-30;

/// Activations of up to a number of tokens.
#[derive(Debug)]
pub struct Activations {
    tile: usize,
    tokens_max: usize,
    columns_max: usize,
    tokens: usize,
    columns: usize,
    codes: AlignedBytes,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    half_offsets: Vec<i32>,
    scaled_sums: Vec<f32>,
    scaled_half_sums: Vec<f32>,
    floats: Vec<f32>,
}

/// What activations are made of, all `[tokens, columns]`.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// Values as they are.
    Plain(&'a [f32]),
    /// Each token's values normalized by their root mean square (arXiv:1910.07467).
    Normed {
        /// The values.
        values: &'a [f32],
        /// A factor a column.
        weight: &'a [f32],
        /// Added to the mean of the squares.
        epsilon: f32,
    },
    /// `silu(gate) · up` with `silu(x) = x / (1 + e^-x)` (arXiv:2002.05202).
    Gated {
        /// What opens the gate.
        gate: &'a [f32],
        /// What passes it.
        up: &'a [f32],
    },
}

/// A tile, as kernels read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// Its first token.
    pub(crate) first: usize,
    /// How many tokens it has room for: 1, 2, 4 or 8.
    pub(crate) width: usize,
    /// `[blocks][8][width][4]`.
    pub(crate) codes: *const i8,
    /// `[blocks][width]`.
    pub(crate) scales: *const f32,
    /// `[blocks][width]`: what a product with weights that are 128 too large has too much, negative.
    pub(crate) offsets: *const i32,
    /// `[blocks][2][width]`: the same for the halves.
    pub(crate) half_offsets: *const i32,
    /// `[blocks][width]`: scale times sum.
    pub(crate) scaled_sums: *const f32,
    /// `[blocks][2][width]`.
    pub(crate) scaled_half_sums: *const f32,
    /// `[columns][width]`, where unquantized values are kept.
    pub(crate) floats: *const f32,
}

impl Activations {
    /// Makes room. `keep_floats` keeps the unquantized values too, which unquantized matrices need.
    #[must_use]
    pub fn new(cpu: Cpu, tokens_max: usize, columns_max: usize, keep_floats: bool) -> Self {
        let tile = cpu.widths().tile;
        let rows = tokens_max.next_multiple_of(tile);
        let columns = columns_max.next_multiple_of(BLOCK);
        let blocks = rows * columns / BLOCK;
        Self {
            tile,
            tokens_max,
            columns_max,
            tokens: 0,
            columns: 0,
            codes: AlignedBytes::zeroed(rows * columns),
            scales: vec![0.0; blocks],
            offsets: vec![0; blocks],
            half_offsets: vec![0; 2 * blocks],
            scaled_sums: vec![0.0; blocks],
            scaled_half_sums: vec![0.0; 2 * blocks],
            floats: vec![0.0; if keep_floats { rows * columns } else { 0 }],
        }
    }

    /// Tokens that it holds.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Columns of each token.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Takes tokens of as many columns.
    ///
    /// # Panics
    /// Where there is no room for as many, or the lengths do not fit each other.
    pub fn quantize(&mut self, pool: &mut Pool, input: Input<'_>, columns: usize) {
        let length = input.checked_length(columns);
        assert!(
            columns > 0 && length.is_multiple_of(columns),
            "rows of {columns} columns"
        );
        let tokens = length / columns;
        assert!(
            tokens <= self.tokens_max && columns <= self.columns_max,
            "{tokens} x {columns} activations, but room for {} x {}",
            self.tokens_max,
            self.columns_max
        );
        (self.tokens, self.columns) = (tokens, columns);
        let rows = Rows {
            input,
            columns,
            tile: self.tile,
            tokens,
            codes: Shared::new(self.codes.as_mut_slice()),
            scales: Shared::new(&mut self.scales),
            offsets: Shared::new(&mut self.offsets),
            half_offsets: Shared::new(&mut self.half_offsets),
            scaled_sums: Shared::new(&mut self.scaled_sums),
            scaled_half_sums: Shared::new(&mut self.scaled_half_sums),
            floats: Shared::new(&mut self.floats),
        };
        let cpu = pool.cpu();
        // A task is a tile, whose tokens share cache lines.
        let width = tile_width(tokens, self.tile);
        pool.run(self.tiles(), &|tile| {
            // SAFETY: each tile has its own places in the arrays, which outlive the run.
            unsafe {
                cpu.run(QuantizeTile {
                    rows: &rows,
                    tokens: tile * width..(tile + 1) * width,
                });
            }
        });
    }

    /// How many tiles there are.
    pub(crate) fn tiles(&self) -> usize {
        self.tokens.div_ceil(self.tile)
    }

    /// Most tokens of a tile.
    pub(crate) fn tile_tokens(&self) -> usize {
        self.tile
    }

    pub(crate) fn keeps_floats(&self) -> bool {
        !self.floats.is_empty()
    }

    pub(crate) fn tile(&self, index: usize) -> Tile {
        let first = index * self.tile;
        assert!(
            first < self.tokens,
            "tile {index} of {} tokens",
            self.tokens
        );
        let blocks = first * self.blocks();
        let floats = if self.keeps_floats() {
            first * self.columns
        } else {
            0
        };
        Tile {
            first,
            width: tile_width(self.tokens, self.tile),
            codes: self.codes.as_ptr().wrapping_add(blocks * BLOCK).cast(),
            scales: self.scales[blocks..].as_ptr(),
            offsets: self.offsets[blocks..].as_ptr(),
            half_offsets: self.half_offsets[2 * blocks..].as_ptr(),
            scaled_sums: self.scaled_sums[blocks..].as_ptr(),
            scaled_half_sums: self.scaled_half_sums[2 * blocks..].as_ptr(),
            floats: self.floats[floats..].as_ptr(),
        }
    }

    fn blocks(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }
}

impl Input<'_> {
    /// One token's part.
    #[inline(always)]
    fn row(self, token: usize, columns: usize) -> Self {
        let range = token * columns..(token + 1) * columns;
        match self {
            Self::Plain(values) => Self::Plain(&values[range]),
            Self::Normed {
                values,
                weight,
                epsilon,
            } => Self::Normed {
                values: &values[range],
                weight,
                epsilon,
            },
            Self::Gated { gate, up } => Self::Gated {
                gate: &gate[range.clone()],
                up: &up[range],
            },
        }
    }

    /// How many values there are.
    fn checked_length(&self, columns: usize) -> usize {
        match *self {
            Self::Plain(values) => values.len(),
            Self::Normed { values, weight, .. } => {
                assert_eq!(weight.len(), columns, "a norm's length");
                values.len()
            }
            Self::Gated { gate, up } => {
                assert_eq!(gate.len(), up.len(), "both sides of a gate");
                gate.len()
            }
        }
    }
}

/// How wide tiles are: a single one is as wide as the next power of two.
fn tile_width(tokens: usize, tile: usize) -> usize {
    tokens.next_power_of_two().min(tile)
}

/// Where the tokens come from and go to.
struct Rows<'a> {
    input: Input<'a>,
    columns: usize,
    tile: usize,
    tokens: usize,
    codes: Shared<u8>,
    scales: Shared<f32>,
    offsets: Shared<i32>,
    half_offsets: Shared<i32>,
    scaled_sums: Shared<f32>,
    scaled_half_sums: Shared<f32>,
    floats: Shared<f32>,
}

struct QuantizeTile<'a> {
    rows: &'a Rows<'a>,
    tokens: Range<usize>,
}

/// One quantized block of one token.
struct Block {
    codes: [i8; BLOCK],
    scale: f32,
    sums: [i32; 2],
}

const ZEROS: Block = Block {
    codes: [0; BLOCK],
    scale: 0.0,
    sums: [0; 2],
};

impl Kernel for QuantizeTile<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let rows = self.rows;
        for token in self.tokens {
            let place = Place::of(rows, token);
            // SAFETY: the caller's promise; each token has its own places.
            unsafe {
                if token < rows.tokens {
                    quantize_row(isa, rows, rows.input.row(token, rows.columns), &place);
                } else {
                    put_padding(rows, &place);
                }
            }
        }
    }
}

/// The values of some columns of one token's `row`, at most a block, and zeros after them. `factor` is the inverse root of
/// the mean square where they are normalized.
#[inline(always)]
unsafe fn prepared_block<S: Isa>(
    isa: S,
    row: Input<'_>,
    factor: f32,
    columns: Range<usize>,
) -> [S::Floats; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        match row {
            Input::Plain(values) => load_block(isa, &values[columns]),
            Input::Normed { values, weight, .. } => {
                let values = load_block(isa, &values[columns.clone()]);
                let weights = load_block(isa, &weight[columns]);
                each!(2, half => {
                    isa.mul(isa.mul(values[half], isa.splat(factor)), weights[half])
                })
            }
            Input::Gated { gate, up } => {
                let gates = load_block(isa, &gate[columns.clone()]);
                let ups = load_block(isa, &up[columns]);
                each!(2, half => silu_mul(isa, gates[half], ups[half]))
            }
        }
    }
}

#[inline(always)]
unsafe fn quantize_row<S: Isa>(isa: S, rows: &Rows<'_>, row: Input<'_>, place: &Place) {
    let factor = match row {
        Input::Normed {
            values, epsilon, ..
        } => {
            // SAFETY: the caller's promise.
            unsafe { inverse_rms(isa, values.as_ptr(), values.len(), epsilon) }
        }
        Input::Plain(_) | Input::Gated { .. } => 1.0,
    };
    for block in 0..rows.columns.div_ceil(BLOCK) {
        let from = block * BLOCK;
        let count = BLOCK.min(rows.columns - from);
        // SAFETY: the caller's promise.
        unsafe {
            let values = prepared_block(isa, row, factor, from..from + count);
            place.put(rows, block, &quantize_block(isa, values));
            if !rows.floats.is_empty() {
                let mut floats = [0.0; BLOCK];
                isa.store(values[0], floats.as_mut_ptr());
                isa.store(values[1], floats.as_mut_ptr().add(LANES));
                place.put_floats(rows, from, &floats[..count]);
            }
        }
    }
}

/// A token that only fills the tile.
unsafe fn put_padding(rows: &Rows<'_>, place: &Place) {
    for block in 0..rows.columns.div_ceil(BLOCK) {
        let from = block * BLOCK;
        let count = BLOCK.min(rows.columns - from);
        // SAFETY: the caller's promise.
        unsafe {
            place.put(rows, block, &ZEROS);
            if !rows.floats.is_empty() {
                place.put_floats(rows, from, &[0.0; BLOCK][..count]);
            }
        }
    }
}

/// Up to a block of floats, and zeros after them.
#[inline(always)]
unsafe fn load_block<S: Isa>(isa: S, values: &[f32]) -> [S::Floats; 2] {
    let mut all = [0.0; BLOCK];
    let from = if values.len() == BLOCK {
        values.as_ptr()
    } else {
        all[..values.len()].copy_from_slice(values);
        all.as_ptr()
    };
    // SAFETY: the caller's promise; there are as many floats.
    unsafe { [isa.load(from), isa.load(from.add(LANES))] }
}

#[inline(always)]
unsafe fn quantize_block<S: Isa>(isa: S, [low, high]: [S::Floats; 2]) -> Block {
    // SAFETY: the caller's promise; all stay in arrays.
    unsafe {
        if !(isa.is_finite(low) && isa.is_finite(high)) {
            return Block {
                scale: f32::NAN,
                ..ZEROS
            };
        }
        let magnitude = isa.max_lanes(isa.max(isa.abs(low), isa.abs(high)));
        if magnitude < MAGNITUDE_MIN {
            return ZEROS;
        }
        let inverse = isa.splat(CODE_MAX / magnitude);
        let mut codes = [0; BLOCK];
        let first = isa.store_codes(isa.mul(low, inverse), codes.as_mut_ptr());
        let second = isa.store_codes(isa.mul(high, inverse), codes.as_mut_ptr().add(LANES));
        Block {
            codes,
            scale: magnitude / CODE_MAX,
            sums: [first, second],
        }
    }
}

/// Where a token's blocks go.
struct Place {
    /// Blocks of all tokens before the tile.
    tile_blocks: usize,
    /// Tokens of the tile.
    width: usize,
    /// Which of them this is.
    within: usize,
}

impl Place {
    #[inline(always)]
    fn of(rows: &Rows<'_>, token: usize) -> Self {
        let first = token / rows.tile * rows.tile;
        Self {
            tile_blocks: first * rows.columns.div_ceil(BLOCK),
            width: tile_width(rows.tokens, rows.tile),
            within: token - first,
        }
    }

    /// # Safety
    /// The token must be this task's alone.
    #[inline(always)]
    unsafe fn put(&self, rows: &Rows<'_>, block: usize, quantized: &Block) {
        let at = self.tile_blocks + block * self.width + self.within;
        let first_half = 2 * (self.tile_blocks + block * self.width) + self.within;
        let [low, high] = quantized.sums;
        // SAFETY: the caller's promise; the arrays have room for all blocks of all tokens.
        unsafe {
            let codes = (self.tile_blocks + block * self.width) * BLOCK + 4 * self.within;
            for (group, four) in quantized.codes.chunks_exact(4).enumerate() {
                let out = rows.codes.at(codes + group * self.width * 4);
                out.copy_from_nonoverlapping(four.as_ptr().cast(), 4);
            }
            *rows.scales.at(at) = quantized.scale;
            *rows.offsets.at(at) = -128 * (low + high);
            *rows.scaled_sums.at(at) = quantized.scale * (low + high) as f32;
            for (half, sum) in [low, high].into_iter().enumerate() {
                let at = first_half + half * self.width;
                *rows.half_offsets.at(at) = -128 * sum;
                *rows.scaled_half_sums.at(at) = quantized.scale * sum as f32;
            }
        }
    }

    /// # Safety
    /// As [`Place::put`].
    unsafe fn put_floats(&self, rows: &Rows<'_>, from: usize, values: &[f32]) {
        let first = self.tile_blocks / rows.columns.div_ceil(BLOCK) * rows.columns;
        for (column, &value) in (from..).zip(values) {
            // SAFETY: the caller's promise.
            unsafe { *rows.floats.at(first + column * self.width + self.within) = value };
        }
    }
}
