//! Private keys in PEM blocks (RFC 7468, and the older forms of OpenSSL, OpenSSH and PGP), from
//! behind their begin line on.
//!
//! Everything up to the end line is withheld, and then one mark is written. Withheld text is
//! hashed and dropped, not kept. A block that has no end within [`PRIVATE_KEY_BLOCK_BYTES_MAX`]
//! is cut to its mark there, and what follows is dropped as long as it has the form of base64
//! lines; a text that ends inside a block ends with the mark. So no key material comes out, at
//! the price that prose behind a lone begin line is lost, at most up to the bound.

use sha2::{Digest, Sha256};

/// Longest private key block that is looked through for its end, in bytes. An RSA key of 16384
/// bits has about 12.7 KB.
pub const PRIVATE_KEY_BLOCK_BYTES_MAX: usize = 16 * 1024;

const END: &str = "-----END ";
const DASHES: &str = "-----";
const LABEL_BYTES_MAX: usize = 48;

/// A block whose begin line was read.
#[derive(Default)]
pub(super) struct Block {
    /// What may be the beginning of an end line.
    held: String,
    bytes: usize,
    /// Behind a block that was cut at the bound.
    cut: bool,
}

/// How much of an end line a text is.
#[derive(PartialEq)]
enum Marker {
    No,
    Partial,
    Whole,
}

impl Block {
    /// Takes what belongs to the block from the beginning of a text: how many bytes, and whether
    /// the block has ended with them.
    pub(super) fn take(&mut self, text: &str, digest: &mut Sha256) -> (usize, bool) {
        for (offset, c) in text.char_indices() {
            if self.cut {
                if is_base64_line(c) {
                    continue;
                }
                return (offset, true);
            }
            self.bytes += c.len_utf8();
            self.held.push(c);
            let ended = shift(&mut self.held, |passed| absorb(digest, passed));
            self.cut = !ended && self.bytes > PRIVATE_KEY_BLOCK_BYTES_MAX;
            if ended || self.cut {
                self.finish(digest);
            }
            if ended {
                return (offset + c.len_utf8(), true);
            }
        }
        (text.len(), false)
    }

    /// Ends a block with its text.
    pub(super) fn finish(&mut self, digest: &mut Sha256) {
        absorb(digest, &self.held);
        self.held.clear();
    }
}

/// Passes on what cannot belong to an end line any more; true if what is held is a whole one.
fn shift(held: &mut String, mut pass: impl FnMut(&str)) -> bool {
    loop {
        match marker(held) {
            Marker::Whole => return true,
            Marker::Partial => return false,
            Marker::No => {
                let first = held.chars().next().map_or(0, char::len_utf8);
                let next = held[first..].find('-').map_or(held.len(), |n| first + n);
                pass(&held[..next]);
                held.drain(..next);
                if held.is_empty() {
                    return false;
                }
            }
        }
    }
}

fn marker(text: &str) -> Marker {
    let Some(rest) = text.strip_prefix(END) else {
        return match END.starts_with(text) {
            true => Marker::Partial,
            false => Marker::No,
        };
    };
    let label_end = rest.find('-').unwrap_or(rest.len());
    let (label, dashes) = rest.split_at(label_end);
    let in_label = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ';
    if label.len() > LABEL_BYTES_MAX || !label.bytes().all(in_label) || !DASHES.starts_with(dashes)
    {
        return Marker::No;
    }
    let private = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
    match (dashes.is_empty() || private, dashes == DASHES) {
        (false, _) => Marker::No,
        (true, false) => Marker::Partial,
        (true, true) => Marker::Whole,
    }
}

/// Adds to the digest what does not depend on how the block is laid out.
fn absorb(digest: &mut Sha256, text: &str) {
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        digest.update(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn is_base64_line(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n' | '\r' | ' ' | '\t' | '\\')
}
