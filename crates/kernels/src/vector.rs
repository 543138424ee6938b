//! What a decoder does with rows of floats beside products and attention: norms, sums, the gate of its feed-forward part.
//!
//! The exponential function that softmax and the gate need is here, too. Rows whose width is no multiple of the sixteen
//! lanes end in a block that is filled up with zeros.
//!
//! Invariant: a row's result depends on that row alone, and has the same bits on every instruction set.
//!
//! What is absent: anything quantized; rotation, which is [`crate::rope`]'s.
#![expect(unsafe_code, reason = "runs on SIMD lanes")]

use crate::isa::{Cpu, Isa, Kernel, LANES};
use crate::memory::Shared;
use crate::pool::Pool;

/// Tasks that a job over many rows is cut into, for each thread: enough that a thread which comes late delays little.
const TASKS_PER_THREAD: usize = 4;
/// Fewest floats that are worth a task: fewer are done sooner than another thread comes.
const TASK_FLOATS_MIN: usize = 2048;

/// Below this, `e^x` is no normal number: 0 is given instead. Just above `-126 · ln 2`.
const EXP_LOW: f32 = -87.336_54;
/// Above this, `e^x` is given as if it were this, about `2.4e38`: the last `x` that rounds to `127 · ln 2`.
const EXP_HIGH: f32 = 88.376_26;
/// `ln 2` as a sum of a number with few bits, whose products with small whole numbers are exact, and the rest.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// `(e^r - 1 - r) / r^2` for `|r| <= ln 2 / 2`, lowest power first: fitted for the least relative error of `e^r`, which
/// is `3.1e-9` before rounding.
const EXP_COEFFICIENTS: [f32; 5] = [
    4.999_999_3e-1,
    1.666_652e-1,
    4.166_839e-2,
    8.368_745e-3,
    1.381_453_9e-3,
];

/// `e^x`, at most 2 units in the last place from the true value; 0 below -87.33654, at most `2.4e38` above; not a
/// number stays so; exactly 1 at 0.
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
pub(crate) unsafe fn exp<S: Isa>(isa: S, x: S::Floats) -> S::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = isa.splat(0.0);
        let negated = isa.max(isa.splat(-EXP_HIGH), isa.sub(zero, x));
        exp_of_low(isa, isa.sub(zero, negated))
    }
}

/// [`exp`] for `x` up to 88.37, which softmax knows of its own.
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
pub(crate) unsafe fn exp_of_low<S: Isa>(isa: S, x: S::Floats) -> S::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        let bounded = isa.max(isa.splat(EXP_LOW), x);
        let whole = isa.round(isa.mul(bounded, isa.splat(std::f32::consts::LOG2_E)));
        let rest = isa.neg_mul_add(whole, isa.splat(LN2_HIGH), bounded);
        let rest = isa.neg_mul_add(whole, isa.splat(LN2_LOW), rest);
        let mut power = isa.splat(EXP_COEFFICIENTS[4]);
        for coefficient in EXP_COEFFICIENTS[..4].iter().rev() {
            power = isa.mul_add(power, rest, isa.splat(*coefficient));
        }
        let one = isa.splat(1.0);
        power = isa.mul_add(power, rest, one);
        power = isa.mul_add(power, rest, one);
        isa.zero_below(isa.mul(power, isa.exp2_whole(whole)), x, EXP_LOW)
    }
}

/// The sum of the lanes: each with the one 8 further, then 4, 2 and 1.
pub(crate) fn sum_lanes(lanes: &[f32; LANES]) -> f32 {
    let mut sums = *lanes;
    for distance in [8, 4, 2, 1] {
        for lane in 0..distance {
            sums[lane] += sums[lane + distance];
        }
    }
    sums[0]
}

/// `x = e^x`, at most 2 units in the last place from the true value; 0 below -87.33654, at most `2.4e38` above 88.37.
pub fn exp_assign(cpu: Cpu, x: &mut [f32]) {
    assign::<Exp>(cpu, x, None);
}

/// `x += y`.
///
/// # Panics
/// If the lengths differ.
pub fn add_assign(cpu: Cpu, x: &mut [f32], y: &[f32]) {
    assign::<Add>(cpu, x, Some(y));
}

/// `gate = silu(gate) · up` with `silu(x) = x / (1 + e^-x)` (arXiv:2002.05202).
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(cpu: Cpu, gate: &mut [f32], up: &[f32]) {
    assign::<SiluMul>(cpu, gate, Some(up));
}

/// [`add_assign`] on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn add_assign_rows(pool: &mut Pool, x: &mut [f32], y: &[f32]) {
    assign_rows::<Add>(pool, x, y);
}

/// [`silu_mul`] on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul_rows(pool: &mut Pool, gate: &mut [f32], up: &[f32]) {
    assign_rows::<SiluMul>(pool, gate, up);
}

/// `out = x · weight / sqrt(mean(x^2) + epsilon)` for one row (arXiv:1910.07467).
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(cpu: Cpu, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), weight.len(), "a norm has a weight for each column");
    assert_eq!(x.len(), out.len(), "a norm writes as many as it reads");
    let norm = RmsNorm {
        x: x.as_ptr(),
        weight,
        epsilon,
        out: out.as_mut_ptr(),
    };
    // SAFETY: the lengths were checked.
    unsafe { cpu.run(norm) }
}

/// [`rms_norm`] of each of the rows `[n_tokens, width]`, on all threads; the width is the weight's length.
///
/// # Panics
/// If the lengths differ or are not whole rows.
pub fn rms_norm_rows(pool: &mut Pool, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "a norm writes as many as it reads");
    let width = weight.len();
    let rows = rows_of(x.len(), width);
    let cpu = pool.cpu();
    let out = Shared::new(out);
    let per_task = per_task(rows, pool.threads());
    pool.run(rows.div_ceil(per_task), &|task| {
        for row in task * per_task..rows.min((task + 1) * per_task) {
            // SAFETY: `out` is borrowed until all tasks are done, and each row belongs to one task.
            let out = unsafe { out.part(row * width, width) };
            rms_norm(cpu, &x[row * width..][..width], weight, epsilon, out);
        }
    });
}

/// [`rms_norm_rows`] in place, as of the heads of queries and keys: `[n_tokens * heads, head_width]`.
///
/// # Panics
/// If `x` is not whole rows.
pub fn rms_norm_rows_in_place(pool: &mut Pool, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let rows = rows_of(x.len(), width);
    let cpu = pool.cpu();
    let x = Shared::new(x);
    let per_task = per_task(rows, pool.threads());
    pool.run(rows.div_ceil(per_task), &|task| {
        for row in task * per_task..rows.min((task + 1) * per_task) {
            // SAFETY: `x` is borrowed until all tasks are done, and each row belongs to one task.
            let out = unsafe { x.part(row * width, width) }.as_mut_ptr();
            let norm = RmsNorm {
                x: out,
                weight,
                epsilon,
                out,
            };
            // SAFETY: the row is as long as the weight.
            unsafe { cpu.run(norm) };
        }
    });
}

fn rows_of(length: usize, width: usize) -> usize {
    assert!(
        width > 0 && length.is_multiple_of(width),
        "{length} floats are no whole rows of {width}"
    );
    length / width
}

fn per_task(rows: usize, threads: usize) -> usize {
    rows.div_ceil(threads * TASKS_PER_THREAD).max(1)
}

/// `1 / sqrt(mean(x^2) + epsilon)` of `width` floats.
///
/// # Safety
/// `x` must be valid for as many, and the instruction set must be there.
#[inline(always)]
pub(crate) unsafe fn inverse_rms<S: Isa>(isa: S, x: *const f32, width: usize, epsilon: f32) -> f32 {
    let whole = width / LANES * LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut squares = isa.splat(0.0);
        for at in (0..whole).step_by(LANES) {
            let x = isa.load(x.add(at));
            squares = isa.mul_add(x, x, squares);
        }
        let tail = isa.load(padded(x.add(whole), width - whole).as_ptr());
        squares = isa.mul_add(tail, tail, squares);
        let mut lanes = [0.0; LANES];
        isa.store(squares, lanes.as_mut_ptr());
        1.0 / (sum_lanes(&lanes) / width as f32 + epsilon).sqrt()
    }
}

/// `out` may be `x`; both are as long as `weight`.
struct RmsNorm<'a> {
    x: *const f32,
    weight: &'a [f32],
    epsilon: f32,
    out: *mut f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let width = self.weight.len();
        let whole = width / LANES * LANES;
        let weight = self.weight.as_ptr();
        // SAFETY: `whole` blocks and the tail lie within the rows, which are `width` long.
        unsafe {
            let scale = isa.splat(inverse_rms(isa, self.x, width, self.epsilon));
            let rest = width - whole;
            let tail = isa.load(padded(self.x.add(whole), rest).as_ptr());
            for at in (0..whole).step_by(LANES) {
                let scaled = isa.mul(isa.load(self.x.add(at)), scale);
                let weighted = isa.mul(scaled, isa.load(weight.add(at)));
                isa.store(weighted, self.out.add(at));
            }
            let weights = isa.load(padded(weight.add(whole), rest).as_ptr());
            let mut lanes = [0.0; LANES];
            isa.store(isa.mul(isa.mul(tail, scale), weights), lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), self.out.add(whole), rest);
        }
    }
}

/// `count` floats, and zeros up to a vector.
///
/// # Safety
/// `from` must be valid for `count` floats, fewer than a vector.
#[inline(always)]
unsafe fn padded(from: *const f32, count: usize) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
    lanes
}

/// `x = f(x, y)`, lane by lane.
trait Lanewise {
    /// # Safety
    /// The instruction set must be there.
    unsafe fn apply<S: Isa>(isa: S, x: S::Floats, y: S::Floats) -> S::Floats;
}

struct Add;
struct SiluMul;
struct Exp;

impl Lanewise for Add {
    #[inline(always)]
    unsafe fn apply<S: Isa>(isa: S, x: S::Floats, y: S::Floats) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { isa.add(x, y) }
    }
}

impl Lanewise for SiluMul {
    #[inline(always)]
    unsafe fn apply<S: Isa>(isa: S, x: S::Floats, y: S::Floats) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe {
            let inverse = exp(isa, isa.sub(isa.splat(0.0), x));
            isa.mul(isa.div(x, isa.add(isa.splat(1.0), inverse)), y)
        }
    }
}

impl Lanewise for Exp {
    #[inline(always)]
    unsafe fn apply<S: Isa>(isa: S, x: S::Floats, _: S::Floats) -> S::Floats {
        // SAFETY: the caller's promise.
        unsafe { exp(isa, x) }
    }
}

/// `y` is as long as `x`, or absent where the function has no use for it.
struct Assign<'a, F> {
    x: &'a mut [f32],
    y: Option<&'a [f32]>,
    function: std::marker::PhantomData<F>,
}

impl<F: Lanewise> Kernel for Assign<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let whole = self.x.len() / LANES * LANES;
        let rest = self.x.len() - whole;
        let x = self.x.as_mut_ptr();
        let y = self.y.map_or(x.cast_const(), <[f32]>::as_ptr);
        // SAFETY: `whole` blocks and the tail lie within both slices.
        unsafe {
            for at in (0..whole).step_by(LANES) {
                let result = F::apply(isa, isa.load(x.add(at)), isa.load(y.add(at)));
                isa.store(result, x.add(at));
            }
            if rest > 0 {
                let mut lanes = padded(x.add(whole), rest);
                let tail = isa.load(padded(y.add(whole), rest).as_ptr());
                let result = F::apply(isa, isa.load(lanes.as_ptr()), tail);
                isa.store(result, lanes.as_mut_ptr());
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), x.add(whole), rest);
            }
        }
    }
}

fn assign<F: Lanewise>(cpu: Cpu, x: &mut [f32], y: Option<&[f32]>) {
    if let Some(y) = y {
        assert_eq!(x.len(), y.len(), "both sides have as many columns");
    }
    let function = std::marker::PhantomData::<F>;
    // SAFETY: the lengths were checked.
    unsafe { cpu.run(Assign { x, y, function }) }
}

/// Blocks of lanes are independent, so rows need not be known: the floats are cut wherever a block ends.
fn assign_rows<F: Lanewise>(pool: &mut Pool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both sides have as many columns");
    let cpu = pool.cpu();
    let length = x.len();
    let per_task = per_task(length.div_ceil(LANES), pool.threads()) * LANES;
    let per_task = per_task.max(TASK_FLOATS_MIN);
    let x = Shared::new(x);
    pool.run(length.div_ceil(per_task), &|task| {
        let from = task * per_task;
        let count = per_task.min(length - from);
        // SAFETY: `x` is borrowed until all tasks are done, which write different parts.
        let x = unsafe { x.part(from, count) };
        assign::<F>(cpu, x, Some(&y[from..][..count]));
    });
}
