//! What a text hides: invisible characters, and instructions in base64, hexadecimal, ROT13,
//! reversed, or spelled letter by letter.
//!
//! What was hidden is read like any text, one level deep; that it was hidden adds to what it says.

use super::Signal;
use super::phrases::{self, Words};
use crate::sanitizer::is_invisible;

/// Shortest run of an encoding that is decoded, in characters.
const ENCODED_CHARS_MIN: usize = 20;
/// Most bytes that are decoded.
const DECODED_BYTES_MAX: usize = 16 * 1024;
/// Fewest zero-width characters that are no accident.
const ZERO_WIDTH_MIN: usize = 3;
/// Fewest letters that are spelled out.
const SPELLED_LETTERS_MIN: usize = 12;
/// Least weight of a hidden sign for what was hidden to be one.
const HIDDEN_WEIGHT_MIN: f32 = 0.3;

/// What a text hides, as signs.
pub(super) fn signals(text: &str) -> Vec<Signal> {
    let mut signals = invisible(text);
    let decoded = decoded_runs(text);
    if speaks(&decoded) {
        signals.push(hidden("instructions stand in it in base64 or hexadecimal"));
    }
    if text.len() <= DECODED_BYTES_MAX {
        if speaks(&rot13(text)) {
            signals.push(hidden("instructions stand in it in ROT13"));
        }
        if speaks(&text.chars().rev().collect::<String>()) {
            signals.push(hidden("instructions stand in it in reverse"));
        }
        if spells(text) {
            signals.push(hidden("instructions stand in it letter by letter"));
        }
    }
    signals
}

fn hidden(reason: &'static str) -> Signal {
    Signal {
        name: "encoded-payload",
        reason,
        weight: 0.7,
    }
}

fn speaks(text: &str) -> bool {
    if text.is_empty() {
        return false;
    }
    let signals = phrases::signals(&Words::of(text));
    signals
        .iter()
        .any(|signal| signal.weight >= HIDDEN_WEIGHT_MIN)
}

fn invisible(text: &str) -> Vec<Signal> {
    let signal = |reason, weight| Signal {
        name: "invisible-characters",
        reason,
        weight,
    };
    if text.is_ascii() {
        return Vec::new();
    }
    let mut signals = Vec::new();
    let tagged: String = text
        .chars()
        .filter_map(|c| char::from_u32(u32::from(c).checked_sub(0xe0000)?))
        .filter(|c| matches!(c, ' '..='~'))
        .collect();
    if !tagged.is_empty() {
        signals.push(signal("has a text of tag characters", 0.6));
    }
    if speaks(&tagged) {
        signals.push(hidden("instructions stand in it in tag characters"));
    }
    if text.contains(['\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}']) {
        signals.push(signal("changes the direction of reading", 0.35));
    }
    let mut before = None;
    let mut count = 0;
    for c in text.chars() {
        if is_invisible(c, before) && c != '\u{feff}' && c != '\u{ad}' {
            count += 1;
        }
        before = Some(c);
    }
    if count >= ZERO_WIDTH_MIN {
        signals.push(signal("has characters of no width between letters", 0.3));
    }
    signals
}

/// The texts behind long runs of base64 and hexadecimal, one line each.
fn decoded_runs(text: &str) -> String {
    let mut decoded = String::new();
    let in_run = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    let runs = text
        .split(|c| !in_run(c))
        .filter(|run| run.len() >= ENCODED_CHARS_MIN);
    for run in runs {
        if decoded.len() > DECODED_BYTES_MAX {
            break;
        }
        let bytes = match run.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => from_hexadecimal(run),
            false => from_base64(run),
        };
        let printable = bytes
            .iter()
            .filter(|b| matches!(b, b' '..=b'~' | b'\n'))
            .count();
        if printable * 10 >= bytes.len() * 9 {
            decoded.push_str(&String::from_utf8_lossy(&bytes));
            decoded.push('\n');
        }
    }
    // `\x69\x67…` and `69 67 …` in lists.
    let listed: String = text
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter(|part| part.len() == 2)
        .take(DECODED_BYTES_MAX)
        .collect();
    if listed.len() >= ENCODED_CHARS_MIN {
        decoded.push_str(&String::from_utf8_lossy(&from_hexadecimal(&listed)));
    }
    decoded
}

fn from_base64(run: &str) -> Vec<u8> {
    crate::sanitizer::decode_base64(
        run.as_bytes()
            .get(..DECODED_BYTES_MAX)
            .unwrap_or(run.as_bytes()),
    )
}

fn from_hexadecimal(run: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap_or_default() as u8;
    let pairs = run.as_bytes().chunks_exact(2).take(DECODED_BYTES_MAX);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn rot13(text: &str) -> String {
    let turn = |c: char| match c {
        'a'..='m' | 'A'..='M' => char::from(c as u8 + 13),
        'n'..='z' | 'N'..='Z' => char::from(c as u8 - 13),
        other => other,
    };
    text.chars().map(turn).collect()
}

/// Whether letters that stand alone, one behind the other, spell instructions.
fn spells(text: &str) -> bool {
    const SPELLED: [&str; 12] = [
        "ignoreall",
        "ignoreprevious",
        "ignorethe",
        "ignoreyour",
        "previousinstructions",
        "systemprompt",
        "disregard",
        "yourinstructions",
        "reveal",
        "forgetall",
        "forgeteverything",
        "override",
    ];
    let mut letters = String::new();

    for part in text.split(|c: char| c.is_whitespace() || "-._*|,/".contains(c)) {
        let mut characters = part.chars();
        match (characters.next(), characters.next()) {
            (Some(c), None) if c.is_alphanumeric() => letters.extend(c.to_lowercase()),
            (None, _) => {}
            _ => {
                letters.push(' ');
            }
        }
    }
    letters.len() >= SPELLED_LETTERS_MIN && SPELLED.iter().any(|phrase| letters.contains(phrase))
}
