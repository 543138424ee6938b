//! Text to tokens and back, with the vocabulary that a GGUF file carries.
//!
//! Invariants: with `special` false no text becomes a control token, because the merges do not know
//! them; text of more than [`TEXT_BYTES_MAX`] bytes is refused; time grows no faster than the text (times
//! its logarithm).
//! Absent: a guess at an unknown tokenizer or pre-tokenizer, and any normalization of text.

mod bpe;
mod byte_level;
mod chat;
mod identity;
mod model;
mod pretokenizer;
mod sentence_piece;
mod special_scan;
mod stream;
mod vocabulary;

use std::path::Path;
use std::sync::Arc;

pub use self::chat::ChatPrompt;
pub(crate) use self::chat::Guard;
use self::model::Model;
use self::pretokenizer::PreTokenizer;
use self::special_scan::{Segment, SpecialScan};
use self::stream::Joiner;
pub use self::stream::TokenStream;
pub use self::vocabulary::SpecialTokens;
use self::vocabulary::{Kind, Vocabulary};
use crate::digest::Sha256Digest;
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, Metadata};

/// The longest text that is encoded, in bytes: several times what fits the longest context of the
/// models we serve.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A model's tokenizer. Cloning is cheap.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    vocabulary: Arc<Vocabulary>,
    model: Model,
    splitter: Splitter,
    scans: Scans,
    sha256: Sha256Digest,
}

/// How text between special tokens is cut into words.
enum Splitter {
    ByteLevel(PreTokenizer),
    SentencePiece { at_spaces: bool },
}

/// Searches for special tokens, by what is to be found.
struct Scans {
    /// Every special token.
    all: SpecialScan,
    /// User-defined tokens, which are found in any text.
    user_defined: SpecialScan,
    /// What only a template may write.
    reserved: SpecialScan,
    /// User-defined tokens that message contents may hold.
    unreserved: SpecialScan,
}

impl Tokenizer {
    /// Reads the tokenizer of a GGUF file; the file's tensors are not looked at.
    ///
    /// # Errors
    /// Whatever makes the file unreadable or its vocabulary unusable; see [`EngineError`].
    pub fn from_gguf_file(path: &Path) -> Result<Self> {
        Self::from_metadata(Gguf::open(path)?.metadata())
            .map_err(|error| error.of_model(Some(path)))
    }

    /// Builds the tokenizer that `metadata` describes.
    ///
    /// # Errors
    /// [`EngineError::UnknownTokenizerModel`], [`EngineError::UnknownPreTokenizer`], or entries that are
    /// missing, of the wrong type or contradict each other.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let vocabulary = Vocabulary::read(metadata)?;
        let merges = vocabulary.merges(metadata)?;
        let (splitter, model) = match merges {
            Some(merges) => {
                let splitter = PreTokenizer::named(&vocabulary.pre)?;
                let model = Model::byte_level(&vocabulary, merges, splitter.ignore_merges())?;
                (Splitter::ByteLevel(splitter), model)
            }
            None => {
                let at_spaces = sentence_piece::spaces_only_lead(&vocabulary);
                (
                    Splitter::SentencePiece { at_spaces },
                    Model::sentence_piece(&vocabulary)?,
                )
            }
        };
        let inner = Inner {
            scans: Scans::new(&vocabulary)?,
            sha256: identity::sha256(&vocabulary, merges),
            vocabulary: Arc::new(vocabulary),
            model,
            splitter,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Encodes `text`, without BOS or EOS.
    ///
    /// Where `special` is true, the texts of control tokens become those tokens; otherwise they are
    /// text like any other, and only user-defined tokens are recognised, as the published tokenizers do.
    ///
    /// # Errors
    /// [`EngineError::TextTooLong`].
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        check_text_length(text.len())?;
        let scans = &self.inner.scans;
        let scan = if special {
            &scans.all
        } else {
            &scans.user_defined
        };
        let mut ids = Vec::new();
        self.encode_segments(scan.segments(text), &mut ids);
        Ok(ids)
    }

    /// Puts BOS before and EOS after `ids` where the model asks for it.
    pub fn enclose(&self, ids: &mut Vec<u32>) {
        let special = &self.inner.vocabulary.special;
        if let (true, Some(bos)) = (special.add_bos, special.bos) {
            ids.insert(0, bos);
        }
        if let (true, Some(eos)) = (special.add_eos, special.eos) {
            ids.push(eos);
        }
    }

    /// The text of `ids`, control tokens included as they are written. Bytes that are not UTF-8 become
    /// U+FFFD.
    ///
    /// # Errors
    /// [`EngineError::UnknownToken`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut joiner = Joiner::new(Arc::clone(&self.inner.vocabulary), true);
        let mut bytes = Vec::new();
        for &id in ids {
            joiner.append(id, true, &mut bytes)?;
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// A token as the vocabulary writes it, such as `Ġhello`, `▁hello` or `<0x0A>`.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.inner.vocabulary.text(id)
    }

    /// The id of a token as the vocabulary writes it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.vocabulary.tokens.id(piece)
    }

    /// Whether `id` is a control token: one that has a meaning to the model and none as text.
    pub fn is_control(&self, id: u32) -> bool {
        matches!(
            self.inner.vocabulary.kind(id),
            Some(Kind::Control | Kind::Unknown)
        )
    }

    /// Whether only a template may write `id`: control tokens, and user-defined ones that look like
    /// markup. [`encode_chat`](Self::encode_chat) never makes one from a message's content.
    pub fn is_reserved(&self, id: u32) -> bool {
        self.inner.vocabulary.is_reserved(id)
    }

    /// Decodes token by token what follows a prompt that ends with `last`, or stands alone (`None`).
    ///
    /// # Errors
    /// [`EngineError::UnknownToken`].
    pub fn stream(&self, last: Option<u32>) -> Result<TokenStream> {
        TokenStream::new(Arc::clone(&self.inner.vocabulary), last)
    }

    /// The special tokens and flags of the vocabulary.
    pub fn special(&self) -> &SpecialTokens {
        &self.inner.vocabulary.special
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.inner.vocabulary.tokens.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 over all that decides how text becomes tokens and back.
    pub fn sha256(&self) -> Sha256Digest {
        self.inner.sha256
    }

    /// Encodes segments one after another. Text at the start and after a special token gets the
    /// vocabulary's space prefix; some special tokens swallow the white space after them.
    fn encode_segments<'a>(
        &self,
        segments: impl IntoIterator<Item = Segment<'a>>,
        ids: &mut Vec<u32>,
    ) {
        let vocabulary = &self.inner.vocabulary;
        let mut after_special = true;
        let mut swallow = false;
        for segment in segments {
            match segment {
                Segment::Special(id) => {
                    ids.push(id);
                    after_special = true;
                    swallow = vocabulary.swallows_space_after.contains(&id);
                }
                Segment::Text(text) => {
                    let text = if swallow { text.trim_start() } else { text };
                    if text.is_empty() {
                        continue;
                    }
                    self.encode_text(text, after_special, ids);
                    after_special = false;
                    swallow = false;
                }
            }
        }
    }

    fn encode_text(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let Inner {
            vocabulary,
            model,
            splitter,
            ..
        } = &*self.inner;
        match splitter {
            Splitter::ByteLevel(splitter) => {
                let mut written = String::new();
                for word in splitter.split(text) {
                    model.encode_bytes(vocabulary, word, &mut written, ids);
                }
            }
            Splitter::SentencePiece { at_spaces } => {
                let prefix = if after_special && vocabulary.space_prefix {
                    " "
                } else {
                    ""
                };
                let written = [prefix, text].concat().replace(' ', "▁");
                if *at_spaces {
                    for word in sentence_piece::words(&written) {
                        model.encode_characters(vocabulary, word, ids);
                    }
                } else {
                    model.encode_characters(vocabulary, &written, ids);
                }
            }
        }
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("tokens", &self.len())
            .finish_non_exhaustive()
    }
}

impl Scans {
    fn new(vocabulary: &Vocabulary) -> Result<Self> {
        let special = |wanted: &dyn Fn(u32, Kind) -> bool| {
            SpecialScan::new(
                vocabulary
                    .iter()
                    .filter(|(_, _, kind)| {
                        matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined)
                    })
                    .filter(|(id, _, kind)| wanted(*id, *kind))
                    .map(|(id, text, _)| (id, text)),
            )
        };
        Ok(Self {
            all: special(&|_, _| true)?,
            user_defined: special(&|_, kind| kind == Kind::UserDefined)?,
            // A single character cannot be told from content by a guard inside of it.
            reserved: special(&|id, _| {
                vocabulary.is_reserved(id)
                    && vocabulary
                        .text(id)
                        .is_some_and(|text| text.chars().nth(1).is_some())
            })?,
            unreserved: special(&|id, _| !vocabulary.is_reserved(id))?,
        })
    }
}

fn check_text_length(bytes: usize) -> Result<()> {
    if bytes > TEXT_BYTES_MAX {
        return Err(EngineError::TextTooLong {
            bytes,
            bytes_max: TEXT_BYTES_MAX,
        });
    }
    Ok(())
}
