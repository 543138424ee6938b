//! Finds forms of markup in a text without a search for each.
//!
//! What a form begins with is read off its pattern. Only where a text has one of these beginnings a pattern is asked.

use memchr::memchr_iter;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::literal::Extractor;

use super::beginnings::Beginnings;

/// Fewest and most bytes of a beginning that are sought.
const BEGINNING_BYTES_MIN: usize = 3;
const BEGINNING_BYTES_MAX: usize = 8;
/// Most places where a pattern that may stand anywhere is asked, one by one. Where there are more, the rest of the text
/// is searched, for one search is linear in it. At lines, patterns are asked each time: they end within a line or two.
const PLACES_MAX: usize = 64;

/// Where a form may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere.
    Anywhere,
    /// At the beginning of a line, behind white space.
    LineStart,
    /// As [`Self::LineStart`], and behind marks of quotes, headings and lists.
    LineText,
}

/// Forms that are looked for together.
pub(super) struct Forms {
    forms: Vec<Form>,
    /// Beginnings of forms by their indices.
    anywhere: Beginnings<usize>,
    in_lines: Beginnings<usize>,
}

impl Forms {
    /// The forms of these places and patterns. Patterns are in lower case; texts may have either.
    ///
    /// # Panics
    ///
    /// If a pattern is none, or may begin with more texts than can be looked for.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = (Place, &'p str)>) -> Self {
        let mut forms = Vec::new();
        let (mut anywhere, mut in_lines) = (Vec::new(), Vec::new());
        for (index, (place, pattern)) in patterns.enumerate() {
            let texts = beginnings(pattern).into_iter().map(|text| (text, index));
            match place {
                Place::Anywhere => anywhere.extend(texts),
                Place::LineStart | Place::LineText => in_lines.extend(texts),
            }
            forms.push(Form::new(place, pattern));
        }
        Self {
            forms,
            anywhere: Beginnings::new(anywhere, BEGINNING_BYTES_MIN),
            in_lines: Beginnings::new(in_lines, BEGINNING_BYTES_MIN),
        }
    }

    /// Which of the forms stand in a text with these lines, in their order.
    pub(super) fn in_text(&self, text: &str, lines: &[LineStart]) -> Vec<usize> {
        let mut searches: Vec<Search> = self.forms.iter().map(Search::new).collect();
        self.anywhere
            .in_text(text, |form, at| searches[form].look_at(text, at));
        for line in lines {
            for (place, at) in [(Place::LineStart, line.start), (Place::LineText, line.text)] {
                self.in_lines.at(text, at, |form, at| {
                    if self.forms[form].place == place {
                        searches[form].look_at(text, at);
                    }
                });
            }
        }
        let found = searches.iter().enumerate();
        let found = found.filter(|(_, search)| search.is_found);
        found.map(|(index, _)| index).collect()
    }
}

/// A form's search through one text.
struct Search<'f> {
    form: &'f Form,
    places: usize,
    is_found: bool,
    /// Whether the whole rest of the text was searched.
    is_over: bool,
}

impl<'f> Search<'f> {
    fn new(form: &'f Form) -> Self {
        Self {
            form,
            places: 0,
            is_found: false,
            is_over: false,
        }
    }

    fn look_at(&mut self, text: &str, at: usize) {
        if self.is_found || self.is_over {
            return;
        }
        self.places += 1;
        self.is_over = self.form.place == Place::Anywhere && self.places > PLACES_MAX;
        let is_anchored = if self.is_over {
            Anchored::No
        } else {
            Anchored::Yes
        };
        let input = Input::new(text).range(at..).anchored(is_anchored);
        self.is_found = self.form.pattern.is_match(input);
    }
}

/// Where a line begins.
pub(super) struct LineStart {
    /// Behind white space.
    pub(super) start: usize,
    /// Behind marks of quotes, headings and lists.
    text: usize,
}

/// Where the lines of a text begin.
pub(super) fn lines(text: &str) -> Vec<LineStart> {
    let ends = memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    let mut begin = 0;
    let lines = ends.map(|end| {
        let content = text[begin..end].trim_start();
        begin = end + 1;
        let is_mark = |c: char| c.is_whitespace() || "#>*-=/".contains(c);
        LineStart {
            start: end - content.len(),
            text: end - content.trim_start_matches(is_mark).len(),
        }
    });
    lines.collect()
}

/// A form, as it is looked for.
struct Form {
    pattern: Regex,
    place: Place,
}

impl Form {
    fn new(place: Place, pattern: &str) -> Self {
        let syntax = syntax::Config::new()
            .case_insensitive(true)
            .multi_line(true);
        let pattern = Regex::builder().syntax(syntax).build(pattern);
        Self {
            pattern: pattern.expect("a form is a pattern"),
            place,
        }
    }
}

/// Texts of which one stands where a match of a pattern begins, if the case of ASCII is passed over.
fn beginnings(pattern: &str) -> Vec<String> {
    let pattern = regex_syntax::parse(pattern).expect("a form is a pattern");
    let literals = Extractor::new().extract(&pattern);
    let literals = literals
        .literals()
        .expect("a form begins with one of a few texts");
    let mut beginnings = Vec::new();
    for literal in literals {
        let text =
            std::str::from_utf8(literal.as_bytes()).expect("a pattern over characters has texts");
        let beginning = beginning_of(text);
        beginnings.push(beginning.to_uppercase());
        beginnings.push(beginning.to_owned());
    }
    beginnings.sort();
    beginnings.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    beginnings
}

/// The beginning of a text that is sought: no more than one character beyond ASCII, so that there are no more than two
/// ways to write it.
fn beginning_of(text: &str) -> &str {
    let mut beyond = text.char_indices().filter(|(_, c)| !c.is_ascii());
    let end = beyond.nth(1).map_or(text.len(), |(at, _)| at);
    &text[..text.floor_char_boundary(end.min(BEGINNING_BYTES_MAX))]
}
