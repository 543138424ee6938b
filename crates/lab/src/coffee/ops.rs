//! Fused operations with gradients, on the CPU in `f32`.
//!
//! Each replaces a chain of elementwise tensor operations; the tests compare both. All inputs are
//! contiguous. Absent: anything for other devices or types.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::Arc;

/// Scales each row to unit mean square, then by `weight`: `x [n, d]`, `weight [d]` to `[n, d]`
/// (Zhang and Sennrich 2019).
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { eps })
}

/// `silu(gate) * up`, elementwise (Shazeer 2020).
pub(crate) fn silu_mul(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SiluMul)
}

/// Softmax over the last dimension of scaled scores `[.., n_query, n_past + n_query]`; query `i` sees
/// the keys `0..=n_past + i`, the others get weight zero.
pub(crate) fn causal_softmax(scores: &Tensor, scale: f32) -> Result<Tensor> {
    scores.apply_op1(CausalSoftmax { scale })
}

/// Rotates the pairs `(2i, 2i + 1)` of each head of `x [n, n_head * head_dim]` by the angles of the
/// row's position (Su et al. 2021), the layout of the GGUF architecture `llama`.
pub(crate) fn rotate(x: &Tensor, rotation: &Rotation) -> Result<Tensor> {
    x.apply_op1(rotation.clone())
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("a fused operation needs contiguous input, found {layout:?}"),
    }
}

/// Runs `f` on the values of a contiguous tensor.
fn with_values<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(values(storage, layout)?),
        _ => bail!("a fused operation runs on the CPU only"),
    }
}

struct RmsNorm {
    eps: f32,
}

impl RmsNorm {
    fn inverse_root(&self, row: &[f32]) -> f32 {
        let square: f32 = sum(row.iter().map(|x| x * x));
        (square / row.len() as f32 + self.eps).sqrt().recip()
    }
}

/// Adds in eight lanes, which the compiler turns into vector additions.
fn sum(items: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (at, item) in items.enumerate() {
        lanes[at % 8] += item;
    }
    lanes.iter().sum()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (values(x, x_layout)?, values(weight, weight_layout)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(weight.len()) {
            let r = self.inverse_root(row);
            out.extend(row.iter().zip(weight).map(|(x, w)| x * r * w));
        }
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let mut x_grad = Vec::with_capacity(x.elem_count());
        let mut weight_grad = vec![0.0_f32; width];
        with_values(x, |xs| {
            with_values(weight, |w| {
                with_values(grad, |grads| {
                    for (row, g) in xs.chunks_exact(width).zip(grads.chunks_exact(width)) {
                        let r = self.inverse_root(row);
                        let dot: f32 = (0..width).map(|i| row[i] * g[i] * w[i]).sum();
                        let pull = dot * r * r * r / width as f32;
                        x_grad.extend((0..width).map(|i| g[i] * w[i] * r - row[i] * pull));
                        for (sum, (x, g)) in weight_grad.iter_mut().zip(row.iter().zip(g)) {
                            *sum += x * g * r;
                        }
                    }
                    Ok(())
                })
            })
        })?;
        let device = x.device();
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), device)?),
            Some(Tensor::from_vec(weight_grad, weight.shape(), device)?),
        ))
    }
}

struct SiluMul;

fn sigmoid(x: f32) -> f32 {
    (1.0 + (-x).exp()).recip()
}

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu-mul"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(gate, gate_layout)?, values(up, up_layout)?);
        let out = gate
            .iter()
            .zip(up)
            .map(|(&g, u)| g * sigmoid(g) * u)
            .collect();
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gate_grad = Vec::with_capacity(gate.elem_count());
        let mut up_grad = Vec::with_capacity(gate.elem_count());
        with_values(gate, |gates| {
            with_values(up, |ups| {
                with_values(grad, |grads| {
                    for ((&gate, &up), &grad) in gates.iter().zip(ups).zip(grads) {
                        let s = sigmoid(gate);
                        up_grad.push(grad * gate * s);
                        gate_grad.push(grad * up * s * (1.0 + gate * (1.0 - s)));
                    }
                    Ok(())
                })
            })
        })?;
        let device = gate.device();
        Ok((
            Some(Tensor::from_vec(gate_grad, gate.shape(), device)?),
            Some(Tensor::from_vec(up_grad, up.shape(), device)?),
        ))
    }
}

struct CausalSoftmax {
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let [.., n_query, n_key] = *layout.dims() else {
            bail!("causal softmax needs scores of at least two dimensions");
        };
        let mut out = values(scores, layout)?.to_vec();
        for (at, row) in out.chunks_exact_mut(n_key).enumerate() {
            let (seen, unseen) = row.split_at_mut(n_key - n_query + at % n_query + 1);
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for score in &mut *seen {
                *score = ((*score - max) * self.scale).exp();
            }
            let norm = sum(seen.iter().copied()).recip();
            seen.iter_mut().for_each(|weight| *weight *= norm);
            unseen.fill(0.0);
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, weights: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let n_key = scores.dim(candle_core::D::Minus1)?;
        let mut out = Vec::with_capacity(scores.elem_count());
        with_values(weights, |weights| {
            with_values(grad, |grads| {
                for (w, g) in weights.chunks_exact(n_key).zip(grads.chunks_exact(n_key)) {
                    let dot = sum(w.iter().zip(g).map(|(w, g)| w * g));
                    out.extend(w.iter().zip(g).map(|(w, g)| self.scale * w * (g - dot)));
                }
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(
            out,
            scores.shape(),
            scores.device(),
        )?))
    }
}

/// The rotations of the rows of one batch.
#[derive(Clone)]
pub(crate) struct Rotation {
    /// Position of each row.
    positions: Arc<Vec<usize>>,
    /// `(cos, sin)` of each position and pair: `[n_position][head_dim / 2]`.
    angles: Arc<Vec<Vec<(f32, f32)>>>,
    /// 1 for the rotation, -1 for its inverse, which is its gradient.
    direction: f32,
}

impl Rotation {
    /// Rotations for rows at the given positions.
    pub(crate) fn new(positions: Vec<usize>, head_dim: usize, freq_base: f32) -> Self {
        let count = positions.iter().max().map_or(0, |last| last + 1);
        let angle = |position: usize, pair: usize| {
            let turn = freq_base.powf(-((2 * pair) as f32) / head_dim as f32);
            let (sin, cos) = (position as f32 * turn).sin_cos();
            (cos, sin)
        };
        let angles = (0..count)
            .map(|position| {
                (0..head_dim / 2)
                    .map(|pair| angle(position, pair))
                    .collect()
            })
            .collect();
        Self {
            positions: Arc::new(positions),
            angles: Arc::new(angles),
            direction: 1.0,
        }
    }
}

impl CustomOp1 for Rotation {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n_row, width) = layout.shape().dims2()?;
        if n_row != self.positions.len() {
            bail!("{n_row} rows for {} positions", self.positions.len());
        }
        let mut out = values(x, layout)?.to_vec();
        for (row, &position) in out.chunks_exact_mut(width).zip(&*self.positions) {
            let angles = &self.angles[position];
            for head in row.chunks_exact_mut(2 * angles.len()) {
                for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
                    let (a, b, sin) = (pair[0], pair[1], sin * self.direction);
                    pair[0] = a * cos - b * sin;
                    pair[1] = a * sin + b * cos;
                }
            }
        }
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self {
            direction: -self.direction,
            ..self.clone()
        };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, Device, Var};

    fn var(shape: impl Into<Shape>, seed: f32) -> Var {
        let shape = shape.into();
        let values = (0..shape.elem_count())
            .map(|i| ((i as f32 + seed) * 1.7).sin())
            .collect();
        Var::from_vec(values, shape, &Device::Cpu).expect("the shape fits")
    }

    /// Compares values and gradients of two ways to compute the same thing.
    fn check(inputs: &[&Var], fused: &Tensor, plain: &Tensor) {
        let pull = var(fused.shape(), 0.3);
        let grads = |out: &Tensor| (out * pull.as_tensor())?.sum_all()?.backward();
        let (fused_grads, plain_grads) =
            (grads(fused).expect("fused"), grads(plain).expect("plain"));
        assert_close(fused, plain);
        for input in inputs {
            let of = |grads: &candle_core::backprop::GradStore| {
                grads
                    .get(input)
                    .expect("every input has a gradient")
                    .clone()
            };
            assert_close(&of(&fused_grads), &of(&plain_grads));
        }
    }

    fn assert_close(a: &Tensor, b: &Tensor) {
        let apart = (a - b).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>());
        assert!(apart.as_ref().is_ok_and(|&apart| apart < 2e-5), "{apart:?}");
    }

    #[test]
    fn rms_norm_equals_its_definition() -> Result<()> {
        let (x, w) = (var((5, 16), 1.0), var(16, 2.0));
        let root = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        let plain = x.broadcast_div(&root)?.broadcast_mul(&w)?;
        check(&[&x, &w], &rms_norm(&x, &w, 1e-5)?, &plain);
        Ok(())
    }

    #[test]
    fn silu_mul_equals_its_definition() -> Result<()> {
        let (gate, up) = (var((4, 8), 1.0), var((4, 8), 5.0));
        let plain = (gate.silu()? * up.as_tensor())?;
        check(&[&gate, &up], &silu_mul(&gate, &up)?, &plain);
        Ok(())
    }

    #[test]
    fn causal_softmax_equals_a_masked_softmax() -> Result<()> {
        let scores = var((2, 3, 5), 1.0);
        let mask: Vec<f32> = (0..15)
            .map(|i| {
                if i % 5 > 2 + i / 5 {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, (3, 5), &Device::Cpu)?;
        let masked = (scores.as_tensor() * 0.5)?.broadcast_add(&mask)?;
        let plain = candle_nn::ops::softmax(&masked, D::Minus1)?;
        check(&[&scores], &causal_softmax(&scores, 0.5)?, &plain);
        Ok(())
    }

    #[test]
    fn rotate_equals_the_interleaved_rotary_embedding() -> Result<()> {
        let x = var((3, 8), 1.0);
        let rotation = Rotation::new(vec![0, 1, 2], 4, 10_000.0);
        let angle = |f: fn(f32) -> f32| {
            let values = (0..6)
                .map(|i| f((i / 2) as f32 * 100_f32.powi(-(i % 2))))
                .collect();
            Tensor::from_vec(values, (3, 2), &Device::Cpu)
        };
        let heads = x.reshape((1, 3, 2, 4))?.transpose(1, 2)?.contiguous()?;
        let plain =
            candle_nn::rotary_emb::rope_i_slow(&heads, &angle(f32::cos)?, &angle(f32::sin)?)?
                .transpose(1, 2)?
                .reshape((3, 8))?;
        check(&[&x], &rotate(&x, &rotation)?, &plain);
        Ok(())
    }
}
