//! Judges one place of a text: is there a secret here, and how far does it reach?
//!
//! A verdict depends on nothing but the text around the place: at most [`BEHIND_BYTES`] before
//! and, for shipped rules, [`HEAD_BYTES_MAX`] of the possible secret itself. Where that much is
//! not at hand yet, the verdict is [`Verdict::More`], and says from where on nothing may be
//! emitted. So a verdict is the same wherever a stream was cut.

mod encoded;
mod forms;

use std::cell::{Cell, OnceCell};

use super::encoding;
use super::ledger::MARK_START;
use super::number;
use super::pattern::ByteSet;
use super::rule::{Form, Rule, Words};
use super::rules::{Rules, Trigger, TriggerKind};

/// How many bytes of a secret are enough to know it; also the most that is held back of a text
/// in which no custom rule's keyword stands.
pub(super) const HEAD_BYTES_MAX: usize = 62;
/// Longest text before a secret that a rule may ask for, in bytes.
pub(super) const PREFIX_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// How far around a percent sign a text is decoded, in bytes.
const PERCENT_BYTES_MAX: usize = encoding::PERCENT_WINDOW_BYTES / 2;
/// How far around its keyword a custom pattern may reach, in bytes.
pub(super) const AROUND_BEFORE_BYTES: usize = 128;
pub(super) const AROUND_BEHIND_BYTES: usize = 256;
/// How far back a place is looked at.
pub(super) const BEHIND_BYTES: usize = 192;

/// What was found, or why nothing yet.
pub(super) enum Verdict {
    No,
    /// More text is needed; what is before `held_from` is no part of a secret.
    More {
        held_from: usize,
    },
    /// Not as far as this: there, a secret of a rule with a form of its own begins.
    Cut {
        at: usize,
    },
    /// A mark that stands in the text; nothing in it is looked at.
    Mark {
        end: usize,
    },
    Found(Found),
}

/// A secret.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) rule: usize,
    pub(super) start: usize,
    /// Behind what is at hand of it.
    pub(super) end: usize,
    pub(super) confidence: f32,
    pub(super) tail: Tail,
}

/// What still belongs to a secret behind its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    None,
    /// What the rule says.
    OfRule,
    /// Characters of keys and encodings.
    Run,
    /// Everything up to the end of the value.
    Value {
        quote: Option<u8>,
    },
    /// Everything up to the end line.
    Block,
}

/// A text, and how much of it may be looked at.
pub(super) struct Look<'a> {
    pub(super) rules: &'a Rules,
    pub(super) text: &'a [u8],
    /// What is before belongs to something that was replaced.
    pub(super) clean_from: usize,
    /// Whether no more text comes.
    pub(super) ended: bool,
    /// Whether this is text from inside an encoding.
    pub(super) nested: bool,
    pub(super) confidence_min: f32,
    /// Whether a context word of any rule may count around here.
    pub(super) near_context: bool,
    pub(super) in_context: &'a dyn Fn(usize, usize) -> bool,
    /// The numbers that were looked at last in this text.
    pub(super) numbers: &'a Cell<Numbers>,
}

/// The digits and separators from a place on, and how many are digits.
#[derive(Clone, Copy, Default)]
pub(super) struct Numbers {
    start: usize,
    end: usize,
    digits: usize,
}

/// A stretch of text of one alphabet.
struct Stretch {
    end: usize,
    /// Whether more text could make it longer.
    open: bool,
}

/// Whether something of a known form stands in a stretch.
enum KnownForm {
    None,
    At(usize),
    /// That is not known yet.
    Open,
}

/// What several rules ask about the word at one place, looked at once.
#[derive(Default)]
struct Word {
    /// Its letters and digits.
    letters: OnceCell<Stretch>,
    /// Its digits and separators.
    numbers: OnceCell<Numbers>,
}

/// Characters that names, keys and addresses are made of.
pub(super) fn is_run_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'%')
}

/// Digits, and what may stand between them in numbers of any kind.
fn is_in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b' ' | b'.' | b'-' | b'/' | b'(' | b')' | b'+')
}

impl Look<'_> {
    pub(super) fn judge(&self, trigger: &Trigger) -> Verdict {
        let at = trigger.at;
        match trigger.kind {
            TriggerKind::Mark => self.judge_mark(at),
            TriggerKind::Keyword { rule, bytes } => self.judge_rule(rule, at, bytes),
            TriggerKind::Word => self.judge_word(at),
            TriggerKind::Base64 if !self.nested => self.judge_base64(at),
            TriggerKind::Percent if !self.nested => self.judge_percent(at),
            _ => Verdict::No,
        }
    }

    fn judge_mark(&self, at: usize) -> Verdict {
        let stretch = self.stretch(at, HEAD_BYTES_MAX, |b| {
            b.is_ascii_alphanumeric() || matches!(b, b'[' | b':' | b'-')
        });
        let closed = self.text.get(stretch.end) == Some(&b']');
        if !closed {
            return match stretch.open {
                true => Verdict::More {
                    held_from: self.text.len(),
                },
                false => Verdict::No,
            };
        }
        let inside = &self.text[at + MARK_START.len()..stretch.end];
        let colon = inside.iter().position(|b| *b == b':');
        let is_mark = colon.is_some_and(|colon| {
            let (rule, number) = (&inside[..colon], &inside[colon + 1..]);
            let in_rule = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
            !rule.is_empty()
                && rule.iter().all(in_rule)
                && !number.is_empty()
                && number.iter().all(u8::is_ascii_digit)
        });
        match is_mark {
            true => Verdict::Mark {
                end: stretch.end + 1,
            },
            false => Verdict::No,
        }
    }

    fn judge_word(&self, at: usize) -> Verdict {
        let word = Word::default();
        for asked in self.rules.at_words(self.text[at]) {
            let index = asked.rule;
            // Most rules about numbers only count in context.
            if asked.surest(self.near_context) < self.confidence_min
                || self.confidence(index, at).is_none()
            {
                continue;
            }
            let Some(words) = &self.rules.get(index).at_words else {
                continue;
            };
            match self.fits(words, at, &word) {
                Some(true) => {}
                Some(false) => continue,
                None => return Verdict::More { held_from: at },
            }
            match self.judge_rule(index, at, 0) {
                Verdict::No => {}
                other => return other,
            }
        }
        Verdict::No
    }

    /// Whether a word could be of a rule, by cheap questions; `None` if that is not known yet.
    fn fits(&self, words: &Words, at: usize, word: &Word) -> Option<bool> {
        if let Some(letters) = words.digits_at {
            let rest = &self.text[at..];
            let begins = rest.iter().take(letters).all(u8::is_ascii_uppercase);
            let digits = rest.iter().skip(letters).take(2).all(u8::is_ascii_digit);
            if !begins || !digits {
                return Some(false);
            }
        }
        if let Some(then) = &words.then {
            let letters = word
                .letters
                .get_or_init(|| self.stretch(at, HEAD_BYTES_MAX, |b| b.is_ascii_alphanumeric()));
            let fits = self
                .text
                .get(letters.end)
                .is_some_and(|b| then.contains(*b));
            if !fits {
                return (!letters.open).then_some(false);
            }
        }
        if words.digits_min > 0 {
            let numbers = word.numbers.get_or_init(|| self.numbers_at(at));
            if numbers.digits < words.digits_min {
                let open = numbers.end >= self.text.len() && !self.ended;
                return (!open).then_some(false);
            }
        }
        Some(true)
    }

    /// The digits and separators from a place on. Places in the same numbers share what is known
    /// of them, so that none of their bytes is looked at again from each place.
    fn numbers_at(&self, at: usize) -> Numbers {
        let digits = |from: usize, to: usize| {
            let part = self.text[from..to].iter();
            part.filter(|b| b.is_ascii_digit()).count()
        };
        let last = self.numbers.get();
        let known = match (last.start..last.end).contains(&at) {
            true => Numbers {
                start: at,
                digits: last.digits - digits(last.start, at),
                ..last
            },
            false => Numbers {
                start: at,
                end: at,
                digits: 0,
            },
        };
        let most = at + HEAD_BYTES_MAX - known.end;
        let end = self.stretch(known.end, most, is_in_number).end;
        let numbers = Numbers {
            end,
            digits: known.digits + digits(known.end, end),
            ..known
        };
        self.numbers.set(numbers);
        numbers
    }

    /// How sure a rule would be of a match at a place; `None` if that is not sure enough.
    fn confidence(&self, index: usize, at: usize) -> Option<f32> {
        let rule = self.rules.get(index);
        let in_context = rule.has_context && self.near_context && (self.in_context)(index, at);
        let confidence = match in_context {
            true => rule.confidence_in_context,
            false => rule.confidence,
        };
        (confidence >= self.confidence_min).then_some(confidence)
    }

    fn judge_rule(&self, index: usize, at: usize, keyword_bytes: usize) -> Verdict {
        let Some(confidence) = self.confidence(index, at) else {
            return Verdict::No;
        };
        let rule = self.rules.get(index);
        let ask = Ask {
            index,
            rule,
            confidence,
        };
        let verdict = match &rule.form {
            Form::Head(head) => self.judge_head(&ask, head, at),
            Form::Around { pattern, group } => {
                self.judge_around(&ask, pattern, *group, at, keyword_bytes)
            }
            Form::Assignment(announced) => {
                self.judge_assignment(&ask, *announced, at, keyword_bytes)
            }
            Form::PaymentCard if !self.may_wait(at) && !number::may_be_card(&self.text[at..]) => {
                Verdict::No
            }
            Form::PaymentCard => self.judge_number(&ask, at, number::card_end),
            Form::Iban => self.judge_number(&ask, at, number::iban_end),
            Form::Literal => self.judge_literal(&ask, at, keyword_bytes),
            Form::PrivateKey(begin) => self.judge_private_key(&ask, begin, at),
        };
        match verdict {
            // What stands before the other secret was no secret by itself.
            Verdict::Cut { .. } => Verdict::No,
            other => other,
        }
    }

    /// The last questions to a match: is it long enough, random enough, no placeholder, and does
    /// its checksum hold?
    fn confirm(
        &self,
        ask: &Ask<'_>,
        start: usize,
        judged_end: usize,
        end: usize,
        tail: Tail,
    ) -> Verdict {
        let Ask { index, rule, .. } = *ask;
        let secret = &self.text[start..judged_end];
        if start < self.clean_from || secret.is_empty() || holds_mark(secret) {
            return Verdict::No;
        }
        let mut confidence = ask.confidence;
        if let Some(check) = rule.check
            && !check.passes(secret)
        {
            match rule.confidence_unchecked {
                Some(unchecked) => confidence = unchecked,
                None => return Verdict::No,
            }
        }
        let stopped = rule
            .stop_words
            .iter()
            .any(|word| contains_ignoring_case(secret, word));
        if confidence < self.confidence_min
            || stopped
            || rule.allow.iter().any(|allow| allow.is_match(secret))
            || rule.entropy_min > 0.0 && entropy(secret) < rule.entropy_min
        {
            return Verdict::No;
        }
        if rule.is_generic {
            match self.known_form_in(index, start, judged_end) {
                KnownForm::At(at) => return Verdict::Cut { at },
                KnownForm::Open => return Verdict::More { held_from: start },
                KnownForm::None => {}
            }
        }
        Verdict::Found(Found {
            rule: index,
            start,
            end,
            confidence,
            tail,
        })
    }

    /// Where in a stretch a rule with a form of its own finds something.
    fn known_form_in(&self, asking: usize, start: usize, end: usize) -> KnownForm {
        for trigger in self.rules.keywords_in(self.text, start, end) {
            let TriggerKind::Keyword { rule, bytes } = trigger.kind else {
                continue;
            };
            if rule == asking || self.rules.get(rule).is_generic {
                continue;
            }
            match self.judge_rule(rule, trigger.at, bytes) {
                Verdict::Found(found) if found.start < end => return KnownForm::At(found.start),
                Verdict::More { .. } => return KnownForm::Open,
                _ => {}
            }
        }
        KnownForm::None
    }

    /// The bytes from `start` on that are in an alphabet, at most so many.
    fn stretch(&self, start: usize, bytes_max: usize, is_in: impl Fn(u8) -> bool) -> Stretch {
        let rest = self.text.get(start..).unwrap_or_default();
        let length = rest.iter().take(bytes_max).take_while(|b| is_in(**b));
        let end = start + length.count();
        Stretch {
            end,
            open: end >= self.text.len() && !self.ended,
        }
    }

    /// Whether less text than a head is at hand at a place, and more may come.
    fn may_wait(&self, at: usize) -> bool {
        !self.ended && self.text.len() <= at + HEAD_BYTES_MAX
    }

    fn end_of_run(&self, start: usize, is_in: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text[start..];
        start + rest.iter().take_while(|b| is_in(**b)).count()
    }

    /// Where the run of key characters around a place begins, as far as it is held back.
    fn run_start(&self, at: usize) -> usize {
        self.run_start_within(at, HEAD_BYTES_MAX)
    }

    /// The same no further back than so many bytes.
    fn run_start_within(&self, at: usize, bytes_max: usize) -> usize {
        let floor = self.clean_from.max(at.saturating_sub(bytes_max));
        let before = self.text[floor..at].iter().rev();
        at - before.take_while(|b| is_run_byte(**b)).count()
    }

    /// Whether nothing that is not allowed stands directly before a place. An escape such as
    /// `\n` in a string is no letter.
    fn may_begin(&self, at: usize, not_after: &ByteSet) -> bool {
        if at <= self.clean_from {
            return true;
        }
        let before = self.text[at - 1];
        let escaped = at >= self.clean_from + 2
            && self.text[at - 2] == b'\\'
            && matches!(before, b'n' | b'r' | b't');
        escaped || !not_after.contains(before)
    }

    /// Whether nothing that is not allowed stands directly behind a place. Two dashes join nothing.
    fn may_end(&self, at: usize, not_before: &ByteSet) -> bool {
        let rest = &self.text[at.min(self.text.len())..];
        rest.starts_with(b"--") || rest.first().is_none_or(|b| !not_before.contains(*b))
    }
}

/// A rule that is asked, and how sure its match would be.
struct Ask<'a> {
    index: usize,
    rule: &'a Rule,
    confidence: f32,
}

/// Shannon entropy in bits a byte.
pub(super) fn entropy(text: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    let mut present = [0u64; 4];
    for byte in text {
        counts[usize::from(*byte)] += 1;
        present[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    let total = text.len() as f32;
    let bytes = (0..4).flat_map(|part| ones(present[part]).map(move |bit| part * 64 + bit));
    bytes
        .map(|byte| {
            let share = counts[byte] as f32 / total;
            -share * share.log2()
        })
        .sum()
}

/// The numbers of the bits that are set, in order.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(first)
    })
}

/// Whether a mark begins in a text, as far as it is at hand.
fn holds_mark(text: &[u8]) -> bool {
    let mark = MARK_START.as_bytes();
    contains(text, mark) || (1..mark.len()).any(|bytes| text.ends_with(&mark[..bytes]))
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else {
        return true;
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(part) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

fn contains_ignoring_case(text: &[u8], lower: &str) -> bool {
    text.windows(lower.len())
        .any(|window| window.eq_ignore_ascii_case(lower.as_bytes()))
}
