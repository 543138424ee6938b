//! Rotary position embedding, with the scalings that model files ask for.
//!
//! Sources: RoFormer (arXiv:2104.09864); position interpolation (arXiv:2306.15595);
//! YaRN (arXiv:2309.00071, section 3); LongRoPE (arXiv:2402.13753). The per-dimension factors of
//! Llama 3.1 and Phi-3 come as tensors of the file.

pub(super) use postern_kernels::RopeStyle;

use crate::error::{EngineError, Result};
use crate::gguf::Metadata;

/// Rotations within the original context at which YaRN stops interpolating, and at which it interpolates fully.
const YARN_BETA_FAST: f64 = 32.0;
const YARN_BETA_SLOW: f64 = 1.0;

/// How a context beyond the original one is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// Positions are divided by the factor (1 leaves them alone).
    Linear { factor: f64 },
    /// Low frequencies are interpolated, high ones are not.
    Yarn { factor: f64 },
}

/// What the metadata says about rotation.
#[derive(Debug, Clone)]
pub(super) struct RopeSpec {
    style: RopeStyle,
    /// Elements of a head that are rotated.
    width: usize,
    base: f64,
    scaling: Scaling,
    /// What cosines and sines are multiplied by.
    attention_factor: f64,
    /// The context before it was extended.
    original_context_tokens: usize,
}

impl RopeSpec {
    pub(super) fn plain(style: RopeStyle, width: usize, base: f64) -> Self {
        Self {
            style,
            width,
            base,
            scaling: Scaling::Linear { factor: 1.0 },
            attention_factor: 1.0,
            original_context_tokens: usize::MAX,
        }
    }

    pub(super) fn read(
        architecture: &'static str,
        metadata: &Metadata,
        style: RopeStyle,
        width: usize,
        default_base: f64,
        context_tokens: usize,
    ) -> Result<Self> {
        let key = |field: &str| format!("{architecture}.rope.{field}");
        let positive = |field: &str, default: f64| -> Result<f64> {
            match metadata.f64_opt(&key(field))? {
                None => Ok(default),
                Some(number) if number > 0.0 && number <= 1e12 => Ok(number),
                Some(number) => Err(EngineError::MetadataValue {
                    key: key(field),
                    expected: "a number above 0 and up to 1e12".to_owned(),
                    found: number.to_string(),
                }),
            }
        };
        let factor = positive("scaling.factor", positive("scale_linear", 1.0)?)?;
        let scaling = match metadata.string_opt(&key("scaling.type"))? {
            None | Some("linear") => Scaling::Linear { factor },
            // The factors of LongRoPE come as tensors, which files bring whether or not they name the type.
            Some("none" | "longrope") => Scaling::Linear { factor: 1.0 },
            Some("yarn") => Scaling::Yarn { factor },
            Some(other) => {
                let feature = format!("RoPE scaling {other:?}");
                return Err(EngineError::FeatureUnsupported {
                    architecture,
                    feature,
                });
            }
        };
        let original_context_tokens = metadata.u64_opt(&key("scaling.original_context_length"))?;
        Ok(Self {
            base: positive("freq_base", default_base)?,
            attention_factor: positive("scaling.attn_factor", 1.0)?,
            original_context_tokens: original_context_tokens.map_or(context_tokens, |tokens| {
                usize::try_from(tokens).unwrap_or(usize::MAX).max(1)
            }),
            style,
            width,
            scaling,
        })
    }

    /// Elements of a head that are rotated.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The tensors that divide the frequencies in a context of this length; the first that a file has counts.
    pub(super) fn factors_names(&self, context_tokens: usize) -> [&'static str; 2] {
        let by_length = match context_tokens > self.original_context_tokens {
            true => "rope_factors_long.weight",
            false => "rope_factors_short.weight",
        };
        ["rope_freqs.weight", by_length]
    }

    /// Which elements form a pair.
    pub(super) fn style(&self) -> RopeStyle {
        self.style
    }

    /// Frequencies of the pairs; `factors` is one of the tensors of [`Self::factors_names`], `[width / 2]`.
    pub(super) fn frequencies(&self, factors: Option<&[f32]>) -> Vec<f32> {
        (0..self.width / 2)
            .map(|pair| {
                let plain = self.base.powf(-2.0 * pair as f64 / self.width as f64);
                let divided = plain / factors.map_or(1.0, |factors| f64::from(factors[pair]));
                self.scaled(divided, pair) as f32
            })
            .collect()
    }

    fn scaled(&self, frequency: f64, pair: usize) -> f64 {
        match self.scaling {
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Yarn { factor } => {
                let low = self.yarn_pair(YARN_BETA_FAST).floor().max(0.0);
                let high = self
                    .yarn_pair(YARN_BETA_SLOW)
                    .ceil()
                    .min(self.width as f64 - 1.0);
                let ramp = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                frequency / factor * ramp + frequency * (1.0 - ramp)
            }
        }
    }

    /// The pair that turns `rotations` times within the original context.
    fn yarn_pair(&self, rotations: f64) -> f64 {
        let wavelengths = self.original_context_tokens as f64 / (rotations * std::f64::consts::TAU);
        self.width as f64 * wavelengths.ln() / (2.0 * self.base.ln())
    }

    /// What cosines and sines are multiplied by.
    pub(super) fn magnitude(&self) -> f32 {
        let magnitude = match self.scaling {
            Scaling::Linear { .. } => self.attention_factor,
            Scaling::Yarn { factor } => self.attention_factor * (1.0 + 0.1 * factor.ln()),
        };
        magnitude as f32
    }
}
