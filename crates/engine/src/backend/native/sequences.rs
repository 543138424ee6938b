//! The sequences of the native backend: which pages of the KV cache each has, and how long it is.
//!
//! Invariant: a page belongs to one sequence, and a sequence has pages for all of its tokens.

use postern_kernels::{KvCache, KvShape, PAGE_TOKENS, PageId, Span};

use crate::backend::architecture::Architecture;
use crate::backend::{NATIVE, SequenceId};
use crate::error::{EngineError, Result};

/// The KV cache, and who has what of it.
pub(super) struct Sequences {
    cache: KvCache,
    slots: Slots,
    pages_each: usize,
}

/// What each sequence has.
pub(super) struct Slots(Vec<Option<Slot>>);

struct Slot {
    pages: Vec<PageId>,
    tokens: usize,
}

impl Sequences {
    /// Makes room for `count` sequences of the whole context. The system backs it only as far as it is used.
    pub(super) fn new(architecture: &Architecture, context_tokens: usize, count: usize) -> Self {
        let shape = shape(architecture);
        let pages_each = context_tokens.div_ceil(PAGE_TOKENS);
        Self {
            cache: KvCache::new(shape, pages_each * count),
            slots: Slots((0..count).map(|_| None).collect()),
            pages_each,
        }
    }

    pub(super) fn open(&mut self) -> SequenceId {
        let slot = Slot {
            pages: Vec::with_capacity(self.pages_each),
            tokens: 0,
        };
        let slots = &mut self.slots.0;
        match slots.iter().position(Option::is_none) {
            Some(free) => {
                slots[free] = Some(slot);
                SequenceId(free)
            }
            None => {
                slots.push(Some(slot));
                SequenceId(slots.len() - 1)
            }
        }
    }

    pub(super) fn close(&mut self, sequence: SequenceId) {
        if let Some(slot) = self.slots.0[sequence.0].take() {
            for page in slot.pages {
                self.cache.release(page);
            }
        }
    }

    /// Takes pages for `tokens` more tokens.
    ///
    /// # Errors
    /// Where no page is free: more sequences are open than there was made room for.
    pub(super) fn grow(&mut self, sequence: SequenceId, tokens: usize) -> Result<()> {
        let slot = self.slots.get_mut(sequence);
        let needed = (slot.tokens + tokens).div_ceil(PAGE_TOKENS);
        while slot.pages.len() < needed {
            let page = self.cache.allocate().ok_or_else(|| EngineError::Backend {
                backend: NATIVE,
                doing: "growing a sequence",
                reason: format!("all {} pages of the KV cache are taken", self.cache.pages()),
            })?;
            slot.pages.push(page);
        }
        Ok(())
    }

    /// Makes `tokens` computed tokens part of the sequence.
    pub(super) fn advance(&mut self, sequence: SequenceId, tokens: usize) {
        self.slots.get_mut(sequence).tokens += tokens;
    }

    pub(super) fn parts(&mut self) -> (&mut KvCache, &Slots) {
        (&mut self.cache, &self.slots)
    }
}

impl Slots {
    /// The next `tokens` rows of a sequence.
    pub(super) fn span(&self, sequence: SequenceId, tokens: usize) -> Span<'_> {
        let slot = self.0[sequence.0]
            .as_ref()
            .expect("a sequence is used only between open and close");
        Span {
            first_position: slot.tokens,
            tokens,
            pages: &slot.pages,
        }
    }

    /// No rows.
    pub(super) fn empty_span<'a>() -> Span<'a> {
        Span {
            first_position: 0,
            tokens: 0,
            pages: &[],
        }
    }

    fn get_mut(&mut self, sequence: SequenceId) -> &mut Slot {
        self.0[sequence.0]
            .as_mut()
            .expect("a sequence is used only between open and close")
    }
}

/// What the size of keys and values depends on.
pub(super) fn shape(architecture: &Architecture) -> KvShape {
    KvShape {
        layers: architecture.layers,
        kv_heads: architecture.kv_heads,
        head_width: architecture.head_width,
    }
}
