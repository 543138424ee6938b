//! The decoder-only transformer that all supported architectures are.
//!
//! One pass appends tokens to one sequence: embed, then for each layer attention and
//! feed-forward, each normalized before (and, for Gemma 3, after) and added; then the logits of the last token.

use candle_core::quantized::QMatMul;
use candle_core::{Device, Module, Result as CandleResult, Storage, Tensor};

use super::attention::{KvCache, LayerCache, View, attend};
use super::failed;
use super::rope::{Angles, Rope};
use super::weights::{Linear, RmsNorm, Tensors};
use crate::backend::architecture::{Activation, Architecture};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model_file::ModelReader;

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// The weights of a model, and how to compute with them.
pub(super) struct Decoder {
    architecture: Architecture,
    vocabulary: usize,
    embedding: QMatMul,
    layers: Vec<Layer>,
    norm: RmsNorm,
    output: QMatMul,
    rope: Rope,
    rope_windowed: Option<Rope>,
}

struct Layer {
    windowed: bool,
    attention_norm: RmsNorm,
    attention: Attention,
    attention_post_norm: Option<RmsNorm>,
    feed_forward_norm: RmsNorm,
    feed_forward: FeedForward,
    feed_forward_post_norm: Option<RmsNorm>,
}

struct Attention {
    inputs: AttentionInputs,
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    output: Linear,
}

enum AttentionInputs {
    Separate {
        query: Linear,
        key: Linear,
        value: Linear,
    },
    /// Query, key and value, one below the other.
    Fused(Linear),
}

struct FeedForward {
    inputs: FeedForwardInputs,
    down: Linear,
    activation: Activation,
}

enum FeedForwardInputs {
    Separate {
        gate: Linear,
        up: Linear,
    },
    /// Gate and up, one below the other.
    Fused(Linear),
}

impl Decoder {
    pub(super) fn load(
        reader: &mut ModelReader<'_>,
        gguf: &Gguf,
        architecture: Architecture,
        context_tokens: usize,
    ) -> Result<Self> {
        let mut tensors = Tensors::read(reader, gguf)?;
        let width = architecture.width;
        let vocabulary = tensors
            .shape(EMBEDDING)
            .and_then(|shape| shape.first().copied())
            .unwrap_or(0);
        let embedding = tensors.matrix(EMBEDDING, vocabulary, width)?;
        let output = match tensors.has(OUTPUT) {
            true => tensors.matrix(OUTPUT, vocabulary, width)?,
            false => embedding.clone(),
        };
        let rope = load_rope(&mut tensors, &architecture, context_tokens)?;
        let layers = (0..architecture.layers)
            .map(|layer| Layer::load(&mut tensors, &architecture, layer))
            .collect::<Result<_>>()?;
        Ok(Self {
            vocabulary,
            embedding,
            layers,
            norm: tensors.norm("output_norm", width, architecture.norm_epsilon)?,
            output,
            rope,
            rope_windowed: architecture
                .rope_windowed
                .as_ref()
                .map(|spec| Rope::new(spec, None)),
            architecture,
        })
    }

    /// Number of logits.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) fn empty_cache(&self, context_tokens: usize) -> KvCache {
        KvCache::new(self.architecture.layers, context_tokens)
    }

    /// Appends `tokens` to the sequence of `cache`; `logits` becomes those after the last token.
    pub(super) fn forward(
        &self,
        tokens: &[u32],
        cache: &mut KvCache,
        logits: Option<&mut Vec<f32>>,
    ) -> CandleResult<()> {
        let (first, count) = (cache.tokens(), tokens.len());
        let pass = Pass {
            first,
            view: View::new(first, count, None)?,
            windowed_view: match self.architecture.window {
                Some(window) => Some(View::new(first, count, Some(window.tokens))?),
                None => None,
            },
            angles: self.rope.angles(first, count)?,
            windowed_angles: self
                .rope_windowed
                .as_ref()
                .map(|rope| rope.angles(first, count))
                .transpose()?,
        };
        let ids = Tensor::from_slice(tokens, count, &Device::Cpu)?;
        let mut hidden = self.embedding.embedding(&ids)?;
        if let Some(scale) = self.architecture.embedding_scale {
            hidden = (hidden * f64::from(scale))?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = self.layer(layer, &hidden, cache.layer(index), &pass)?;
        }
        cache.advance(count);
        match logits {
            Some(logits) => self.logits(&hidden, logits),
            None => Ok(()),
        }
    }

    fn layer(
        &self,
        layer: &Layer,
        hidden: &Tensor,
        cache: &mut LayerCache,
        pass: &Pass,
    ) -> CandleResult<Tensor> {
        let normed = layer.attention_norm.forward(hidden)?;
        let mut attended = self.attention(layer, &normed, cache, pass)?;
        if let Some(norm) = &layer.attention_post_norm {
            attended = norm.forward(&attended)?;
        }
        let hidden = (attended + hidden)?;
        let normed = layer.feed_forward_norm.forward(&hidden)?;
        let mut fed = layer.feed_forward.forward(&normed)?;
        if let Some(norm) = &layer.feed_forward_post_norm {
            fed = norm.forward(&fed)?;
        }
        fed + hidden
    }

    fn attention(
        &self,
        layer: &Layer,
        xs: &Tensor,
        cache: &mut LayerCache,
        pass: &Pass,
    ) -> CandleResult<Tensor> {
        let (rope, angles, view) = self.position(layer, pass);
        let attention = &layer.attention;
        let (queries, keys, values) = self.queries_keys_values(attention, xs)?;
        let queries = normalize_heads(attention.query_norm.as_ref(), queries)?;
        let keys = normalize_heads(attention.key_norm.as_ref(), keys)?;
        let queries = rope.rotate(&queries.transpose(0, 1)?, angles)?;
        let keys = rope.rotate(&keys.transpose(0, 1)?, angles)?;
        let values = values.transpose(0, 1)?.contiguous()?;
        cache.write(pass.first, &keys, &values)?;
        let (keys, values) = cache.range(view.start, view.end)?;
        let scaled = (queries * f64::from(self.architecture.attention_scale))?;
        attention
            .output
            .forward(&attend(&scaled, &keys, &values, view)?)
    }

    fn position<'a>(&'a self, layer: &Layer, pass: &'a Pass) -> (&'a Rope, &'a Angles, &'a View) {
        if !layer.windowed {
            return (&self.rope, &pass.angles, &pass.view);
        }
        let view = pass.windowed_view.as_ref().unwrap_or(&pass.view);
        match (&self.rope_windowed, &pass.windowed_angles) {
            (Some(rope), Some(angles)) => (rope, angles, view),
            _ => (&self.rope, &pass.angles, view),
        }
    }

    /// Each `[n_tokens, heads, head_width]`.
    fn queries_keys_values(
        &self,
        attention: &Attention,
        xs: &Tensor,
    ) -> CandleResult<(Tensor, Tensor, Tensor)> {
        let Architecture {
            heads,
            kv_heads,
            head_width,
            ..
        } = self.architecture;
        let count = xs.dim(0)?;
        let (queries, keys, values) = match &attention.inputs {
            AttentionInputs::Separate { query, key, value } => {
                (query.forward(xs)?, key.forward(xs)?, value.forward(xs)?)
            }
            AttentionInputs::Fused(fused) => {
                let all = fused.forward(xs)?;
                let (query_width, kv_width) = (heads * head_width, kv_heads * head_width);
                (
                    all.narrow(1, 0, query_width)?,
                    all.narrow(1, query_width, kv_width)?,
                    all.narrow(1, query_width + kv_width, kv_width)?,
                )
            }
        };
        Ok((
            queries.reshape((count, heads, head_width))?,
            keys.reshape((count, kv_heads, head_width))?,
            values.reshape((count, kv_heads, head_width))?,
        ))
    }

    /// The logits of the last row of `[n_tokens, width]`.
    fn logits(&self, hidden: &Tensor, logits: &mut Vec<f32>) -> CandleResult<()> {
        let last = hidden.narrow(0, hidden.dim(0)? - 1, 1)?;
        let computed = self.output.forward(&self.norm.forward(&last)?)?;
        let (storage, layout) = computed.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("the logits are not in the CPU's memory")
        };
        let start = layout.start_offset();
        logits.clear();
        logits.extend_from_slice(&storage.as_slice::<f32>()?[start..start + self.vocabulary]);
        Ok(())
    }
}

/// What all layers of one pass share.
struct Pass {
    /// Position of the first token.
    first: usize,
    view: View,
    windowed_view: Option<View>,
    angles: Angles,
    windowed_angles: Option<Angles>,
}

fn normalize_heads(norm: Option<&RmsNorm>, heads: Tensor) -> CandleResult<Tensor> {
    match norm {
        Some(norm) => norm.forward(&heads),
        None => Ok(heads),
    }
}

fn load_rope(
    tensors: &mut Tensors,
    architecture: &Architecture,
    context_tokens: usize,
) -> Result<Rope> {
    let spec = &architecture.rope;
    let names = spec.factors_names(context_tokens);
    let Some(name) = names.into_iter().find(|name| tensors.has(name)) else {
        return Ok(Rope::new(spec, None));
    };
    let factors = tensors
        .vector(name, spec.width() / 2)?
        .to_vec1::<f32>()
        .map_err(|error| failed("preparing the weights", &error))?;
    Ok(Rope::new(spec, Some(&factors)))
}

impl Layer {
    fn load(tensors: &mut Tensors, architecture: &Architecture, layer: usize) -> Result<Self> {
        let (width, epsilon) = (architecture.width, architecture.norm_epsilon);
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut post_norm = |part: &str| match architecture.post_norms {
            true => tensors.norm(&name(part), width, epsilon).map(Some),
            false => Ok(None),
        };
        let attention_post_norm = post_norm("post_attention_norm")?;
        let feed_forward_post_norm = post_norm("post_ffw_norm")?;
        Ok(Self {
            windowed: architecture.is_windowed(layer),
            attention_norm: tensors.norm(&name("attn_norm"), width, epsilon)?,
            attention: Attention::load(tensors, architecture, layer)?,
            attention_post_norm,
            feed_forward_norm: tensors.norm(&name("ffn_norm"), width, epsilon)?,
            feed_forward: FeedForward::load(tensors, architecture, layer)?,
            feed_forward_post_norm,
        })
    }
}

impl Attention {
    fn load(tensors: &mut Tensors, architecture: &Architecture, layer: usize) -> Result<Self> {
        let Architecture {
            width,
            head_width,
            norm_epsilon,
            ..
        } = *architecture;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let query_width = architecture.heads * head_width;
        let kv_width = architecture.kv_heads * head_width;
        let inputs = match architecture.fused {
            true => AttentionInputs::Fused(tensors.linear(
                &name("attn_qkv"),
                query_width + 2 * kv_width,
                width,
            )?),
            false => AttentionInputs::Separate {
                query: tensors.linear(&name("attn_q"), query_width, width)?,
                key: tensors.linear(&name("attn_k"), kv_width, width)?,
                value: tensors.linear(&name("attn_v"), kv_width, width)?,
            },
        };
        let mut head_norm = |part: &str| match architecture.head_norms {
            true => tensors
                .norm(&name(part), head_width, norm_epsilon)
                .map(Some),
            false => Ok(None),
        };
        Ok(Self {
            inputs,
            query_norm: head_norm("attn_q_norm")?,
            key_norm: head_norm("attn_k_norm")?,
            output: tensors.linear(&name("attn_output"), width, query_width)?,
        })
    }
}

impl FeedForward {
    fn load(tensors: &mut Tensors, architecture: &Architecture, layer: usize) -> Result<Self> {
        let Architecture {
            width,
            feed_forward,
            activation,
            ..
        } = *architecture;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let inputs = match architecture.fused {
            true => FeedForwardInputs::Fused(tensors.linear(
                &name("ffn_up"),
                2 * feed_forward,
                width,
            )?),
            false => FeedForwardInputs::Separate {
                gate: tensors.linear(&name("ffn_gate"), feed_forward, width)?,
                up: tensors.linear(&name("ffn_up"), feed_forward, width)?,
            },
        };
        let down = tensors.linear(&name("ffn_down"), width, feed_forward)?;
        Ok(Self {
            inputs,
            down,
            activation,
        })
    }

    /// `[n_tokens, width]` to the same.
    fn forward(&self, xs: &Tensor) -> CandleResult<Tensor> {
        let (gate, up) = match &self.inputs {
            FeedForwardInputs::Separate { gate, up } => (gate.forward(xs)?, up.forward(xs)?),
            FeedForwardInputs::Fused(fused) => {
                let both = fused.forward(xs)?;
                let half = both.dim(1)? / 2;
                (
                    both.narrow(1, 0, half)?.contiguous()?,
                    both.narrow(1, half, half)?,
                )
            }
        };
        let gate = match self.activation {
            Activation::Silu => candle_nn::ops::silu(&gate)?,
            Activation::GeluTanh => gate.gelu()?,
        };
        self.down.forward(&(gate * up)?)
    }
}
