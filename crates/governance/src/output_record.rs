//! What the audit log keeps of an output: its checksum alone, or its text as well.
//!
//! ```yaml
//! audit: {output: hash}                  # the default, or text: of every template that is not named
//! templates:
//!   coffee.v1: {audit: {output: text}}   # of this one, whatever is said of the others
//! ```
//!
//! A template may say `audit: {output: hash}` itself, and no policy overrules that: who wrote it knows what its
//! answers hold. It cannot ask for `text`, since how much is kept of people's answers is for the policy to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

use crate::canonical::Canonical;
use crate::names::TemplateId;
use crate::template::Template;

/// What the record of a call's end holds of its output. The stricter is the smaller.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum OutputRecord {
    /// Its checksum.
    #[default]
    Hash,
    /// Its checksum, and the text as the caller was given it.
    Text,
}

impl OutputRecord {
    /// The name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Text => "text",
        }
    }

    pub(crate) fn canonical(self) -> Canonical {
        Canonical::object([("output", Canonical::text(self.as_str()))])
    }
}

/// The section `audit` of a policy, of a template in it, and of a template's own file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditFile {
    pub(crate) output: Spanned<OutputRecord>,
}

impl AuditFile {
    /// A section that is there if its key is: an empty one would forbid nothing, which nobody means who writes it.
    pub(crate) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Self>, D::Error> {
        Self::deserialize(from).map(Some)
    }
}

/// What a policy says of all templates, and of single ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputRules {
    general: OutputRecord,
    /// Those that differ from it.
    templates: BTreeMap<TemplateId, OutputRecord>,
}

impl OutputRules {
    pub(crate) fn new(
        general: Option<AuditFile>,
        templates: impl IntoIterator<Item = (TemplateId, AuditFile)>,
    ) -> Self {
        let general = general.map_or(OutputRecord::default(), |section| section.output.value);
        let templates = templates.into_iter();
        let templates = templates.map(|(id, section)| (id, section.output.value));
        Self {
            general,
            templates: templates.filter(|(_, record)| *record != general).collect(),
        }
    }

    /// What is kept of the outputs of a template: what the policy says, unless the template is stricter.
    pub(crate) fn of(&self, template: &Template) -> OutputRecord {
        let said = self.templates.get(&template.id);
        let said = *said.unwrap_or(&self.general);
        template.output_record.map_or(said, |own| own.min(said))
    }

    /// For the policy's checksum; `None` where nothing but checksums is kept, so that such a policy has the checksum
    /// that it had before there was a choice.
    pub(crate) fn canonical(&self) -> Option<Canonical> {
        if self.general == OutputRecord::default() && self.templates.is_empty() {
            return None;
        }
        let templates = self.templates.iter();
        let templates = templates.map(|(id, record)| (id.to_string(), record.canonical()));
        let templates = Canonical::Object(templates.collect());
        Some(self.general.canonical().with("templates", templates))
    }
}
