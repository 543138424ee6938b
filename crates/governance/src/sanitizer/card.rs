//! Payment card numbers: 13 to 19 digits, in groups joined by single spaces or dashes, with the
//! prefix and length of an issuer and a right Luhn check digit (ISO/IEC 7812-1). Every group but
//! the last has at least three digits, as printed on cards; shorter ones are lists of numbers.
//!
//! A card begins and ends at the borders of groups, and no letter, digit, `_` or (in front) `.`
//! touches it, so digits inside of hashes, identifiers and decimals are left alone. Of several
//! possible readings the first and then the longest is taken.
//!
//! Invariant: at most [`HELD_BYTES_MAX`] bytes are held back.

use super::ledger::Ledger;

const RULE: &str = "payment-card";
const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
/// Fewest digits of a group, except for the last one.
const GROUP_DIGITS_MIN: usize = 3;
/// U+00A0, as copied from web pages.
const NO_BREAK_SPACE: char = '\u{a0}';

/// Most bytes that are held back: 20 digits, each with a separator of up to two bytes.
pub(super) const HELD_BYTES_MAX: usize = (DIGITS_MAX + 1) * 3;

/// Finds payment cards.
#[derive(Default)]
pub(super) struct CardStage {
    /// Digits and single separators; begins with a digit where it is not empty.
    held: String,
    digits: usize,
    /// The character before, emitted or held.
    before: Option<char>,
}

impl CardStage {
    pub(super) fn push(&mut self, text: &str, ledger: &mut Ledger, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.held.is_empty() {
                let digit = rest
                    .find(|c: char| c.is_ascii_digit())
                    .unwrap_or(rest.len());
                out.push_str(&rest[..digit]);
                self.before = rest[..digit].chars().next_back().or(self.before);
                rest = &rest[digit..];
            }
            let mut characters = rest.chars();
            if let Some(c) = characters.next() {
                self.step(c, ledger, out);
                self.before = Some(c);
            }
            rest = characters.as_str();
        }
    }

    /// Ends the text; the stage is as new afterwards.
    pub(super) fn finish(&mut self, ledger: &mut Ledger, out: &mut String) {
        self.resolve(true, false, ledger, out);
        *self = Self::default();
    }

    fn step(&mut self, c: char, ledger: &mut Ledger, out: &mut String) {
        if c.is_ascii_digit() {
            if self.held.is_empty() && self.before.is_some_and(taints_start) {
                out.push(c);
                return;
            }
            self.held.push(c);
            self.digits += 1;
            if self.digits > DIGITS_MAX {
                self.resolve(false, false, ledger, out);
            }
            return;
        }
        let joins = is_separator(c) && self.held.ends_with(|b: char| b.is_ascii_digit());
        if joins {
            self.held.push(c);
            return;
        }
        self.resolve(true, taints_end(c), ledger, out);
        out.push(c);
    }

    /// Decides from the left on: all that is held if `whole`, else until few enough digits are
    /// left that the next one may still belong to a card.
    fn resolve(&mut self, whole: bool, tainted_end: bool, ledger: &mut Ledger, out: &mut String) {
        while !self.held.is_empty() && (whole || self.digits > DIGITS_MAX) {
            let last_is_open = !whole || tainted_end;
            let end = match card_end(&self.held, last_is_open) {
                Some(end) => {
                    let digits: String = digits_of(&self.held[..end]).collect();
                    ledger.redact(RULE, &digits, out);
                    end
                }
                None => {
                    let end = self.held.find(is_separator).unwrap_or(self.held.len());
                    out.push_str(&self.held[..end]);
                    end
                }
            };
            self.digits -= digits_of(&self.held[..end]).count();
            self.held.drain(..end);
            let next = self.held.find(|c: char| c.is_ascii_digit());
            let next = next.unwrap_or(self.held.len());
            out.push_str(&self.held[..next]);
            self.held.drain(..next);
        }
    }
}

/// The end of the longest card that begins at the start of `held`.
fn card_end(held: &str, last_is_open: bool) -> Option<usize> {
    let separators = held.match_indices(is_separator).map(|(offset, _)| offset);
    let mut ends: Vec<usize> = separators.collect();
    if !last_is_open {
        ends.push(held.len());
    }
    let is_card = |end: &usize| {
        let card = &held[..*end];
        let digits: Vec<u8> = digits_of(card).map(|c| c as u8 - b'0').collect();
        (DIGITS_MIN..=DIGITS_MAX).contains(&digits.len())
            && has_card_groups(card)
            && has_issuer(&digits)
            && has_luhn_digit(&digits)
    };
    ends.into_iter().rev().find(is_card)
}

fn has_card_groups(card: &str) -> bool {
    let mut groups = card.rsplit(is_separator).skip(1);
    groups.all(|group| group.len() >= GROUP_DIGITS_MIN)
}

fn digits_of(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(char::is_ascii_digit)
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | NO_BREAK_SPACE)
}

fn taints_start(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

fn taints_end(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Prefixes and lengths of the networks in use, from the public issuer ranges.
fn has_issuer(digits: &[u8]) -> bool {
    let prefix = digits.iter().take(4).fold(0, |n, d| n * 10 + u32::from(*d));
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

/// ISO/IEC 7812-1, annex B.
fn has_luhn_digit(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let from_right = digits.iter().rev().enumerate();
    let sum: u32 = from_right
        .map(|(index, digit)| {
            u32::from(if index % 2 == 1 {
                doubled(*digit)
            } else {
                *digit
            })
        })
        .sum();
    sum.is_multiple_of(10)
}
