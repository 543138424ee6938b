//! What stored weights mean: each format decoded element by element, in plain Rust.
//!
//! This is the specification that packing and kernels are tested against, and nothing of them is used here. Source: the
//! block structs in `ggml/src/ggml-common.h` and `dequantize_row_*` in `ggml/src/ggml-quants.c` of ggml.

use half::{bf16, f16};

use crate::format::{Format, IQ4_NL_VALUES};

/// Decodes whole blocks.
///
/// # Panics
/// Where `raw` is not exactly the bytes of `out.len()` elements.
pub fn dequantize(format: Format, raw: &[u8], out: &mut [f32]) {
    assert_eq!(
        Some(raw.len()),
        format.row_bytes(out.len()),
        "{} elements of {format:?} need another number of bytes",
        out.len()
    );
    let blocks = raw.chunks_exact(format.block_bytes());
    for (raw, out) in blocks.zip(out.chunks_exact_mut(format.block_elements())) {
        let element: &dyn Fn(usize) -> f32 = match format {
            Format::F32 => &|_| f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
            Format::F16 => &|_| half_at(raw, 0),
            Format::BF16 => &|_| bf16::from_le_bytes([raw[0], raw[1]]).to_f32(),
            Format::Q4_0 => &|i| half_at(raw, 0) * (f32::from(nibble(&raw[2..], i)) - 8.0),
            Format::Q4_1 => {
                &|i| half_at(raw, 0) * f32::from(nibble(&raw[4..], i)) + half_at(raw, 2)
            }
            Format::Q5_0 => &|i| half_at(raw, 0) * (f32::from(five_bits(raw, 2, i)) - 16.0),
            Format::Q5_1 => {
                &|i| half_at(raw, 0) * f32::from(five_bits(raw, 4, i)) + half_at(raw, 2)
            }
            Format::Q8_0 => &|i| half_at(raw, 0) * f32::from(raw[2 + i].cast_signed()),
            Format::IQ4_NL => &|i| {
                let index = usize::from(nibble(&raw[2..], i));
                half_at(raw, 0) * f32::from(IQ4_NL_VALUES[index])
            },
            Format::Q2_K => &|i| q2_k(raw, i),
            Format::Q3_K => &|i| q3_k(raw, i),
            Format::Q4_K => &|i| q4_k(raw, i),
            Format::Q5_K => &|i| q5_k(raw, i),
            Format::Q6_K => &|i| q6_k(raw, i),
        };
        for (i, out) in out.iter_mut().enumerate() {
            *out = element(i);
        }
    }
}

fn half_at(raw: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([raw[at], raw[at + 1]]).to_f32()
}

/// Element `i` of 32: the low nibbles are the first 16.
fn nibble(quants: &[u8], i: usize) -> u8 {
    (quants[i % 16] >> (4 * (i / 16))) & 15
}

/// Element `i` of 32, with its fifth bit from the four bytes at `at` and the rest from the nibbles after them.
fn five_bits(raw: &[u8], at: usize, i: usize) -> u8 {
    let high = (raw[at + i / 8] >> (i % 8)) & 1;
    nibble(&raw[at + 4..], i) | high << 4
}

/// `scales[16] (scale | min << 4), quants[64], d, dmin`.
fn q2_k(raw: &[u8], i: usize) -> f32 {
    let scale = raw[i / 16];
    let quant = (raw[16 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
    half_at(raw, 80) * f32::from(scale & 15) * f32::from(quant)
        - half_at(raw, 82) * f32::from(scale >> 4)
}

/// `high[32], quants[64], scales[12], d`.
fn q3_k(raw: &[u8], i: usize) -> f32 {
    let high = (raw[i % 32] >> (i / 32)) & 1;
    let quant = (raw[32 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32))) & 3;
    let scale = f32::from(q3_k_scale(&raw[96..108], i / 16));
    half_at(raw, 108) * scale * (f32::from(quant | high << 2) - 4.0)
}

/// Scale `j` of 16, in `-32..32`: four bits in the first eight bytes, two in the last four.
pub(crate) fn q3_k_scale(scales: &[u8], j: usize) -> i8 {
    let low = (scales[j % 8] >> (4 * (j / 8))) & 15;
    let high = (scales[8 + j % 4] >> (2 * (j / 4))) & 3;
    (low | high << 4).cast_signed() - 32
}

/// `d, dmin, scales[12], quants[128]`.
fn q4_k(raw: &[u8], i: usize) -> f32 {
    let (scale, min) = k_scale_min(&raw[4..16], i / 32);
    let quant = (raw[16 + i / 64 * 32 + i % 32] >> (4 * (i % 64 / 32))) & 15;
    half_at(raw, 0) * f32::from(scale) * f32::from(quant) - half_at(raw, 2) * f32::from(min)
}

/// `d, dmin, scales[12], high[32], quants[128]`.
fn q5_k(raw: &[u8], i: usize) -> f32 {
    let (scale, min) = k_scale_min(&raw[4..16], i / 32);
    let high = (raw[16 + i % 32] >> (i / 32)) & 1;
    let quant = (raw[48 + i / 64 * 32 + i % 32] >> (4 * (i % 64 / 32))) & 15;
    half_at(raw, 0) * f32::from(scale) * f32::from(quant | high << 4)
        - half_at(raw, 2) * f32::from(min)
}

/// Scale and minimum `j` of 8, six bits each, in twelve bytes.
pub(crate) fn k_scale_min(scales: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 63, scales[j + 4] & 63)
    } else {
        (
            scales[j + 4] & 15 | scales[j - 4] >> 6 << 4,
            scales[j + 4] >> 4 | scales[j] >> 6 << 4,
        )
    }
}

/// `low[128], high[64], scales[16], d`.
fn q6_k(raw: &[u8], i: usize) -> f32 {
    let (half, within) = (i / 128, i % 128);
    let low = (raw[half * 64 + within % 64] >> (4 * (within / 64))) & 15;
    let high = (raw[128 + half * 32 + within % 32] >> (2 * (within / 32))) & 3;
    let scale = f32::from(raw[192 + i / 16].cast_signed());
    half_at(raw, 208) * scale * (f32::from(low | high << 4) - 32.0)
}
