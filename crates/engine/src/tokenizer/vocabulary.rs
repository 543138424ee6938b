//! What a GGUF file says about its vocabulary, checked.
//!
//! Invariant: a [`Vocabulary`] has one kind for each token, scores for each token if it has any, token
//! texts that are unique and not empty, and special ids that lie within it.
//! Absent: anything that encodes or decodes.

use std::collections::{BTreeSet, HashMap};

use crate::error::{EngineError, Result};
use crate::gguf::Metadata;

/// Texts of tokens that end a generation where they are control tokens, whatever the file's
/// `eos_token_id` says. They are control tokens even where a file forgot to mark them so.
const END_OF_GENERATION_TEXTS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<|file_sep|>",
    "<|repo_name|>",
];

/// How a vocabulary encodes text (`tokenizer.ggml.model`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `gpt2`: byte-level BPE with explicit merges.
    ByteLevel,
    /// `llama`: SentencePiece BPE with scores and byte fallback.
    SentencePiece,
}

/// The kind of a token (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// Tokens with a meaning beyond their text, and whether the model wants them around a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// End of a sequence.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// Stands for what cannot be encoded.
    pub unknown: Option<u32>,
    /// Padding.
    pub padding: Option<u32>,
    /// Whether a prompt begins with `bos`.
    pub add_bos: bool,
    /// Whether an encoded text ends with `eos`.
    pub add_eos: bool,
    /// Every token that ends a generation.
    pub end_of_generation: BTreeSet<u32>,
}

/// A checked vocabulary.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) scheme: Scheme,
    pub(super) pre: String,
    pub(super) tokens: Vec<String>,
    pub(super) kinds: Vec<Kind>,
    /// Empty unless `scheme` is [`Scheme::SentencePiece`].
    pub(super) scores: Vec<f32>,
    pub(super) special: SpecialTokens,
    /// Whether text that starts a prompt or follows a special token gets a space before it.
    pub(super) space_prefix: bool,
    /// Special tokens that swallow the white space after them.
    pub(super) swallows_space_after: BTreeSet<u32>,
}

impl Vocabulary {
    /// Reads and checks the `tokenizer.ggml.*` entries.
    ///
    /// # Errors
    /// Missing or ill-typed entries, a tokenizer model other than `gpt2` and `llama`, and entries that
    /// contradict each other.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        let model = metadata.string("tokenizer.ggml.model")?;
        let scheme = match model {
            "gpt2" => Scheme::ByteLevel,
            "llama" => Scheme::SentencePiece,
            other => {
                return Err(EngineError::UnknownTokenizerModel {
                    model: other.to_owned(),
                });
            }
        };
        let tokens = metadata.strings("tokenizer.ggml.tokens")?.to_vec();
        let mut kinds = read_kinds(metadata, tokens.len())?;
        let ids = check_texts(&tokens)?;
        let special = read_special(metadata, scheme, &tokens, &ids, &mut kinds)?;
        let (pre, scores) = match scheme {
            Scheme::ByteLevel => (
                metadata.string("tokenizer.ggml.pre")?.to_owned(),
                Vec::new(),
            ),
            Scheme::SentencePiece => (String::new(), read_scores(metadata, tokens.len())?),
        };
        let space_prefix = scheme == Scheme::SentencePiece
            && metadata
                .bool_opt("tokenizer.ggml.add_space_prefix")?
                .unwrap_or(true);
        let swallows_space_after = swallowing_tokens(metadata, scheme, &tokens, &kinds)?;
        Ok(Self {
            scheme,
            pre,
            tokens,
            kinds,
            scores,
            special,
            space_prefix,
            swallows_space_after,
        })
    }

    /// The merges that `metadata` lists, each two tokens with a space between; none for SentencePiece.
    ///
    /// # Errors
    /// When a byte-level vocabulary comes without them.
    pub(super) fn merges<'a>(&self, metadata: &'a Metadata) -> Result<&'a [String]> {
        match self.scheme {
            Scheme::ByteLevel => metadata.strings("tokenizer.ggml.merges"),
            Scheme::SentencePiece => Ok(&[]),
        }
    }

    /// Tokens that only a template or a caller that asks for it may write: control tokens, the unknown
    /// token, and user-defined ones that look like markup (`<think>`, `<|user|>`).
    pub(super) fn is_reserved(&self, id: u32) -> bool {
        match self.kind(id) {
            Some(Kind::Control | Kind::Unknown) => true,
            Some(Kind::UserDefined) => self.text(id).is_some_and(is_markup),
            _ => false,
        }
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(usize::try_from(id).ok()?).copied()
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.tokens
            .get(usize::try_from(id).ok()?)
            .map(String::as_str)
    }

    /// All tokens with their ids, in the order of ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0..)
            .zip(self.tokens.iter().zip(&self.kinds))
            .map(|(id, (text, kind))| (id, text.as_str(), *kind))
    }
}

/// Whether a text has the look of markup: `<x>`, `[x]`, or the bars of chat tokens.
pub(super) fn is_markup(text: &str) -> bool {
    let enclosed = |open, close| text.len() > 2 && text.starts_with(open) && text.ends_with(close);
    enclosed('<', '>')
        || enclosed('[', ']')
        || text.contains("<|")
        || text.contains("|>")
        || text.contains('｜')
}

/// Kinds by id. A file without them has normal tokens only, until [`read_special`] marks some.
fn read_kinds(metadata: &Metadata, count: usize) -> Result<Vec<Kind>> {
    let Some(types) = metadata.integers_opt("tokenizer.ggml.token_type")? else {
        return Ok(vec![Kind::Normal; count]);
    };
    check_length("tokenizer.ggml.token_type", types.len(), count)?;
    types
        .iter()
        .enumerate()
        .map(|(index, number)| match number {
            0 | 1 => Ok(Kind::Normal),
            2 => Ok(Kind::Unknown),
            3 => Ok(Kind::Control),
            4 => Ok(Kind::UserDefined),
            5 => Ok(Kind::Unused),
            6 => Ok(Kind::Byte),
            other => Err(EngineError::Vocabulary {
                reason: format!("token {index} has type {other}, expected 0 to 6"),
            }),
        })
        .collect()
}

fn read_scores(metadata: &Metadata, count: usize) -> Result<Vec<f32>> {
    let key = "tokenizer.ggml.scores";
    let scores = metadata
        .floats_opt(key)?
        .ok_or_else(|| EngineError::MetadataMissing {
            key: key.to_owned(),
        })?;
    check_length(key, scores.len(), count)?;
    if let Some(index) = scores.iter().position(|score| score.is_nan()) {
        return Err(EngineError::Vocabulary {
            reason: format!("the score of token {index} is not a number"),
        });
    }
    Ok(scores.to_vec())
}

fn check_length(key: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(EngineError::Vocabulary {
        reason: format!("{key} has {found} elements for {expected} tokens"),
    })
}

/// Ids by text, after checking that each text is there once and not empty.
fn check_texts(tokens: &[String]) -> Result<HashMap<&str, u32>> {
    let mut ids = HashMap::with_capacity(tokens.len());
    for (id, text) in (0_u32..).zip(tokens) {
        if text.is_empty() {
            return Err(EngineError::Vocabulary {
                reason: format!("token {id} has no text"),
            });
        }
        if let Some(first) = ids.insert(text.as_str(), id) {
            return Err(EngineError::Vocabulary {
                reason: format!("tokens {first} and {id} are both {text:?}"),
            });
        }
    }
    Ok(ids)
}

/// Reads the special ids and flags, and marks as control what ends a generation.
fn read_special(
    metadata: &Metadata,
    scheme: Scheme,
    tokens: &[String],
    ids: &HashMap<&str, u32>,
    kinds: &mut [Kind],
) -> Result<SpecialTokens> {
    let read = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match metadata.u32_opt(&key)? {
            Some(id) if id as usize >= tokens.len() => Err(EngineError::Vocabulary {
                reason: format!("{key} is {id}, beyond the {} tokens", tokens.len()),
            }),
            id => Ok(id),
        }
    };
    let named = |text: &str| ids.get(text).copied();
    let sentence_piece = |text| {
        if scheme == Scheme::SentencePiece {
            named(text)
        } else {
            None
        }
    };
    let bos = read("bos")?.or_else(|| sentence_piece("<s>"));
    let eos = read("eos")?.or_else(|| sentence_piece("</s>"));
    let (eot, eom) = (read("eot")?, read("eom")?);

    for id in [bos, eos, eot, eom].into_iter().flatten() {
        mark_control(tokens, kinds, id);
    }
    let mut end_of_generation: BTreeSet<u32> = [eos, eot, eom].into_iter().flatten().collect();
    for id in END_OF_GENERATION_TEXTS
        .iter()
        .filter_map(|text| named(text))
    {
        mark_control(tokens, kinds, id);
        end_of_generation.insert(id);
    }
    let add_bos = metadata
        .bool_opt("tokenizer.ggml.add_bos_token")?
        .unwrap_or_else(|| adds_bos_by_default(metadata, scheme));
    let add_eos = metadata
        .bool_opt("tokenizer.ggml.add_eos_token")?
        .unwrap_or(false);
    Ok(SpecialTokens {
        bos,
        eos,
        eot,
        unknown: read("unknown")?,
        padding: read("padding")?,
        add_bos: add_bos && bos.is_some(),
        add_eos: add_eos && eos.is_some(),
        end_of_generation,
    })
}

/// A special token that looks like markup is never ordinary text, even where the file says so.
fn mark_control(tokens: &[String], kinds: &mut [Kind], id: u32) {
    let index = id as usize;
    if matches!(
        kinds[index],
        Kind::Normal | Kind::UserDefined | Kind::Unused
    ) && is_markup(&tokens[index])
    {
        kinds[index] = Kind::Control;
    }
}

/// What files that do not say are known to mean: SentencePiece, Llama 3 and Tekken prompts begin
/// with BOS.
fn adds_bos_by_default(metadata: &Metadata, scheme: Scheme) -> bool {
    let pre = metadata
        .string_opt("tokenizer.ggml.pre")
        .ok()
        .flatten()
        .unwrap_or_default();
    scheme == Scheme::SentencePiece
        || matches!(
            pre,
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "tekken"
        )
}

/// The added tokens of Phi-3 swallow the white space after them, which no metadata says: its own
/// tokenizer does so for all but these three.
fn swallowing_tokens(
    metadata: &Metadata,
    scheme: Scheme,
    tokens: &[String],
    kinds: &[Kind],
) -> Result<BTreeSet<u32>> {
    let name = metadata
        .string_opt("general.name")?
        .unwrap_or_default()
        .to_lowercase();
    let architecture = metadata
        .string_opt("general.architecture")?
        .unwrap_or_default();
    let is_phi3 = name.contains("phi-3") || name.contains("phi3") || architecture == "phi3";
    if !is_phi3 || scheme != Scheme::SentencePiece {
        return Ok(BTreeSet::new());
    }
    Ok((0..)
        .zip(tokens.iter().zip(kinds))
        .filter(|(_, (text, kind))| {
            matches!(kind, Kind::Control | Kind::UserDefined)
                && !matches!(text.as_str(), "<s>" | "<unk>" | "<|endoftext|>")
        })
        .map(|(id, _)| id)
        .collect())
}
