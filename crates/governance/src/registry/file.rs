//! The file of a registry, and every check of what it says.
//!
//! ```yaml
//! version: 1
//! approved_risk: medium               # low | medium | high; models above it are refused
//! models:
//!   - id: coffee-1                    # as the model's manifest has it
//!     version: "1"
//!     provider: "Postern maintainers"
//!     sha256: "64 hexadecimal digits" # of the model's file
//!     intended_uses: [recommendation] # use cases of templates; `any` is for every template
//!     limitations: ["English only"]
//!     data_provenance: "..."          # what it was trained on
//!     licence: Apache-2.0
//!     risk: low                       # low | medium | high
//!     card: coffee-1.md               # a file beside this one, or in a folder beside it
//! ```
//!
//! Every field is needed, and none may be empty: `postern model register` prints an entry whose
//! empty fields somebody has to think about.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::ModelEntry;
use crate::canonical::{is_sha256_hex, sha256_hex};
use crate::names::{NAME_BYTES_MAX, UseCase};
use crate::template::Risk;
use crate::{GovernanceError, source};

/// The only version of the format.
const REGISTRY_VERSION: u32 = 1;
/// Most models of a registry.
pub const MODELS_MAX: usize = 256;
/// Most intended uses of a model.
pub const USES_MAX: usize = 64;
/// Most limitations of a model.
pub const LIMITATIONS_MAX: usize = 64;
/// Largest card, in bytes.
pub const CARD_BYTES_MAX: usize = 256 * 1024;
/// Longest text of an entry, in bytes.
const PROSE_BYTES_MAX: usize = 1024;

/// Where the card that a path names is read from: its text, or why there is none.
type CardReader<'r> = &'r dyn Fn(&str) -> Result<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistryFile {
    version: Spanned<u32>,
    approved_risk: Spanned<String>,
    models: Spanned<Vec<Spanned<EntryFile>>>,
}

/// An entry as it is written. Everything may be missing, so that what is missing is named.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFile {
    id: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    provider: Option<Spanned<String>>,
    sha256: Option<Spanned<String>>,
    intended_uses: Option<Spanned<Vec<Spanned<String>>>>,
    limitations: Option<Spanned<Vec<Spanned<String>>>>,
    data_provenance: Option<Spanned<String>>,
    licence: Option<Spanned<String>>,
    risk: Option<Spanned<String>>,
    card: Option<Spanned<String>>,
}

/// The approved risk, and the entries in the order of the file.
pub(super) fn parse(
    file: &str,
    text: &str,
    read_card: impl Fn(&str) -> Result<String, String>,
) -> Result<(Risk, Vec<ModelEntry>), GovernanceError> {
    let parsed: RegistryFile = source::parse(file, text)?;
    let fault = |line, field: &str, reason: String| GovernanceError::Field {
        file: file.to_owned(),
        line,
        field: field.to_owned(),
        reason,
    };
    if parsed.version.value != REGISTRY_VERSION {
        let line = parsed.version.defined.line();
        let reason = format!("must be {REGISTRY_VERSION}");
        return Err(fault(line, "version", reason));
    }
    let approved = &parsed.approved_risk;
    let line = approved.defined.line();
    let approved_risk =
        parse_risk(&approved.value).map_err(|reason| fault(line, "approved_risk", reason))?;
    if parsed.models.value.len() > MODELS_MAX {
        let line = parsed.models.defined.line();
        let reason = format!("holds more than {MODELS_MAX} models; remove those that nobody uses");
        return Err(fault(line, "models", reason));
    }
    let mut entries = Vec::new();
    for (index, spanned) in parsed.models.value.into_iter().enumerate() {
        let form = Form {
            file,
            line: spanned.defined.line(),
            name: name(&spanned.value, index),
        };
        entries.push(form.entry(spanned.value, &read_card)?);
    }
    Ok((approved_risk, entries))
}

/// What an entry is called in messages: by its id where it has one, else by its number, from 1.
fn name(entry: &EntryFile, index: usize) -> String {
    match &entry.id {
        Some(id) if is_model_id(&id.value) => format!("models.{}", id.value),
        _ => format!("models[{}]", index + 1),
    }
}

/// One entry on its way through the checks.
struct Form<'f> {
    file: &'f str,
    /// Where the entry begins.
    line: u64,
    name: String,
}

impl Form<'_> {
    fn entry(
        &self,
        written: EntryFile,
        read_card: CardReader<'_>,
    ) -> Result<ModelEntry, GovernanceError> {
        let id = self.prose("id", written.id, "write the id of the model's manifest")?;
        if !is_model_id(&id.value) {
            let reason = "must be 1 to 64 of A-Z a-z 0-9 . _ -, as in the model's manifest";
            return Err(self.fault(id.defined.line(), "id", reason));
        }
        let text = |field, value, advice| {
            let spanned = self.prose(field, value, advice)?;
            Ok::<String, GovernanceError>(spanned.value)
        };
        let version = text("version", written.version, "write the provider's version")?;
        let provider = text("provider", written.provider, "write who made the model")?;
        let sha256 = self.sha256(written.sha256)?;
        let intended_uses = self.uses(written.intended_uses)?;
        let limitations = self.limitations(written.limitations)?;
        let data_provenance = text(
            "data_provenance",
            written.data_provenance,
            "write what the model was trained on, and from whom that is known",
        )?;
        let licence = text(
            "licence",
            written.licence,
            "write the SPDX identifier, such as Apache-2.0",
        )?;
        let risk = self.risk(written.risk)?;
        let (card, card_sha256) = self.card(written.card, read_card)?;
        Ok(ModelEntry {
            id: id.value,
            version,
            provider,
            sha256,
            intended_uses,
            limitations,
            data_provenance,
            licence,
            risk,
            card,
            card_sha256,
            line: self.line,
        })
    }

    fn sha256(&self, sha256: Option<Spanned<String>>) -> Result<String, GovernanceError> {
        let advice = "write the one of the model's manifest";
        let sha256 = self.prose("sha256", sha256, advice)?;
        if !is_sha256_hex(&sha256.value) {
            let reason = "must be 64 lower-case hexadecimal digits, as in the model's manifest";
            return Err(self.fault(sha256.defined.line(), "sha256", reason));
        }
        Ok(sha256.value)
    }

    fn risk(&self, risk: Option<Spanned<String>>) -> Result<Risk, GovernanceError> {
        let risk = self.prose("risk", risk, "write low, medium or high")?;
        let line = risk.defined.line();
        parse_risk(&risk.value).map_err(|reason| self.fault(line, "risk", &reason))
    }

    /// A text that is there, not empty, and no longer than it may be.
    fn prose(
        &self,
        field: &str,
        text: Option<Spanned<String>>,
        advice: &str,
    ) -> Result<Spanned<String>, GovernanceError> {
        let Some(text) = text else {
            return Err(self.fault(self.line, field, &format!("is missing; {advice}")));
        };
        let line = text.defined.line();
        if text.value.trim().is_empty() {
            return Err(self.fault(line, field, &format!("is empty; {advice}")));
        }
        if text.value.len() > PROSE_BYTES_MAX {
            let reason = format!(
                "is longer than {PROSE_BYTES_MAX} bytes; make it shorter, the card has room"
            );
            return Err(self.fault(line, field, &reason));
        }
        if text.value.contains(|c: char| c.is_control() && c != '\n') {
            let reason = "holds a control character; write plain text";
            return Err(self.fault(line, field, reason));
        }
        Ok(text)
    }

    /// A list that is there, not empty, and no longer than it may be.
    fn list(
        &self,
        field: &str,
        list: Option<Spanned<Vec<Spanned<String>>>>,
        count_max: usize,
        advice: &str,
    ) -> Result<Vec<Spanned<String>>, GovernanceError> {
        let Some(list) = list else {
            return Err(self.fault(self.line, field, &format!("is missing; {advice}")));
        };
        let line = list.defined.line();
        if list.value.is_empty() {
            return Err(self.fault(line, field, &format!("is empty; {advice}")));
        }
        if list.value.len() > count_max {
            let reason = format!("has more than {count_max} elements; say it in fewer");
            return Err(self.fault(line, field, &reason));
        }
        Ok(list.value)
    }

    fn uses(
        &self,
        uses: Option<Spanned<Vec<Spanned<String>>>>,
    ) -> Result<BTreeSet<UseCase>, GovernanceError> {
        let field = "intended_uses";
        let advice = "name the use cases of the templates that it may answer, such as [triage]";
        let mut checked = BTreeSet::new();
        for written in self.list(field, uses, USES_MAX, advice)? {
            let line = written.defined.line();
            let shown = written.value.escape_debug().to_string();
            let parsed = written.value.parse::<UseCase>();
            let use_case = parsed
                .map_err(|error| self.fault(line, field, &format!("holds `{shown}`, {error}")))?;
            if !checked.insert(use_case) {
                let reason = format!("holds `{shown}` twice; keep one");
                return Err(self.fault(line, field, &reason));
            }
        }
        Ok(checked)
    }

    fn limitations(
        &self,
        limitations: Option<Spanned<Vec<Spanned<String>>>>,
    ) -> Result<Vec<String>, GovernanceError> {
        let field = "limitations";
        let advice = "write what the model cannot do; every model has limits";
        let mut checked = Vec::new();
        for written in self.list(field, limitations, LIMITATIONS_MAX, advice)? {
            checked.push(self.prose(field, Some(written), advice)?.value);
        }
        Ok(checked)
    }

    /// The card's path and its digest.
    fn card(
        &self,
        card: Option<Spanned<String>>,
        read_card: CardReader<'_>,
    ) -> Result<(String, String), GovernanceError> {
        let advice = "write the model's card into a file beside the registry and name it here";
        let card = self.prose("card", card, advice)?;
        let fault = |reason: String| self.fault(card.defined.line(), "card", &reason);
        let path = card.value.as_str();
        let shown = path.escape_debug();
        let is_within = |part| matches!(part, Component::Normal(_));
        if !Path::new(path).components().all(is_within) {
            return Err(fault(format!(
                "names `{shown}`; it must be a file beside the registry or in a folder beside it, without `.` and `..`"
            )));
        }
        let text = read_card(path)
            .map_err(|reason| fault(format!("names `{shown}`: {reason}; {advice}")))?;
        if text.trim().is_empty() {
            return Err(fault(format!(
                "names `{shown}`, which is empty; write what the model is for, what it cannot do and how it was tested"
            )));
        }
        let digest = sha256_hex(text.as_bytes());
        Ok((card.value, digest))
    }

    fn fault(&self, line: u64, field: &str, reason: &str) -> GovernanceError {
        GovernanceError::Field {
            file: self.file.to_owned(),
            line,
            field: format!("{}.{field}", self.name),
            reason: reason.to_owned(),
        }
    }
}

/// Reads the card at a path that stays within the folder; no link is followed.
pub(super) fn read_card(folder: &Path, card: &str) -> Result<String, String> {
    let folders = Path::new(card).ancestors().skip(1);
    for inner in folders.filter(|inner| !inner.as_os_str().is_empty()) {
        let inner = folder.join(inner);
        if inner.is_symlink() {
            return Err(format!("{} is a link", inner.display()));
        }
    }
    source::read(&folder.join(card), CARD_BYTES_MAX).map_err(|error| error.to_string())
}

/// Whether a model's manifest may have this id.
fn is_model_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

fn parse_risk(name: &str) -> Result<Risk, String> {
    let known = [Risk::Low, Risk::Medium, Risk::High].into_iter();
    let mut named = known.filter(|risk| risk.as_str() == name);
    named
        .next()
        .ok_or_else(|| "must be low, medium or high".to_owned())
}
