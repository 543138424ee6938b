//! The arithmetic of a tile: a few query rows against the pages of one KV head.
//!
//! For each page: scores of all rows, with sixteen tokens in the lanes; then weights, relative to the greatest score so
//! far; then the weighted values, added to sums that shrink by as much as the greatest score grew. Where rows see
//! different parts of a page, they take the same steps, but each only as many tokens as it sees.
//!
//! Invariant: what is done for a row, and in which order, does not depend on the rows beside it.
//!
//! What is absent: which rows make a tile, and threads.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::isa::{Isa, Kernel, LANES};
use crate::kv_cache::{HEAD_WIDTH_MAX, KvCache, PAGE_TOKENS, PageId};
use crate::vector::{exp_of_low, sum_lanes};

use super::SEGMENT_TOKENS;

/// Most rows of a tile.
pub(super) const ROWS_MAX: usize = 8;
/// Vectors of a page's scores.
const BLOCKS: usize = PAGE_TOKENS / LANES;
/// Queries as `[padded width][ROWS_MAX]`, and what a vector that begins at the last row reads too much.
const QUERY_FLOATS_MAX: usize = HEAD_WIDTH_MAX * ROWS_MAX + LANES;

/// Floats of a [`State`] for heads of this width.
pub(super) const fn state_floats(padded_width: usize) -> usize {
    LANES + ROWS_MAX * LANES + ROWS_MAX * padded_width
}

/// The rows that see tokens from `position` on, where `visible` grows.
pub(super) fn rows_beyond(visible: &[usize], position: usize) -> Range<usize> {
    let first = visible.iter().position(|visible| *visible > position);
    first.unwrap_or(visible.len())..visible.len()
}

/// What is known of each row so far: its greatest score, the sum of its weights (a lane for each token modulo
/// sixteen), and the sum of its weighted values.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    start: *mut f32,
    width: usize,
}

impl State {
    /// A state in [`state_floats`] floats, which need not be initialized.
    pub(super) fn new(start: *mut f32, width: usize) -> Self {
        Self { start, width }
    }

    /// `[LANES]`, of which `ROWS_MAX` are used.
    fn greatest(self) -> *mut f32 {
        self.start
    }

    /// `[LANES]`.
    fn weights(self, row: usize) -> *mut f32 {
        self.start.wrapping_add(LANES + row * LANES)
    }

    /// `[padded width]`.
    fn values(self, row: usize) -> *mut f32 {
        self.start
            .wrapping_add(LANES + ROWS_MAX * LANES + row * self.width)
    }
}

/// A vector each of the scores' lanes.
#[repr(align(64))]
struct Scores([[f32; PAGE_TOKENS]; ROWS_MAX]);

#[repr(align(64))]
struct Lanes([f32; LANES]);

/// Computes the state of the rows that see something of one segment.
pub(super) struct Segment<'a> {
    pub(super) cache: &'a KvCache,
    pub(super) layer: usize,
    pub(super) kv_head: usize,
    pub(super) pages: &'a [PageId],
    pub(super) first_token: usize,
    /// How many tokens each row sees; growing.
    pub(super) visible: &'a [usize],
    pub(super) queries: [&'a [f32]; ROWS_MAX],
    pub(super) scale: f32,
    /// Must be this task's own.
    pub(super) state: State,
}

impl Kernel for Segment<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let rows = self.visible.len();
        let mut queries = MaybeUninit::<[f32; QUERY_FLOATS_MAX]>::uninit();
        let queries: *mut f32 = queries.as_mut_ptr().cast();
        let mut scores = Scores([[0.0; PAGE_TOKENS]; ROWS_MAX]);
        // SAFETY: the state is this task's, the query buffer fits the widest head, and a page is as long as the cache says.
        unsafe {
            self.pack(queries);
            self.clear(isa);
            let end = self.visible[rows - 1].min(self.first_token + SEGMENT_TOKENS);
            for page in self.first_token / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS) {
                let active = rows_beyond(self.visible, page * PAGE_TOKENS);
                let head = self.cache.head(self.pages[page], self.layer, self.kv_head);
                let step = Step {
                    keys: head.as_ptr(),
                    values: head[PAGE_TOKENS * self.state.width..].as_ptr(),
                    queries,
                    width: self.state.width,
                    scores: &mut scores,
                    state: self.state,
                };
                step.run(isa, active, self.visible, page * PAGE_TOKENS);
            }
        }
    }
}

impl Segment<'_> {
    /// Writes the queries, scaled, side by side.
    #[inline(always)]
    unsafe fn pack(&self, to: *mut f32) {
        let width = self.state.width;
        // SAFETY: the caller's buffer fits the widest head.
        let packed = unsafe {
            to.write_bytes(0, width * ROWS_MAX + LANES);
            std::slice::from_raw_parts_mut(to, width * ROWS_MAX)
        };
        for (row, query) in self.queries.iter().enumerate() {
            for (column, element) in packed.chunks_exact_mut(ROWS_MAX).zip(*query) {
                column[row] = element * self.scale;
            }
        }
    }

    #[inline(always)]
    unsafe fn clear<S: Isa>(&self, isa: S) {
        // SAFETY: the state has room for all rows.
        unsafe {
            let zero = isa.splat(0.0);
            isa.store(isa.splat(f32::NEG_INFINITY), self.state.greatest());
            for row in 0..self.visible.len() {
                isa.store(zero, self.state.weights(row));
                for at in (0..self.state.width).step_by(LANES) {
                    isa.store(zero, self.state.values(row).add(at));
                }
            }
        }
    }
}

/// One page.
struct Step<'a> {
    keys: *const u16,
    values: *const u16,
    queries: *const f32,
    width: usize,
    scores: &'a mut Scores,
    state: State,
}

/// Calls `$self.$function::<S, rows, vectors>(…)` with as many rows and vectors of sums as fit in the registers.
macro_rules! with_rows {
    ($isa:ty, $rows:expr, $self:ident.$function:ident($($argument:expr),*)) => {
        if rows_at_once::<$isa>() == ROWS_MAX {
            match $rows {
                8 => $self.$function::<$isa, 8, 2>($($argument),*),
                7 => $self.$function::<$isa, 7, 2>($($argument),*),
                6 => $self.$function::<$isa, 6, 2>($($argument),*),
                5 => $self.$function::<$isa, 5, 2>($($argument),*),
                4 => $self.$function::<$isa, 4, 2>($($argument),*),
                3 => $self.$function::<$isa, 3, 2>($($argument),*),
                2 => $self.$function::<$isa, 2, 2>($($argument),*),
                _ => $self.$function::<$isa, 1, 2>($($argument),*),
            }
        } else {
            match $rows {
                4 => $self.$function::<$isa, 4, 1>($($argument),*),
                3 => $self.$function::<$isa, 3, 1>($($argument),*),
                2 => $self.$function::<$isa, 2, 1>($($argument),*),
                _ => $self.$function::<$isa, 1, 1>($($argument),*),
            }
        }
    };
}

#[inline(always)]
const fn rows_at_once<S: Isa>() -> usize {
    if S::FLOAT_SUMS_MAX >= 2 * ROWS_MAX {
        ROWS_MAX
    } else {
        4
    }
}

impl Step<'_> {
    /// Takes the `active` rows through the page that begins at token `start`; each sees something of it.
    #[inline(always)]
    unsafe fn run<S: Isa>(mut self, isa: S, active: Range<usize>, visible: &[usize], start: usize) {
        let seen = |row: usize| (visible[row] - start).min(PAGE_TOKENS);
        // SAFETY: the caller's promise: pages, queries and state are as large as the width says.
        unsafe {
            let mut row = active.start;
            while row < active.end {
                let rows = (active.end - row).min(rows_at_once::<S>());
                with_rows!(S, rows, self.score(isa, row));
                row += rows;
            }
            for row in active.clone() {
                self.scores.0[row][seen(row)..].fill(f32::NEG_INFINITY);
            }
            let shrink = self.weigh(isa, active.clone());
            let mut row = active.start;
            while row < active.end {
                let count = seen(row);
                let mut rows = 1;
                while rows < rows_at_once::<S>()
                    && row + rows < active.end
                    && seen(row + rows) == count
                {
                    rows += 1;
                }
                with_rows!(S, rows, self.add_values(isa, row, count, &shrink));
                row += rows;
            }
        }
    }

    /// Scores of `R` rows, `V` blocks at once.
    #[inline(always)]
    unsafe fn score<S: Isa, const R: usize, const V: usize>(&mut self, isa: S, row: usize) {
        let block_halves = self.width * LANES;
        // SAFETY: keys are `[BLOCKS][width][LANES]`, queries `[width][ROWS_MAX]` and a vector more.
        unsafe {
            for block in (0..BLOCKS).step_by(V) {
                let keys = self.keys.add(block * block_halves);
                let queries = self.queries.add(row);
                let mut sums = [[isa.splat(0.0); R]; V];
                for column in 0..self.width {
                    for (part, sums) in sums.iter_mut().enumerate() {
                        let key = isa.load_f16(keys.add(part * block_halves + column * LANES));
                        isa.mul_add_each(sums, key, queries.add(column * ROWS_MAX), 1);
                    }
                }
                for (part, sums) in sums.iter().enumerate() {
                    for (index, sum) in sums.iter().enumerate() {
                        let scores = self.scores.0[row + index].as_mut_ptr();
                        isa.store(*sum, scores.add((block + part) * LANES));
                    }
                }
            }
        }
    }

    /// Replaces scores by weights, and gives what sums so far shrink by.
    #[inline(always)]
    unsafe fn weigh<S: Isa>(&mut self, isa: S, active: Range<usize>) -> Lanes {
        let mut shrink = Lanes([0.0; LANES]);
        // SAFETY: the state has room for all rows.
        unsafe {
            let old = isa.load(self.state.greatest());
            for row in active.clone() {
                let scores = self.scores.0[row].as_ptr();
                let most = isa.max_lanes(isa.max(isa.load(scores), isa.load(scores.add(LANES))));
                let greatest = self.state.greatest().add(row);
                *greatest = if *greatest > most { *greatest } else { most };
            }
            let new = isa.load(self.state.greatest());
            isa.store(exp_of_low(isa, isa.sub(old, new)), shrink.0.as_mut_ptr());
            for row in active {
                let greatest = isa.splat(*self.state.greatest().add(row));
                let scores = self.scores.0[row].as_mut_ptr();
                let low = exp_of_low(isa, isa.sub(isa.load(scores), greatest));
                let high = exp_of_low(isa, isa.sub(isa.load(scores.add(LANES)), greatest));
                isa.store(low, scores);
                isa.store(high, scores.add(LANES));
                let weights = self.state.weights(row);
                let sum = isa.mul(isa.load(weights), isa.splat(shrink.0[row]));
                isa.store(isa.add(sum, isa.add(low, high)), weights);
            }
        }
        shrink
    }

    /// Shrinks the values' sums of `R` rows and adds the first `count` tokens' values.
    #[inline(always)]
    unsafe fn add_values<S: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: S,
        row: usize,
        count: usize,
        shrink: &Lanes,
    ) {
        let mut at = 0;
        // SAFETY: the columns lie within the width.
        unsafe {
            while at + V * LANES <= self.width {
                self.add_columns::<S, R, V>(isa, row, count, shrink, at);
                at += V * LANES;
            }
            while at < self.width {
                self.add_columns::<S, R, 1>(isa, row, count, shrink, at);
                at += LANES;
            }
        }
    }

    /// [`Self::add_values`] for `V` vectors of columns, whose sums stay in registers meanwhile.
    #[inline(always)]
    unsafe fn add_columns<S: Isa, const R: usize, const V: usize>(
        &mut self,
        isa: S,
        row: usize,
        count: usize,
        shrink: &Lanes,
        at: usize,
    ) {
        // SAFETY: the state has room for all rows, values are `[PAGE_TOKENS][width]`.
        unsafe {
            let mut sums = [[isa.splat(0.0); R]; V];
            for (part, sums) in sums.iter_mut().enumerate() {
                for (index, sum) in sums.iter_mut().enumerate() {
                    let old = isa.load(self.state.values(row + index).add(at + part * LANES));
                    *sum = isa.mul(old, isa.splat(shrink.0[row + index]));
                }
            }
            let weights = self.scores.0[row..].as_flattened().as_ptr();
            for token in 0..count {
                for (part, sums) in sums.iter_mut().enumerate() {
                    let values = self.values.add(token * self.width + at + part * LANES);
                    isa.mul_add_each(sums, isa.load_f16(values), weights.add(token), PAGE_TOKENS);
                }
            }
            for (part, sums) in sums.iter().enumerate() {
                for (index, sum) in sums.iter().enumerate() {
                    let to = self.state.values(row + index).add(at + part * LANES);
                    isa.store(*sum, to);
                }
            }
        }
    }
}

/// Adds the state of a later segment to that of the ones before it.
pub(super) struct Merge {
    pub(super) rows: Range<usize>,
    pub(super) total: State,
    pub(super) part: State,
}

impl Kernel for Merge {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let (total, part) = (self.total, self.part);
        let mut keep = Lanes([0.0; LANES]);
        let mut take = Lanes([0.0; LANES]);
        // SAFETY: both states have room for all rows, and hold these.
        unsafe {
            let old = isa.load(total.greatest());
            for row in self.rows.clone() {
                let (a, b) = (*total.greatest().add(row), *part.greatest().add(row));
                *total.greatest().add(row) = if a > b { a } else { b };
            }
            let new = isa.load(total.greatest());
            isa.store(exp_of_low(isa, isa.sub(old, new)), keep.0.as_mut_ptr());
            let added = isa.sub(isa.load(part.greatest()), new);
            isa.store(exp_of_low(isa, added), take.0.as_mut_ptr());
            for row in self.rows {
                let (keep, take) = (isa.splat(keep.0[row]), isa.splat(take.0[row]));
                merge_vector(isa, total.weights(row), part.weights(row), keep, take);
                for at in (0..total.width).step_by(LANES) {
                    let (to, from) = (total.values(row).add(at), part.values(row).add(at));
                    merge_vector(isa, to, from, keep, take);
                }
            }
        }
    }
}

/// `to = to · keep + from · take`.
#[inline(always)]
unsafe fn merge_vector<S: Isa>(
    isa: S,
    to: *mut f32,
    from: *const f32,
    keep: S::Floats,
    take: S::Floats,
) {
    // SAFETY: the caller's pointers are valid for a vector.
    unsafe {
        let kept = isa.mul(isa.load(to), keep);
        isa.store(isa.mul_add(isa.load(from), take, kept), to);
    }
}

/// Divides a row's values by its weights.
pub(super) struct Finish<'a> {
    pub(super) row: usize,
    pub(super) state: State,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let mut lanes = Lanes([0.0; LANES]);
        // SAFETY: the state holds the row, padded to whole vectors.
        unsafe {
            isa.store(isa.load(self.state.weights(self.row)), lanes.0.as_mut_ptr());
            let weight = isa.splat(sum_lanes(&lanes.0));
            for (index, out) in self.out.chunks_mut(LANES).enumerate() {
                let values = isa.load(self.state.values(self.row).add(index * LANES));
                isa.store(isa.div(values, weight), lanes.0.as_mut_ptr());
                out.copy_from_slice(&lanes.0[..out.len()]);
            }
        }
    }
}
