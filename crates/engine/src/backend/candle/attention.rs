//! The KV cache of a sequence, and attention over it.
//!
//! Invariant: a cache belongs to one sequence; its tensors are made here, written in place and
//! never shared.

use candle_core::{DType, Device, Result, Tensor};

/// Tokens that the first allocation of a cache holds; it doubles from there up to the context.
const CAPACITY_TOKENS_MIN: usize = 256;

/// Keys and values of one sequence.
pub(super) struct KvCache {
    layers: Vec<LayerCache>,
    tokens: usize,
}

impl KvCache {
    pub(super) fn new(layers: usize, context_tokens: usize) -> Self {
        let layers = (0..layers)
            .map(|_| LayerCache {
                stored: None,
                context_tokens,
            })
            .collect();
        Self { layers, tokens: 0 }
    }

    /// Tokens of the sequence so far.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    pub(super) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Makes what a whole pass has written part of the sequence. A pass that fails half-way is not.
    pub(super) fn advance(&mut self, count: usize) {
        self.tokens += count;
    }
}

/// Keys and values of one layer, each `[kv_heads, capacity, head_width]`.
pub(super) struct LayerCache {
    stored: Option<(Tensor, Tensor)>,
    context_tokens: usize,
}

impl LayerCache {
    /// Writes keys and values `[kv_heads, n_tokens, head_width]` from position `first` on.
    pub(super) fn write(&mut self, first: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        let needed = first + keys.dim(1)?;
        let (stored_keys, stored_values) = self.reserve(first, needed, keys.dims3()?)?;
        stored_keys.slice_set(keys, 1, first)?;
        stored_values.slice_set(values, 1, first)
    }

    /// Keys and values of positions `first..end`.
    pub(super) fn range(&self, first: usize, end: usize) -> Result<(Tensor, Tensor)> {
        let Some((keys, values)) = &self.stored else {
            candle_core::bail!("the KV cache is read before it is written")
        };
        Ok((
            keys.narrow(1, first, end - first)?,
            values.narrow(1, first, end - first)?,
        ))
    }

    fn reserve(
        &mut self,
        kept: usize,
        needed: usize,
        shape: (usize, usize, usize),
    ) -> Result<&(Tensor, Tensor)> {
        let capacity = match &self.stored {
            Some((keys, _)) => keys.dim(1)?,
            None => 0,
        };
        if needed > capacity {
            let grown = needed
                .max(2 * capacity)
                .max(CAPACITY_TOKENS_MIN)
                .min(self.context_tokens.max(needed));
            let (kv_heads, _, head_width) = shape;
            let empty = || Tensor::zeros((kv_heads, grown, head_width), DType::F32, &Device::Cpu);
            let (keys, values) = (empty()?, empty()?);
            if let (Some((old_keys, old_values)), 1..) = (&self.stored, kept) {
                keys.slice_set(&old_keys.narrow(1, 0, kept)?.contiguous()?, 1, 0)?;
                values.slice_set(&old_values.narrow(1, 0, kept)?.contiguous()?, 1, 0)?;
            }
            self.stored = Some((keys, values));
        }
        match &self.stored {
            Some(stored) => Ok(stored),
            None => candle_core::bail!("a KV cache without a token was asked for"),
        }
    }
}

/// Which keys a pass over positions `first..first + count` looks at.
pub(super) struct View {
    /// The first key that any of the queries sees.
    pub(super) start: usize,
    /// One after the last key.
    pub(super) end: usize,
    /// `[n_tokens, end - start]`, 0 where a query sees a key and negative infinity where it does
    /// not; absent where all see all.
    mask: Option<Tensor>,
}

impl View {
    /// A causal view, of the latest `window` tokens where one is given.
    pub(super) fn new(first: usize, count: usize, window: Option<usize>) -> Result<Self> {
        let window = window.unwrap_or(usize::MAX);
        let start = (first + 1).saturating_sub(window);
        let end = first + count;
        let mask = if count == 1 {
            None
        } else {
            Some(mask(first, count, start, window)?)
        };
        Ok(Self { start, end, mask })
    }
}

fn mask(first: usize, count: usize, start: usize, window: usize) -> Result<Tensor> {
    let keys = first + count - start;
    let mut mask = Vec::with_capacity(count * keys);
    for query in first..first + count {
        mask.extend((start..first + count).map(|key| {
            let seen = key <= query && query - key < window;
            if seen { 0.0_f32 } else { f32::NEG_INFINITY }
        }));
    }
    Tensor::from_vec(mask, (count, keys), &Device::Cpu)
}

/// Softmax attention of `queries` `[heads, n_tokens, head_width]`, already scaled, over the view of
/// keys and values `[kv_heads, n_keys, head_width]`; consecutive heads share a key head.
/// Gives `[n_tokens, heads * head_width]`.
pub(super) fn attend(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    view: &View,
) -> Result<Tensor> {
    let (heads, count, head_width) = queries.dims3()?;
    let (kv_heads, n_keys, _) = keys.dims3()?;
    let group = heads / kv_heads;
    let grouped = queries.reshape((kv_heads, group * count, head_width))?;
    let scores = grouped.matmul(&keys.transpose(1, 2)?)?;
    let scores = match &view.mask {
        Some(mask) => scores
            .reshape((heads, count, n_keys))?
            .broadcast_add(mask)?,
        None => scores,
    };
    let weights =
        candle_nn::ops::softmax_last_dim(&scores)?.reshape((kv_heads, group * count, n_keys))?;
    let mixed = weights
        .matmul(values)?
        .reshape((heads, count, head_width))?;
    mixed.transpose(0, 1)?.reshape((count, heads * head_width))
}
