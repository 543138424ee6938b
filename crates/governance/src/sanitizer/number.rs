//! Payment cards and IBANs: numbers in printed groups, whose end only their check digits tell.
//!
//! A card has 13 to 19 digits in groups joined by single spaces or dashes, with the prefix and
//! length of an issuer and a right Luhn digit (ISO/IEC 7812-1). Every group but the last has at
//! least three digits, as printed on cards; shorter ones are lists of numbers. Of several
//! readings the longest is taken. An IBAN (ISO 13616) has its country's length.

use super::checksum;

const CARD_DIGITS_MIN: usize = 13;
const CARD_DIGITS_MAX: usize = 19;
/// Fewest digits of a group, except for the last one.
const GROUP_DIGITS_MIN: usize = 3;

/// Characters of cards and IBANs.
pub(super) fn is_number_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase() || is_separator(byte)
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

/// Whether a card may begin with a text, as far as there is one.
pub(super) fn may_be_card(text: &[u8]) -> bool {
    let mut first = text.iter().take(GROUP_DIGITS_MIN);
    first.all(u8::is_ascii_digit)
}

/// Where the longest card that begins with the text ends. `tainted`: what follows the text
/// touches its last group.
pub(super) fn card_end(text: &[u8], tainted: bool) -> Option<usize> {
    let mut digits = [0; CARD_DIGITS_MAX];
    let (mut count, mut in_group) = (0, 0);
    let mut best = None;
    for (offset, byte) in text.iter().enumerate() {
        if is_separator(*byte) {
            if in_group < GROUP_DIGITS_MIN {
                break;
            }
            in_group = 0;
            continue;
        }
        if !byte.is_ascii_digit() || count == CARD_DIGITS_MAX {
            break;
        }
        digits[count] = u32::from(byte - b'0');
        count += 1;
        in_group += 1;
        let next = text.get(offset + 1);
        let closed = next.map_or(!tainted, |next| is_separator(*next));
        if closed && count >= CARD_DIGITS_MIN && is_card(&digits[..count]) {
            best = Some(offset + 1);
        }
    }
    best
}

fn is_card(digits: &[u32]) -> bool {
    has_issuer(digits) && checksum::has_luhn_digit(digits)
}

/// Prefixes and lengths of the networks in use, from the public issuer ranges.
fn has_issuer(digits: &[u32]) -> bool {
    let prefix = digits.iter().take(4).fold(0, |n, d| n * 10 + d);
    let length = digits.len();
    match prefix {
        4000..=4999 => matches!(length, 13 | 16 | 19),
        3400..=3499 | 3700..=3799 => length == 15,
        5100..=5599 | 2221..=2720 => length == 16,
        3000..=3059 | 3095 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&length),
        3528..=3589 => (16..=19).contains(&length),
        6011 | 6440..=6599 | 6200..=6299 => (16..=19).contains(&length),
        5000..=5099 | 5600..=5899 | 6304 | 6759..=6769 => true,
        _ => false,
    }
}

/// Countries and lengths of the IBAN registry (SWIFT, release 99).
const IBAN_LENGTHS: [(&[u8; 2], usize); 79] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
];

/// Where the IBAN that begins with the text ends.
pub(super) fn iban_end(text: &[u8], tainted: bool) -> Option<usize> {
    let country = text.first_chunk::<2>()?;
    let length = IBAN_LENGTHS.iter().find(|(c, _)| *c == country)?.1;
    let mut compact = Vec::with_capacity(length);
    let mut separated = true;
    for (offset, byte) in text.iter().enumerate() {
        if is_separator(*byte) {
            if separated {
                return None;
            }
            separated = true;
            continue;
        }
        separated = false;
        compact.push(*byte);
        if compact.len() == length {
            let next = text.get(offset + 1);
            let closed = next.map_or(!tainted, |next| is_separator(*next));
            return (closed && checksum::has_iban_digits(&compact)).then_some(offset + 1);
        }
    }
    None
}
