//! A template in JSON, as programs write it.
//!
//! ```json
//! {
//!   "id": "summary_v1",
//!   "author": "...",
//!   "intent": "...",
//!   "model": "qwen2.5-0.5b",
//!   "content": "Summarize this text:\n{{ text }}"
//! }
//! ```
//!
//! `content` is the user's message. These may be added, and mean what they do in YAML:
//! `description` (by default the intent), `use_case`, `risk` (by default high: nobody has judged it),
//! `max_tokens` (by default 512), `temperature`, `system`, `variables`, `output`, `audit`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::variables::VariableDraft;
use super::yaml::{OutputFile, located};
use super::{Draft, Located, MAX_TOKENS_DEFAULT};
use crate::names::{TemplateId, UseCase};
use crate::output_record::AuditFile;
use crate::template::Risk;
use crate::{GovernanceError, source};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    id: Spanned<TemplateId>,
    author: Spanned<String>,
    intent: Spanned<String>,
    model: Spanned<String>,
    content: Spanned<String>,
    description: Option<Spanned<String>>,
    use_case: Option<Spanned<UseCase>>,
    risk: Option<Risk>,
    max_tokens: Option<Spanned<u32>>,
    temperature: Option<Spanned<f32>>,
    system: Option<Spanned<String>>,
    variables: Option<BTreeMap<String, Spanned<VariableDraft>>>,
    output: Option<OutputFile>,
    #[serde(default, deserialize_with = "AuditFile::written")]
    audit: Option<AuditFile>,
}

pub(super) fn parse(file: &str, text: &str) -> Result<Draft, GovernanceError> {
    let parsed: TemplateFile = source::parse_json(file, text)?;
    let intent: Located<String> = parsed.intent.into();
    Ok(Draft {
        id: parsed.id.into(),
        description: parsed
            .description
            .map_or_else(|| intent.clone(), Into::into),
        author: parsed.author.into(),
        intent,
        use_case: parsed.use_case.map(Into::into),
        risk: parsed.risk.unwrap_or(Risk::High),
        model: Some(parsed.model.into()),
        max_tokens: parsed
            .max_tokens
            .map_or_else(default_max_tokens, Into::into),
        temperature: parsed.temperature.map(Into::into),
        system: parsed.system.map(Into::into),
        user: parsed.content.into(),
        variables: parsed.variables.map(located),
        output_schema: parsed.output.map(|output| output.schema.into()),
        output_record: parsed.audit.map(|audit| audit.output.into()),
    })
}

/// The bound of a file that names none.
pub(super) fn default_max_tokens() -> Located<u32> {
    Located {
        value: MAX_TOKENS_DEFAULT,
        line: 0,
    }
}
