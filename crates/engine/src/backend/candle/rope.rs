//! Rotary position embedding on candle's tensors.

use candle_core::{Device, Result as CandleResult, Tensor};

use crate::backend::rope::{RopeSpec, RopeStyle};

/// Rotates queries and keys by their positions.
#[derive(Debug, Clone)]
pub(super) struct Rope {
    style: RopeStyle,
    width: usize,
    frequencies: Vec<f32>,
    magnitude: f32,
}

/// Cosines and sines of consecutive positions, each `[n_tokens, width / 2]`.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// `factors` is one of the tensors of [`RopeSpec::factors_names`], `[width / 2]`.
    pub(super) fn new(spec: &RopeSpec, factors: Option<&[f32]>) -> Self {
        Self {
            style: spec.style(),
            width: spec.width(),
            frequencies: spec.frequencies(factors),
            magnitude: spec.magnitude(),
        }
    }

    /// The angles of `count` positions from `first` on.
    pub(super) fn angles(&self, first: usize, count: usize) -> CandleResult<Angles> {
        let pairs = self.frequencies.len();
        let mut cos = Vec::with_capacity(count * pairs);
        let mut sin = Vec::with_capacity(count * pairs);
        for position in first..first + count {
            for frequency in &self.frequencies {
                let (sine, cosine) = (position as f32 * frequency).sin_cos();
                cos.push(cosine * self.magnitude);
                sin.push(sine * self.magnitude);
            }
        }
        Ok(Angles {
            cos: Tensor::from_vec(cos, (count, pairs), &Device::Cpu)?,
            sin: Tensor::from_vec(sin, (count, pairs), &Device::Cpu)?,
        })
    }

    /// Rotates `[heads, n_tokens, head_width]`.
    pub(super) fn rotate(&self, xs: &Tensor, angles: &Angles) -> CandleResult<Tensor> {
        let head_width = xs.dim(2)?;
        if head_width == self.width {
            return self.rotate_whole(&xs.contiguous()?, angles);
        }
        let rotated = self.rotate_whole(&xs.narrow(2, 0, self.width)?.contiguous()?, angles)?;
        let rest = xs.narrow(2, self.width, head_width - self.width)?;
        Tensor::cat(&[&rotated, &rest.contiguous()?], 2)
    }

    fn rotate_whole(&self, xs: &Tensor, angles: &Angles) -> CandleResult<Tensor> {
        let batched = xs.unsqueeze(0)?;
        match self.style {
            RopeStyle::Adjacent => {
                candle_nn::rotary_emb::rope_i(&batched, &angles.cos, &angles.sin)
            }
            RopeStyle::Halves => candle_nn::rotary_emb::rope(&batched, &angles.cos, &angles.sin),
        }?
        .squeeze(0)
    }
}
