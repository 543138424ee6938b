//! What the metadata of a model says about its shape, and in what the architectures differ.
//!
//! Invariant: every number is within a named bound and the numbers fit each other, so that
//! the decoder need not doubt them.

use super::rope::{RopeSpec, RopeStyle};
use crate::backend::KNOWN_ARCHITECTURES;
use crate::error::{EngineError, Result};
use crate::gguf::{Gguf, Metadata};

/// Most layers of a model.
const LAYERS_MAX: u64 = 512;
/// Most heads of a layer.
const HEADS_MAX: u64 = 512;
/// Widest embedding, and widest head times heads.
const WIDTH_MAX: u64 = 1 << 16;
/// Widest feed-forward layer.
const FEED_FORWARD_MAX: u64 = 1 << 20;
/// Longest context.
const CONTEXT_TOKENS_MAX: u64 = 16 << 20;
/// Gemma 3 looks at the whole context in every sixth layer.
const GEMMA3_GLOBAL_EVERY: u64 = 6;
/// The one size of Gemma 3 (27B) whose attention is scaled by the width over the heads.
const GEMMA3_27B_LAYERS: usize = 62;

/// The activation of the feed-forward layer's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// Layers that see only the latest tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// How many tokens they see, the current one included.
    pub(super) tokens: usize,
    /// Every so many layers, one sees everything; 0 means that none does.
    pub(super) global_every: usize,
}

/// Shape and kind of a model.
#[derive(Debug, Clone)]
pub(super) struct Architecture {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) feed_forward: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_width: usize,
    pub(super) norm_epsilon: f32,
    pub(super) attention_scale: f32,
    /// Tokens that the model was made for.
    pub(super) context_tokens: usize,
    pub(super) rope: RopeSpec,
    /// RoPE of windowed layers, where it differs.
    pub(super) rope_windowed: Option<RopeSpec>,
    pub(super) window: Option<Window>,
    pub(super) embedding_scale: Option<f32>,
    pub(super) activation: Activation,
    /// Query, key and value are one tensor, and so are gate and up.
    pub(super) fused: bool,
    /// Queries and keys are normalized per head.
    pub(super) head_norms: bool,
    /// Attention and feed-forward outputs are normalized before they are added.
    pub(super) post_norms: bool,
}

impl Architecture {
    /// # Errors
    /// [`EngineError::ArchitectureUnknown`] with the list of the known; otherwise what is missing or odd.
    pub(super) fn read(gguf: &Gguf) -> Result<Self> {
        let metadata = gguf.metadata();
        let found = metadata.string("general.architecture")?;
        let Some(&name) = KNOWN_ARCHITECTURES.iter().find(|&&known| known == found) else {
            return Err(EngineError::ArchitectureUnknown {
                architecture: found.chars().take(64).collect(),
                known: KNOWN_ARCHITECTURES,
            });
        };
        Fields { name, metadata }.architecture()
    }

    /// Whether a layer sees only the window.
    pub(super) fn is_windowed(&self, layer: usize) -> bool {
        self.window.is_some_and(|window| {
            window.global_every == 0 || !(layer + 1).is_multiple_of(window.global_every)
        })
    }
}

/// The keys under the architecture's prefix.
struct Fields<'a> {
    name: &'static str,
    metadata: &'a Metadata,
}

impl Fields<'_> {
    fn architecture(&self) -> Result<Architecture> {
        self.refuse_experts()?;
        let width = self.number("embedding_length", 1, WIDTH_MAX)?;
        let heads = self.number("attention.head_count", 1, HEADS_MAX)?;
        let kv_heads = self.number_or("attention.head_count_kv", 1, HEADS_MAX, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.odd(
                "attention.head_count_kv",
                kv_heads,
                &format!("a divisor of {heads}"),
            ));
        }
        let head_width = self.head_width(width, heads)?;
        let layers = self.number("block_count", 1, LAYERS_MAX)?;
        let context_tokens = self.number("context_length", 2, CONTEXT_TOKENS_MAX)?;
        let is_gemma3 = self.name == "gemma3";
        let scaled_width = if is_gemma3 && layers == GEMMA3_27B_LAYERS {
            width / heads
        } else {
            head_width
        };
        let rope = self.rope(head_width, context_tokens)?;
        Ok(Architecture {
            layers,
            width,
            feed_forward: self.number("feed_forward_length", 1, FEED_FORWARD_MAX)?,
            heads,
            kv_heads,
            head_width,
            norm_epsilon: self.norm_epsilon()?,
            attention_scale: 1.0 / (scaled_width as f32).sqrt(),
            context_tokens,
            rope_windowed: if is_gemma3 {
                Some(self.rope_windowed(head_width)?)
            } else {
                None
            },
            rope,
            window: self.window()?,
            embedding_scale: is_gemma3.then(|| (width as f32).sqrt()),
            activation: if is_gemma3 {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            fused: self.name == "phi3",
            head_norms: is_gemma3 || self.name == "qwen3",
            post_norms: is_gemma3,
        })
    }

    fn refuse_experts(&self) -> Result<()> {
        match self.metadata.u64_opt(&self.key("expert_count"))? {
            None | Some(0) => Ok(()),
            Some(experts) => Err(EngineError::FeatureUnsupported {
                architecture: self.name,
                feature: format!("a mixture of {experts} experts"),
            }),
        }
    }

    fn head_width(&self, width: usize, heads: usize) -> Result<usize> {
        let head_width = match self.metadata.u64_opt(&self.key("attention.key_length"))? {
            Some(_) => self.number("attention.key_length", 2, WIDTH_MAX / heads as u64)?,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                return Err(self.odd(
                    "attention.head_count",
                    heads,
                    &format!("a divisor of {width}"),
                ));
            }
        };
        let value_width = self.number_or("attention.value_length", 1, WIDTH_MAX, head_width)?;
        if value_width != head_width {
            return Err(self.odd(
                "attention.value_length",
                value_width,
                &head_width.to_string(),
            ));
        }
        if !head_width.is_multiple_of(2) {
            return Err(self.odd("attention.key_length", head_width, "an even number"));
        }
        Ok(head_width)
    }

    fn norm_epsilon(&self) -> Result<f32> {
        let key = self.key("attention.layer_norm_rms_epsilon");
        let epsilon = self.metadata.f64(&key)?;
        if !(0.0..=1.0).contains(&epsilon) {
            return Err(self.odd("attention.layer_norm_rms_epsilon", epsilon, "from 0 to 1"));
        }
        Ok(epsilon as f32)
    }

    fn window(&self) -> Result<Option<Window>> {
        let global_every = match self.name {
            "gemma3" => GEMMA3_GLOBAL_EVERY,
            "phi3" => 0,
            // Other families name a window in their metadata that their published weights do not use.
            _ => return Ok(None),
        };
        let tokens = self
            .metadata
            .u64_opt(&self.key("attention.sliding_window"))?
            .unwrap_or(0);
        if tokens == 0 {
            return Ok(None);
        }
        Ok(Some(Window {
            tokens: self.number("attention.sliding_window", 1, CONTEXT_TOKENS_MAX)?,
            global_every: usize::try_from(global_every).expect("a constant"),
        }))
    }

    fn rope(&self, head_width: usize, context_tokens: usize) -> Result<RopeSpec> {
        let default_base = if self.name == "gemma3" {
            1_000_000.0
        } else {
            10_000.0
        };
        let style = match self.name {
            // The converter reorders the weights of this family for adjacent pairs.
            "llama" | "mistral" => RopeStyle::Adjacent,
            _ => RopeStyle::Halves,
        };
        let width = self.number_or("rope.dimension_count", 2, head_width as u64, head_width)?;
        if !width.is_multiple_of(2) {
            return Err(self.odd("rope.dimension_count", width, "an even number"));
        }
        RopeSpec::read(
            self.name,
            self.metadata,
            style,
            width,
            default_base,
            context_tokens,
        )
    }

    /// Gemma 3 rotates windowed layers with a base of their own, unscaled.
    fn rope_windowed(&self, head_width: usize) -> Result<RopeSpec> {
        let base = self
            .metadata
            .f64_opt(&self.key("rope.local_freq_base"))?
            .unwrap_or(10_000.0);
        Ok(RopeSpec::plain(RopeStyle::Halves, head_width, base))
    }

    fn number(&self, field: &str, min: u64, max: u64) -> Result<usize> {
        let found = self.metadata.u64(&self.key(field))?;
        if !(min..=max).contains(&found) {
            return Err(self.odd(field, found, &format!("from {min} to {max}")));
        }
        usize::try_from(found).map_err(|_| self.odd(field, found, "a smaller number"))
    }

    fn number_or(&self, field: &str, min: u64, max: u64, default: usize) -> Result<usize> {
        match self.metadata.u64_opt(&self.key(field))? {
            Some(_) => self.number(field, min, max),
            None => Ok(default),
        }
    }

    fn odd(&self, field: &str, found: impl ToString, expected: &str) -> EngineError {
        EngineError::MetadataValue {
            key: self.key(field),
            expected: expected.to_owned(),
            found: found.to_string(),
        }
    }

    fn key(&self, field: &str) -> String {
        format!("{}.{field}", self.name)
    }
}
