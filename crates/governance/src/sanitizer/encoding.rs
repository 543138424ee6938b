//! Base64 and percent-encoding, one level deep.
//!
//! Absent: other encodings, and encodings of encodings.

/// How much of a base64 run is decoded at once; a multiple of four.
pub(super) const BASE64_WINDOW_BYTES: usize = 60;
/// How much of a percent-encoded run is decoded at once.
pub(super) const PERCENT_WINDOW_BYTES: usize = 62;
/// Shortest base64 run that is decoded.
pub(super) const BASE64_BYTES_MIN: usize = 20;
/// How many bytes a window holds.
pub(super) const BASE64_DECODED_BYTES_MAX: usize = BASE64_WINDOW_BYTES / 4 * 3;

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
    let mut bytes = Vec::with_capacity(run.len());
    bytes.extend(decoded(run));
    bytes
}

fn decoded(run: &[u8]) -> impl Iterator<Item = u8> {
    let (mut bits, mut held) = (0u32, 0);
    let sextets = run.iter().map_while(|byte| sextet(*byte));
    sextets.filter_map(move |sextet| {
        bits = (bits << 6 | sextet) & 0xffff;
        held = (held + 6) % 8;
        // A sextet that leaves six bits over has completed nothing.
        (held < 6).then_some((bits >> held) as u8)
    })
}

/// The text behind a base64 window, up to the first byte that is no text.
pub(super) fn decode_base64<'a>(
    window: &[u8],
    text: &'a mut [u8; BASE64_DECODED_BYTES_MAX],
) -> Option<&'a [u8]> {
    if window.len() < BASE64_BYTES_MIN {
        return None;
    }
    let mut length = 0;
    for (place, byte) in text.iter_mut().zip(decoded(window)) {
        if !is_text(byte) {
            break;
        }
        *place = byte;
        length += 1;
    }
    Some(&text[..length])
}

/// Where in the window the character begins that holds a decoded byte.
pub(super) fn base64_offset(decoded: usize) -> usize {
    decoded / 3 * 4
}

/// Whether a text begins with `%` and two hexadecimal digits.
pub(super) fn is_percent(text: &[u8]) -> bool {
    matches!(text, [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// Whether a text is the beginning of such a one.
pub(super) fn may_become_percent(text: &[u8]) -> bool {
    matches!(text, [b'%']) || matches!(text, [b'%', a] if a.is_ascii_hexdigit())
}

/// The text behind percent-encoding of a window of [`PERCENT_WINDOW_BYTES`] at most.
pub(super) fn decode_percent<'a>(
    window: &[u8],
    text: &'a mut [u8; PERCENT_WINDOW_BYTES],
) -> &'a [u8] {
    let (mut offset, mut length) = (0, 0);
    while let Some(first) = window.get(offset) {
        let (byte, written) = match &window[offset..] {
            rest if is_percent(rest) => (nibble(rest[1]) << 4 | nibble(rest[2]), 3),
            _ => (*first, 1),
        };
        text[length] = byte;
        length += 1;
        offset += written;
    }
    &text[..length]
}

fn nibble(digit: u8) -> u8 {
    (digit & 0xf) + if digit.is_ascii_alphabetic() { 9 } else { 0 }
}

/// Where in a window a decoded byte was written.
pub(super) fn percent_offset(window: &[u8], decoded: usize) -> usize {
    (0..decoded).fold(0, |offset, _| {
        offset + if is_percent(&window[offset..]) { 3 } else { 1 }
    })
}
