//! A regular expression of a rule: its bounds are checked when it is read, and it is compiled
//! when it is first needed.
//!
//! Patterns see bytes and are ASCII throughout (`\w`, `\b`, `(?i)`): a Unicode class costs some
//! fifty times the memory, and no key has such letters. They run in linear time whatever they
//! are; a pattern that would compile to more than [`PROGRAM_BYTES_MAX`] is refused.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::opening::Opening;

/// Largest compiled pattern, in bytes.
pub const PROGRAM_BYTES_MAX: usize = 1024 * 1024;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Deepest nesting of a pattern.
const PATTERN_NESTING_MAX: u32 = 50;

/// A pattern that parses, and is compiled on first use.
#[derive(Debug)]
pub(super) struct Pattern {
    source: String,
    regex: OnceLock<Option<Regex>>,
    /// What a match may consist of.
    alphabet: ByteSet,
    /// What its first bytes may be.
    opening: Opening,
    /// Shortest match in bytes.
    bytes_min: usize,
    groups: usize,
}

impl Pattern {
    /// Parses a pattern that has to match where a search begins.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn anchored(source: &str) -> Result<Self, String> {
        Self::parse(source, format!("^(?:{source})"))
    }

    /// Parses a pattern that may match anywhere.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn searching(source: &str) -> Result<Self, String> {
        Self::parse(source, source.to_owned())
    }

    fn parse(source: &str, full: String) -> Result<Self, String> {
        if source.len() > PATTERN_BYTES_MAX {
            return Err(format!("is longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let hir = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(PATTERN_NESTING_MAX)
            .build()
            .parse(source)
            .map_err(|error| explain(&error))?;
        let properties = hir.properties();
        if properties.minimum_len() == Some(0) {
            return Err("matches the empty text".to_owned());
        }
        let mut alphabet = ByteSet::default();
        alphabet.add_all_of(&hir);
        Ok(Self {
            bytes_min: properties.minimum_len().unwrap_or(0),
            groups: properties.explicit_captures_len(),
            source: full,
            regex: OnceLock::new(),
            alphabet,
            opening: Opening::of(&hir),
        })
    }

    /// Compiles it now.
    ///
    /// # Errors
    /// That it compiles to too much.
    pub(super) fn check_size(&self) -> Result<(), String> {
        match self.regex() {
            Some(_) => Ok(()),
            None => Err(format!(
                "compiles to more than {PROGRAM_BYTES_MAX} bytes; use smaller counts in `{{..}}`"
            )),
        }
    }

    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    pub(super) fn bytes_min(&self) -> usize {
        self.bytes_min
    }

    pub(super) fn alphabet(&self) -> &ByteSet {
        &self.alphabet
    }

    /// What the first bytes of a match may be.
    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The whole match and the secret in it: the group, or the whole if that took no part.
    pub(super) fn find(&self, text: &[u8], group: usize) -> Option<Match> {
        let regex = self.regex()?;
        if group == 0 {
            let whole = regex.find(text)?;
            let (start, end) = (whole.start(), whole.end());
            return Some(Match {
                start,
                end,
                whole_end: end,
            });
        }
        let captures = regex.captures(text)?;
        let whole = captures.get(0)?;
        let secret = captures.get(group).unwrap_or(whole);
        Some(Match {
            start: secret.start(),
            end: secret.end(),
            whole_end: whole.end(),
        })
    }

    /// The first match that holds the keyword at `at`.
    pub(super) fn find_around(
        &self,
        text: &[u8],
        group: usize,
        at: usize,
        keyword_bytes: usize,
    ) -> Option<Match> {
        let captures = self.regex()?.captures_iter(text);
        for captures in captures {
            let whole = captures.get(0)?;
            if whole.start() > at {
                return None;
            }
            if whole.end() < at + keyword_bytes {
                continue;
            }
            let secret = captures.get(group).unwrap_or(whole);
            return Some(Match {
                start: secret.start(),
                end: secret.end(),
                whole_end: whole.end(),
            });
        }
        None
    }

    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(text))
    }

    fn regex(&self) -> Option<&Regex> {
        let compile = || {
            RegexBuilder::new(&self.source)
                .unicode(false)
                .size_limit(PROGRAM_BYTES_MAX)
                .nest_limit(PATTERN_NESTING_MAX + 1)
                .build()
                .ok()
        };
        self.regex.get_or_init(compile).as_ref()
    }
}

/// Where a pattern matched, in bytes.
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) whole_end: usize,
}

/// The parser's message on one line.
fn explain(error: &regex_syntax::Error) -> String {
    let (kind, offset) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            (error.kind().to_string(), error.span().start.offset)
        }
        other => return format!("is no regular expression: {other}"),
    };
    format!(
        "is no regular expression: {kind} (character {offset}; look-around and back-references do not exist here)"
    )
}

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ByteSet {
    has: [bool; 256],
}

impl Default for ByteSet {
    fn default() -> Self {
        Self { has: [false; 256] }
    }
}

impl ByteSet {
    /// A set from the inside of a character class, such as `A-Z0-9_-`.
    ///
    /// # Errors
    /// That it is no character class of ASCII characters.
    pub(super) fn of_class(class: &str) -> Result<Self, String> {
        let not_ascii = || format!("`{class}` is not the inside of a class like `A-Z0-9_-`");
        if !class.is_ascii() || class.contains(['[', ']', '^']) {
            return Err(not_ascii());
        }
        let hir = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(&format!("[{class}]"))
            .map_err(|_| not_ascii())?;
        let mut set = Self::default();
        set.add_all_of(&hir);
        Ok(set)
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.has[usize::from(byte)]
    }

    pub(super) fn insert(&mut self, byte: u8) {
        self.has[usize::from(byte)] = true;
    }

    fn add(&mut self, from: u8, to: u8) {
        for byte in from..=to {
            self.insert(byte);
        }
    }

    fn add_all_of(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Literal(literal) => literal.0.iter().for_each(|b| self.add(*b, *b)),
            HirKind::Class(Class::Bytes(class)) => {
                class
                    .iter()
                    .for_each(|range| self.add(range.start(), range.end()));
            }
            HirKind::Class(Class::Unicode(class)) => {
                let last = |c: char| u8::try_from(c).ok().filter(u8::is_ascii);
                for range in class.iter() {
                    match (last(range.start()), last(range.end())) {
                        (Some(from), Some(to)) => self.add(from, to),
                        (Some(from), None) => self.add(from, u8::MAX),
                        (None, _) => self.add(0x80, u8::MAX),
                    }
                }
            }
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Repetition(repetition) => self.add_all_of(&repetition.sub),
            HirKind::Capture(capture) => self.add_all_of(&capture.sub),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().for_each(|part| self.add_all_of(part));
            }
        }
    }
}
