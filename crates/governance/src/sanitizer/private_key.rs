//! Private keys in PEM blocks (RFC 7468, and the older forms of OpenSSL, OpenSSH and PGP).
//!
//! From a line `-----BEGIN … PRIVATE KEY-----` on, everything is withheld until the end line, and
//! then one mark is written. Withheld text is hashed and dropped, not kept. A block that has no
//! end within [`PRIVATE_KEY_BLOCK_BYTES_MAX`] is cut to its mark there, and what follows is
//! dropped as long as it has the form of base64 lines; a text that ends inside a block ends with
//! the mark. So no key material comes out, at the price that prose behind a lone begin line is
//! lost, at most up to the bound.

use sha2::{Digest, Sha256};

use super::ledger::Ledger;

/// Longest private key block that is looked through for its end, in bytes. An RSA key of 16384
/// bits has about 12.7 KB.
pub const PRIVATE_KEY_BLOCK_BYTES_MAX: usize = 16 * 1024;

/// Longest begin or end line, in bytes.
pub(super) const MARKER_BYTES_MAX: usize = BEGIN.len() + LABEL_BYTES_MAX + DASHES.len();

const RULE: &str = "private-key";
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const LABEL_BYTES_MAX: usize = 48;

/// Finds private key blocks.
pub(super) struct PrivateKeyStage {
    state: State,
    /// What may be the beginning of a begin line, or of an end line inside a block.
    held: String,
}

enum State {
    Outside,
    Inside {
        digest: Sha256,
        bytes: usize,
    },
    /// Behind a block that was cut at the bound.
    Remainder,
}

/// How much of a begin or end line a text is.
#[derive(PartialEq)]
enum Marker {
    No,
    Partial,
    Whole,
}

impl Default for PrivateKeyStage {
    fn default() -> Self {
        Self {
            state: State::Outside,
            held: String::new(),
        }
    }
}

impl PrivateKeyStage {
    pub(super) fn push(&mut self, text: &str, ledger: &mut Ledger, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.held.is_empty() && matches!(self.state, State::Outside) {
                let dash = rest.find('-').unwrap_or(rest.len());
                out.push_str(&rest[..dash]);
                rest = &rest[dash..];
            }
            let mut characters = rest.chars();
            if let Some(c) = characters.next() {
                self.step(c, ledger, out);
            }
            rest = characters.as_str();
        }
    }

    /// Ends the text; the stage is as new afterwards.
    pub(super) fn finish(&mut self, ledger: &mut Ledger, out: &mut String) {
        let ended = std::mem::take(self);
        match ended.state {
            State::Outside => out.push_str(&ended.held),
            State::Inside { mut digest, .. } => {
                absorb(&mut digest, &ended.held);
                ledger.redact_digest(RULE, digest, out);
            }
            State::Remainder => {}
        }
    }

    fn step(&mut self, c: char, ledger: &mut Ledger, out: &mut String) {
        if matches!(self.state, State::Remainder) {
            if is_base64_line(c) {
                return;
            }
            self.state = State::Outside;
        }
        match &mut self.state {
            State::Outside => {
                if self.held.is_empty() && c != '-' {
                    out.push(c);
                    return;
                }
                self.held.push(c);
                if shift(&mut self.held, BEGIN, |passed| out.push_str(passed)) {
                    let mut digest = Sha256::new();
                    absorb(&mut digest, &self.held);
                    let bytes = self.held.len();
                    self.held.clear();
                    self.state = State::Inside { digest, bytes };
                }
            }
            State::Inside { digest, bytes } => {
                *bytes += c.len_utf8();
                self.held.push(c);
                let ended = shift(&mut self.held, END, |passed| absorb(digest, passed));
                let cut = *bytes > PRIVATE_KEY_BLOCK_BYTES_MAX;
                if ended || cut {
                    absorb(digest, &self.held);
                    self.held.clear();
                    ledger.redact_digest(RULE, digest.clone(), out);
                    self.state = if ended {
                        State::Outside
                    } else {
                        State::Remainder
                    };
                }
            }
            State::Remainder => {}
        }
    }
}

/// Passes on what cannot belong to a marker any more; true if what is held is a whole one.
fn shift(held: &mut String, opening: &str, mut pass: impl FnMut(&str)) -> bool {
    loop {
        match marker(held, opening) {
            Marker::Whole => return true,
            Marker::Partial => return false,
            Marker::No => {
                let first = held.chars().next().map_or(0, char::len_utf8);
                pass(&held[..first]);
                held.drain(..first);
            }
        }
    }
}

fn marker(text: &str, opening: &str) -> Marker {
    if text.len() <= opening.len() {
        let partial = opening.starts_with(text);
        return if partial { Marker::Partial } else { Marker::No };
    }
    let Some(rest) = text.strip_prefix(opening) else {
        return Marker::No;
    };
    let label_end = rest.find('-').unwrap_or(rest.len());
    let (label, dashes) = rest.split_at(label_end);
    let in_label = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ';
    if label.len() > LABEL_BYTES_MAX || !label.bytes().all(in_label) || !DASHES.starts_with(dashes)
    {
        return Marker::No;
    }
    if dashes.is_empty() {
        return Marker::Partial;
    }
    let private = label.ends_with("PRIVATE KEY") || label.ends_with("PRIVATE KEY BLOCK");
    match (private, dashes == DASHES) {
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
