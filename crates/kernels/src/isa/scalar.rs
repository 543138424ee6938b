//! Plain Rust: the specification of the other instruction sets, and the fallback where there is none.

#![expect(unsafe_code, reason = "the trait hands pointers in")]

use half::{bf16, f16};

use super::{Centred, Isa, Kernel, LANES, Weights};

/// Arrays instead of vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

type Bytes = [[u8; 4]; LANES];

fn map(bytes: Bytes, f: impl Fn(u8) -> u8) -> Bytes {
    bytes.map(|lane| lane.map(&f))
}

fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Isa for Scalar {
    type Bytes = Bytes;
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    const CENTRED: Centred = Centred::Signed;
    const TILE: usize = 4;
    /// Little, so that small matrices take both ways.
    const FEW_TOKENS_MAX: usize = Self::TILE;
    const ACTIVATION_BYTES_MAX: usize = 256 << 10;
    const FLOAT_SUMS_MAX: usize = 4;

    unsafe fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { kernel.run(self) }
    }

    fn prefetch(self, _: *const u8) {}

    unsafe fn load_bytes(self, from: *const u8) -> Bytes {
        // SAFETY: the caller's pointer is valid for 64 bytes.
        unsafe { from.cast::<Bytes>().read_unaligned() }
    }

    unsafe fn store_bytes(self, bytes: Bytes, to: *mut u8) {
        // SAFETY: the caller's pointer is valid for 64 bytes.
        unsafe { to.cast::<Bytes>().write_unaligned(bytes) }
    }

    unsafe fn mask(self, bytes: Bytes, mask: u8) -> Bytes {
        map(bytes, |byte| byte & mask)
    }

    unsafe fn or(self, a: Bytes, b: Bytes) -> Bytes {
        std::array::from_fn(|lane| std::array::from_fn(|byte| a[lane][byte] | b[lane][byte]))
    }

    unsafe fn shift_right(self, bytes: Bytes, count: u32) -> Bytes {
        map(bytes, |byte| byte >> count)
    }

    unsafe fn shift_left(self, bytes: Bytes, count: u32) -> Bytes {
        map(bytes, |byte| byte << count)
    }

    unsafe fn look_up(self, bytes: Bytes, table: &[i8; 16]) -> Bytes {
        map(bytes, |byte| table[usize::from(byte)].cast_unsigned())
    }

    unsafe fn accept_signed(self, bytes: Bytes) -> Bytes {
        bytes
    }

    unsafe fn accept_biased(self, bytes: Bytes, tops: u8) -> Bytes {
        map(bytes, |byte| byte ^ tops)
    }

    unsafe fn splat_ints(self, value: i32) -> [i32; LANES] {
        [value; LANES]
    }

    unsafe fn dot<W: Weights<Self>, const T: usize, const BITS: u32>(
        self,
        sums: &mut [[i32; LANES]; T],
        weights: W,
        activations: *const i8,
    ) {
        for group in 0..W::GROUPS {
            // SAFETY: the caller's promise.
            let weights = unsafe { weights.group(self, group) };
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's pointer is valid for 16 bytes a token.
                let activations = unsafe {
                    activations
                        .add((group * T + token) * 4)
                        .cast::<[i8; 4]>()
                        .read()
                };
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    for (weight, activation) in weights.iter().zip(activations) {
                        *sum += i32::from(weight.cast_signed()) * i32::from(activation);
                    }
                }
            }
        }
    }

    unsafe fn splat(self, value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    unsafe fn load(self, from: *const f32) -> [f32; LANES] {
        // SAFETY: the caller's pointer is valid for 16 floats.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }

    unsafe fn store(self, floats: [f32; LANES], to: *mut f32) {
        // SAFETY: the caller's pointer is valid for 16 floats.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(floats) }
    }

    unsafe fn load_f16(self, from: *const u16) -> [f32; LANES] {
        // SAFETY: the caller's pointer is valid for 16 values.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32())
    }

    unsafe fn store_f16(self, floats: [f32; LANES], to: *mut u16) {
        let bits = floats.map(|float| f16::from_f32(float).to_bits());
        // SAFETY: the caller's pointer is valid for 16 values.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    unsafe fn load_bf16(self, from: *const u16) -> [f32; LANES] {
        // SAFETY: the caller's pointer is valid for 16 values.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| bf16::from_bits(bits).to_f32())
    }

    unsafe fn load_u8(self, from: *const u8) -> [f32; LANES] {
        // SAFETY: the caller's pointer is valid for 16 bytes.
        unsafe { from.cast::<[u8; LANES]>().read() }.map(f32::from)
    }

    unsafe fn load_i8(self, from: *const i8) -> [f32; LANES] {
        // SAFETY: the caller's pointer is valid for 16 bytes.
        unsafe { from.cast::<[i8; LANES]>().read() }.map(f32::from)
    }

    unsafe fn to_floats(self, ints: [i32; LANES]) -> [f32; LANES] {
        ints.map(|int| int as f32)
    }

    unsafe fn store_codes(self, floats: [f32; LANES], to: *mut i8) -> i32 {
        let codes = floats.map(|float| float.round_ties_even() as i8);
        // SAFETY: the caller's pointer is valid for 16 bytes.
        unsafe { to.cast::<[i8; LANES]>().write(codes) }
        codes.into_iter().map(i32::from).sum()
    }

    unsafe fn is_finite(self, floats: [f32; LANES]) -> bool {
        floats.into_iter().all(f32::is_finite)
    }

    unsafe fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a + b)
    }

    unsafe fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a - b)
    }

    unsafe fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a * b)
    }

    unsafe fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| a / b)
    }

    unsafe fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    unsafe fn neg_mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| (-a[lane]).mul_add(b[lane], c[lane]))
    }

    unsafe fn max(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    unsafe fn abs(self, a: [f32; LANES]) -> [f32; LANES] {
        a.map(f32::abs)
    }

    unsafe fn round(self, a: [f32; LANES]) -> [f32; LANES] {
        a.map(f32::round_ties_even)
    }

    unsafe fn exp2_whole(self, n: [f32; LANES]) -> [f32; LANES] {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    unsafe fn zero_below(self, a: [f32; LANES], x: [f32; LANES], limit: f32) -> [f32; LANES] {
        zip(a, x, |a, x| if x < limit { 0.0 } else { a })
    }

    unsafe fn max_lanes(self, a: [f32; LANES]) -> f32 {
        let mut greatest = a;
        for distance in [8, 4, 2, 1] {
            for lane in 0..distance {
                let (low, high) = (greatest[lane], greatest[lane + distance]);
                greatest[lane] = if low > high { low } else { high };
            }
        }
        greatest[0]
    }

    unsafe fn mul_add_each<const T: usize>(
        self,
        sums: &mut [[f32; LANES]; T],
        a: [f32; LANES],
        factors: *const f32,
        stride: usize,
    ) {
        for (row, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's pointer is valid for each row's factor.
            let factor = unsafe { factors.add(row * stride).read() };
            for (sum, a) in sum.iter_mut().zip(a) {
                *sum = a.mul_add(factor, *sum);
            }
        }
    }
}
