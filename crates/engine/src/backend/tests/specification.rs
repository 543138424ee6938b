//! What each architecture computes, as plain loops in f64 over the whole sequence at once, without a cache.
//!
//! Written from the published descriptions and apart from the decoder, so that the two can disagree.

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};

type Row = Vec<f64>;

/// A model as numbers.
pub(in crate::backend) struct Specification {
    architecture: String,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Specification {
    pub(in crate::backend) fn read(file: &[u8]) -> Self {
        let mut reader = Cursor::new(file);
        let content = Content::read(&mut reader).unwrap();
        let tensors = content
            .tensor_infos
            .keys()
            .map(|name| {
                let tensor = content.tensor(&mut reader, name, &Device::Cpu).unwrap();
                let values = tensor
                    .dequantize(&Device::Cpu)
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>();
                let values = values.unwrap().into_iter().map(f64::from).collect();
                (name.clone(), (tensor.shape().dims().to_vec(), values))
            })
            .collect();
        let architecture = content.metadata["general.architecture"]
            .to_string()
            .unwrap()
            .clone();
        Self {
            architecture,
            metadata: content.metadata,
            tensors,
        }
    }

    /// Logits after the last token.
    pub(in crate::backend) fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let width = self.count("embedding_length").unwrap();
        let gemma = self.architecture == "gemma3";
        let scale = if gemma { (width as f64).sqrt() } else { 1.0 };
        let embedding = &self.tensors["token_embd.weight"].1;
        let mut hidden: Vec<Row> = tokens
            .iter()
            .map(|&token| {
                embedding[token as usize * width..][..width]
                    .iter()
                    .map(|value| value * scale)
                    .collect()
            })
            .collect();
        for layer in 0..self.count("block_count").unwrap() {
            self.layer(layer, &mut hidden);
        }
        let last = self.norm("output_norm.weight", hidden.last().unwrap());
        let output = if self.tensors.contains_key("output.weight") {
            "output.weight"
        } else {
            "token_embd.weight"
        };
        self.product(output, &last)
            .into_iter()
            .map(|logit| logit as f32)
            .collect()
    }

    fn layer(&self, layer: usize, hidden: &mut [Row]) {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let gemma = self.architecture == "gemma3";
        let normed: Vec<Row> = hidden
            .iter()
            .map(|row| self.norm(&name("attn_norm"), row))
            .collect();
        let mut attended = self.attention(layer, &normed);
        for (row, attended) in hidden.iter_mut().zip(&mut attended) {
            if gemma {
                *attended = self.norm(&name("post_attention_norm"), attended);
            }
            add(row, attended);
            let mut fed = self.feed_forward(layer, &self.norm(&name("ffn_norm"), row));
            if gemma {
                fed = self.norm(&name("post_ffw_norm"), &fed);
            }
            add(row, &fed);
        }
    }

    fn attention(&self, layer: usize, xs: &[Row]) -> Vec<Row> {
        let heads = self.count("attention.head_count").unwrap();
        let kv_heads = self.count("attention.head_count_kv").unwrap();
        let width = self.head_width();
        let queries: Vec<Vec<Row>> = self.heads(layer, "q", heads, xs);
        let keys = self.heads(layer, "k", kv_heads, xs);
        let values = self.heads(layer, "v", kv_heads, xs);
        let sees = |query: usize, key: usize| {
            let windowed = self.architecture == "gemma3" && !(layer + 1).is_multiple_of(6);
            let window = if windowed {
                self.count("attention.sliding_window").unwrap()
            } else {
                usize::MAX
            };
            key <= query && query - key < window
        };
        (0..xs.len())
            .map(|position| {
                let mut mixed = Row::new();
                for (head, query) in queries[position].iter().enumerate() {
                    let kv_head = head / (heads / kv_heads);
                    let weights: Vec<f64> = (0..xs.len())
                        .map(|key| match sees(position, key) {
                            true => dot(query, &keys[key][kv_head]) / (width as f64).sqrt(),
                            false => f64::NEG_INFINITY,
                        })
                        .collect();
                    let weights = softmax(&weights);
                    mixed.extend((0..width).map(|element| {
                        weights
                            .iter()
                            .zip(&values)
                            .map(|(weight, value)| weight * value[kv_head][element])
                            .sum::<f64>()
                    }));
                }
                self.product(&format!("blk.{layer}.attn_output.weight"), &mixed)
            })
            .collect()
    }

    /// `[n_tokens][heads][head_width]`, with biases, head norms and rotation.
    fn heads(&self, layer: usize, kind: &str, heads: usize, xs: &[Row]) -> Vec<Vec<Row>> {
        let width = self.head_width();
        let rows = xs.iter().map(|row| {
            let mut row = match self.architecture.as_str() {
                "phi3" => self.fused_heads(layer, kind, row),
                _ => self.product(&format!("blk.{layer}.attn_{kind}.weight"), row),
            };
            if let Some((_, bias)) = self.tensors.get(&format!("blk.{layer}.attn_{kind}.bias")) {
                add(&mut row, bias);
            }
            row
        });
        rows.enumerate()
            .map(|(position, row)| {
                assert_eq!(row.len(), heads * width);
                row.chunks(width)
                    .map(|head| {
                        let norm = format!("blk.{layer}.attn_{kind}_norm.weight");
                        let head = match self.tensors.contains_key(&norm) {
                            true => self.norm(&norm, head),
                            false => head.to_vec(),
                        };
                        if kind == "v" {
                            head
                        } else {
                            self.rotate(layer, position, head)
                        }
                    })
                    .collect()
            })
            .collect()
    }

    fn fused_heads(&self, layer: usize, kind: &str, row: &[f64]) -> Row {
        let all = self.product(&format!("blk.{layer}.attn_qkv.weight"), row);
        let queries = self.count("attention.head_count").unwrap() * self.head_width();
        let keys = self.count("attention.head_count_kv").unwrap() * self.head_width();
        match kind {
            "q" => all[..queries].to_vec(),
            "k" => all[queries..queries + keys].to_vec(),
            _ => all[queries + keys..].to_vec(),
        }
    }

    fn rotate(&self, layer: usize, position: usize, mut head: Row) -> Row {
        let windowed = self.architecture == "gemma3" && !(layer + 1).is_multiple_of(6);
        let width = self.count("rope.dimension_count").unwrap();
        let base = if windowed {
            10_000.0
        } else {
            self.float("rope.freq_base").unwrap()
        };
        let divisor = if windowed {
            1.0
        } else {
            self.float("rope.scaling.factor").unwrap_or(1.0)
        };
        let magnitude = self.float("rope.scaling.attn_factor").unwrap_or(1.0);
        let original = self
            .count("rope.scaling.original_context_length")
            .unwrap_or(usize::MAX);
        let long = self.count("context_length").unwrap() > original;
        let by_length = if long {
            "rope_factors_long.weight"
        } else {
            "rope_factors_short.weight"
        };
        let factors = self
            .tensors
            .get("rope_freqs.weight")
            .or_else(|| self.tensors.get(by_length));
        for pair in 0..width / 2 {
            let factor = factors.map_or(1.0, |(_, factors)| factors[pair]);
            let angle =
                position as f64 * base.powf(-2.0 * pair as f64 / width as f64) / divisor / factor;
            let (first, second) = match self.architecture.as_str() {
                "llama" | "mistral" => (2 * pair, 2 * pair + 1),
                _ => (pair, pair + width / 2),
            };
            let (a, b) = (head[first], head[second]);
            head[first] = magnitude * (a * angle.cos() - b * angle.sin());
            head[second] = magnitude * (a * angle.sin() + b * angle.cos());
        }
        head
    }

    fn feed_forward(&self, layer: usize, row: &[f64]) -> Row {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let up = self.product(&name("ffn_up"), row);
        let (gate, up) = match self.architecture.as_str() {
            "phi3" => (up[..up.len() / 2].to_vec(), up[up.len() / 2..].to_vec()),
            _ => (self.product(&name("ffn_gate"), row), up),
        };
        let activation = if self.architecture == "gemma3" {
            gelu_tanh
        } else {
            silu
        };
        let gated: Row = gate
            .iter()
            .zip(&up)
            .map(|(&gate, up)| activation(gate) * up)
            .collect();
        self.product(&name("ffn_down"), &gated)
    }

    fn product(&self, name: &str, row: &[f64]) -> Row {
        let (shape, values) = &self.tensors[name];
        assert_eq!(shape[1], row.len(), "{name}");
        values
            .chunks(shape[1])
            .map(|weights| dot(weights, row))
            .collect()
    }

    fn norm(&self, name: &str, row: &[f64]) -> Row {
        let mean = row.iter().map(|value| value * value).sum::<f64>() / row.len() as f64;
        let inverse = 1.0 / (mean + self.float("attention.layer_norm_rms_epsilon").unwrap()).sqrt();
        row.iter()
            .zip(&self.tensors[name].1)
            .map(|(value, weight)| value * inverse * weight)
            .collect()
    }

    fn head_width(&self) -> usize {
        self.count("attention.key_length").unwrap_or_else(|| {
            self.count("embedding_length").unwrap() / self.count("attention.head_count").unwrap()
        })
    }

    fn count(&self, field: &str) -> Option<usize> {
        self.value(field)
            .map(|value| value.to_u32().unwrap() as usize)
    }

    fn float(&self, field: &str) -> Option<f64> {
        self.value(field)
            .map(|value| f64::from(value.to_f32().unwrap()))
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{field}", self.architecture))
    }
}

fn add(to: &mut [f64], what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(scores: &[f64]) -> Row {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Row = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}
