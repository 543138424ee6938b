//! The decoder of the llama family in 32-bit floats, written for clearness: what logits are held against.
//!
//! It dequantizes a tensor when it needs it and puts all tokens through one block before the next, so that it takes
//! the memory of one block and of the embeddings.
//!
//! Invariant: nothing is rounded below 32 bits once a weight is dequantized.
//! Absent: caches, chunks, output matrices apart from the embeddings, speed.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::Content;
use candle_core::{D, Device, Tensor};

use crate::shape::Shape;

/// Logits that follow each of the last `count` of `tokens`, `[count, vocabulary]` row by row.
///
/// # Errors
/// When the file lacks a tensor of the shape.
pub(crate) fn reference_logits(
    path: &Path,
    shape: &Shape,
    tokens: &[u32],
    count: usize,
) -> Result<Vec<f32>> {
    let mut file = BufReader::new(File::open(path)?);
    let content = Content::read(&mut file)?;
    let mut reference = Reference {
        shape,
        content,
        file,
    };
    reference
        .logits(tokens, count)
        .with_context(|| format!("no reference can be computed from {}", path.display()))
}

struct Reference<'a> {
    shape: &'a Shape,
    content: Content,
    file: BufReader<File>,
}

impl Reference<'_> {
    fn logits(&mut self, tokens: &[u32], count: usize) -> Result<Vec<f32>> {
        let embeddings = self.tensor("token_embd.weight")?;
        let rotation = Rotation::new(self.shape, tokens.len(), self.rope_factors()?)?;
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut hidden = embeddings.index_select(&ids, 0)?;
        for layer in 0..self.shape.layers {
            hidden = (&hidden + self.attention(layer, &hidden, &rotation)?)?;
            hidden = (&hidden + self.feed_forward(layer, &hidden)?)?;
        }
        let last = hidden.narrow(0, tokens.len() - count, count)?;
        let normed = self.norm("output_norm.weight", &last)?;
        let logits = normed.matmul(&embeddings.t()?)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    /// What the heads of one block add to the residual stream, `[tokens, width]`.
    fn attention(&mut self, layer: usize, hidden: &Tensor, rotation: &Rotation) -> Result<Tensor> {
        let shape = self.shape;
        let (heads, kv_heads) = (shape.heads, shape.kv_heads);
        let tokens = hidden.dim(0)?;
        let input = self.norm(&format!("blk.{layer}.attn_norm.weight"), hidden)?;
        let queries = self.heads(layer, "attn_q", heads, &input)?;
        let keys = self.heads(layer, "attn_k", kv_heads, &input)?;
        let values = self.heads(layer, "attn_v", kv_heads, &input)?;
        let (queries, keys) = (rotation.apply(&queries)?, rotation.apply(&keys)?);

        // Neighbouring heads of queries share a head of keys: [kv_heads, group * tokens, head_width].
        let group = heads / kv_heads;
        let queries = queries.reshape((kv_heads, group * tokens, shape.head_width))?;
        let scale = 1.0 / (shape.head_width as f64).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?
            .reshape((heads, tokens, tokens))?
            .broadcast_add(&causal_mask(tokens)?)?;
        let weights = softmax(&scores)?.reshape((kv_heads, group * tokens, tokens))?;
        let mixed = weights
            .matmul(&values)?
            .reshape((heads, tokens, shape.head_width))?
            .transpose(0, 1)?
            .reshape((tokens, heads * shape.head_width))?;
        self.product(&format!("blk.{layer}.attn_output.weight"), &mixed)
    }

    /// Queries, keys or values of one block, `[heads, tokens, head_width]`, with the bias or the norm they may have.
    fn heads(&mut self, layer: usize, name: &str, heads: usize, input: &Tensor) -> Result<Tensor> {
        let stem = format!("blk.{layer}.{name}");
        let (bias, norm) = (format!("{stem}.bias"), format!("{stem}_norm.weight"));
        let mut made = self.product(&format!("{stem}.weight"), input)?;
        if self.has(&bias) {
            made = made.broadcast_add(&self.tensor(&bias)?)?;
        }
        made = made.reshape((input.dim(0)?, heads, self.shape.head_width))?;
        if self.has(&norm) {
            made = self.norm(&norm, &made)?;
        }
        Ok(made.transpose(0, 1)?.contiguous()?)
    }

    /// What the feed-forward part of one block adds to the residual stream, `[tokens, width]`.
    fn feed_forward(&mut self, layer: usize, hidden: &Tensor) -> Result<Tensor> {
        let name = |part: &str| format!("blk.{layer}.ffn_{part}.weight");
        let input = self.norm(&name("norm"), hidden)?;
        let gate = self.product(&name("gate"), &input)?.silu()?;
        let up = self.product(&name("up"), &input)?;
        self.product(&name("down"), &(gate * up)?)
    }

    fn norm(&mut self, name: &str, input: &Tensor) -> Result<Tensor> {
        let mean_square = input.sqr()?.mean_keepdim(D::Minus1)?;
        let root = (mean_square + f64::from(self.shape.rms_epsilon))?.sqrt()?;
        Ok(input
            .broadcast_div(&root)?
            .broadcast_mul(&self.tensor(name)?)?)
    }

    fn product(&mut self, name: &str, input: &Tensor) -> Result<Tensor> {
        Ok(input.matmul(&self.tensor(name)?.t()?)?)
    }

    fn rope_factors(&mut self) -> Result<Option<Vec<f32>>> {
        const FACTORS: &str = "rope_freqs.weight";
        if !self.has(FACTORS) {
            return Ok(None);
        }
        Ok(Some(self.tensor(FACTORS)?.to_vec1()?))
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let stored = self.content.tensor(&mut self.file, name, &Device::Cpu)?;
        Ok(stored.dequantize(&Device::Cpu)?)
    }
}

/// Rotary position embedding.
struct Rotation {
    /// Cosines and sines, `[tokens, head_width / 2]`.
    cosines: Tensor,
    sines: Tensor,
    /// Whether neighbours are a pair; else a value and the one half a head further.
    neighbours: bool,
}

impl Rotation {
    fn new(shape: &Shape, tokens: usize, factors: Option<Vec<f32>>) -> Result<Self> {
        let pairs = shape.head_width / 2;
        let mut angles = Vec::with_capacity(tokens * pairs);
        for token in 0..tokens {
            for pair in 0..pairs {
                let exponent = -(pair as f64) / pairs as f64;
                let factor = factors.as_ref().map_or(1.0, |factors| factors[pair]);
                let frequency = f64::from(shape.rope_base).powf(exponent) / f64::from(factor);
                angles.push(token as f64 * frequency);
            }
        }
        let of = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle) as f32).collect();
            Tensor::from_vec(values, (tokens, pairs), &Device::Cpu)
        };
        Ok(Self {
            cosines: of(f64::cos)?,
            sines: of(f64::sin)?,
            neighbours: shape.architecture == "llama",
        })
    }

    /// Turns the pairs of `[heads, tokens, head_width]`.
    fn apply(&self, input: &Tensor) -> Result<Tensor> {
        let (heads, tokens, width) = input.dims3()?;
        let (split, at) = if self.neighbours {
            ((heads, tokens, width / 2, 2), 3)
        } else {
            ((heads, tokens, 2, width / 2), 2)
        };
        let pairs = input.reshape(split)?;
        let half = |index| -> candle_core::Result<Tensor> {
            pairs.narrow(at, index, 1)?.squeeze(at)?.contiguous()
        };
        let (a, b) = (half(0)?, half(1)?);
        let turn = |x: &Tensor, y: &Tensor| -> candle_core::Result<(Tensor, Tensor)> {
            Ok((
                x.broadcast_mul(&self.cosines)?,
                y.broadcast_mul(&self.sines)?,
            ))
        };
        let ((a_cosine, b_sine), (b_cosine, a_sine)) = (turn(&a, &b)?, turn(&b, &a)?);
        let turned = Tensor::stack(&[(a_cosine - b_sine)?, (b_cosine + a_sine)?], at)?;
        Ok(turned.reshape((heads, tokens, width))?)
    }
}

/// 0 where a position may look, minus infinity where it may not, `[tokens, tokens]`.
fn causal_mask(tokens: usize) -> Result<Tensor> {
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|row| {
            (0..tokens).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (tokens, tokens), &Device::Cpu)?)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let shifted = scores
        .broadcast_sub(&scores.max_keepdim(D::Minus1)?)?
        .exp()?;
    Ok(shifted.broadcast_div(&shifted.sum_keepdim(D::Minus1)?)?)
}
