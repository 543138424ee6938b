//! Numbers secrets and counts replacements, without keeping a secret.
//!
//! Invariant: only SHA-256 digests are held, at most [`SECRETS_MAX`] of them; further secrets
//! share the last number, so that a hostile text cannot make memory grow.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::RedactionCount;

/// Most different secrets that get a number of their own in a call.
const SECRETS_MAX: usize = 65_536;

/// What begins every mark.
pub(super) const MARK_START: &str = "[REDACTED:";

/// What was found so far in a call.
#[derive(Default)]
pub(super) struct Ledger {
    numbers: HashMap<(&'static str, [u8; 32]), u64>,
    last: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Writes the mark of a secret that is at hand.
    pub(super) fn redact(&mut self, rule: &'static str, secret: &str, out: &mut String) {
        self.redact_digest(rule, Sha256::new_with_prefix(secret.as_bytes()), out);
    }

    /// Writes the mark of a secret that was hashed as it passed.
    pub(super) fn redact_digest(&mut self, rule: &'static str, digest: Sha256, out: &mut String) {
        let number = self.number(rule, digest.finalize().into());
        *self.counts.entry(rule).or_default() += 1;
        out.push_str(&format!("{MARK_START}{rule}:{number}]"));
    }

    fn number(&mut self, rule: &'static str, digest: [u8; 32]) -> u64 {
        if let Some(number) = self.numbers.get(&(rule, digest)) {
            return *number;
        }
        let last = self.last.entry(rule).or_default();
        if self.numbers.len() < SECRETS_MAX {
            *last += 1;
            self.numbers.insert((rule, digest), *last);
        }
        (*last).max(1)
    }

    /// Counts since the last [`Ledger::take_counts`].
    pub(super) fn counts(&self) -> Vec<RedactionCount> {
        let counts = self.counts.iter();
        let counts = counts.map(|(rule, count)| RedactionCount {
            rule: (*rule).to_owned(),
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
