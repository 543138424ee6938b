//! AVX-512 with VNNI (Intel since Ice Lake, AMD since Zen 4): a lane each of one 512-bit vector.
//!
//! `vpdpbusd` multiplies unsigned weights by signed activations, which it takes broadcast from memory.
#![expect(unsafe_code, reason = "SIMD intrinsics")]

use std::arch::x86_64::*;

use super::{Centred, Isa, Kernel, Weights, each_below};

/// Proof that the processor has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && super::avx2::is_there()
}

/// Runs a kernel compiled for this instruction set.
///
/// # Safety
/// [`is_there`] must have said yes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Avx512(())) }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// SAFETY of all methods: the trait's callers have the instruction set, and valid pointers.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, above"
)]
impl Isa for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    const CENTRED: Centred = Centred::Biased;
    const TILE: usize = 8;
    const FEW_TOKENS_MAX: usize = 8 * Self::TILE;
    const ACTIVATION_BYTES_MAX: usize = 2 << 20;
    const FLOAT_SUMS_MAX: usize = 16;

    #[inline(always)]
    unsafe fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: __m512i, to: *mut u8) {
        unsafe { _mm512_storeu_si512(to.cast(), bytes) }
    }

    #[inline(always)]
    unsafe fn mask(self, bytes: __m512i, mask: u8) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(mask.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn or(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn shift_right(self, bytes: __m512i, count: u32) -> __m512i {
        unsafe {
            let shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(count.cast_signed()));
            self.mask(shifted, 0xff >> count)
        }
    }

    #[inline(always)]
    unsafe fn shift_left(self, bytes: __m512i, count: u32) -> __m512i {
        unsafe {
            let shifted = _mm512_sll_epi32(bytes, _mm_cvtsi32_si128(count.cast_signed()));
            self.mask(shifted, 0xff << count)
        }
    }

    #[inline(always)]
    unsafe fn look_up(self, bytes: __m512i, table: &[i8; 16]) -> __m512i {
        unsafe {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
            _mm512_shuffle_epi8(table, bytes)
        }
    }

    #[inline(always)]
    unsafe fn accept_signed(self, bytes: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(bytes, _mm512_set1_epi8(i8::MIN)) }
    }

    #[inline(always)]
    unsafe fn splat_ints(self, value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn dot<W: Weights<Self>, const T: usize, const BITS: u32>(
        self,
        sums: &mut [__m512i; T],
        weights: W,
        activations: *const i8,
    ) {
        unsafe {
            each_below!(W::GROUPS, group => {
                let weights = weights.group(self, group);
                for (token, sum) in sums.iter_mut().enumerate() {
                    let four = activations.add((group * T + token) * 4).cast::<i32>();
                    let four = _mm512_set1_epi32(four.read_unaligned());
                    *sum = _mm512_dpbusd_epi32(*sum, weights, four);
                }
            });
        }
    }

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, floats: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) }
    }

    #[inline(always)]
    unsafe fn stream(self, floats: __m512, to: *mut f32) {
        unsafe {
            if to.addr().is_multiple_of(align_of::<__m512>()) {
                _mm512_stream_ps(to, floats);
            } else {
                self.store(floats, to);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish_streams(self) {
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn store_f16(self, floats: __m512, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<NEAREST>(floats)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m512 {
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn to_floats(self, ints: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(ints) }
    }

    #[inline(always)]
    unsafe fn store_codes(self, floats: __m512, to: *mut i8) -> i32 {
        unsafe {
            let ints = _mm512_cvtps_epi32(floats);
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(ints));
            _mm512_reduce_add_epi32(ints)
        }
    }

    #[inline(always)]
    unsafe fn is_finite(self, floats: __m512) -> bool {
        unsafe {
            let infinity = _mm512_set1_ps(f32::INFINITY);
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(floats), infinity) == u16::MAX
        }
    }

    #[inline(always)]
    unsafe fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }

    #[inline(always)]
    unsafe fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<NEAREST>(a) }
    }

    #[inline(always)]
    unsafe fn exp2_whole(self, n: __m512) -> __m512 {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }

    #[inline(always)]
    unsafe fn zero_below(self, a: __m512, x: __m512, limit: f32) -> __m512 {
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(limit));
            _mm512_maskz_mov_ps(keep, a)
        }
    }

    #[inline(always)]
    unsafe fn max_lanes(self, a: __m512) -> f32 {
        unsafe {
            let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a));
            let eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm256_castpd_ps(high));
            let high = _mm256_extractf128_ps::<1>(eight);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), high);
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn mul_add_each<const T: usize>(
        self,
        sums: &mut [__m512; T],
        a: __m512,
        factors: *const f32,
        stride: usize,
    ) {
        unsafe {
            for (row, sum) in sums.iter_mut().enumerate() {
                let factor = _mm512_set1_ps(*factors.add(row * stride));
                *sum = _mm512_fmadd_ps(a, factor, *sum);
            }
        }
    }
}
