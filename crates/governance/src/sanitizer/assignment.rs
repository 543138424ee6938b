//! `password = value`: which words announce a secret, and which values look like one.
//!
//! Absent: the walk over the text, which is in [`super::token`].

use super::ledger::MARK_START;
use crate::canonical::Canonical;

/// Longest value of an assignment that is looked at, in bytes; a longer one is only searched for
/// keys of known form.
pub const ASSIGNMENT_VALUE_BYTES_MAX: usize = 512;
/// Most bytes between the announcing word and its value (quotes, spaces, `:`, `=`).
pub const ASSIGNMENT_GAP_BYTES_MAX: usize = 16;
/// Longest announcing word as written, with its `_`, `-` and `.`, in bytes.
pub(super) const KEYWORD_SPAN_BYTES_MAX: usize = 32;

const PASSWORD_VALUE_CHARS_MIN: usize = 6;
const OTHER_VALUE_CHARS_MIN: usize = 8;
const AWS_SECRET_KEY_BYTES: usize = 40;

/// What an announcing word announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    /// The secret half of an AWS access key.
    AwsSecretKey,
    /// A password: short, chosen by a human, may be a plain word where it stands in quotes.
    Password,
    /// A token or key: made by a machine.
    Token,
}

impl Keyword {
    /// Name of the rule that a value of this kind is redacted by.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::AwsSecretKey => "aws-secret-key",
            Self::Password => "password-assignment",
            Self::Token => "secret-assignment",
        }
    }
}

/// Announcing words without separators and case, the longest first where one ends in another.
const KEYWORDS: [(&str, Keyword); 15] = [
    ("secretaccesskey", Keyword::AwsSecretKey),
    ("awssecretkey", Keyword::AwsSecretKey),
    ("password", Keyword::Password),
    ("passphrase", Keyword::Password),
    ("passwd", Keyword::Password),
    ("passwort", Keyword::Password),
    ("pwd", Keyword::Password),
    ("apikey", Keyword::Token),
    ("accesskey", Keyword::Token),
    ("secretkey", Keyword::Token),
    ("privatekey", Keyword::Token),
    ("authkey", Keyword::Token),
    ("secret", Keyword::Token),
    ("token", Keyword::Token),
    ("credential", Keyword::Token),
];

/// Values that are words about secrets and no secrets.
const PLACEHOLDERS: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "changeme",
    "example",
    "placeholder",
    "required",
    "optional",
    "redacted",
    "hidden",
    "undefined",
    "string",
    "boolean",
    "disabled",
    "enabled",
    "default",
    "unknown",
    "testing",
    "function",
];

/// What the checksum of the rules is taken over.
pub(super) fn canonical() -> Canonical {
    let words = KEYWORDS.iter();
    let words = words.map(|(word, keyword)| ((*word).to_owned(), Canonical::text(keyword.rule())));
    Canonical::Object(words.collect())
}

/// The announcing word that `run` ends in, and where it begins.
pub(super) fn keyword_at_end(run: &str) -> Option<(Keyword, usize)> {
    let bytes = run.as_bytes();
    if !bytes.last()?.is_ascii_alphabetic() {
        return None;
    }
    let window = bytes.len().saturating_sub(KEYWORD_SPAN_BYTES_MAX);
    KEYWORDS.iter().find_map(|(word, keyword)| {
        let start = suffix_start(&bytes[window..], word.as_bytes())?;
        Some((*keyword, window + start))
    })
}

/// Where `word` begins at the end of `run`, when separators and case are passed over.
fn suffix_start(run: &[u8], word: &[u8]) -> Option<usize> {
    let mut left = word.len();
    for (offset, byte) in run.iter().enumerate().rev() {
        if left == 0 {
            break;
        }
        if matches!(byte, b'_' | b'-' | b'.') {
            continue;
        }
        if !byte.eq_ignore_ascii_case(&word[left - 1]) {
            return None;
        }
        left -= 1;
        if left == 0 {
            return Some(offset);
        }
    }
    None
}

/// Characters that may stand between the word and its value.
pub(super) fn is_gap(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '"' | '\'' | '`' | ']' | ')' | '\\' | '?' | '*'
    )
}

/// Characters that make an assignment of word and value.
pub(super) fn is_assignment_sign(c: char) -> bool {
    matches!(c, ':' | '=')
}

/// Characters that no value begins with: brackets open references, lists and marks.
pub(super) fn never_starts_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '[' | '{' | '(' | '<' | ',' | ';' | ']' | '}' | ')' | '|')
}

/// Characters that end a value: its quote, or without quotes anything that ends a word in the
/// usual languages and in URLs.
pub(super) fn ends_value(c: char, quote: Option<char>) -> bool {
    match quote {
        Some(quote) => c == quote || c.is_whitespace(),
        None => {
            c.is_whitespace()
                || matches!(
                    c,
                    '"' | '\'' | '`' | ',' | ';' | ')' | ']' | '}' | '<' | '>' | '&' | '|'
                )
        }
    }
}

/// What a finished value is redacted as, if it looks like a secret.
pub(super) fn judge(keyword: Keyword, value: &str, quoted: bool) -> Option<&'static str> {
    if value.contains(MARK_START) || is_reference(value) || is_placeholder(value) {
        return None;
    }
    if keyword == Keyword::AwsSecretKey && value.len() == AWS_SECRET_KEY_BYTES {
        return Some(keyword.rule());
    }
    let long_enough = match keyword {
        Keyword::Password => value.chars().count() >= PASSWORD_VALUE_CHARS_MIN,
        _ => value.chars().count() >= OTHER_VALUE_CHARS_MIN,
    };
    if !long_enough {
        return None;
    }
    let letter = value.chars().any(char::is_alphabetic);
    let digit = value.chars().any(|c| c.is_ascii_digit());
    let sign = value.contains(['!', '@', '#', '$', '%', '^', '&', '*', '+', '~', '?']);
    let plain_word = keyword == Keyword::Password && quoted;
    let secret = letter && (digit || sign || plain_word);
    secret.then(|| match keyword {
        Keyword::AwsSecretKey => Keyword::Token.rule(),
        other => other.rule(),
    })
}

/// Whether a value points to a secret instead of being one: `${VAR}`, `config.password2`,
/// `get_token(`, `/run/secrets/token1`.
fn is_reference(value: &str) -> bool {
    const OPENINGS: [&str; 9] = ["${", "$(", "%(", "{{", "#{", "/", "./", "../", "~/"];
    if OPENINGS.iter().any(|opening| value.starts_with(opening)) {
        return true;
    }
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if value.strip_prefix('$').is_some_and(identifier) {
        return true;
    }
    if let Some((callee, _)) = value.split_once('(') {
        return callee
            .split(['.', ':'])
            .all(|part| part.is_empty() || identifier(part));
    }
    let path = value.contains('.') || value.contains("::");
    path && value
        .split(['.', ':'])
        .all(|part| part.is_empty() || identifier(part))
}

fn is_placeholder(value: &str) -> bool {
    let word: String = value.chars().filter(|c| c.is_alphanumeric()).collect();
    let word = word.to_ascii_lowercase();
    let mut characters = value.chars();
    let first = characters.next();
    characters.all(|c| Some(c) == first)
        || word.starts_with("your")
        || word.contains("example")
        || PLACEHOLDERS.contains(&word.as_str())
}
