//! The alphabet of byte-level BPE: one printable character for each of the 256 bytes.
//!
//! Printable bytes of Latin-1 stand for themselves; the other 68, in order, are U+0100 and on
//! (the convention of GPT-2's published encoder).
//! Invariant: a bijection between bytes and characters.

/// First character for the bytes that are not printable in Latin-1.
const SHIFTED_START: u32 = 0x100;

/// How many bytes are not printable in Latin-1.
const SHIFTED_LEN: usize = 68;

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The shifted bytes in the order of their characters.
const SHIFTED: [u8; SHIFTED_LEN] = {
    let mut shifted = [0; SHIFTED_LEN];
    let (mut byte, mut next) = (0_usize, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            shifted[next] = byte as u8;
            next += 1;
        }
        byte += 1;
    }
    shifted
};

/// The character of each byte.
const CHARACTERS: [char; 256] = {
    let mut characters = ['\0'; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        characters[byte] = byte as u8 as char;
        byte += 1;
    }
    let mut index = 0;
    while index < SHIFTED_LEN {
        if let Some(character) = char::from_u32(SHIFTED_START + index as u32) {
            characters[SHIFTED[index] as usize] = character;
        }
        index += 1;
    }
    characters
};

/// The character that stands for `byte`.
pub(super) fn character(byte: u8) -> char {
    CHARACTERS[usize::from(byte)]
}

/// The byte that `character` stands for, if it is of the alphabet.
pub(super) fn byte(character: char) -> Option<u8> {
    match u8::try_from(u32::from(character)) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => SHIFTED
            .get((u32::from(character) - SHIFTED_START) as usize)
            .copied(),
    }
}

/// Writes `text` in the alphabet into `out`, which is cleared first.
pub(super) fn write(text: &str, out: &mut String) {
    out.clear();
    out.extend(text.bytes().map(character));
}

/// Appends the bytes of a token written in the alphabet; one with any other character stands for itself.
pub(super) fn append(token: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for character in token.chars() {
        match byte(character) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend(token.bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_bijection() {
        for value in 0..=u8::MAX {
            assert_eq!(byte(character(value)), Some(value));
        }
        assert_eq!((character(b' '), character(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!((byte(' '), byte('▁')), (None, None));
    }
}
