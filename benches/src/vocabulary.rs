//! The `tokenizer.ggml.*` entries of a made model: those of a real vocabulary, or a made one of the same size.
//!
//! Invariant: the number of tokens is the shape's. Absent: chat templates; nothing here speaks in turns.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file::{Content, Value};

use crate::shape::Shape;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KIND_NORMAL: i32 = 1;
const KIND_CONTROL: i32 = 3;
/// Byte values, each of which has a token of its own.
const BYTES: usize = 256;

/// Where a vocabulary comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A GGUF file that holds the vocabulary of a published model.
    File(PathBuf),
    /// All bytes, then pairs of bytes, then triples.
    Made,
}

impl Source {
    /// The file of `folder` that holds the shape's own vocabulary, if there is one.
    pub(crate) fn find(folder: Option<&Path>, shape: &Shape) -> Self {
        folder
            .map(|folder| folder.join(format!("ggml-vocab-{}.gguf", shape.pre_tokenizer)))
            .filter(|file| file.is_file())
            .map_or(Self::Made, Self::File)
    }

    /// What a recipe calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Self::Made => "made".to_owned(),
        }
    }

    /// The entries for a model of this shape.
    ///
    /// # Errors
    /// When the file cannot be read or has another number of tokens.
    pub(crate) fn entries(&self, shape: &Shape) -> Result<Vec<(String, Value)>> {
        match self {
            Self::File(path) => read(path, shape.vocabulary)
                .with_context(|| format!("the vocabulary {} cannot be used", path.display())),
            Self::Made => Ok(made(shape)),
        }
    }
}

fn read(path: &Path, tokens: usize) -> Result<Vec<(String, Value)>> {
    let content = Content::read(&mut File::open(path)?)?;
    let found = content
        .metadata
        .get(TOKENS)
        .with_context(|| format!("it has no {TOKENS}"))?
        .to_vec()?
        .len();
    ensure!(
        found == tokens,
        "it has {found} tokens, but the model {tokens}; leave POSTERN_VOCAB_DIR unset to have one made"
    );
    let mut entries: Vec<(String, Value)> = content
        .metadata
        .into_iter()
        .filter(|(key, _)| key.starts_with("tokenizer.ggml."))
        .collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn made(shape: &Shape) -> Vec<(String, Value)> {
    let alphabet: Vec<char> = (0..=u8::MAX).map(byte_character).collect();
    let mut texts: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let mut merges = Vec::new();
    let last = shape.vocabulary - 1;
    for index in 0..last.saturating_sub(BYTES) {
        let right = alphabet[index % BYTES].to_string();
        // The first 256 * 256 join two bytes; the others join one of these pairs with a third.
        let left = match index.checked_sub(BYTES * BYTES) {
            None => alphabet[index / BYTES].to_string(),
            Some(triple) => texts[BYTES + triple / BYTES].clone(),
        };
        merges.push(Value::String(format!("{left} {right}")));
        texts.push(left + &right);
    }
    texts.truncate(last);
    texts.push("<|endoftext|>".to_owned());
    let kinds = (0..shape.vocabulary)
        .map(|id| {
            Value::I32(if id == last {
                KIND_CONTROL
            } else {
                KIND_NORMAL
            })
        })
        .collect();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    vec![
        (key("model"), Value::String("gpt2".to_owned())),
        (key("pre"), Value::String(shape.pre_tokenizer.to_owned())),
        (
            TOKENS.to_owned(),
            Value::Array(texts.into_iter().map(Value::String).collect()),
        ),
        (key("token_type"), Value::Array(kinds)),
        (key("merges"), Value::Array(merges)),
        (key("bos_token_id"), Value::U32(last as u32)),
        (key("eos_token_id"), Value::U32(last as u32)),
        (key("add_bos_token"), Value::Bool(false)),
    ]
}

/// The character that stands for a byte in byte-level vocabularies: itself where it is printable, else the
/// next one from U+0100 on.
fn byte_character(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !is_printable(byte)).count() as u32;
    char::from_u32(0x100 + before).expect("no surrogates lie there")
}
