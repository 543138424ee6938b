//! A matrix of any bytes at all: packed or refused, and what is packed is what was stored.
//!
//! Shared by the fuzz target, which looks for bytes that break this, and by a test, which replays those and tries others.

use postern_kernels::{Cpu, Format, PackError, PackedMatrix, Pool};

use crate::specified::{computed, decoded, products};

/// Miri takes its time.
const ROWS_MAX: usize = if cfg!(miri) { 2 } else { 40 };
const TOKENS_MAX: usize = if cfg!(miri) { 2 } else { 20 };
const THREADS_MAX: usize = 3;
/// Most blocks of a row, in 32 columns; rows of unquantized matrices have any number of columns up to as many.
const BLOCKS_MAX: usize = 12;

/// What bytes are read as: a shape, sizes that may be wrong, and contents.
#[derive(Debug)]
struct Case {
    format: Format,
    rows: usize,
    columns: usize,
    threads: usize,
    stored: Vec<u8>,
    /// `[tokens, columns]`
    values: Vec<f32>,
    /// A length that is that of the matrix only by chance.
    other_length: usize,
    /// A shape that is absurd, but by chance.
    other_shape: [usize; 2],
}

impl Case {
    /// The first bytes decide about the shape, the others are repeated as often as needed.
    fn read(bytes: &[u8]) -> Self {
        const HEAD_BYTES: usize = 24;
        let mut head = [0; HEAD_BYTES];
        let given = bytes.len().min(HEAD_BYTES);
        head[..given].copy_from_slice(&bytes[..given]);
        let body = match &bytes[given..] {
            [] => &[0],
            body => body,
        };
        let number = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let word = |at: usize| {
            let bytes = head[at..at + 8].try_into().expect("eight of them");
            u64::from_le_bytes(bytes) as usize
        };
        let format = Format::ALL[usize::from(head[0]) % Format::ALL.len()];
        let rows = 1 + usize::from(head[1]) % ROWS_MAX;
        let block = format.block_elements();
        let columns = block * (1 + number(2) % (BLOCKS_MAX * 32 / block));
        let tokens = 1 + usize::from(head[4]) % TOKENS_MAX;
        let stored_bytes = rows * format.row_bytes(columns).expect("whole blocks");
        let signed = body.iter().rev().map(|byte| byte.cast_signed());
        Self {
            format,
            rows,
            columns,
            threads: 1 + usize::from(head[5]) % THREADS_MAX,
            stored: body.iter().copied().cycle().take(stored_bytes).collect(),
            values: signed
                .cycle()
                .take(tokens * columns)
                .map(|byte| f32::from(byte) / 16.0)
                .collect(),
            other_length: number(6),
            other_shape: [word(8), word(16)],
        }
    }
}

/// Reads a case from any bytes and checks all that holds for it.
///
/// # Panics
/// Where something does not hold.
pub(crate) fn check(bytes: &[u8]) {
    let case = Case::read(bytes);
    check_refusals(&case);
    let expected = products(case.format, &case.stored, case.columns, &case.values);
    let mut first: Option<Vec<f32>> = None;
    for cpu in Cpu::all() {
        let mut pool = Pool::new(case.threads, cpu).expect("threads");
        let matrix = pack(&mut pool, &case, case.rows, case.columns, &case.stored)
            .unwrap_or_else(|error| panic!("{case:?}: {error}"));
        check_rows(&case, cpu, &matrix);
        let found = computed(&mut pool, &matrix, None, &case.values);
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                expected.allows(*found),
                "result {index} on {} is {found}, not {expected:?}: {case:?}",
                cpu.name()
            );
        }
        let first = first.get_or_insert_with(|| found.clone());
        assert!(
            found.iter().zip(&*first).all(|(a, b)| is_same(*a, *b)),
            "{} is not scalar: {found:?}, not {first:?}: {case:?}",
            cpu.name()
        );
    }
}

fn pack(
    pool: &mut Pool,
    case: &Case,
    rows: usize,
    columns: usize,
    stored: &[u8],
) -> Result<PackedMatrix, PackError> {
    PackedMatrix::pack(pool, case.format, rows, columns, stored)
}

/// Bytes that are not the matrix are refused, and so is what no memory can hold, before any is asked for.
fn check_refusals(case: &Case) {
    let Case { rows, columns, .. } = *case;
    let mut pool = Pool::new(1, Cpu::scalar()).expect("a thread");
    let other = vec![0; case.other_length];
    let outcome = pack(&mut pool, case, rows, columns, &other);
    assert_eq!(
        outcome.is_ok(),
        other.len() == case.stored.len(),
        "{case:?}"
    );
    let [rows, columns] = case.other_shape;
    let expected = case.format.row_bytes(columns);
    let expected = expected.and_then(|bytes| bytes.checked_mul(rows));
    let outcome = pack(&mut pool, case, rows, columns, &case.stored);
    if expected != Some(case.stored.len()) {
        assert!(outcome.is_err(), "{case:?}");
    }
    if !columns.is_multiple_of(case.format.block_elements()) {
        assert!(
            matches!(outcome, Err(PackError::Columns { .. })),
            "{case:?}"
        );
    }
}

/// Decoded rows are those of the specification.
fn check_rows(case: &Case, cpu: Cpu, matrix: &PackedMatrix) {
    let expected = decoded(case.format, &case.stored);
    let mut found = vec![0.0; case.columns];
    for (row, expected) in expected.chunks_exact(case.columns).enumerate() {
        matrix.row(cpu, row, &mut found);
        assert!(
            found.iter().zip(expected).all(|(a, b)| is_same(*a, *b)),
            "row {row} on {} is {found:?}, not {expected:?}: {case:?}",
            cpu.name()
        );
    }
}

/// Whether numbers are equal, or both are none: which bits one has that is none is nobody's business.
fn is_same(a: f32, b: f32) -> bool {
    a == b || a.is_nan() && b.is_nan()
}
