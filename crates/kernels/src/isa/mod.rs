//! Instruction sets, as capabilities that exist only where the processor has them.
//!
//! A kernel is written once, over the vectors of [`Isa`]: sixteen rows of a matrix stand side by side in
//! sixteen lanes. [`Cpu`] is the token: only [`Cpu::detect`] makes one of a vector kind, after it
//! has asked the processor. [`Cpu::run`] enters the instruction set and runs a [`Kernel`] there.
//!
//! Invariant: integer results are equal, and float results equal bit for bit, on every
//! instruction set, because the order of the operations is the kernel's and each operation is exact IEEE
//! (multiply-add is fused everywhere). The scalar one is the specification that tests compare the others with.
//!
//! What is absent: any choice by matrix size or format; that is the kernels' own.

#![expect(unsafe_code, reason = "kernels are entered by pointer and capability")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

/// An array of two or four, by an expression of the index. Closures, as `array::map` takes them, would be functions of
/// their own, compiled without the instruction set.
macro_rules! each {
    (2, $index:ident => $value:expr) => {
        [
            {
                let $index = 0;
                $value
            },
            {
                let $index = 1;
                $value
            },
        ]
    };
    (4, $index:ident => $value:expr) => {
        [
            {
                let $index = 0;
                $value
            },
            {
                let $index = 1;
                $value
            },
            {
                let $index = 2;
                $value
            },
            {
                let $index = 3;
                $value
            },
        ]
    };
}
pub(crate) use each;

/// A body for each number below a constant of at most 8. A loop might not be unrolled, and one that is not chooses elements
/// of vectors anew, and reads weights by their number from a copy in memory.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! each_below {
    ($count:expr, $index:ident => $body:block) => {
        each_below!($count, $index => $body, 0 1 2 3 4 5 6 7)
    };
    ($count:expr, $index:ident => $body:block, $($number:literal)*) => {
        {
            $(
                if $number < $count {
                    let $index: usize = $number;
                    $body
                }
            )*
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use each_below;

/// Rows of a matrix that are computed side by side.
pub(crate) const LANES: usize = 16;

/// How an instruction set takes codes of which the middle stands for zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "unsigned codes are for x86-64")
)]
pub(crate) enum Centred {
    /// Moved up to the top of their byte, as signed bytes.
    Signed,
    /// The same with a bias of 128, as unsigned bytes.
    Biased,
    /// Below 8 bits where they are, as unsigned bytes, with half their range as bias; of 8 bits as signed bytes.
    Stored,
}

/// Sixteen lanes of bytes (four each), integers and floats.
///
/// # Safety
/// Every method may be called only where the instruction set is there, which [`Cpu::run`] sees to; pointers must be
/// valid for the bytes that the method names. None needs an alignment.
pub(crate) trait Isa: Copy {
    /// Four bytes a lane: four consecutive columns of sixteen rows.
    type Bytes: Copy;
    /// An `i32` a lane.
    type Ints: Copy;
    /// An `f32` a lane.
    type Floats: Copy;

    /// How [`Isa::dot`] takes centred codes.
    const CENTRED: Centred;
    /// Most tokens that one kernel multiplies at a time: as many as leave room in the registers.
    const TILE: usize;
    /// Most tokens that are multiplied with codes as they come from memory, which are unpacked anew for each tile; for more
    /// tokens, codes are stored unpacked first. At least half a tile, as a narrower tile is not for unpacked codes.
    const FEW_TOKENS_MAX: usize;
    /// Most bytes of activations that are walked over again for each panel: those of a cache that keeps up with it.
    const ACTIVATION_BYTES_MAX: usize;
    /// Vectors of floats that stay in registers as sums, beside what a multiply-add reads.
    const FLOAT_SUMS_MAX: usize;

    /// Runs a kernel as a function of its own: what is inlined ends here.
    unsafe fn enter<K: Kernel>(self, kernel: K) -> K::Output;
    /// Asks for a cache line that will be read soon; the address need not be valid.
    fn prefetch(self, from: *const u8);
    /// Loads 64 bytes.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Bytes;
    /// Stores 64 bytes.
    unsafe fn store_bytes(self, bytes: Self::Bytes, to: *mut u8);
    /// Bitwise and with the same byte everywhere.
    unsafe fn mask(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes;
    /// Bitwise or.
    unsafe fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Shifts each byte to the right, zeros coming in; `count` below 8.
    unsafe fn shift_right(self, bytes: Self::Bytes, count: u32) -> Self::Bytes;
    /// Shifts each byte to the left, zeros coming in; `count` below 8.
    unsafe fn shift_left(self, bytes: Self::Bytes, count: u32) -> Self::Bytes;
    /// Replaces each byte (below 16) by the table's entry.
    unsafe fn look_up(self, bytes: Self::Bytes, table: &[i8; 16]) -> Self::Bytes;
    /// Makes signed bytes into what [`Isa::dot`] wants of weights of 8 bits.
    unsafe fn accept_signed(self, bytes: Self::Bytes) -> Self::Bytes;
    /// Makes codes with a bias of 128, of which several share a byte, into what [`Isa::dot`] wants; `tops` says which bits
    /// of a byte become the codes' top bits.
    #[inline(always)]
    unsafe fn accept_biased(self, bytes: Self::Bytes, tops: u8) -> Self::Bytes {
        let _ = tops;
        bytes
    }

    /// The same integer in every lane.
    unsafe fn splat_ints(self, value: i32) -> Self::Ints;
    /// Adds, for each of `T` tokens, the products of four columns a group of weights, which are codes of `BITS` bits, centred
    /// ones as [`Isa::CENTRED`] says; `activations` points to `[W::GROUPS][T][4]` bytes in `-127..=127`.
    unsafe fn dot<W: Weights<Self>, const T: usize, const BITS: u32>(
        self,
        sums: &mut [Self::Ints; T],
        weights: W,
        activations: *const i8,
    );
    /// Adds the products of unpacked blocks with a tile of [`Isa::TILE`] tokens, if the instruction set has a loop of its own for
    /// that; says whether it has.
    #[inline(always)]
    unsafe fn multiply_tile(self, tile: UnpackedTile, is_halved: bool, has_minima: bool) -> bool {
        let _ = (tile, is_halved, has_minima);
        false
    }

    /// The same float in every lane.
    unsafe fn splat(self, value: f32) -> Self::Floats;
    /// Loads 16 floats.
    unsafe fn load(self, from: *const f32) -> Self::Floats;
    /// Stores 16 floats.
    unsafe fn store(self, floats: Self::Floats, to: *mut f32);
    /// Stores 16 floats that nobody reads soon: past the caches where the instruction set can, and `to` is a cache line.
    /// Other threads see them after [`Isa::finish_streams`].
    #[inline(always)]
    unsafe fn stream(self, floats: Self::Floats, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store(floats, to) }
    }
    /// Puts what was streamed before what is stored after.
    #[inline(always)]
    unsafe fn finish_streams(self) {}
    /// Loads 16 half-precision floats.
    unsafe fn load_f16(self, from: *const u16) -> Self::Floats;
    /// Stores 16 half-precision floats, rounded to nearest, ties to even.
    unsafe fn store_f16(self, floats: Self::Floats, to: *mut u16);
    /// Loads 16 floats of which the file keeps the upper half (bfloat16).
    unsafe fn load_bf16(self, from: *const u16) -> Self::Floats;
    /// Loads 16 unsigned bytes.
    unsafe fn load_u8(self, from: *const u8) -> Self::Floats;
    /// Loads 16 signed bytes.
    unsafe fn load_i8(self, from: *const i8) -> Self::Floats;
    /// Integers as floats; exact below 2^24.
    unsafe fn to_floats(self, ints: Self::Ints) -> Self::Floats;
    /// Floats in `-127..=127`, rounded to the nearest integer, ties to even, and stored as 16 bytes; gives their sum.
    unsafe fn store_codes(self, floats: Self::Floats, to: *mut i8) -> i32;
    /// Whether no lane is infinite or NaN.
    unsafe fn is_finite(self, floats: Self::Floats) -> bool;
    /// `a + b`.
    unsafe fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a - b`.
    unsafe fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b`.
    unsafe fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a / b`.
    unsafe fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a * b`, rounded once.
    unsafe fn neg_mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The greater of each pair; `b` where they do not compare.
    unsafe fn max(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Absolute values.
    unsafe fn abs(self, a: Self::Floats) -> Self::Floats;
    /// The nearest whole numbers, ties to even.
    unsafe fn round(self, a: Self::Floats) -> Self::Floats;
    /// `2^n` for whole `n` in `-126..=127`.
    unsafe fn exp2_whole(self, n: Self::Floats) -> Self::Floats;
    /// `a`, but 0 in lanes where `x` is below `limit`.
    unsafe fn zero_below(self, a: Self::Floats, x: Self::Floats, limit: f32) -> Self::Floats;
    /// The greatest lane, found by [`Isa::max`] of each lane and the one 8 further, then 4, 2 and 1.
    unsafe fn max_lanes(self, a: Self::Floats) -> f32;
    /// `sums[row] += a * factors[row * stride]`, each rounded once. With a stride of 1, `factors` must be readable up to a
    /// multiple of four rows.
    unsafe fn mul_add_each<const T: usize>(
        self,
        sums: &mut [Self::Floats; T],
        a: Self::Floats,
        factors: *const f32,
        stride: usize,
    );
}

/// Some groups of weights, each four columns of sixteen rows: taken one by one, as registers are few.
pub(crate) trait Weights<S: Isa>: Copy {
    /// How many there are; a multiple of four, eight at most.
    const GROUPS: usize;

    /// One of them.
    ///
    /// # Safety
    /// `index` must be below [`Weights::GROUPS`], and the instruction set must be there.
    unsafe fn group(self, isa: S, index: usize) -> S::Bytes;
}

/// Some blocks of 32 columns of sixteen rows, unpacked, and those of a tile of tokens.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(target_arch = "aarch64"),
    expect(dead_code, reason = "only NEON has a loop of its own")
)]
pub(crate) struct UnpackedTile {
    /// How many blocks there are; not 0.
    pub(crate) blocks: usize,
    /// `[blocks][8 groups][64]`, as [`Isa::dot`] takes them.
    pub(crate) codes: *const u8,
    /// `[blocks][2 scales, 2 minima][16]`; what the weights do not have is not initialized.
    pub(crate) factors: *const f32,
    /// `[blocks][8 groups][tokens][4]`.
    pub(crate) activations: *const i8,
    /// `[blocks][tokens]`.
    pub(crate) scales: *const f32,
    /// What minima are multiplied with: `[blocks][tokens]`; `[blocks][2][tokens]` where the halves have minima of their own.
    pub(crate) token_sums: *const f32,
    /// `[tokens][16]`.
    pub(crate) sums: *mut f32,
}

/// A computation that runs on any instruction set.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;
    /// Runs it; must be `#[inline(always)]`, so that it is compiled for the instruction set.
    ///
    /// # Safety
    /// The instruction set must be there.
    unsafe fn run<S: Isa>(self, isa: S) -> Self::Output;
}

/// How many tokens an instruction set takes at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    /// [`Isa::TILE`]
    pub(crate) tile: usize,
    /// [`Isa::FEW_TOKENS_MAX`]
    pub(crate) few_tokens_max: usize,
}

/// The instruction set that kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
}

impl Cpu {
    /// The best that this processor has.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().pop().unwrap_or(Self::scalar())
    }

    /// All that this processor has, the best last.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::scalar()];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::is_there() {
                all.push(Self(Kind::Avx2));
            }
            if avx512::is_there() {
                all.push(Self(Kind::Avx512Vnni));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon::is_there() {
            all.push(Self(Kind::NeonDotprod));
        }
        all
    }

    /// Plain Rust, everywhere.
    #[must_use]
    pub fn scalar() -> Self {
        Self(Kind::Scalar)
    }

    /// The name for records: `scalar`, `avx2`, `avx512-vnni` or `neon-dotprod`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDotprod => "neon-dotprod",
        }
    }

    /// What is known of this instruction set without entering it.
    pub(crate) fn widths(self) -> Widths {
        struct Look;
        impl Kernel for Look {
            type Output = Widths;

            #[inline(always)]
            unsafe fn run<S: Isa>(self, _: S) -> Widths {
                Widths {
                    tile: S::TILE,
                    few_tokens_max: S::FEW_TOKENS_MAX,
                }
            }
        }
        // SAFETY: it only looks at constants.
        unsafe { self.run(Look) }
    }

    /// Runs a kernel on this instruction set.
    ///
    /// # Safety
    /// What the kernel itself asks for.
    #[inline]
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a vector kind is made only by `all`, after the processor said that it has it.
        unsafe {
            match self.0 {
                Kind::Scalar => kernel.run(scalar::Scalar),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => avx2::enter(kernel),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512Vnni => avx512::enter(kernel),
                #[cfg(target_arch = "aarch64")]
                Kind::NeonDotprod => neon::enter(kernel),
            }
        }
    }
}
