//! The training loop: seeded batches in, weights out.
//!
//! A batch is cut into [`SHARDS`] that are computed on threads of their own and added in a fixed order,
//! so the result depends neither on timing nor on the number of cores. The loss covers the answer's
//! tokens only.

use super::{
    corpus::{self, Example},
    net::{Dims, Net, Rows},
    vocab::{self, END_ID, VOCABULARY_TOKENS, Vocabulary},
};
use anyhow::{Context as _, Result, ensure};
use candle_core::{Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use rand::{SeedableRng, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use std::{io::Write, sync::Arc, time::Instant};

/// Parts of a batch that are computed side by side.
const SHARDS: usize = 2;
/// Examples from which the vocabulary is learned.
const VOCABULARY_EXAMPLES: usize = 8_000;
/// Batches that are drawn together and then bucketed by length.
const BATCHES_A_DRAW: usize = 16;
/// Steps between two progress lines.
const PROGRESS_STEPS: usize = 50;
/// Longest sequence, in tokens; longer ones are drawn again.
const SEQUENCE_TOKENS_MAX: usize = 192;

/// How to train.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    /// Sequences in a step; a multiple of [`SHARDS`].
    pub(crate) batch: usize,
    /// Highest learning rate.
    pub(crate) rate: f64,
    pub(crate) warmup_steps: usize,
    pub(crate) dims: Dims,
}

impl Recipe {
    /// The recipe of the committed model.
    pub(crate) const COMMITTED: Self = Self {
        seed: 1,
        steps: 2500,
        batch: 32,
        rate: 3e-3,
        warmup_steps: 100,
        dims: Dims {
            n_vocab: VOCABULARY_TOKENS,
            n_embd: 128,
            n_head: 4,
            n_layer: 4,
            n_ff: 384,
        },
    };
}

/// Norm to which a step's gradient is cut.
const GRADIENT_NORM_MAX: f64 = 1.0;
/// The learning rate at the end, as a share of the highest.
const RATE_FLOOR: f64 = 0.02;

/// Trains a vocabulary and a network; `progress` gets a line now and then.
///
/// # Errors
/// When the vocabulary cannot be learned, a tensor operation fails or the loss is no number.
pub(crate) fn train(recipe: &Recipe, progress: &mut impl Write) -> Result<(Vocabulary, Net)> {
    ensure!(
        recipe.batch.is_multiple_of(SHARDS),
        "a batch must split into {SHARDS} shards"
    );
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed);
    let vocabulary = learn_vocabulary(recipe.seed)?;
    let net = Net::random(recipe.dims, &mut rng)?;
    let mut feed = Feed::new(&vocabulary, recipe.batch, rng)?;
    let vars: Vec<Var> = net
        .weights()
        .into_iter()
        .map(|(_, var)| var.clone())
        .collect();
    let mut optimizer = AdamW::new(
        vars.clone(),
        ParamsAdamW {
            beta2: 0.98,
            weight_decay: 0.05,
            ..ParamsAdamW::default()
        },
    )?;
    let started = Instant::now();
    let mut loss_sum = 0.0;
    for step in 0..recipe.steps {
        optimizer.set_learning_rate(learning_rate(recipe, step));
        let batch = feed.next_batch()?;
        let (loss, grads) = gradients(&net, &vars, &batch)?;
        ensure!(
            loss.is_finite(),
            "the loss of step {step} is {loss}; lower the learning rate"
        );
        optimizer.step(&grads)?;
        loss_sum += loss;
        if (step + 1).is_multiple_of(PROGRESS_STEPS) || step + 1 == recipe.steps {
            let elapsed = started.elapsed().as_secs_f64();
            let left = elapsed / (step + 1) as f64 * (recipe.steps - step - 1) as f64;
            let mean = loss_sum / (step % PROGRESS_STEPS + 1) as f64;
            writeln!(
                progress,
                "step {:>5}/{}  loss {mean:.4}  elapsed {elapsed:.0} s  left {left:.0} s",
                step + 1,
                recipe.steps,
            )?;
            loss_sum = 0.0;
        }
    }
    Ok((vocabulary, net))
}

fn learn_vocabulary(seed: u64) -> Result<Vocabulary> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let texts: Vec<String> = (0..VOCABULARY_EXAMPLES)
        .map(|_| {
            let example = corpus::draw_example(&mut rng);
            vocab::prompt(&example.message) + &example.answer
        })
        .collect();
    Vocabulary::learn(texts.into_iter())
}

/// Warm-up, then half a cosine.
fn learning_rate(recipe: &Recipe, step: usize) -> f64 {
    if step < recipe.warmup_steps {
        return recipe.rate * (step + 1) as f64 / recipe.warmup_steps as f64;
    }
    let (done, whole) = (
        step - recipe.warmup_steps,
        recipe.steps - recipe.warmup_steps,
    );
    let cosine = (std::f64::consts::PI * done as f64 / whole as f64).cos();
    recipe.rate * (RATE_FLOOR + (1.0 - RATE_FLOOR) * (1.0 + cosine) / 2.0)
}

/// A tokenized example without the head that all prompts share.
struct Sequence {
    tail: Vec<u32>,
    /// Index of the answer's first token in `tail`.
    answer_at: usize,
}

/// An endless supply of batches.
struct Feed<'a> {
    vocabulary: &'a Vocabulary,
    head: Arc<Vec<u32>>,
    batch: usize,
    rng: ChaCha8Rng,
    ready: Vec<Vec<Sequence>>,
}

/// Sequences for one step.
struct Batch {
    head: Arc<Vec<u32>>,
    sequences: Vec<Sequence>,
}

impl<'a> Feed<'a> {
    fn new(vocabulary: &'a Vocabulary, batch: usize, rng: ChaCha8Rng) -> Result<Self> {
        let head = Arc::new(vocabulary.encode(&vocab::prompt_head())?);
        Ok(Self {
            vocabulary,
            head,
            batch,
            rng,
            ready: Vec::new(),
        })
    }

    fn next_batch(&mut self) -> Result<Batch> {
        if self.ready.is_empty() {
            let mut drawn = Vec::with_capacity(BATCHES_A_DRAW * self.batch);
            while drawn.len() < BATCHES_A_DRAW * self.batch {
                let example = corpus::draw_example(&mut self.rng);
                let sequence = self.tokenize(&example)?;
                if self.head.len() + sequence.tail.len() <= SEQUENCE_TOKENS_MAX {
                    drawn.push(sequence);
                }
            }
            drawn.sort_by_key(|sequence| sequence.tail.len());
            while !drawn.is_empty() {
                self.ready.push(drawn.split_off(drawn.len() - self.batch));
            }
            self.ready.shuffle(&mut self.rng);
        }
        let sequences = self
            .ready
            .pop()
            .context("a draw gives at least one batch")?;
        Ok(Batch {
            head: self.head.clone(),
            sequences,
        })
    }

    fn tokenize(&self, example: &Example) -> Result<Sequence> {
        let prompt = self.vocabulary.encode(&vocab::prompt(&example.message))?;
        let tail = prompt.strip_prefix(self.head.as_slice()).with_context(|| {
            format!(
                "{:?} changes the tokens of the prompt's head",
                example.message
            )
        })?;
        let mut tail = tail.to_vec();
        let answer_at = tail.len();
        tail.extend(self.vocabulary.encode(&example.answer)?);
        tail.push(END_ID);
        Ok(Sequence { tail, answer_at })
    }
}

/// The mean loss over the batch's answers and its gradients, cut to [`GRADIENT_NORM_MAX`].
fn gradients(net: &Net, vars: &[Var], batch: &Batch) -> Result<(f64, GradStore)> {
    let n_answer: usize = batch
        .sequences
        .iter()
        .map(|sequence| sequence.tail.len() - sequence.answer_at)
        .sum();
    let shard_len = batch.sequences.len() / SHARDS;
    let mut parts: Vec<Option<Result<(f64, GradStore)>>> = (0..SHARDS).map(|_| None).collect();
    std::thread::scope(|scope| {
        let shards = batch.sequences.chunks(shard_len);
        for (part, shard) in parts.iter_mut().zip(shards) {
            scope.spawn(move || {
                *part = Some(shard_gradients(net, &batch.head, shard, n_answer));
            });
        }
    });
    let mut parts = parts.into_iter().flatten();
    let (mut loss, mut sum) = parts.next().context("a batch has a shard")??;
    for part in parts {
        let (part_loss, part_grads) = part?;
        loss += part_loss;
        for var in vars {
            if let (Some(a), Some(b)) = (sum.get(var), part_grads.get(var)) {
                let added = (a + b)?;
                sum.insert(var, added);
            }
        }
    }
    cut(vars, &mut sum)?;
    Ok((loss, sum))
}

fn shard_gradients(
    net: &Net,
    head: &[u32],
    shard: &[Sequence],
    n_answer: usize,
) -> Result<(f64, GradStore)> {
    let n_tail = shard
        .iter()
        .map(|sequence| sequence.tail.len())
        .max()
        .unwrap_or(0);
    let mut rows = Rows {
        head: head.to_vec(),
        tails: Vec::new(),
        n_tail,
    };
    let (mut wanted, mut targets) = (Vec::new(), Vec::new());
    for sequence in shard {
        let start = rows.tails.len();
        for at in sequence.answer_at..sequence.tail.len() {
            wanted.push((start + at - 1) as u32);
            targets.push(sequence.tail[at]);
        }
        rows.tails.extend(&sequence.tail);
        rows.tails.resize(start + n_tail, END_ID);
    }
    let share = targets.len() as f64 / n_answer as f64;
    let targets = Tensor::new(targets, &candle_core::Device::Cpu)?;
    let loss = (candle_nn::loss::cross_entropy(&net.logits(&rows, &wanted)?, &targets)? * share)?;
    let grads = loss.backward()?;
    Ok((f64::from(loss.to_scalar::<f32>()?), grads))
}

/// Scales the gradients so that their common norm is at most [`GRADIENT_NORM_MAX`].
fn cut(vars: &[Var], grads: &mut GradStore) -> Result<()> {
    let mut square = 0.0;
    for var in vars {
        let grad = grads.get(var).context("every weight has a gradient")?;
        square += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let norm = square.sqrt();
    if norm > GRADIENT_NORM_MAX {
        for var in vars {
            if let Some(grad) = grads.get(var) {
                let scaled = (grad * (GRADIENT_NORM_MAX / norm))?;
                grads.insert(var, scaled);
            }
        }
    }
    Ok(())
}
