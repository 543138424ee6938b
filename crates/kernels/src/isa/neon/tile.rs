//! The inner loop of a prompt on NEON, in assembly: unpacked blocks of sixteen rows times those of four tokens.
//!
//! A compiler, short of registers, keeps sums in memory and loads weights too early. Here the tile's sums stay in registers, and
//! rows are taken by eight, or by four where the halves of a block have scales of their own: so the sums of integers fit
//! beside them, and weights are loaded once a block. Four codes of a row are as wide as its scale, so that rows begin at the
//! same byte among both.
//!
//! Sums of integers begin with [`START`] and not with 0. As a float that is 1.5 · 2^23, and what is added to the integer is
//! added to the float, too, as long as it lies between -2^22 and 2^22; 32 products of bytes do. So one subtraction makes a float of a sum, exactly: on a Cortex-A76
//! it takes a quarter of what a conversion does. The beginnings are loaded, as its vector units have more to do than its loads.
//!
//! | registers | |
//! |---|---|
//! | `v0` to `v7` | sums of integers, then the same as floats |
//! | `v8`, `v9` | weights, then scales of their rows, then, of whole blocks, minima |
//! | `v10`, `v11` | activations, then products of scales, or, of halves, minima |
//! | `v12`, `v13` | the tokens' sums of activations, which minima are multiplied with |
//! | `v14` | the tokens' scales |
//! | `v15` | [`START`] |
//! | `v16` to `v31` | sums of floats: four vectors of four rows a token |

use std::arch::asm;

use crate::isa::UnpackedTile;

/// What sums of integers begin with, for the lanes of two vectors.
static START: Start = Start([0x4b40_0000; 8]);

/// In one cache line.
#[repr(align(32))]
struct Start([u32; 8]);

/// Begins the eight sums of integers.
macro_rules! begin {
    () => {
        "ldp q0, q1, [{start}]
         ldp q2, q3, [{start}]
         ldp q4, q5, [{start}]
         ldp q6, q7, [{start}]
        "
    };
}

/// Adds the products of four columns: vectors of weights and of activations, and the sum of each token.
macro_rules! dot {
    ($weights:literal, $activations:literal, $($sum:literal[$token:literal])*) => {
        concat!($(
            "sdot v", $sum, ".4s, v", $weights, ".16b, v", $activations, ".4b[", $token, "]\n",
        )*)
    };
}

/// Makes floats of sums of integers.
macro_rules! to_floats {
    ($($sum:literal)*) => {
        concat!($("fsub v", $sum, ".4s, v", $sum, ".4s, v15.4s\n",)*)
    };
}

/// Adds sums of integers, times scales of rows and scales of tokens, to sums of floats.
macro_rules! add_scaled {
    ($scales:literal, $product:literal, $($to:literal += $sum:literal[$token:literal])*) => {
        concat!($(
            "fmul v", $product, ".4s, v", $scales, ".4s, v14.s[", $token, "]\n",
            to_floats!($sum),
            "fmla v", $to, ".4s, v", $sum, ".4s, v", $product, ".4s\n",
        )*)
    };
}

/// Subtracts minima of rows, times sums of tokens, from sums of floats.
macro_rules! subtract_minima {
    ($minima:literal, $sums:literal, $($to:literal[$token:literal])*) => {
        concat!($(
            "fmls v", $to, ".4s, v", $minima, ".4s, v", $sums, ".s[", $token, "]\n",
        )*)
    };
}

/// Eight rows of a block, from a byte of their vectors on: the sums of the first four rows of each token, and of the others.
macro_rules! eight_rows {
    (
        $byte:literal,
        $a0:literal $a1:literal $a2:literal $a3:literal,
        $b0:literal $b1:literal $b2:literal $b3:literal,
        $minima:ident
    ) => {
        concat!(
            begin!(),
            ".irp pair, 0, 1, 2, 3\n",
            "ldp q10, q11, [{activations}, 32 * \\pair]\n",
            "ldp q8, q9, [{codes}, 128 * \\pair + ", $byte, "]\n",
            dot!(8, 10, 0[0] 1[1] 2[2] 3[3]),
            dot!(9, 10, 4[0] 5[1] 6[2] 7[3]),
            "ldp q8, q9, [{codes}, 128 * \\pair + 64 + ", $byte, "]\n",
            dot!(8, 11, 0[0] 1[1] 2[2] 3[3]),
            dot!(9, 11, 4[0] 5[1] 6[2] 7[3]),
            ".endr\n",
            "ldp q8, q9, [{factors}, ", $byte, "]\n",
            add_scaled!(8, 10, $a0 += 0[0] $a1 += 1[1] $a2 += 2[2] $a3 += 3[3]),
            add_scaled!(9, 11, $b0 += 4[0] $b1 += 5[1] $b2 += 6[2] $b3 += 7[3]),
            $minima!(
                "ldp q8, q9, [{factors}, 128 + ", $byte, "]\n",
                subtract_minima!(8, 12, $a0[0] $a1[1] $a2[2] $a3[3]),
                subtract_minima!(9, 12, $b0[0] $b1[1] $b2[2] $b3[3]),
            ),
        )
    };
}

/// Four rows of a block whose halves have scales of their own, likewise.
macro_rules! four_rows {
    ($byte:literal, $s0:literal $s1:literal $s2:literal $s3:literal, $minima:ident) => {
        concat!(
            begin!(),
            ".irp group, 0, 1, 2, 3\n",
            "ldr q8, [{codes}, 64 * \\group + ", $byte, "]\n",
            "ldr q10, [{activations}, 16 * \\group]\n",
            dot!(8, 10, 0[0] 1[1] 2[2] 3[3]),
            "ldr q9, [{codes}, 256 + 64 * \\group + ", $byte, "]\n",
            "ldr q11, [{activations}, 64 + 16 * \\group]\n",
            dot!(9, 11, 4[0] 5[1] 6[2] 7[3]),
            ".endr\n",
            "ldr q8, [{factors}, ", $byte, "]\n",
            "ldr q9, [{factors}, 64 + ", $byte, "]\n",
            to_floats!(0 1 2 3 4 5 6 7),
            "fmul v0.4s, v0.4s, v8.4s\n",
            "fmul v1.4s, v1.4s, v8.4s\n",
            "fmul v2.4s, v2.4s, v8.4s\n",
            "fmul v3.4s, v3.4s, v8.4s\n",
            "fmla v0.4s, v4.4s, v9.4s\n",
            "fmla v1.4s, v5.4s, v9.4s\n",
            "fmla v2.4s, v6.4s, v9.4s\n",
            "fmla v3.4s, v7.4s, v9.4s\n",
            "fmla v", $s0, ".4s, v0.4s, v14.s[0]\n",
            "fmla v", $s1, ".4s, v1.4s, v14.s[1]\n",
            "fmla v", $s2, ".4s, v2.4s, v14.s[2]\n",
            "fmla v", $s3, ".4s, v3.4s, v14.s[3]\n",
            $minima!(
                "ldr q10, [{factors}, 128 + ", $byte, "]\n",
                "ldr q11, [{factors}, 192 + ", $byte, "]\n",
                subtract_minima!(10, 12, $s0[0] $s1[1] $s2[2] $s3[3]),
                subtract_minima!(11, 13, $s0[0] $s1[1] $s2[2] $s3[3]),
            ),
        )
    };
}

/// The lines for minima, where codes have them.
macro_rules! with {
    ($($line:expr,)*) => { concat!($($line,)*) };
}

/// The same where they have none.
macro_rules! without {
    ($($line:expr,)*) => {
        ""
    };
}

/// All blocks of a tile: how the tokens' sums of activations are loaded, and the rows of a block.
macro_rules! all_blocks {
    ($tile:ident, $load_token_sums:literal, $($rows:expr),*) => {
        asm!(
            "ldr q15, [{start}]",
            "ldp q16, q17, [{sums}]",
            "ldp q18, q19, [{sums}, 32]",
            "ldp q20, q21, [{sums}, 64]",
            "ldp q22, q23, [{sums}, 96]",
            "ldp q24, q25, [{sums}, 128]",
            "ldp q26, q27, [{sums}, 160]",
            "ldp q28, q29, [{sums}, 192]",
            "ldp q30, q31, [{sums}, 224]",
            "2:",
            "ldr q14, [{scales}], 16",
            $load_token_sums,
            $($rows,)*
            "add {codes}, {codes}, 512",
            "add {activations}, {activations}, 128",
            "add {factors}, {factors}, 256",
            "subs {blocks}, {blocks}, 1",
            "b.ne 2b",
            "stp q16, q17, [{sums}]",
            "stp q18, q19, [{sums}, 32]",
            "stp q20, q21, [{sums}, 64]",
            "stp q22, q23, [{sums}, 96]",
            "stp q24, q25, [{sums}, 128]",
            "stp q26, q27, [{sums}, 160]",
            "stp q28, q29, [{sums}, 192]",
            "stp q30, q31, [{sums}, 224]",
            start = in(reg) START.0.as_ptr(),
            codes = inout(reg) $tile.codes => _,
            factors = inout(reg) $tile.factors => _,
            activations = inout(reg) $tile.activations => _,
            scales = inout(reg) $tile.scales => _,
            token_sums = inout(reg) $tile.token_sums => _,
            blocks = inout(reg) $tile.blocks => _,
            sums = in(reg) $tile.sums,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack)
        )
    };
}

/// Blocks with one scale for each row.
macro_rules! plain_blocks {
    ($tile:ident, $minima:ident) => {
        all_blocks!(
            $tile,
            "ldr q12, [{token_sums}], 16",
            eight_rows!(0, 16 20 24 28, 17 21 25 29, $minima),
            eight_rows!(32, 18 22 26 30, 19 23 27 31, $minima)
        )
    };
}

/// Blocks with a scale for each half of a row.
macro_rules! halved_blocks {
    ($tile:ident, $minima:ident) => {
        all_blocks!(
            $tile,
            "ldp q12, q13, [{token_sums}], 32",
            four_rows!(0, 16 20 24 28, $minima),
            four_rows!(16, 17 21 25 29, $minima),
            four_rows!(32, 18 22 26 30, $minima),
            four_rows!(48, 19 23 27 31, $minima)
        )
    };
}

/// Adds the products of all blocks; whether halves of a block have scales of their own, and whether there are minima.
///
/// # Safety
/// The instruction set must be there, the pointers valid for what [`UnpackedTile`] says, and the tile four tokens wide, with
/// a block at least.
#[inline(always)]
pub(super) unsafe fn multiply(tile: UnpackedTile, is_halved: bool, has_minima: bool) {
    // SAFETY: the caller's promise; what is written lies in `sums`.
    unsafe {
        match (is_halved, has_minima) {
            (false, false) => plain_blocks!(tile, without),
            (false, true) => plain_blocks!(tile, with),
            (true, false) => halved_blocks!(tile, without),
            (true, true) => halved_blocks!(tile, with),
        }
    }
}
