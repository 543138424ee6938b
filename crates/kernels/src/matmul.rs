//! Products of packed weights with activations.
//!
//! A *panel* is sixteen rows of weights, a *tile* up to eight tokens. The inner step multiplies a block of 32 columns
//! of a panel with those of a tile: integer dot products for each token, then one multiply-add with the scales of both. Few tokens
//! take the codes straight from the packed panel. Many take them from a scratch that holds some blocks of the panel
//! unpacked, and the tokens are walked in groups that stay in the core's own cache.
//!
//! Invariant: for a token the order of all operations is the same in every case, so a result does not depend on the number
//! of tokens, of threads, or on the instruction set.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::activations::{Activations, Tile};
use crate::format::Format;
use crate::isa::{Cpu, Isa, Kernel, LANES, each};
use crate::memory::{LINE_BYTES, Shared};
use crate::packed::{
    BLOCK, Bits, Element, Layout, PackedMatrix, Pair, Panel, Quads, Scales, for_format,
};
use crate::pool::Pool;

/// Most products of one call.
pub const PRODUCTS_MAX: usize = 4;
/// Weights that a task works on: enough to be worth a task, few enough to stay in cache while tokens are walked.
const TASK_BYTES: usize = 64 << 10;
/// At least this many tasks a thread, so that none waits long for the last.
const TASKS_PER_THREAD: usize = 8;
/// Blocks that the scratch holds unpacked.
const SCRATCH_BLOCKS: usize = 16;
/// Bytes of an unpacked block.
const UNPACKED_BYTES: usize = BLOCK * LANES;
/// Tokens whose sums are kept while a panel is walked.
const GROUP_TOKENS_MAX: usize = 128;
/// How far before the weights that are multiplied memory is asked for.
const PREFETCH_BYTES: usize = 4 << 10;

/// One matrix that the activations are multiplied with.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[rows, columns]`.
    pub matrix: &'a PackedMatrix,
    /// Added to each token's result: `[rows]`.
    pub bias: Option<&'a [f32]>,
    /// Becomes `[tokens, rows]`.
    pub out: &'a mut [f32],
}

/// Multiplies the activations with one or more matrices in one go.
///
/// # Panics
/// Where lengths do not fit, there are more than [`PRODUCTS_MAX`] products, or an unquantized matrix meets activations that did not
/// keep their floats.
pub fn matmul(pool: &mut Pool, activations: &Activations, products: &mut [Product<'_>]) {
    let count = products.len();
    assert!(count <= PRODUCTS_MAX, "{count} products at a time");
    let mut jobs = [None; PRODUCTS_MAX];
    let mut tasks = 0;
    for (job, product) in jobs.iter_mut().zip(products) {
        let planned = plan(activations, product, pool.threads());
        tasks += planned.tasks();
        *job = Some(planned);
    }
    let cpu = pool.cpu();
    pool.run(tasks, &|task| {
        let mut task = task;
        for job in jobs.iter().flatten() {
            if task < job.tasks() {
                return job.run(cpu, task);
            }
            task -= job.tasks();
        }
    });
}

fn plan<'a>(activations: &'a Activations, product: &'a mut Product<'_>, threads: usize) -> Job<'a> {
    let matrix = product.matrix;
    assert_eq!(
        matrix.columns(),
        activations.columns(),
        "columns of both sides"
    );
    assert_eq!(
        product.out.len(),
        activations.tokens() * matrix.rows(),
        "a result's length"
    );
    if let Some(bias) = product.bias {
        assert_eq!(bias.len(), matrix.rows(), "a bias' length");
    }
    assert!(
        matrix.format().block_elements() > 1 || activations.keeps_floats(),
        "an unquantized matrix needs unquantized activations"
    );
    let by_bytes = (TASK_BYTES / matrix.panel_bytes().max(1)).max(1);
    let by_threads = matrix.panels().div_ceil(threads * TASKS_PER_THREAD).max(1);
    Job {
        matrix,
        activations,
        bias: product.bias,
        out: Shared::new(product.out),
        task_panels: by_bytes.min(by_threads),
    }
}

/// One product, cut into tasks of some panels.
#[derive(Clone, Copy)]
struct Job<'a> {
    matrix: &'a PackedMatrix,
    activations: &'a Activations,
    bias: Option<&'a [f32]>,
    out: Shared<f32>,
    task_panels: usize,
}

impl Job<'_> {
    fn tasks(&self) -> usize {
        self.matrix.panels().div_ceil(self.task_panels)
    }

    fn run(&self, cpu: Cpu, task: usize) {
        let first = task * self.task_panels;
        let panels = first..self.matrix.panels().min(first + self.task_panels);
        // SAFETY: the shapes were checked by `plan`, and each task has its own panels.
        unsafe { cpu.run(Task { job: self, panels }) }
    }
}

struct Task<'a> {
    job: &'a Job<'a>,
    panels: Range<usize>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        // SAFETY: the caller's promise.
        unsafe {
            for_format!(self.job.matrix.format(),
                L => self.quantized::<S, L>(isa),
                E => self.float::<S, E>(isa)
            );
        }
    }
}

/// Calls `$body` with `$width` as the constant that equals `$tokens`.
macro_rules! for_width {
    ($tokens:expr, $width:ident => $body:expr) => {
        match $tokens {
            1 => {
                const $width: usize = 1;
                $body
            }
            2 => {
                const $width: usize = 2;
                $body
            }
            4 => {
                const $width: usize = 4;
                $body
            }
            _ => {
                const $width: usize = 8;
                $body
            }
        }
    };
}

impl Task<'_> {
    #[inline(always)]
    unsafe fn quantized<S: Isa, L: Layout>(self, isa: S) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.job.activations.tiles() == 1 {
                let tile = self.job.activations.tile(0);
                for_width!(tile.width, T => self.few::<S, L, T>(isa, tile));
            } else {
                self.many::<S, L>(isa);
            }
        }
    }

    /// One tile: the codes are used as they come from memory.
    #[inline(always)]
    unsafe fn few<S: Isa, L: Layout, const T: usize>(self, isa: S, tile: Tile) {
        let blocks = self.job.matrix.columns() / BLOCK;
        // SAFETY: the caller's promise.
        unsafe {
            for panel in self.panels.clone() {
                let mut sums = [isa.splat(0.0); T];
                let weights = Panel::<L>::new(self.job.matrix, panel);
                accumulate::<S, L, _, T>(isa, weights, 0..blocks, 0, tile, &mut sums);
                self.put(isa, panel, tile.first, &sums);
            }
        }
    }

    /// Many tiles: each panel is unpacked, some blocks at a time, and multiplied with all tiles of a group.
    #[inline(always)]
    unsafe fn many<S: Isa, L: Layout>(self, isa: S) {
        let activations = self.job.activations;
        let columns = self.job.matrix.columns();
        let tile_tokens = activations.tile_tokens();
        let group_tokens = (S::ACTIVATION_BYTES_MAX / columns).clamp(tile_tokens, GROUP_TOKENS_MAX);
        let group = group_tokens / tile_tokens;
        for first in (0..activations.tiles()).step_by(group) {
            let tiles = first..activations.tiles().min(first + group);
            for panel in self.panels.clone() {
                // SAFETY: the caller's promise.
                unsafe { self.panel_of_many::<S, L>(isa, panel, tiles.clone()) };
            }
        }
    }

    #[inline(always)]
    unsafe fn panel_of_many<S: Isa, L: Layout>(&self, isa: S, panel: usize, tiles: Range<usize>) {
        let activations = self.job.activations;
        let blocks = self.job.matrix.columns() / BLOCK;
        let packed = Panel::<L>::new(self.job.matrix, panel);
        let mut memory = MaybeUninit::<ScratchMemory>::uninit();
        let mut sums = [[0.0_f32; LANES]; GROUP_TOKENS_MAX];
        let first_token = tiles.start * activations.tile_tokens();
        // SAFETY: the scratch is filled before it is read; sums are those of the group's tokens.
        unsafe {
            for from in (0..blocks).step_by(SCRATCH_BLOCKS) {
                let part = from..blocks.min(from + SCRATCH_BLOCKS);
                let scratch = Scratch::<L>::fill(isa, &mut memory, packed, part.clone());
                for tile in tiles.clone() {
                    let tile = activations.tile(tile);
                    let at = tile.first - first_token;
                    for_width!(tile.width, T => {
                        let rows: &mut [[f32; LANES]; T] =
                            (&mut sums[at..at + T]).try_into().unwrap_unchecked();
                        let mut held = [isa.splat(0.0); T];
                        for (held, row) in held.iter_mut().zip(&*rows) {
                            *held = isa.load(row.as_ptr());
                        }
                        accumulate::<S, L, _, T>(
                            isa, scratch, 0..part.len(), from, tile, &mut held,
                        );
                        for (row, &held) in rows.iter_mut().zip(&held) {
                            isa.store(held, row.as_mut_ptr());
                        }
                    });
                }
            }
            let end = activations
                .tokens()
                .min(tiles.end * activations.tile_tokens());
            for (token, row) in (first_token..end).zip(&sums) {
                self.put(isa, panel, token, &[isa.load(row.as_ptr())]);
            }
        }
    }

    #[inline(always)]
    unsafe fn float<S: Isa, E: Element>(self, isa: S) {
        let activations = self.job.activations;
        for tile in 0..activations.tiles() {
            let tile = activations.tile(tile);
            // SAFETY: the caller's promise.
            unsafe {
                for_width!(tile.width, T => {
                    for panel in self.panels.clone() {
                        let sums = self.float_sums::<S, E, T>(isa, panel, tile);
                        self.put(isa, panel, tile.first, &sums);
                    }
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn float_sums<S: Isa, E: Element, const T: usize>(
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

    /// Writes the results of some tokens, without those of tokens and rows that are only padding.
    #[inline(always)]
    unsafe fn put<S: Isa, const T: usize>(
        &self,
        isa: S,
        panel: usize,
        first: usize,
        sums: &[S::Floats; T],
    ) {
        let rows = self.job.matrix.rows();
        let row = panel * LANES;
        let count = LANES.min(rows - row);
        let tokens = T.min(self.job.activations.tokens() - first);
        for (token, &sum) in (first..first + tokens).zip(sums) {
            // SAFETY: these results belong to this panel, and so to this task.
            unsafe {
                let out = self.job.out.part(token * rows + row, count);
                if count == LANES {
                    let sum = match self.job.bias {
                        Some(bias) => isa.add(sum, isa.load(bias[row..row + LANES].as_ptr())),
                        None => sum,
                    };
                    isa.store(sum, out.as_mut_ptr());
                } else {
                    let mut all = [0.0; LANES];
                    isa.store(sum, all.as_mut_ptr());
                    for (lane, out) in out.iter_mut().enumerate() {
                        *out = all[lane] + self.job.bias.map_or(0.0, |bias| bias[row + lane]);
                    }
                }
            }
        }
    }
}

/// Where the codes and scales of a panel's blocks come from.
trait Blocks<S: Isa>: Copy {
    /// Codes as [`Isa::dot`] takes them.
    ///
    /// # Safety
    /// The block must be there, and the instruction set.
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S>;

    /// Scales and minima.
    ///
    /// # Safety
    /// As above.
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>);
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
        unsafe { biased::<S, L>(isa, L::Scales::load(isa, Panel::scales(self, block), block)) }
    }
}

#[repr(align(64))]
struct ScratchMemory {
    codes: [u8; SCRATCH_BLOCKS * UNPACKED_BYTES],
    factors: [f32; SCRATCH_BLOCKS * 4 * LANES],
}

/// Unpacked blocks: `[blocks][8 groups][64]` codes, `[blocks][2 scales, 2 minima][16]` floats.
struct Scratch<L> {
    codes: *const u8,
    factors: *const f32,
    layout: PhantomData<L>,
}

impl<L> Clone for Scratch<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Scratch<L> {}

impl<L: Layout> Scratch<L> {
    #[inline(always)]
    unsafe fn fill<S: Isa>(
        isa: S,
        memory: &mut MaybeUninit<ScratchMemory>,
        from: Panel<L>,
        blocks: Range<usize>,
    ) -> Self {
        let memory = memory.as_mut_ptr();
        // SAFETY: there are at most `SCRATCH_BLOCKS` blocks, which the memory has room for.
        unsafe {
            let codes = (&raw mut (*memory).codes).cast::<u8>();
            let factors = (&raw mut (*memory).factors).cast::<f32>();
            for (slot, block) in blocks.enumerate() {
                let quads = Blocks::<S>::codes(from, isa, block);
                for (group, &bytes) in quads.iter().flatten().enumerate() {
                    isa.store_bytes(bytes, codes.add(slot * UNPACKED_BYTES + group * LINE_BYTES));
                }
                let (scales, mins) = Blocks::<S>::scales(from, isa, block);
                for (factor, &floats) in scales.iter().chain(&mins).enumerate() {
                    isa.store(floats, factors.add((4 * slot + factor) * LANES));
                }
            }
            Self {
                codes,
                factors,
                layout: PhantomData,
            }
        }
    }
}

impl<S: Isa, L: Layout> Blocks<S> for Scratch<L> {
    #[inline(always)]
    unsafe fn codes(self, isa: S, block: usize) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.codes.add(block * UNPACKED_BYTES);
            each!(2, half => each!(4, g => isa.load_bytes(from.add((4 * half + g) * LINE_BYTES))))
        }
    }

    #[inline(always)]
    unsafe fn scales(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.factors.add(4 * block * LANES);
            (
                each!(2, half => isa.load(from.add(half * LANES))),
                each!(2, half => isa.load(from.add((2 + half) * LANES))),
            )
        }
    }
}

/// Adds the products of some blocks: those of `weights` are counted from 0, those of the tile from `from`.
#[inline(always)]
unsafe fn accumulate<S: Isa, L: Layout, B: Blocks<S>, const T: usize>(
    isa: S,
    weights: B,
    blocks: Range<usize>,
    from: usize,
    tile: Tile,
    sums: &mut [S::Floats; T],
) {
    for block in blocks {
        let at = (from + block) * T;
        // SAFETY: the caller's promise.
        unsafe {
            let codes = weights.codes(isa, block);
            let (scales, mins) = weights.scales(isa, block);
            let activations: [_; 2] = each!(2, half => tile.codes.add(at * BLOCK + half * 16 * T));
            if L::Scales::HALVED {
                let mut first = [isa.splat_ints(0); T];
                let mut second = [isa.splat_ints(0); T];
                dot::<S, L, T>(isa, &mut first, &codes[0], activations[0]);
                dot::<S, L, T>(isa, &mut second, &codes[1], activations[1]);
                for token in 0..T {
                    let whole = isa.mul(isa.to_floats(first[token]), scales[0]);
                    let whole = isa.mul_add(isa.to_floats(second[token]), scales[1], whole);
                    let scale = isa.splat(*tile.scales.add(at + token));
                    sums[token] = isa.mul_add(whole, scale, sums[token]);
                    if has_mins::<L>() {
                        for (half, &min) in mins.iter().enumerate() {
                            let sum = tile.scaled_half_sums.add(2 * at + half * T + token);
                            sums[token] = isa.neg_mul_add(min, isa.splat(*sum), sums[token]);
                        }
                    }
                }
            } else {
                let mut ints = [isa.splat_ints(0); T];
                if L::WIDE && S::WIDE_BIAS.is_some() {
                    for (token, ints) in ints.iter_mut().enumerate() {
                        *ints = isa.splat_ints(*tile.offsets.add(at + token));
                    }
                }
                dot::<S, L, T>(isa, &mut ints, &codes[0], activations[0]);
                dot::<S, L, T>(isa, &mut ints, &codes[1], activations[1]);
                for token in 0..T {
                    let scale = isa.splat(*tile.scales.add(at + token));
                    let scale = isa.mul(scales[0], scale);
                    sums[token] = isa.mul_add(isa.to_floats(ints[token]), scale, sums[token]);
                    if has_mins::<L>() {
                        let sum = isa.splat(*tile.scaled_sums.add(at + token));
                        sums[token] = isa.neg_mul_add(mins[0], sum, sums[token]);
                    }
                }
            }
        }
    }
}

/// Whether something is subtracted: minima of the format, or the bias of its codes.
const fn has_mins<L: Layout>() -> bool {
    L::Scales::MINS || L::BIAS.is_some()
}

/// Scales and minima, with the bias of the codes as the minimum where a format has one.
#[inline(always)]
unsafe fn biased<S: Isa, L: Layout>(
    isa: S,
    (scales, mins): (Pair<S>, Pair<S>),
) -> (Pair<S>, Pair<S>) {
    match L::BIAS {
        // SAFETY: the caller's promise.
        Some(bias) => unsafe {
            let bias = isa.splat(f32::from(bias));
            (scales, each!(2, half => isa.mul(scales[half], bias)))
        },
        None => (scales, mins),
    }
}

#[inline(always)]
unsafe fn dot<S: Isa, L: Layout, const T: usize>(
    isa: S,
    sums: &mut [S::Ints; T],
    codes: &[S::Bytes; 4],
    activations: *const i8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if L::WIDE {
            isa.dot::<T, true>(sums, codes, activations);
        } else {
            isa.dot::<T, false>(sums, codes, activations);
        }
    }
}
