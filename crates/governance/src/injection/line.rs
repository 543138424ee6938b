//! The words of a text as one line: in lower case, with one space before, between and behind them, without
//! diacritics, punctuation and invisible characters, and with look-alikes and digits for letters undone.
//!
//! Reading a text so is most of what it costs to score it, so a text of ASCII is read without an allocation a word.

use std::borrow::Cow;

use super::lexicon::{ROLE_BYTES_MAX, plain, roles_of};
use crate::sanitizer::is_invisible;

/// Fewest letters in a row that spell a word.
const SPELLED_ROW_MIN: usize = 6;

/// What each byte is read as: a space where it is in no word, and zero where that depends on what stands beside it.
const READ_AS: [u8; 256] = {
    let mut read_as = [b' '; 256];
    let mut at = 0;
    while at < read_as.len() {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || !byte.is_ascii() {
            read_as[at] = byte.to_ascii_lowercase();
        } else if is_sign(byte) {
            read_as[at] = 0;
        }
        at += 1;
    }
    read_as
};

/// Whether a byte stands for a letter within a word, and for nothing at its ends.
const fn is_sign(byte: u8) -> bool {
    matches!(byte, b'@' | b'$')
}

/// The words of a text.
pub(super) struct Line {
    words: String,
    /// Whether many words in a row are one letter each.
    is_spelled: bool,
    /// What the words with a digit are that are a byte in hexadecimal.
    hex_bytes: Vec<u8>,
    /// Whether a word has digits for letters in ROT13 or in reverse.
    is_disguised_hidden: bool,
}

impl Line {
    pub(super) fn of(text: &str) -> Self {
        let folded = folded(text);
        let mut reader = Reader::read(folded.as_bytes());
        reader.undisguise();
        reader.into_line()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.words
    }

    /// All words.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.words_from(0)
    }

    /// The words from a space on.
    pub(super) fn words_from(&self, space: usize) -> impl Iterator<Item = &str> {
        let words = self.words[space..].split(' ');
        words.filter(|word| !word.is_empty())
    }

    /// Whether a row of words are one letter each, long enough to spell something.
    pub(super) fn is_spelled(&self) -> bool {
        self.is_spelled
    }

    /// The text that words such as `69`, `x69` or `0x69` are in hexadecimal, if there are as many and they are one.
    pub(super) fn in_hexadecimal(&self, bytes_min: usize) -> Option<String> {
        // Numbers of two digits are often that, but seldom only ones of printable characters.
        let controls = self.hex_bytes.iter().filter(|byte| byte.is_ascii_control());
        if self.hex_bytes.len() < bytes_min || controls.count() * 10 > self.hex_bytes.len() {
            return None;
        }
        let bytes = self.words().filter_map(|word| hex_byte(word.as_bytes()));
        let bytes: Vec<u8> = bytes.collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether [`Self::in_rot13`] or [`Self::in_reverse`] may have words whose letters do not stand here: they have
    /// digits for letters.
    pub(super) fn is_disguised_hidden(&self) -> bool {
        self.is_disguised_hidden
    }

    /// The words in ROT13.
    pub(super) fn in_rot13(&self) -> Self {
        Self::of(&self.words.chars().map(rot13).collect::<String>())
    }

    /// The words read backwards.
    pub(super) fn in_reverse(&self) -> Self {
        Self::of(&self.words.chars().rev().collect::<String>())
    }
}

/// The byte that a word is in hexadecimal: `69`, `x69` or `0x69`.
fn hex_byte(word: &[u8]) -> Option<u8> {
    let ([high, low] | [b'x', high, low] | [b'0', b'x', high, low]) = *word else {
        return None;
    };
    let digit = |byte| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A letter of ASCII thirteen letters further.
pub(super) fn rot13(c: char) -> char {
    match c {
        'a'..='m' => char::from(c as u8 + 13),
        'n'..='z' => char::from(c as u8 - 13),
        other => other,
    }
}

/// A text whose words have only letters of their plain form, and whose characters beyond ASCII are all letters of
/// words.
fn folded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut folded = String::with_capacity(text.len());
    let mut before = None;
    for part in text.split_inclusive(|c: char| c.is_ascii() && READ_AS[c as usize] == b' ') {
        if part.is_ascii() {
            folded.push_str(part);
        } else {
            fold_into(&mut folded, part, before);
        }
        before = part.chars().next_back();
    }
    Cow::Owned(folded)
}

fn fold_into(folded: &mut String, part: &str, mut before: Option<char>) {
    let mut visible = String::with_capacity(part.len());
    for c in part.chars() {
        if !is_invisible(c, before) {
            visible.push(c);
            before = Some(c);
        }
    }
    let in_word = |c: char| c.is_alphanumeric() || "@$\u{300}\u{301}".contains(c);
    for word in visible.split(|c| !in_word(c)) {
        let word = plain(word);
        match word.bytes().any(|b| b.is_ascii_lowercase()) && !word.is_ascii() {
            true => folded.extend(word.chars().map(latin_of)),
            false => folded.push_str(&word),
        }
        folded.push(' ');
    }
}

/// Reads a text into a line.
struct Reader {
    line: Vec<u8>,
    /// Where digits and signs stand in it.
    odd: Vec<usize>,
    is_spelled: bool,
    hex_bytes: Vec<u8>,
    is_disguised_hidden: bool,
}

impl Reader {
    fn read(text: &[u8]) -> Self {
        // A space before, and one behind.
        let mut line = vec![b' '; text.len() + 2];
        let mut odd = Vec::new();
        let mut end = End::new();
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let read = READ_AS[usize::from(byte)];
            if read == 0 {
                let signs = signs(&text[at..], end.is_in_word);
                for &sign in signs.in_word {
                    odd.push(end.at);
                    end.write(&mut line, sign);
                }
                if signs.in_word.is_empty() {
                    end.write(&mut line, b' ');
                }
                at += signs.run;
                continue;
            }
            if read.is_ascii_digit() {
                odd.push(end.at);
            }
            end.write(&mut line, read);
            at += 1;
        }
        end.write(&mut line, b' ');
        line.truncate(end.at);
        Self {
            is_spelled: is_spelled(&line),
            line,
            odd,
            hex_bytes: Vec::new(),
            is_disguised_hidden: false,
        }
    }

    fn into_line(self) -> Line {
        Line {
            words: String::from_utf8(self.line).expect("whole characters of a text were written"),
            is_spelled: self.is_spelled,
            hex_bytes: self.hex_bytes,
            is_disguised_hidden: self.is_disguised_hidden,
        }
    }

    /// Undoes digits and signs for letters.
    fn undisguise(&mut self) {
        let mut read_until = 0;
        for at in std::mem::take(&mut self.odd) {
            if at < read_until {
                continue;
            }
            let is_space = |byte: &u8| *byte == b' ';
            let start = self.line[..at]
                .iter()
                .rposition(is_space)
                .map_or(0, |space| space + 1);
            let len = self.line[at..].iter().position(is_space);
            read_until = len.map_or(self.line.len(), |len| at + len);
            self.undisguise_word(start, read_until);
        }
    }

    fn undisguise_word(&mut self, start: usize, end: usize) {
        let word = &mut self.line[start..end];
        self.hex_bytes.extend(hex_byte(word));
        let mut meant = [0; ROLE_BYTES_MAX];
        let Some(meant) = meant.get_mut(..word.len()) else {
            return;
        };
        if !may_be_disguised(word) {
            return;
        }
        self.is_disguised_hidden |= has_role(
            word.iter().map(|byte| rot13(char::from(*byte)) as u8),
            meant,
        ) || has_role(word.iter().rev().copied(), meant);
        if has_role(word.iter().copied(), meant) {
            word.copy_from_slice(meant);
        }
    }
}

/// A run of signs.
struct Signs<'t> {
    /// Its length.
    run: usize,
    /// All of them if they stand between letters, and else none.
    in_word: &'t [u8],
}

fn signs(text: &[u8], is_in_word: bool) -> Signs<'_> {
    let run = text.iter().take_while(|byte| is_sign(**byte)).count();
    let next = text
        .get(run)
        .map_or(b' ', |byte| READ_AS[usize::from(*byte)]);
    let in_word = if is_in_word && next != b' ' { run } else { 0 };
    Signs {
        run,
        in_word: &text[..in_word],
    }
}

/// The end of a line that is written.
struct End {
    at: usize,
    is_in_word: bool,
}

impl End {
    /// Behind the space that a line begins with.
    fn new() -> Self {
        Self {
            at: 1,
            is_in_word: false,
        }
    }

    /// Writes a byte of a word, or the space behind one; a space behind a space is passed over. There is no branch, as
    /// nobody can guess where words end.
    fn write(&mut self, line: &mut [u8], byte: u8) {
        let in_word = byte != b' ';
        line[self.at] = byte;
        self.at += usize::from(in_word | self.is_in_word);
        self.is_in_word = in_word;
    }
}

/// Whether a line has a row of words of one letter each, long enough to spell a word.
fn is_spelled(line: &[u8]) -> bool {
    // Eight bytes of which every other is a space. A row holds such eight at a multiple of four, wherever it begins.
    const EVEN: u64 = 0x0020_0020_0020_0020;
    const EVEN_MASK: u64 = 0x00ff_00ff_00ff_00ff;
    const ROW_BYTES: usize = 2 * SPELLED_ROW_MIN + 1;
    let may_be_in = |eight: &[u8; 8]| {
        let eight = u64::from_le_bytes(*eight);
        eight & EVEN_MASK == EVEN || (eight >> 8) & EVEN_MASK == EVEN
    };
    let spells = |row: &[u8]| row.iter().step_by(2).all(|byte| *byte == b' ');
    (0..line.len()).step_by(4).any(|at| {
        line[at..].first_chunk().is_some_and(may_be_in) && {
            let around = &line[at.saturating_sub(ROW_BYTES)..line.len().min(at + ROW_BYTES)];
            around.windows(ROW_BYTES).any(spells)
        }
    })
}

/// Fewest characters of a word with digits for letters.
const DISGUISED_BYTES_MIN: usize = 4;

fn may_be_disguised(word: &[u8]) -> bool {
    word.len() >= DISGUISED_BYTES_MIN
        && word.is_ascii()
        && word.iter().any(u8::is_ascii_lowercase)
        && !word.iter().all(u8::is_ascii_lowercase)
}

/// Whether a word has a role once letters stand for its digits; writes down what it then is.
fn has_role(word: impl Iterator<Item = u8>, meant: &mut [u8]) -> bool {
    for (meant, byte) in meant.iter_mut().zip(word) {
        *meant = letter_of(byte);
    }
    std::str::from_utf8(meant).is_ok_and(|meant| roles_of(meant) != 0)
}

fn letter_of(byte: u8) -> u8 {
    match byte {
        b'0' => b'o',
        b'1' => b'i',
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        other => other,
    }
}

fn latin_of(c: char) -> char {
    match c {
        'а' | 'α' => 'a',
        'е' | 'ε' => 'e',
        'о' | 'ο' => 'o',
        'р' | 'ρ' => 'p',
        'с' => 'c',
        'х' => 'x',
        'у' => 'y',
        'і' | 'ι' | 'ı' => 'i',
        'ѕ' => 's',
        'ԁ' => 'd',
        'ո' | 'п' => 'n',
        'г' => 'r',
        'ν' => 'v',
        'т' => 't',
        'м' => 'm',
        'к' | 'κ' => 'k',
        'һ' => 'h',
        'ɡ' => 'g',
        'ӏ' => 'l',
        other => other,
    }
}
