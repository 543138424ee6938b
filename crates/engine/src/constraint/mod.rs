//! Output that keeps to a JSON Schema: which tokens may come next in one generation.
//!
//! Invariants: tokens that a [`Constraint`] allows, put together until it is complete, are JSON that the schema
//! accepts; a control token is never part of it; forced tokens are found once and stay what they are, so that taking
//! them without logits or one by one with a mask gives the same tokens. The JSON is compact and its members come
//! in the order of the schema, so that as much as possible is forced.
//! Absent: the model, its logits, and a repair of output that was cut short.

mod grammars;
mod mask;
mod schema;
mod vocabulary;

use llguidance::Matcher;
use serde_json::Value;

pub use self::grammars::Grammars;
pub use self::mask::TokenMask;
pub use self::schema::{
    SCHEMA_BYTES_MAX, SCHEMA_COUNT_MAX, SCHEMA_MEMBERS_MAX, SCHEMA_NESTING_MAX,
    SCHEMA_PATTERN_CHARACTERS_MAX, SCHEMA_REFERENCES_MAX,
};
use crate::error::{EngineError, Result};

/// The constraint of one generation.
pub struct Constraint {
    matcher: Matcher,
    vocabulary: usize,
    /// The run of forced tokens that was found last, of which `taken` are committed.
    forced: Vec<u32>,
    taken: usize,
    /// Whether forced tokens were looked for since that run was committed.
    is_looked_for: bool,
    /// What may come next, once it was asked for.
    mask: Option<TokenMask>,
}

impl Constraint {
    /// Prepares a generation whose output `schema` accepts.
    ///
    /// # Errors
    /// [`EngineError::SchemaInvalid`] where the schema is not one, exceeds a bound, cannot be met or uses what is not
    /// supported, and [`EngineError::Vocabulary`] where the vocabulary cannot write every text.
    pub fn new(grammars: &Grammars, schema: &Value) -> Result<Self> {
        let mut constraint = Self {
            matcher: grammars.compile(schema)?,
            vocabulary: grammars.vocabulary(),
            forced: Vec::new(),
            taken: 0,
            is_looked_for: false,
            mask: None,
        };
        // The first run is often the longest; whoever compiles can better wait for it than whoever generates.
        constraint.forced();
        Ok(constraint)
    }

    /// The tokens that have to come next, whatever the logits; empty where there is a choice. They are not
    /// committed: whoever takes one calls [`commit`](Self::commit) with it.
    pub fn forced(&mut self) -> &[u32] {
        if !self.is_looked_for {
            self.taken = 0;
            self.forced = if self.is_complete() {
                Vec::new()
            } else {
                self.matcher.compute_ff_tokens()
            };
            self.is_looked_for = true;
        }
        &self.forced[self.taken..]
    }

    /// The tokens that may come next: a single one where it is forced, and those that end a generation only where
    /// the text may end.
    ///
    /// # Errors
    /// [`EngineError::ConstraintFailed`] when nothing may follow or a step takes too much work.
    pub fn mask(&mut self) -> Result<&TokenMask> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => self.find_mask()?,
        };
        Ok(self.mask.insert(mask))
    }

    fn find_mask(&mut self) -> Result<TokenMask> {
        let vocabulary = self.vocabulary;
        let mask = match self.forced().first() {
            Some(&token) => TokenMask::of(&[token], vocabulary),
            None => TokenMask::new(self.matcher.compute_mask_or_eos().map_err(step_failure)?),
        };
        mask.ok_or(NOTHING_FOLLOWS)
    }

    /// Takes the token that was chosen.
    ///
    /// # Errors
    /// [`EngineError::ConstraintFailed`] when `token` may not come next; the constraint cannot go on after that.
    pub fn commit(&mut self, token: u32) -> Result<()> {
        self.mask = None;
        self.matcher.consume_token(token).map_err(step_failure)?;
        let expected = self.forced.get(self.taken);
        self.taken += 1;
        self.is_looked_for = expected == Some(&token) && self.taken < self.forced.len();
        Ok(())
    }

    /// Whether the output is whole and nothing but an end may follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Constraint")
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

const NOTHING_FOLLOWS: EngineError = EngineError::ConstraintFailed {
    reason: "no token may follow",
};

/// The library's message may quote what was generated, which no error holds: only its kind is kept.
fn step_failure(error: impl std::fmt::Display) -> EngineError {
    let message = error.to_string();
    let reason = if message.contains("lexer error") {
        "its strings and numbers took more work than a step may"
    } else if message.contains("parser error") || message.contains("too many items") {
        "its structure took more work than a step may"
    } else {
        return NOTHING_FOLLOWS;
    };
    EngineError::ConstraintFailed { reason }
}
