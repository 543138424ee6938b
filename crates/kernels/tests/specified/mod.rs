//! Products as the formats' specification gives them, with the error that rounding explains.
//!
//! What is absent: anything of the kernels but the formats' sizes and [`dequantize`], which is the specification.

use postern_kernels::{
    Activations, Format, Input, PackedMatrix, Pool, Product as Multiplied, dequantize, matmul,
};

/// Half of the distance from 1 to the next number: the error of one rounding.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
/// Columns that have an activation scale in common.
const BLOCK: usize = 32;
/// Blocks whose greatest value is below this are zeros.
const MAGNITUDE_MIN: f32 = 1e-30;
/// Sums beyond this may overflow on the way; nothing is said about them.
const MAGNITUDE_MAX: f64 = f32::MAX as f64 / 256.0;

/// One result of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// A number, and how far from it a result may be.
    About { value: f64, error_max: f64 },
    /// Infinite or no number.
    NotFinite,
    /// Whatever: sums overflow.
    Anything,
}

impl Expected {
    pub(crate) fn allows(self, found: f32) -> bool {
        match self {
            Self::About { value, error_max } => (f64::from(found) - value).abs() <= error_max,
            Self::NotFinite => !found.is_finite(),
            Self::Anything => true,
        }
    }
}

/// Where the half-precision numbers of a block are: scale, then minimum.
pub(crate) fn halves(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        _ => &[0],
    }
}

/// The product `[tokens, rows]` of finite activations, in double precision, of what is left of them after quantization to
/// 8 bits where the format asks for that.
///
/// The error of a sum in `f32` is at most as many roundings of the sum of its terms' magnitudes as there are operations
/// (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). A term is a scale times a sum of integers, which is exact, or a
/// minimum times one.
pub(crate) fn products(
    format: Format,
    stored: &[u8],
    columns: usize,
    activations: &[f32],
) -> Vec<Expected> {
    let weights = decoded(format, stored);
    let magnitudes = magnitudes(format, stored);
    let is_plain = format.block_elements() == 1;
    let operations = if is_plain {
        columns
    } else {
        5 * columns.div_ceil(BLOCK)
    };
    let relative = (operations + 8) as f64 * ROUNDING;
    let absolute = columns as f64 * f64::from(f32::MIN_POSITIVE);
    let mut products = Vec::new();
    for row in activations.chunks_exact(columns) {
        let row = if is_plain {
            row.iter().copied().map(f64::from).collect()
        } else {
            in_eight_bits(row)
        };
        let rows = weights.chunks_exact(columns);
        products.extend(
            rows.zip(magnitudes.chunks_exact(columns))
                .map(|(weights, magnitudes)| {
                    if weights.iter().any(|weight| !weight.is_finite()) {
                        return Expected::NotFinite;
                    }
                    let sum = |weights: &[f32], of: fn(f64) -> f64| -> f64 {
                        let terms = row.iter().zip(weights);
                        terms.map(|(a, &b)| of(a * f64::from(b))).sum()
                    };
                    let magnitude = sum(magnitudes, f64::abs);
                    if magnitude > MAGNITUDE_MAX {
                        return Expected::Anything;
                    }
                    Expected::About {
                        value: sum(weights, |term| term),
                        error_max: relative * magnitude + absolute,
                    }
                }),
        );
    }
    products
}

/// Weights, decoded.
pub(crate) fn decoded(format: Format, stored: &[u8]) -> Vec<f32> {
    let blocks = stored.len() / format.block_bytes();
    let mut weights = vec![0.0; blocks * format.block_elements()];
    dequantize(format, stored, &mut weights);
    weights
}

/// For each weight the sum of the magnitudes of its two parts, scaled code and minimum, which may cancel each other.
fn magnitudes(format: Format, stored: &[u8]) -> Vec<f32> {
    let [_, _] = halves(format) else {
        return decoded(format, stored);
    };
    let without = |part: usize| {
        let mut stored = stored.to_vec();
        for block in stored.chunks_exact_mut(format.block_bytes()) {
            let at = halves(format)[part];
            block[at..at + 2].fill(0);
        }
        decoded(format, &stored)
    };
    let parts = without(0).into_iter().zip(without(1));
    parts
        .map(|(min, scaled)| min.abs() + scaled.abs())
        .collect()
}

fn in_eight_bits(row: &[f32]) -> Vec<f64> {
    let blocks = row.chunks(BLOCK).flat_map(|block| {
        let magnitude = block.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        block.iter().map(move |&value| {
            if magnitude < MAGNITUDE_MIN {
                return 0.0;
            }
            let code = (value * (127.0 / magnitude)).round_ties_even();
            f64::from(magnitude / 127.0) * f64::from(code)
        })
    });
    blocks.collect()
}

/// The product `[tokens, rows]` as the kernels compute it.
pub(crate) fn computed(
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
        &mut [Multiplied {
            bias,
            ..Multiplied::new(matrix, &mut out)
        }],
    );
    out
}
