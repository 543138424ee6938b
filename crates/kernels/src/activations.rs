//! The other side of a product: activations, quantized to 8 bits in blocks of 32, with their sums.
//!
//! Tokens lie in tiles, as many as one kernel multiplies at a time; a single tile may be narrower. Within a tile of `T` tokens a block is `[8 groups][T tokens][4 columns]`, and what is known of each block `[T]`.
//!
//! A value is `scale · code`, with codes in `-127..=127`. The sums of codes turn a product with shifted weights into the wanted one. A block with a number that is not finite has the scale NaN, so that it is seen in the result.
#![expect(unsafe_code, reason = "vectors from pointers")]

use crate::isa::{Cpu, Isa, Kernel, LANES};
use crate::memory::{AlignedBytes, Shared};
use crate::packed::BLOCK;
use crate::pool::Pool;

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
    scaled_sums: Vec<f32>,
    scaled_half_sums: Vec<f32>,
    floats: Vec<f32>,
}

/// Root-mean-square normalization (arXiv:1910.07467) on the way into the quantization.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// A factor a column.
    pub weight: &'a [f32],
    /// Added to the mean of the squares.
    pub epsilon: f32,
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
        let tile = cpu.tile();
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

    /// Takes `[tokens, columns]`, each token normalized first if a norm is given.
    ///
    /// # Panics
    /// Where there is no room for as many, or the lengths do not fit each other.
    pub fn quantize(
        &mut self,
        pool: &mut Pool,
        values: &[f32],
        columns: usize,
        norm: Option<Norm<'_>>,
    ) {
        assert!(
            columns > 0 && values.len().is_multiple_of(columns),
            "rows of {columns} columns"
        );
        let tokens = values.len() / columns;
        assert!(
            tokens <= self.tokens_max && columns <= self.columns_max,
            "{tokens} x {columns} activations, but room for {} x {}",
            self.tokens_max,
            self.columns_max
        );
        if let Some(norm) = norm {
            assert_eq!(norm.weight.len(), columns, "a norm's length");
        }
        (self.tokens, self.columns) = (tokens, columns);
        let rows = Rows {
            values,
            columns,
            norm,
            tile: self.tile,
            tokens,
            codes: Shared::new(self.codes.as_mut_slice()),
            scales: Shared::new(&mut self.scales),
            offsets: Shared::new(&mut self.offsets),
            scaled_sums: Shared::new(&mut self.scaled_sums),
            scaled_half_sums: Shared::new(&mut self.scaled_half_sums),
            floats: Shared::new(&mut self.floats),
        };
        let cpu = pool.cpu();
        let padded = padded_tokens(tokens, self.tile);
        pool.run(padded, &|token| {
            // SAFETY: each token has its own places in the arrays, which outlive the run.
            unsafe { cpu.run(QuantizeRow { rows: &rows, token }) }
        });
    }

    /// How many tiles there are.
    pub(crate) fn tiles(&self) -> usize {
        self.tokens.div_ceil(self.tile)
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
            scaled_sums: self.scaled_sums[blocks..].as_ptr(),
            scaled_half_sums: self.scaled_half_sums[2 * blocks..].as_ptr(),
            floats: self.floats[floats..].as_ptr(),
        }
    }

    fn blocks(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }
}

/// How wide tiles are: a single one is as wide as the next power of two.
fn tile_width(tokens: usize, tile: usize) -> usize {
    tokens.next_power_of_two().min(tile)
}

fn padded_tokens(tokens: usize, tile: usize) -> usize {
    tokens.next_multiple_of(tile_width(tokens, tile))
}

/// Where the tokens come from and go to.
struct Rows<'a> {
    values: &'a [f32],
    columns: usize,
    norm: Option<Norm<'a>>,
    tile: usize,
    tokens: usize,
    codes: Shared<u8>,
    scales: Shared<f32>,
    offsets: Shared<i32>,
    scaled_sums: Shared<f32>,
    scaled_half_sums: Shared<f32>,
    floats: Shared<f32>,
}

struct QuantizeRow<'a> {
    rows: &'a Rows<'a>,
    token: usize,
}

/// One quantized block of one token.
struct Block {
    codes: [i8; BLOCK],
    scale: f32,
    sums: [i32; 2],
}

impl Kernel for QuantizeRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let Rows {
            columns,
            values,
            norm,
            ..
        } = *self.rows;
        if self.token >= self.rows.tokens {
            return self.put_zeros();
        }
        let row = &values[self.token * columns..][..columns];
        // SAFETY: the caller's promise.
        let factor = norm.map(|norm| unsafe { norm_factor(isa, row, norm.epsilon) });
        for block in 0..columns.div_ceil(BLOCK) {
            let from = block * BLOCK;
            let count = BLOCK.min(columns - from);
            let mut values = [0.0; BLOCK];
            values[..count].copy_from_slice(&row[from..from + count]);
            if let (Some(norm), Some(factor)) = (norm, factor) {
                for (value, weight) in values.iter_mut().zip(&norm.weight[from..from + count]) {
                    *value = *value * factor * weight;
                }
            }
            // SAFETY: the caller's promise.
            self.put(block, &unsafe { quantize_block(isa, &values) });
            self.put_floats(from, &values[..count]);
        }
    }
}

/// One over the root of the mean of the squares.
#[inline(always)]
unsafe fn norm_factor<S: Isa>(isa: S, row: &[f32], epsilon: f32) -> f32 {
    // SAFETY: the caller's promise; loads stay in the row or in the array.
    unsafe {
        let mut squares = isa.splat(0.0);
        let whole = row.chunks_exact(LANES);
        let mut rest = [0.0; LANES];
        rest[..whole.remainder().len()].copy_from_slice(whole.remainder());
        for sixteen in whole {
            let values = isa.load(sixteen.as_ptr());
            squares = isa.mul_add(values, values, squares);
        }
        let values = isa.load(rest.as_ptr());
        squares = isa.mul_add(values, values, squares);
        let mut lanes = [0.0; LANES];
        isa.store(squares, lanes.as_mut_ptr());
        let sum: f32 = lanes.iter().sum();
        1.0 / (sum / row.len() as f32 + epsilon).sqrt()
    }
}

#[inline(always)]
unsafe fn quantize_block<S: Isa>(isa: S, values: &[f32; BLOCK]) -> Block {
    // SAFETY: the caller's promise; all stay in arrays.
    unsafe {
        let halves = [
            isa.load(values.as_ptr()),
            isa.load(values.as_ptr().add(LANES)),
        ];
        let zero = isa.splat(0.0);
        // Zero times anything finite is zero.
        let poison = isa.mul_add(halves[0], zero, isa.mul(halves[1], zero));
        let mut lanes = [[0.0_f32; LANES]; 2];
        isa.store(
            isa.max(isa.abs(halves[0]), isa.abs(halves[1])),
            lanes[0].as_mut_ptr(),
        );
        isa.store(poison, lanes[1].as_mut_ptr());
        let magnitude = lanes[0]
            .iter()
            .fold(0.0, |a: f32, &b| if b > a { b } else { a });
        let poison: f32 = lanes[1].iter().sum();
        let usable = magnitude >= MAGNITUDE_MIN && poison == 0.0;
        let inverse = isa.splat(if usable { CODE_MAX / magnitude } else { 0.0 });
        let mut ints = [0_i32; BLOCK];
        isa.store_rounded(isa.mul(halves[0], inverse), ints.as_mut_ptr());
        isa.store_rounded(isa.mul(halves[1], inverse), ints.as_mut_ptr().add(LANES));
        Block {
            codes: ints.map(|code| code as i8),
            scale: if usable { magnitude / CODE_MAX } else { poison },
            sums: [ints[..LANES].iter().sum(), ints[LANES..].iter().sum()],
        }
    }
}

impl QuantizeRow<'_> {
    fn put_zeros(&self) {
        let zeros = Block {
            codes: [0; BLOCK],
            scale: 0.0,
            sums: [0; 2],
        };
        for block in 0..self.rows.columns.div_ceil(BLOCK) {
            self.put(block, &zeros);
            let from = block * BLOCK;
            let count = BLOCK.min(self.rows.columns - from);
            self.put_floats(from, &[0.0; BLOCK][..count]);
        }
    }

    /// The tile's first token, its width, and the token's place in it.
    #[inline(always)]
    fn place(&self) -> (usize, usize, usize) {
        let first = self.token / self.rows.tile * self.rows.tile;
        let width = tile_width(self.rows.tokens, self.rows.tile);
        (first, width, self.token - first)
    }

    #[inline(always)]
    fn put(&self, block: usize, quantized: &Block) {
        let rows = self.rows;
        let (first, width, within) = self.place();
        let tile_blocks = first * rows.columns.div_ceil(BLOCK);
        let codes = (tile_blocks + block * width) * BLOCK;
        let at = tile_blocks + block * width + within;
        let halves = [0, 1].map(|half| 2 * tile_blocks + (2 * block + half) * width + within);
        let [low, high] = quantized.sums;
        // SAFETY: these places belong to this token alone.
        unsafe {
            for (group, four) in quantized.codes.chunks_exact(4).enumerate() {
                let out = rows.codes.part(codes + (group * width + within) * 4, 4);
                for (out, code) in out.iter_mut().zip(four) {
                    *out = code.cast_unsigned();
                }
            }
            rows.scales.part(at, 1)[0] = quantized.scale;
            rows.offsets.part(at, 1)[0] = -128 * (low + high);
            rows.scaled_sums.part(at, 1)[0] = quantized.scale * (low + high) as f32;
            for (at, sum) in halves.into_iter().zip([low, high]) {
                rows.scaled_half_sums.part(at, 1)[0] = quantized.scale * sum as f32;
            }
        }
    }

    #[inline(always)]
    fn put_floats(&self, from: usize, values: &[f32]) {
        let rows = self.rows;
        if rows.floats.is_empty() {
            return;
        }
        let (first, width, within) = self.place();
        for (column, &value) in (from..).zip(values) {
            let at = first * rows.columns + column * width + within;
            // SAFETY: this place belongs to this token alone.
            unsafe { rows.floats.part(at, 1)[0] = value };
        }
    }
}
