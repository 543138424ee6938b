//! What a caller asks and what it gets back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use postern_engine::Canceller;
use postern_governance::{Identity, Right, Source, TemplateId};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::mpsc;

use crate::requester::Requester;
use crate::review::Held;
use crate::{Refusal, RequestId};

/// One call, as `POST /v1/generate` carries it.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Id of the template to fill in.
    pub template: String,
    /// Values of the template's variables, each given once.
    #[serde(default, deserialize_with = "deserialize_variables")]
    pub variables: BTreeMap<String, String>,
    /// Most tokens to generate; at most what template and policy allow, which
    /// is also the default.
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// Sampling temperature; 0 is greedy.
    #[serde(default)]
    pub temperature: Option<f32>,
    /// Seed of the sampler; the same seed gives the same text.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Whether the caller reads tokens as they come.
    #[serde(default)]
    pub stream: bool,
    /// How the call came in; what a caller sends cannot say.
    #[serde(skip)]
    pub source: Source,
}

/// Reads variables and refuses one that is given twice: of two values a proxy or a log in front
/// may have judged the one that is not used.
fn deserialize_variables<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(VariablesVisitor)
}

struct VariablesVisitor;

impl<'de> Visitor<'de> for VariablesVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of variables, each with a text as its value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut variables = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let Entry::Vacant(entry) = variables.entry(name) else {
                // Without the name: it is the caller's text, and errors are logged.
                return Err(A::Error::custom(
                    "a variable is given twice, give each once",
                ));
            };
            entry.insert(map.next_value()?);
        }
        Ok(variables)
    }
}

/// Who calls: an identity proven by certificate and token, and what the token
/// opens. Only [`crate::Service::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) identity: Identity,
    /// SHA-256 of the certificate's DER in hexadecimal; none at the device itself.
    pub(crate) certificate_sha256: Option<String>,
    pub(crate) token_id: RequestId,
    pub(crate) scopes: Vec<TemplateId>,
    pub(crate) rights: Vec<Right>,
}

impl Caller {
    /// The proven identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The caller as records of refusals name it.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester {
            identity: Some(self.identity.clone()),
            certificate_sha256: self.certificate_sha256.clone(),
            token_id: Some(self.token_id),
        }
    }
}

/// A call that was admitted. Events come until [`CallEvent::Done`] or
/// [`CallEvent::Failed`]. Dropping the stream tells that the client is gone:
/// the generation is cancelled within one token and recorded so.
#[derive(Debug)]
pub struct CallStream {
    /// The call's name.
    pub id: RequestId,
    pub(crate) events: mpsc::Receiver<CallEvent>,
    pub(crate) generation: Canceller,
}

impl CallStream {
    /// The next event, or `None` after the last.
    pub async fn next(&mut self) -> Option<CallEvent> {
        self.events.recv().await
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        // Closed first, so that the end of the generation is understood as the client's leaving.
        self.events.close();
        self.generation.cancel();
    }
}

impl Stream for CallStream {
    type Item = CallEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        self.events.poll_recv(context)
    }
}

/// What happens to an admitted call.
#[derive(Clone, PartialEq)]
pub enum CallEvent {
    /// More filtered text; never empty.
    Token(String),
    /// The whole answer. Its last audit record is on disk.
    Done(Box<Answer>),
    /// The answer is whole, and kept until somebody has looked at it.
    Held(Box<Held>),
    /// The call ended without an answer, and that is recorded unless the audit
    /// log itself failed.
    Failed(Refusal),
}

/// A finished call; serializes as the response.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's name.
    pub id: RequestId,
    /// All text, filtered.
    pub text: String,
    /// Why the text ends.
    pub finish_reason: AnswerEnd,
    /// Tokens read and made.
    pub usage: AnswerUsage,
    /// Where the time went.
    pub timings: AnswerTimings,
    /// The model that answered.
    pub model: AnswerSource,
    /// The template that was filled in.
    pub template: AnswerSource,
    /// What was taken out on the way in and out.
    pub redactions: Vec<AnswerRedaction>,
    /// The last audit record of the call.
    pub audit: AuditReceipt,
}

/// Why an answer's text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerEnd {
    /// The model ended it.
    Stop,
    /// It reached its most tokens.
    Length,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerUsage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that did not need to be computed, because an earlier prompt began alike.
    pub cached_prompt_tokens: usize,
    /// Tokens that were generated.
    pub completion_tokens: usize,
}

/// Where a call's time went, from its arrival at the service.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerTimings {
    /// Waiting in the engine's queue, in milliseconds.
    pub queued_ms: f64,
    /// From arrival to the first token, in milliseconds; of an answer without
    /// tokens, to its end.
    pub first_token_ms: f64,
    /// From arrival to the last token, in milliseconds.
    pub total_ms: f64,
    /// Tokens generated per second of decoding; 0 if nothing was decoded.
    pub tokens_per_s: f64,
}

/// A model or template, pinned by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerSource {
    /// Its name.
    pub id: String,
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Something secret that was replaced by a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRedaction {
    /// The variable it stood in, or `output` for the model's text.
    pub variable: String,
    /// The rule that found it.
    pub rule: String,
    /// How many times.
    pub count: u64,
}

/// A place in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReceipt {
    /// Index of the record.
    pub index: u64,
    /// Chain hash up to and with it, 64 lower-case hexadecimal digits.
    pub head: String,
    /// Its leaf hash in the log's Merkle tree, likewise.
    #[serde(default)]
    pub leaf: String,
    /// The newest checkpoint at that time, a signed note, which may not cover the record yet.
    #[serde(default)]
    pub checkpoint: String,
    /// With this the caller, and nobody else, gets a proof that the record is in the log.
    #[serde(default)]
    pub ticket: String,
}

/// A template that a caller may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSummary {
    /// Its id.
    pub id: String,
    /// What it does.
    pub description: String,
    /// What its answers are for.
    pub intent: String,
    /// What a wrong answer may cost: `low`, `medium` or `high`.
    pub risk: String,
    /// SHA-256 of its canonical bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// What it wants filled in, by name.
    pub variables: BTreeMap<String, VariableSummary>,
}

/// A variable of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableSummary {
    /// What belongs in it.
    pub description: String,
    /// Whether it must be given.
    pub required: bool,
    /// What stands there if it is not given.
    pub default: Option<String>,
    /// Longest value in bytes.
    pub bytes_max: usize,
    /// JSON Schema of the value, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// A model that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Its id.
    pub id: String,
    /// SHA-256 of its file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its family.
    pub architecture: String,
    /// What computes it.
    pub backend: String,
    /// Tokens that its context holds.
    pub context_tokens: usize,
}
