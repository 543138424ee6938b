//! The lock file of a template folder: which content each id stands for.
//!
//! ```yaml
//! version: 1
//! prompts:
//!   coffee.v1:
//!     sha256: "64 hexadecimal digits"
//!     author: "Postern maintainers"
//!     intent: "..."
//!     date: "2026-11-27"
//! ```
//!
//! Where the file is there, every template of the folder must be recorded in it with its checksum;
//! otherwise nothing of the folder is loaded. A record stays when its template goes, so that an id
//! never comes back with another content.
//!
//! Invariant: [`PromptLock::renewed`] changes the record of an id only if it is told that id.
//! Absent: the clock; whoever renews says which day it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::canonical::is_sha256_hex;
use crate::names::TemplateId;
use crate::template::Template;
use crate::{GovernanceError, source};

/// Name of the lock file in a template folder.
pub const LOCK_FILE: &str = "prompts.lock";
/// The only version of the format.
const LOCK_VERSION: u32 = 1;
/// Digits of a checksum that messages show.
const SHOWN_DIGITS: usize = 12;

/// What was recorded about one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LockRecord {
    /// Checksum of the template, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Who answered for it.
    pub author: String,
    /// What it was for.
    pub intent: String,
    /// The day of the record, as `2026-11-27`.
    pub date: String,
    /// Line in the lock file, from 1; 0 for a record that is in no file yet.
    #[serde(skip)]
    pub line: u64,
}

/// The records of a lock file, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptLock {
    records: BTreeMap<TemplateId, LockRecord>,
}

/// What the lock says about a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// It is recorded as it is.
    Recorded,
    /// It is not recorded.
    New,
    /// It is recorded with another content.
    Changed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    version: Spanned<u32>,
    prompts: BTreeMap<TemplateId, Spanned<RecordFile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordFile {
    sha256: String,
    author: String,
    intent: String,
    date: String,
}

impl PromptLock {
    /// Parses a lock file.
    ///
    /// # Errors
    ///
    /// What is wrong, with line and reason.
    pub fn from_source(text: &str) -> Result<Self, GovernanceError> {
        let parsed: LockFile = source::parse(LOCK_FILE, text)?;
        let refuse = |line, field: String, reason: &str| {
            Err(GovernanceError::Field {
                file: LOCK_FILE.to_owned(),
                line,
                field,
                reason: reason.to_owned(),
            })
        };
        if parsed.version.value != LOCK_VERSION {
            let line = parsed.version.defined.line();
            return refuse(line, "version".to_owned(), "must be 1");
        }
        let mut records = BTreeMap::new();
        for (id, spanned) in parsed.prompts {
            let line = spanned.defined.line();
            let record = spanned.value;
            if !is_sha256_hex(&record.sha256) {
                let field = format!("prompts.{id}.sha256");
                return refuse(line, field, "must be 64 lower-case hexadecimal digits");
            }
            let record = LockRecord {
                sha256: record.sha256,
                author: record.author,
                intent: record.intent,
                date: record.date,
                line,
            };
            records.insert(id, record);
        }
        Ok(Self { records })
    }

    /// The records, in byte order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&TemplateId, &LockRecord)> {
        self.records.iter()
    }

    /// What is recorded about an id.
    #[must_use]
    pub fn get(&self, id: &TemplateId) -> Option<&LockRecord> {
        self.records.get(id)
    }

    /// What is recorded about a template.
    #[must_use]
    pub fn state(&self, template: &Template) -> LockState {
        match self.records.get(&template.id) {
            None => LockState::New,
            Some(record) if record.sha256 == template.checksum => LockState::Recorded,
            Some(_) => LockState::Changed,
        }
    }

    /// Checks one template that came from `file`.
    ///
    /// # Errors
    ///
    /// That it is not recorded, or recorded with another content.
    pub fn check(&self, file: &str, template: &Template) -> Result<(), GovernanceError> {
        let Some(record) = self.records.get(&template.id) else {
            return Err(GovernanceError::NotLocked {
                file: file.to_owned(),
                line: template.line,
                id: template.id.to_string(),
            });
        };
        if record.sha256 == template.checksum {
            return Ok(());
        }
        let shown = |sha256: &str| format!("{}…", &sha256[..SHOWN_DIGITS]);
        Err(GovernanceError::LockMismatch {
            file: file.to_owned(),
            line: template.line,
            id: template.id.to_string(),
            lock_line: record.line,
            recorded: shown(&record.sha256),
            found: shown(&template.checksum),
        })
    }

    /// The lock with a record of each new template, and of each changed one that `renew` names;
    /// other changed templates keep their old record. `date` is today, as `2026-11-27`.
    #[must_use]
    pub fn renewed<'t>(
        &self,
        templates: impl IntoIterator<Item = &'t Template>,
        renew: &BTreeSet<TemplateId>,
        date: &str,
    ) -> Self {
        let mut records = self.records.clone();
        for template in templates {
            let is_renewed = match self.state(template) {
                LockState::New => true,
                LockState::Changed => renew.contains(&template.id),
                LockState::Recorded => false,
            };
            if is_renewed {
                let record = LockRecord {
                    sha256: template.checksum.clone(),
                    author: template.author.clone(),
                    intent: template.intent.clone(),
                    date: date.to_owned(),
                    line: 0,
                };
                records.insert(template.id.clone(), record);
            }
        }
        Self { records }
    }

    /// The text of the lock file.
    #[must_use]
    pub fn to_source(&self) -> String {
        let mut text = String::from(
            "# Written by `postern prompt lock`. A template that is not as recorded here is not loaded.\n\
             version: 1\nprompts:",
        );
        if self.records.is_empty() {
            text.push_str(" {}");
        }
        text.push('\n');
        for (id, record) in &self.records {
            text.push_str(&format!("  {id}:\n"));
            for (field, value) in [
                ("sha256", &record.sha256),
                ("author", &record.author),
                ("intent", &record.intent),
                ("date", &record.date),
            ] {
                let quoted = serde_json::Value::from(value.as_str());
                text.push_str(&format!("    {field}: {quoted}\n"));
            }
        }
        text
    }
}
