//! Schemas compiled for one vocabulary.
//!
//! Invariants: nothing is built before the first schema needs it; what compiling and each step of a generation may cost is
//! bounded; a schema that is too much for its compiler is an error, never a panic of the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::TokEnv;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, panic_utils};
use serde_json::Value;

use super::schema;
use super::vocabulary::TextVocabulary;
use crate::error::{EngineError, Result};
use crate::tokenizer::Tokenizer;

/// Steps that the expressions of a schema may take to be set up; 50,000 take about a millisecond of a PC.
const COMPILE_STEPS_MAX: u64 = 1_000_000;
/// Symbols that the rules of a schema may have.
const GRAMMAR_SYMBOLS_MAX: usize = 100_000;
/// Derivatives of expressions that a mask may take; 14,000 take about a millisecond of a PC.
const MASK_DERIVATIVES_MAX: u64 = 200_000;
/// Items of the parser that a mask may take; 20,000 take about a millisecond of a PC.
const MASK_ITEMS_MAX: usize = 50_000;
/// Rules that may be open at one place of the output.
const OPEN_RULES_MAX: usize = 2_000;
/// States of the lexer that a generation may reach, of one to two KiB each.
const LEXER_STATES_MAX: usize = 20_000;
/// The stack of a compilation, several times what a schema within the bounds can take.
const COMPILE_STACK_BYTES: usize = 32 * 1024 * 1024;
const COMPILE_THREAD: &str = "schema";
/// The longest reason that an error quotes of the compiler.
const REASON_CHARACTERS_MAX: usize = 300;
/// The line after which the library shows where it panicked.
const TRACE_START: &str = "<backtrace>";

/// Compiles schemas for the vocabulary of one model. What all of them share is built for the first and kept.
pub struct Grammars {
    tokenizer: Tokenizer,
    factory: Mutex<Option<Arc<ParserFactory>>>,
}

impl Grammars {
    /// Grammars over the vocabulary of `tokenizer`. Nothing is built yet.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self {
            tokenizer,
            factory: Mutex::new(None),
        }
    }

    /// How many tokens the vocabulary has.
    pub(super) fn vocabulary(&self) -> usize {
        self.tokenizer.len()
    }

    /// Compiles `schema`.
    ///
    /// # Errors
    /// [`EngineError::SchemaInvalid`], [`EngineError::Vocabulary`] and [`EngineError::Thread`].
    pub(super) fn compile(&self, schema: &Value) -> Result<Matcher> {
        schema::check(schema).map_err(|reason| EngineError::SchemaInvalid {
            reason: quoted(&reason),
        })?;
        let factory = self.factory()?;
        let compiled = thread::scope(|scope| {
            thread::Builder::new()
                .name(COMPILE_THREAD.to_owned())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || compile(&factory, schema.clone()))
                .map(|thread| thread.join())
        });
        let compiled = compiled.map_err(|source| EngineError::Thread {
            name: COMPILE_THREAD,
            source,
        })?;
        compiled
            .unwrap_or_else(|_| Err("its compilation failed".to_owned()))
            .map_err(|reason| EngineError::SchemaInvalid { reason })
    }

    /// What all schemas share, built by whoever is first.
    fn factory(&self) -> Result<Arc<ParserFactory>> {
        let mut kept = self.factory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(factory) = &*kept {
            return Ok(Arc::clone(factory));
        }
        let vocabulary: TokEnv = Arc::new(TextVocabulary::new(self.tokenizer.clone())?);
        let mut factory =
            ParserFactory::new_simple(&vocabulary).map_err(|error| EngineError::Vocabulary {
                reason: format!("output cannot be kept to a schema with it: {error}"),
            })?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Arc::clone(kept.insert(Arc::new(factory))))
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Grammars")
            .field("tokenizer", &self.tokenizer)
            .finish_non_exhaustive()
    }
}

fn compile(factory: &ParserFactory, mut schema: Value) -> Result<Matcher, String> {
    compact().apply_to(&mut schema);
    let parser = panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| {
        factory.create_parser(TopLevelGrammar::from_json_schema(schema))
    }));
    parser
        .map(|parser| Matcher::new(Ok(parser)))
        .map_err(|error| quoted(&format!("{error:#}")))
}

/// JSON without white space between its parts, and nothing of the schema left out or weakened.
fn compact() -> JsonCompileOptions {
    JsonCompileOptions {
        item_separator: ",".to_owned(),
        key_separator: ":".to_owned(),
        whitespace_flexible: false,
        whitespace_pattern: None,
        coerce_one_of: false,
        lenient: false,
        ..JsonCompileOptions::default()
    }
}

fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: OPEN_RULES_MAX,
        initial_lexer_fuel: COMPILE_STEPS_MAX,
        step_lexer_fuel: MASK_DERIVATIVES_MAX,
        step_max_items: MASK_ITEMS_MAX,
        max_lexer_states: LEXER_STATES_MAX,
        max_grammar_size: GRAMMAR_SYMBOLS_MAX,
        precompute_large_lexemes: true,
        // These would quote what was generated.
        verbose_errors: false,
    }
}

/// What is wrong on one line, without the trace that follows a panic of the compiler; of a long text the two ends.
fn quoted(message: &str) -> String {
    let lines = message.lines().take_while(|line| *line != TRACE_START);
    let line: Vec<char> = lines
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .collect();
    if line.len() <= REASON_CHARACTERS_MAX {
        return line.into_iter().collect();
    }
    let (head, tail) = (
        &line[..REASON_CHARACTERS_MAX / 2],
        &line[line.len() - REASON_CHARACTERS_MAX / 2..],
    );
    head.iter().chain(&[' ', '…', ' ']).chain(tail).collect()
}
