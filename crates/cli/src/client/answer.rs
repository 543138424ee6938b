//! What goes over the wire, as a client sees it.
//!
//! The client keeps an answer's JSON as the server wrote it (`--json` prints that) and beside it
//! reads the few fields it shows. A field that a later server adds does no harm.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::CommandError;

/// Body of `POST /v1/generate`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Call {
    pub(crate) template: String,
    pub(crate) variables: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    pub(crate) stream: bool,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Exactly what the server said.
    pub(crate) json: Value,
    pub(crate) fields: AnswerFields,
}

/// The fields that are shown.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AnswerFields {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) finish_reason: String,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    pub(crate) model: Pinned,
    pub(crate) template: Pinned,
    pub(crate) redactions: Vec<Redaction>,
    pub(crate) audit: Receipt,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Timings {
    pub(crate) first_token_ms: Option<f64>,
    pub(crate) tokens_per_s: Option<f64>,
}

/// A name and the digest of what it stood for at that time.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pinned {
    pub(crate) id: String,
    pub(crate) sha256: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Redaction {
    pub(crate) rule: String,
    pub(crate) count: u64,
}

/// Where an answer is recorded; what a later server adds does no harm.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) index: u64,
    pub(crate) head: String,
    #[serde(default)]
    pub(crate) leaf: String,
    #[serde(default)]
    pub(crate) checkpoint: String,
}

impl From<Receipt> for postern_audit::Receipt {
    fn from(told: Receipt) -> Self {
        Self {
            index: told.index,
            head: told.head,
            leaf: told.leaf,
            checkpoint: told.checkpoint,
        }
    }
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is not JSON, or a field that is shown is missing.
    pub(crate) fn from_json(bytes: &[u8]) -> anyhow::Result<Self> {
        let json = serde_json::from_slice(bytes).context("the server's answer is not JSON")?;
        Self::from_value(json)
    }

    /// As [`Self::from_json`], for JSON already at hand.
    pub(crate) fn from_value(json: Value) -> anyhow::Result<Self> {
        let fields =
            AnswerFields::deserialize(&json).context("the server's answer is incomplete")?;
        Ok(Self { json, fields })
    }
}

#[derive(Deserialize)]
struct Token {
    text: String,
}

/// The text of a `token` event.
pub(super) fn token_text(data: &str) -> anyhow::Result<String> {
    let token: Token =
        serde_json::from_str(data).context("a `token` event of the server holds no text")?;
    Ok(token.text)
}

/// The error that says of an answer that it is held.
///
/// # Errors
/// The bytes are not JSON.
pub(super) fn held(bytes: &[u8]) -> anyhow::Result<CommandError> {
    let held = serde_json::from_slice(bytes)
        .context("what the server says of the held answer is not JSON")?;
    Ok(CommandError::held(held))
}

/// The error that a problem document (RFC 9457) stands for.
///
/// # Errors
/// The bytes are no problem document.
pub(super) fn problem(bytes: &[u8]) -> anyhow::Result<CommandError> {
    let problem: Value = serde_json::from_slice(bytes).context("the problem is not JSON")?;
    CommandError::from_problem(problem)
}
