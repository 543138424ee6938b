//! The published shapes of the models that are measured, and the tensors that follow from them.
//!
//! Invariant: names and dimensions are those that llama.cpp and the engine look for in a GGUF file. Each of these
//! models uses its embeddings as the output matrix too.
//! Absent: how a tensor is stored, and its values.

/// What a decoder of the llama family looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Name in tables and file names.
    pub name: &'static str,
    /// `general.architecture`: llama, qwen2 or qwen3.
    pub architecture: &'static str,
    /// Decoder blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside of the feed-forward part.
    pub feed_forward: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Tokens, padding included.
    pub vocabulary: usize,
    /// Tokens that the model was made for.
    pub context_tokens: u32,
    /// Base of the rotation's frequencies.
    pub rope_base: f32,
    /// Added under the root of the norms.
    pub rms_epsilon: f32,
    /// How text is cut into words (`tokenizer.ggml.pre`); it names the model's own vocabulary too.
    pub pre_tokenizer: &'static str,
}

/// The models that are measured, with the numbers of their published `config.json`.
pub fn published() -> [Shape; 4] {
    let qwen2 = Shape {
        name: "qwen2.5-0.5b",
        architecture: "qwen2",
        layers: 24,
        width: 896,
        feed_forward: 4864,
        heads: 14,
        kv_heads: 2,
        head_width: 64,
        vocabulary: 151_936,
        context_tokens: 32_768,
        rope_base: 1e6,
        rms_epsilon: 1e-6,
        pre_tokenizer: "qwen2",
    };
    [
        qwen2.clone(),
        Shape {
            name: "qwen2.5-1.5b",
            layers: 28,
            width: 1536,
            feed_forward: 8960,
            heads: 12,
            head_width: 128,
            ..qwen2.clone()
        },
        Shape {
            name: "llama-3.2-1b",
            architecture: "llama",
            layers: 16,
            width: 2048,
            feed_forward: 8192,
            heads: 32,
            kv_heads: 8,
            head_width: 64,
            vocabulary: 128_256,
            context_tokens: 131_072,
            rope_base: 5e5,
            rms_epsilon: 1e-5,
            pre_tokenizer: "llama-bpe",
        },
        Shape {
            name: "qwen3-0.6b",
            architecture: "qwen3",
            layers: 28,
            width: 1024,
            feed_forward: 3072,
            heads: 16,
            kv_heads: 8,
            head_width: 128,
            context_tokens: 40_960,
            ..qwen2
        },
    ]
}

/// A shape of no published model, to try the harness with: it is made and measured within seconds.
pub fn tiny() -> Shape {
    Shape {
        name: "tiny",
        architecture: "qwen3",
        layers: 2,
        width: 256,
        feed_forward: 512,
        heads: 4,
        kv_heads: 2,
        head_width: 64,
        vocabulary: 1024,
        context_tokens: 4096,
        rope_base: 1e6,
        rms_epsilon: 1e-6,
        pre_tokenizer: "qwen2",
    }
}

/// What a tensor is for; it decides about its values and its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Embeddings that are the output matrix too.
    Embedding,
    /// The matrix that makes values.
    AttentionValue,
    /// The matrix back from the feed-forward width.
    FeedForwardDown,
    /// Any other matrix.
    Matrix,
    /// Weights of a norm.
    Norm,
    /// Added to a product.
    Bias,
    /// Divisors of the rotation's frequencies.
    RopeFactors,
}

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorShape {
    pub(crate) name: String,
    /// Rows and columns of a matrix, or the length of a vector.
    pub(crate) dims: Vec<usize>,
    pub(crate) part: Part,
    /// The decoder block, 0 for what belongs to none.
    pub(crate) layer: usize,
}

impl Shape {
    /// Bytes of the KV cache of `tokens` tokens in 16-bit floats.
    pub fn kv_bytes(&self, tokens: usize) -> u64 {
        const KEYS_AND_VALUES: usize = 2;
        const BYTES_PER_VALUE: usize = 2;
        let values = self.layers * KEYS_AND_VALUES * self.kv_heads * self.head_width * tokens;
        (values * BYTES_PER_VALUE) as u64
    }

    /// Every tensor, in the order of the file.
    pub(crate) fn tensors(&self) -> Vec<TensorShape> {
        let tensor = |name: String, dims: &[usize], part, layer| TensorShape {
            name,
            dims: dims.to_vec(),
            part,
            layer,
        };
        let mut tensors = vec![
            tensor(
                "token_embd.weight".to_owned(),
                &[self.vocabulary, self.width],
                Part::Embedding,
                0,
            ),
            tensor(
                "output_norm.weight".to_owned(),
                &[self.width],
                Part::Norm,
                0,
            ),
        ];
        if self.architecture == "llama" {
            let pairs = self.head_width / 2;
            tensors.push(tensor(
                "rope_freqs.weight".to_owned(),
                &[pairs],
                Part::RopeFactors,
                0,
            ));
        }
        for layer in 0..self.layers {
            let block = self.block();
            tensors.extend(block.into_iter().map(|(name, dims, part)| {
                tensor(format!("blk.{layer}.{name}"), &dims, part, layer)
            }));
        }
        tensors
    }

    /// The tensors of one decoder block.
    fn block(&self) -> Vec<(&'static str, Vec<usize>, Part)> {
        let (width, inner) = (self.width, self.feed_forward);
        let (queries, keys) = (
            self.heads * self.head_width,
            self.kv_heads * self.head_width,
        );
        let mut block = vec![
            ("attn_norm.weight", vec![width], Part::Norm),
            ("attn_q.weight", vec![queries, width], Part::Matrix),
            ("attn_k.weight", vec![keys, width], Part::Matrix),
            ("attn_v.weight", vec![keys, width], Part::AttentionValue),
            ("attn_output.weight", vec![width, queries], Part::Matrix),
            ("ffn_norm.weight", vec![width], Part::Norm),
            ("ffn_gate.weight", vec![inner, width], Part::Matrix),
            ("ffn_up.weight", vec![inner, width], Part::Matrix),
            ("ffn_down.weight", vec![width, inner], Part::FeedForwardDown),
        ];
        match self.architecture {
            "qwen2" => block.extend([
                ("attn_q.bias", vec![queries], Part::Bias),
                ("attn_k.bias", vec![keys], Part::Bias),
                ("attn_v.bias", vec![keys], Part::Bias),
            ]),
            "qwen3" => block.extend([
                ("attn_q_norm.weight", vec![self.head_width], Part::Norm),
                ("attn_k_norm.weight", vec![self.head_width], Part::Norm),
            ]),
            _ => {}
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_have_the_published_numbers_of_parameters() {
        let millions: Vec<(&str, usize)> = published()
            .iter()
            .map(|shape| {
                let weights: usize = shape
                    .tensors()
                    .iter()
                    .filter(|tensor| tensor.part != Part::RopeFactors)
                    .map(|tensor| tensor.dims.iter().product::<usize>())
                    .sum();
                (shape.name, weights / 1_000_000)
            })
            .collect();
        assert_eq!(
            millions,
            [
                ("qwen2.5-0.5b", 494),
                ("qwen2.5-1.5b", 1543),
                ("llama-3.2-1b", 1235),
                ("qwen3-0.6b", 596),
            ]
        );
    }

    #[test]
    fn a_cache_of_1024_tokens_takes_what_its_heads_take() {
        // 24 layers, keys and values, 2 heads of 64, 2 bytes.
        assert_eq!(published()[0].kv_bytes(1024), 24 * 2 * 2 * 64 * 2 * 1024);
    }
}
