//! Judges one place of a text: is there a secret here, and how far does it reach?
//!
//! A verdict depends on nothing but the text around the place: at most [`BEHIND_BYTES`] before
//! and, for shipped rules, [`HEAD_BYTES_MAX`] of the possible secret itself. Where that much is
//! not at hand yet, the verdict is [`Verdict::More`], and says from where on nothing may be
//! emitted. So a verdict is the same wherever a stream was cut.

use super::assignment::{self, Announced, Parsed};
use super::encoding;
use super::ledger::MARK_START;
use super::number;
use super::pattern::{ByteSet, Pattern};
use super::rule::{Form, Head, Rule, Words};
use super::rules::{Rules, Trigger, TriggerKind};

/// How many bytes of a secret are enough to know it; also the most that is held back of a text
/// in which no custom rule's keyword stands.
pub(super) const HEAD_BYTES_MAX: usize = 62;
/// Longest text before a secret that a rule may ask for, in bytes.
pub(super) const PREFIX_BYTES_MAX: usize = HEAD_BYTES_MAX;
/// How far around a percent sign a text is decoded, in bytes.
const PERCENT_BYTES_MAX: usize = HEAD_BYTES_MAX / 2;
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
    pub(super) in_context: &'a dyn Fn(usize, usize) -> bool,
}

/// A stretch of text of one alphabet.
struct Stretch {
    end: usize,
    /// Whether more text could make it longer.
    open: bool,
}

/// Characters that names, keys and addresses are made of.
pub(super) fn is_run_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'%')
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
        for (index, words) in self.rules.at_words(self.text[at]) {
            match self.fits(words, at) {
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
    fn fits(&self, words: &Words, at: usize) -> Option<bool> {
        if let Some(letters) = words.digits_at {
            let rest = &self.text[at..];
            let begins = rest.iter().take(letters).all(u8::is_ascii_uppercase);
            let digits = rest.iter().skip(letters).take(2).all(u8::is_ascii_digit);
            if !begins || !digits {
                return Some(false);
            }
        }
        if let Some(then) = &words.then {
            let word = self.stretch(at, HEAD_BYTES_MAX, |b| b.is_ascii_alphanumeric());
            let fits = self.text.get(word.end).is_some_and(|b| then.contains(*b));
            if !fits {
                return (!word.open).then_some(false);
            }
        }
        if words.digits_min > 0 {
            let numbers = self.stretch_of_numbers(at);
            let digits = self.text[at..numbers.end]
                .iter()
                .filter(|b| b.is_ascii_digit());
            if digits.take(words.digits_min).count() < words.digits_min {
                return (!numbers.open).then_some(false);
            }
        }
        Some(true)
    }

    fn stretch_of_numbers(&self, at: usize) -> Stretch {
        self.stretch(at, HEAD_BYTES_MAX, |b| {
            b.is_ascii_digit() || matches!(b, b' ' | b'.' | b'-' | b'/' | b'(' | b')' | b'+')
        })
    }

    fn judge_rule(&self, index: usize, at: usize, keyword_bytes: usize) -> Verdict {
        let rule = self.rules.get(index);
        let in_context = rule.has_context && (self.in_context)(index, at);
        let possible = match in_context {
            true => rule.confidence_in_context,
            false => rule.confidence,
        };
        if possible < self.confidence_min {
            return Verdict::No;
        }
        let ask = Ask {
            index,
            rule,
            confidence: possible,
        };
        match &rule.form {
            Form::Head(head) => self.judge_head(&ask, head, at),
            Form::Around { pattern, group } => {
                self.judge_around(&ask, pattern, *group, at, keyword_bytes)
            }
            Form::Assignment(announced) => {
                self.judge_assignment(&ask, *announced, at, keyword_bytes)
            }
            Form::PaymentCard => self.judge_number(&ask, at, number::card_end),
            Form::Iban => self.judge_number(&ask, at, number::iban_end),
            Form::Literal => self.judge_literal(&ask, at, keyword_bytes),
            Form::PrivateKey(begin) => self.judge_private_key(&ask, begin, at),
        }
    }

    fn judge_head(&self, ask: &Ask<'_>, head: &Head, at: usize) -> Verdict {
        let mut start = at;
        if let Some(lead) = &head.lead {
            let floor = self.clean_from.max(at.saturating_sub(HEAD_BYTES_MAX));
            while start > floor && lead.contains(self.text[start - 1]) {
                start -= 1;
            }
        }
        if let Some(prefix) = &head.prefix {
            let alphabet = prefix.alphabet();
            let stretch = self.stretch(at, PREFIX_BYTES_MAX, |b| alphabet.contains(b));
            let found = prefix.find(&self.text[at..stretch.end], 0);
            if stretch.open {
                let held_from = found.map_or(self.text.len(), |found| at + found.end);
                return Verdict::More { held_from };
            }
            let Some(found) = found else {
                return Verdict::No;
            };
            start = at + found.end;
        } else if !self.may_begin(start, &head.not_after) {
            return Verdict::No;
        }
        let alphabet = head.head.alphabet();
        let stretch = self.stretch(start, HEAD_BYTES_MAX, |b| alphabet.contains(b));
        if stretch.open {
            return Verdict::More { held_from: start };
        }
        let mut limit = stretch.end;
        loop {
            let Some(found) = head.head.find(&self.text[start..limit], head.group) else {
                return Verdict::No;
            };
            let (from, judged_end) = (start + found.start, start + found.end);
            if let Some(tail) = &head.tail {
                let end = self.end_of_run(judged_end, |b| tail.contains(b));
                return self.confirm(ask, from, judged_end, end, Tail::OfRule);
            }
            let checked = ask.rule.check.is_none_or(|check| {
                ask.rule.confidence_unchecked.is_some()
                    || check.passes(&self.text[from..judged_end])
            });
            if checked && self.may_end(start + found.whole_end, &head.not_before) {
                return self.confirm(ask, from, judged_end, judged_end, Tail::None);
            }
            // A shorter match may end where it may.
            limit = start + found.whole_end - 1;
        }
    }

    fn judge_around(
        &self,
        ask: &Ask<'_>,
        pattern: &Pattern,
        group: usize,
        at: usize,
        keyword_bytes: usize,
    ) -> Verdict {
        let run_start = self.run_start(at);
        let to = at + keyword_bytes + AROUND_BEHIND_BYTES;
        if to > self.text.len() && !self.ended {
            return Verdict::More {
                held_from: run_start,
            };
        }
        let to = to.min(self.text.len());
        let from = self.clean_from.max(at.saturating_sub(AROUND_BEFORE_BYTES));
        let window = &self.text[from..to];
        let Some(found) = pattern.find_around(window, group, at - from, keyword_bytes) else {
            return Verdict::No;
        };
        let (start, judged_end) = (from + found.start, from + found.end);
        if start < run_start || found.start == found.end {
            return Verdict::No;
        }
        let cut = judged_end == at + keyword_bytes + AROUND_BEHIND_BYTES;
        if cut {
            let end = self.end_of_run(judged_end, is_run_byte);
            return self.confirm(ask, start, judged_end, end, Tail::Run);
        }
        self.confirm(ask, start, judged_end, judged_end, Tail::None)
    }

    fn judge_assignment(
        &self,
        ask: &Ask<'_>,
        announced: Announced,
        at: usize,
        keyword_bytes: usize,
    ) -> Verdict {
        let name = assignment::Name {
            text: self.text,
            floor: self.clean_from.max(at.saturating_sub(HEAD_BYTES_MAX)),
            start: at,
            end: at + keyword_bytes,
        };
        let value = match assignment::parse(&name, self.ended, HEAD_BYTES_MAX) {
            Parsed::No => return Verdict::No,
            Parsed::More { value } => {
                return Verdict::More {
                    held_from: value.unwrap_or(self.text.len()),
                };
            }
            Parsed::Value(value) => value,
        };
        if !assignment::is_secret(announced, &name, &value) {
            return Verdict::No;
        }
        if value.open {
            let quote = value.quote;
            let inside = |b| !assignment::ends_value(b, quote);
            let end = self.end_of_run(value.end, inside);
            return self.confirm(ask, value.start, value.end, end, Tail::Value { quote });
        }
        self.confirm(ask, value.start, value.end, value.end, Tail::None)
    }

    /// Whether a rule with a form of its own finds something in a stretch; `None` if that is not
    /// known yet.
    fn is_of_known_form(&self, asking: usize, start: usize, end: usize) -> Option<bool> {
        for trigger in self.rules.keywords_in(self.text, start, end) {
            let TriggerKind::Keyword { rule, bytes } = trigger.kind else {
                continue;
            };
            if rule == asking || self.rules.get(rule).is_generic {
                continue;
            }
            match self.judge_rule(rule, trigger.at, bytes) {
                Verdict::Found(found) if found.start < end => return Some(true),
                Verdict::More { .. } => return None,
                _ => {}
            }
        }
        Some(false)
    }

    fn judge_number(
        &self,
        ask: &Ask<'_>,
        at: usize,
        end_of: fn(&[u8], bool) -> Option<usize>,
    ) -> Verdict {
        let stretch = self.stretch(at, HEAD_BYTES_MAX, number::is_number_byte);
        if stretch.open {
            return Verdict::More { held_from: at };
        }
        let decimal = at > self.clean_from && self.text[at - 1] == b'.';
        if decimal || !self.may_begin(at, self.rules.word_border()) {
            return Verdict::No;
        }
        let tainted = !self.may_end(stretch.end, self.rules.word_border());
        match end_of(&self.text[at..stretch.end], tainted) {
            Some(bytes) => self.confirm(ask, at, at + bytes, at + bytes, Tail::None),
            None => Verdict::No,
        }
    }

    fn judge_literal(&self, ask: &Ask<'_>, at: usize, bytes: usize) -> Verdict {
        let end = at + bytes;
        if end == self.text.len() && !self.ended {
            return Verdict::More { held_from: at };
        }
        let border = self.rules.word_border();
        if !self.may_begin(at, border) || !self.may_end(end, border) {
            return Verdict::No;
        }
        self.confirm(ask, at, end, end, Tail::None)
    }

    fn judge_private_key(&self, ask: &Ask<'_>, begin: &Pattern, at: usize) -> Verdict {
        let alphabet = begin.alphabet();
        let stretch = self.stretch(at, HEAD_BYTES_MAX, |b| alphabet.contains(b));
        let found = begin.find(&self.text[at..stretch.end], 0);
        match found {
            Some(found) => {
                let end = at + found.end;
                self.confirm(ask, at, end, end, Tail::Block)
            }
            None if stretch.open => Verdict::More { held_from: at },
            None => Verdict::No,
        }
    }

    fn judge_base64(&self, at: usize) -> Verdict {
        let stretch = self.stretch(at, encoding::BASE64_WINDOW_BYTES, encoding::is_base64_byte);
        let window = &self.text[at..stretch.end];
        if !encoding::may_be_text(window) {
            return Verdict::No;
        }
        if stretch.open {
            return Verdict::More { held_from: at };
        }
        let Some(decoded) = encoding::decode_base64(window) else {
            return Verdict::No;
        };
        let Some(found) = self.first_inside(&decoded) else {
            return Verdict::No;
        };
        let end = self.end_of_run(stretch.end, encoding::is_base64_byte);
        Verdict::Found(Found {
            start: at + encoding::base64_offset(found.start),
            end,
            tail: Tail::Run,
            ..found
        })
    }

    fn judge_percent(&self, at: usize) -> Verdict {
        let from = self.run_start(at).max(at.saturating_sub(PERCENT_BYTES_MAX));
        let stretch = self.stretch(at, PERCENT_BYTES_MAX, is_run_byte);
        if !encoding::is_percent(&self.text[at..]) && !(self.text.len() < at + 3 && !self.ended) {
            return Verdict::No;
        }
        if stretch.open {
            return Verdict::More { held_from: from };
        }
        let (decoded, places) = encoding::decode_percent(&self.text[from..stretch.end]);
        let Some(found) = self.first_inside(&decoded) else {
            return Verdict::No;
        };
        let (start, end) = (from + places[found.start], from + places[found.end]);
        if end <= at {
            return Verdict::No;
        }
        let cut = end == stretch.end;
        Verdict::Found(Found {
            start,
            end: if cut {
                self.end_of_run(end, is_run_byte)
            } else {
                end
            },
            tail: if cut { Tail::Run } else { Tail::None },
            ..found
        })
    }

    /// The first secret in a text from inside an encoding.
    fn first_inside(&self, text: &[u8]) -> Option<Found> {
        let look = Look {
            text,
            clean_from: 0,
            ended: true,
            nested: true,
            in_context: &|_, _| false,
            ..*self
        };
        let triggers = self.rules.triggers(text, 0, true);
        triggers
            .iter()
            .find_map(|trigger| match look.judge(trigger) {
                Verdict::Found(found) => Some(found),
                _ => None,
            })
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
        if start < self.clean_from || secret.is_empty() || contains(secret, MARK_START.as_bytes()) {
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
            match self.is_of_known_form(index, start, judged_end) {
                Some(true) => return Verdict::No,
                None => return Verdict::More { held_from: start },
                Some(false) => {}
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

    fn end_of_run(&self, start: usize, is_in: impl Fn(u8) -> bool) -> usize {
        let rest = &self.text[start..];
        start + rest.iter().take_while(|b| is_in(**b)).count()
    }

    /// Where the run of key characters around a place begins, as far as it is held back.
    fn run_start(&self, at: usize) -> usize {
        let floor = self.clean_from.max(at.saturating_sub(HEAD_BYTES_MAX));
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
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let total = text.len() as f32;
    let present = counts.iter().filter(|count| **count > 0);
    present
        .map(|count| {
            let share = *count as f32 / total;
            -share * share.log2()
        })
        .sum()
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn contains_ignoring_case(text: &[u8], lower: &str) -> bool {
    text.windows(lower.len())
        .any(|window| window.eq_ignore_ascii_case(lower.as_bytes()))
}
