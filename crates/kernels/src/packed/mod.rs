//! Weights as kernels want them: panels of sixteen rows side by side, packed once from a file's blocks.
//!
//! A panel is a sequence of runs: the scales of one, two or eight blocks of 32 columns ([`scales`]), then their codes
//! ([`bits`]), so that a product reads memory front to back. Panels follow each other at cache lines. Rows beyond the last are zeros. Unquantized matrices have panels of `[columns][16 rows]`.
//!
//! Invariant: packing loses nothing; [`PackedMatrix::row`] gives the very numbers of [`crate::dequantize`].
#![expect(unsafe_code, reason = "panels are written by several threads")]

mod bits;
mod float;
mod layout;
mod row;
mod scales;

use std::marker::PhantomData;
use std::ops::Range;

use thiserror::Error;

pub(crate) use bits::{BLOCK, Bits, Quads};
pub(crate) use float::{Element, FloatBf16, FloatF16, FloatF32};
pub(crate) use layout::{
    Iq4Nl, Kind, Layout, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
};
pub(crate) use scales::{Pair, Scales};

use crate::format::Format;
use crate::isa::{Cpu, Isa, LANES, each};
use crate::memory::{Arena, LINE_BYTES, Region, Shared};
use crate::pool::Pool;

/// A matrix `[rows, columns]`, packed.
///
/// Any bytes are a matrix, also those whose scales are infinite or no numbers. A row with a weight that is not finite gives
/// products that are not finite, whatever it is multiplied with, and changes no other row.
#[derive(Debug)]
pub struct PackedMatrix {
    format: Format,
    rows: usize,
    columns: usize,
    size: Size,
    memory: Region,
}

/// How large a matrix and its parts are, all of which fit the address space.
#[derive(Debug, Clone, Copy)]
struct Size {
    stored_row_bytes: usize,
    panel_bytes: usize,
    packed_bytes: usize,
}

/// Why a matrix cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackError {
    /// Rows must be whole blocks, and at least one.
    #[error("rows of {columns} columns are no whole blocks of {format:?}, which have {block}")]
    Columns {
        /// The format.
        format: Format,
        /// Columns of the matrix.
        columns: usize,
        /// Elements of a block.
        block: usize,
    },
    /// There is no room for it.
    #[error("there is no room for a matrix of {rows} x {columns} in {format:?}")]
    Room {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
    },
    /// The bytes are not those of the matrix.
    #[error("{rows} rows of {columns} columns in {format:?} have {expected} bytes, not {found}")]
    Bytes {
        /// The format.
        format: Format,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// Bytes that it has.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
}

/// Calls `$body` with `$layout` as the type of a quantized `$format`, or `$float` with `$element` as that of an unquantized one.
macro_rules! for_format {
    ($format:expr, $layout:ident => $body:expr, $element:ident => $float:expr) => {
        match $format {
            Format::F32 => {
                type $element = $crate::packed::FloatF32;
                $float
            }
            Format::F16 => {
                type $element = $crate::packed::FloatF16;
                $float
            }
            Format::BF16 => {
                type $element = $crate::packed::FloatBf16;
                $float
            }
            Format::Q4_0 => {
                type $layout = $crate::packed::Q4_0;
                $body
            }
            Format::Q4_1 => {
                type $layout = $crate::packed::Q4_1;
                $body
            }
            Format::Q5_0 => {
                type $layout = $crate::packed::Q5_0;
                $body
            }
            Format::Q5_1 => {
                type $layout = $crate::packed::Q5_1;
                $body
            }
            Format::Q8_0 => {
                type $layout = $crate::packed::Q8_0;
                $body
            }
            Format::IQ4_NL => {
                type $layout = $crate::packed::Iq4Nl;
                $body
            }
            Format::Q2_K => {
                type $layout = $crate::packed::Q2K;
                $body
            }
            Format::Q3_K => {
                type $layout = $crate::packed::Q3K;
                $body
            }
            Format::Q4_K => {
                type $layout = $crate::packed::Q4K;
                $body
            }
            Format::Q5_K => {
                type $layout = $crate::packed::Q5K;
                $body
            }
            Format::Q6_K => {
                type $layout = $crate::packed::Q6K;
                $body
            }
        }
    };
}
pub(crate) use for_format;

impl PackedMatrix {
    /// Packs the stored rows of a matrix, with all threads of the pool.
    ///
    /// # Errors
    /// Where rows are no whole blocks, or `stored` is not exactly the matrix; nothing was allocated then.
    pub fn pack(
        pool: &mut Pool,
        format: Format,
        rows: usize,
        columns: usize,
        stored: &[u8],
    ) -> Result<Self, PackError> {
        let size = Size::of(format, rows, columns)?;
        size.check_stored(format, rows, columns, stored)?;
        let mut arena = Arena::new(size.packed_bytes);
        let mut matrix = Self::zeros(&mut arena, format, rows, columns)?;
        matrix.pack_rows(pool, 0..rows, stored)?;
        Ok(matrix)
    }

    /// A matrix of zeros in an arena, to be packed part by part.
    ///
    /// # Errors
    /// Where rows are no whole blocks, or the arena has no room for the matrix.
    pub fn zeros(
        arena: &mut Arena,
        format: Format,
        rows: usize,
        columns: usize,
    ) -> Result<Self, PackError> {
        let size = Size::of(format, rows, columns)?;
        let memory = arena.take(size.packed_bytes).ok_or(PackError::Room {
            format,
            rows,
            columns,
        })?;
        Ok(Self {
            format,
            rows,
            columns,
            size,
            memory,
        })
    }

    /// Bytes that a matrix takes in an arena.
    ///
    /// # Errors
    /// Where rows are no whole blocks, or no memory can hold the matrix.
    pub fn packed_bytes(format: Format, rows: usize, columns: usize) -> Result<usize, PackError> {
        Ok(Size::of(format, rows, columns)?.packed_bytes)
    }

    /// Packs some rows: from a multiple of [`PackedMatrix::ROWS_STEP`] on, to another or to the last row.
    ///
    /// # Errors
    /// Where `stored` is not exactly these rows.
    ///
    /// # Panics
    /// Where there are no such rows.
    pub fn pack_rows(
        &mut self,
        pool: &mut Pool,
        rows: Range<usize>,
        stored: &[u8],
    ) -> Result<(), PackError> {
        let format = self.format;
        let Size {
            stored_row_bytes: row_bytes,
            panel_bytes,
            ..
        } = self.size;
        assert!(
            rows.start.is_multiple_of(LANES)
                && rows.end <= self.rows
                && (rows.end.is_multiple_of(LANES) || rows.end == self.rows),
            "rows {rows:?} of {} are no whole panels",
            self.rows
        );
        self.size
            .check_stored(format, rows.len(), self.columns, stored)?;
        let parts = Shared::new(self.memory.as_mut_slice());
        let first = rows.start / LANES;
        pool.run(rows.len().div_ceil(LANES), &|panel| {
            let from = panel * LANES * row_bytes;
            let to = stored.len().min(from + LANES * row_bytes);
            // SAFETY: each panel is written by one task, and the memory outlives the run.
            let out = unsafe { parts.part((first + panel) * panel_bytes, panel_bytes) };
            for (lane, row) in stored[from..to].chunks_exact(row_bytes).enumerate() {
                for_format!(format,
                    L => pack_row::<L>(row, lane, out),
                    E => float::pack_row::<E>(row, lane, out)
                );
            }
        });
        Ok(())
    }

    /// Rows that are packed together.
    pub const ROWS_STEP: usize = LANES;

    /// Bytes of a stored row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.size.stored_row_bytes
    }

    /// The stored format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows: the outputs of a product.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the inputs of a product.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.memory.len()
    }

    /// Decodes one row: `[columns]`.
    ///
    /// # Panics
    /// Where there is no such row, or `out` has another length.
    pub fn row(&self, cpu: Cpu, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "a row's length");
        row::decode(self, cpu, row, out);
    }

    pub(crate) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(crate) fn panel_bytes(&self) -> usize {
        self.size.panel_bytes
    }

    /// The start of a panel.
    pub(crate) fn panel(&self, panel: usize) -> *const u8 {
        assert!(panel < self.panels(), "panel {panel} of {}", self.panels());
        self.memory
            .as_ptr()
            .wrapping_add(panel * self.size.panel_bytes)
    }
}

impl Size {
    fn of(format: Format, rows: usize, columns: usize) -> Result<Self, PackError> {
        let block = format.block_elements();
        if columns == 0 || !columns.is_multiple_of(block) {
            return Err(PackError::Columns {
                format,
                columns,
                block,
            });
        }
        Self::checked(format, rows, columns).ok_or(PackError::Room {
            format,
            rows,
            columns,
        })
    }

    fn checked(format: Format, rows: usize, columns: usize) -> Option<Self> {
        let fits = |bytes: &usize| isize::try_from(*bytes).is_ok();
        let stored_row_bytes = format.row_bytes(columns)?;
        let panel_bytes = for_format!(format,
            L => (columns / BLOCK)
                .div_ceil(<L as Layout>::Scales::RUN_BLOCKS)
                .checked_mul(run_bytes::<L>()),
            E => columns.checked_mul(LANES * <E as Element>::BYTES)
        );
        let panel_bytes = panel_bytes?.checked_next_multiple_of(LINE_BYTES)?;
        let packed_bytes = rows.div_ceil(LANES).checked_mul(panel_bytes);
        rows.checked_mul(stored_row_bytes).filter(fits)?;
        Some(Self {
            stored_row_bytes,
            panel_bytes,
            packed_bytes: packed_bytes.filter(fits)?,
        })
    }

    /// Whether `stored` is exactly `rows` rows, at most all of the matrix.
    fn check_stored(
        self,
        format: Format,
        rows: usize,
        columns: usize,
        stored: &[u8],
    ) -> Result<(), PackError> {
        let expected = rows * self.stored_row_bytes;
        if stored.len() == expected {
            return Ok(());
        }
        Err(PackError::Bytes {
            format,
            rows,
            columns,
            expected,
            found: stored.len(),
        })
    }
}

/// Bytes of a run: scales, then codes.
const fn run_bytes<L: Layout>() -> usize {
    L::Scales::RUN_BYTES + L::Scales::RUN_BLOCKS * <L::Bits as Bits>::BYTES
}

fn pack_row<L: Layout>(row: &[u8], lane: usize, panel: &mut [u8]) {
    let stored_blocks = L::Scales::STORED_BLOCKS;
    for (index, stored) in row.chunks_exact(L::FORMAT.block_bytes()).enumerate() {
        let first = index * stored_blocks;
        let run =
            &mut panel[first / L::Scales::RUN_BLOCKS * run_bytes::<L>()..][..run_bytes::<L>()];
        let (scales, codes) = run.split_at_mut(L::Scales::RUN_BYTES);
        let within = first % L::Scales::RUN_BLOCKS;
        L::put_scales(stored, within, lane, scales);
        let codes = codes
            .chunks_exact_mut(<L::Bits as Bits>::BYTES)
            .skip(within);
        for (block, out) in codes.take(stored_blocks).enumerate() {
            let words = L::Bits::pack(L::codes(stored, block));
            for (word, group) in words.into_iter().zip(out.chunks_exact_mut(LINE_BYTES)) {
                group[4 * lane..4 * lane + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// A packed panel of a quantized matrix.
pub(crate) struct Panel<L> {
    start: *const u8,
    layout: PhantomData<L>,
}

impl<L> Clone for Panel<L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L> Copy for Panel<L> {}

impl<L: Layout> Panel<L> {
    pub(crate) fn new(matrix: &PackedMatrix, panel: usize) -> Self {
        Self {
            start: matrix.panel(panel),
            layout: PhantomData,
        }
    }

    /// Bytes that some blocks take, up to whole runs.
    #[inline(always)]
    pub(crate) fn bytes(self, blocks: Range<usize>) -> usize {
        blocks.len().div_ceil(L::Scales::RUN_BLOCKS) * run_bytes::<L>()
    }

    /// The start of a block's run: its scales.
    #[inline(always)]
    pub(crate) fn scales(self, block: usize) -> *const u8 {
        let run = block / L::Scales::RUN_BLOCKS;
        self.start.wrapping_add(run * run_bytes::<L>())
    }

    /// The codes of a block, as [`Isa::dot`] takes them.
    ///
    /// # Safety
    /// The block must be there, and the instruction set.
    #[inline(always)]
    pub(crate) unsafe fn quads<S: Isa>(self, isa: S, block: usize) -> Quads<S> {
        // SAFETY: the caller's promise.
        unsafe { L::finish(isa, L::Bits::unpack(isa, self.codes(block))) }
    }

    /// Scales and minima of a block, for codes as they are unpacked.
    ///
    /// # Safety
    /// The block must be there, and the instruction set.
    #[inline(always)]
    pub(crate) unsafe fn factors<S: Isa>(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        // SAFETY: the caller's promise.
        unsafe {
            let (scales, mins) = L::Scales::load(isa, self.scales(block), block);
            let up = bits::moved_up::<S>(L::Bits::UP);
            if up == 0 {
                return (scales, mins);
            }
            let down = isa.splat(1.0 / (1_u32 << up) as f32);
            (each!(2, half => isa.mul(scales[half], down)), mins)
        }
    }

    /// The start of a block's codes.
    #[inline(always)]
    pub(crate) fn codes(self, block: usize) -> *const u8 {
        let within = block % L::Scales::RUN_BLOCKS;
        self.scales(block)
            .wrapping_add(L::Scales::RUN_BYTES + within * <L::Bits as Bits>::BYTES)
    }
}
