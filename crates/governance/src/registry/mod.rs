//! Which models may answer, and what for.
//!
//! The file format is in [`file`]. An entry names a model by its id and the SHA-256 of its file, so a
//! file with other weights under a known id is another model, which nobody has judged.
//!
//! Invariant: every entry has a card that was read, no field of an entry is empty, and no two entries
//! are of one model. [`ModelRegistry::permit`] is the only place where a model is judged: the start
//! of a daemon and every call ask it.
//!
//! Absent: the model files themselves. Whether a file has its digest, the engine checks.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::canonical::Canonical;
use crate::decision::ModelRef;
use crate::denial::Denial;
use crate::names::UseCase;
use crate::template::{Risk, Template};
use crate::template_set::TemplateSet;
use crate::{GovernanceError, source};

pub use file::{CARD_BYTES_MAX, LIMITATIONS_MAX, MODELS_MAX, USES_MAX};

/// Digits of a checksum that messages show.
const SHOWN_DIGITS: usize = 12;
/// What to do about a model that has no entry.
const REGISTER: &str = "`postern model register MANIFEST` prints its entry, and `[governance] models` or `--models` names the registry that holds it";

/// What is known of one model, and what it is approved for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelEntry {
    id: String,
    version: String,
    provider: String,
    sha256: String,
    intended_uses: BTreeSet<UseCase>,
    limitations: Vec<String>,
    data_provenance: String,
    licence: String,
    risk: Risk,
    card: String,
    card_sha256: String,
    #[serde(skip)]
    line: u64,
}

impl ModelEntry {
    /// Its name in manifests, answers and records.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its version, as its provider counts.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Who made it.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// SHA-256 of its file, 64 lower-case hex digits.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What it may be used for; [`UseCase::any`] among them stands for everything.
    #[must_use]
    pub fn intended_uses(&self) -> &BTreeSet<UseCase> {
        &self.intended_uses
    }

    /// What it cannot do, for people.
    #[must_use]
    pub fn limitations(&self) -> &[String] {
        &self.limitations
    }

    /// What it was trained on, for people.
    #[must_use]
    pub fn data_provenance(&self) -> &str {
        &self.data_provenance
    }

    /// Its licence, best as an SPDX identifier.
    #[must_use]
    pub fn licence(&self) -> &str {
        &self.licence
    }

    /// What its worst answer may cost.
    #[must_use]
    pub fn risk(&self) -> Risk {
        self.risk
    }

    /// Its card: a path relative to the folder of the registry, within that folder.
    #[must_use]
    pub fn card(&self) -> &str {
        &self.card
    }

    /// SHA-256 of its card, 64 lower-case hex digits.
    #[must_use]
    pub fn card_sha256(&self) -> &str {
        &self.card_sha256
    }

    /// Whether it is meant for what the template does. A template that does not say what it is for
    /// is covered only by a model for everything.
    #[must_use]
    pub fn covers(&self, template: &Template) -> bool {
        let named = template.use_case.as_ref();
        self.intended_uses.iter().any(UseCase::is_any)
            || named.is_some_and(|use_case| self.intended_uses.contains(use_case))
    }

    fn canonical(&self) -> Canonical {
        let uses = self.intended_uses.iter().map(UseCase::as_str);
        Canonical::object([
            ("version", Canonical::text(&self.version)),
            ("provider", Canonical::text(&self.provider)),
            ("intended_uses", Canonical::Json(uses.collect())),
            (
                "limitations",
                Canonical::Json(Value::from(self.limitations.clone())),
            ),
            ("data_provenance", Canonical::text(&self.data_provenance)),
            ("licence", Canonical::text(&self.licence)),
            ("risk", Canonical::text(self.risk.as_str())),
            ("card", Canonical::text(&self.card)),
            ("card_sha256", Canonical::text(&self.card_sha256)),
        ])
    }
}

/// The models that were judged, and up to which risk one may answer.
#[derive(Debug, Clone)]
pub struct ModelRegistry {
    file: String,
    approved_risk: Risk,
    /// By id, then by SHA-256.
    models: BTreeMap<String, BTreeMap<String, ModelEntry>>,
    checksum: String,
}

impl ModelRegistry {
    /// Reads a registry and the cards beside it.
    ///
    /// # Errors
    ///
    /// That a file cannot be read or is wrong, with file, line, field and reason.
    pub fn load(file: &Path) -> Result<Self, GovernanceError> {
        let text = source::read(file, source::SOURCE_BYTES_MAX)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let name = source::file_name(file);
        Self::parse(&name, &text, |card| file::read_card(folder, card))
    }

    /// Parses a registry; `file_name` is for messages, and `cards` are (path, text).
    ///
    /// # Errors
    ///
    /// What is wrong, with line, field and reason.
    pub fn from_sources<'s>(
        file_name: &str,
        text: &str,
        cards: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Result<Self, GovernanceError> {
        let cards: BTreeMap<&str, &str> = cards.into_iter().collect();
        Self::parse(file_name, text, |card| match cards.get(card) {
            Some(text) => Ok((*text).to_owned()),
            None => Err("there is no such file".to_owned()),
        })
    }

    fn parse(
        file_name: &str,
        text: &str,
        read_card: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, GovernanceError> {
        let (approved_risk, entries) = file::parse(file_name, text, read_card)?;
        let mut models: BTreeMap<String, BTreeMap<String, ModelEntry>> = BTreeMap::new();
        for entry in entries {
            let versions = models.entry(entry.id.clone()).or_default();
            if let Some(first) = versions.get(&entry.sha256) {
                return Err(GovernanceError::Field {
                    file: file_name.to_owned(),
                    line: entry.line,
                    field: format!("models.{}.sha256", entry.id),
                    reason: format!(
                        "is that of the entry in line {}; keep one of the two",
                        first.line
                    ),
                });
            }
            versions.insert(entry.sha256.clone(), entry);
        }
        let checksum = canonical(approved_risk, &models).sha256_hex();
        Ok(Self {
            file: file_name.to_owned(),
            approved_risk,
            models,
            checksum,
        })
    }

    /// The entry of exactly this model.
    #[must_use]
    pub fn find(&self, model: &ModelRef) -> Option<&ModelEntry> {
        self.models.get(&model.id)?.get(&model.sha256)
    }

    /// All entries, in byte order of id and SHA-256.
    pub fn iter(&self) -> impl Iterator<Item = &ModelEntry> {
        self.models.values().flat_map(BTreeMap::values)
    }

    /// The highest risk that a model may have.
    #[must_use]
    pub fn approved_risk(&self) -> Risk {
        self.approved_risk
    }

    /// Whether the risk of a model is approved.
    #[must_use]
    pub fn approves(&self, entry: &ModelEntry) -> bool {
        entry.risk <= self.approved_risk
    }

    /// Whether this model may answer this template.
    ///
    /// # Errors
    ///
    /// The first reason why not: it is not registered, not with this content, its risk is not
    /// approved, or it is for something else.
    pub fn permit(&self, model: &ModelRef, template: &Template) -> Result<&ModelEntry, Denial> {
        let entry = self.admit(model)?;
        if !entry.covers(template) {
            return Err(Denial::ModelUse {
                model: entry.id.clone(),
                template: template.id.clone(),
                use_case: needed(template),
            });
        }
        Ok(entry)
    }

    /// Whether this model may serve these templates: at least one of them.
    ///
    /// # Errors
    ///
    /// Why not, with the place in the registry and what to do.
    pub fn require(
        &self,
        model: &ModelRef,
        templates: &TemplateSet,
    ) -> Result<&ModelEntry, GovernanceError> {
        let entry = self
            .admit(model)
            .map_err(|denial| self.refused(model, &denial))?;
        let mut verdicts = templates
            .iter()
            .map(|template| self.permit(model, template));
        if verdicts.any(|verdict| verdict.is_ok()) {
            return Ok(entry);
        }
        let uses: Vec<&str> = entry.intended_uses.iter().map(UseCase::as_str).collect();
        let asked = templates.iter();
        let asked: Vec<String> = asked.map(|t| format!("{} ({})", t.id, needed(t))).collect();
        Err(GovernanceError::ModelRefused {
            file: self.file.clone(),
            line: entry.line,
            reason: format!(
                "the model `{}` is meant for {}, and no template is: there are {}; serve another model, or \
                 extend `intended_uses` if the model was judged for that",
                entry.id,
                uses.join(", "),
                asked.join(", ")
            ),
        })
    }

    /// SHA-256 of the canonical bytes, 64 lower-case hex digits: JSON of the parsed registry with keys
    /// in byte order and no white space, and of each card its digest. Comments and layout of the
    /// registry do not matter.
    #[must_use]
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Name of the file it came from, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What does not depend on a template.
    fn admit(&self, model: &ModelRef) -> Result<&ModelEntry, Denial> {
        let id = model.id.clone();
        let entry = match self.find(model) {
            Some(entry) => entry,
            None if self.models.contains_key(&model.id) => {
                return Err(Denial::ModelMismatch { model: id });
            }
            None => return Err(Denial::ModelUnregistered { model: id }),
        };
        if !self.approves(entry) {
            return Err(Denial::ModelRisk {
                model: id,
                risk: entry.risk,
                approved: self.approved_risk,
            });
        }
        Ok(entry)
    }

    /// The denial as the error of a start, with the place in the file and what to do.
    fn refused(&self, model: &ModelRef, denial: &Denial) -> GovernanceError {
        let (line, reason) = match denial {
            Denial::ModelMismatch { .. } => {
                let first = self.models.get(&model.id);
                let first = first.and_then(|versions| versions.values().next());
                let reason = format!(
                    "{denial} (registered {}, given {}); use the registered file, or register this one: {REGISTER}",
                    first.map_or("nothing", |entry| shown(&entry.sha256)),
                    shown(&model.sha256),
                );
                (first.map_or(0, |entry| entry.line), reason)
            }
            Denial::ModelRisk { .. } => (
                self.find(model).map_or(0, |entry| entry.line),
                format!("{denial}; serve another model, or raise `approved_risk` on purpose"),
            ),
            _ => (0, format!("{denial}; {REGISTER}")),
        };
        GovernanceError::ModelRefused {
            file: self.file.clone(),
            line,
            reason,
        }
    }
}

/// The use that a model must be meant for to answer the template.
fn needed(template: &Template) -> String {
    let any = UseCase::any();
    template.use_case.as_ref().unwrap_or(&any).to_string()
}

/// The beginning of a checksum, for people.
fn shown(sha256: &str) -> &str {
    sha256.get(..SHOWN_DIGITS).unwrap_or(sha256)
}

fn canonical(
    approved_risk: Risk,
    models: &BTreeMap<String, BTreeMap<String, ModelEntry>>,
) -> Canonical {
    let entries = models.iter().map(|(id, versions)| {
        let versions = versions.iter();
        let versions = versions.map(|(sha256, entry)| (sha256.clone(), entry.canonical()));
        (id.clone(), Canonical::Object(versions.collect()))
    });
    Canonical::object([
        ("format", Canonical::text("postern-models/1")),
        ("approved_risk", Canonical::text(approved_risk.as_str())),
        ("models", Canonical::Object(entries.collect())),
    ])
}
