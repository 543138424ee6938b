//! The share of held-out wishes that the quantized model answers rightly.
//!
//! The checker is strict, see [`super::answer`]; decoding is greedy. The seed is fixed, so that every
//! model meets the same wishes.

use super::{
    answer::{self, Miss},
    corpus::{self, HeldOut},
    vocab::{self, END_ID},
};
use anyhow::{Context as _, Result, anyhow};
use candle_core::{Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::quantized_llama::ModelWeights;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, fs, io::Cursor, path::Path};

/// Seed of the held-out wishes; no training uses it.
const SEED: u64 = 0xc0ffee;
/// Longest answer, in tokens; as in the prompt template.
const ANSWER_TOKENS_MAX: usize = 96;

/// The first `count` held-out wishes.
pub(crate) fn held_out(count: usize) -> Vec<HeldOut> {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    (0..count)
        .map(|_| corpus::draw_held_out(&mut rng))
        .collect()
}

/// How a model did.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) asked: usize,
    pub(crate) right: usize,
    /// Answers by number of wishes: `(right, asked)`.
    pub(crate) by_count: BTreeMap<usize, (usize, usize)>,
    pub(crate) misses: BTreeMap<Miss, Vec<(HeldOut, String)>>,
}

impl Score {
    /// Percentage of right answers.
    pub(crate) fn percentage(&self) -> f64 {
        100.0 * self.right as f64 / self.asked.max(1) as f64
    }
}

/// Asks the model every held-out wish.
pub(crate) fn run(file: &Path, count: usize) -> Result<Score> {
    let model = GgufModel::load(file)?;
    let mut score = Score::default();
    for asked in held_out(count) {
        let answer = model.answer(&asked.message)?;
        let of_count = score
            .by_count
            .entry(asked.wishes.bits().count_ones() as usize)
            .or_default();
        of_count.1 += 1;
        score.asked += 1;
        match answer::check(asked.wishes, &answer) {
            Ok(_) => {
                score.right += 1;
                of_count.0 += 1;
            }
            Err(miss) => score.misses.entry(miss).or_default().push((asked, answer)),
        }
    }
    Ok(score)
}

struct GgufModel {
    weights: ModelWeights,
    tokenizer: tokenizers::Tokenizer,
}

impl GgufModel {
    fn load(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut reader = Cursor::new(&bytes);
        let content = Content::read(&mut reader)?;
        let strings = |key: &str| -> Result<Vec<String>> {
            let values = content
                .metadata
                .get(key)
                .with_context(|| format!("no {key}"))?
                .to_vec()?;
            values
                .iter()
                .map(|value| Ok(value.to_string()?.clone()))
                .collect()
        };
        let tokenizer = vocab::tokenizer(
            &strings("tokenizer.ggml.tokens")?,
            &strings("tokenizer.ggml.merges")?,
        )?;
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Self { weights, tokenizer })
    }

    fn answer(&self, message: &str) -> Result<String> {
        let prompt = self
            .tokenizer
            .encode_fast(vocab::prompt(message), false)
            .map_err(|error| anyhow!("{error}"))?;
        let mut weights = self.weights.clone();
        let (mut input, mut position) = (prompt.get_ids().to_vec(), 0);
        let mut answer = Vec::new();
        while answer.len() < ANSWER_TOKENS_MAX {
            let ids = Tensor::new(input.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            let logits = weights.forward(&ids, position)?.squeeze(0)?;
            position += input.len();
            let next = logits.argmax(0)?.to_scalar::<u32>()?;
            if next == END_ID {
                break;
            }
            answer.push(next);
            input = vec![next];
        }
        self.tokenizer
            .decode(&answer, false)
            .map_err(|error| anyhow!("{error}"))
    }
}
