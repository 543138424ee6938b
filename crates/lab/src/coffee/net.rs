//! The network: a small Llama (RMSNorm, rotary embedding, SwiGLU, tied embeddings) with gradients.
//!
//! All prompts share one head (the system message), so a batch computes the rows of that head once
//! and lets every sequence attend to them. Invariant: this gives what each whole sequence alone gives.
//! Absent: a KV cache and sampling; generation is the engine's.

use super::ops::{Rotation, causal_softmax, rms_norm, rotate, silu_mul};
use candle_core::{Device, Result, Tensor, Var};
use rand::Rng;

/// The shape of the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) n_vocab: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_head: usize,
    pub(crate) n_layer: usize,
    pub(crate) n_ff: usize,
}

impl Dims {
    pub(crate) fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }
}

/// Added under the root of each norm.
pub(crate) const NORM_EPS: f32 = 1e-5;
/// Base of the rotary frequencies.
pub(crate) const FREQ_BASE: f32 = 10_000.0;
/// Standard deviation of the first weights of matrices that do not add to the residual stream.
const INIT_STD: f32 = 0.05;

/// One layer's weights; matrices are `[n_in, n_out]`, so that no gradient needs a transposition.
struct Layer {
    attn_norm: Var,
    q: Var,
    k: Var,
    v: Var,
    o: Var,
    ffn_norm: Var,
    gate: Var,
    up: Var,
    down: Var,
}

/// The weights of the network.
pub(crate) struct Net {
    dims: Dims,
    embedding: Var,
    layers: Vec<Layer>,
    norm: Var,
}

/// Rows of token ids that share their first tokens.
pub(crate) struct Rows {
    /// The shared head.
    pub(crate) head: Vec<u32>,
    /// What follows the head in each sequence, padded to one length: `[n_seq * n_tail]`.
    pub(crate) tails: Vec<u32>,
    /// Length of a padded tail.
    pub(crate) n_tail: usize,
}

impl Net {
    /// A network with random weights.
    pub(crate) fn random(dims: Dims, rng: &mut impl Rng) -> Result<Self> {
        let residual = INIT_STD / (2.0 * dims.n_layer as f32).sqrt();
        let mut matrix = |n_in, n_out, std: f32| {
            let values: Vec<f32> = (0..n_in * n_out).map(|_| normal(rng) * std).collect();
            Var::from_vec(values, (n_in, n_out), &Device::Cpu)
        };
        let ones = || Var::ones(dims.n_embd, candle_core::DType::F32, &Device::Cpu);
        let (d, f) = (dims.n_embd, dims.n_ff);
        let embedding = matrix(dims.n_vocab, d, INIT_STD)?;
        let layers = (0..dims.n_layer)
            .map(|_| {
                Ok(Layer {
                    attn_norm: ones()?,
                    q: matrix(d, d, INIT_STD)?,
                    k: matrix(d, d, INIT_STD)?,
                    v: matrix(d, d, INIT_STD)?,
                    o: matrix(d, d, residual)?,
                    ffn_norm: ones()?,
                    gate: matrix(d, f, INIT_STD)?,
                    up: matrix(d, f, INIT_STD)?,
                    down: matrix(f, d, residual)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            dims,
            embedding,
            layers,
            norm: ones()?,
        })
    }

    /// The shape of the network.
    pub(crate) fn dims(&self) -> Dims {
        self.dims
    }

    /// Every weight under its GGUF name, always in the same order.
    pub(crate) fn weights(&self) -> Vec<(String, &Var)> {
        let mut weights = vec![("token_embd.weight".to_owned(), &self.embedding)];
        for (at, layer) in self.layers.iter().enumerate() {
            for (name, weight) in [
                ("attn_norm", &layer.attn_norm),
                ("attn_q", &layer.q),
                ("attn_k", &layer.k),
                ("attn_v", &layer.v),
                ("attn_output", &layer.o),
                ("ffn_norm", &layer.ffn_norm),
                ("ffn_gate", &layer.gate),
                ("ffn_up", &layer.up),
                ("ffn_down", &layer.down),
            ] {
                weights.push((format!("blk.{at}.{name}.weight"), weight));
            }
        }
        weights.push(("output_norm.weight".to_owned(), &self.norm));
        weights
    }

    /// Every weight under its GGUF name, in the layout of GGUF: matrices are `[n_out, n_in]`.
    ///
    /// # Errors
    /// When a transposition fails.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let turn = |(name, weight): (String, &Var)| {
            let is_layer_matrix = weight.rank() == 2 && name.starts_with("blk.");
            let tensor = if is_layer_matrix {
                weight.t()?.contiguous()?
            } else {
                weight.as_tensor().clone()
            };
            Ok((name, tensor))
        };
        self.weights().into_iter().map(turn).collect()
    }

    /// The logits `[n_wanted, n_vocab]` behind the wanted tokens; `wanted` indexes `rows.tails`.
    pub(crate) fn logits(&self, rows: &Rows, wanted: &[u32]) -> Result<Tensor> {
        let (n_head_rows, n_seq) = (rows.head.len(), rows.tails.len() / rows.n_tail);
        let positions = (0..n_head_rows)
            .chain((0..n_seq).flat_map(|_| n_head_rows..n_head_rows + rows.n_tail))
            .collect();
        let batch = Batch {
            n_shared: n_head_rows,
            n_seq,
            n_tail: rows.n_tail,
            rotation: Rotation::new(positions, self.dims.head_dim(), FREQ_BASE),
        };
        let ids = Tensor::from_iter(rows.head.iter().chain(&rows.tails).copied(), &Device::Cpu)?;
        let mut x = self.embedding.index_select(&ids, 0)?;
        for layer in &self.layers {
            x = self.run_layer(layer, &batch, &x)?;
        }
        let wanted = Tensor::from_iter(
            wanted.iter().map(|at| at + n_head_rows as u32),
            &Device::Cpu,
        )?;
        let x = rms_norm(&x.index_select(&wanted, 0)?, &self.norm, NORM_EPS)?;
        x.matmul(&self.embedding.t()?)
    }

    fn run_layer(&self, layer: &Layer, batch: &Batch, x: &Tensor) -> Result<Tensor> {
        let normed = rms_norm(x, &layer.attn_norm, NORM_EPS)?;
        let q = rotate(&normed.matmul(&layer.q)?, &batch.rotation)?;
        let k = rotate(&normed.matmul(&layer.k)?, &batch.rotation)?;
        let v = normed.matmul(&layer.v)?;
        let x = (x + self.attend(batch, &q, &k, &v)?.matmul(&layer.o)?)?;
        let normed = rms_norm(&x, &layer.ffn_norm, NORM_EPS)?;
        let gate = normed.matmul(&layer.gate)?;
        let up = normed.matmul(&layer.up)?;
        let x = (x + silu_mul(&gate, &up)?.matmul(&layer.down)?)?;
        Ok(x)
    }

    /// Attention of the shared rows among themselves, and of each tail to the shared rows and itself.
    fn attend(&self, batch: &Batch, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (heads, dim) = (self.dims.n_head, self.dims.head_dim());
        let (n_shared, n_tail, n_seq) = (batch.n_shared, batch.n_tail, batch.n_seq);
        let shared = |x: &Tensor| {
            let rows = x
                .narrow(0, 0, n_shared)?
                .reshape((1, n_shared, heads, dim))?;
            rows.transpose(1, 2)?.contiguous()
        };
        let tails = |x: &Tensor| {
            let rows = x.narrow(0, n_shared, n_seq * n_tail)?;
            rows.reshape((n_seq, n_tail, heads, dim))?
                .transpose(1, 2)?
                .contiguous()
        };
        let (k_shared, v_shared) = (shared(k)?, shared(v)?);
        let whole = |head: &Tensor, tail: &Tensor| {
            let head = head.broadcast_as((n_seq, heads, n_shared, dim))?;
            Tensor::cat(&[&head, tail], 2)?.contiguous()
        };
        let (k_whole, v_whole) = (whole(&k_shared, &tails(k)?)?, whole(&v_shared, &tails(v)?)?);
        let mix = |q: &Tensor, k: &Tensor, v: &Tensor| {
            let scores = q.matmul(&k.transpose(2, 3)?)?;
            let weights = causal_softmax(&scores, (dim as f32).sqrt().recip())?;
            let mixed = weights.matmul(v)?.transpose(1, 2)?;
            mixed.reshape(((), heads * dim))
        };
        let of_shared = mix(&shared(q)?, &k_shared, &v_shared)?;
        let of_tails = mix(&tails(q)?, &k_whole, &v_whole)?;
        Tensor::cat(&[&of_shared, &of_tails], 0)
    }
}

/// A deviate of the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

/// Geometry of one batch.
struct Batch {
    n_shared: usize,
    n_seq: usize,
    n_tail: usize,
    rotation: Rotation,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_shared_head_changes_no_logits() -> Result<()> {
        let dims = Dims {
            n_vocab: 32,
            n_embd: 16,
            n_head: 2,
            n_layer: 2,
            n_ff: 32,
        };
        let net = Net::random(dims, &mut ChaCha8Rng::seed_from_u64(1))?;
        let split = Rows {
            head: vec![1, 2, 3],
            tails: vec![4, 5, 6, 7, 8, 9],
            n_tail: 3,
        };
        let whole = Rows {
            head: vec![1],
            tails: vec![2, 3, 7, 8, 9],
            n_tail: 5,
        };
        let (a, b) = (net.logits(&split, &[3, 5])?, net.logits(&whole, &[2, 4])?);
        let apart = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(apart < 1e-5, "{apart}");
        Ok(())
    }
}
