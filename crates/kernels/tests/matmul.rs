//! Packing loses nothing, and products are right: against the formats' specification, on every instruction set, for
//! every number of tokens and threads.

mod specified;

use half::f16;
use postern_kernels::{
    Activations, Cpu, Format, Input, PackError, PackedMatrix, Pool, Product, matmul,
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use specified::{computed, decoded, halves, products};

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
            Format::F16 => {
                let value = f16::from_f32(random.random_range(-1.0..1.0));
                block.copy_from_slice(&value.to_le_bytes());
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

/// About `columns`, in whole blocks.
fn columns_of(format: Format, columns: usize) -> usize {
    columns.next_multiple_of(format.block_elements())
}

/// Miri takes its time, so it gets less to do.
fn miri_or<'a, T>(in_miri: &'a [T], elsewhere: &'a [T]) -> &'a [T] {
    if cfg!(miri) { in_miri } else { elsewhere }
}

#[test]
fn a_row_of_a_packed_matrix_is_what_was_stored() {
    let shapes = miri_or(&[(17, 1)], &[(1, 1), (16, 128), (17, 93), (40, 288)]);
    for format in Format::ALL {
        for &(rows, columns) in shapes {
            let columns = columns_of(format, columns);
            let stored = stored(format, rows, columns, 7);
            let expected = decoded(format, &stored);
            for cpu in Cpu::all() {
                let matrix = PackedMatrix::pack(&mut pool(2, cpu), format, rows, columns, &stored)
                    .expect("whole blocks");
                for row in (0..rows).step_by(if cfg!(miri) { 8 } else { 1 }) {
                    let mut found = vec![f32::NAN; columns];
                    matrix.row(cpu, row, &mut found);
                    let expected = &expected[row * columns..][..columns];
                    assert_eq!(found, expected, "{format:?} row {row} on {}", cpu.name());
                }
            }
        }
    }
}

/// Packs, multiplies on every instruction set, and compares with the specification and with scalar.
fn check_products(
    format: Format,
    rows: usize,
    columns: usize,
    tokens: usize,
    threads: usize,
    seed: u64,
) {
    let case = format!("{format:?} {rows}x{columns}, {tokens} tokens, {threads} threads");
    let stored = stored(format, rows, columns, seed);
    let values = values(tokens * columns, seed ^ 1);
    let expected = products(format, &stored, columns, &values);
    let mut scalar = None;
    for cpu in Cpu::all() {
        let mut pool = pool(threads, cpu);
        let matrix =
            PackedMatrix::pack(&mut pool, format, rows, columns, &stored).expect("whole blocks");
        let found = computed(&mut pool, &matrix, None, &values);
        for (index, (&found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                expected.allows(found),
                "{case}, on {}: result {index} is {found}, not {expected:?}",
                cpu.name()
            );
        }
        let scalar = scalar.get_or_insert_with(|| found.clone());
        assert_eq!(&found, scalar, "{case}: {} is not scalar", cpu.name());
    }
}

#[test]
fn products_are_those_of_the_specification_on_every_instruction_set() {
    let shapes = miri_or(
        &[(17, 1, 2), (2, 1, 5)],
        &[
            (1, 1, 1),
            (16, 256, 2),
            (17, 64, 3),
            (33, 160, 5),
            (48, 1280, 7),
            (20, 1152, 29),
            (18, 2080, 67),
        ],
    );
    for format in Format::ALL {
        for &(rows, columns, tokens) in shapes {
            check_products(format, rows, columns_of(format, columns), tokens, 2, 11);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[cfg_attr(miri, ignore = "too long")]
    fn products_of_any_shape_are_those_of_the_specification(
        rows in 1_usize..70,
        columns in 1_usize..600,
        tokens in 1_usize..20,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        for format in Format::ALL {
            check_products(format, rows, columns_of(format, columns), tokens, threads, seed);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long")]
    fn a_token_does_not_depend_on_the_others_or_on_threads(
        rows in 1_usize..70,
        columns in 1_usize..1200,
        tokens in 1_usize..150,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let cpu = Cpu::detect();
        let (mut pool, mut single) = (pool(threads, cpu), pool(1, cpu));
        let bias = values(rows, seed ^ 2);
        for format in Format::ALL {
            let columns = columns_of(format, columns);
            let stored = stored(format, rows, columns, seed);
            let values = values(tokens * columns, seed ^ 1);
            let matrix =
                PackedMatrix::pack(&mut pool, format, rows, columns, &stored).expect("whole blocks");
            let together = computed(&mut pool, &matrix, Some(&bias), &values);
            for token in [0, tokens / 2, tokens - 1] {
                let row = &values[token * columns..][..columns];
                let alone = computed(&mut single, &matrix, Some(&bias), row);
                prop_assert_eq!(&together[token * rows..][..rows], &alone[..], "{:?}", format);
            }
        }
    }
}

#[test]
fn several_products_at_a_time_are_the_same_as_one_after_another() {
    let (columns, tokens) = (256, if cfg!(miri) { 2 } else { 5 });
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
        assert_eq!(out, &computed(&mut pool, matrix, None, &values));
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
    let expected = computed(&mut pool, &matrix, None, &normed);
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
    let counts = miri_or(&[1, 5], &[1, 3, 70]);
    for (format, rows) in [(Format::Q4_0, 40), (Format::F16, 17)] {
        let columns = columns_of(format, 96);
        let stored = stored(format, rows, columns, 1);
        let on_all = |tokens| Cpu::all().into_iter().map(move |cpu| (tokens, cpu));
        for (tokens, cpu) in counts.iter().copied().flat_map(on_all) {
            let mut pool = pool(2, cpu);
            let matrix = PackedMatrix::pack(&mut pool, format, rows, columns, &stored)
                .expect("whole blocks");
            let values = values(tokens * columns, 2);
            let bias: Vec<f32> = (0..rows).map(|row| row as f32).collect();
            let result = computed(&mut pool, &matrix, Some(&bias), &values);
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
    let mut pool = pool(1, Cpu::detect());
    for format in Format::ALL {
        let columns = columns_of(format, 64);
        let stored = stored(format, 16, columns, 1);
        let matrix =
            PackedMatrix::pack(&mut pool, format, 16, columns, &stored).expect("whole blocks");
        let bads = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for &bad in miri_or(&bads[..1], &bads) {
            let mut values = values(columns, 2);
            values[40] = bad;
            let out = computed(&mut pool, &matrix, None, &values);
            assert!(
                out.iter().all(|value| !value.is_finite()),
                "{format:?} {bad}: {out:?}"
            );
        }
    }
}

#[test]
fn a_weight_that_is_not_finite_spoils_its_row_alone() {
    for format in Format::ALL {
        let (rows, spoiled, columns) = if cfg!(miri) { (2, 1, 1) } else { (19, 17, 300) };
        let columns = columns_of(format, columns);
        let clean = stored(format, rows, columns, 4);
        // Zeros among the activations: even what they are multiplied with is seen.
        let mut values = values(3 * columns, 5);
        values[..columns].fill(0.0);
        let row_bytes = clean.len() / rows;
        let bads = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        for &bad in miri_or(&bads[..1], &bads) {
            let places = if halves(format).is_empty() {
                &[0][..]
            } else {
                halves(format)
            };
            for &at in places {
                let mut stored = clean.clone();
                let last = &mut stored[(spoiled + 1) * row_bytes - format.block_bytes()..];
                match format {
                    Format::F32 => last[..4].copy_from_slice(&bad.to_le_bytes()),
                    Format::BF16 => {
                        last[..2].copy_from_slice(&half::bf16::from_f32(bad).to_le_bytes());
                    }
                    _ => last[at..at + 2].copy_from_slice(&f16::from_f32(bad).to_le_bytes()),
                }
                for cpu in Cpu::all() {
                    let mut pool = pool(1, cpu);
                    let mut of = |stored: &[u8]| {
                        let matrix = PackedMatrix::pack(&mut pool, format, rows, columns, stored)
                            .expect("whole blocks");
                        computed(&mut pool, &matrix, None, &values)
                    };
                    let (found, expected) = (of(&stored), of(&clean));
                    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let is_right = if index % rows == spoiled {
                            !found.is_finite()
                        } else {
                            found == expected
                        };
                        assert!(
                            is_right,
                            "{format:?}, {bad} at {at} on {}: result {index} is {found}",
                            cpu.name()
                        );
                    }
                }
            }
        }
    }
}

/// What no memory can hold, where sizes do not even fit a number.
#[test]
fn absurd_shapes_are_refused_before_memory_is_asked_for() {
    let mut pool = pool(1, Cpu::scalar());
    for format in Format::ALL {
        let block = format.block_elements();
        let columns_max = usize::MAX / block * block;
        for (rows, columns) in [
            (usize::MAX, block),
            (1, columns_max),
            (16, columns_max / 256 * 256),
            (usize::MAX, columns_max),
            (1 << 40, 1 << 20),
        ] {
            let packed = PackedMatrix::pack(&mut pool, format, rows, columns, &[]);
            assert!(
                matches!(
                    packed,
                    Err(PackError::Room { .. } | PackError::Bytes { .. })
                ),
                "{format:?} {rows}x{columns}: {packed:?}"
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
    let wrong = PackedMatrix::pack(&mut pool, Format::Q8_0, 1 << 50, 0, &[]);
    assert!(
        matches!(wrong, Err(PackError::Columns { columns: 0, .. })),
        "{wrong:?}"
    );
}
