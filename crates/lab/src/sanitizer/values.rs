//! How values are made up: random, and with the right check digits.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng as Random;

pub(super) const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
pub(super) const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
pub(super) const HEX: &str = "0123456789abcdef";
pub(super) const DIGITS: &str = "0123456789";
pub(super) const URL_SAFE: &str =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
pub(super) const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
pub(super) const WORDS: [&str; 14] = [
    "river", "Otter", "copper", "Lantern", "maple", "Thunder", "velvet", "Harbor", "pepper",
    "Saddle", "winter", "Falcon", "garden", "Marble",
];

/// Makes one value.
pub(super) type Make = fn(&mut Random) -> String;

pub(super) fn of(random: &mut Random, alphabet: &str, count: usize) -> String {
    let bytes = alphabet.as_bytes();
    (0..count)
        .map(|_| char::from(bytes[random.random_range(0..bytes.len())]))
        .collect()
}

pub(super) fn github(random: &mut Random) -> String {
    format!("gh{}_{}", of(random, "pousr", 1), of(random, ALNUM, 36))
}

pub(super) fn password(random: &mut Random) -> String {
    let word = |random: &mut Random| WORDS.choose(random).copied().unwrap_or("river");
    match random.random_range(0..4) {
        0 => format!("{}{}!", word(random), random.random_range(10..9999)),
        1 => {
            let length = random.random_range(10..20);
            format!("{}7", of(random, ALNUM, length))
        }
        2 => format!(
            "{}-{}-{}",
            word(random),
            word(random),
            random.random_range(10..99)
        ),
        _ => format!(
            "{}${}_{}",
            word(random),
            of(random, ALNUM, 4),
            random.random_range(1..99)
        ),
    }
}

pub(super) fn phrase(random: &mut Random) -> String {
    let words: Vec<&str> = (0..4)
        .filter_map(|_| WORDS.choose(random).copied())
        .collect();
    words.join(" ")
}

pub(super) fn private_key(random: &mut Random) -> String {
    let kind = [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
    ]
    .choose(random)
    .copied()
    .unwrap_or("PRIVATE KEY");
    let lines: Vec<String> = (0..random.random_range(4..14))
        .map(|_| of(random, BASE64, 64))
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----",
        lines.join("\n")
    )
}

pub(super) fn uuid(random: &mut Random) -> String {
    let mut part = |count| of(random, HEX, count);
    format!(
        "{}-{}-4{}-a{}-{}",
        part(8),
        part(4),
        part(3),
        part(3),
        part(12)
    )
}

pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (place, byte)| {
            bits | u32::from(*byte) << (16 - 8 * place)
        });
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= three.len() {
                char::from(BASE64.as_bytes()[sextet as usize])
            } else {
                '='
            });
        }
    }
    text
}

pub(super) fn email(random: &mut Random) -> String {
    let first = [
        "anna",
        "j.miller",
        "tom.o",
        "lea-marie",
        "info",
        "k.nowak",
        "mueller77",
    ]
    .choose(random)
    .copied()
    .unwrap_or("anna");
    let host = [
        "posteo.test",
        "mail.firma.de",
        "example.com",
        "uni-bonn.de",
        "shop.co.uk",
        "gmail.com",
    ]
    .choose(random)
    .copied()
    .unwrap_or("mail.test");
    format!("{first}{}@{host}", random.random_range(1..99))
}

pub(super) fn phone(random: &mut Random) -> String {
    match random.random_range(0..6) {
        0 => format!("+49 30 {}", of(random, DIGITS, 8)),
        1 => format!("+44 20 7946 {}", of(random, DIGITS, 4)),
        2 => format!(
            "({}) 555-{}",
            random.random_range(201..989),
            of(random, DIGITS, 4)
        ),
        3 => format!(
            "{}-555-{}",
            random.random_range(201..989),
            of(random, DIGITS, 4)
        ),
        4 => format!(
            "06 {} {} {} {}",
            of(random, DIGITS, 2),
            of(random, DIGITS, 2),
            of(random, DIGITS, 2),
            of(random, DIGITS, 2)
        ),
        _ => format!("030 {}", of(random, "123456789", 7)),
    }
}

pub(super) fn with_luhn(mut digits: Vec<u32>) -> String {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = digit * 2;
            if place % 2 == 1 {
                *digit
            } else if doubled > 9 {
                doubled - 9
            } else {
                doubled
            }
        })
        .sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().map(ToString::to_string).collect()
}

pub(super) fn card(random: &mut Random) -> String {
    let prefix = ["4539", "5412", "2221", "6011"]
        .choose(random)
        .copied()
        .unwrap_or("4539");
    let digits = format!("{prefix}{}", of(random, DIGITS, 11));
    let number = with_luhn(digits.bytes().map(|b| u32::from(b - b'0')).collect());
    match random.random_range(0..3) {
        0 => number,
        1 => number
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" "),
        _ => number
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("-"),
    }
}

pub(super) fn iban(random: &mut Random) -> String {
    let bban = of(random, DIGITS, 18);
    // `DE` is 1314, and the check digits count as 00.
    let remainder = format!("{bban}131400")
        .bytes()
        .fold(0u32, |rest, b| (rest * 10 + u32::from(b - b'0')) % 97);
    let compact = format!("DE{:02}{bban}", 98 - remainder);
    match random.random_range(0..2) {
        0 => compact,
        _ => compact
            .as_bytes()
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

pub(super) fn nhs(random: &mut Random) -> String {
    loop {
        let digits = of(random, DIGITS, 9);
        let sum: u32 = digits
            .bytes()
            .zip((2..=10).rev())
            .map(|(b, weight)| u32::from(b - b'0') * weight)
            .sum();
        let check = (11 - sum % 11) % 11;
        if check < 10 {
            return format!("{} {} {}{check}", &digits[..3], &digits[3..6], &digits[6..]);
        }
    }
}

pub(super) fn dni(random: &mut Random) -> String {
    let number = random.random_range(10_000_000u32..99_999_999);
    let letters = b"TRWAGMYFPDXBNJZSQVHLCKE";
    format!("{number}{}", char::from(letters[(number % 23) as usize]))
}
