//! AVX2 with FMA and F16C (Intel since Haswell, AMD since Zen): two 256-bit vectors for sixteen lanes.
//!
//! `vpmaddubsw` adds pairs of products in 16 bits and would saturate for two large ones. The fewer bits unsigned weights
//! have, the more pairs fit: their sums are widened to 32 bits only where the next might not. Weights of 8 bits give their
//! sign to the activation first, so that a pair is at most 2 · 128 · 127. To widen both sides to 16 bits for `vpmaddwd` was
//! not faster.
#![expect(unsafe_code, reason = "SIMD intrinsics")]

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Centred, Isa, Kernel, Weights, each_below};

/// Proof that the processor has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx2(());

pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Runs a kernel compiled for this instruction set.
///
/// # Safety
/// [`is_there`] must have said yes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx2(())) }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// How many products of pairs a sum of 16 bits has room for, with weights of so many bits.
const fn groups_in_16_bits(bits: u32) -> usize {
    match bits {
        8 => 1,
        _ => i16::MAX as usize / (2 * 127 * ((1 << bits) - 1)),
    }
}

/// Sums of two products each, in 16 bits.
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
unsafe fn multiply<const BITS: u32>(weights: __m256i, activations: __m256i) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        if BITS == 8 {
            let magnitudes = _mm256_abs_epi8(weights);
            _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(activations, weights))
        } else {
            _mm256_maddubs_epi16(weights, activations)
        }
    }
}

/// Keeps a sum here, in this order with others. The compiler, free to add integers in any order, would finish one token
/// after the other, and keep all weights and products for that, of which registers hold only a few.
///
/// # Safety
/// The instruction set must be there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn keep_order(sum: &mut __m256i) {
    // SAFETY: there are no instructions.
    unsafe {
        asm!(
            "/* {sum} */",
            sum = inout(ymm_reg) * sum,
            options(nomem, nostack, preserves_flags)
        );
    }
}

// SAFETY of all methods: the trait's callers have the instruction set, and valid pointers.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, above"
)]
impl Isa for Avx2 {
    type Bytes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];

    const CENTRED: Centred = Centred::Stored;
    const TILE: usize = 4;
    const FEW_TOKENS_MAX: usize = 8 * Self::TILE;
    const ACTIVATION_BYTES_MAX: usize = 1 << 20;
    const FLOAT_SUMS_MAX: usize = 4;

    #[inline(always)]
    unsafe fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> [__m256i; 2] {
        unsafe {
            [
                _mm256_loadu_si256(from.cast()),
                _mm256_loadu_si256(from.add(32).cast()),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: [__m256i; 2], to: *mut u8) {
        unsafe {
            _mm256_storeu_si256(to.cast(), bytes[0]);
            _mm256_storeu_si256(to.add(32).cast(), bytes[1]);
        }
    }

    #[inline(always)]
    unsafe fn mask(self, bytes: [__m256i; 2], mask: u8) -> [__m256i; 2] {
        unsafe {
            let mask = _mm256_set1_epi8(mask.cast_signed());
            [
                _mm256_and_si256(bytes[0], mask),
                _mm256_and_si256(bytes[1], mask),
            ]
        }
    }

    #[inline(always)]
    unsafe fn or(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn shift_right(self, bytes: [__m256i; 2], count: u32) -> [__m256i; 2] {
        unsafe {
            let by = _mm_cvtsi32_si128(count.cast_signed());
            let shifted = [
                _mm256_srl_epi32(bytes[0], by),
                _mm256_srl_epi32(bytes[1], by),
            ];
            self.mask(shifted, 0xff >> count)
        }
    }

    #[inline(always)]
    unsafe fn shift_left(self, bytes: [__m256i; 2], count: u32) -> [__m256i; 2] {
        unsafe {
            let by = _mm_cvtsi32_si128(count.cast_signed());
            let shifted = [
                _mm256_sll_epi32(bytes[0], by),
                _mm256_sll_epi32(bytes[1], by),
            ];
            self.mask(shifted, 0xff << count)
        }
    }

    #[inline(always)]
    unsafe fn look_up(self, bytes: [__m256i; 2], table: &[i8; 16]) -> [__m256i; 2] {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            [
                _mm256_shuffle_epi8(table, bytes[0]),
                _mm256_shuffle_epi8(table, bytes[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn accept_signed(self, bytes: [__m256i; 2]) -> [__m256i; 2] {
        bytes
    }

    #[inline(always)]
    unsafe fn splat_ints(self, value: i32) -> [__m256i; 2] {
        unsafe { [_mm256_set1_epi32(value); 2] }
    }

    #[inline(always)]
    unsafe fn dot<W: Weights<Self>, const T: usize, const BITS: u32>(
        self,
        sums: &mut [[__m256i; 2]; T],
        weights: W,
        activations: *const i8,
    ) {
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let together = const { groups_in_16_bits(BITS) };
            let mut pairs = [[_mm256_setzero_si256(); 2]; T];
            each_below!(W::GROUPS, group => {
                let weights = weights.group(self, group);
                for (token, pairs) in pairs.iter_mut().enumerate() {
                    let four = activations.add((group * T + token) * 4).cast::<i32>();
                    let four = _mm256_set1_epi32(four.read_unaligned());
                    for (pairs, weights) in pairs.iter_mut().zip(weights) {
                        let products = multiply::<BITS>(weights, four);
                        if group.is_multiple_of(together) {
                            *pairs = products;
                        } else {
                            *pairs = _mm256_add_epi16(*pairs, products);
                        }
                        keep_order(pairs);
                    }
                }
                if group % together == together - 1 || group == W::GROUPS - 1 {
                    for (sum, &pairs) in sums.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                        keep_order(sum);
                    }
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> [__m256; 2] {
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [__m256; 2] {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn store(self, floats: [__m256; 2], to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, floats[0]);
            _mm256_storeu_ps(to.add(8), floats[1]);
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> [__m256; 2] {
        unsafe {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast())),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, floats: [__m256; 2], to: *mut u16) {
        unsafe {
            _mm_storeu_si128(
                to.cast(),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[0]),
            );
            _mm_storeu_si128(
                to.add(8).cast(),
                _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats[1]),
            );
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> [__m256; 2] {
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> [__m256; 2] {
        unsafe {
            let low = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(8).cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> [__m256; 2] {
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(8).cast()));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self, ints: [__m256i; 2]) -> [__m256; 2] {
        unsafe { [_mm256_cvtepi32_ps(ints[0]), _mm256_cvtepi32_ps(ints[1])] }
    }

    #[inline(always)]
    unsafe fn store_codes(self, floats: [__m256; 2], to: *mut i8) -> i32 {
        unsafe {
            let ints = [_mm256_cvtps_epi32(floats[0]), _mm256_cvtps_epi32(floats[1])];
            // Packing works in halves of 128 bits; the permutation puts them in order.
            let shorts =
                _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(ints[0], ints[1]));
            let low = _mm256_castsi256_si128(shorts);
            let high = _mm256_extracti128_si256::<1>(shorts);
            _mm_storeu_si128(to.cast(), _mm_packs_epi16(low, high));
            let sums = _mm256_madd_epi16(shorts, _mm256_set1_epi16(1));
            let sums = _mm_add_epi32(
                _mm256_castsi256_si128(sums),
                _mm256_extracti128_si256::<1>(sums),
            );
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
            _mm_cvtsi128_si32(sums) + _mm_extract_epi32::<1>(sums)
        }
    }

    #[inline(always)]
    unsafe fn is_finite(self, floats: [__m256; 2]) -> bool {
        unsafe {
            let infinity = _mm256_set1_ps(f32::INFINITY);
            let magnitudes = self.abs(floats);
            let low = _mm256_cmp_ps::<_CMP_LT_OQ>(magnitudes[0], infinity);
            let high = _mm256_cmp_ps::<_CMP_LT_OQ>(magnitudes[1], infinity);
            _mm256_movemask_ps(_mm256_and_ps(low, high)) == 0xff
        }
    }

    #[inline(always)]
    unsafe fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn neg_mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            [
                _mm256_fnmadd_ps(a[0], b[0], c[0]),
                _mm256_fnmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn abs(self, a: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }

    #[inline(always)]
    unsafe fn round(self, a: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            [
                _mm256_round_ps::<NEAREST>(a[0]),
                _mm256_round_ps::<NEAREST>(a[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn exp2_whole(self, n: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias);
            let high = _mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias);
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn zero_below(self, a: [__m256; 2], x: [__m256; 2], limit: f32) -> [__m256; 2] {
        unsafe {
            let limit = _mm256_set1_ps(limit);
            [
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x[0], limit), a[0]),
                _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x[1], limit), a[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn max_lanes(self, a: [__m256; 2]) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(a[0], a[1]);
            let high = _mm256_extractf128_ps::<1>(eight);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), high);
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn mul_add_each<const T: usize>(
        self,
        sums: &mut [[__m256; 2]; T],
        a: [__m256; 2],
        factors: *const f32,
        stride: usize,
    ) {
        unsafe {
            for (row, sum) in sums.iter_mut().enumerate() {
                let factor = _mm256_set1_ps(*factors.add(row * stride));
                sum[0] = _mm256_fmadd_ps(a[0], factor, sum[0]);
                sum[1] = _mm256_fmadd_ps(a[1], factor, sum[1]);
            }
        }
    }
}
