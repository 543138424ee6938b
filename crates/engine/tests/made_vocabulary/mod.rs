//! Small vocabularies made in memory, one of each kind that a GGUF file can carry.

#![allow(dead_code, reason = "each test binary uses a part")]

use postern_engine::gguf::{Array, Metadata, Value};
use postern_engine::{Result, Tokenizer};

/// Control tokens of the made vocabularies, from id 0 on.
pub(crate) const SPECIAL: [&str; 14] = [
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
];
/// User-defined tokens of the made vocabularies: the first is markup, the second is not.
pub(crate) const USER_DEFINED: [&str; 2] = ["</think>", "\n\n"];

/// An entry of the metadata.
pub(crate) fn entry(key: &str, value: Value) -> (String, Value) {
    (format!("tokenizer.ggml.{key}"), value)
}

/// A metadata value.
pub(crate) fn strings(texts: Vec<String>) -> Value {
    Value::Array(Array::Strings(texts.into_iter().collect()))
}

/// A small byte-level vocabulary (`gpt2`) or SentencePiece vocabulary (`llama`) with all special tokens.
pub(crate) fn metadata(model: &str) -> Metadata {
    let mut tokens: Vec<String> = SPECIAL.map(String::from).to_vec();
    let mut types = vec![3; tokens.len()];
    tokens.extend(USER_DEFINED.map(String::from));
    types.extend([4, 4]);
    let mut entries = Vec::new();
    if model == "gpt2" {
        tokens.extend((0..=255).map(|byte| alphabet(byte).to_string()));
        tokens.extend(["he", "Ġt", "Ġthe", "im", "st"].map(String::from));
        types.resize(tokens.len(), 1);
        let merges = ["h e", "Ġ t", "Ġt he", "i m", "s t"]
            .map(String::from)
            .to_vec();
        entries.extend([
            entry("pre", Value::String("gpt-2".into())),
            entry("merges", strings(merges)),
        ]);
    } else {
        tokens.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
        types.resize(tokens.len(), 6);
        tokens.extend(["▁the", "▁t", "he", "im", "st", "▁▁"].map(String::from));
        tokens.extend(('!'..='~').chain(['▁', 'é']).map(String::from));
        types.resize(tokens.len(), 1);
        let scores = (0_u16..)
            .take(tokens.len())
            .map(|id| -f32::from(id))
            .collect();
        entries.push(entry("scores", Value::Array(Array::Floats(scores))));
    }
    entries.extend([
        entry("model", Value::String(model.into())),
        entry("tokens", strings(tokens)),
        entry("token_type", Value::Array(Array::Integers(types))),
        entry("bos_token_id", Value::Unsigned(0)),
        entry("eos_token_id", Value::Unsigned(1)),
    ]);
    Metadata::from_entries(entries)
}

/// GPT-2's character for a byte.
fn alphabet(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return char::from(byte);
    }
    let shifted = (0..byte).filter(|byte| !printable(byte)).count();
    char::from_u32(0x100 + u32::try_from(shifted).expect("small")).expect("a character")
}

/// The tokenizer of [`metadata`].
pub(crate) fn made(model: &str) -> Tokenizer {
    Tokenizer::from_metadata(&metadata(model)).expect("a good vocabulary")
}

/// The tokenizer of [`metadata`] with some entries replaced.
pub(crate) fn changed(
    model: &str,
    entries: impl IntoIterator<Item = (String, Value)>,
) -> Result<Tokenizer> {
    let metadata = metadata(model);
    let kept = metadata
        .iter()
        .map(|(key, value)| (key.to_owned(), value.clone()));
    Tokenizer::from_metadata(&Metadata::from_entries(kept.chain(entries)))
}
