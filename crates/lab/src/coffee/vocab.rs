//! The byte-level BPE vocabulary and the chat format of the coffee model.
//!
//! The pre-tokenizer is that of GPT-2, which GGUF readers know by the name `gpt-2`. Special tokens come
//! first. Invariant: training the vocabulary on the same text gives the same tokens and merges.

use super::corpus::SYSTEM;
use anyhow::{Context as _, Result, anyhow};
use std::collections::BTreeMap;
use tokenizers::{
    AddedToken, Tokenizer, TokenizerBuilder,
    decoders::byte_level::ByteLevel as ByteLevelDecoder,
    models::bpe::{BPE, BpeTrainer},
    normalizers::NFC,
    pre_tokenizers::byte_level::ByteLevel,
    processors::byte_level::ByteLevel as ByteLevelProcessor,
};

/// The special tokens; the place in the list is the id.
pub(crate) const SPECIAL_TOKENS: [&str; 5] = [
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
];
/// Named by the file as its first token; the chat format does not use it.
pub(crate) const BEGIN_ID: u32 = 0;
/// Ends each message.
pub(crate) const END_ID: u32 = 1;

/// Number of tokens, special tokens included.
pub(crate) const VOCABULARY_TOKENS: usize = 1536;

/// The chat template, in the form that the Phi-3 family made known, so that readers without a Jinja
/// engine recognize it.
pub(crate) const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

/// The part of every prompt that comes before the visitor's message.
pub(crate) fn prompt_head() -> String {
    format!("<|system|>\n{SYSTEM}<|end|>\n<|user|>\n")
}

/// The whole prompt for a visitor's message.
pub(crate) fn prompt(message: &str) -> String {
    format!("{}{message}<|end|>\n<|assistant|>\n", prompt_head())
}

/// A trained vocabulary.
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    tokens: Vec<String>,
    merges: Vec<String>,
}

impl Vocabulary {
    /// Learns the merges from the texts.
    ///
    /// # Errors
    /// When the trainer fails or finds fewer merges than the vocabulary has room for.
    pub(crate) fn learn(texts: impl Iterator<Item = String> + Send) -> Result<Self> {
        let mut trainer = BpeTrainer::builder()
            .vocab_size(VOCABULARY_TOKENS)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(
                SPECIAL_TOKENS
                    .iter()
                    .map(|&token| AddedToken::from(token, true))
                    .collect(),
            )
            .show_progress(false)
            .build();
        let mut learner = TokenizerBuilder::<_, NFC, _, _, _>::new()
            .with_model(BPE::default())
            .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
            .with_post_processor(None::<ByteLevelProcessor>)
            .with_decoder(Some(ByteLevelDecoder::new(false, true, true)))
            .build()
            .map_err(|error| anyhow!("cannot put the tokenizer together: {error}"))?;
        learner
            .train(&mut trainer, texts)
            .map_err(|error| anyhow!("cannot train the vocabulary: {error}"))?;
        let (tokens, merges) = read_model(learner.get_model())?;
        anyhow::ensure!(
            tokens.len() == VOCABULARY_TOKENS,
            "the text gives {} tokens, {VOCABULARY_TOKENS} are expected",
            tokens.len()
        );
        let tokenizer = tokenizer(&tokens, &merges)?;
        Ok(Self {
            tokenizer,
            tokens,
            merges,
        })
    }

    /// The tokens in the order of their ids, in GPT-2's printable alphabet of bytes.
    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The merges in the order of their ranks, each as two tokens with a space between.
    pub(crate) fn merges(&self) -> &[String] {
        &self.merges
    }

    /// Encodes a text; special tokens are recognized.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| anyhow!("cannot encode {text:?}: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The tokenizer of a vocabulary.
pub(crate) fn tokenizer(tokens: &[String], merges: &[String]) -> Result<Tokenizer> {
    let vocab = tokens
        .iter()
        .cloned()
        .zip(0..)
        .collect::<tokenizers::models::bpe::Vocab>();
    let merges = merges
        .iter()
        .map(|merge| {
            merge
                .split_once(' ')
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .context("a merge is not two tokens with a space between")?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .build()
        .map_err(|error| anyhow!("the vocabulary and its merges disagree: {error}"))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.with_decoder(Some(ByteLevelDecoder::new(false, true, true)));
    let specials: Vec<AddedToken> = SPECIAL_TOKENS
        .iter()
        .map(|&token| AddedToken::from(token, true))
        .collect();
    tokenizer
        .add_special_tokens(specials)
        .map_err(|error| anyhow!("cannot add the special tokens: {error}"))?;
    Ok(tokenizer)
}

/// Reads tokens and merges through the model's own serialized form, its only public view of merges.
fn read_model(model: &BPE) -> Result<(Vec<String>, Vec<String>)> {
    #[derive(serde::Deserialize)]
    struct Model {
        vocab: BTreeMap<String, usize>,
        merges: Vec<(String, String)>,
    }
    let model: Model = serde_json::from_value(serde_json::to_value(model)?)
        .context("the serialized BPE model has an unexpected form")?;
    let mut tokens = vec![String::new(); model.vocab.len()];
    for (token, id) in model.vocab {
        *tokens.get_mut(id).context("token ids have a gap")? = token;
    }
    let merges = model
        .merges
        .into_iter()
        .map(|(left, right)| format!("{left} {right}"));
    Ok((tokens, merges.collect()))
}
