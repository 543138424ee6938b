//! Where the bits of weights lie: blocks of 32 columns of sixteen rows.
//!
//! A *word* is four bytes of one row, one for each of four consecutive columns; eight words are a row's block. A *group* is the
//! same word of sixteen rows, 64 bytes: what one dot-product instruction takes. Weights below eight bits share bytes:
//! a byte keeps its row and its column modulo four, so that unpacking is a shift and a mask of whole vectors.
//!
//! | codes of | layout of a block |
//! |---|---|
//! | 8 bits | groups 0 to 7 |
//! | 4 bits | 4 groups: the low nibbles are groups 0 to 3, the high ones 4 to 7 |
//! | 2 bits | 2 groups: bits `2g` of the first are group `g`, of the second group `4 + g` |
//! | 1 bit | 1 group: bit `g` is group `g` |
//!
//! Codes of 3, 5 and 6 bits are the 2 + 1, 4 + 1 and 4 + 2 of these, the low bits first.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::cmp::Ordering;

use crate::isa::{Centred, Isa, each};
use crate::memory::LINE_BYTES;

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;
/// Words of a row's block.
const WORDS: usize = BLOCK / 4;

/// Two halves of a block, four groups each.
pub(crate) type Quads<S> = [[<S as Isa>::Bytes; 4]; 2];

/// A layout of codes.
pub(crate) trait Bits {
    /// Groups that a block takes.
    const GROUPS: usize;
    /// How far unpacked codes are shifted up, where they are: those of centred formats by as much as brings their top bit
    /// to the byte's.
    const UP: u32 = 0;
    /// Bytes that a block takes.
    const BYTES: usize = Self::GROUPS * LINE_BYTES;

    /// Makes the words of one row from its codes (a byte each); gives the first [`Bits::GROUPS`].
    fn pack(codes: [u32; WORDS]) -> [u32; WORDS];

    /// The codes of a block; centred ones as [`Isa::dot`] takes them.
    ///
    /// # Safety
    /// `from` must be valid for [`Bits::BYTES`], and the instruction set must be there.
    unsafe fn unpack<S: Isa>(isa: S, from: *const u8) -> Quads<S>;
}

/// How far codes are shifted up for an instruction set, if `up` brings their top bit to the byte's.
#[inline(always)]
pub(super) fn moved_up<S: Isa>(up: u32) -> u32 {
    match S::CENTRED {
        Centred::Signed | Centred::Biased => up,
        Centred::Stored => 0,
    }
}

const fn each_byte(bits: u8) -> u32 {
    u32::from_le_bytes([bits; 4])
}

fn nibbles(codes: &[u32; WORDS], packed: &mut [u32; WORDS]) {
    for i in 0..4 {
        packed[i] = codes[i] & each_byte(15) | (codes[i + 4] & each_byte(15)) << 4;
    }
}

/// Bits `shift` and `shift + 1` of the codes, in two words from `at` on.
fn pairs(codes: &[u32; WORDS], shift: u32, packed: &mut [u32; WORDS], at: usize) {
    for (g, code) in codes.iter().enumerate() {
        packed[at + g / 4] |= ((code >> shift) & each_byte(3)) << (2 * (g % 4));
    }
}

/// Bit `shift` of the codes, in one word.
fn singles(codes: &[u32; WORDS], shift: u32) -> u32 {
    (0..WORDS).fold(0, |word, g| {
        word | ((codes[g] >> shift) & each_byte(1)) << g
    })
}

/// Which bits of packed bytes become the top bits of centred codes: `bits`, if the codes are centred.
const fn tops(bits: u8, up: u32) -> u8 {
    if up == 0 { 0 } else { bits }
}

/// The same of the low bits of codes, which have the top ones only where there are no `high` bits.
const fn low_tops(bits: u8, high: u32, up: u32) -> u8 {
    if high == 0 { tops(bits, up) } else { 0 }
}

/// A group, with its top bits as [`Isa::dot`] wants them: while they share bytes, that is a fraction of the work.
///
/// # Safety
/// As [`Bits::unpack`], for 64 bytes.
#[inline(always)]
unsafe fn load<S: Isa>(isa: S, from: *const u8, tops: u8) -> S::Bytes {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = isa.load_bytes(from);
        if tops == 0 {
            bytes
        } else {
            isa.accept_biased(bytes, tops)
        }
    }
}

/// Nibbles, moved to bit `to` of the codes.
///
/// # Safety
/// As [`Bits::unpack`], for 256 bytes.
#[inline(always)]
unsafe fn unpack_nibbles<S: Isa>(isa: S, from: *const u8, to: u32, tops: u8) -> Quads<S> {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes: [S::Bytes; 4] = each!(4, i => load(isa, from.add(i * LINE_BYTES), tops));
        [
            each!(4, i => move_bits(isa, bytes[i], 0, to, 15)),
            each!(4, i => move_bits(isa, bytes[i], 4, to, 15)),
        ]
    }
}

/// Pairs of bits, moved to bit `to` of the codes.
///
/// # Safety
/// As [`Bits::unpack`], for 128 bytes.
#[inline(always)]
unsafe fn unpack_pairs<S: Isa>(isa: S, from: *const u8, to: u32, tops: u8) -> Quads<S> {
    // SAFETY: the caller's promise.
    unsafe {
        each!(2, half => {
            let bytes = load(isa, from.add(half * LINE_BYTES), tops);
            each!(4, g => move_bits(isa, bytes, 2 * g, to, 3))
        })
    }
}

/// Single bits, moved to bit `to` of the codes.
///
/// # Safety
/// As [`Bits::unpack`], for 64 bytes.
#[inline(always)]
unsafe fn unpack_singles<S: Isa>(isa: S, from: *const u8, to: u32, tops: u8) -> Quads<S> {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = load(isa, from, tops);
        each!(2, half => each!(4, g => move_bits(isa, bytes, 4 * half + g, to, 1)))
    }
}

/// The bits of `mask << from` in each byte, moved to `mask << to`.
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
unsafe fn move_bits<S: Isa>(isa: S, bytes: S::Bytes, from: u32, to: u32, mask: u8) -> S::Bytes {
    // SAFETY: the caller's promise.
    unsafe {
        let moved = match from.cmp(&to) {
            Ordering::Greater => isa.shift_right(bytes, from - to),
            Ordering::Equal => bytes,
            Ordering::Less => isa.shift_left(bytes, to - from),
        };
        isa.mask(moved, mask << to)
    }
}

/// # Safety
/// The instruction set must be there.
#[inline(always)]
unsafe fn join<S: Isa>(isa: S, a: Quads<S>, b: Quads<S>) -> Quads<S> {
    // SAFETY: the caller's promise.
    unsafe { each!(2, half => each!(4, g => isa.or(a[half][g], b[half][g]))) }
}

/// Codes whose low bits are nibbles, and `HIGH` more bits.
pub(crate) struct Nibbles<const HIGH: u32, const UP: u32>;

/// Codes whose low bits are pairs, and `HIGH` more bits.
pub(crate) struct Pairs<const HIGH: u32, const UP: u32>;

impl<const HIGH: u32, const UP: u32> Bits for Nibbles<HIGH, UP> {
    const UP: u32 = UP;
    const GROUPS: usize = 4 + HIGH as usize;

    fn pack(codes: [u32; WORDS]) -> [u32; WORDS] {
        let mut packed = [0; WORDS];
        nibbles(&codes, &mut packed);
        more::<HIGH>(&codes, 4, &mut packed, 4);
        packed
    }

    #[inline(always)]
    unsafe fn unpack<S: Isa>(isa: S, from: *const u8) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let up = moved_up::<S>(UP);
            let low = unpack_nibbles(isa, from, up, low_tops(0x88, HIGH, up));
            let high = from.wrapping_add(4 * LINE_BYTES);
            unpack_more::<S, HIGH>(isa, low, high, 4, up)
        }
    }
}

impl<const HIGH: u32, const UP: u32> Bits for Pairs<HIGH, UP> {
    const UP: u32 = UP;
    const GROUPS: usize = 2 + HIGH as usize;

    fn pack(codes: [u32; WORDS]) -> [u32; WORDS] {
        let mut packed = [0; WORDS];
        pairs(&codes, 0, &mut packed, 0);
        more::<HIGH>(&codes, 2, &mut packed, 2);
        packed
    }

    #[inline(always)]
    unsafe fn unpack<S: Isa>(isa: S, from: *const u8) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let up = moved_up::<S>(UP);
            let low = unpack_pairs(isa, from, up, low_tops(0xaa, HIGH, up));
            let high = from.wrapping_add(2 * LINE_BYTES);
            unpack_more::<S, HIGH>(isa, low, high, 2, up)
        }
    }
}

/// Packs the `HIGH` bits from `shift` on, in words from `at` on: as many words as bits.
fn more<const HIGH: u32>(codes: &[u32; WORDS], shift: u32, packed: &mut [u32; WORDS], at: usize) {
    match HIGH {
        0 => {}
        1 => packed[at] = singles(codes, shift),
        _ => pairs(codes, shift, packed, at),
    }
}

/// Adds the `HIGH` bits at bit `at` of the codes, which are shifted up.
///
/// # Safety
/// As [`Bits::unpack`], for as many groups as bits.
#[inline(always)]
unsafe fn unpack_more<S: Isa, const HIGH: u32>(
    isa: S,
    low: Quads<S>,
    from: *const u8,
    at: u32,
    up: u32,
) -> Quads<S> {
    // SAFETY: the caller's promise.
    unsafe {
        match HIGH {
            0 => low,
            1 => join(isa, low, unpack_singles(isa, from, at + up, tops(0xff, up))),
            _ => join(isa, low, unpack_pairs(isa, from, at + up, tops(0xaa, up))),
        }
    }
}

/// Signed bytes.
pub(crate) struct EightBits;

impl Bits for EightBits {
    const GROUPS: usize = 8;

    fn pack(codes: [u32; WORDS]) -> [u32; WORDS] {
        codes
    }

    #[inline(always)]
    unsafe fn unpack<S: Isa>(isa: S, from: *const u8) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            each!(2, half => each!(4, g => isa.load_bytes(from.add((4 * half + g) * LINE_BYTES))))
        }
    }
}
