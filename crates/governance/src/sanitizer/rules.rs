//! All rules together: where each has to be asked.
//!
//! One automaton over all keywords (case-insensitive) and one pass over the beginnings of words
//! say where a secret may be; nearly all of a usual text is passed over by these two. Order
//! matters: of two rules at one place, the one that stands first in the files is asked first.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::encoding;
use super::ledger::MARK_START;
use super::look::HEAD_BYTES_MAX;
use super::pattern::ByteSet;
use super::rule::{Rule, Words};

/// Longest keyword or context word, in bytes.
pub(super) const KEYWORD_BYTES_MAX: usize = 48;
/// Most keywords and context words of all rules together.
pub(super) const KEYWORDS_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// What each keyword is for.
    uses: Vec<Use>,
    /// For each first byte of a word, the rules that are asked at it.
    at_words: Vec<Vec<usize>>,
    /// The first bytes at which some rule is asked.
    asked_at: ByteSet,
    word_border: ByteSet,
    keyword_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Use {
    keyword_of: Vec<usize>,
    context_of: Vec<usize>,
    kind: Option<TriggerKind>,
}

/// A place where something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Trigger {
    pub(super) at: usize,
    pub(super) kind: TriggerKind,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TriggerKind {
    /// A mark in the text.
    Mark,
    /// A word that makes a rule surer.
    Context { rule: usize, bytes: usize },
    /// A keyword of a rule.
    Keyword { rule: usize, bytes: usize },
    /// A word begins.
    Word,
    /// Something that may be text in base64.
    Base64,
    /// A percent sign.
    Percent,
}

/// A rule with its words, as the files give them.
pub(super) struct Worded {
    pub(super) rule: Rule,
    pub(super) keywords: Vec<String>,
    pub(super) context: Vec<String>,
}

impl Rules {
    /// Joins rules.
    ///
    /// # Errors
    /// That there are too many keywords.
    pub(super) fn new(worded: Vec<Worded>) -> Result<Self, String> {
        let mut words: Vec<(String, Use)> = Vec::new();
        let mut index = std::collections::HashMap::new();
        let mut slot = |word: &str, words: &mut Vec<(String, Use)>| {
            let lower = word.to_ascii_lowercase();
            *index.entry(lower.clone()).or_insert_with(|| {
                words.push((lower, Use::default()));
                words.len() - 1
            })
        };
        for (word, kind) in [(MARK_START, TriggerKind::Mark), ("%", TriggerKind::Percent)] {
            let place = slot(word, &mut words);
            words[place].1.kind = Some(kind);
        }
        let mut rules = Vec::with_capacity(worded.len());
        for (
            number,
            Worded {
                rule,
                keywords,
                context,
            },
        ) in worded.into_iter().enumerate()
        {
            for keyword in &keywords {
                let place = slot(keyword, &mut words);
                words[place].1.keyword_of.push(number);
            }
            for word in &context {
                let place = slot(word, &mut words);
                words[place].1.context_of.push(number);
            }
            rules.push(rule);
        }
        if words.len() > KEYWORDS_MAX {
            return Err(format!(
                "more than {KEYWORDS_MAX} keywords and context words"
            ));
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind((words.len() <= 4096).then_some(AhoCorasickKind::DFA))
            .build(words.iter().map(|(word, _)| word))
            .map_err(|error| error.to_string())?;
        let keyword_bytes_max = words.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
        let asked_at = |first: u8| {
            let rules = rules.iter().enumerate();
            let asked = rules.filter(|(_, rule)| {
                rule.at_words
                    .as_ref()
                    .is_some_and(|words| words.first.contains(first))
            });
            asked.map(|(number, _)| number).collect()
        };
        let at_words: Vec<Vec<usize>> = (0..=u8::MAX).map(asked_at).collect();
        let mut asked_at = ByteSet::default();
        let first = (0..=u8::MAX).filter(|b| !at_words[usize::from(*b)].is_empty());
        first.for_each(|first| asked_at.insert(first));
        Ok(Self {
            rules,
            keywords,
            uses: words.into_iter().map(|(_, used)| used).collect(),
            at_words,
            asked_at,
            word_border: word_border(),
            keyword_bytes_max,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn get(&self, index: usize) -> &Rule {
        &self.rules[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Letters, digits, `_` and everything that is not ASCII: what continues a word.
    pub(super) fn word_border(&self) -> &ByteSet {
        &self.word_border
    }

    pub(super) fn keyword_bytes_max(&self) -> usize {
        self.keyword_bytes_max
    }

    /// The rules that are asked at words with this first byte.
    pub(super) fn at_words(&self, first: u8) -> impl Iterator<Item = (usize, &Words)> {
        let rules = self.at_words[usize::from(first)].iter();
        rules.filter_map(|index| Some((*index, self.rules[*index].at_words.as_ref()?)))
    }

    /// Whether a word that some rule is asked at begins here, if nothing stands before it.
    pub(super) fn begins_word(&self, text: &[u8], at: usize) -> bool {
        text.get(at).is_some_and(|b| self.asked_at.contains(*b))
    }

    /// Every place from `from` on where something may be, in order. `fresh`: nothing stands before
    /// `from`, or something that was replaced.
    pub(super) fn triggers(&self, text: &[u8], from: usize, fresh: bool) -> Vec<Trigger> {
        let mut triggers = self.keywords_in(text, from, text.len());
        self.push_words(text, from, fresh, &mut triggers);
        push_base64(text, from, &mut triggers);
        triggers.sort_unstable();
        triggers
    }

    /// Keywords that lie within a stretch.
    pub(super) fn keywords_in(&self, text: &[u8], start: usize, end: usize) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        for found in self.keywords.find_overlapping_iter(&text[start..end]) {
            let used = &self.uses[found.pattern()];
            let at = start + found.start();
            let bytes = found.len();
            triggers.extend(used.kind.map(|kind| Trigger { at, kind }));
            triggers.extend(used.context_of.iter().map(|rule| Trigger {
                at,
                kind: TriggerKind::Context { rule: *rule, bytes },
            }));
            triggers.extend(used.keyword_of.iter().map(|rule| Trigger {
                at,
                kind: TriggerKind::Keyword { rule: *rule, bytes },
            }));
        }
        triggers
    }

    fn push_words(&self, text: &[u8], from: usize, fresh: bool, triggers: &mut Vec<Trigger>) {
        let mut inside = !fresh && from > 0 && self.word_border.contains(text[from - 1]);
        for (offset, byte) in text[from..].iter().enumerate() {
            let in_word = self.word_border.contains(*byte);
            if !inside && self.asked_at.contains(*byte) {
                triggers.push(Trigger {
                    at: from + offset,
                    kind: TriggerKind::Word,
                });
            }
            inside = in_word;
        }
    }
}

fn word_border() -> ByteSet {
    let mut border = ByteSet::default();
    for byte in 0..=u8::MAX {
        if byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii() {
            border.insert(byte);
        }
    }
    border
}

/// How much of a run tells whether text goes on, in bytes.
const GOES_ON_BYTES: usize = 12;

/// Places in long base64 runs where text may begin: behind what is no letter or digit, as what is
/// glued to a secret would read differently without it, and every four bytes while text goes on.
fn push_base64(text: &[u8], from: usize, triggers: &mut Vec<Trigger>) {
    let mut at = from;
    while at < text.len() {
        let run = text[at..].iter();
        let run_end = at + run.take_while(|b| encoding::is_base64_byte(**b)).count();
        let open = run_end == text.len();
        let last = match open {
            true => run_end,
            false => (run_end + 1).saturating_sub(encoding::BASE64_BYTES_MIN),
        };
        for place in at..last.max(at) {
            let window = &text[place..run_end.min(place + HEAD_BYTES_MAX)];
            let begins = place == 0 || !text[place - 1].is_ascii_alphanumeric();
            let goes_on = || place >= 4 && encoding::may_be_text(&text[place - 4..run_end]);
            let undecided = || open && run_end - place < GOES_ON_BYTES;
            if encoding::may_be_text(window) && (begins || goes_on() || undecided()) {
                triggers.push(Trigger {
                    at: place,
                    kind: TriggerKind::Base64,
                });
            }
        }
        at = run_end + 1;
    }
}
