//! Base64 and percent-encoding, one level deep.
//!
//! Absent: other encodings, and encodings of encodings.

/// How much of a base64 run is decoded at once; a multiple of four.
pub(super) const BASE64_WINDOW_BYTES: usize = 60;
/// Shortest base64 run that is decoded.
pub(super) const BASE64_BYTES_MIN: usize = 20;

/// What [`SEXTETS`] holds for padding, and for what does not occur in base64.
const PADDING: u8 = 64;
const FOREIGN: u8 = 65;
/// What each byte stands for, in either alphabet of RFC 4648. A table, because every byte of
/// every text is asked about.
const SEXTETS: [u8; 256] = sextets();

const fn sextets() -> [u8; 256] {
    let mut sextets = [FOREIGN; 256];
    let mut byte = 0u8;
    loop {
        sextets[byte as usize] = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => PADDING,
            _ => FOREIGN,
        };
        if byte == u8::MAX {
            return sextets;
        }
        byte += 1;
    }
}

pub(super) fn is_base64_byte(byte: u8) -> bool {
    SEXTETS[usize::from(byte)] != FOREIGN
}

fn sextet(byte: u8) -> Option<u32> {
    let sextet = SEXTETS[usize::from(byte)];
    (sextet < PADDING).then_some(u32::from(sextet))
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

/// Whether the first bytes behind the encoding are text: a cheap question that most words,
/// paths, digests and images fail.
pub(super) fn may_be_text(window: &[u8]) -> bool {
    // A first byte above 127 is no text: most places fail at this.
    if window
        .first()
        .is_some_and(|first| SEXTETS[usize::from(*first)] >= 32)
        && window.len() >= 4
    {
        return false;
    }
    window
        .chunks_exact(4)
        .take(2)
        .all(|four| triple(four).is_some_and(|bytes| bytes.iter().all(|b| is_text(*b))))
}

fn triple(four: &[u8]) -> Option<[u8; 3]> {
    let bits = four
        .iter()
        .try_fold(0, |bits, byte| Some(bits << 6 | sextet(*byte)?))?;
    let [_, first, second, third] = bits.to_be_bytes();
    Some([first, second, third])
}

/// All bytes behind a base64 run.
pub(crate) fn decode_all(run: &[u8]) -> Vec<u8> {
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::with_capacity(run.len()));
    for value in run.iter().map_while(|byte| sextet(*byte)) {
        bits = (bits << 6 | value) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The text behind a base64 window, up to the first byte that is no text.
pub(super) fn decode_base64(window: &[u8]) -> Option<Vec<u8>> {
    if window.len() < BASE64_BYTES_MIN {
        return None;
    }
    let mut text = decode_all(window);
    let end = text.iter().position(|byte| !is_text(*byte));
    text.truncate(end.unwrap_or(text.len()));
    Some(text)
}

/// Where in the window the character begins that holds a decoded byte.
pub(super) fn base64_offset(decoded: usize) -> usize {
    decoded / 3 * 4
}

/// Whether a text begins with `%` and two hexadecimal digits.
pub(super) fn is_percent(text: &[u8]) -> bool {
    matches!(text, [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// The text behind percent-encoding, and where each of its bytes, and its end, was written.
pub(super) fn decode_percent(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut decoded, mut places) = (Vec::with_capacity(text.len()), Vec::new());
    let mut offset = 0;
    while offset < text.len() {
        places.push(offset);
        let rest = &text[offset..];
        if is_percent(rest) {
            let nibble = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
            decoded.push(nibble(rest[1]) << 4 | nibble(rest[2]));
            offset += 3;
        } else {
            decoded.push(rest[0]);
            offset += 1;
        }
    }
    places.push(offset);
    (decoded, places)
}
