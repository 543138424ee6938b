//! Check digits and checksums of numbers and keys.
//!
//! Each takes the text as it was found; signs that only group digits are passed over. Sources are
//! named at each function.

use serde::Deserialize;

/// A check by its name in rule files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    /// The last six characters are a CRC-32 of the rest.
    GithubCrc32,
    /// Mod 11 with weights 10 to 2.
    NhsNumber,
    /// Not a number that was never given out.
    UsSsn,
    /// Two check digits, mod 97.
    FrenchInsee,
    /// A check letter, mod 23.
    SpanishDni,
    /// A check letter from two tables.
    ItalianFiscalCode,
    /// Mod 11 of nine digits.
    DutchBsn,
    /// ISO 7064, mod 11,10.
    GermanTaxId,
    /// Weights 1 3 7 9, mod 10.
    PolishPesel,
    /// Between 8 and 15 digits.
    PhoneDigits,
    /// A day that exists.
    Date,
    /// An address that could belong to somebody.
    PublicIpv4,
    /// Nothing but zeros, `f`s or one repeated pair is no device.
    MacAddress,
    /// At least eight bits set.
    Ipv6,
    /// Not everything is a letter.
    MixedCharacters,
}

impl Check {
    pub(super) fn passes(self, text: &[u8]) -> bool {
        match self {
            Self::GithubCrc32 => github_crc32(text),
            Self::NhsNumber => nhs_number(text),
            Self::UsSsn => us_ssn(text),
            Self::FrenchInsee => french_insee(text),
            Self::SpanishDni => spanish_dni(text),
            Self::ItalianFiscalCode => italian_fiscal_code(text),
            Self::DutchBsn => dutch_bsn(text),
            Self::GermanTaxId => german_tax_id(text),
            Self::PolishPesel => polish_pesel(text),
            Self::PhoneDigits => phone_digits(text),
            Self::Date => date(text),
            Self::PublicIpv4 => public_ipv4(text),
            Self::MacAddress => mac_address(text),
            Self::Ipv6 => ipv6(text),
            Self::MixedCharacters => mixed_characters(text),
        }
    }
}

fn digits(text: &[u8]) -> Vec<u32> {
    let digits = text.iter().filter(|b| b.is_ascii_digit());
    digits.map(|b| u32::from(b - b'0')).collect()
}

/// GitHub, "Behind GitHub's new authentication token formats": six base-62 characters behind
/// thirty random ones, over those.
fn github_crc32(text: &[u8]) -> bool {
    const SUM_CHARS: usize = 6;
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let Some(underscore) = text.iter().position(|b| *b == b'_') else {
        return false;
    };
    let body = &text[underscore + 1..];
    let Some(random_chars) = body.len().checked_sub(SUM_CHARS) else {
        return false;
    };
    let (random, sum) = body.split_at(random_chars);
    let mut value: u64 = 0;
    for byte in sum {
        let Some(digit) = ALPHABET.iter().position(|b| b == byte) else {
            return false;
        };
        value = value * 62 + digit as u64;
    }
    value == u64::from(crc32(random))
}

/// CRC-32 of IEEE 802.3, bit by bit: it sees some forty bytes now and then.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
        }
    }
    !crc
}

/// ISO/IEC 7812-1, annex B.
pub(super) fn has_luhn_digit(digits: &[u32]) -> bool {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let from_right = digits.iter().rev().enumerate();
    let sum: u32 = from_right
        .map(|(index, digit)| {
            if index % 2 == 1 {
                doubled(*digit)
            } else {
                *digit
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// ISO 13616: letters count from 10, the first four characters go to the end.
pub(super) fn has_iban_digits(compact: &[u8]) -> bool {
    if compact.len() < 5 {
        return false;
    }
    let (head, body) = compact.split_at(4);
    let remainder = body.iter().chain(head).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        b'A'..=b'Z' => (rest * 100 + u32::from(byte - b'A') + 10) % 97,
        _ => rest,
    });
    remainder == 1
}

/// NHS Data Dictionary, "NHS number".
fn nhs_number(text: &[u8]) -> bool {
    let digits = digits(text);
    let [body @ .., check] = digits.as_slice() else {
        return false;
    };
    if body.len() != 9 || body.iter().all(|d| *d == body[0]) {
        return false;
    }
    let sum: u32 = body.iter().zip((2..=10).rev()).map(|(d, w)| d * w).sum();
    (11 - sum % 11) % 11 == *check
}

/// Social Security Administration, "Social security number randomization": areas 000, 666 and
/// from 900 on, group 00 and serial 0000 were never given out.
fn us_ssn(text: &[u8]) -> bool {
    let digits = digits(text);
    if digits.len() != 9 {
        return false;
    }
    let number = |part: &[u32]| part.iter().fold(0, |n, d| n * 10 + d);
    let (area, group, serial) = (
        number(&digits[..3]),
        number(&digits[3..5]),
        number(&digits[5..]),
    );
    area != 0 && area != 666 && area < 900 && group != 0 && serial != 0
}

/// INSEE: 97 less the number modulo 97; Corsica's `2A` and `2B` count as 19 and 18.
fn french_insee(text: &[u8]) -> bool {
    let compact: String = text
        .iter()
        .filter(|b| b.is_ascii_alphanumeric())
        .map(|b| char::from(b.to_ascii_uppercase()))
        .collect();
    let numeric = compact.replacen("2A", "19", 1).replacen("2B", "18", 1);
    let (Some(body), Some(check)) = (numeric.get(..13), numeric.get(13..15)) else {
        return false;
    };
    match (body.parse::<u64>(), check.parse::<u64>()) {
        (Ok(body), Ok(check)) => 97 - body % 97 == check,
        _ => false,
    }
}

/// Real Decreto 1553/2005: the letter is the number modulo 23; X, Y, Z of a NIE count as 0, 1, 2.
fn spanish_dni(text: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let compact: Vec<u8> = text
        .iter()
        .filter(|b| b.is_ascii_alphanumeric())
        .map(u8::to_ascii_uppercase)
        .collect();
    let [body @ .., letter] = compact.as_slice() else {
        return false;
    };
    let mut number: usize = 0;
    for (index, byte) in body.iter().enumerate() {
        let digit = match byte {
            b'X' | b'Y' | b'Z' if index == 0 => byte - b'X',
            b'0'..=b'9' => byte - b'0',
            _ => return false,
        };
        number = (number * 10 + usize::from(digit)) % 100_000_000;
    }
    body.len() == 8 && LETTERS[number % LETTERS.len()] == *letter
}

/// Decreto ministeriale 23 dicembre 1976.
fn italian_fiscal_code(text: &[u8]) -> bool {
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let [body @ .., letter] = text else {
        return false;
    };
    let value = |(index, byte): (usize, &u8)| {
        let byte = byte.to_ascii_uppercase();
        let place = if byte.is_ascii_digit() {
            byte - b'0'
        } else {
            byte.saturating_sub(b'A')
        };
        if index.is_multiple_of(2) {
            ODD.get(usize::from(place)).copied().unwrap_or_default()
        } else {
            u32::from(place)
        }
    };
    let sum: u32 = body.iter().enumerate().map(value).sum();
    body.len() == 15 && sum % 26 == u32::from(letter.to_ascii_uppercase().saturating_sub(b'A'))
}

/// Rijksdienst voor Identiteitsgegevens: weights 9 to 2 and -1, mod 11.
fn dutch_bsn(text: &[u8]) -> bool {
    let digits = digits(text);
    let [body @ .., check] = digits.as_slice() else {
        return false;
    };
    let sum: u32 = body.iter().zip((2..=9).rev()).map(|(d, w)| d * w).sum();
    body.len() == 8 && sum > 0 && sum % 11 == *check
}

/// Bundeszentralamt für Steuern: ISO 7064, mod 11,10 over ten digits.
fn german_tax_id(text: &[u8]) -> bool {
    let digits = digits(text);
    let [body @ .., check] = digits.as_slice() else {
        return false;
    };
    if body.len() != 10 || body[0] == 0 {
        return false;
    }
    let product = body.iter().fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == *check
}

/// Ustawa o ewidencji ludności: weights 1 3 7 9.
fn polish_pesel(text: &[u8]) -> bool {
    let digits = digits(text);
    let [body @ .., check] = digits.as_slice() else {
        return false;
    };
    let weights = [1, 3, 7, 9].into_iter().cycle();
    let sum: u32 = body.iter().zip(weights).map(|(d, w)| d * w).sum();
    body.len() == 10 && (10 - sum % 10) % 10 == *check
}

/// ITU-T E.164: at most 15 digits; fewer than 8 are a short or an internal number.
fn phone_digits(text: &[u8]) -> bool {
    let digits = digits(text);
    let varied = digits.iter().any(|d| *d != digits[0]);
    (8..=15).contains(&digits.len()) && varied
}

/// Two numbers of which one is a month and one a day, or a month's name, and a year.
fn date(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let parts: Vec<u32> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let day = |n: u32| (1..=31).contains(&n);
    let month = |n: u32| (1..=12).contains(&n);
    let year = |n: u32| n < 100 || (1900..=2100).contains(&n);
    match parts.as_slice() {
        [a, b, c] => {
            (day(*a) && month(*b) || month(*a) && day(*b)) && year(*c)
                || year(*a) && month(*b) && day(*c)
        }
        [a, b] => day(*a) && year(*b),
        _ => false,
    }
}

/// IANA special-purpose registry: nobody is behind loopback, unspecified, broadcast, multicast or
/// documentation addresses, or behind `1.2.3.4`.
fn public_ipv4(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let octets: Vec<u32> = text.split('.').filter_map(|o| o.parse().ok()).collect();
    let [a, b, c, d] = octets.as_slice() else {
        return false;
    };
    let in_range = octets.iter().all(|o| *o <= 255);
    let nobody = match (*a, *b, *c) {
        (0 | 127 | 224..=255, _, _) | (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => true,
        (1, 2, 3) => *d == 4,
        (169, 254, _) => true,
        _ => *d == 0 && *c == 0,
    };
    // Chapters, versions, and public resolvers such as 8.8.8.8.
    let small = octets.iter().all(|octet| *octet < 16);
    in_range && !nobody && !small
}

fn mac_address(text: &[u8]) -> bool {
    let hex: Vec<u8> = text
        .iter()
        .filter(|b| b.is_ascii_hexdigit())
        .map(u8::to_ascii_lowercase)
        .collect();
    hex.len() == 12 && !hex.chunks(2).all(|pair| pair == &hex[..2])
}

/// RFC 4291: parses, is neither `::` nor `::1` nor for documentation (RFC 3849).
fn ipv6(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Ok(address) = text.parse::<std::net::Ipv6Addr>() else {
        return false;
    };
    let documentation = address.segments()[..2] == [0x2001, 0x0db8];
    address.to_bits().count_ones() >= 8 && !documentation
}

fn mixed_characters(text: &[u8]) -> bool {
    let letters = text.iter().any(u8::is_ascii_alphabetic);
    let digits = text.iter().any(u8::is_ascii_digit);
    letters && digits
}
