//! Keys and values of all sequences, in half precision, in pages of [`PAGE_TOKENS`] tokens.
//!
//! A page holds its tokens' keys and values of all layers and KV heads: keys as `[2 blocks][head_width][16 tokens]`, so
//! that scores of sixteen tokens stand side by side; values as `[32 tokens][head_width]`. Head widths are filled up
//! with zeros to a multiple of sixteen. A page is named by a plain handle and counts its references, so that sequences
//! may share it.
//!
//! Invariant: a page with several references is never written. A fresh page may hold a former owner's numbers:
//! attention reads none that the sequence has not written.
//!
//! What is absent: which sequence has which pages, and which may be shared; that is the engine's.
#![expect(
    unsafe_code,
    reason = "half-precision numbers in memory shared by threads"
)]

use crate::isa::{Isa, Kernel, LANES};
use crate::memory::{AlignedBytes, Shared};
use crate::pool::Pool;

/// Tokens of one page.
pub const PAGE_TOKENS: usize = 32;
/// Widest head.
pub const HEAD_WIDTH_MAX: usize = 256;

/// What of a model the size of its keys and values depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers with attention.
    pub layers: usize,
    /// Heads of keys and values of a layer; each serves as many query heads.
    pub kv_heads: usize,
    /// Elements of a head, at most [`HEAD_WIDTH_MAX`].
    pub head_width: usize,
}

impl KvShape {
    /// Elements of a head as they are stored: filled up to whole vectors.
    pub(crate) fn padded_width(self) -> usize {
        self.head_width.next_multiple_of(LANES)
    }

    /// Keys, or values, of a head in a page.
    fn head_halves(self) -> usize {
        PAGE_TOKENS * self.padded_width()
    }

    fn page_halves(self) -> usize {
        2 * self.layers * self.kv_heads * self.head_halves()
    }

    /// Memory of one page.
    #[must_use]
    pub fn page_bytes(self) -> usize {
        2 * self.page_halves()
    }
}

/// A page of a [`KvCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(u32);

impl PageId {
    /// Its number: below [`KvCache::pages`] of its cache.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Rows of one sequence in a batch: `tokens` rows, the first of which stands at `first_position` of the sequence.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Tokens of the sequence before the rows.
    pub first_position: usize,
    /// Rows in the batch.
    pub tokens: usize,
    /// The pages of the sequence from position 0 on; they reach at least to the last row.
    pub pages: &'a [PageId],
}

impl Span<'_> {
    /// Tokens of the sequence up to the last row.
    pub(crate) fn end(&self) -> usize {
        self.first_position + self.tokens
    }
}

/// Paged keys and values.
#[derive(Debug)]
pub struct KvCache {
    shape: KvShape,
    memory: AlignedBytes,
    references: Vec<u32>,
    free: Vec<PageId>,
}

impl KvCache {
    /// Memory for `pages` pages, which the system backs as they are first written.
    ///
    /// # Panics
    /// If the head width is 0 or above [`HEAD_WIDTH_MAX`], or the size exceeds what can be addressed.
    #[must_use]
    pub fn new(shape: KvShape, pages: usize) -> Self {
        assert!(
            (1..=HEAD_WIDTH_MAX).contains(&shape.head_width),
            "heads are 1 to {HEAD_WIDTH_MAX} wide, not {}",
            shape.head_width
        );
        let count = u32::try_from(pages).expect("pages are numbered with 32 bits");
        let bytes = pages
            .checked_mul(shape.page_bytes())
            .expect("the KV cache is smaller than the address space");
        Self {
            shape,
            memory: AlignedBytes::zeroed(bytes),
            references: vec![0; pages],
            free: (0..count).rev().map(PageId).collect(),
        }
    }

    /// What the pages are made for.
    #[must_use]
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// All pages, free or not.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.references.len()
    }

    /// Pages that nobody has.
    #[must_use]
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// Takes a free page, with one reference; none if there is none.
    pub fn allocate(&mut self) -> Option<PageId> {
        let page = self.free.pop()?;
        self.references[page.0 as usize] = 1;
        Some(page)
    }

    /// Adds a reference to a page; from now on it may not be written until there is one again.
    ///
    /// # Panics
    /// If the page is free.
    pub fn share(&mut self, page: PageId) {
        let references = self.references_mut(page);
        *references = references
            .checked_add(1)
            .expect("fewer references than 2^32");
    }

    /// Gives a reference back; the last one frees the page.
    ///
    /// # Panics
    /// If the page is free.
    pub fn release(&mut self, page: PageId) {
        let references = self.references_mut(page);
        *references -= 1;
        if *references == 0 {
            // The list was made for all pages: this allocates nothing.
            self.free.push(page);
        }
    }

    /// How many references a page has; 0 if it is free.
    ///
    /// # Panics
    /// If the page is another cache's.
    #[must_use]
    pub fn references(&self, page: PageId) -> u32 {
        self.references[page.0 as usize]
    }

    fn references_mut(&mut self, page: PageId) -> &mut u32 {
        let references = &mut self.references[page.0 as usize];
        assert!(*references > 0, "page {} is free", page.0);
        references
    }

    /// Stores keys and values, each `[span.tokens, kv_heads * head_width]`, of the rows of a sequence, on all threads.
    /// Numbers beyond half precision (65504) become infinite.
    ///
    /// # Panics
    /// If lengths or the layer do not fit, or a page to be written is free or shared.
    pub fn write(
        &mut self,
        pool: &mut Pool,
        layer: usize,
        span: Span<'_>,
        keys: &[f32],
        values: &[f32],
    ) {
        let KvShape {
            kv_heads,
            head_width,
            ..
        } = self.shape;
        let row_width = kv_heads * head_width;
        assert_eq!(keys.len(), span.tokens * row_width, "a key for each row");
        assert_eq!(
            values.len(),
            span.tokens * row_width,
            "a value for each row"
        );
        if span.tokens == 0 {
            return;
        }
        self.check(layer, &span);
        let first_page = span.first_position / PAGE_TOKENS;
        let pages = &span.pages[first_page..span.end().div_ceil(PAGE_TOKENS)];
        for page in pages {
            let references = self.references(*page);
            assert!(references == 1, "page {} has {references} owners", page.0);
        }
        let cpu = pool.cpu();
        let shape = self.shape;
        let halves = Shared::new(self.halves_mut());
        pool.run(pages.len() * kv_heads, &|task| {
            let (page, head) = (task / kv_heads, task % kv_heads);
            let start = (first_page + page) * PAGE_TOKENS;
            let from = span.first_position.max(start);
            let offset = shape.offset(pages[page], layer, head);
            let write = PageWrite {
                // SAFETY: the memory is borrowed until all tasks are done, and each head of a page belongs to one:
                // the pages differ, having one reference each.
                halves: unsafe { halves.part(offset, 2 * shape.head_halves()) },
                keys: &keys[(from - span.first_position) * row_width + head * head_width..],
                values: &values[(from - span.first_position) * row_width + head * head_width..],
                row_width,
                head_width,
                first_token: from - start,
                tokens: span.end().min(start + PAGE_TOKENS) - from,
            };
            // SAFETY: the slices' lengths were checked.
            unsafe { cpu.run(write) };
        });
    }

    /// Refuses spans that would be read or written outside of the memory.
    pub(crate) fn check(&self, layer: usize, span: &Span<'_>) {
        let layers = self.shape.layers;
        assert!(layer < layers, "layer {layer} of {layers}");
        assert!(
            span.end() <= span.pages.len() * PAGE_TOKENS,
            "{} pages do not reach to position {}",
            span.pages.len(),
            span.end()
        );
        for page in span.pages {
            assert!(self.references(*page) > 0, "page {} is free", page.0);
        }
    }

    /// Keys, `[2][padded_width][16]`, and behind them values, `[32][padded_width]`, of a head in a page.
    pub(crate) fn head(&self, page: PageId, layer: usize, head: usize) -> &[u16] {
        let offset = self.shape.offset(page, layer, head);
        &self.halves()[offset..][..2 * self.shape.head_halves()]
    }

    fn halves(&self) -> &[u16] {
        let length = self.memory.len() / 2;
        // SAFETY: the bytes are initialized, aligned to lines, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), length) }
    }

    fn halves_mut(&mut self) -> &mut [u16] {
        let length = self.memory.len() / 2;
        // SAFETY: the bytes are initialized, aligned to lines, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), length) }
    }
}

impl KvShape {
    fn offset(self, page: PageId, layer: usize, head: usize) -> usize {
        page.0 as usize * self.page_halves()
            + (layer * self.kv_heads + head) * 2 * self.head_halves()
    }
}

/// Some tokens of one head of a page. `keys` and `values` begin at the first token's head; rows are `row_width` apart.
struct PageWrite<'a> {
    halves: &'a mut [u16],
    keys: &'a [f32],
    values: &'a [f32],
    row_width: usize,
    head_width: usize,
    first_token: usize,
    tokens: usize,
}

impl Kernel for PageWrite<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let width = self.head_width.next_multiple_of(LANES);
        let (keys, values) = self.halves.split_at_mut(PAGE_TOKENS * width);
        for row in 0..self.tokens {
            let token = self.first_token + row;
            let from = row * self.row_width;
            let key = &self.keys[from..][..self.head_width];
            let block = &mut keys[token / LANES * LANES * width..][..LANES * width];
            let value = &self.values[from..][..self.head_width];
            let value_row = &mut values[token * width..][..width];
            for at in (0..self.head_width).step_by(LANES) {
                let columns = block[at * LANES..][..LANES * LANES].chunks_exact_mut(LANES);
                // SAFETY: the caller's promise.
                let halves = unsafe { narrowed(isa, &key[at..]) };
                for (column, half) in columns.zip(halves) {
                    column[token % LANES] = half;
                }
                // SAFETY: the caller's promise.
                let halves = unsafe { narrowed(isa, &value[at..]) };
                value_row[at..][..LANES].copy_from_slice(&halves);
            }
        }
    }
}

/// The first sixteen floats in half precision, or fewer and zeros.
///
/// # Safety
/// The instruction set must be there.
#[inline(always)]
unsafe fn narrowed<S: Isa>(isa: S, floats: &[f32]) -> [u16; LANES] {
    let count = floats.len().min(LANES);
    let mut lanes = [0.0; LANES];
    lanes[..count].copy_from_slice(&floats[..count]);
    let mut halves = [0; LANES];
    // SAFETY: both arrays are as long as a vector; the rest is the caller's promise.
    unsafe { isa.store_f16(isa.load(lanes.as_ptr()), halves.as_mut_ptr()) };
    halves
}
