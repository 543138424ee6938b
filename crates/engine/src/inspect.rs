//! What is inside a model file, from its head alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::backend;
use crate::config::BackendChoice;
use crate::error::Result;
use crate::gguf::{Gguf, Metadata, Quantization, TensorInfo, Texts};

/// What [`inspect`] finds. Serializes under the names of the fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// `general.version`, if the file has one.
    pub version: Option<String>,
    /// `general.organization`, or else `general.author`.
    pub provider: Option<String>,
    /// `general.license`, as a rule an SPDX identifier.
    pub license: Option<String>,
    /// Version of the GGUF format.
    pub gguf_version: u32,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Tokens that the model was made for.
    pub context_length: Option<u64>,
    /// Layers, widths and heads: the integers of the architecture's own metadata.
    pub shape: BTreeMap<String, u64>,
    /// The vocabulary.
    pub vocabulary: VocabularyReport,
    /// Whether the file brings a chat template.
    pub chat_template: bool,
    /// What would compute this model, or `None` where nothing can.
    pub backend: Option<&'static str>,
    /// Why the model cannot be used, if it cannot.
    pub unsupported: Option<String>,
    /// Storage types and what they take.
    pub by_quantization: Vec<QuantizationReport>,
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
}

/// The vocabulary of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VocabularyReport {
    /// `tokenizer.ggml.model`, such as `gpt2` or `llama`.
    pub kind: Option<String>,
    /// `tokenizer.ggml.pre`, such as `llama-bpe`.
    pub pre: Option<String>,
    /// Number of tokens.
    pub size: usize,
    /// Special tokens by role (`bos`, `eos`, ...): id and text.
    pub special: BTreeMap<String, SpecialToken>,
}

/// One special token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecialToken {
    /// Its id.
    pub id: u64,
    /// Its text, if the id is within the vocabulary.
    pub text: Option<String>,
}

/// One storage type of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuantizationReport {
    /// Its name, such as `Q8_0`.
    pub quantization: String,
    /// How many tensors use it.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Slowest dimension first.
    pub shape: Vec<u64>,
    /// How it is stored, such as `Q8_0`.
    pub quantization: &'static str,
    /// Stored bytes.
    pub bytes: u64,
}

/// Reads the head of a GGUF file and reports what it holds. Weights are not read, the file's
/// digest is not checked, and unknown architectures are reported rather than refused.
///
/// # Errors
/// Those of [`Gguf::open`], and an [`EngineError::ModelUnusable`](crate::EngineError::ModelUnusable)
/// where the architecture is not named or metadata has values of other types than the format's.
pub fn inspect(model_file: &Path) -> Result<ModelReport> {
    report(&Gguf::open(model_file)?).map_err(|error| error.of_model(Some(model_file)))
}

fn report(gguf: &Gguf) -> Result<ModelReport> {
    let metadata = gguf.metadata();
    let architecture = metadata.string("general.architecture")?.to_owned();
    let backend = backend::choose(gguf, BackendChoice::Auto);
    // For people only: a value of another type hinders nothing.
    let said = |key| metadata.string_opt(key).ok().flatten().map(str::to_owned);
    Ok(ModelReport {
        name: metadata.string_opt("general.name")?.map(str::to_owned),
        version: said("general.version"),
        provider: said("general.organization").or_else(|| said("general.author")),
        license: said("general.license"),
        gguf_version: gguf.version(),
        parameters: gguf.tensors().iter().map(|tensor| tensor.elements).sum(),
        bytes: gguf.tensors().iter().map(|tensor| tensor.bytes).sum(),
        context_length: metadata.u64_opt(&format!("{architecture}.context_length"))?,
        shape: shape(metadata, &architecture),
        vocabulary: vocabulary(metadata)?,
        chat_template: metadata.string_opt("tokenizer.chat_template")?.is_some(),
        unsupported: backend.as_ref().err().map(ToString::to_string),
        backend: backend.ok(),
        by_quantization: by_quantization(gguf.tensors()),
        tensors: gguf.tensors().iter().map(tensor_report).collect(),
        architecture,
    })
}

/// The integers under the architecture's prefix, without the prefix.
fn shape(metadata: &Metadata, architecture: &str) -> BTreeMap<String, u64> {
    let prefix = format!("{architecture}.");
    metadata
        .iter()
        .filter_map(|(key, _)| {
            let name = key.strip_prefix(&prefix)?;
            Some((name.to_owned(), metadata.u64_opt(key).ok().flatten()?))
        })
        .collect()
}

fn vocabulary(metadata: &Metadata) -> Result<VocabularyReport> {
    let tokens = metadata.strings_opt("tokenizer.ggml.tokens")?;
    let special = metadata
        .iter()
        .filter_map(|(key, _)| {
            let role = key
                .strip_prefix("tokenizer.ggml.")?
                .strip_suffix("_token_id")?;
            let id = metadata.u64_opt(key).ok().flatten()?;
            let text = usize::try_from(id)
                .ok()
                .and_then(|id| tokens?.get(id))
                .map(str::to_owned);
            Some((role.to_owned(), SpecialToken { id, text }))
        })
        .collect();
    Ok(VocabularyReport {
        kind: metadata
            .string_opt("tokenizer.ggml.model")?
            .map(str::to_owned),
        pre: metadata
            .string_opt("tokenizer.ggml.pre")?
            .map(str::to_owned),
        size: tokens.map_or(0, Texts::len),
        special,
    })
}

fn by_quantization(tensors: &[TensorInfo]) -> Vec<QuantizationReport> {
    let mut found: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
    for tensor in tensors {
        let (count, bytes) = found.entry(name(tensor)).or_default();
        *count += 1;
        *bytes += tensor.bytes;
    }
    found
        .into_iter()
        .map(|(quantization, (tensors, bytes))| QuantizationReport {
            quantization: quantization.to_owned(),
            tensors,
            bytes,
        })
        .collect()
}

fn tensor_report(tensor: &TensorInfo) -> TensorReport {
    TensorReport {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        quantization: name(tensor),
        bytes: tensor.bytes,
    }
}

fn name(tensor: &TensorInfo) -> &'static str {
    Quantization::from_id(tensor.type_id).map_or("unknown", |quantization| quantization.name)
}
