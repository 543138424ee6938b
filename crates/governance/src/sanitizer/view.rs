//! The text as rules see it, beside the text as it was written.
//!
//! Invisible characters (zero width, bidirectional controls, tags) are taken out of the text
//! itself. What is left is kept twice: as written, for what is emitted, and as a *view* in which
//! each character stands in its compatibility form (Unicode NFKC, one character at a time), so
//! that full-width digits or mathematical letters hide nothing. A list of the places where both
//! differ translates offsets.
//!
//! Invariant: a character's view depends on nothing but that character, and whether it is kept
//! depends on the character kept before it. So both texts are the same however they were split.

use std::collections::VecDeque;

use unicode_normalization::UnicodeNormalization;

/// Written text and view, from some place in the stream on.
#[derive(Default)]
pub(super) struct View {
    raw: String,
    seen: String,
    /// In order; all lie within what is kept.
    edits: VecDeque<Edit>,
    last: Option<char>,
    stripped: u64,
}

/// One character whose view is another text.
struct Edit {
    raw: usize,
    raw_len: usize,
    seen: usize,
    seen_len: usize,
}

impl View {
    /// The view.
    pub(super) fn seen(&self) -> &str {
        &self.seen
    }

    /// How many invisible characters were taken out so far.
    pub(super) fn stripped(&self) -> u64 {
        self.stripped
    }

    pub(super) fn push(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, tail) = rest.split_at(ascii_bytes(rest.as_bytes()));
            self.raw.push_str(plain);
            self.seen.push_str(plain);
            self.last = plain.chars().next_back().or(self.last);
            let mut characters = tail.chars();
            if let Some(c) = characters.next() {
                self.push_wide(c);
            }
            rest = characters.as_str();
        }
    }

    fn push_wide(&mut self, c: char) {
        if is_invisible(c, self.last) {
            self.stripped += 1;
            return;
        }
        self.last = Some(c);
        let (raw, seen) = (self.raw.len(), self.seen.len());
        self.raw.push(c);
        match compatible(c) {
            Same::Yes => self.seen.push(c),
            Same::No(form) => {
                self.seen.push_str(&form);
                self.edits.push_back(Edit {
                    raw,
                    raw_len: c.len_utf8(),
                    seen,
                    seen_len: self.seen.len() - seen,
                });
            }
        }
    }

    /// The text as written that two places of the view enclose. A place inside of an expanded
    /// character counts as before it at the start, and as behind it at the end.
    pub(super) fn written(&self, start: usize, end: usize) -> &str {
        &self.raw[self.raw_at(start, false)..self.raw_at(end, true)]
    }

    fn raw_at(&self, seen: usize, is_end: bool) -> usize {
        let behind = self.edits.partition_point(|edit| edit.seen < seen);
        let Some(edit) = behind.checked_sub(1).and_then(|i| self.edits.get(i)) else {
            return seen;
        };
        if seen < edit.seen + edit.seen_len {
            return edit.raw + if is_end { edit.raw_len } else { 0 };
        }
        edit.raw + edit.raw_len + (seen - edit.seen - edit.seen_len)
    }

    /// Forgets what is before a place of the view that does not lie inside a character.
    pub(super) fn drop_before(&mut self, seen: usize) {
        let raw = self.raw_at(seen, false);
        self.seen.drain(..seen);
        self.raw.drain(..raw);
        while self.edits.front().is_some_and(|edit| edit.seen < seen) {
            self.edits.pop_front();
        }
        for edit in &mut self.edits {
            edit.raw -= raw;
            edit.seen -= seen;
        }
    }

    /// The nearest place at or before `seen` that lies between two characters as written.
    pub(super) fn floor(&self, seen: usize) -> usize {
        let seen = self.seen.floor_char_boundary(seen);
        let behind = self.edits.partition_point(|edit| edit.seen < seen);
        match behind.checked_sub(1).and_then(|i| self.edits.get(i)) {
            Some(edit) if seen < edit.seen + edit.seen_len => edit.seen,
            _ => seen,
        }
    }

    /// The nearest place at or behind `seen` that lies between two characters as written.
    pub(super) fn ceil(&self, seen: usize) -> usize {
        let seen = self.seen.ceil_char_boundary(seen);
        let behind = self.edits.partition_point(|edit| edit.seen < seen);
        match behind.checked_sub(1).and_then(|i| self.edits.get(i)) {
            Some(edit) if seen < edit.seen + edit.seen_len => edit.seen + edit.seen_len,
            _ => seen,
        }
    }
}

/// How many bytes of ASCII a text begins with.
fn ascii_bytes(text: &[u8]) -> usize {
    /// How many bytes are asked at once.
    const STEP_BYTES: usize = 32;
    let steps = text.chunks_exact(STEP_BYTES);
    let whole = steps.take_while(|step| step.is_ascii()).count() * STEP_BYTES;
    let rest = text[whole..].iter();
    whole + rest.take_while(|byte| byte.is_ascii()).count()
}

/// Whether the view of a character is the character.
enum Same {
    Yes,
    No(String),
}

fn compatible(c: char) -> Same {
    // Dashes and quotes that typography puts in the place of ASCII's; NFKC leaves them alone.
    let plain = match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\u{2018}' | '\u{2019}' => Some('\''),
        '\u{201c}' | '\u{201d}' => Some('"'),
        _ => None,
    };
    if let Some(plain) = plain {
        return Same::No(plain.into());
    }
    let mut form = std::iter::once(c).nfkc();
    if form.next() == Some(c) && form.next().is_none() {
        return Same::Yes;
    }
    Same::No(std::iter::once(c).nfkc().collect())
}

/// Whether a character is seen by a model, but by no reader: zero width, bidirectional controls,
/// tags, and variation selectors and joiners where they join nothing. `before` is the character
/// kept before it: joiners belong to emoji and to scripts other than Latin.
pub(crate) fn is_invisible(c: char, before: Option<char>) -> bool {
    match c {
        '\u{200c}' | '\u{200d}' => before.is_none_or(|b| b.is_ascii() || is_joiner(b)),
        '\u{fe00}'..='\u{fe0f}' => {
            before.is_none_or(|b| b.is_ascii() || is_joiner(b) || is_selector(b))
        }
        '\u{00ad}'
        | '\u{034f}'
        | '\u{061c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}')
}
