//! What a decoder does with rows of floats beside products and attention: norms, and the exponential function that softmax
//! and the gate need.
//!
//! Rows whose width is no multiple of the sixteen lanes end in a block that is filled up with zeros.
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

/// `silu(gate) · up` with `silu(x) = x / (1 + e^-x)` (arXiv:2002.05202).
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
pub(crate) unsafe fn silu_mul<S: Isa>(isa: S, gate: S::Floats, up: S::Floats) -> S::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        let inverse = exp(isa, isa.sub(isa.splat(0.0), gate));
        isa.mul(isa.div(gate, isa.add(isa.splat(1.0), inverse)), up)
    }
}

/// `x = e^x`, at most 2 units in the last place from the true value; 0 below -87.33654, at most `2.4e38` above 88.37.
pub fn exp_assign(cpu: Cpu, x: &mut [f32]) {
    for x in x.chunks_mut(LANES) {
        // SAFETY: a chunk is no longer than a vector.
        unsafe { cpu.run(Exp { x }) }
    }
}

/// `x · weight / sqrt(mean(x^2) + epsilon)` for each of the rows `[rows, width]`, as of the heads of queries and keys, on
/// all threads (arXiv:1910.07467). The width is the weight's length.
///
/// # Panics
/// If `x` is not whole rows.
pub fn rms_norm_rows(pool: &mut Pool, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let rows = rows_of(x.len(), width);
    let cpu = pool.cpu();
    let x = Shared::new(x);
    let per_task = rows.div_ceil(pool.threads() * TASKS_PER_THREAD).max(1);
    pool.run(rows.div_ceil(per_task), &|task| {
        for row in task * per_task..rows.min((task + 1) * per_task) {
            // SAFETY: `x` is borrowed until all tasks are done, each row belongs to one task, and it is as long as the
            // weight.
            unsafe {
                let x = x.part(row * width, width);
                cpu.run(RmsNorm { x, weight, epsilon });
            }
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

/// `x` is as long as `weight`.
struct RmsNorm<'a> {
    x: &'a mut [f32],
    weight: &'a [f32],
    epsilon: f32,
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let width = self.weight.len();
        let whole = width / LANES * LANES;
        let rest = width - whole;
        let (x, weight) = (self.x.as_mut_ptr(), self.weight.as_ptr());
        // SAFETY: `whole` blocks and the tail lie within the row, which is `width` long.
        unsafe {
            let scale = isa.splat(inverse_rms(isa, x, width, self.epsilon));
            for at in (0..whole).step_by(LANES) {
                let scaled = isa.mul(isa.load(x.add(at)), scale);
                isa.store(isa.mul(scaled, isa.load(weight.add(at))), x.add(at));
            }
            let mut lanes = padded(x.add(whole), rest);
            let weights = isa.load(padded(weight.add(whole), rest).as_ptr());
            let scaled = isa.mul(isa.load(lanes.as_ptr()), scale);
            isa.store(isa.mul(scaled, weights), lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), x.add(whole), rest);
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

/// No more floats than a vector has.
struct Exp<'a> {
    x: &'a mut [f32],
}

impl Kernel for Exp<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let mut lanes = [0.0; LANES];
        lanes[..self.x.len()].copy_from_slice(self.x);
        // SAFETY: all stay in the array.
        unsafe { isa.store(exp(isa, isa.load(lanes.as_ptr())), lanes.as_mut_ptr()) };
        self.x.copy_from_slice(&lanes[..self.x.len()]);
    }
}
