//! What was recorded about the tests of a template: prompts, and outputs of a model.
//!
//! ```json
//! {
//!   "format": "postern-recording/1",
//!   "template": "coffee.v1",
//!   "cases": {
//!     "asks for a quiet room": {
//!       "prompt": ["[system]", "You are ...", "[user]", "a quiet room"],
//!       "output": {
//!         "text": ["Hello! ..."],
//!         "model": "coffee-1",
//!         "model_sha256": "...",
//!         "prompt_sha256": "..."
//!       }
//!     }
//!   }
//! }
//! ```
//!
//! Texts are lists of lines, so that a change can be reviewed line by line. An output belongs to
//! one prompt, by its digest; of another prompt it says nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::GovernanceError;
use crate::decision::{Message, Role};
use crate::names::TemplateId;

/// Largest recording, in bytes.
pub const RECORDING_BYTES_MAX: usize = 4 << 20;
/// The only format.
const FORMAT: &str = "postern-recording/1";

/// Recorded prompts and outputs of one template's tests, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    format: String,
    template: TemplateId,
    /// By name of the test.
    pub cases: BTreeMap<String, RecordedCase>,
}

/// What was recorded about one test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedCase {
    prompt: Vec<String>,
    /// What a model wrote, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<RecordedOutput>,
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedOutput {
    text: Vec<String>,
    /// Id of the model.
    pub model: String,
    /// SHA-256 of its file.
    pub model_sha256: String,
    /// SHA-256 of the prompt as [`prompt_text`] writes it.
    pub prompt_sha256: String,
}

/// A prompt as people read it: each message behind a line with its role.
#[must_use]
pub fn prompt_text(messages: &[Message]) -> String {
    let messages = messages.iter().map(|message| {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
        };
        format!("[{role}]\n{}", message.content)
    });
    messages.collect::<Vec<_>>().join("\n")
}

impl Recording {
    /// A recording of nothing yet.
    #[must_use]
    pub fn of(template: TemplateId) -> Self {
        Self {
            format: FORMAT.to_owned(),
            template,
            cases: BTreeMap::new(),
        }
    }

    /// Parses a recording; `file` is for messages.
    ///
    /// # Errors
    ///
    /// That it is too large, no JSON of this format, or of another template.
    pub fn from_source(
        file: &str,
        text: &str,
        template: &TemplateId,
    ) -> Result<Self, GovernanceError> {
        if text.len() > RECORDING_BYTES_MAX {
            return Err(GovernanceError::SourceOversized {
                file: file.to_owned(),
                bytes_max: RECORDING_BYTES_MAX,
            });
        }
        let refuse = |line: usize, column: usize, reason: String| GovernanceError::Syntax {
            file: file.to_owned(),
            line: line as u64,
            column: column as u64,
            reason,
        };
        let parsed: Self = serde_json::from_str(text)
            .map_err(|error| refuse(error.line(), error.column(), error.to_string()))?;
        if parsed.format != FORMAT || parsed.template != *template {
            let reason = format!("is not a {FORMAT} of `{template}`; record it again");
            return Err(refuse(1, 1, reason));
        }
        Ok(parsed)
    }

    /// The text of the file.
    #[must_use]
    pub fn to_source(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts always serialize to JSON");
        text.push('\n');
        text
    }
}

impl RecordedCase {
    /// Records a prompt, as [`prompt_text`] writes it.
    #[must_use]
    pub fn of(prompt: &str) -> Self {
        Self {
            prompt: lines(prompt),
            output: None,
        }
    }

    /// The recorded prompt.
    #[must_use]
    pub fn prompt(&self) -> String {
        self.prompt.join("\n")
    }
}

impl RecordedOutput {
    /// Records an output to `prompt`, as [`prompt_text`] writes it.
    #[must_use]
    pub fn of(prompt: &str, text: &str, model: &str, model_sha256: &str) -> Self {
        Self {
            text: lines(text),
            model: model.to_owned(),
            model_sha256: model_sha256.to_owned(),
            prompt_sha256: sha256_hex(prompt),
        }
    }

    /// The recorded text.
    #[must_use]
    pub fn text(&self) -> String {
        self.text.join("\n")
    }

    /// Whether it answers this prompt.
    #[must_use]
    pub fn answers(&self, prompt: &str) -> bool {
        self.prompt_sha256 == sha256_hex(prompt)
    }
}

fn lines(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

fn sha256_hex(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
