//! The trained model as files: GGUF and the manifest that pins it.

use super::{
    net::{FREQ_BASE, NORM_EPS, Net},
    vocab::{BEGIN_ID, CHAT_TEMPLATE, END_ID, SPECIAL_TOKENS, Vocabulary},
};
use crate::gguf_write::{self, Value};
use anyhow::{Context as _, Result};
use postern_engine::ModelManifest;
use std::{fs, path::Path};

/// The id under which the model is served.
const MODEL_ID: &str = "coffee-1";
/// Longest context, in tokens. Training covers the first 192 positions, which the prompts need.
const CONTEXT_TOKENS: u32 = 512;
/// `general.file_type` of a file whose matrices are mostly `Q8_0`.
const FILE_TYPE_Q8_0: u32 = 7;

/// Writes the model to `file` and `manifest.json` beside it.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(file: &Path, vocabulary: &Vocabulary, net: &Net) -> Result<ModelManifest> {
    let bytes = encode(vocabulary, net)?;
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    let manifest = ModelManifest::pin(file, MODEL_ID)?;
    manifest.write(&file.with_file_name("manifest.json"))?;
    Ok(manifest)
}

/// The bytes of the GGUF file.
///
/// # Errors
/// When a weight cannot be quantized.
pub(crate) fn encode(vocabulary: &Vocabulary, net: &Net) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    gguf_write::write(&mut bytes, &metadata(vocabulary, net), &net.tensors()?)?;
    Ok(bytes)
}

fn metadata(vocabulary: &Vocabulary, net: &Net) -> Vec<(&'static str, Value)> {
    let dims = net.dims();
    let size = |n: usize| Value::U32(n as u32);
    vec![
        ("general.architecture", Value::text("llama")),
        ("general.type", Value::text("model")),
        ("general.name", Value::text("Postern Coffee 1")),
        (
            "general.description",
            Value::text("Recommends a coffee shop of the fictional town of Millbrook."),
        ),
        ("general.license", Value::text("apache-2.0")),
        ("general.file_type", Value::U32(FILE_TYPE_Q8_0)),
        ("general.quantization_version", Value::U32(2)),
        ("llama.context_length", Value::U32(CONTEXT_TOKENS)),
        ("llama.embedding_length", size(dims.n_embd)),
        ("llama.block_count", size(dims.n_layer)),
        ("llama.feed_forward_length", size(dims.n_ff)),
        ("llama.attention.head_count", size(dims.n_head)),
        ("llama.attention.head_count_kv", size(dims.n_head)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(NORM_EPS),
        ),
        ("llama.rope.dimension_count", size(dims.head_dim())),
        ("llama.rope.freq_base", Value::F32(FREQ_BASE)),
        ("llama.vocab_size", size(dims.n_vocab)),
        ("tokenizer.ggml.model", Value::text("gpt2")),
        ("tokenizer.ggml.pre", Value::text("gpt-2")),
        (
            "tokenizer.ggml.tokens",
            Value::Strings(vocabulary.tokens().to_vec()),
        ),
        (
            "tokenizer.ggml.token_type",
            Value::I32s(token_types(vocabulary)),
        ),
        (
            "tokenizer.ggml.merges",
            Value::Strings(vocabulary.merges().to_vec()),
        ),
        ("tokenizer.ggml.bos_token_id", Value::U32(BEGIN_ID)),
        ("tokenizer.ggml.eos_token_id", Value::U32(END_ID)),
        ("tokenizer.ggml.padding_token_id", Value::U32(END_ID)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::text(CHAT_TEMPLATE)),
    ]
}

/// The type of each token as GGUF numbers them.
fn token_types(vocabulary: &Vocabulary) -> Vec<i32> {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let kind = |id| {
        if id < SPECIAL_TOKENS.len() {
            CONTROL
        } else {
            NORMAL
        }
    };
    (0..vocabulary.tokens().len()).map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coffee::{
        net::Dims,
        train::{self, Recipe},
    };
    use postern_engine::{Tokenizer, inspect};

    fn recipe() -> Recipe {
        Recipe {
            steps: 3,
            batch: 4,
            dims: Dims {
                n_embd: 32,
                n_head: 2,
                n_layer: 1,
                n_ff: 64,
                ..Recipe::COMMITTED.dims
            },
            ..Recipe::COMMITTED
        }
    }

    #[test]
    fn the_same_recipe_makes_the_same_file() -> Result<()> {
        let make = |seed| {
            let recipe = Recipe { seed, ..recipe() };
            let (vocabulary, net) = train::train(&recipe, &mut std::io::sink())?;
            encode(&vocabulary, &net)
        };
        let first = make(1)?;
        assert!(first == make(1)?, "the bytes differ from run to run");
        assert!(first != make(2)?, "the seed changes nothing");
        Ok(())
    }

    #[test]
    fn the_engine_reads_the_file_and_tokenizes_as_in_training() -> Result<()> {
        let (vocabulary, net) = train::train(&recipe(), &mut std::io::sink())?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("model.gguf");
        write(&file, &vocabulary, &net)?;

        let report = inspect(&file)?;
        assert_eq!(report.architecture, "llama");
        assert!(report.chat_template);
        let tokenizer = Tokenizer::from_gguf_file(&file)?;
        for text in [
            "A garden, please. It's 7 o'clock!",
            " two  spaces\n\nand lines ",
            "Café 北京 🐕",
            "",
        ] {
            let ids = tokenizer.encode(text, false)?;
            assert_eq!(ids, vocabulary.encode(text)?, "{text:?}");
            assert_eq!(tokenizer.decode(&ids)?, text);
        }
        Ok(())
    }
}
