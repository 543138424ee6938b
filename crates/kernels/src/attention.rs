//! Causal attention of query rows over paged keys and values, with an online softmax (Milakov and Gimelshein,
//! arXiv:1805.02867; FlashAttention, arXiv:2205.14135).
//!
//! A row is one query head of one token. Rows that read the same KV head are taken in tiles of [`ROWS_MAX`], so that
//! a decoded token reads each page once for all heads of a group. The context is walked in segments of
//! [`SEGMENT_TOKENS`] tokens; a segment's result is complete in itself, and results are merged from the first
//! segment to the last. So a long context of few rows can be spread over threads without any difference in
//! the result.
//!
//! Invariant: a row's result has the same bits whatever other rows are in the batch, however the prompt was cut, with
//! any number of threads and on every instruction set: its segments, pages and lanes are those of its own positions.
//!
//! What is absent: windows, biases, soft caps.
#![expect(unsafe_code, reason = "results are written by several threads")]

mod tile;

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::isa::Cpu;
use crate::kv_cache::{HEAD_WIDTH_MAX, KvCache, KvShape, Span};
use crate::memory::{AlignedBytes, Shared};
use crate::pool::Pool;

use tile::{Finish, Merge, ROWS_MAX, Segment, State, rows_beyond, state_floats};

/// Tokens whose result is computed by itself and then merged.
pub const SEGMENT_TOKENS: usize = 512;
/// Tiles for each thread, below which segments are spread over the threads, too.
const TILES_PER_THREAD: usize = 2;
/// Most results of segments that are kept for a merge; the memory is backed only as far as it is used.
const PARTIALS_MAX: usize = 1024;

/// Attention of one model's shape, with the memory it needs.
#[derive(Debug)]
pub struct Attention {
    heads: usize,
    shape: KvShape,
    /// States of segments, `[PARTIALS_MAX]`.
    partials: AlignedBytes,
}

impl Attention {
    /// For `heads` query heads, a multiple of the KV heads.
    ///
    /// # Panics
    /// If the heads are no multiple of the KV heads, or the head width is 0 or above [`HEAD_WIDTH_MAX`].
    #[must_use]
    pub fn new(shape: KvShape, heads: usize) -> Self {
        assert!(
            shape.kv_heads > 0 && heads > 0 && heads.is_multiple_of(shape.kv_heads),
            "{heads} query heads cannot share {} KV heads evenly",
            shape.kv_heads
        );
        assert!(
            (1..=HEAD_WIDTH_MAX).contains(&shape.head_width),
            "heads are 1 to {HEAD_WIDTH_MAX} wide, not {}",
            shape.head_width
        );
        let floats = PARTIALS_MAX * state_floats(shape.padded_width());
        Self {
            heads,
            shape,
            partials: AlignedBytes::zeroed(floats * size_of::<f32>()),
        }
    }

    /// `out = softmax(scale · queries · keys) · values`, each row over its sequence's tokens up to its own.
    ///
    /// Queries and `out` are `[n_tokens, heads * head_width]`; the spans' rows follow each other. Keys and values of the
    /// rows themselves must have been written before.
    ///
    /// # Panics
    /// If lengths, shapes, the layer or the spans' pages do not fit together.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that attention is about"
    )]
    pub fn attend(
        &mut self,
        pool: &mut Pool,
        cache: &KvCache,
        layer: usize,
        spans: &[Span<'_>],
        queries: &[f32],
        scale: f32,
        out: &mut [f32],
    ) {
        assert_eq!(cache.shape(), self.shape, "the cache is this model's");
        let tokens: usize = spans.iter().map(|span| span.tokens).sum();
        let row_width = self.heads * self.shape.head_width;
        assert_eq!(queries.len(), tokens * row_width, "a query for each row");
        assert_eq!(out.len(), queries.len(), "a result for each query");
        spans.iter().for_each(|span| cache.check(layer, span));
        let batch = Batch {
            cache,
            layer,
            spans,
            queries,
            scale,
            heads: self.heads,
            group: self.heads / self.shape.kv_heads,
        };
        let out = Shared::new(out);
        let tiles = batch.tasks(|_| 1);
        let partials = batch.tasks(segments_of);
        let few = tiles < pool.threads() * TILES_PER_THREAD;
        if few && partials > tiles && partials <= PARTIALS_MAX {
            self.attend_by_segments(pool, &batch, out);
        } else {
            attend_by_tiles(pool, &batch, out);
        }
    }

    /// A task for each segment of each tile, and then one for each tile, which merges.
    fn attend_by_segments(&mut self, pool: &mut Pool, batch: &Batch<'_>, out: Shared<f32>) {
        let width = self.shape.padded_width();
        let floats = state_floats(width);
        let start: *mut f32 = self.partials.as_mut_ptr().cast();
        // SAFETY: the memory holds as many floats, initialized, and is borrowed as `self` is.
        let partials =
            Shared::new(unsafe { std::slice::from_raw_parts_mut(start, PARTIALS_MAX * floats) });
        let partial = |index: usize| {
            // SAFETY: a task of the first job has a segment of its own, one of the second all segments of its tile.
            State::new(
                unsafe { partials.part(index * floats, floats) }.as_mut_ptr(),
                width,
            )
        };
        let cpu = pool.cpu();
        pool.run(batch.tasks(segments_of), &|task| {
            let (tile, segment) = batch.tile(task, segments_of);
            if !tile.rows_beyond(segment * SEGMENT_TOKENS).is_empty() {
                // SAFETY: the state is this task's.
                unsafe { cpu.run(batch.segment(&tile, segment, partial(task))) };
            }
        });
        pool.run(batch.tasks(|_| 1), &|task| {
            let (tile, _) = batch.tile(task, |_| 1);
            let total = partial(tile.first_partial);
            for segment in 1..tile.segments() {
                let merge = Merge {
                    rows: tile.rows_beyond(segment * SEGMENT_TOKENS),
                    total,
                    part: partial(tile.first_partial + segment),
                };
                // SAFETY: the states are this task's, and were computed for these rows.
                unsafe { cpu.run(merge) };
            }
            batch.finish(cpu, &tile, total, out);
        });
    }
}

/// A task for each tile, which walks over the segments.
fn attend_by_tiles(pool: &mut Pool, batch: &Batch<'_>, out: Shared<f32>) {
    let cpu = pool.cpu();
    let tasks = batch.tasks(|_| 1);
    pool.run(tasks, &|task| {
        // The last rows of a prompt see most: they come first, so that no long task is left for the end.
        let (tile, _) = batch.tile(tasks - 1 - task, |_| 1);
        let width = batch.cache.shape().padded_width();
        let mut total = StackState::uninit();
        let mut part = StackState::uninit();
        let total = State::new(total.as_mut_ptr().cast(), width);
        let part = State::new(part.as_mut_ptr().cast(), width);
        // SAFETY: the states are this task's; every tile sees something of the first segment.
        unsafe { cpu.run(batch.segment(&tile, 0, total)) };
        for segment in 1..tile.segments() {
            let rows = tile.rows_beyond(segment * SEGMENT_TOKENS);
            // SAFETY: as above, and these rows see something of this segment.
            unsafe {
                cpu.run(batch.segment(&tile, segment, part));
                cpu.run(Merge { rows, total, part });
            }
        }
        batch.finish(cpu, &tile, total, out);
    });
}

/// Room for the state of the widest head.
type StackState = MaybeUninit<[f32; state_floats(HEAD_WIDTH_MAX)]>;

/// One call's arguments.
struct Batch<'a> {
    cache: &'a KvCache,
    layer: usize,
    spans: &'a [Span<'a>],
    queries: &'a [f32],
    scale: f32,
    heads: usize,
    /// Query heads of a KV head.
    group: usize,
}

/// Rows of one span that read the same KV head: consecutive (token, head of the group) pairs.
struct Tile<'a> {
    span: Span<'a>,
    kv_head: usize,
    /// The batch's row of the span's first token.
    first_token: usize,
    /// The first of the span's (token, head) pairs.
    first_row: usize,
    rows: usize,
    /// How many tokens of the sequence each row sees; growing.
    visible: [usize; ROWS_MAX],
    /// Where the segments' states are kept.
    first_partial: usize,
}

/// Segments of the context that the span's last row sees.
fn segments_of(span: &Span<'_>) -> usize {
    span.end().div_ceil(SEGMENT_TOKENS)
}

impl<'a> Batch<'a> {
    fn tiles_of(&self, span: &Span<'_>) -> usize {
        (span.tokens * self.group).div_ceil(ROWS_MAX)
    }

    /// All tiles, each as often as `times` says of its span.
    fn tasks(&self, times: fn(&Span<'_>) -> usize) -> usize {
        let of_span = |span| self.tiles_of(span) * self.kv_heads() * times(span);
        self.spans.iter().map(of_span).sum()
    }

    fn kv_heads(&self) -> usize {
        self.heads / self.group
    }

    /// The tile of a task of [`Self::tasks`], and which of its times it is.
    fn tile(&self, task: usize, times: fn(&Span<'_>) -> usize) -> (Tile<'a>, usize) {
        let mut task = task;
        let mut first_token = 0;
        let mut first_partial = 0;
        for span in self.spans {
            let tiles = self.tiles_of(span) * self.kv_heads();
            if task < tiles * times(span) {
                let index = task / times(span);
                first_partial += index * segments_of(span);
                let tile = self.tile_of_span(*span, index, first_token, first_partial);
                return (tile, task % times(span));
            }
            task -= tiles * times(span);
            first_token += span.tokens;
            first_partial += tiles * segments_of(span);
        }
        unreachable!("tasks are counted over the same spans")
    }

    fn tile_of_span(
        &self,
        span: Span<'a>,
        index: usize,
        first_token: usize,
        first_partial: usize,
    ) -> Tile<'a> {
        let first_row = index / self.kv_heads() * ROWS_MAX;
        let rows = (span.tokens * self.group - first_row).min(ROWS_MAX);
        let mut visible = [0; ROWS_MAX];
        for (row, visible) in visible[..rows].iter_mut().enumerate() {
            *visible = span.first_position + (first_row + row) / self.group + 1;
        }
        Tile {
            span,
            kv_head: index % self.kv_heads(),
            first_token,
            first_row,
            rows,
            visible,
            first_partial,
        }
    }

    /// Where a row's query and result begin.
    fn offset(&self, tile: &Tile<'_>, row: usize) -> usize {
        let pair = tile.first_row + row;
        let token = tile.first_token + pair / self.group;
        let head = tile.kv_head * self.group + pair % self.group;
        (token * self.heads + head) * self.cache.shape().head_width
    }

    fn segment<'t>(&'t self, tile: &'t Tile<'_>, segment: usize, state: State) -> Segment<'t> {
        let head_width = self.cache.shape().head_width;
        let mut queries: [&[f32]; ROWS_MAX] = [&[]; ROWS_MAX];
        for (row, query) in queries[..tile.rows].iter_mut().enumerate() {
            *query = &self.queries[self.offset(tile, row)..][..head_width];
        }
        Segment {
            cache: self.cache,
            layer: self.layer,
            kv_head: tile.kv_head,
            pages: tile.span.pages,
            first_token: segment * SEGMENT_TOKENS,
            visible: &tile.visible[..tile.rows],
            queries,
            scale: self.scale,
            state,
        }
    }

    fn finish(&self, cpu: Cpu, tile: &Tile<'_>, state: State, out: Shared<f32>) {
        for row in 0..tile.rows {
            let from = self.offset(tile, row);
            // SAFETY: `out` is borrowed until all tasks are done, and each row belongs to one tile.
            let out = unsafe { out.part(from, self.cache.shape().head_width) };
            // SAFETY: the state was computed for this row.
            unsafe { cpu.run(Finish { row, state, out }) };
        }
    }
}

impl Tile<'_> {
    /// Segments that the last row sees.
    fn segments(&self) -> usize {
        self.visible[self.rows - 1].div_ceil(SEGMENT_TOKENS)
    }

    /// The rows that see tokens from this position on: the last ones, for they are in the order of their positions.
    fn rows_beyond(&self, position: usize) -> Range<usize> {
        rows_beyond(&self.visible[..self.rows], position)
    }
}
