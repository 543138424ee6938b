//! `password = "value"`: where the value of a name stands, in the syntax of the usual languages,
//! configuration files and command lines.
//!
//! Invariant: what is returned depends on the text up to the end of the value, or on the first
//! so many bytes of a longer one; as long as that is not at hand, the answer is [`Parsed::More`].
//!
//! Absent: which values are secrets, which is in [`super::value`].

use serde::Deserialize;

use super::value;

/// What an announcing word announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Announced {
    /// A password: short, chosen by a human, may be a plain word where it stands in quotes.
    Password,
    /// A token or key: made by a machine.
    Token,
}

/// Longest rest of a name behind its announcing word, in bytes.
const SUFFIX_BYTES_MAX: usize = 24;
/// Most quotes and brackets between a name and its sign.
const CLOSERS_MAX: usize = 6;
/// Most spaces in one place.
const SPACES_MAX: usize = 24;
/// Longest type between name and value, in bytes.
const TYPE_BYTES_MAX: usize = 24;

/// A name that announces a secret.
pub(super) struct Name<'a> {
    pub(super) text: &'a [u8],
    /// Where the name may begin at the earliest.
    pub(super) floor: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The value of a name.
pub(super) struct Value {
    pub(super) start: usize,
    /// Behind the value, or behind as much of it as is judged.
    pub(super) end: usize,
    pub(super) quote: Option<u8>,
    /// Whether it is longer than what is judged.
    pub(super) open: bool,
    /// How it stands to its name.
    pub(super) sign: Sign,
    /// Behind the whole name.
    pub(super) name_end: usize,
}

/// What joins name and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// `=` and kin, nothing around it.
    Tight,
    /// `=`, `:=`, `=>` or `:`.
    Loose,
    /// `>` of a tag.
    Tag,
    /// A space behind `--password` or `ENV PASSWORD`.
    Flag,
    /// "is" of a sentence.
    Sentence,
}

/// Where the value is.
pub(super) enum Parsed {
    No,
    /// More text is needed; the value begins at `value`, if that is known.
    More {
        value: Option<usize>,
    },
    Value(Value),
}

impl Name<'_> {
    /// The name as far as it stands before the announcing word's end.
    pub(super) fn head(&self) -> &[u8] {
        let before = self.text[self.floor..self.start].iter().rev();
        let length = before.take_while(|b| is_name_byte(**b)).count();
        &self.text[self.start - length..self.end]
    }

    fn is_preceded_by(&self, words: &[u8]) -> bool {
        let begin = self.end - self.head().len();
        self.text[self.floor..begin].ends_with(words)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Walks from the name to its value.
pub(super) fn parse(name: &Name<'_>, ended: bool, value_bytes_max: usize) -> Parsed {
    let mut walk = Walk {
        text: name.text,
        at: name.end,
        ended,
    };
    match walk.go_to_value(name) {
        Some((sign, name_end)) => walk.value(sign, name_end, value_bytes_max),
        None if walk.starved() => Parsed::More {
            value: (walk.at < walk.text.len()).then_some(walk.at),
        },
        None => Parsed::No,
    }
}

struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    ended: bool,
}

impl Walk<'_> {
    /// Whether a failure may only be for want of text.
    fn starved(&self) -> bool {
        !self.ended && self.at + self.ahead() >= self.text.len()
    }

    /// How far behind `at` a decision may have looked.
    fn ahead(&self) -> usize {
        let rest = &self.text[self.at.min(self.text.len())..];
        let near = rest.iter().take(TYPE_BYTES_MAX + SPACES_MAX);
        near.take_while(|b| may_join(**b)).count()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, most: usize, is_in: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text[self.at..];
        let count = rest.iter().take(most).take_while(|b| is_in(**b)).count();
        self.at += count;
        count
    }

    fn take(&mut self, word: &[u8]) -> bool {
        let here = self.text[self.at..].starts_with(word);
        if here {
            self.at += word.len();
        }
        here
    }

    /// Goes to the first byte of the value or its quote.
    fn go_to_value(&mut self, name: &Name<'_>) -> Option<(Sign, usize)> {
        self.skip(SUFFIX_BYTES_MAX, is_name_byte);
        let name_end = self.at;
        self.peek()?;
        let closers = self.skip(CLOSERS_MAX, |b| {
            matches!(b, b'"' | b'\'' | b'`' | b']' | b')' | b'\\' | b'*' | b'?')
        });
        let behind_closers = self.at;
        if closers == 0 && self.take(b">") {
            return Some((Sign::Tag, name_end));
        }
        if closers == 0 && (self.take(b"(\"") || self.take(b"('")) {
            self.at -= 1;
            return Some((Sign::Loose, name_end));
        }
        let spaces = self.skip(SPACES_MAX, |b| b == b' ' || b == b'\t');
        self.peek()?;
        let line_ends = matches!(self.peek(), Some(b'\n' | b'\r'));
        if (closers > 0 || line_ends)
            && let Some(sign) = self.go_to_sibling()
        {
            return Some((sign, name_end));
        }
        if let Some(sign) = self.sign(spaces) {
            return Some((sign, name_end));
        }
        if closers == 0 && spaces > 0 {
            let sql = self.peek() == Some(b'\'');
            let flag = spaces == 1
                && (name.is_preceded_by(b"--")
                    || name.head().starts_with(b"--")
                    || name.is_preceded_by(b"ENV "));
            if sql || flag {
                return Some((if sql { Sign::Loose } else { Sign::Flag }, name_end));
            }
            for verb in [&b"is "[..], b"is: ", b"ist ", b"lautet "] {
                if self.take(verb) {
                    return Some((Sign::Sentence, name_end));
                }
            }
        }
        self.at = self.at.max(behind_closers);
        None
    }

    /// `:`, `=`, `:=`, `=>`, `==`, `?=`, with what may stand around them, and a type between.
    fn sign(&mut self, spaces_before: usize) -> Option<Sign> {
        let begin = self.at;
        let count = self.skip(3, |b| b":=?+|".contains(&b));
        let signs = &self.text[begin..self.at];
        if count == 0 || !signs.iter().any(|b| b":=".contains(b)) {
            self.at = begin;
            return None;
        }
        let colon = signs == b":";
        let arrow = signs.ends_with(b"=") && self.take(b">");
        self.skip(CLOSERS_MAX, |b| b"*".contains(&b));
        let spaces = self.skip(SPACES_MAX, |b| b == b' ' || b == b'\t');
        if colon {
            self.skip_type()?;
        }
        self.peek()?;
        let tight = !arrow && !colon && spaces_before == 0 && spaces == 0;
        Some(if tight { Sign::Tight } else { Sign::Loose })
    }

    /// Passes over `String =` behind a colon; `None` if it is not known yet whether one is there.
    fn skip_type(&mut self) -> Option<()> {
        let begin = self.at;
        self.skip(TYPE_BYTES_MAX, |b| {
            b.is_ascii_alphabetic() || b"&'_<>?| ".contains(&b)
        });
        if self.at == self.text.len() && !self.ended {
            self.at = begin;
            return None;
        }
        let letters = self.text[begin..self.at]
            .iter()
            .any(u8::is_ascii_alphabetic);
        let assigned = self.peek() == Some(b'=');
        let next = self.text.get(self.at + 1);
        if letters && assigned && next.is_none() && !self.ended {
            self.at = begin;
            return None;
        }
        if letters && assigned && next.is_none_or(|b| !b"=>".contains(b)) {
            self.at += 1;
            self.skip(SPACES_MAX, |b| b == b' ' || b == b'\t');
        } else {
            self.at = begin;
        }
        Some(())
    }

    /// The value that stands as another attribute or member: `name="password" value="x"`,
    /// `"name": "PASSWORD", "value": "x"`, and in YAML on the next line.
    fn go_to_sibling(&mut self) -> Option<Sign> {
        let begin = self.at;
        self.skip(1, |b| b == b',');
        self.skip(SPACES_MAX, |b| b.is_ascii_whitespace());
        self.skip(2, |b| b"\"'\\".contains(&b));
        let named = self.take(b"value") || self.take(b"Value") || self.take(b"content");
        self.skip(2, |b| b"\"'\\".contains(&b));
        let signed = named && self.skip(1, |b| b":=".contains(&b)) == 1;
        if signed {
            self.skip(SPACES_MAX, |b| b == b' ');
            self.peek()?;
            return Some(Sign::Loose);
        }
        let starved = self.at == self.text.len() && !self.ended;
        if !starved {
            self.at = begin;
        }
        None
    }

    /// Reads the value from its quote or first byte on.
    fn value(&mut self, sign: Sign, name_end: usize, bytes_max: usize) -> Parsed {
        let more = |value| Parsed::More { value: Some(value) };
        let begin = self.at;
        // String prefixes: b"", r"", f"", u"", @"".
        if self.text[begin..].len() >= 2
            && b"bBrRfFuU@$&".contains(&self.text[begin])
            && b"\"'".contains(&self.text[begin + 1])
        {
            self.at += 1;
        } else if self.text[begin..].len() < 2 && !self.ended {
            return more(begin);
        }
        let escaped = self.take(b"\\");
        let quote = self.peek().filter(|b| b"\"'`".contains(b));
        if quote.is_some() {
            self.at += 1;
            if quote == Some(b'"') {
                self.take(b"\"\"");
            }
        } else if escaped {
            return Parsed::No;
        }
        let start = self.at;
        let Some(first) = self.peek() else {
            return if self.ended { Parsed::No } else { more(start) };
        };
        if never_begins_value(first) {
            return Parsed::No;
        }
        let ends = |b: u8| ends_value(b, quote) || sign == Sign::Tag && b == b'<';
        let rest = &self.text[start..];
        let length = rest.iter().take(bytes_max).take_while(|b| !ends(**b));
        let end = start + length.count();
        if end == self.text.len() && !self.ended {
            return more(start);
        }
        let open = end == start + bytes_max && self.text.get(end).is_some_and(|b| !ends(*b));
        let value = &self.text[start..end];
        let bare = match quote {
            _ if open => value.len(),
            Some(_) => value
                .trim_ascii_end()
                .strip_suffix(b"\\")
                .unwrap_or(value)
                .len(),
            None => value::bare_length(value),
        };
        Parsed::Value(Value {
            start,
            end: start + bare,
            quote,
            open,
            sign,
            name_end,
        })
    }
}

/// What may stand between a name and its value.
fn may_join(byte: u8) -> bool {
    byte.is_ascii_alphabetic()
        || matches!(
            byte,
            b' ' | b'\t'
                | b'"'
                | b'\''
                | b'`'
                | b'\\'
                | b'&'
                | b'_'
                | b'='
                | b':'
                | b'>'
                | b'<'
                | b'?'
                | b','
                | b'-'
                | b'('
        )
}

/// Brackets open references, lists and marks.
fn never_begins_value(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"[{(<,;]})|\"'`".contains(&byte)
}

/// Bytes that end a value: its quote or the line, or without quotes anything that ends a word in
/// the usual languages and in URLs.
pub(super) fn ends_value(byte: u8, quote: Option<u8>) -> bool {
    match quote {
        Some(quote) => byte == quote || byte == b'\n' || byte == b'\r',
        None => matches!(
            byte,
            b' ' | b'\t'
                | b'\n'
                | b'\r'
                | 0x0c
                | b'"'
                | b'\''
                | b'`'
                | b','
                | b';'
                | b')'
                | b']'
                | b'}'
                | b'<'
                | b'>'
                | b'&'
                | b'|'
        ),
    }
}

/// Whether a value looks like what its name announces.
pub(super) fn is_secret(announced: Announced, name: &Name<'_>, value: &Value) -> bool {
    let suffix = &name.text[name.end..value.name_end];
    let text = &name.text[value.start..value.end];
    value::is_named_secret(name.head(), suffix)
        && value::looks_secret(&value::Candidate {
            announced,
            text,
            quoted: value.quote.is_some(),
            open: value.open,
            sign: value.sign,
            ends_line: matches!(name.text.get(value.end), None | Some(b'\n' | b'\r')),
        })
}
