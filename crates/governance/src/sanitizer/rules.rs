//! All rules together: where each has to be asked.
//!
//! One pass over keywords (case-insensitive) and the beginnings of words ([`super::keywords`])
//! says where a secret may be; nearly all of a usual text is passed over by it. Order matters: of
//! two rules at one place, the one that stands first in the files is asked first.

use std::ops::Range;

use super::encoding;
use super::keywords::{Keywords, Pairs, is_word_byte};
use super::ledger::MARK_START;
use super::pattern::ByteSet;
use super::rule::Rule;

/// Longest keyword or context word, in bytes.
pub(super) const KEYWORD_BYTES_MAX: usize = 48;
/// Most keywords and context words of all rules together.
pub(super) const KEYWORDS_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    keywords: Keywords,
    /// What each keyword is for.
    uses: Vec<Use>,
    /// For each first byte of a word, the rules that are asked at it.
    at_words: Vec<Vec<AtWord>>,
    word_border: ByteSet,
}

#[derive(Debug, Default)]
struct Use {
    keyword_of: Vec<usize>,
    context_of: Vec<usize>,
    kind: Option<TriggerKind>,
}

/// A rule that is asked at words.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtWord {
    pub(super) rule: usize,
    confidence: f32,
    confidence_in_context: f32,
}

impl AtWord {
    /// How sure the rule can be of a match, at most.
    pub(super) fn surest(&self, near_context: bool) -> f32 {
        match near_context {
            true => self.confidence.max(self.confidence_in_context),
            false => self.confidence,
        }
    }
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
    /// A word that makes rules surer.
    Context { bytes: usize, word: usize },
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
        let asked_at = |first: u8| {
            let rules = rules.iter().enumerate();
            let asked = rules.filter(|(_, rule)| {
                rule.at_words
                    .as_ref()
                    .is_some_and(|words| words.first.contains(first))
            });
            let asked = asked.map(|(number, rule)| AtWord {
                rule: number,
                confidence: rule.confidence,
                confidence_in_context: rule.confidence_in_context,
            });
            asked.collect()
        };
        let at_words: Vec<Vec<AtWord>> = (0..=u8::MAX).map(asked_at).collect();
        let mut firsts = ByteSet::default();
        let first = (0..=u8::MAX).filter(|b| !at_words[usize::from(*b)].is_empty());
        first.for_each(|first| firsts.insert(first));
        let may_begin = |first: u8, second: u8| {
            let mut asked = at_words[usize::from(first)].iter();
            asked.any(|asked| rules[asked.rule].may_begin_word(first, second))
        };
        let pairs = Pairs::of(may_begin, &firsts);
        let spelled: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        let keywords = Keywords::new(&spelled, pairs)?;
        Ok(Self {
            rules,
            keywords,
            uses: words.into_iter().map(|(_, used)| used).collect(),
            at_words,
            word_border: word_border(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn get(&self, index: usize) -> &Rule {
        &self.rules[index]
    }

    /// The rules that a context word makes surer.
    pub(super) fn in_context_of(&self, word: usize) -> &[usize] {
        &self.uses[word].context_of
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Letters, digits, `_` and everything that is not ASCII: what continues a word.
    pub(super) fn word_border(&self) -> &ByteSet {
        &self.word_border
    }

    /// Whether the end of a text, from a place on, may become a keyword.
    pub(super) fn may_be_keyword(&self, text: &[u8], at: usize) -> bool {
        self.keywords.may_go_on(text, at)
    }

    pub(super) fn keyword_bytes_max(&self) -> usize {
        self.keywords.bytes_max()
    }

    /// The rules that are asked at words with this first byte.
    pub(super) fn at_words(&self, first: u8) -> &[AtWord] {
        &self.at_words[usize::from(first)]
    }

    /// Whether a word that some rule may be about begins here, if nothing stands before it.
    pub(super) fn begins_word(&self, text: &[u8], at: usize) -> bool {
        self.keywords.begins_word(text, at)
    }

    /// Every place from `from` on where something may be, in order. `fresh`: nothing stands before
    /// `from`, or something that was replaced. `loosely`: how many places at the end of the text are
    /// not to be passed over for what stands behind their first byte.
    pub(super) fn triggers(
        &self,
        text: &[u8],
        from: usize,
        fresh: bool,
        loosely: usize,
    ) -> Vec<Trigger> {
        let mut triggers = self.plain_triggers(text, from, fresh, loosely);
        let plain = triggers.len();
        push_base64(text, from, &mut triggers);
        if triggers.len() > plain {
            // Both parts are in order, which this sort makes use of.
            triggers.sort_by_key(|trigger| trigger.at);
        }
        triggers
    }

    /// The same without those where text may be encoded in base64.
    pub(super) fn plain_triggers(
        &self,
        text: &[u8],
        from: usize,
        fresh: bool,
        loosely: usize,
    ) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        let inside = !fresh && from > 0 && is_word_byte(text[from - 1]);
        self.keywords
            .each_beginning(text, from, inside, loosely, |beginning| {
                let at = beginning.at;
                let already = triggers.len();
                if beginning.keyword {
                    self.push_keywords(text, at, &mut triggers);
                }
                if beginning.word {
                    triggers.push(Trigger {
                        at,
                        kind: TriggerKind::Word,
                    });
                }
                if triggers.len() > already + 1 {
                    triggers[already..].sort_unstable();
                }
            });
        triggers
    }

    /// Keywords that lie within a stretch.
    pub(super) fn keywords_in(&self, text: &[u8], start: usize, end: usize) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        let stretch = &text[..end];
        self.keywords
            .each_beginning(stretch, start, true, 0, |beginning| {
                if beginning.keyword {
                    self.push_keywords(stretch, beginning.at, &mut triggers);
                }
            });
        triggers
    }

    /// What the keywords that begin at a place are for.
    fn push_keywords(&self, text: &[u8], at: usize, triggers: &mut Vec<Trigger>) {
        self.keywords.each_at(text, at, |keyword, bytes| {
            let used = &self.uses[keyword];
            triggers.extend(used.kind.map(|kind| Trigger { at, kind }));
            if !used.context_of.is_empty() {
                let word = keyword;
                triggers.push(Trigger {
                    at,
                    kind: TriggerKind::Context { bytes, word },
                });
            }
            triggers.extend(used.keyword_of.iter().map(|rule| Trigger {
                at,
                kind: TriggerKind::Keyword { rule: *rule, bytes },
            }));
        });
    }
}

fn word_border() -> ByteSet {
    let mut border = ByteSet::default();
    for byte in 0..=u8::MAX {
        if is_word_byte(byte) {
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
    while let Some(run) = base64_run(text, at) {
        let open = run.end == text.len();
        let last = match open {
            true => run.end,
            false => run.end + 1 - encoding::BASE64_BYTES_MIN,
        };
        for place in run.start..last {
            let begins = place == 0 || !text[place - 1].is_ascii_alphanumeric();
            let goes_on = || place >= 4 && encoding::may_be_text(&text[place - 4..run.end]);
            let undecided = || open && run.end - place < GOES_ON_BYTES;
            let may_be_text = encoding::may_be_text(&text[place..run.end]);
            if may_be_text && (begins || goes_on() || undecided()) {
                triggers.push(Trigger {
                    at: place,
                    kind: TriggerKind::Base64,
                });
            }
        }
        at = run.end + 1;
    }
}

/// The next run of base64 characters that is long enough to be decoded, or that the text ends with.
fn base64_run(text: &[u8], from: usize) -> Option<Range<usize>> {
    let is_foreign = |byte: &u8| !encoding::is_base64_byte(*byte);
    let mut start = from;
    loop {
        // A long run from here on would reach the end of this window; most windows are left for
        // good after a few looks at their end.
        let window_end = start + encoding::BASE64_BYTES_MIN;
        let window = text.get(start..window_end.min(text.len()))?;
        if let Some(foreign) = window.iter().rposition(is_foreign) {
            start += foreign + 1;
        } else {
            let end = start + window.len();
            let more = text[end..].iter().position(is_foreign);
            let end = more.map_or(text.len(), |more| end + more);
            return (start < end).then_some(start..end);
        }
    }
}
