//! Norms, the gate and rotation: equal on every instruction set, and close to the definition in f64.

use postern_kernels::{
    Activations, Cpu, Format, Input, PackedMatrix, Pool, Product, RopeStyle, RopeTable, exp_assign,
    matmul, rms_norm_rows,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WIDTHS: [usize; 9] = [1, 5, 15, 16, 17, 48, 63, 128, 203];

fn floats(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-4.0..4.0)).collect()
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

/// Runs `compute` on all instruction sets and gives the result, which must be the same.
fn on_all(compute: impl Fn(Cpu) -> Vec<f32>) -> Vec<f32> {
    let scalar = compute(Cpu::scalar());
    for cpu in Cpu::all() {
        assert_eq!(bits(&compute(cpu)), bits(&scalar), "{}", cpu.name());
    }
    scalar
}

/// Runs `compute` in pools of all instruction sets with 1 and 3 threads; the result must be the same.
fn in_all_pools(compute: impl Fn(&mut Pool) -> Vec<f32>) -> Vec<f32> {
    let scalar = compute(&mut Pool::new(1, Cpu::scalar()).expect("a thread"));
    for cpu in Cpu::all() {
        for threads in [1, 3] {
            let mut pool = Pool::new(threads, cpu).expect("threads");
            let result = compute(&mut pool);
            assert_eq!(bits(&result), bits(&scalar), "{} x {threads}", cpu.name());
        }
    }
    scalar
}

fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>, tolerance: f64) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        let bound = tolerance * expected.abs().max(1e-3);
        assert!(error <= bound, "column {at}: {found}, not {expected}");
    }
}

#[test]
fn the_exponential_function_is_within_two_units_in_the_last_place() {
    let step = if cfg!(miri) { 1.37 } else { 0.000_37 };
    let mut inputs = Vec::new();
    let mut x = -87.336_f32;
    while x < 88.37 {
        inputs.push(x);
        x += step;
    }
    inputs.extend([
        0.0,
        -0.0,
        1e-30,
        -1e-30,
        f32::MIN_POSITIVE,
        -87.336_53,
        88.376,
    ]);
    let results = on_all(|cpu| {
        let mut results = inputs.clone();
        exp_assign(cpu, &mut results);
        results
    });
    for (x, result) in inputs.iter().zip(&results) {
        let expected = f64::from(*x).exp();
        let rounded = expected as f32;
        let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
        let error = (f64::from(*result) - expected).abs() / unit;
        assert!(error <= 2.0, "e^{x}: {result} is {error} units off");
    }
}

#[test]
fn the_exponential_function_saturates_and_keeps_what_is_no_number() {
    let inputs = [
        f32::NEG_INFINITY,
        f32::MIN,
        -1000.0,
        -87.4,
        0.0,
        89.0,
        f32::INFINITY,
        f32::NAN,
    ];
    for cpu in Cpu::all() {
        let mut results = inputs;
        exp_assign(cpu, &mut results);
        assert_eq!(results[..5], [0.0, 0.0, 0.0, 0.0, 1.0], "{}", cpu.name());
        assert!(results[5] > 2.3e38 && results[5].is_finite());
        assert_eq!(results[5], results[6]);
        assert!(results[7].is_nan());
    }
}

fn check_norm(rows: usize, width: usize, seed: u64) {
    let (x, weight) = (floats(rows * width, seed), floats(width, seed ^ 1));
    let found = in_all_pools(|pool| {
        let mut x = x.clone();
        rms_norm_rows(pool, &mut x, &weight, 1e-6);
        x
    });
    for (found, x) in found.chunks(width).zip(x.chunks(width)) {
        let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
        let root = (squares / width as f64 + 1e-6).sqrt();
        let expected = x.iter().zip(&weight);
        let expected = expected.map(|(x, weight)| f64::from(*x) / root * f64::from(*weight));
        assert_close(found, expected, 2e-6);
    }
}

#[test]
fn a_norm_divides_by_the_root_of_the_mean_square() {
    let rows = WIDTHS.map(|width| (1, width)).into_iter();
    for (rows, width) in rows.chain([(7, 33), (40, 16)]) {
        check_norm(rows, width, 1);
    }
}

/// What activations are before they are quantized: a product with an unquantized matrix of one number, which is 1.
fn unquantized(pool: &mut Pool, input: Input<'_>, tokens: usize) -> Vec<f32> {
    let one = 1.0_f32.to_le_bytes();
    let matrix = PackedMatrix::pack(pool, Format::F32, 1, 1, &one).expect("a small matrix");
    let mut activations = Activations::new(pool.cpu(), tokens, 1, true);
    activations.quantize(pool, input, 1);
    let mut out = vec![0.0; tokens];
    matmul(pool, &activations, &mut [Product::new(&matrix, &mut out)]);
    out
}

fn check_gate(count: usize, seed: u64) {
    let (gate, up) = (floats(count, seed), floats(count, seed ^ 1));
    let gated = Input::Gated {
        gate: &gate,
        up: &up,
    };
    let found = in_all_pools(|pool| unquantized(pool, gated, gate.len()));
    let expected = gate.iter().zip(&up).map(|(gate, up)| {
        let gate = f64::from(*gate);
        gate / (1.0 + (-gate).exp()) * f64::from(*up)
    });
    assert_close(&found, expected, 1e-6);
}

#[test]
fn the_gate_is_as_defined() {
    check_gate(203, 5);
}

#[test]
fn a_gate_far_from_zero_is_closed_or_open() {
    let gate = [-1000.0, -100.0, 100.0, 1000.0];
    let gated = Input::Gated {
        gate: &gate,
        up: &[1.0; 4],
    };
    let found = in_all_pools(|pool| unquantized(pool, gated, gate.len()));
    assert!(
        found[..2].iter().all(|closed| closed.abs() < 1e-30),
        "{found:?}"
    );
    assert_eq!(found[2..], [100.0, 1000.0]);
}

fn check_rotation(heads: usize, head_width: usize, pairs: usize, seed: u64) {
    let frequencies: Vec<f32> = (0..pairs)
        .map(|pair| 10_000_f32.powf(-(pair as f32) / pairs as f32))
        .collect();
    let table = RopeTable::new(&frequencies, 1.25, 500);
    assert_eq!(table.width(), 2 * pairs);
    let positions = [0, 1, 63, 64, 499];
    let x = floats(positions.len() * heads * head_width, seed);
    for style in [RopeStyle::Adjacent, RopeStyle::Halves] {
        let found = in_all_pools(|pool| {
            let mut x = x.clone();
            table.rotate(pool, style, &mut x, heads, head_width, &positions);
            x
        });
        let mut expected: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        for (row, head) in expected.chunks_mut(head_width).enumerate() {
            for (pair, frequency) in frequencies.iter().enumerate() {
                let (a, b) = match style {
                    RopeStyle::Adjacent => (2 * pair, 2 * pair + 1),
                    RopeStyle::Halves => (pair, pair + pairs),
                };
                let angle = positions[row / heads] as f32 * frequency;
                let (sine, cosine) = f64::from(angle).sin_cos();
                let (low, high) = (head[a], head[b]);
                head[a] = 1.25 * (low * cosine - high * sine);
                head[b] = 1.25 * (low * sine + high * cosine);
            }
        }
        for (found, expected) in found.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 3e-6, "{style:?}: {found}, not {expected}");
        }
    }
}

#[test]
fn rotation_turns_pairs_and_leaves_the_rest() {
    let cases = [
        (1, 16, 8),
        (3, 20, 8),
        (2, 64, 32),
        (14, 64, 32),
        (2, 80, 16),
    ];
    for (heads, head_width, pairs) in cases {
        check_rotation(heads, head_width, pairs, 9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 32 }))]

    #[test]
    fn all_of_this_holds_for_any_shape(
        rows in 1_usize..40,
        width in 1_usize..300,
        heads in 1_usize..8,
        pairs in 1_usize..40,
        unturned in 0_usize..20,
        seed in any::<u64>(),
    ) {
        check_norm(rows, width, seed);
        check_gate(width, seed);
        check_rotation(heads, 2 * pairs + unturned, pairs, seed);
    }
}

#[test]
#[should_panic(expected = "beyond the context")]
fn a_position_beyond_the_table_is_refused() {
    let table = RopeTable::new(&[1.0; 8], 1.0, 10);
    let mut pool = Pool::new(1, Cpu::scalar()).expect("a thread");
    table.rotate(&mut pool, RopeStyle::Halves, &mut [0.0; 16], 1, 16, &[10]);
}

#[test]
#[should_panic(expected = "both sides of a gate")]
fn lengths_that_differ_are_refused() {
    let mut pool = Pool::new(1, Cpu::scalar()).expect("a thread");
    let gated = Input::Gated {
        gate: &[0.0; 3],
        up: &[0.0; 4],
    };
    Activations::new(pool.cpu(), 4, 1, false).quantize(&mut pool, gated, 1);
}
