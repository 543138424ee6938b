//! The decoder-only transformer of the llama, Qwen 2 and Qwen 3 families, on packed weights.
//!
//! One pass appends rows to one or more sequences: embed; then for each layer attention and feed-forward, each normalized
//! before and added after; then the logits of the last row of each sequence. All buffers are made once.

use postern_kernels::{
    Activations, Attention, FloatBuffer, Input, KvCache, PackedMatrix, Pool, Product, RopeStyle,
    RopeTable, Span, matmul, rms_norm_rows,
};

use super::sequences::shape;
use super::weights::{Linear, Tensors};
use crate::backend::architecture::Architecture;
use crate::backend::rope::RopeSpec;
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model_file::ModelReader;

/// Most sequences that one pass over the weights serves.
pub(super) const BATCH_MAX: usize = 16;

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// The weights of a model, its threads, and the buffers of a pass.
pub(super) struct Decoder {
    pool: Pool,
    architecture: Architecture,
    embedding: PackedMatrix,
    /// Absent where the embedding is the output, too.
    output: Option<PackedMatrix>,
    norm: Vec<f32>,
    layers: Vec<Layer>,
    rope: RopeTable,
    rope_style: RopeStyle,
    rows_max: usize,
    buffers: Buffers,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    attention_output: Linear,
    feed_forward_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// What a pass over up to `rows_max` rows needs.
struct Buffers {
    activations: Activations,
    attention: Attention,
    positions: Vec<usize>,
    /// `[rows, width]`.
    hidden: FloatBuffer,
    /// `[sequences, width]`.
    last_rows: FloatBuffer,
    /// `[rows, heads * head_width]`.
    queries: FloatBuffer,
    attended: FloatBuffer,
    /// `[rows, kv_heads * head_width]`.
    keys: FloatBuffer,
    values: FloatBuffer,
    /// `[rows, feed_forward]`.
    gate: FloatBuffer,
    up: FloatBuffer,
    /// `[sequences, vocabulary]`, where there is more than one.
    logits: FloatBuffer,
}

impl Decoder {
    pub(super) fn load(
        mut pool: Pool,
        reader: &mut ModelReader<'_>,
        gguf: &Gguf,
        architecture: Architecture,
        context_tokens: usize,
        rows_max: usize,
    ) -> Result<Self> {
        let mut tensors = Tensors::read(&mut pool, reader, gguf)?;
        let width = architecture.width;
        let vocabulary = tensors.rows(EMBEDDING).unwrap_or(0);
        let embedding = tensors.matrix(EMBEDDING, vocabulary, width)?;
        let output = match tensors.has_matrix(OUTPUT) {
            true => Some(tensors.matrix(OUTPUT, vocabulary, width)?),
            false => None,
        };
        let layers = (0..architecture.layers)
            .map(|layer| Layer::load(&mut tensors, &architecture, layer))
            .collect::<Result<Vec<_>>>()?;
        let keep_floats = layers
            .iter()
            .flat_map(Layer::linears)
            .map(|linear| &linear.matrix)
            .chain([output.as_ref().unwrap_or(&embedding)])
            .any(|matrix| matrix.format().block_elements() == 1);
        Ok(Self {
            rope: load_rope(&mut tensors, &architecture.rope, context_tokens)?,
            rope_style: architecture.rope.style(),
            norm: tensors.vector("output_norm.weight", width)?,
            buffers: Buffers::new(&pool, &architecture, rows_max, vocabulary, keep_floats),
            embedding,
            output,
            layers,
            pool,
            architecture,
            rows_max,
        })
    }

    /// Number of logits.
    pub(super) fn vocabulary(&self) -> usize {
        self.embedding.rows()
    }

    /// Most rows of one pass.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Appends `tokens`, which are the rows of the spans one after another. `logits` is empty, or gets for each span
    /// the logits that follow its last row.
    pub(super) fn forward(
        &mut self,
        cache: &mut KvCache,
        spans: &[Span<'_>],
        tokens: &[u32],
        logits: &mut [Vec<f32>],
    ) {
        self.embed(spans, tokens);
        for layer in 0..self.layers.len() {
            self.attend(layer, cache, spans);
            self.feed_forward(layer);
        }
        if !logits.is_empty() {
            self.logits(spans, logits);
        }
    }

    fn embed(&mut self, spans: &[Span<'_>], tokens: &[u32]) {
        let Self {
            pool,
            embedding,
            buffers,
            architecture,
            ..
        } = self;
        buffers.positions.clear();
        for span in spans {
            buffers
                .positions
                .extend(span.first_position..span.first_position + span.tokens);
        }
        let hidden = buffers.hidden.first_mut(tokens.len() * architecture.width);
        let rows = hidden.chunks_exact_mut(architecture.width);
        for (&token, row) in tokens.iter().zip(rows) {
            embedding.row(pool.cpu(), token as usize, row);
        }
    }

    fn attend(&mut self, layer: usize, cache: &mut KvCache, spans: &[Span<'_>]) {
        let Self {
            pool,
            architecture,
            layers,
            buffers,
            ..
        } = self;
        let Architecture {
            width,
            heads,
            kv_heads,
            head_width,
            norm_epsilon: epsilon,
            ..
        } = *architecture;
        let (rows, weights) = (buffers.positions.len(), &layers[layer]);
        let (query_width, kv_width) = (heads * head_width, kv_heads * head_width);
        let normed = Input::Normed {
            values: buffers.hidden.first(rows * width),
            weight: &weights.attention_norm,
            epsilon,
        };
        buffers.activations.quantize(pool, normed, width);
        let queries = buffers.queries.first_mut(rows * query_width);
        let keys = buffers.keys.first_mut(rows * kv_width);
        let values = buffers.values.first_mut(rows * kv_width);
        matmul(
            pool,
            &buffers.activations,
            &mut [
                weights.query.product(queries),
                weights.key.product(keys),
                weights.value.product(values),
            ],
        );
        if let Some(norm) = &weights.query_norm {
            rms_norm_rows(pool, queries, norm, epsilon);
        }
        if let Some(norm) = &weights.key_norm {
            rms_norm_rows(pool, keys, norm, epsilon);
        }
        let (style, positions) = (self.rope_style, &buffers.positions[..]);
        self.rope
            .rotate(pool, style, queries, heads, head_width, positions);
        self.rope
            .rotate(pool, style, keys, kv_heads, head_width, positions);
        let mut row = 0;
        for &span in spans {
            let part = row * kv_width..(row + span.tokens) * kv_width;
            cache.write(pool, layer, span, &keys[part.clone()], &values[part]);
            row += span.tokens;
        }
        let attended = buffers.attended.first_mut(rows * query_width);
        let scale = architecture.attention_scale;
        buffers
            .attention
            .attend(pool, cache, layer, spans, queries, scale, attended);
        let attended = Input::Plain(attended);
        buffers.activations.quantize(pool, attended, query_width);
        let hidden = buffers.hidden.first_mut(rows * width);
        matmul(
            pool,
            &buffers.activations,
            &mut [weights.attention_output.added_to(hidden)],
        );
    }

    fn feed_forward(&mut self, layer: usize) {
        let Self {
            pool,
            architecture,
            layers,
            buffers,
            ..
        } = self;
        let (width, inner) = (architecture.width, architecture.feed_forward);
        let (rows, weights) = (buffers.positions.len(), &layers[layer]);
        let normed = Input::Normed {
            values: buffers.hidden.first(rows * width),
            weight: &weights.feed_forward_norm,
            epsilon: architecture.norm_epsilon,
        };
        buffers.activations.quantize(pool, normed, width);
        let gate = buffers.gate.first_mut(rows * inner);
        let up = buffers.up.first_mut(rows * inner);
        matmul(
            pool,
            &buffers.activations,
            &mut [weights.gate.product(gate), weights.up.product(up)],
        );
        let gated = Input::Gated { gate, up };
        buffers.activations.quantize(pool, gated, inner);
        let hidden = buffers.hidden.first_mut(rows * width);
        matmul(
            pool,
            &buffers.activations,
            &mut [weights.down.added_to(hidden)],
        );
    }

    fn logits(&mut self, spans: &[Span<'_>], logits: &mut [Vec<f32>]) {
        let Self {
            pool,
            architecture,
            buffers,
            ..
        } = self;
        let width = architecture.width;
        let last_rows = buffers.last_rows.first_mut(spans.len() * width);
        let hidden = buffers.hidden.first(buffers.positions.len() * width);
        let mut end = 0;
        for (span, last) in spans.iter().zip(last_rows.chunks_exact_mut(width)) {
            end += span.tokens;
            last.copy_from_slice(&hidden[(end - 1) * width..end * width]);
        }
        let normed = Input::Normed {
            values: last_rows,
            weight: &self.norm,
            epsilon: architecture.norm_epsilon,
        };
        buffers.activations.quantize(pool, normed, width);
        let matrix = self.output.as_ref().unwrap_or(&self.embedding);
        let vocabulary = matrix.rows();
        let mut product = |out| {
            matmul(pool, &buffers.activations, &mut [Product::new(matrix, out)]);
        };
        if let [logits] = logits {
            product(resized(logits, vocabulary));
            return;
        }
        let out = buffers.logits.first_mut(spans.len() * vocabulary);
        product(out);
        for (logits, row) in logits.iter_mut().zip(out.chunks_exact(vocabulary)) {
            resized(logits, vocabulary).copy_from_slice(row);
        }
    }
}

/// The vector with this length; what is in it does not matter.
fn resized(vector: &mut Vec<f32>, length: usize) -> &mut [f32] {
    vector.resize(length, 0.0);
    vector
}

impl Linear {
    fn product<'a>(&'a self, out: &'a mut [f32]) -> Product<'a> {
        Product {
            bias: self.bias.as_deref(),
            ..Product::new(&self.matrix, out)
        }
    }

    fn added_to<'a>(&'a self, out: &'a mut [f32]) -> Product<'a> {
        Product {
            accumulate: true,
            ..self.product(out)
        }
    }
}

impl Buffers {
    fn new(
        pool: &Pool,
        architecture: &Architecture,
        rows: usize,
        vocabulary: usize,
        keep_floats: bool,
    ) -> Self {
        let Architecture {
            width,
            feed_forward,
            heads,
            kv_heads,
            head_width,
            ..
        } = *architecture;
        let columns_max = width.max(feed_forward).max(heads * head_width);
        Self {
            activations: Activations::new(pool.cpu(), rows, columns_max, keep_floats),
            attention: Attention::new(shape(architecture), heads),
            positions: Vec::with_capacity(rows),
            hidden: FloatBuffer::new(rows * width),
            last_rows: FloatBuffer::new(BATCH_MAX * width),
            queries: FloatBuffer::new(rows * heads * head_width),
            attended: FloatBuffer::new(rows * heads * head_width),
            keys: FloatBuffer::new(rows * kv_heads * head_width),
            values: FloatBuffer::new(rows * kv_heads * head_width),
            gate: FloatBuffer::new(rows * feed_forward),
            up: FloatBuffer::new(rows * feed_forward),
            logits: FloatBuffer::new(BATCH_MAX * vocabulary),
        }
    }
}

fn load_rope(tensors: &mut Tensors, spec: &RopeSpec, context_tokens: usize) -> Result<RopeTable> {
    let names = spec.factors_names(context_tokens);
    let factors = match names.into_iter().find(|name| tensors.has_vector(name)) {
        Some(name) => Some(tensors.vector(name, spec.width() / 2)?),
        None => None,
    };
    Ok(RopeTable::new(
        &spec.frequencies(factors.as_deref()),
        spec.magnitude(),
        context_tokens,
    ))
}

impl Layer {
    fn load(tensors: &mut Tensors, architecture: &Architecture, layer: usize) -> Result<Self> {
        let Architecture {
            width,
            feed_forward,
            heads,
            kv_heads,
            head_width,
            head_norms,
            ..
        } = *architecture;
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut head_norm = |part: &str| match head_norms {
            true => tensors.vector(&name(part), head_width).map(Some),
            false => Ok(None),
        };
        let query_norm = head_norm("attn_q_norm.weight")?;
        let key_norm = head_norm("attn_k_norm.weight")?;
        let (query_width, kv_width) = (heads * head_width, kv_heads * head_width);
        Ok(Self {
            attention_norm: tensors.vector(&name("attn_norm.weight"), width)?,
            query: tensors.linear(&name("attn_q"), query_width, width)?,
            key: tensors.linear(&name("attn_k"), kv_width, width)?,
            value: tensors.linear(&name("attn_v"), kv_width, width)?,
            query_norm,
            key_norm,
            attention_output: tensors.linear(&name("attn_output"), width, query_width)?,
            feed_forward_norm: tensors.vector(&name("ffn_norm.weight"), width)?,
            gate: tensors.linear(&name("ffn_gate"), feed_forward, width)?,
            up: tensors.linear(&name("ffn_up"), feed_forward, width)?,
            down: tensors.linear(&name("ffn_down"), width, feed_forward)?,
        })
    }

    fn linears(&self) -> [&Linear; 7] {
        [
            &self.query,
            &self.key,
            &self.value,
            &self.attention_output,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }
}
