//! What a text hides: invisible characters, and instructions in base64, hexadecimal, ROT13,
//! reversed, or spelled letter by letter.
//!
//! What was hidden is read like any text, one level deep; that it was hidden adds to what it says.

use super::Signal;
use super::finder::Found;
use super::line::Line;
use super::phrases;
use crate::sanitizer::is_invisible;

/// Shortest run of an encoding that is decoded, in characters.
const ENCODED_CHARS_MIN: usize = 20;
/// Most bytes that are decoded.
const DECODED_BYTES_MAX: usize = 16 * 1024;
/// Fewest zero-width characters that are no accident.
const ZERO_WIDTH_MIN: usize = 3;
/// Fewest letters that are spelled out.
const SPELLED_LETTERS_MIN: usize = 12;
/// Fewest bytes in hexadecimal, each a word, that are a text.
const HEX_BYTES_MIN: usize = 10;
/// Least weight of a hidden sign for what was hidden to be one.
pub(super) const HIDDEN_WEIGHT_MIN: f32 = 0.3;

/// What a text hides, as signs; `line` is what it says openly, and `found` what stands there.
pub(super) fn signals(text: &str, line: &Line, found: &Found) -> Vec<Signal> {
    let mut signals = invisible(text);
    let decoded = [decoded_runs(text), line.in_hexadecimal(HEX_BYTES_MIN)];
    if decoded.iter().flatten().any(|decoded| speaks(decoded)) {
        signals.push(hidden("instructions stand in it in base64 or hexadecimal"));
    }
    if found.in_rot13 && line_speaks(&line.in_rot13()) {
        signals.push(hidden("instructions stand in it in ROT13"));
    }
    if found.in_reverse && line_speaks(&line.in_reverse()) {
        signals.push(hidden("instructions stand in it in reverse"));
    }
    if spells(line) {
        signals.push(hidden("instructions stand in it letter by letter"));
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
    line_speaks(&Line::of(text))
}

fn line_speaks(line: &Line) -> bool {
    let signals = phrases::signals(line, &Found::in_line(line));
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

/// The texts behind long runs of base64 and hexadecimal, one line each; none if there is no such run.
fn decoded_runs(text: &str) -> Option<String> {
    let mut decoded = String::new();
    for run in encoded_runs(text) {
        if decoded.len() > DECODED_BYTES_MAX {
            break;
        }
        let bytes = match run.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => from_hexadecimal(run),
            false => from_base64(run),
        };
        if is_text(&bytes) {
            decoded.push_str(&String::from_utf8_lossy(&bytes));
            decoded.push('\n');
        }
    }
    (!decoded.is_empty()).then_some(decoded)
}

/// The runs of at least [`ENCODED_CHARS_MIN`] characters of base64. One of so many consecutive characters is looked
/// at, until it is one of base64.
fn encoded_runs(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let in_run = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-".contains(byte);
    let mut start = 0;
    std::iter::from_fn(move || {
        loop {
            let last = start + ENCODED_CHARS_MIN - 1;
            let window = bytes.get(start..=last)?;
            if let Some(outside) = window.iter().rposition(|byte| !in_run(byte)) {
                start += outside + 1;
                continue;
            }
            let rest = bytes[last..].iter().position(|byte| !in_run(byte));
            let end = rest.map_or(bytes.len(), |len| last + len);
            let run = &text[start..end];
            start = end;
            return Some(run);
        }
    })
}

fn from_base64(run: &str) -> Vec<u8> {
    let bytes = run.as_bytes();
    crate::sanitizer::decode_base64(bytes.get(..DECODED_BYTES_MAX).unwrap_or(bytes))
}

fn from_hexadecimal(run: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap_or_default() as u8;
    let pairs = run.as_bytes().chunks_exact(2).take(DECODED_BYTES_MAX);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Whether nearly all of what was decoded can be read.
fn is_text(bytes: &[u8]) -> bool {
    let is_printable = |byte: &&u8| matches!(byte, b' '..=b'~' | b'\n');
    bytes.iter().filter(is_printable).count() * 10 >= bytes.len() * 9
}

/// Whether letters that stand alone, one behind the other, spell instructions.
fn spells(line: &Line) -> bool {
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
    if !line.is_spelled() {
        return false;
    }
    let mut letters = String::new();
    for word in line.words() {
        letters.push_str(if word.len() == 1 { word } else { " " });
    }
    letters.len() >= SPELLED_LETTERS_MIN && SPELLED.iter().any(|phrase| letters.contains(phrase))
}
