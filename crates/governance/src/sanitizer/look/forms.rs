//! Judges each form of rule at one place.

use super::{
    AROUND_BEFORE_BYTES, AROUND_BEHIND_BYTES, Ask, HEAD_BYTES_MAX, Look, PREFIX_BYTES_MAX, Tail,
    Verdict, is_run_byte,
};
use crate::sanitizer::assignment::{self, Announced, Parsed};
use crate::sanitizer::encoding;
use crate::sanitizer::number;
use crate::sanitizer::pattern::Pattern;
use crate::sanitizer::rule::Head;

impl Look<'_> {
    pub(super) fn judge_head(&self, ask: &Ask<'_>, head: &Head, at: usize) -> Verdict {
        let mut start = at;
        if let Some(lead) = &head.lead {
            let floor = self.clean_from.max(at.saturating_sub(HEAD_BYTES_MAX));
            while start > floor && lead.contains(self.text[start - 1]) {
                start -= 1;
            }
        }
        if let Some(prefix) = &head.prefix {
            if !self.admits(prefix, at) {
                return Verdict::No;
            }
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
        if !self.admits(&head.head, start) {
            return Verdict::No;
        }
        let alphabet = head.head.alphabet();
        let stretch = self.stretch(start, HEAD_BYTES_MAX, |b| alphabet.contains(b));
        if stretch.open {
            return Verdict::More { held_from: start };
        }
        if stretch.end - start < head.head.bytes_min() {
            return Verdict::No;
        }
        self.judge_head_within(ask, head, start, stretch.end)
    }

    fn judge_head_within(&self, ask: &Ask<'_>, head: &Head, start: usize, end: usize) -> Verdict {
        // Where another secret begins; as good as a border.
        let mut cut = None;
        let mut limit = end;
        loop {
            let Some(found) = head.head.find(&self.text[start..limit], head.group) else {
                return Verdict::No;
            };
            let (from, judged_end) = (start + found.start, start + found.end);
            let verdict = if let Some(tail) = &head.tail {
                let end = self.end_of_run(judged_end, |b| tail.contains(b));
                let (end, tail) = cut.map_or((end, Tail::OfRule), |cut| (end.min(cut), Tail::None));
                self.confirm(ask, from, judged_end, end, tail)
            } else {
                let checked = ask.rule.check.is_none_or(|check| {
                    ask.rule.confidence_unchecked.is_some()
                        || check.passes(&self.text[from..judged_end])
                });
                let whole_end = start + found.whole_end;
                let may_end = cut == Some(whole_end) || self.may_end(whole_end, &head.not_before);
                if !checked || !may_end {
                    // A shorter match may end where it may.
                    limit = whole_end - 1;
                    continue;
                }
                self.confirm(ask, from, judged_end, judged_end, Tail::None)
            };
            match verdict {
                Verdict::Cut { at } if at > start && at < limit => {
                    cut = Some(at);
                    limit = at;
                }
                other => return other,
            }
        }
    }

    /// Whether a match may begin at a place. While a head could still wait for text, it may, so
    /// that what stands before it waits, too.
    fn admits(&self, pattern: &Pattern, at: usize) -> bool {
        self.may_wait(at) || pattern.opening().admits(&self.text[at..])
    }

    pub(super) fn judge_around(
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

    pub(super) fn judge_assignment(
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

    pub(super) fn judge_number(
        &self,
        ask: &Ask<'_>,
        at: usize,
        end_of: fn(&[u8], bool) -> Option<usize>,
    ) -> Verdict {
        let before = self.text[self.clean_from.min(at)..at].last();
        let decimal = before == Some(&b'.');
        let escape = before == Some(&b'%') && encoding::is_percent(&self.text[at - 1..]);
        if decimal || escape || !self.may_begin(at, self.rules.word_border()) {
            return Verdict::No;
        }
        let stretch = self.stretch(at, HEAD_BYTES_MAX, number::is_number_byte);
        if stretch.open {
            return Verdict::More { held_from: at };
        }
        let tainted = !self.may_end(stretch.end, self.rules.word_border());
        match end_of(&self.text[at..stretch.end], tainted) {
            Some(bytes) => self.confirm(ask, at, at + bytes, at + bytes, Tail::None),
            None => Verdict::No,
        }
    }

    pub(super) fn judge_literal(&self, ask: &Ask<'_>, at: usize, bytes: usize) -> Verdict {
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

    pub(super) fn judge_private_key(&self, ask: &Ask<'_>, begin: &Pattern, at: usize) -> Verdict {
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
}
