//! A template in YAML.
//!
//! ```yaml
//! id: coffee.v1                 # equals the file name
//! description: "One line."
//! author: ...
//! intent: ...
//! use_case: recommendation      # optional: what a model must be meant for to answer, see `registry`
//! risk: low                     # low | medium | high
//! model: coffee-1               # optional: which model it was written for
//! max_tokens: 96                # most tokens that a call may generate
//! temperature: 0                # of a call that names none; 0, the default, is greedy
//! system: "..."                 # optional
//! user: "{{wishes}}"
//! variables:                    # optional: without it, what the bodies use is declared
//!   wishes:
//!     description: "..."
//!     schema: {type: string, maxLength: 200}   # optional JSON Schema of the value
//!     bytes_max: 1024           # default: 4 bytes a character of maxLength, else 16384
//!     required: true            # the default
//!     trust: untrusted          # the default; `trusted` needs a trust_reason
//!     data_class: personal      # public | internal (default) | confidential | personal
//!     fence: message            # marks (default) | message
//! output:                       # optional: the answer is JSON of this schema
//!   schema: {type: object, properties: {...}}
//! audit: {output: hash}         # optional: of the answer, the audit log has the checksum, whatever the policy says
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::Draft;
use super::variables::VariableDraft;
use crate::names::{TemplateId, UseCase};
use crate::output_record::AuditFile;
use crate::template::Risk;
use crate::{GovernanceError, source};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    id: Spanned<TemplateId>,
    description: Spanned<String>,
    author: Spanned<String>,
    intent: Spanned<String>,
    use_case: Option<Spanned<UseCase>>,
    risk: Risk,
    model: Option<Spanned<String>>,
    max_tokens: Spanned<u32>,
    temperature: Option<Spanned<f32>>,
    system: Option<Spanned<String>>,
    user: Spanned<String>,
    variables: Option<BTreeMap<String, Spanned<VariableDraft>>>,
    output: Option<OutputFile>,
    #[serde(default, deserialize_with = "AuditFile::written")]
    audit: Option<AuditFile>,
}

/// The section `output` of YAML and JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputFile {
    pub(super) schema: Spanned<Value>,
}

pub(super) fn parse(file: &str, text: &str) -> Result<Draft, GovernanceError> {
    let parsed: TemplateFile = source::parse(file, text)?;
    Ok(Draft {
        id: parsed.id.into(),
        description: parsed.description.into(),
        author: parsed.author.into(),
        intent: parsed.intent.into(),
        use_case: parsed.use_case.map(Into::into),
        risk: parsed.risk,
        model: parsed.model.map(Into::into),
        max_tokens: parsed.max_tokens.into(),
        temperature: parsed.temperature.map(Into::into),
        system: parsed.system.map(Into::into),
        user: parsed.user.into(),
        variables: parsed.variables.map(located),
        output_schema: parsed.output.map(|output| output.schema.into()),
        output_record: parsed.audit.map(|audit| audit.output.into()),
    })
}

/// Declared variables with their lines.
pub(super) fn located(
    variables: BTreeMap<String, Spanned<VariableDraft>>,
) -> BTreeMap<String, super::Located<VariableDraft>> {
    let variables = variables.into_iter();
    variables.map(|(name, spec)| (name, spec.into())).collect()
}
