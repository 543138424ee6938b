//! Numbers secrets and counts findings, without keeping a secret.
//!
//! Invariant: only SHA-256 digests are held, at most [`SECRETS_MAX`] of them; further secrets
//! share the last number, so that a hostile text cannot make memory grow. Findings are listed
//! only where somebody asked for a list.

use std::collections::{BTreeMap, HashMap};

use memchr::{memchr_iter, memrchr};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::rule::{Rule, RuleClass};
use super::{Mode, RedactionCount};

/// Most different secrets that get a number of their own in a call.
const SECRETS_MAX: usize = 65_536;

/// What begins every mark.
pub(super) const MARK_START: &str = "[REDACTED:";

/// Where in a text something begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Bytes before it, without invisible characters that were taken out.
    pub byte: u64,
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            byte: 0,
            line: 1,
            column: 1,
        }
    }
}

impl Place {
    pub(super) fn advance(&mut self, text: &str) {
        self.byte += text.len() as u64;
        self.line += memchr_iter(b'\n', text.as_bytes()).count() as u64;
        let last = match memrchr(b'\n', text.as_bytes()) {
            Some(end) => {
                self.column = 1;
                &text[end + 1..]
            }
            None => text,
        };
        self.column += last.chars().count() as u64;
    }
}

/// One secret in one place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule, such as `payment-card`.
    pub rule: String,
    /// What kind of rule that is.
    pub class: RuleClass,
    /// Which secret of this rule, from 1; the same secret has the same number.
    pub number: u64,
    /// How sure the rule is, 0 to 1.
    pub confidence: f32,
    /// What was done about it.
    pub mode: Mode,
    /// Where it begins.
    pub start: Place,
    /// Where it ends.
    pub end: Place,
}

/// A secret that has ended.
pub(super) struct Ended<'a> {
    pub(super) rule: &'a Rule,
    pub(super) digest: Sha256,
    pub(super) mode: Mode,
    pub(super) confidence: f32,
    pub(super) start: Place,
    pub(super) end: Place,
}

/// What was found so far in a call.
#[derive(Default)]
pub(super) struct Ledger {
    numbers: HashMap<[u8; 32], u64>,
    last: BTreeMap<String, u64>,
    counts: BTreeMap<String, u64>,
    refused: Option<String>,
    list: Option<Vec<Finding>>,
}

impl Ledger {
    /// A ledger that also lists every finding.
    pub(super) fn listing() -> Self {
        Self {
            list: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Counts a secret, and writes its mark unless it stays in the text.
    pub(super) fn record(&mut self, ended: Ended<'_>, out: &mut String) {
        let rule = &ended.rule.id;
        let number = self.number(rule, ended.digest);
        *self.counts.entry(rule.clone()).or_default() += 1;
        if ended.mode == Mode::Refuse && self.refused.is_none() {
            self.refused = Some(rule.clone());
        }
        if let Some(list) = &mut self.list {
            list.push(Finding {
                rule: rule.clone(),
                class: ended.rule.class,
                number,
                confidence: ended.confidence,
                mode: ended.mode,
                start: ended.start,
                end: ended.end,
            });
        }
        if ended.mode != Mode::Mark {
            out.push_str(&format!("{MARK_START}{rule}:{number}]"));
        }
    }

    fn number(&mut self, rule: &str, mut digest: Sha256) -> u64 {
        digest.update([0]);
        digest.update(rule.as_bytes());
        let digest = digest.finalize().into();
        if let Some(number) = self.numbers.get(&digest) {
            return *number;
        }
        let last = self.last.entry(rule.to_owned()).or_default();
        if self.numbers.len() < SECRETS_MAX {
            *last += 1;
            self.numbers.insert(digest, *last);
        }
        (*last).max(1)
    }

    /// The first rule whose finding refuses the call.
    pub(super) fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// The findings since the last time.
    pub(super) fn take_list(&mut self) -> Vec<Finding> {
        self.list.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Counts since the last [`Ledger::take_counts`].
    pub(super) fn counts(&self) -> Vec<RedactionCount> {
        let counts = self.counts.iter();
        let counts = counts.map(|(rule, count)| RedactionCount {
            rule: rule.clone(),
            count: *count,
        });
        counts.collect()
    }

    /// Counts since the last time, and starts at zero; numbers go on.
    pub(super) fn take_counts(&mut self) -> Vec<RedactionCount> {
        let counts = self.counts();
        self.counts.clear();
        counts
    }
}
