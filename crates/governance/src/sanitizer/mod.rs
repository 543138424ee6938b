//! Takes secrets and personal data out of text.
//!
//! A text is made visible ([`view`]: no invisible characters, compatibility forms for matching),
//! keywords and beginnings of words point at the few places where something may be ([`rules`]),
//! rules judge these ([`look`]), and what they find is replaced by `[REDACTED:rule:n]`; the same
//! secret has the same `n` within a [`Session`]. Rules come from files ([`rule_file`]); those that
//! ship are `deploy/policy/sanitizer.toml`.
//!
//! Invariants:
//! - Whole text and stream go through the same [`scanner`], and a verdict never depends on where
//!   a chunk ends. So any split into chunks gives the same text as the whole.
//! - At most [`HOLD_BACK_CHARS_MAX`] characters of text without a secret are held back by the rules
//!   that ship; what is known to be a secret is hashed and dropped, so memory is bounded however
//!   long it is. No part of a recognized secret is emitted.
//! - Time is linear in the text. Cleaning clean text changes nothing: a mark that stands in the
//!   input stays there as text, and is not counted.
//!
//! Absent: encodings of encodings, secrets that are split over variables, names that no list
//! gives.

mod assignment;
mod checksum;
mod encoding;
mod keywords;
mod ledger;
mod look;
mod number;
mod opening;
mod pattern;
mod private_key;
mod rule;
mod rule_file;
mod rules;
mod scanner;
mod value;
mod view;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::canonical::Canonical;
use crate::{GovernanceError, source};
use ledger::Ledger;
use rules::Rules;
use scanner::Scanner;

pub(crate) use encoding::decode_all as decode_base64;
pub use ledger::{Finding, Place};
pub use pattern::{PATTERN_BYTES_MAX, PROGRAM_BYTES_MAX};
pub use private_key::PRIVATE_KEY_BLOCK_BYTES_MAX;
pub use rule::RuleClass;
pub use rule_file::RULES_MAX;
pub(crate) use view::is_invisible;

/// Most characters of text without a secret that are held back with the rules that ship: as much as is
/// needed to know a secret, and one character.
pub const HOLD_BACK_CHARS_MAX: usize = look::HEAD_BYTES_MAX + 2;

/// Name and text of the rules that ship.
const BUILTIN_FILE: &str = "sanitizer.toml";
const BUILTIN: &str = include_str!("../../../../deploy/policy/sanitizer.toml");

/// What happens with what a rule finds.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It stays in the text, and is reported.
    Mark,
    /// A mark takes its place.
    #[default]
    Redact,
    /// The call is refused.
    Refuse,
}

impl Mode {
    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Redact => "redact",
            Self::Refuse => "refuse",
        }
    }
}

/// What happens with each class of rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes {
    /// For keys, tokens, passwords.
    pub secret: Mode,
    /// For what is about a person.
    pub personal: Mode,
}

impl Modes {
    pub(crate) fn of(self, class: RuleClass) -> Mode {
        match class {
            RuleClass::Secret => self.secret,
            RuleClass::Personal => self.personal,
        }
    }
}

/// Least confidence of a finding where the policy does not say.
pub const CONFIDENCE_MIN_DEFAULT: f32 = 0.5;

/// How strictly a text is cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Least confidence of a finding, 0 to 1.
    pub confidence_min: f32,
    /// What happens with findings.
    pub modes: Modes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            confidence_min: CONFIDENCE_MIN_DEFAULT,
            modes: Modes::default(),
        }
    }
}

/// The rules: what is a secret, and what it is called.
#[derive(Debug, Clone)]
pub struct Sanitizer {
    rules: Arc<Rules>,
    checksum: Arc<str>,
}

/// What one rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// Its id, such as `payment-card`.
    pub id: String,
    /// What kind of rule it is.
    pub class: RuleClass,
    /// What it finds.
    pub description: String,
}

/// How often a rule found something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedactionCount {
    /// The rule, such as `payment-card`.
    pub rule: String,
    /// In how many places.
    pub count: u64,
}

/// A text without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sanitized {
    /// The text, with a mark in the place of each secret.
    pub text: String,
    /// What was found, in byte order of the rules' names.
    pub redactions: Vec<RedactionCount>,
    /// Every single finding, in order.
    pub findings: Vec<Finding>,
    /// How many invisible characters were taken out.
    pub invisible_characters: u64,
}

impl Sanitizer {
    /// The rules that ship with this crate.
    ///
    /// # Panics
    ///
    /// Never: that they load is tested.
    #[must_use]
    pub fn builtin() -> Self {
        static BUILTIN_RULES: LazyLock<Sanitizer> =
            LazyLock::new(|| Sanitizer::with_rules(&[]).expect("the shipped rules load"));
        BUILTIN_RULES.clone()
    }

    /// The rules that ship and further ones, given as (file name, text), in our format or
    /// gitleaks'. A rule with the id of an earlier one takes its place; `disable` removes rules.
    ///
    /// # Errors
    ///
    /// What is wrong, with file, line and rule.
    pub fn with_rules(files: &[(String, String)]) -> Result<Self, GovernanceError> {
        let mut all = rule_file::parse(BUILTIN_FILE, BUILTIN)?.rules;
        let mut texts = vec![Canonical::text(BUILTIN)];
        for (name, text) in files {
            let read = rule_file::parse(name, text)?;
            for id in &read.disable {
                if !all.iter().any(|known| known.rule.id == *id) {
                    return Err(GovernanceError::Field {
                        file: name.clone(),
                        line: 0,
                        field: "disable".to_owned(),
                        reason: format!("names `{id}`, which is no rule"),
                    });
                }
            }
            all.retain(|known| {
                let replaced = read.rules.iter().any(|new| new.rule.id == known.rule.id);
                !replaced && !read.disable.contains(&known.rule.id)
            });
            // What the user adds is asked first.
            all.splice(0..0, read.rules);
            texts.push(Canonical::text(text));
        }
        let rules = Rules::new(all).map_err(|reason| GovernanceError::Field {
            file: files
                .last()
                .map_or(BUILTIN_FILE, |(name, _)| name)
                .to_owned(),
            line: 0,
            field: "keywords".to_owned(),
            reason: format!("of all files together: {reason}"),
        })?;
        let numbered = texts.into_iter().enumerate();
        let texts = numbered.map(|(order, text)| (format!("{order:03}"), text));
        let checksum = Canonical::object([
            ("format", Canonical::text("postern-sanitizer/2")),
            ("files", Canonical::Object(texts.collect())),
        ])
        .sha256_hex();
        Ok(Self {
            rules: Arc::new(rules),
            checksum: checksum.into(),
        })
    }

    /// As [`Sanitizer::with_rules`], from files.
    ///
    /// # Errors
    ///
    /// That a file cannot be read, or what is wrong in it.
    pub fn load(files: &[impl AsRef<Path>]) -> Result<Self, GovernanceError> {
        let texts = files.iter().map(|path| {
            let path = path.as_ref();
            Ok((
                source::file_name(path),
                source::read(path, source::SOURCE_BYTES_MAX)?,
            ))
        });
        Self::with_rules(&texts.collect::<Result<Vec<_>, GovernanceError>>()?)
    }

    /// Cleans one text by itself, with default settings.
    #[must_use]
    pub fn sanitize(&self, text: &str) -> Sanitized {
        self.sanitize_with(text, Settings::default())
    }

    /// Cleans one text by itself.
    #[must_use]
    pub fn sanitize_with(&self, text: &str, settings: Settings) -> Sanitized {
        Session {
            rules: Arc::clone(&self.rules),
            ledger: Ledger::listing(),
        }
        .sanitize(text, settings)
    }

    /// SHA-256 over the texts of all rule files and a format number that counts changes of
    /// everything else; 64 lower-case hex digits.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Every rule, in the order in which they are asked.
    pub fn rules(&self) -> impl Iterator<Item = RuleInfo> {
        self.rules.iter().map(|rule| RuleInfo {
            id: rule.id.clone(),
            class: rule.class,
            description: rule.description.clone(),
        })
    }

    /// Starts a session: texts in which the same secret has the same number.
    pub(crate) fn session(&self) -> Session {
        Session {
            rules: Arc::clone(&self.rules),
            ledger: Ledger::default(),
        }
    }

    /// As [`Sanitizer::stream`], without a list of findings, which would grow.
    pub(crate) fn unlisted_stream(&self, settings: Settings) -> SanitizedStream {
        SanitizedStream {
            ledger: Ledger::default(),
            ..self.stream(settings)
        }
    }

    /// Starts cleaning one text that comes in pieces. Findings are listed until they are taken.
    #[must_use]
    pub fn stream(&self, settings: Settings) -> SanitizedStream {
        SanitizedStream {
            scanner: Scanner::new(Arc::clone(&self.rules), settings),
            ledger: Ledger::listing(),
        }
    }
}

/// Several texts of one call.
pub(crate) struct Session {
    rules: Arc<Rules>,
    ledger: Ledger,
}

impl Session {
    pub(crate) fn sanitize(&mut self, text: &str, settings: Settings) -> Sanitized {
        let mut scanner = Scanner::new(Arc::clone(&self.rules), settings);
        let mut clean = String::with_capacity(text.len());
        scanner.push(text, &mut self.ledger, &mut clean);
        scanner.finish(&mut self.ledger, &mut clean);
        Sanitized {
            text: clean,
            redactions: self.ledger.take_counts(),
            findings: self.ledger.take_list(),
            invisible_characters: scanner.stripped(),
        }
    }

    /// The rule that refuses the call, if one does.
    pub(crate) fn refused(&mut self) -> Option<String> {
        self.ledger.take_refused()
    }
}

/// One text that comes in pieces; memory does not grow with its length.
pub struct SanitizedStream {
    scanner: Scanner,
    ledger: Ledger,
}

impl std::fmt::Debug for SanitizedStream {
    /// Without the text that is held back: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("SanitizedStream");
        debug.field("redactions", &self.redactions());
        debug.finish_non_exhaustive()
    }
}

impl SanitizedStream {
    /// Takes the next piece, and gives back the text that is safe to emit now.
    #[must_use]
    pub fn push(&mut self, text: &str) -> String {
        let mut clean = String::new();
        self.scanner.push(text, &mut self.ledger, &mut clean);
        clean
    }

    /// Ends the text, and gives back the rest.
    #[must_use]
    pub fn finish(&mut self) -> String {
        let mut clean = String::new();
        self.scanner.finish(&mut self.ledger, &mut clean);
        clean
    }

    /// The findings since the last time, in order.
    pub fn take_findings(&mut self) -> Vec<Finding> {
        self.ledger.take_list()
    }

    /// What was found so far, in byte order of the rules' names.
    #[must_use]
    pub fn redactions(&self) -> Vec<RedactionCount> {
        self.ledger.counts()
    }

    /// How many invisible characters were taken out so far.
    #[must_use]
    pub fn invisible_characters(&self) -> u64 {
        self.scanner.stripped()
    }
}
