//! The quantized formats: how each is read from a file's blocks, and which layouts it is packed into.
#![expect(unsafe_code, reason = "codes in vectors")]

use crate::format::{Format, IQ4_NL_VALUES};
use crate::isa::{Isa, LANES, each};
use crate::specification::{k_scale_min, q3_k_scale};

use super::bits::{Bits, EightBits, Nibbles, Pairs, Quads};
use super::scales::{Plain, PlainMin, Scales, SuperHalved, SuperHalvedMin, SuperMin};

/// Codes of one row's block of 32 columns: a byte each.
type Codes = [u32; 8];

/// What a product must know of a format.
pub(crate) trait Kind {
    /// Bits of a code.
    const BITS: u32;
    /// Whether the middle of the codes stands for zero; else a minimum is subtracted, and codes are below 64.
    const CENTRED: bool;
    /// Whether the halves of a block have scales of their own.
    const HALVED: bool;
}

/// Centred codes; of 8 bits, signed bytes.
pub(crate) struct Signed<const BITS: u32, const HALVED: bool>;

/// Unsigned codes, with a minimum.
pub(crate) struct Unsigned<const BITS: u32, const HALVED: bool>;

impl<const BITS: u32, const HALVED: bool> Kind for Signed<BITS, HALVED> {
    const BITS: u32 = BITS;
    const CENTRED: bool = true;
    const HALVED: bool = HALVED;
}

impl<const BITS: u32, const HALVED: bool> Kind for Unsigned<BITS, HALVED> {
    const BITS: u32 = BITS;
    const CENTRED: bool = false;
    const HALVED: bool = HALVED;
}

/// A quantized format. A weight is `scale · code - min`.
///
/// Centred formats store `code + 2^(bits - 1)` in a few bits. Shifted up, so that the top bit is the byte's, that is a byte
/// with a bias of 128, and `2^Bits::UP` times too large; the scale takes this back, exactly. Where codes are not shifted, see
/// [`Centred::Stored`](crate::isa::Centred::Stored), the sums of activations take the bias back.
pub(crate) trait Layout {
    /// The codes' place.
    type Bits: Bits;
    /// The scales' place.
    type Scales: Scales;
    /// What a product must know.
    type Kind: Kind;
    /// The stored format.
    const FORMAT: Format;

    /// The codes of block `block` of 32 columns, from the stored block that it lies in.
    fn codes(stored: &[u8], block: usize) -> Codes;

    /// Writes the scales of a stored block into lane `lane` of a run, in which its first block is `block`.
    fn put_scales(stored: &[u8], block: usize, lane: usize, run: &mut [u8]);

    /// Turns unpacked codes into what [`Isa::dot`] takes, where the codes are not yet that.
    ///
    /// # Safety
    /// The instruction set must be there.
    #[inline(always)]
    unsafe fn finish<S: Isa>(_: S, codes: Quads<S>) -> Quads<S> {
        codes
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn codes_of(word_of_group: impl Fn(usize) -> u32) -> Codes {
    std::array::from_fn(word_of_group)
}

const ONES: u32 = 0x0101_0101;

/// Nibbles in the order of the 32-element formats: the low ones first.
fn nibble_codes(quants: &[u8]) -> Codes {
    codes_of(|g| (word(quants, g % 4 * 4) >> (4 * (g / 4))) & (15 * ONES))
}

/// Nibbles with a fifth bit from 32 bits before them.
fn five_bit_codes(high_and_quants: &[u8]) -> Codes {
    let high = word(high_and_quants, 0);
    let low = nibble_codes(&high_and_quants[4..]);
    // The multiplication puts bit b of four into byte b.
    let spread = |g: usize| (((high >> (4 * g)) & 15) * 0x0020_4081) & ONES;
    codes_of(|g| low[g] | spread(g) << 4)
}

fn put(run: &mut [u8], index: usize, half: [u8; 2]) {
    run[2 * index..2 * index + 2].copy_from_slice(&half);
}

fn half(stored: &[u8], at: usize) -> [u8; 2] {
    [stored[at], stored[at + 1]]
}

/// A number in half precision with the other sign: files add the minimum of these formats, kernels subtract.
fn negated(half: [u8; 2]) -> [u8; 2] {
    [half[0], half[1] ^ 0x80]
}

pub(crate) struct Q4_0;

impl Layout for Q4_0 {
    type Bits = Nibbles<0, 4>;
    type Scales = Plain;
    type Kind = Signed<4, false>;
    const FORMAT: Format = Format::Q4_0;

    fn codes(stored: &[u8], _: usize) -> Codes {
        nibble_codes(&stored[2..])
    }

    fn put_scales(stored: &[u8], block: usize, lane: usize, run: &mut [u8]) {
        put(run, block * LANES + lane, half(stored, 0));
    }
}

pub(crate) struct Q4_1;

impl Layout for Q4_1 {
    type Bits = Nibbles<0, 0>;
    type Scales = PlainMin;
    type Kind = Unsigned<4, false>;
    const FORMAT: Format = Format::Q4_1;

    fn codes(stored: &[u8], _: usize) -> Codes {
        nibble_codes(&stored[4..])
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put(run, lane, half(stored, 0));
        put(run, LANES + lane, negated(half(stored, 2)));
    }
}

pub(crate) struct Q5_0;

impl Layout for Q5_0 {
    type Bits = Nibbles<1, 3>;
    type Scales = Plain;
    type Kind = Signed<5, false>;
    const FORMAT: Format = Format::Q5_0;

    fn codes(stored: &[u8], _: usize) -> Codes {
        five_bit_codes(&stored[2..])
    }

    fn put_scales(stored: &[u8], block: usize, lane: usize, run: &mut [u8]) {
        put(run, block * LANES + lane, half(stored, 0));
    }
}

pub(crate) struct Q5_1;

impl Layout for Q5_1 {
    type Bits = Nibbles<1, 0>;
    type Scales = PlainMin;
    type Kind = Unsigned<5, false>;
    const FORMAT: Format = Format::Q5_1;

    fn codes(stored: &[u8], _: usize) -> Codes {
        five_bit_codes(&stored[4..])
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put(run, lane, half(stored, 0));
        put(run, LANES + lane, negated(half(stored, 2)));
    }
}

pub(crate) struct Q8_0;

impl Layout for Q8_0 {
    type Bits = EightBits;
    type Scales = Plain;
    type Kind = Signed<8, false>;
    const FORMAT: Format = Format::Q8_0;

    fn codes(stored: &[u8], _: usize) -> Codes {
        codes_of(|g| word(stored, 2 + 4 * g))
    }

    fn put_scales(stored: &[u8], block: usize, lane: usize, run: &mut [u8]) {
        put(run, block * LANES + lane, half(stored, 0));
    }

    #[inline(always)]
    unsafe fn finish<S: Isa>(isa: S, codes: Quads<S>) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe { each!(2, half => each!(4, g => isa.accept_signed(codes[half][g]))) }
    }
}

pub(crate) struct Iq4Nl;

impl Layout for Iq4Nl {
    type Bits = Nibbles<0, 0>;
    type Scales = Plain;
    type Kind = Signed<8, false>;
    const FORMAT: Format = Format::IQ4_NL;

    fn codes(stored: &[u8], _: usize) -> Codes {
        nibble_codes(&stored[2..])
    }

    fn put_scales(stored: &[u8], block: usize, lane: usize, run: &mut [u8]) {
        put(run, block * LANES + lane, half(stored, 0));
    }

    #[inline(always)]
    unsafe fn finish<S: Isa>(isa: S, codes: Quads<S>) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe {
            each!(2, half => each!(4, g => isa.accept_signed(isa.look_up(codes[half][g], &IQ4_NL_VALUES))))
        }
    }
}

pub(crate) struct Q2K;

impl Layout for Q2K {
    type Bits = Pairs<0, 0>;
    type Scales = SuperHalvedMin;
    type Kind = Unsigned<2, true>;
    const FORMAT: Format = Format::Q2_K;

    fn codes(stored: &[u8], block: usize) -> Codes {
        let (at, shift) = (16 + block / 4 * 32, 2 * (block % 4));
        codes_of(|g| (word(stored, at + 4 * g) >> shift) & (3 * ONES))
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put(run, lane, half(stored, 80));
        put(run, LANES + lane, half(stored, 82));
        for (j, &both) in stored[..16].iter().enumerate() {
            run[SuperHalvedMin::SCALES + j * LANES + lane] = both;
        }
    }
}

pub(crate) struct Q3K;

impl Layout for Q3K {
    type Bits = Pairs<1, 5>;
    type Scales = SuperHalved;
    type Kind = Signed<3, true>;
    const FORMAT: Format = Format::Q3_K;

    fn codes(stored: &[u8], block: usize) -> Codes {
        let (at, shift) = (32 + block / 4 * 32, 2 * (block % 4));
        codes_of(|g| {
            let low = (word(stored, at + 4 * g) >> shift) & (3 * ONES);
            let high = (word(stored, 4 * g) >> block) & ONES;
            low | high << 2
        })
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put(run, lane, half(stored, 108));
        for j in 0..16 {
            let scale = q3_k_scale(&stored[96..108], j);
            run[SuperHalved::SCALES + j * LANES + lane] = scale.cast_unsigned();
        }
    }
}

fn put_scales_and_mins(stored: &[u8], lane: usize, run: &mut [u8]) {
    put(run, lane, half(stored, 0));
    put(run, LANES + lane, half(stored, 2));
    for j in 0..8 {
        let (scale, min) = k_scale_min(&stored[4..16], j);
        run[SuperMin::SCALES + j * LANES + lane] = scale;
        run[SuperMin::MINS + j * LANES + lane] = min;
    }
}

pub(crate) struct Q4K;

impl Layout for Q4K {
    type Bits = Nibbles<0, 0>;
    type Scales = SuperMin;
    type Kind = Unsigned<4, false>;
    const FORMAT: Format = Format::Q4_K;

    fn codes(stored: &[u8], block: usize) -> Codes {
        let (at, shift) = (16 + block / 2 * 32, 4 * (block % 2));
        codes_of(|g| (word(stored, at + 4 * g) >> shift) & (15 * ONES))
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put_scales_and_mins(stored, lane, run);
    }
}

pub(crate) struct Q5K;

impl Layout for Q5K {
    type Bits = Nibbles<1, 0>;
    type Scales = SuperMin;
    type Kind = Unsigned<5, false>;
    const FORMAT: Format = Format::Q5_K;

    fn codes(stored: &[u8], block: usize) -> Codes {
        let (at, shift) = (48 + block / 2 * 32, 4 * (block % 2));
        codes_of(|g| {
            let low = (word(stored, at + 4 * g) >> shift) & (15 * ONES);
            let high = (word(stored, 16 + 4 * g) >> block) & ONES;
            low | high << 4
        })
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put_scales_and_mins(stored, lane, run);
    }
}

pub(crate) struct Q6K;

impl Layout for Q6K {
    type Bits = Nibbles<2, 2>;
    type Scales = SuperHalved;
    type Kind = Signed<6, true>;
    const FORMAT: Format = Format::Q6_K;

    fn codes(stored: &[u8], block: usize) -> Codes {
        let (part, within) = (block / 4, block % 4);
        codes_of(|g| {
            let low = word(stored, part * 64 + within % 2 * 32 + 4 * g) >> (4 * (within / 2));
            let high = word(stored, 128 + part * 32 + 4 * g) >> (2 * within);
            low & (15 * ONES) | (high & (3 * ONES)) << 4
        })
    }

    fn put_scales(stored: &[u8], _: usize, lane: usize, run: &mut [u8]) {
        put(run, lane, half(stored, 208));
        for (j, &scale) in stored[192..208].iter().enumerate() {
            run[SuperHalved::SCALES + j * LANES + lane] = scale;
        }
    }
}
