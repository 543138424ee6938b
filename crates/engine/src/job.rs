//! What goes into the engine and what comes out: plain data that crosses threads.

use std::fmt;

use crate::backend::Cache;
use crate::digest::Sha256Digest;
use crate::error::EngineError;

/// Most stop strings of one job.
pub const STOP_STRINGS_MAX: usize = 16;
/// Longest stop string.
pub const STOP_STRING_BYTES_MAX: usize = 256;

/// One generation to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// What to continue.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens to generate, at least 1.
    pub max_tokens: usize,
    /// Generation ends before any of these strings; at most [`STOP_STRINGS_MAX`].
    pub stop: Vec<String>,
    /// Whose job it is. What was computed for a prompt serves later jobs of the same tenant that begin alike; only the
    /// fixed part of messages serves everybody's.
    pub tenant: String,
    /// What the output has to be.
    pub output: OutputFormat,
}

/// What the output of a generation has to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum OutputFormat {
    /// Any text.
    #[default]
    Text,
    /// JSON that this schema accepts, written compactly and with its members in the order of the schema. The
    /// generation ends when the JSON is whole. Output that `max_tokens` or a stop string cuts short is not whole, and
    /// a number without bounds may have more digits than its reader takes.
    JsonSchema(serde_json::Value),
}

/// What a generation continues.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// A conversation, put through the chat template. Text in a message never becomes a special token.
    Chat(Vec<ChatMessage>),
    /// Plain text, without special tokens but the vocabulary's BOS where it asks for one.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<u32>),
    /// What [`Engine::encode`](crate::Engine::encode) made of one of the others.
    Encoded(EncodedPrompt),
}

/// A prompt as tokens, made before it is submitted, for callers that have to know how many there are.
#[derive(Clone)]
pub struct EncodedPrompt {
    pub(crate) ids: Vec<u32>,
    /// Leading tokens that are the same for everybody.
    pub(crate) shared_tokens: usize,
}

impl EncodedPrompt {
    /// How many tokens the prompt has.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

impl fmt::Debug for EncodedPrompt {
    /// Prompts stay out of logs, so this shows the length only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedPrompt")
            .field("tokens", &self.tokens())
            .finish_non_exhaustive()
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Leading bytes of the content that are not anybody's, but the same in every call of a template: what was computed
    /// for them is shared between tenants. 0 shares nothing.
    pub fixed_bytes: usize,
}

impl ChatMessage {
    /// A message that is all the tenant's own.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            fixed_bytes: 0,
        }
    }

    /// Whether all of it is the same in every call.
    pub(crate) fn is_fixed(&self) -> bool {
        self.fixed_bytes >= self.content.len()
    }
}

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the operator.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// How the next token is chosen. The filters apply in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 chooses the likeliest token; above 0, logits are divided by it. At most 10.
    pub temperature: f32,
    /// Keep only this many of the likeliest tokens.
    pub top_k: Option<usize>,
    /// Keep the likeliest tokens whose probabilities add up to this, in (0, 1].
    pub top_p: Option<f32>,
    /// Keep the tokens at least this likely relative to the likeliest, in [0, 1].
    pub min_p: Option<f32>,
    /// Divide positive and multiply negative logits of tokens seen lately by this, in [1, 10].
    pub repetition_penalty: Option<f32>,
    /// Same seed, same text.
    pub seed: u64,
    /// Whether to tell at the end how probable the chosen tokens were. It costs a pass over the logits for each token.
    pub measures_probability: bool,
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            seed: 0,
            measures_probability: false,
        }
    }
}

/// What the engine reports about a job, in order: `Started`, any number of `Token`, then one of the others.
#[derive(Debug)]
pub enum Event {
    /// The prompt was accepted and its processing begins.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
    },
    /// One token was generated.
    Token {
        /// Its id.
        id: u32,
        /// Text that is now certain; empty while part of a character or of a stop string is held back.
        text: String,
    },
    /// The generation ended by itself or was cancelled.
    Done(Finished),
    /// The generation failed.
    Failed(EngineError),
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why.
    pub finish_reason: FinishReason,
    /// Text that was held back and turned out to be part of the answer.
    pub text_tail: String,
    /// Tokens in and out.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// Mean of the probabilities that the model gave to the tokens that were chosen, 0 to 1, at temperature 1 and before
    /// any filter; tokens that a schema forced are left out. `None` if it was not asked for or no token was chosen.
    pub mean_probability: Option<f32>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended the text, or a stop string was reached.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// The receiver went away or asked for it.
    Cancelled,
}

/// Tokens in and out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that did not need to be computed, because an earlier prompt began alike.
    pub cached_prompt_tokens: usize,
    /// Tokens generated, the end token included.
    pub completion_tokens: usize,
}

/// Where the time of a generation went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// From submission to the start of processing.
    pub queued_ms: f64,
    /// From there to the first token.
    pub prefill_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
}

/// Facts about the loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Id from the manifest.
    pub id: String,
    /// Digest of the file that was loaded.
    pub sha256: Sha256Digest,
    /// `general.architecture` of the file.
    pub architecture: String,
    /// What computes.
    pub backend: &'static str,
    /// Tokens of prompt and answer that fit.
    pub context_tokens: usize,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Digest over everything that decides about tokenization.
    pub tokenizer_sha256: Sha256Digest,
    /// Digest of the chat template in force, if there is one.
    pub chat_template_sha256: Option<Sha256Digest>,
}

/// How busy the engine is, and what it has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that are being generated.
    pub active: usize,
    /// How full the KV cache is.
    pub cache: Cache,
    /// What was computed.
    pub work: Work,
}

/// Counts of what was computed; they only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Passes over the weights.
    pub passes: u64,
    /// Sequences that these passes served, together: divided by the passes, the size of a batch.
    pub sequences: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Those of them that were found in the KV cache.
    pub cached_prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Tokens guessed from the prompt and the text so far, and computed ahead.
    pub guessed_tokens: u64,
    /// Those of them that were right.
    pub right_guesses: u64,
}
