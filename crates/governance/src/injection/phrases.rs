//! What a text's words say: noun phrases such as "ignore all of the previous instructions", and
//! turns of phrase that are always the same.
//!
//! Between the words of a phrase only fillers may stand, so "ignore the previous mail, the
//! instructions have changed" is none.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::Signal;
use super::lexicon::{plain, role, roles_of};
use super::turns::TURNS;
use crate::sanitizer::is_invisible;

/// Most words of a phrase from its verb on.
const PHRASE_WORDS_MAX: usize = 12;

/// The words of a text, without diacritics, disguises and punctuation; "don't" is two.
pub(super) struct Words {
    words: Vec<(String, u16)>,
    /// The words with one space between them.
    line: String,
    /// Whether the text quotes something.
    quotes: bool,
}

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let mut visible = String::with_capacity(text.len());
        let mut before = None;
        for c in text.chars() {
            if !is_invisible(c, before) {
                visible.push(c);
                before = Some(c);
            }
        }
        let split =
            visible.split(|c: char| !c.is_alphanumeric() && !"@$\u{300}\u{301}".contains(c));
        let words: Vec<(String, u16)> = split
            .map(|word| word.trim_matches(['@', '$']))
            .filter(|word| !word.is_empty())
            .map(|word| {
                let word = undisguised(word);
                let roles = roles_of(&word);
                (word, roles)
            })
            .collect();
        let mut line = String::from(" ");
        for (word, _) in &words {
            line.push_str(word);
            line.push(' ');
        }
        Self {
            words,
            line,
            quotes: text.contains(['"', '“', '”', '«', '„', '`']) || text.contains(" '"),
        }
    }

    /// Whether the text is about injections and only quotes one.
    pub(super) fn talks_about_injections(&self) -> bool {
        let about = self
            .words
            .iter()
            .filter(|(_, roles)| roles & role::ABOUT != 0);
        about.take(2).count() >= if self.quotes { 1 } else { 2 }
    }

    /// Whether at `start` a phrase stands in which each of the roles follows the last, with
    /// nothing but fillers and words of these roles between.
    fn has_phrase(&self, start: usize, roles: &[u16], allowed: u16) -> bool {
        let mut wanted = roles.iter().peekable();
        let phrase = self.words[start..].iter().take(PHRASE_WORDS_MAX);
        for (_, has) in phrase {
            match wanted.peek() {
                Some(role) if has & **role != 0 => {
                    wanted.next();
                }
                Some(_) if has & (role::FILLER | allowed) != 0 => {}
                _ => break,
            }
        }
        wanted.peek().is_none()
    }
}

/// A word as it was meant: look-alike letters of other scripts and digits for letters undone.
fn undisguised(word: &str) -> String {
    let word = plain(word);
    let latin = word.bytes().any(|b| b.is_ascii_lowercase());
    if !word.is_ascii() && latin {
        return word.chars().map(latin_of).collect();
    }
    let mixed = latin
        && word
            .bytes()
            .any(|b| b.is_ascii_digit() || b"@$".contains(&b));
    if mixed && word.len() >= 4 {
        let meant: String = word.chars().map(letter_of).collect();
        if roles_of(&meant) != 0 {
            return meant;
        }
    }
    word
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
        'і' | 'ι' => 'i',
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
        'ı' => 'i',
        other => other,
    }
}

fn letter_of(c: char) -> char {
    match c {
        '0' => 'o',
        '1' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

static TURN_PHRASES: LazyLock<(AhoCorasick, Vec<usize>)> = LazyLock::new(|| {
    let mut phrases = Vec::new();
    let mut turns = Vec::new();
    for (turn, (_, _, _, said)) in TURNS.iter().enumerate() {
        for phrase in *said {
            let spaced = phrase.is_ascii() || phrase.contains(|c: char| ('а'..='я').contains(&c));
            phrases.push(if spaced {
                format!(" {}", plain(phrase))
            } else {
                plain(phrase)
            });
            turns.push(turn);
        }
    }
    let automaton = AhoCorasick::new(phrases).expect("a few hundred phrases make an automaton");
    (automaton, turns)
});

/// What the words of a text are signs of.
pub(super) fn signals(words: &Words) -> Vec<Signal> {
    let mut signals = Vec::new();
    let (automaton, turns) = &*TURN_PHRASES;
    for found in automaton.find_overlapping_iter(&words.line) {
        let (name, weight, reason, _) = TURNS[turns[found.pattern()]];
        push(&mut signals, name, reason, weight);
    }
    for (start, (_, roles)) in words.words.iter().enumerate() {
        if roles & role::OVERRIDE != 0 {
            override_signals(words, start, &mut signals);
        }
        if roles & role::REVEAL != 0 {
            reveal_signals(words, start, &mut signals);
        }
        if roles & role::SEND != 0 {
            send_signals(words, start, &mut signals);
        }
    }
    signals
}

fn override_signals(words: &Words, start: usize, signals: &mut Vec<Signal>) {
    const NAME: &str = "instruction-override";
    let between = role::YOURS | role::PRIOR | role::HIDDEN;
    let prior = words.has_phrase(start, &[role::OVERRIDE, role::PRIOR, role::RULES], between)
        || words.has_phrase(start, &[role::OVERRIDE, role::RULES, role::PRIOR], between);
    if prior {
        return push(
            signals,
            NAME,
            "says that earlier instructions do not hold",
            0.6,
        );
    }
    if words.has_phrase(start, &[role::OVERRIDE, role::YOURS, role::RULES], between)
        || words.has_phrase(start, &[role::OVERRIDE, role::HIDDEN, role::RULES], between)
    {
        return push(
            signals,
            NAME,
            "says that the model's own rules do not hold",
            0.55,
        );
    }
    if words.has_phrase(start, &[role::OVERRIDE, role::RULES], between) {
        push(signals, NAME, "says that some rules do not hold", 0.3);
    }
}

fn reveal_signals(words: &Words, start: usize, signals: &mut Vec<Signal>) {
    const NAME: &str = "exfiltration";
    let between = role::YOURS | role::HIDDEN | role::PRIOR;
    let hidden = words.has_phrase(start, &[role::REVEAL, role::HIDDEN, role::RULES], between);
    let yours = words.has_phrase(start, &[role::REVEAL, role::YOURS, role::RULES], between);
    if hidden || yours {
        return push(signals, NAME, "asks for the model's instructions", 0.55);
    }
    let treasure = words.has_phrase(start, &[role::REVEAL, role::YOURS, role::TREASURE], between)
        || words.has_phrase(
            start,
            &[role::REVEAL, role::HIDDEN, role::TREASURE],
            between,
        );
    if treasure {
        push(signals, NAME, "asks for secrets of the model's side", 0.4);
    } else if words.has_phrase(start, &[role::REVEAL, role::PRIOR, role::RULES], between) {
        push(
            signals,
            NAME,
            "asks for instructions that stand before the text",
            0.35,
        );
    }
}

fn send_signals(words: &Words, start: usize, signals: &mut Vec<Signal>) {
    let phrase = &words.words[start..words.words.len().min(start + PHRASE_WORDS_MAX + 4)];
    let has = |wanted: u16| phrase.iter().any(|(_, roles)| roles & wanted != 0);
    let away = phrase.iter().any(|(word, _)| {
        matches!(
            word.as_str(),
            "http" | "https" | "webhook" | "url" | "server" | "endpoint"
        )
    });
    let history = phrase.iter().any(|(word, _)| {
        matches!(
            word.as_str(),
            "conversation" | "history" | "chat" | "context" | "transcript"
        )
    });
    if away && (has(role::TREASURE) || history) {
        let weight = if has(role::YOURS) || history {
            0.4
        } else {
            0.25
        };
        push(
            signals,
            "exfiltration",
            "asks to send what is known elsewhere",
            weight,
        );
    }
}

fn push(signals: &mut Vec<Signal>, name: &'static str, reason: &'static str, weight: f32) {
    let known = signals
        .iter_mut()
        .find(|s| s.name == name && s.reason == reason);
    match known {
        Some(signal) => signal.weight = signal.weight.max(weight),
        None => signals.push(Signal {
            name,
            reason,
            weight,
        }),
    }
}
