//! NEON with the dot product of Armv8.2 (Cortex-A76 and later): four 128-bit vectors for sixteen lanes.
//!
//! `sdot` multiplies signed bytes; the form by element takes four activations of one token from a vector that holds
//! four tokens, or four groups of columns. It is written as assembly because the standard library's form is not stable.
#![expect(unsafe_code, reason = "SIMD intrinsics")]

mod tile;

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Centred, Isa, Kernel, UnpackedTile, Weights, each, each_below};

/// Proof that the processor has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neon(());

pub(super) fn is_there() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
        && std::arch::is_aarch64_feature_detected!("dotprod")
}

/// Runs a kernel compiled for this instruction set.
///
/// # Safety
/// [`is_there`] must have said yes.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run(Neon(())) }
}

type Bytes = [uint8x16_t; 4];
type Ints = [int32x4_t; 4];
type Floats = [float32x4_t; 4];

/// `sum += weights · activations[4 * element..][..4]`, a lane each of four rows.
macro_rules! sdot {
    ($sum:expr, $weights:expr, $activations:expr, $element:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[", $element, "]"),
            sum = inout(vreg) $sum,
            weights = in(vreg) $weights,
            activations = in(vreg) $activations,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

#[inline(always)]
unsafe fn sdot(sum: &mut int32x4_t, weights: uint8x16_t, activations: int8x16_t, element: usize) {
    // SAFETY: the trait's callers have the instruction set.
    unsafe {
        match element {
            0 => sdot!(*sum, weights, activations, 0),
            1 => sdot!(*sum, weights, activations, 1),
            2 => sdot!(*sum, weights, activations, 2),
            _ => sdot!(*sum, weights, activations, 3),
        }
    }
}

// SAFETY of all methods: the trait's callers have the instruction set, and valid pointers.
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all, above"
)]
impl Isa for Neon {
    type Bytes = Bytes;
    type Ints = Ints;
    type Floats = Floats;

    const CENTRED: Centred = Centred::Signed;
    const TILE: usize = 4;
    /// A whole tile is faster in the loop of [`tile`], its unpacking included.
    const FEW_TOKENS_MAX: usize = 2;
    const ACTIVATION_BYTES_MAX: usize = 256 << 10;
    const FLOAT_SUMS_MAX: usize = 4;

    #[inline(always)]
    unsafe fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        unsafe { enter(kernel) }
    }

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch reads nothing that the program sees, and cannot fault.
        unsafe {
            asm!("prfm pldl1strm, [{from}]", from = in(reg) from, options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, from: *const u8) -> Bytes {
        unsafe { each!(4, part => vld1q_u8(from.add(16 * part))) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, bytes: Bytes, to: *mut u8) {
        unsafe {
            for (part, &bytes) in bytes.iter().enumerate() {
                vst1q_u8(to.add(16 * part), bytes);
            }
        }
    }

    #[inline(always)]
    unsafe fn mask(self, bytes: Bytes, mask: u8) -> Bytes {
        unsafe { each!(4, part => vandq_u8(bytes[part], vdupq_n_u8(mask))) }
    }

    #[inline(always)]
    unsafe fn or(self, a: Bytes, b: Bytes) -> Bytes {
        unsafe { each!(4, part => vorrq_u8(a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn shift_right(self, bytes: Bytes, count: u32) -> Bytes {
        unsafe { each!(4, part => vshlq_u8(bytes[part], vdupq_n_s8(-(count as i8)))) }
    }

    #[inline(always)]
    unsafe fn shift_left(self, bytes: Bytes, count: u32) -> Bytes {
        unsafe { each!(4, part => vshlq_u8(bytes[part], vdupq_n_s8(count as i8))) }
    }

    #[inline(always)]
    unsafe fn look_up(self, bytes: Bytes, table: &[i8; 16]) -> Bytes {
        unsafe {
            let table = vld1q_u8(table.as_ptr().cast());
            each!(4, part => vqtbl1q_u8(table, bytes[part]))
        }
    }

    #[inline(always)]
    unsafe fn accept_signed(self, bytes: Bytes) -> Bytes {
        bytes
    }

    #[inline(always)]
    unsafe fn accept_biased(self, bytes: Bytes, tops: u8) -> Bytes {
        unsafe { each!(4, part => veorq_u8(bytes[part], vdupq_n_u8(tops))) }
    }

    #[inline(always)]
    unsafe fn splat_ints(self, value: i32) -> Ints {
        unsafe { [vdupq_n_s32(value); 4] }
    }

    #[inline(always)]
    unsafe fn dot<W: Weights<Self>, const T: usize, const BITS: u32>(
        self,
        sums: &mut [Ints; T],
        weights: W,
        activations: *const i8,
    ) {
        unsafe {
            each_below!(W::GROUPS / 4, half => {
                // `T` vectors hold the 4 · T groups of four activations, in the order (group, token).
                let activations = activations.add(half * 4 * T * 4);
                let mut groups = [vdupq_n_s8(0); T];
                for (part, groups) in groups.iter_mut().enumerate() {
                    *groups = vld1q_s8(activations.add(16 * part));
                }
                each!(4, group => {
                    let weights = weights.group(self, 4 * half + group);
                    each_below!(T, token => {
                        let index = group * T + token;
                        let activations = groups[index / 4];
                        each!(4, part => {
                            sdot(&mut sums[token][part], weights[part], activations, index % 4)
                        });
                    })
                });
            });
        }
    }

    #[inline(always)]
    unsafe fn multiply_tile(self, tile: UnpackedTile, is_halved: bool, has_minima: bool) -> bool {
        unsafe { tile::multiply(tile, is_halved, has_minima) };
        true
    }

    #[inline(always)]
    unsafe fn splat(self, value: f32) -> Floats {
        unsafe { [vdupq_n_f32(value); 4] }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Floats {
        unsafe { each!(4, part => vld1q_f32(from.add(4 * part))) }
    }

    #[inline(always)]
    unsafe fn store(self, floats: Floats, to: *mut f32) {
        unsafe {
            for (part, &floats) in floats.iter().enumerate() {
                vst1q_f32(to.add(4 * part), floats);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Floats {
        unsafe {
            let halves = each!(2, half => vreinterpretq_f16_u16(vld1q_u16(from.add(8 * half))));
            [
                vcvt_f32_f16(vget_low_f16(halves[0])),
                vcvt_high_f32_f16(halves[0]),
                vcvt_f32_f16(vget_low_f16(halves[1])),
                vcvt_high_f32_f16(halves[1]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_f16(self, floats: Floats, to: *mut u16) {
        unsafe {
            for (part, &floats) in floats.iter().enumerate() {
                vst1_u16(to.add(4 * part), vreinterpret_u16_f16(vcvt_f16_f32(floats)));
            }
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> Floats {
        unsafe {
            let halves = each!(2, half => vld1q_u16(from.add(8 * half)));
            let bits: [uint32x4_t; 4] = [
                vshll_n_u16::<16>(vget_low_u16(halves[0])),
                vshll_high_n_u16::<16>(halves[0]),
                vshll_n_u16::<16>(vget_low_u16(halves[1])),
                vshll_high_n_u16::<16>(halves[1]),
            ];
            each!(4, part => vreinterpretq_f32_u32(bits[part]))
        }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Floats {
        unsafe {
            let bytes = vld1q_u8(from);
            let low = vmovl_u8(vget_low_u8(bytes));
            let high = vmovl_u8(vget_high_u8(bytes));
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(high))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> Floats {
        unsafe {
            let bytes = vld1q_s8(from);
            let low = vmovl_s8(vget_low_s8(bytes));
            let high = vmovl_s8(vget_high_s8(bytes));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_s16(vget_high_s16(high))),
            ]
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self, ints: Ints) -> Floats {
        unsafe { each!(4, part => vcvtq_f32_s32(ints[part])) }
    }

    #[inline(always)]
    unsafe fn store_codes(self, floats: Floats, to: *mut i8) -> i32 {
        unsafe {
            let ints: Ints = each!(4, part => vcvtnq_s32_f32(floats[part]));
            let low = vcombine_s16(vmovn_s32(ints[0]), vmovn_s32(ints[1]));
            let high = vcombine_s16(vmovn_s32(ints[2]), vmovn_s32(ints[3]));
            vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
            i32::from(vaddvq_s16(vaddq_s16(low, high)))
        }
    }

    #[inline(always)]
    unsafe fn is_finite(self, floats: Floats) -> bool {
        unsafe {
            let infinity = vdupq_n_f32(f32::INFINITY);
            let finite: [uint32x4_t; 4] =
                each!(4, part => vcltq_f32(vabsq_f32(floats[part]), infinity));
            let all = vandq_u32(
                vandq_u32(finite[0], finite[1]),
                vandq_u32(finite[2], finite[3]),
            );
            vminvq_u32(all) == u32::MAX
        }
    }

    #[inline(always)]
    unsafe fn add(self, a: Floats, b: Floats) -> Floats {
        unsafe { each!(4, part => vaddq_f32(a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn sub(self, a: Floats, b: Floats) -> Floats {
        unsafe { each!(4, part => vsubq_f32(a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn mul(self, a: Floats, b: Floats) -> Floats {
        unsafe { each!(4, part => vmulq_f32(a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn div(self, a: Floats, b: Floats) -> Floats {
        unsafe { each!(4, part => vdivq_f32(a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        unsafe { each!(4, part => vfmaq_f32(c[part], a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn neg_mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        unsafe { each!(4, part => vfmsq_f32(c[part], a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn max(self, a: Floats, b: Floats) -> Floats {
        unsafe { each!(4, part => vbslq_f32(vcgtq_f32(a[part], b[part]), a[part], b[part])) }
    }

    #[inline(always)]
    unsafe fn abs(self, a: Floats) -> Floats {
        unsafe { each!(4, part => vabsq_f32(a[part])) }
    }

    #[inline(always)]
    unsafe fn round(self, a: Floats) -> Floats {
        unsafe { each!(4, part => vrndnq_f32(a[part])) }
    }

    #[inline(always)]
    unsafe fn exp2_whole(self, n: Floats) -> Floats {
        unsafe {
            each!(4, part => {
                let biased = vaddq_s32(vcvtnq_s32_f32(n[part]), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            })
        }
    }

    #[inline(always)]
    unsafe fn zero_below(self, a: Floats, x: Floats, limit: f32) -> Floats {
        unsafe {
            let limit = vdupq_n_f32(limit);
            each!(4, part => {
                let bits = vreinterpretq_u32_f32(a[part]);
                vreinterpretq_f32_u32(vbicq_u32(bits, vcltq_f32(x[part], limit)))
            })
        }
    }

    #[inline(always)]
    unsafe fn max_lanes(self, a: Floats) -> f32 {
        unsafe {
            let low = vbslq_f32(vcgtq_f32(a[0], a[2]), a[0], a[2]);
            let high = vbslq_f32(vcgtq_f32(a[1], a[3]), a[1], a[3]);
            let four = vbslq_f32(vcgtq_f32(low, high), low, high);
            let (low, high) = (vget_low_f32(four), vget_high_f32(four));
            let two = vbsl_f32(vcgt_f32(low, high), low, high);
            let (low, high) = (vget_lane_f32::<0>(two), vget_lane_f32::<1>(two));
            if low > high { low } else { high }
        }
    }

    #[inline(always)]
    unsafe fn mul_add_each<const T: usize>(
        self,
        sums: &mut [Floats; T],
        a: Floats,
        factors: *const f32,
        stride: usize,
    ) {
        unsafe {
            for (row, sum) in sums.iter_mut().enumerate() {
                for (sum, &a) in sum.iter_mut().zip(&a) {
                    *sum = if stride == 1 {
                        let four = vld1q_f32(factors.add(row / 4 * 4));
                        match row % 4 {
                            0 => vfmaq_laneq_f32::<0>(*sum, a, four),
                            1 => vfmaq_laneq_f32::<1>(*sum, a, four),
                            2 => vfmaq_laneq_f32::<2>(*sum, a, four),
                            _ => vfmaq_laneq_f32::<3>(*sum, a, four),
                        }
                    } else {
                        vfmaq_f32(*sum, a, vdupq_n_f32(*factors.add(row * stride)))
                    };
                }
            }
        }
    }
}
