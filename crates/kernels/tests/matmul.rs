//! Packing loses nothing, and products are right: against the formats' specification, on every instruction set, for
//! every number of tokens and threads.

use half::f16;
use postern_kernels::{
    Activations, Cpu, Format, Input, PackError, PackedMatrix, Pool, Product, dequantize, matmul,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where the half-precision numbers of a block are.
fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::F32 => &[],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        _ => &[0],
    }
}

/// Stored rows of random codes with sane scales.
fn stored(format: Format, rows: usize, columns: usize, seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let bytes = format.row_bytes(columns).expect("whole blocks") * rows;
    let mut stored = vec![0; bytes];
    random.fill(&mut stored[..]);
    for block in stored.chunks_exact_mut(format.block_bytes()) {
        match format {
            Format::F32 => {
                block.copy_from_slice(&random.random_range(-1.0_f32..1.0).to_le_bytes());
            }
            Format::BF16 => {
                let value = half::bf16::from_f32(random.random_range(-1.0..1.0));
                block.copy_from_slice(&value.to_le_bytes());
            }
            _ => {
                for &at in halves(format) {
                    let value = f16::from_f32(random.random_range(-0.1..0.1));
                    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
    stored
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-2.0..2.0)).collect()
}

fn pool(threads: usize, cpu: Cpu) -> Pool {
    Pool::new(threads, cpu).expect("threads")
}

fn columns_of(format: Format, blocks: usize) -> usize {
    if format.block_elements() == 256 {
        256 * blocks.div_ceil(4)
    } else {
        32 * blocks
    }
}

fn product(
    pool: &mut Pool,
    matrix: &PackedMatrix,
    bias: Option<&[f32]>,
    values: &[f32],
) -> Vec<f32> {
    let tokens = values.len() / matrix.columns();
    let mut activations = Activations::new(pool.cpu(), tokens, matrix.columns(), true);
    activations.quantize(pool, Input::Plain(values), matrix.columns());
    let mut out = vec![f32::NAN; tokens * matrix.rows()];
    matmul(
        pool,
        &activations,
        &mut [Product {
            bias,
            ..Product::new(matrix, &mut out)
        }],
    );
    out
}

#[test]
fn a_row_of_a_packed_matrix_is_what_was_stored() {
    for format in Format::ALL {
        for (rows, blocks) in [(1, 1), (16, 4), (17, 3), (40, 9)] {
            let columns = columns_of(format, blocks);
            let stored = stored(format, rows, columns, 7);
            let mut expected = vec![0.0; rows * columns];
            dequantize(format, &stored, &mut expected);
            for cpu in Cpu::all() {
                let matrix = PackedMatrix::pack(&mut pool(2, cpu), format, rows, columns, &stored)
                    .expect("whole blocks");
                for row in 0..rows {
                    let mut found = vec![f32::NAN; columns];
                    matrix.row(cpu, row, &mut found);
                    let expected = &expected[row * columns..][..columns];
                    assert_eq!(found, expected, "{format:?} row {row} on {}", cpu.name());
                }
            }
        }
    }
}

/// A product in double precision, of the activations as they are after quantization to 8 bits.
fn specified(
    format: Format,
    stored: &[u8],
    rows: usize,
    columns: usize,
    activations: &[f32],
) -> Vec<(f64, f64)> {
    let mut weights = vec![0.0; rows * columns];
    dequantize(format, stored, &mut weights);
    let quantized: Vec<f64> = activations
        .chunks_exact(columns)
        .flat_map(|row| row.chunks(32))
        .flat_map(|block| {
            let magnitude = block.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let exact = format.block_elements() == 1;
            block.iter().map(move |&value| {
                if exact {
                    return f64::from(value);
                }
                let code = (value * (127.0 / magnitude)).round_ties_even();
                f64::from(magnitude / 127.0) * f64::from(code)
            })
        })
        .collect();
    quantized
        .chunks_exact(columns)
        .flat_map(|row| {
            weights.chunks_exact(columns).map(|weights| {
                let terms = row.iter().zip(weights).map(|(a, &b)| a * f64::from(b));
                let magnitude = terms.clone().map(f64::abs).sum();
                (terms.sum(), magnitude)
            })
        })
        .collect()
}

#[test]
fn products_are_those_of_the_specification_on_every_instruction_set() {
    for format in Format::ALL {
        for (rows, blocks, tokens) in [(1, 1, 1), (16, 8, 2), (33, 5, 3), (48, 40, 7), (20, 36, 29)]
        {
            let columns = columns_of(format, blocks);
            let stored = stored(format, rows, columns, 11);
            let values = values(tokens * columns, 13);
            let expected = specified(format, &stored, rows, columns, &values);
            let mut scalar = None;
            for cpu in Cpu::all() {
                let mut pool = pool(2, cpu);
                let matrix = PackedMatrix::pack(&mut pool, format, rows, columns, &stored)
                    .expect("whole blocks");
                let found = product(&mut pool, &matrix, None, &values);
                for (index, (&found, &(expected, magnitude))) in
                    found.iter().zip(&expected).enumerate()
                {
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error <= 1e-5 * magnitude + 1e-6,
                        "{format:?} {rows}x{columns}, {tokens} tokens, on {}: \
                         result {index} is {found}, not {expected}",
                        cpu.name()
                    );
                }
                let scalar = scalar.get_or_insert_with(|| found.clone());
                assert_eq!(&found, scalar, "{format:?} on {} is not scalar", cpu.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

    #[test]
    fn a_token_does_not_depend_on_the_others_or_on_threads(
        format in prop::sample::select(&Format::ALL[..]),
        rows in 1_usize..70,
        blocks in 1_usize..40,
        tokens in 1_usize..150,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let columns = columns_of(format, blocks);
        let stored = stored(format, rows, columns, seed);
        let values = values(tokens * columns, seed ^ 1);
        let bias = self::values(rows, seed ^ 2);
        let cpu = Cpu::detect();
        let mut pool = pool(threads, cpu);
        let matrix = PackedMatrix::pack(&mut pool, format, rows, columns, &stored).expect("whole blocks");
        let together = product(&mut pool, &matrix, Some(&bias), &values);
        let mut single = self::pool(1, cpu);
        for token in [0, tokens / 2, tokens - 1] {
            let alone = product(&mut single, &matrix, Some(&bias), &values[token * columns..][..columns]);
            prop_assert_eq!(&together[token * rows..][..rows], &alone[..]);
        }
    }
}

#[test]
fn several_products_at_a_time_are_the_same_as_one_after_another() {
    let (columns, tokens) = (256, 5);
    let mut pool = pool(3, Cpu::detect());
    let matrices =
        [(Format::Q4_K, 48), (Format::Q6_K, 17), (Format::Q8_0, 1)].map(|(format, rows)| {
            let stored = stored(format, rows, columns, 3);
            PackedMatrix::pack(&mut pool, format, rows, columns, &stored).expect("whole blocks")
        });
    let values = values(tokens * columns, 5);
    let mut activations = Activations::new(pool.cpu(), 8, 512, false);
    activations.quantize(&mut pool, Input::Plain(&values), columns);
    let mut outs = matrices
        .each_ref()
        .map(|matrix| vec![0.0; tokens * matrix.rows()]);
    let [a, b, c] = &mut outs;
    matmul(
        &mut pool,
        &activations,
        &mut [
            Product::new(&matrices[0], a),
            Product::new(&matrices[1], b),
            Product::new(&matrices[2], c),
        ],
    );
    for (matrix, out) in matrices.iter().zip(&outs) {
        assert_eq!(out, &product(&mut pool, matrix, None, &values));
    }
}

#[test]
fn a_norm_on_the_way_is_the_norm_and_then_the_product() {
    let (columns, rows) = (96, 32);
    let mut pool = pool(1, Cpu::detect());
    let stored = stored(Format::Q8_0, rows, columns, 1);
    let matrix =
        PackedMatrix::pack(&mut pool, Format::Q8_0, rows, columns, &stored).expect("whole blocks");
    let raw = values(columns, 2);
    let weight = values(columns, 3);
    let mean = raw.iter().map(|x| x * x).sum::<f32>() / columns as f32;
    let normed: Vec<f32> = raw
        .iter()
        .zip(&weight)
        .map(|(x, w)| x / (mean + 1e-6).sqrt() * w)
        .collect();
    let expected = product(&mut pool, &matrix, None, &normed);
    let mut activations = Activations::new(pool.cpu(), 1, columns, false);
    let normed = Input::Normed {
        values: &raw,
        weight: &weight,
        epsilon: 1e-6,
    };
    activations.quantize(&mut pool, normed, columns);
    let mut found = vec![0.0; rows];
    matmul(
        &mut pool,
        &activations,
        &mut [Product::new(&matrix, &mut found)],
    );
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 0.02, "{found} {expected}");
    }
}

#[test]
fn a_result_can_be_added_to_what_is_there() {
    for (format, rows) in [(Format::Q4_0, 40), (Format::F16, 17)] {
        let columns = columns_of(format, 3);
        let stored = stored(format, rows, columns, 1);
        let on_all = |tokens| Cpu::all().into_iter().map(move |cpu| (tokens, cpu));
        for (tokens, cpu) in [1, 3, 70].into_iter().flat_map(on_all) {
            let mut pool = pool(2, cpu);
            let matrix = PackedMatrix::pack(&mut pool, format, rows, columns, &stored)
                .expect("whole blocks");
            let values = values(tokens * columns, 2);
            let bias: Vec<f32> = (0..rows).map(|row| row as f32).collect();
            let result = product(&mut pool, &matrix, Some(&bias), &values);
            let there: Vec<f32> = (0..result.len()).map(|at| at as f32 / 8.0).collect();
            let mut activations = Activations::new(cpu, tokens, columns, true);
            activations.quantize(&mut pool, Input::Plain(&values), columns);
            let mut found = there.clone();
            let sum = Product {
                bias: Some(&bias),
                accumulate: true,
                ..Product::new(&matrix, &mut found)
            };
            matmul(&mut pool, &activations, &mut [sum]);
            let expected: Vec<f32> = there.iter().zip(&result).map(|(a, b)| a + b).collect();
            assert_eq!(
                found,
                expected,
                "{format:?}, {tokens} tokens, {}",
                cpu.name()
            );
        }
    }
}

#[test]
fn what_is_not_finite_is_seen_in_the_result() {
    let columns = 64;
    let mut pool = pool(1, Cpu::detect());
    for format in Format::ALL
        .into_iter()
        .filter(|format| format.block_elements() <= 32)
    {
        let stored = stored(format, 16, columns, 1);
        let matrix =
            PackedMatrix::pack(&mut pool, format, 16, columns, &stored).expect("whole blocks");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = values(columns, 2);
            values[40] = bad;
            let out = product(&mut pool, &matrix, None, &values);
            assert!(
                out.iter().all(|value| !value.is_finite()),
                "{format:?} {bad}: {out:?}"
            );
        }
    }
}

#[test]
fn bytes_that_are_not_the_matrix_are_refused() {
    let mut pool = pool(1, Cpu::scalar());
    let wrong = PackedMatrix::pack(&mut pool, Format::Q4_0, 2, 64, &[0; 71]);
    assert!(
        matches!(
            wrong,
            Err(PackError::Bytes {
                expected: 72,
                found: 71,
                ..
            })
        ),
        "{wrong:?}"
    );
    let wrong = PackedMatrix::pack(&mut pool, Format::Q4_K, 1, 32, &[0; 18]);
    assert!(
        matches!(
            wrong,
            Err(PackError::Columns {
                columns: 32,
                block: 256,
                ..
            })
        ),
        "{wrong:?}"
    );
}
