//! What a GGUF file says about its vocabulary, checked.
//!
//! Invariant: a [`Vocabulary`] has one kind for each token, scores for each token if it has any, token
//! texts that are unique and not empty, and special ids that lie within it.
//! Absent: anything that encodes or decodes.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::error::{EngineError, Result};
use crate::gguf::{Metadata, Texts};

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
pub(super) struct Vocabulary {
    pub(super) scheme: Scheme,
    pub(super) pre: String,
    pub(super) tokens: Tokens,
    pub(super) kinds: Vec<Kind>,
    /// Empty unless `scheme` is [`Scheme::SentencePiece`].
    pub(super) scores: Vec<f32>,
    pub(super) special: SpecialTokens,
    /// Whether text that starts a prompt or follows a special token gets a space before it.
    pub(super) space_prefix: bool,
    /// Special tokens that swallow the white space after them.
    pub(super) swallows_space_after: BTreeSet<u32>,
}

/// The texts of all tokens, found by id or by text.
pub(super) struct Tokens {
    pub(super) texts: Texts,
    ids: HashTable<u32>,
    hasher: RandomState,
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
        let tokens = Tokens::new(metadata.strings("tokenizer.ggml.tokens")?.clone())?;
        let mut kinds = read_kinds(metadata, tokens.len())?;
        let special = read_special(metadata, scheme, &tokens, &mut kinds)?;
        check_bytes(&tokens, &kinds)?;
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

    /// The merges that `metadata` lists, each two tokens with a space between; `None` for SentencePiece.
    ///
    /// # Errors
    /// When a byte-level vocabulary comes without them.
    pub(super) fn merges<'a>(&self, metadata: &'a Metadata) -> Result<Option<&'a Texts>> {
        match self.scheme {
            Scheme::ByteLevel => metadata.strings("tokenizer.ggml.merges").map(Some),
            Scheme::SentencePiece => Ok(None),
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
        self.tokens.texts.get(usize::try_from(id).ok()?)
    }

    /// Whether text may be put together from parts that are this token, and become it.
    pub(super) fn is_mergeable(&self, id: u32) -> bool {
        match self.scheme {
            Scheme::ByteLevel => !self.is_reserved(id),
            Scheme::SentencePiece => matches!(self.kind(id), Some(Kind::Normal | Kind::Unused)),
        }
    }

    /// The token with this text, if it is one that text may become.
    pub(super) fn mergeable(&self, text: &str) -> Option<u32> {
        self.tokens.id(text).filter(|&id| self.is_mergeable(id))
    }

    /// All tokens with their ids, in the order of ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0..)
            .zip(self.tokens.texts.iter().zip(&self.kinds))
            .map(|(id, (text, kind))| (id, text, *kind))
    }
}

impl Tokens {
    /// Checks that each text is there once and not empty.
    fn new(texts: Texts) -> Result<Self> {
        let mut tokens = Self {
            ids: HashTable::with_capacity(texts.len()),
            hasher: RandomState::new(),
            texts,
        };
        let Self { texts, ids, hasher } = &mut tokens;
        let hash_of = |id: &u32| hasher.hash_one(texts.get(*id as usize));
        for (id, text) in (0_u32..).zip(texts.iter()) {
            if text.is_empty() {
                return Err(EngineError::Vocabulary {
                    reason: format!("token {id} has no text"),
                });
            }
            let hash = hasher.hash_one(Some(text));
            if let Some(first) = ids.find(hash, |&other| texts.get(other as usize) == Some(text)) {
                return Err(EngineError::Vocabulary {
                    reason: format!("tokens {first} and {id} are both {text:?}"),
                });
            }
            ids.insert_unique(hash, id, hash_of);
        }
        Ok(tokens)
    }

    /// The token with this text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(Some(text));
        self.ids
            .find(hash, |&id| self.texts.get(id as usize) == Some(text))
            .copied()
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
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

/// Byte tokens say which byte they are.
fn check_bytes(tokens: &Tokens, kinds: &[Kind]) -> Result<()> {
    let mut texts = tokens.texts.iter().zip(kinds).enumerate();
    match texts.find(|(_, (text, kind))| **kind == Kind::Byte && byte_value(text).is_none()) {
        None => Ok(()),
        Some((id, (text, _))) => Err(EngineError::Vocabulary {
            reason: format!(
                "token {id} is a byte token but its text is {text:?}, expected <0x00> to <0xFF>"
            ),
        }),
    }
}

/// The value of a byte token's text, such as `<0x0A>`.
pub(super) fn byte_value(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let well_formed = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    well_formed.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Reads the special ids and flags, and marks as control what ends a generation.
fn read_special(
    metadata: &Metadata,
    scheme: Scheme,
    tokens: &Tokens,
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
    let named = |text: &str| tokens.id(text);
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
fn mark_control(tokens: &Tokens, kinds: &mut [Kind], id: u32) {
    let index = id as usize;
    if matches!(
        kinds[index],
        Kind::Normal | Kind::UserDefined | Kind::Unused
    ) && tokens.texts.get(index).is_some_and(is_markup)
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
    tokens: &Tokens,
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
        .zip(tokens.texts.iter().zip(kinds))
        .filter(|(_, (text, kind))| {
            matches!(kind, Kind::Control | Kind::UserDefined)
                && !matches!(*text, "<s>" | "<unk>" | "<|endoftext|>")
        })
        .map(|(id, _)| id)
        .collect())
}
