//! Keys of known form, and assignments of secrets to names.
//!
//! The text is cut into runs of key characters (`A-Z a-z 0-9 _ - .`). A run is released when
//! another character ends it, unless it ends in a word that announces a secret: then word, signs
//! and value are held together and judged by [`super::assignment`].
//!
//! A rule (see [`super::token_rules`]) is a *head*, a regex that is enough to know the secret, and a *tail*, the characters
//! that then still belong to it. A run that outgrows [`RUN_BYTES_MAX`] is searched so far and
//! released but for its last [`RUN_OVERLAP_BYTES`]; as no head is longer than that, the result
//! does not depend on where runs are cut. Behind a head at the end of what is at hand, the tail is
//! hashed and dropped.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::assignment::{self, ASSIGNMENT_GAP_BYTES_MAX, ASSIGNMENT_VALUE_BYTES_MAX, Keyword};
use super::ledger::Ledger;
use super::token_rules::{HEAD_BYTES_MIN, Rule, TokenRules};

/// Longest run of key characters that is held back, in bytes.
pub const RUN_BYTES_MAX: usize = 512;
/// What is kept of a longer run when the rest is released, in bytes; longer than any head.
pub const RUN_OVERLAP_BYTES: usize = 192;

/// Characters that keys are made of.
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Finds keys and assignments.
pub(super) struct TokenStage {
    rules: Arc<TokenRules>,
    state: State,
    /// What is held back; its first `context_bytes` are already emitted and only stay so that a
    /// word boundary is seen where it is.
    span: String,
    context_bytes: usize,
}

enum State {
    /// In a run, which may be empty.
    Run,
    /// Behind an announcing word.
    Gap {
        keyword: Keyword,
        start: usize,
        signed: bool,
    },
    /// In the value of an assignment.
    Value {
        keyword: Keyword,
        start: usize,
        quote: Option<char>,
    },
    /// In the tail of a secret whose head is known.
    Tail { rule: &'static Rule, digest: Sha256 },
}

impl TokenStage {
    pub(super) fn new(rules: Arc<TokenRules>) -> Self {
        Self {
            rules,
            state: State::Run,
            span: String::new(),
            context_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, text: &str, ledger: &mut Ledger, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            if matches!(self.state, State::Run) {
                rest = self.push_run(rest, ledger, out);
            }
            let mut characters = rest.chars();
            if let Some(c) = characters.next() {
                self.step(c, ledger, out);
            }
            rest = characters.as_str();
        }
    }

    /// Takes the key characters that a text begins with, as many as [`TokenStage::step_run`]
    /// would one by one before it has to look at them.
    fn push_run<'t>(&mut self, text: &'t str, ledger: &mut Ledger, out: &mut String) -> &'t str {
        let room = RUN_BYTES_MAX + 1 - self.span.len().min(RUN_BYTES_MAX);
        let bytes = text.bytes().take(room);
        let length = bytes.take_while(|b| is_key_byte(*b)).count();
        let (run, rest) = text.split_at(length);
        self.span.push_str(run);
        if self.span.len() > RUN_BYTES_MAX {
            self.shorten_run(ledger, out);
        }
        rest
    }

    /// Ends the text; the stage is as new afterwards.
    pub(super) fn finish(&mut self, ledger: &mut Ledger, out: &mut String) {
        match std::mem::replace(&mut self.state, State::Run) {
            State::Run | State::Gap { .. } => self.release(ledger, out),
            State::Value {
                keyword,
                start,
                quote,
            } => {
                self.close_value(keyword, start, quote.is_some(), ledger, out);
            }
            State::Tail { rule, digest } => ledger.redact_digest(rule.name, digest, out),
        }
    }

    fn step(&mut self, c: char, ledger: &mut Ledger, out: &mut String) {
        match std::mem::replace(&mut self.state, State::Run) {
            State::Run => self.step_run(c, ledger, out),
            State::Gap {
                keyword,
                start,
                signed,
            } => {
                self.state = State::Gap {
                    keyword,
                    start,
                    signed,
                };
                self.step_gap(c, keyword, start, signed, ledger, out);
            }
            State::Value {
                keyword,
                start,
                quote,
            } => {
                if assignment::ends_value(c, quote) {
                    self.close_value(keyword, start, quote.is_some(), ledger, out);
                    return self.step_run(c, ledger, out);
                }
                self.span.push(c);
                if self.span.len() - start > ASSIGNMENT_VALUE_BYTES_MAX {
                    return self.shorten_run(ledger, out);
                }
                self.state = State::Value {
                    keyword,
                    start,
                    quote,
                };
            }
            State::Tail { rule, mut digest } => {
                if rule.has_tail(c) {
                    digest.update([c as u8]);
                    self.state = State::Tail { rule, digest };
                    return;
                }
                ledger.redact_digest(rule.name, digest, out);
                self.step_run(c, ledger, out);
            }
        }
    }

    fn step_run(&mut self, c: char, ledger: &mut Ledger, out: &mut String) {
        if u8::try_from(c).is_ok_and(is_key_byte) {
            self.span.push(c);
            if self.span.len() > RUN_BYTES_MAX {
                self.shorten_run(ledger, out);
            }
            return;
        }
        let signed = assignment::is_assignment_sign(c);
        if (signed || assignment::is_gap(c))
            && let Some((keyword, start)) = assignment::keyword_at_end(&self.span)
            && start >= self.context_bytes
        {
            let word = self.span.split_off(start);
            self.release(ledger, out);
            self.span = word;
            let start = self.span.len();
            self.span.push(c);
            self.state = State::Gap {
                keyword,
                start,
                signed,
            };
            return;
        }
        self.release(ledger, out);
        out.push(c);
    }

    fn step_gap(
        &mut self,
        c: char,
        keyword: Keyword,
        start: usize,
        signed: bool,
        ledger: &mut Ledger,
        out: &mut String,
    ) {
        let in_gap = self.span.len() - start < ASSIGNMENT_GAP_BYTES_MAX;
        let quote = matches!(c, '"' | '\'' | '`');
        if signed && in_gap && quote {
            self.span.push(c);
            let start = self.span.len();
            self.state = State::Value {
                keyword,
                start,
                quote: Some(c),
            };
            return;
        }
        let sign = assignment::is_assignment_sign(c) || (signed && c == '>');
        let blank = if signed {
            matches!(c, ' ' | '\t' | '\\' | '*')
        } else {
            assignment::is_gap(c)
        };
        if in_gap && (sign || blank) {
            self.span.push(c);
            let signed = signed || sign;
            self.state = State::Gap {
                keyword,
                start,
                signed,
            };
            return;
        }
        if signed && !assignment::never_starts_value(c) && !quote {
            let start = self.span.len();
            self.span.push(c);
            self.state = State::Value {
                keyword,
                start,
                quote: None,
            };
            return;
        }
        self.state = State::Run;
        self.release(ledger, out);
        self.step_run(c, ledger, out);
    }

    fn close_value(
        &mut self,
        keyword: Keyword,
        start: usize,
        quoted: bool,
        ledger: &mut Ledger,
        out: &mut String,
    ) {
        let value = self.span[start..].trim_end_matches('\\');
        let rule = match self.rules.find_at(&self.span, start) {
            Some(_) => None,
            None => assignment::judge(keyword, value, quoted),
        };
        let Some(rule) = rule else {
            return self.release(ledger, out);
        };
        let end = start + value.len();
        out.push_str(&self.span[self.context_bytes..start]);
        ledger.redact(rule, value, out);
        out.push_str(&self.span[end..]);
        self.clear();
    }

    /// Emits the whole span, with its keys replaced.
    fn release(&mut self, ledger: &mut Ledger, out: &mut String) {
        let mut emitted = self.context_bytes;
        if self.span.len() >= HEAD_BYTES_MIN {
            while let Some(found) = self.rules.find_at(&self.span, emitted) {
                out.push_str(&self.span[emitted..found.start]);
                ledger.redact(found.rule.name, &self.span[found.start..found.end], out);
                emitted = found.end;
            }
        }
        out.push_str(&self.span[emitted..]);
        self.clear();
    }

    /// Emits what cannot belong to a key any more of a span that goes on.
    fn shorten_run(&mut self, ledger: &mut Ledger, out: &mut String) {
        let mut emitted = self.context_bytes;
        while let Some(found) = self.rules.find_at(&self.span, emitted) {
            out.push_str(&self.span[emitted..found.start]);
            let secret = &self.span[found.start..found.end];
            if found.end == self.span.len() {
                let digest = Sha256::new_with_prefix(secret.as_bytes());
                self.state = State::Tail {
                    rule: found.rule,
                    digest,
                };
                return self.clear();
            }
            ledger.redact(found.rule.name, secret, out);
            emitted = found.end;
        }
        let kept = self
            .span
            .floor_char_boundary(self.span.len() - RUN_OVERLAP_BYTES);
        let kept = kept.max(emitted);
        out.push_str(&self.span[emitted..kept]);
        let before = self.span[..kept].chars().next_back();
        self.context_bytes = before.map_or(0, char::len_utf8);
        self.span.drain(..kept - self.context_bytes);
    }

    fn clear(&mut self) {
        self.span.clear();
        self.context_bytes = 0;
    }
}
