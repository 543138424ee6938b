//! Takes secrets and card numbers out of text.
//!
//! Text flows through three stages, each a machine that is driven character by character:
//! [`private_key`] (PEM blocks), [`token`] (keys of known form, and `password = value`
//! assignments), [`card`] (payment cards). What a stage finds is replaced by
//! `[REDACTED:rule:n]`; the same secret has the same `n` within a [`Session`].
//!
//! Invariants:
//! - Whole text and stream go through the same machines, and a machine never sees where a chunk
//!   ends. So any split into chunks gives the same text as the whole, by construction.
//! - A stage holds back a bounded number of bytes that may still turn out to belong to a secret
//!   (together [`HOLD_BACK_BYTES_MAX`]); what is known to be a secret is hashed and dropped, so
//!   memory is bounded however long the secret is. No part of a recognized secret is emitted.
//! - Time is linear in the text. Cleaning clean text changes nothing: a mark that stands in the
//!   input stays there as text, and is not counted.
//!
//! Absent: entropy, other personal data, encodings of secrets, look-alike characters, secrets
//! that are split over variables.

mod assignment;
mod card;
mod ledger;
mod private_key;
mod token;
mod token_rules;

use std::sync::{Arc, LazyLock};

use serde::Serialize;

use crate::canonical::Canonical;
use card::CardStage;
use ledger::Ledger;
use private_key::PrivateKeyStage;
use token::TokenStage;
use token_rules::TokenRules;

pub use assignment::{ASSIGNMENT_GAP_BYTES_MAX, ASSIGNMENT_VALUE_BYTES_MAX};
pub use private_key::PRIVATE_KEY_BLOCK_BYTES_MAX;
pub use token::{RUN_BYTES_MAX, RUN_OVERLAP_BYTES};

/// Most bytes of text without a secret that all stages together hold back: the first line of a
/// PEM block, a run of key characters or an assignment, and the digits of a card.
pub const HOLD_BACK_BYTES_MAX: usize = private_key::MARKER_BYTES_MAX
    + assignment::KEYWORD_SPAN_BYTES_MAX
    + ASSIGNMENT_GAP_BYTES_MAX
    + ASSIGNMENT_VALUE_BYTES_MAX
    + card::HELD_BYTES_MAX;

/// The rules: what is a secret, and what it is called.
#[derive(Debug, Clone)]
pub struct Sanitizer {
    rules: Arc<TokenRules>,
    checksum: Arc<str>,
}

/// How often a rule replaced something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedactionCount {
    /// The rule, such as `payment-card`.
    pub rule: String,
    /// How many places were replaced.
    pub count: u64,
}

/// A text without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sanitized {
    /// The text, with a mark in the place of each secret.
    pub text: String,
    /// What was found, in byte order of the rules' names.
    pub redactions: Vec<RedactionCount>,
}

impl Sanitizer {
    /// The rules that ship with this crate.
    #[must_use]
    pub fn builtin() -> Self {
        static BUILTIN: LazyLock<Sanitizer> = LazyLock::new(|| {
            let rules = TokenRules::builtin();
            let checksum = Canonical::object([
                ("format", Canonical::text("postern-sanitizer/1")),
                ("tokens", TokenRules::canonical()),
                ("assignments", assignment::canonical()),
            ])
            .sha256_hex();
            Sanitizer {
                rules: Arc::new(rules),
                checksum: checksum.into(),
            }
        });
        BUILTIN.clone()
    }

    /// Cleans one text by itself.
    #[must_use]
    pub fn sanitize(&self, text: &str) -> Sanitized {
        self.session().sanitize(text)
    }

    /// SHA-256 over the token rules and the announcing words, and over a format number that
    /// counts changes of everything else; 64 lower-case hex digits.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Starts a session: texts in which the same secret has the same number.
    pub(crate) fn session(&self) -> Session {
        Session {
            rules: Arc::clone(&self.rules),
            ledger: Ledger::default(),
        }
    }

    /// Starts cleaning one text that comes in pieces.
    pub(crate) fn stream(&self) -> Stream {
        Stream {
            pipeline: Pipeline::new(&self.rules),
            ledger: Ledger::default(),
        }
    }
}

/// Several texts of one call.
pub(crate) struct Session {
    rules: Arc<TokenRules>,
    ledger: Ledger,
}

impl Session {
    pub(crate) fn sanitize(&mut self, text: &str) -> Sanitized {
        let mut pipeline = Pipeline::new(&self.rules);
        let mut clean = String::with_capacity(text.len());
        pipeline.push(text, &mut self.ledger, &mut clean);
        pipeline.finish(&mut self.ledger, &mut clean);
        Sanitized {
            text: clean,
            redactions: self.ledger.take_counts(),
        }
    }
}

/// One text that comes in pieces.
pub(crate) struct Stream {
    pipeline: Pipeline,
    ledger: Ledger,
}

impl Stream {
    pub(crate) fn push(&mut self, text: &str) -> String {
        let mut clean = String::new();
        self.pipeline.push(text, &mut self.ledger, &mut clean);
        clean
    }

    pub(crate) fn finish(&mut self) -> String {
        let mut clean = String::new();
        self.pipeline.finish(&mut self.ledger, &mut clean);
        clean
    }

    pub(crate) fn counts(&self) -> Vec<RedactionCount> {
        self.ledger.counts()
    }
}

/// The stages one after the other.
struct Pipeline {
    private_keys: PrivateKeyStage,
    tokens: TokenStage,
    cards: CardStage,
}

impl Pipeline {
    fn new(rules: &Arc<TokenRules>) -> Self {
        Self {
            private_keys: PrivateKeyStage::default(),
            tokens: TokenStage::new(Arc::clone(rules)),
            cards: CardStage::default(),
        }
    }

    fn push(&mut self, text: &str, ledger: &mut Ledger, out: &mut String) {
        let (mut first, mut second) = (String::new(), String::new());
        self.private_keys.push(text, ledger, &mut first);
        self.tokens.push(&first, ledger, &mut second);
        self.cards.push(&second, ledger, out);
    }

    /// Ends the text; the pipeline is as new afterwards.
    fn finish(&mut self, ledger: &mut Ledger, out: &mut String) {
        let (mut first, mut second) = (String::new(), String::new());
        self.private_keys.finish(ledger, &mut first);
        self.tokens.push(&first, ledger, &mut second);
        self.tokens.finish(ledger, &mut second);
        self.cards.push(&second, ledger, out);
        self.cards.finish(ledger, out);
    }
}
