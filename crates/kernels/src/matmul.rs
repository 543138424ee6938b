//! Products of packed weights with activations.
//!
//! A *panel* is sixteen rows of weights, a *tile* up to eight tokens. The inner step multiplies a block of 32 columns
//! of a panel with those of a tile: integer dot products for each token, then one multiply-add with the scales of both. Few
//! tokens take the codes straight from the packed panel. Many take them from a scratch that holds some blocks of the panel
//! unpacked, and are walked in groups that a cache close to the core keeps.
//!
//! Invariant: for a token the order of all operations is the same in every case, so a result does not depend on the number
//! of tokens, of threads, or on the instruction set.
#![expect(unsafe_code, reason = "vectors from pointers")]

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

mod accumulate;
mod few;
mod float;
mod many;

use crate::activations::Activations;
use crate::format::Format;
use crate::isa::{Cpu, Isa, LANES};
use crate::memory::Shared;
use crate::packed::{PackedMatrix, for_format};
use crate::pool::Pool;

/// Most products of one call.
pub const PRODUCTS_MAX: usize = 4;
/// Most tiles for which memory is what products wait for.
const SHORT_TILES_MAX: usize = 8;
/// Most weights that a task works on where many tokens walk over them: they stay in the core's own cache.
const TASK_BYTES_MAX: usize = 64 << 10;
/// Most weights that a task works on where memory is waited for: long reads are fast, but no thread should wait long for
/// the last task.
const SHORT_TASK_BYTES_MAX: usize = 512 << 10;
/// At least this many tasks a thread, where there are as many panels.
const TASKS_PER_THREAD: usize = 8;
const SHORT_TASKS_PER_THREAD: usize = 3;

/// One matrix that the activations are multiplied with.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[rows, columns]`.
    pub matrix: &'a PackedMatrix,
    /// Added to each token's result: `[rows]`.
    pub bias: Option<&'a [f32]>,
    /// Becomes `[tokens, rows]`.
    pub out: &'a mut [f32],
    /// Whether the result is added to what `out` holds, instead of taking its place.
    pub accumulate: bool,
}

impl<'a> Product<'a> {
    /// A product without a bias, whose result takes the place of what is in `out`.
    #[must_use]
    pub fn new(matrix: &'a PackedMatrix, out: &'a mut [f32]) -> Self {
        Self {
            matrix,
            bias: None,
            out,
            accumulate: false,
        }
    }
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
        let planned = plan(pool, activations, product);
        tasks += planned.tasks();
        *job = Some(planned);
    }
    let cpu = pool.cpu();
    assert_eq!(
        activations.tile_tokens(),
        cpu.widths().tile,
        "activations for this instruction set"
    );
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

fn plan<'a>(pool: &Pool, activations: &'a Activations, product: &'a mut Product<'_>) -> Job<'a> {
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
    let (bytes_max, tasks_each) = match activations.tiles() {
        ..=SHORT_TILES_MAX => (SHORT_TASK_BYTES_MAX, SHORT_TASKS_PER_THREAD),
        _ => (TASK_BYTES_MAX, TASKS_PER_THREAD),
    };
    let by_bytes = (bytes_max / matrix.panel_bytes().max(1)).max(1);
    let by_threads = matrix.panels().div_ceil(pool.threads() * tasks_each).max(1);
    Job {
        matrix,
        activations,
        bias: product.bias,
        accumulate: product.accumulate,
        out: Shared::new(product.out),
        are_few: activations.tokens() <= pool.cpu().widths().few_tokens_max,
        task_panels: by_bytes.min(by_threads),
    }
}

/// One product, cut into tasks of some panels.
#[derive(Clone, Copy)]
struct Job<'a> {
    matrix: &'a PackedMatrix,
    activations: &'a Activations,
    bias: Option<&'a [f32]>,
    accumulate: bool,
    out: Shared<f32>,
    /// Whether codes are used as they come from memory.
    are_few: bool,
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
        unsafe {
            for_format!(self.matrix.format(),
                L => if self.are_few {
                    let width = self.activations.tile(0).width;
                    for_width!(width, T => cpu.run(few::Few::<L, T>::new(self, panels)));
                } else {
                    cpu.run(many::Many::<L>::new(self, panels));
                },
                E => cpu.run(float::Float::<E>::new(self, panels))
            );
        }
    }

    /// Writes the results of some tokens, without those of tokens and rows that are only padding.
    #[inline(always)]
    unsafe fn put<S: Isa, const T: usize, const STREAM: bool>(
        &self,
        isa: S,
        panel: usize,
        first: usize,
        sums: &[S::Floats; T],
    ) {
        let rows = self.matrix.rows();
        let row = panel * LANES;
        let count = LANES.min(rows - row);
        let tokens = T.min(self.activations.tokens() - first);
        let bias = match self.bias {
            Some(bias) => {
                let mut lanes = [0.0; LANES];
                lanes[..count].copy_from_slice(&bias[row..row + count]);
                lanes
            }
            None => [0.0; LANES],
        };
        // SAFETY: these results belong to this panel, and so to this task.
        unsafe {
            let bias = isa.load(bias.as_ptr());
            for (token, &sum) in (first..first + tokens).zip(sums) {
                let mut sum = isa.add(sum, bias);
                let out = self.out.at(token * rows + row);
                if count == LANES {
                    if self.accumulate {
                        isa.store(isa.add(isa.load(out), sum), out);
                    } else if STREAM {
                        isa.stream(sum, out);
                    } else {
                        isa.store(sum, out);
                    }
                } else {
                    let mut all = [0.0; LANES];
                    if self.accumulate {
                        out.copy_to_nonoverlapping(all.as_mut_ptr(), count);
                        sum = isa.add(isa.load(all.as_ptr()), sum);
                    }
                    isa.store(sum, all.as_mut_ptr());
                    out.copy_from_nonoverlapping(all.as_ptr(), count);
                }
            }
        }
    }
}
