//! Everything that can go wrong in this crate.
//!
//! Variants carry facts; the message says what happened, where, and what to do next.
//! No variant holds a prompt or generated text.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Sha256Digest;

/// Result with this crate's error.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// An error of loading a model or of generating with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A manifest is not what the format asks for.
    #[error("{} is not a model manifest: {source}; write a new one with `postern model pin FILE`", path.display())]
    ManifestInvalid {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest's field is outside of its bounds.
    #[error("{} has an invalid `{field}`: {reason}", path.display())]
    ManifestField {
        /// The manifest.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A digest is not 64 lower-case hexadecimal digits.
    #[error(
        "a SHA-256 digest is 64 lower-case hexadecimal digits, this one is not (it has {characters} characters)"
    )]
    DigestInvalid {
        /// How many characters were given.
        characters: usize,
    },
    /// The model has another size than its pin.
    #[error(
        "{origin} is not the pinned model {model:?}: expected {expected} bytes, found {found}; nothing of it was used; \
         fetch the file again, or pin the new one if the change is meant",
        origin = origin(path.as_deref())
    )]
    SizeMismatch {
        /// Id of the model.
        model: String,
        /// The file, or `None` where the model is part of the program.
        path: Option<PathBuf>,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes in the file (more than `expected` means: at least this many).
        found: u64,
    },
    /// The model has another digest than its pin.
    #[error(
        "{origin} is not the pinned model {model:?}: expected the SHA-256 {expected}, found {found}; nothing of it was used; \
         fetch the file again, or pin the new one if the change is meant",
        origin = origin(path.as_deref())
    )]
    DigestMismatch {
        /// Id of the model.
        model: String,
        /// The file, or `None` where the model is part of the program.
        path: Option<PathBuf>,
        /// Digest in the manifest.
        expected: Sha256Digest,
        /// Digest of the bytes that were read.
        found: Sha256Digest,
    },
    /// What a model file holds is not usable; which file, and why.
    #[error("{}: {source}", origin(path.as_deref()))]
    ModelUnusable {
        /// The file, or `None` where the model is part of the program.
        path: Option<PathBuf>,
        /// What is wrong with it.
        #[source]
        source: Box<EngineError>,
    },
    /// A GGUF file breaks its format.
    #[error("not a usable GGUF file: at byte {offset}, {reason}")]
    GgufInvalid {
        /// Bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A GGUF file declares more of something than is allowed.
    #[error(
        "not a usable GGUF file: at byte {offset} it declares {found} {what}, more than the {max} that are allowed"
    )]
    GgufBound {
        /// Bytes from the start of the file.
        offset: u64,
        /// What is counted.
        what: &'static str,
        /// The declared number.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Reading a GGUF file failed below the format.
    #[error("reading the GGUF file failed at byte {offset}: {source}")]
    GgufRead {
        /// Bytes from the start of the file.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The metadata lacks a key that is needed.
    #[error("the model's metadata lacks `{key}`; convert the model again with a current converter")]
    MetadataMissing {
        /// The key.
        key: String,
    },
    /// A metadata value has another type than is needed.
    #[error(
        "the model's metadata has {found} at `{key}`, not {expected}; convert the model again with a current converter"
    )]
    MetadataType {
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A metadata value is outside of what makes sense.
    #[error("the model's metadata has {found} at `{key}`, {expected} was expected")]
    MetadataValue {
        /// The key.
        key: String,
        /// What is needed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// No backend knows the architecture.
    #[error("the architecture {architecture:?} is not supported; the supported ones are {}", known.join(", "))]
    ArchitectureUnknown {
        /// `general.architecture` of the file.
        architecture: String,
        /// What is supported.
        known: &'static [&'static str],
    },
    /// The architecture is known, but the model uses a part of it that is not supported.
    #[error(
        "this {architecture} model uses {feature}, which is not supported; choose a model without it"
    )]
    FeatureUnsupported {
        /// The architecture.
        architecture: &'static str,
        /// The unsupported part.
        feature: String,
    },
    /// The file holds no weights at all.
    #[error("it has no tensors, so it is a vocabulary at most; fetch the model with its weights")]
    TensorsAbsent,
    /// A tensor that the architecture needs is not in the file.
    #[error(
        "the model lacks the tensor {name:?}; convert the model again with a current converter"
    )]
    TensorMissing {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata implies.
    #[error("the tensor {name:?} has the shape {found:?}, {expected:?} was expected")]
    TensorShape {
        /// The tensor.
        name: String,
        /// From the metadata.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a way that the backend does not compute with.
    #[error(
        "the tensor {name:?} is stored as {quantization}, which the {backend} backend does not compute with; quantize the model to Q8_0, Q6_K or Q4_K"
    )]
    QuantizationUnsupported {
        /// The tensor.
        name: String,
        /// The storage type.
        quantization: String,
        /// The backend.
        backend: &'static str,
    },
    /// The vocabulary is of a kind that this crate cannot rebuild.
    #[error(
        "the tokenizer model {model:?} is not supported; the supported ones are gpt2 (byte-level BPE) and llama (SentencePiece BPE)"
    )]
    UnknownTokenizerModel {
        /// `tokenizer.ggml.model`.
        model: String,
    },
    /// The vocabulary splits text in a way that this crate does not know.
    #[error("the pre-tokenizer {name:?} is not supported; the supported ones are {known}")]
    UnknownPreTokenizer {
        /// `tokenizer.ggml.pre`.
        name: String,
        /// What is supported.
        known: String,
    },
    /// The vocabulary contradicts itself.
    #[error(
        "the model's vocabulary is not usable: {reason}; convert the model again with a current converter"
    )]
    Vocabulary {
        /// What is wrong.
        reason: String,
    },
    /// A text is longer than can be a prompt.
    #[error(
        "a text of {bytes} bytes is longer than the {bytes_max} that are tokenized; shorten it"
    )]
    TextTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A token id is outside of the vocabulary.
    #[error("token {id} is outside of the vocabulary of {vocabulary} tokens")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Number of tokens.
        vocabulary: usize,
    },
    /// A chat was asked for, but the model brings no chat template.
    #[error(
        "the model brings no chat template; name one in `chat-template-file` of the section [engine]"
    )]
    ChatTemplateMissing,
    /// The chat template does not compile or does not run.
    #[error("the chat template is not usable: {reason}")]
    ChatTemplate {
        /// What is wrong, with the line where known.
        reason: String,
    },
    /// The backend failed to load or to compute.
    #[error("the {backend} backend failed while {doing}: {reason}")]
    Backend {
        /// The backend.
        backend: &'static str,
        /// What it was asked for.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
    /// The number of threads cannot be changed any more.
    #[error(
        "the number of threads is already {current} in this process and cannot become {wanted}; start a new process"
    )]
    ThreadsFixed {
        /// What is in force.
        current: usize,
        /// What was asked for.
        wanted: usize,
    },
    /// A configuration value is outside of its bounds.
    #[error("`{field}` in the section [engine] is {found}, but must be {expected}")]
    ConfigInvalid {
        /// The key.
        field: &'static str,
        /// What is there.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// A job's parameter is outside of its bounds.
    #[error("the parameter `{parameter}` is {found}, but must be {expected}")]
    ParameterInvalid {
        /// The parameter.
        parameter: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// The prompt is empty once it is tokenized.
    #[error("the prompt has no tokens; give at least one")]
    PromptEmpty,
    /// Prompt and answer do not fit into the context.
    #[error(
        "{prompt_tokens} prompt tokens and {max_tokens} new ones exceed the context of {context_tokens}; \
         shorten the prompt or ask for fewer tokens"
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens asked for.
        max_tokens: usize,
        /// What fits.
        context_tokens: usize,
    },
    /// The model computed something that is not a number.
    #[error(
        "the model computed a logit that is not finite (token {token}); its weights or its quantization are damaged"
    )]
    NonFiniteLogits {
        /// The first such token.
        token: usize,
    },
    /// The queue is full.
    #[error("{queued} calls are waiting already, no more are accepted; try again later")]
    QueueFull {
        /// How many wait.
        queued: usize,
    },
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
    /// A thread could not be started.
    #[error("cannot start the thread {name:?}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl EngineError {
    /// The same, with the name of the model file whose content is at fault. Errors that are not about
    /// the content stay as they are.
    pub(crate) fn of_model(self, path: Option<&Path>) -> Self {
        match self {
            Self::Read { .. }
            | Self::ModelUnusable { .. }
            | Self::ConfigInvalid { .. }
            | Self::ThreadsFixed { .. }
            | Self::Thread { .. } => self,
            content => Self::ModelUnusable {
                path: path.map(Path::to_owned),
                source: Box::new(content),
            },
        }
    }
}

/// How a message names where a model came from.
fn origin(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the embedded model".to_owned(),
        |path| path.display().to_string(),
    )
}
