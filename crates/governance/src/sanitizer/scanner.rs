//! Walks over one text, in as many pieces as it comes.
//!
//! What the scanner keeps: what is not yet emitted, some text before it to look back on, and the
//! digest of a secret that goes on. It asks [`super::look`] at each place that a keyword or the
//! beginning of a word points at, strictly in the order of the text. Where the answer needs more
//! text, everything behind waits.
//!
//! Invariants:
//! - Which secrets are found depends on the text alone, not on its pieces: a place is judged for
//!   good only once its verdict cannot change.
//! - No more than [`HEAD_BYTES_MAX`] bytes are held back, and one character; for a custom pattern
//!   whose keyword has been seen, [`AROUND_BEHIND_BYTES`] more. The tail of a secret is hashed and dropped, so
//!   memory is bounded however long it is.

use std::cell::Cell;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Mode;
use super::Settings;
use super::assignment;
use super::encoding;
use super::ledger::{Ended, Ledger, Place};
use super::look::{BEHIND_BYTES, Found, HEAD_BYTES_MAX, Look, Numbers, Tail, Verdict, is_run_byte};
use super::private_key::Block;
use super::rule::Form;
use super::rules::{Rules, Trigger, TriggerKind};
use super::view::View;

/// How far before a place a context word counts, in bytes of text that is no secret.
const CONTEXT_BYTES_MAX: u64 = 96;
/// How much judged text may gather before it is dropped.
const SLACK_BYTES: usize = 1024;
/// How much of a piece is looked at in one go.
const BLOCK_BYTES: usize = 64 * 1024;

pub(super) struct Scanner {
    rules: Arc<Rules>,
    settings: Settings,
    view: View,
    /// Everything before is judged.
    at: usize,
    emitted: usize,
    /// Where the text since the last secret begins.
    clean_from: usize,
    /// Bytes of text before that, without secrets.
    clean_before: u64,
    /// Where a context word of each rule ended last, in bytes without secrets.
    context: Vec<Option<u64>>,
    /// Where any context word ended last.
    last_context: Option<u64>,
    /// Secrets that begin behind the place that found them, in order of their beginnings: what is
    /// before them is judged first.
    deferred: Vec<Found>,
    open: Option<Open>,
    place: Place,
}

/// A secret that goes on.
struct Open {
    rule: usize,
    tail: Tail,
    digest: Sha256,
    block: Block,
    confidence: f32,
    start: Place,
}

impl Scanner {
    pub(super) fn new(rules: Arc<Rules>, settings: Settings) -> Self {
        let context = vec![None; rules.len()];
        Self {
            rules,
            settings,
            view: View::default(),
            at: 0,
            emitted: 0,
            clean_from: 0,
            clean_before: 0,
            context,
            last_context: None,
            deferred: Vec::new(),
            open: None,
            place: Place::default(),
        }
    }

    pub(super) fn push(&mut self, text: &str, ledger: &mut Ledger, out: &mut String) {
        let mut rest = text;
        while !rest.is_empty() {
            let (block, tail) = rest.split_at(rest.floor_char_boundary(BLOCK_BYTES));
            self.view.push(block);
            self.scan(false, ledger, out);
            self.forget();
            rest = tail;
        }
    }

    /// Ends the text; the scanner must not be used afterwards.
    pub(super) fn finish(&mut self, ledger: &mut Ledger, out: &mut String) {
        self.scan(true, ledger, out);
    }

    /// How many invisible characters were taken out.
    pub(super) fn stripped(&self) -> u64 {
        self.view.stripped()
    }

    fn scan(&mut self, ended: bool, ledger: &mut Ledger, out: &mut String) {
        if !self.close_open(ended, ledger, out) {
            return;
        }
        let rules = Arc::clone(&self.rules);
        let text = self.view.seen().as_bytes();
        // While a place waits for text, what may be before a secret is held back.
        let loosely = if ended { 0 } else { HEAD_BYTES_MAX };
        let triggers = rules.triggers(text, self.at, self.at == self.clean_from, loosely);
        let (mut held_from, mut undecided) = (None, usize::MAX);
        let mut queue = triggers.into_iter().peekable();
        let mut behind_secret = None;
        let numbers = Cell::default();
        loop {
            while queue.next_if(|next| next.at < self.at).is_some() {}
            let word = behind_secret.take().map(|at| Trigger {
                at,
                kind: TriggerKind::Word,
            });
            let next = word.or_else(|| queue.peek().copied());
            if let Some(found) = self.due(next) {
                self.take(found, ended, ledger, out);
                if self.open.is_some() {
                    return;
                }
                behind_secret = self.word_here();
                continue;
            }
            let Some(trigger) = next else {
                break;
            };
            if word.is_none() {
                queue.next();
            }
            if let TriggerKind::Context { bytes, word } = trigger.kind {
                self.note_context(word, trigger.at, bytes);
                continue;
            }
            match self.judge(&trigger, ended, &numbers) {
                Verdict::No | Verdict::Cut { .. } => {}
                Verdict::More { held_from: from } => {
                    undecided = trigger.at;
                    held_from = Some(self.held_behind(queue, from, ended));
                    break;
                }
                Verdict::Mark { end } => self.pass_mark(trigger.at, end),
                Verdict::Found(found) if found.start > trigger.at => {
                    // Judged for good, and not again.
                    self.at = trigger.at + 1;
                    self.deferred.push(found);
                    self.deferred.sort_by_key(|found| found.start);
                }
                Verdict::Found(found) => {
                    self.take(found, ended, ledger, out);
                    if self.open.is_some() {
                        return;
                    }
                    behind_secret = self.word_here();
                }
            }
        }
        self.release(ended, held_from, undecided, out);
    }

    /// A deferred secret that begins at or before the next place.
    fn due(&mut self, next: Option<Trigger>) -> Option<Found> {
        // What another secret has taken whole is nothing any more.
        let taken = self.clean_from;
        self.deferred.retain(|found| found.end > taken);
        let first = self.deferred.first()?;
        if next.is_some_and(|next| next.at < first.start) {
            return None;
        }
        let mut found = self.deferred.remove(0);
        found.start = found.start.max(taken);
        Some(found)
    }

    /// The word that begins behind a secret.
    fn word_here(&self) -> Option<usize> {
        let text = self.view.seen().as_bytes();
        self.rules.begins_word(text, self.at).then_some(self.at)
    }

    fn judge(&self, trigger: &Trigger, ended: bool, numbers: &Cell<Numbers>) -> Verdict {
        let look = Look {
            rules: &self.rules,
            text: self.view.seen().as_bytes(),
            clean_from: self.clean_from,
            ended,
            nested: false,
            confidence_min: self.settings.confidence_min,
            near_context: self.is_near_context(trigger.at),
            numbers,
            in_context: &|rule, at| {
                let here = self.clean_place(at);
                self.context[rule]
                    .is_some_and(|last| last <= here && here - last <= CONTEXT_BYTES_MAX)
            },
        };
        look.judge(trigger)
    }

    /// Whether a context word may count at a place, or at one that is looked at from there.
    fn is_near_context(&self, at: usize) -> bool {
        let near = CONTEXT_BYTES_MAX + BEHIND_BYTES as u64;
        self.last_context
            .is_some_and(|last| self.clean_place(at) <= last + near)
    }

    /// From where on text is held back while a place waits that holds it from `held_from` on: what
    /// is found behind that place is not yet found for good, but must not be emitted.
    fn held_behind(
        &mut self,
        behind: impl Iterator<Item = Trigger>,
        held_from: usize,
        ended: bool,
    ) -> usize {
        // Context words behind that place may yet count, or not.
        let mut before = None;
        let mut held = held_from;
        let numbers = Cell::default();
        for trigger in behind {
            if trigger.at >= held {
                break;
            }
            if let TriggerKind::Context { bytes, word } = trigger.kind {
                before.get_or_insert_with(|| (self.context.clone(), self.last_context));
                self.note_context(word, trigger.at, bytes);
                continue;
            }
            match self.judge(&trigger, ended, &numbers) {
                Verdict::More { held_from } => held = held.min(held_from),
                Verdict::Found(found) => held = held.min(found.start),
                Verdict::No | Verdict::Cut { .. } | Verdict::Mark { .. } => {}
            }
        }
        if let Some((context, last_context)) = before {
            (self.context, self.last_context) = (context, last_context);
        }
        held
    }

    /// A place in bytes of text without secrets.
    fn clean_place(&self, at: usize) -> u64 {
        self.clean_before + at.saturating_sub(self.clean_from) as u64
    }

    fn note_context(&mut self, word: usize, at: usize, bytes: usize) {
        let text = self.view.seen().as_bytes();
        let letter = |b: &u8| b.is_ascii_alphabetic() || !b.is_ascii();
        let begins = at <= self.clean_from || !letter(&text[at - 1]);
        let ends = text.get(at + bytes).is_some_and(|b| !letter(b));
        if begins && ends {
            let place = Some(self.clean_place(at + bytes));
            for rule in self.rules.in_context_of(word) {
                self.context[*rule] = place;
            }
            self.last_context = self.last_context.max(place);
        }
    }

    fn pass_mark(&mut self, start: usize, end: usize) {
        self.clean_before = self.clean_place(start);
        self.clean_from = end;
        self.at = end;
    }

    /// Emits what is before a secret, and takes the secret.
    fn take(&mut self, found: Found, ended: bool, ledger: &mut Ledger, out: &mut String) {
        let start = self.view.floor(found.start).max(self.emitted);
        let end = self.view.ceil(found.end);
        self.emit(start, out);
        self.clean_before = self.clean_place(start);
        let mut open = Open {
            rule: found.rule,
            tail: found.tail,
            digest: Sha256::new(),
            block: Block::default(),
            confidence: found.confidence,
            start: self.place,
        };
        let text = &self.view.seen()[start..end];
        match self.rules.get(found.rule).form {
            Form::PaymentCard | Form::Iban => {
                let digits = text.bytes().filter(u8::is_ascii_alphanumeric);
                digits.for_each(|b| open.digest.update([b]));
            }
            _ => open.digest.update(text.as_bytes()),
        }
        self.swallow(found.rule, end, out);
        self.at = end;
        self.open = Some(open);
        self.close_open(ended, ledger, out);
    }

    /// Goes on with a secret that has not ended; false if it still has not.
    fn close_open(&mut self, ended: bool, ledger: &mut Ledger, out: &mut String) -> bool {
        let Some(mut open) = self.open.take() else {
            return true;
        };
        let rest = &self.view.seen()[self.at..];
        let (bytes, closed) = match open.tail {
            Tail::Block => open.block.take(rest, &mut open.digest),
            tail => {
                let bytes = rest
                    .bytes()
                    .take_while(|b| self.goes_on(open.rule, tail, *b))
                    .count();
                open.digest.update(&rest.as_bytes()[..bytes]);
                (bytes, bytes < rest.len())
            }
        };
        let closed = closed || open.tail == Tail::None || ended;
        let end = self.view.ceil(self.at + bytes);
        self.swallow(open.rule, end, out);
        self.at = end;
        self.clean_from = end;
        if !closed {
            self.open = Some(open);
            return false;
        }
        if open.tail == Tail::Block {
            open.block.finish(&mut open.digest);
        }
        let rule = self.rules.get(open.rule);
        let ended = Ended {
            rule,
            digest: open.digest,
            mode: self.settings.modes.of(rule.class),
            confidence: open.confidence,
            start: open.start,
            end: self.place,
        };
        ledger.record(ended, out);
        true
    }

    fn goes_on(&self, rule: usize, tail: Tail, byte: u8) -> bool {
        match tail {
            Tail::None | Tail::Block => false,
            Tail::OfRule => match &self.rules.get(rule).form {
                Form::Head(head) => head.tail.as_ref().is_some_and(|tail| tail.contains(byte)),
                _ => false,
            },
            Tail::Run => is_run_byte(byte) || encoding::is_base64_byte(byte),
            Tail::Value { quote } => !assignment::ends_value(byte, quote),
        }
    }

    /// Passes over a part of a secret, which is emitted only where secrets stay in the text.
    fn swallow(&mut self, rule: usize, end: usize, out: &mut String) {
        let written = self.view.written(self.emitted, end);
        self.place.advance(written);
        if self.settings.modes.of(self.rules.get(rule).class) == Mode::Mark {
            out.push_str(written);
        }
        self.emitted = end;
    }

    fn emit(&mut self, end: usize, out: &mut String) {
        if end > self.emitted {
            let written = self.view.written(self.emitted, end);
            self.place.advance(written);
            out.push_str(written);
            self.emitted = end;
        }
    }

    /// Emits what can no longer become part of a secret. Places from `undecided` on, and those
    /// where a keyword may still be coming, are judged again.
    fn release(
        &mut self,
        ended: bool,
        held_from: Option<usize>,
        undecided: usize,
        out: &mut String,
    ) {
        let text = self.view.seen().as_bytes();
        let length = text.len();
        if ended {
            self.at = length;
            return self.emit(length, out);
        }
        let run = text[self.emitted..].iter().rev().take(HEAD_BYTES_MAX);
        let run_start = length - run.take_while(|b| is_run_byte(**b)).count();
        let behind = length.saturating_sub(self.rules.keyword_bytes_max());
        self.at = self.at.max(self.view.floor(behind.min(undecided)));
        let deferred = self.deferred.first().map_or(length, |found| found.start);
        let mut unjudged = behind.max(self.emitted)..length;
        let keyword = unjudged.find(|at| self.rules.may_be_keyword(text, *at));
        let holds = [held_from, keyword, Some(run_start), Some(deferred)];
        let free = holds.into_iter().flatten().min().unwrap_or(length);
        let free = self.view.floor(free).max(self.emitted);
        self.emit(free, out);
    }

    /// Drops text that nothing looks back on any more.
    fn forget(&mut self) {
        let needed = self.at.min(self.emitted).saturating_sub(BEHIND_BYTES);
        if needed < SLACK_BYTES {
            return;
        }
        let drop = self.view.floor(needed);
        self.view.drop_before(drop);
        self.at -= drop;
        // Of what lies in a secret that goes on, the beginning, or all, may be gone.
        self.deferred.retain(|found| found.end > drop);
        for found in &mut self.deferred {
            found.start = found.start.saturating_sub(drop);
            found.end -= drop;
        }
        self.emitted -= drop;
        let clean = self.clean_from.max(drop);
        self.clean_before += (clean - self.clean_from) as u64;
        self.clean_from = clean - drop;
    }
}
