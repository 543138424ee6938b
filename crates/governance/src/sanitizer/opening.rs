//! What the first bytes of a match may be: a question that costs a few nanoseconds, and that
//! most places fail, before a regular expression is asked.
//!
//! Invariant: every match of a pattern passes its opening. The reverse does not hold, since each
//! byte is looked at by itself.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

/// How many bytes are looked at; one bit each in a [`Places`].
const OPENING_BYTES: usize = 8;

/// A set of places among the first bytes of a match: bit 0 is the first byte.
type Places = u8;

/// Which bytes may stand in each of the first places of a match.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// For each byte, the places where it may stand.
    places_of: [Places; 256],
}

impl Opening {
    pub(super) fn of(hir: &Hir) -> Self {
        let mut opening = Self {
            places_of: [0; 256],
        };
        let behind = opening.pass(hir, 1);
        opening.allow_anything_behind(behind);
        opening
    }

    /// Whether a match may begin with a text, as far as there is one.
    pub(super) fn admits(&self, text: &[u8]) -> bool {
        let first = text.iter().take(OPENING_BYTES).enumerate();
        first
            .into_iter()
            .all(|(place, byte)| self.admits_at(place, *byte))
    }

    /// Whether a byte may stand in one of the first places.
    pub(super) fn admits_at(&self, place: usize, byte: u8) -> bool {
        self.places_of[usize::from(byte)] >> place & 1 == 1
    }

    /// Notes what a part of a pattern that begins at any of some places consists of, and gives
    /// back the places where it may end.
    fn pass(&mut self, part: &Hir, from: Places) -> Places {
        match part.kind() {
            HirKind::Empty | HirKind::Look(_) => from,
            HirKind::Literal(literal) => literal
                .0
                .iter()
                .fold(from, |from, byte| self.allow(*byte, *byte, from)),
            HirKind::Class(Class::Bytes(class)) => {
                class.iter().for_each(|range| {
                    self.allow(range.start(), range.end(), from);
                });
                from << 1
            }
            HirKind::Class(Class::Unicode(_)) => {
                self.allow_anything_behind(from);
                from
            }
            HirKind::Repetition(repetition) => self.pass_repeated(repetition, from),
            HirKind::Capture(capture) => self.pass(&capture.sub, from),
            HirKind::Concat(parts) => parts.iter().fold(from, |from, part| self.pass(part, from)),
            HirKind::Alternation(parts) => parts
                .iter()
                .fold(0, |behind, part| behind | self.pass(part, from)),
        }
    }

    fn pass_repeated(&mut self, repetition: &Repetition, from: Places) -> Places {
        let (min, max) = (repetition.min, repetition.max.unwrap_or(u32::MAX));
        // After so many more, a place is passed by, or nothing new is reached.
        let rounds = max.min(min.saturating_add(OPENING_BYTES as u32));
        let (mut at, mut behind) = (from, 0);
        for round in 0..=rounds {
            if round >= min {
                behind |= at;
            }
            let next = if round < rounds {
                self.pass(&repetition.sub, at)
            } else {
                0
            };
            if next == 0 || next == at {
                return behind | if next == at { at } else { 0 };
            }
            at = next;
        }
        behind
    }

    fn allow(&mut self, from: u8, to: u8, places: Places) -> Places {
        for byte in from..=to {
            self.places_of[usize::from(byte)] |= places;
        }
        places << 1
    }

    /// Allows all bytes from the first of some places on.
    fn allow_anything_behind(&mut self, places: Places) {
        if places != 0 {
            self.allow(0, u8::MAX, Places::MAX << places.trailing_zeros());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Opening;

    fn opening(pattern: &str) -> Opening {
        let mut parser = regex_syntax::ParserBuilder::new();
        let hir = parser.unicode(false).utf8(false).build().parse(pattern);
        Opening::of(&hir.expect("a pattern"))
    }

    #[test]
    fn what_matches_is_admitted() {
        for (pattern, text) in [
            ("sk-[a-z]{3}", "sk-abc and more"),
            ("(?i)bearer {1,4}", "BeArEr   x"),
            ("a|bcd", "a!"),
            ("(?:1[-. ])?[2-9][0-9]{2}", "1 234"),
            ("(?:1[-. ])?[2-9][0-9]{2}", "234"),
            ("x{0,3}y", "y"),
            ("x{2,}y?z", "xxxxxxxxxxxxz"),
            ("(?:a?){3,9}b", "aaaab"),
            ("\\bkey$", "key"),
            ("né le", "né le 1."),
        ] {
            assert!(opening(pattern).admits(text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn what_cannot_become_a_match_is_not_admitted() {
        for (pattern, text) in [
            ("sk-[a-z]{3}", "sk_"),
            ("sk-[a-z]{3}", "sk-ab1"),
            ("a|bcd", "c"),
            ("x{2,}z", "xyz"),
            ("[0-9]{3}-", "12-"),
        ] {
            assert!(
                !opening(pattern).admits(text.as_bytes()),
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_may_still_become_a_match_is_admitted() {
        assert!(opening("sk-[a-z]{3}").admits(b"sk"));
        assert!(opening("sk-[a-z]{3}").admits(b""));
    }
}
