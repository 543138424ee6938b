//! Which values of announcing names are secrets: not references to a secret, words about
//! secrets, placeholders, types, paths or calls.
//!
//! Every question is about the value's form; there is no list of known passwords, because a known
//! password is a secret, too.

mod words;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::assignment::{Announced, Sign};
use super::ledger::MARK_START;
use super::look::{contains, entropy};
use words::{
    NAMES_OF_OTHERS, PLACEHOLDER_PARTS, SENTENCE_WORDS, SUFFIXES_OF_OTHERS, WORD_CHARS_MAX, WORDS,
};

const PASSWORD_CHARS_MIN: usize = 6;
const TOKEN_CHARS_MIN: usize = 8;
/// Least entropy of a token's value, in bits a byte: a random one of 8 has 3 at most.
const TOKEN_ENTROPY_MIN: f32 = 2.3;
/// The same of a value too long to be judged whole.
const LONG_ENTROPY_MIN: f32 = 3.3;
/// Most words of a pass phrase in quotes.
const PHRASE_WORDS_MAX: usize = 6;

/// A value that may be a secret.
pub(super) struct Candidate<'a> {
    pub(super) announced: Announced,
    pub(super) text: &'a [u8],
    pub(super) quoted: bool,
    /// Whether this is only the beginning.
    pub(super) open: bool,
    pub(super) sign: Sign,
    pub(super) ends_line: bool,
}

/// The length of a value without quotes, less what ends its sentence or statement.
pub(super) fn bare_length(value: &[u8]) -> usize {
    let mut end = value.len();
    while end > 0 && matches!(value[end - 1], b'.' | b'\\' | b':') {
        end -= 1;
    }
    // Markdown around the value.
    if value[..end].ends_with(b"**") {
        end -= 2;
    }
    end
}

/// Whether a name is one of a secret, and not of something about it.
pub(super) fn is_named_secret(head: &[u8], suffix: &[u8]) -> bool {
    let joins = |byte: &u8| matches!(byte, b'-' | b'_' | b'.');
    let begin = head.iter().position(|byte| !joins(byte));
    let head = &head[begin.unwrap_or(head.len())..];
    if NAMES_OF_OTHERS.iter().any(|other| {
        strip_prefix_ignoring_case(head, other)
            .is_some_and(|rest| other.len() > 3 || matches!(rest, [b'_' | b'-', ..]))
    }) {
        return false;
    }
    let last = suffix.rsplit(joins).next().unwrap_or_default();
    let last_hump = suffix
        .iter()
        .rposition(u8::is_ascii_uppercase)
        .filter(|_| suffix.iter().any(u8::is_ascii_lowercase));
    let hump = last_hump.map_or(&[][..], |hump| &suffix[hump..]);
    let is_of_other = |part: &[u8]| {
        let mut others = SUFFIXES_OF_OTHERS.iter();
        others.any(|other| part.eq_ignore_ascii_case(other.as_bytes()))
    };
    !is_of_other(last) && !is_of_other(hump)
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], lower: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(lower.len())?;
    start.eq_ignore_ascii_case(lower.as_bytes()).then_some(rest)
}

/// Whether a value looks like what its name announces.
pub(super) fn looks_secret(value: &Candidate<'_>) -> bool {
    let Ok(text) = std::str::from_utf8(value.text) else {
        return looks_secret_by_entropy(value);
    };
    // The cheapest question first: most long values are no random text.
    if value.open && !looks_secret_by_entropy(value)
        || contains(value.text, MARK_START.as_bytes())
        || is_reference(text, value.quoted)
        || is_placeholder(text)
    {
        return false;
    }
    if value.open {
        return true;
    }
    let chars = text.chars().count();
    let letter = text.chars().any(char::is_alphabetic);
    let digit = text.bytes().any(|b| b.is_ascii_digit());
    let sign = text.contains(['!', '@', '#', '$', '%', '^', '&', '*', '+', '~', '?']);
    if text.contains(char::is_whitespace) {
        return value.announced == Announced::Password
            && chars >= PASSWORD_CHARS_MIN
            && is_phrase(text);
    }
    match value.announced {
        Announced::Password => {
            let env_line = value.sign == Sign::Tight && value.ends_line;
            let tag = value.sign == Sign::Tag;
            let plain_word = value.quoted || env_line || tag;
            chars >= PASSWORD_CHARS_MIN
                && (letter && (digit || sign || plain_word) || digit && (plain_word || sign))
        }
        Announced::Token => {
            chars >= TOKEN_CHARS_MIN
                && (letter && (digit || sign) || is_jumbled(text))
                && entropy(value.text) >= TOKEN_ENTROPY_MIN
                && !is_name(text)
        }
    }
}

fn looks_secret_by_entropy(value: &Candidate<'_>) -> bool {
    let blank = value.text.iter().any(u8::is_ascii_whitespace);
    !blank && entropy(value.text) >= LONG_ENTROPY_MIN
}

/// A few words that make no sentence, among them a number or sign.
fn is_phrase(text: &str) -> bool {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    let odd = text.contains(|c: char| !c.is_alphabetic() && !c.is_whitespace());
    let long = words.len() >= 4 && words.iter().all(|word| word.len() >= 3);
    words.len() <= PHRASE_WORDS_MAX
        && (odd || long)
        && !text.ends_with(['.', ':', '?', '…'])
        && !words.iter().any(|word| {
            let word = word.trim_matches(|c: char| !c.is_alphabetic());
            SENTENCE_WORDS.contains(&word) || WORDS.contains(&word)
        })
}

/// Letters whose case changes as in no word: a random key without a digit.
fn is_jumbled(text: &str) -> bool {
    let bytes = text.as_bytes();
    let changes = bytes
        .windows(2)
        .filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
        .count();
    bytes.len() >= 16
        && changes * 6 >= bytes.len()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(b))
}

/// Words joined by dashes, with a version or number at most: the name of a thing.
fn is_name(text: &str) -> bool {
    let mut parts = text.split(['-', '_', '.', ':', '/']).peekable();
    let several = text.contains(['-', '_', '.', ':', '/']);
    several
        && parts.all(|part| {
            let letters = part.bytes().take_while(u8::is_ascii_alphabetic).count();
            let digits = part.len() - letters;
            digits <= 3
                && part.bytes().skip(letters).all(|b| b.is_ascii_digit())
                && !is_jumbled(part)
        })
}

/// Whether a value points to a secret instead of being one: `${VAR}`, `config.password2`,
/// `get_token(`, `/run/secrets/token1`, `DB_PASSWORD_2`.
fn is_reference(value: &str, quoted: bool) -> bool {
    const OPENINGS: [&str; 16] = [
        "${", "$(", "%(", "{{", "#{", "<%", "./", "../", "~/", "file:", "env:", "vault:", "ssm:",
        "secret:", "op://", "arn:",
    ];
    let is_path = value.starts_with('/') && value[1..].contains('/') && !value.contains(['+', '=']);
    if OPENINGS.iter().any(|opening| value.starts_with(opening)) || is_path {
        return true;
    }
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if value
        .strip_prefix(['$', '%', '@', ':'])
        .is_some_and(|rest| {
            identifier(rest.trim_end_matches('%'))
                && !(quoted && value.starts_with(['@', ':', '%']))
        })
    {
        return true;
    }
    let constant = value.contains('_')
        && value
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if constant && value.bytes().filter(u8::is_ascii_digit).count() <= 3 {
        return true;
    }
    if quoted {
        return false;
    }
    // Tags of YAML: `!vault`, `!Ref`.
    if value.strip_prefix('!').is_some_and(identifier) {
        return true;
    }
    if let Some((callee, _)) = value.split_once('(') {
        return callee
            .split(['.', ':'])
            .all(|part| part.is_empty() || identifier(part));
    }
    if value.contains('[') || value.contains("->") {
        return true;
    }
    let path = value.contains('.') || value.contains("::");
    path && value
        .split(['.', ':'])
        .all(|part| part.is_empty() || identifier(part) && part.len() < 24)
}

fn is_placeholder(value: &str) -> bool {
    !has_three_characters(value)
        || !value.contains(char::is_alphanumeric)
        || strip_prefix_ignoring_case(value.as_bytes(), "your").is_some()
        || is_word(value)
        || is_made_of_words(value)
        || PARTS.is_match(value)
}

/// [`PLACEHOLDER_PARTS`], all at once.
static PARTS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(PLACEHOLDER_PARTS)
        .expect("a few short words")
});

/// Whether a value consists of three different characters or more.
fn has_three_characters(value: &str) -> bool {
    let mut chars = value.chars();
    let first = chars.next();
    let second = chars.find(|c| Some(*c) != first);
    second.is_some() && chars.any(|c| Some(c) != first && Some(c) != second)
}

/// Whether the letters and digits of a value are a word about secrets.
fn is_word(value: &str) -> bool {
    let characters = value.chars().filter(|c| c.is_alphanumeric());
    let lower = characters.map(|c| c.to_ascii_lowercase());
    let word: String = lower.take(WORD_CHARS_MAX + 1).collect();
    WORDS.contains(&word.as_str())
}

/// Whether a value consists of words about secrets, such as `my-secret-token` or `test_password`.
fn is_made_of_words(value: &str) -> bool {
    const FILLERS: [&str; 12] = [
        "my", "test", "the", "your", "a", "db", "some", "api", "access", "new", "here", "foo",
    ];
    let mut about = 0;
    let parts = value.split(|c: char| !c.is_ascii_alphabetic());
    for part in parts.filter(|part| !part.is_empty()) {
        let is = |word: &&str| part.eq_ignore_ascii_case(word);
        if WORDS.iter().any(is) {
            about += 1;
        } else if !FILLERS.iter().any(is) {
            return false;
        }
    }
    about > 0 && value.contains(['-', '_', ' ', '='])
}
