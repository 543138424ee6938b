//! Whole tiles of tokens: each panel is unpacked, some blocks at a time, and multiplied with all tiles of a group.
//! This is how a prompt is processed.
#![expect(unsafe_code, reason = "vectors from pointers")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::Job;
use super::accumulate::{Blocks, Codes, accumulate};
use crate::activations::Tile;
use crate::isa::{Isa, Kernel, LANES, UnpackedTile, each};
use crate::memory::LINE_BYTES;
use crate::packed::{BLOCK, Kind, Layout, Pair, Panel, Scales};

/// Most blocks that the scratch holds unpacked: more than the fastest cache has room for, since long walks over a tile's
/// activations are worth more.
const SCRATCH_BLOCKS: usize = 64;
/// Blocks that it holds for each tile, if that is less. So what memory is asked for at a time stays little, and is there when the
/// tile that is multiplied meanwhile is done. Whole runs of scales.
const BLOCKS_A_TILE: usize = 8;
/// Bytes of an unpacked block.
const UNPACKED_BYTES: usize = BLOCK * LANES;
/// Tokens whose sums are kept while a panel is walked.
const GROUP_TOKENS_MAX: usize = 256;
/// Tokens whose results are written at a time.
const STEP: usize = 4;

/// Some panels of a product with more tokens than [`Isa::FEW_TOKENS_MAX`].
pub(super) struct Many<'a, L> {
    job: &'a Job<'a>,
    panels: Range<usize>,
    layout: PhantomData<L>,
}

impl<'a, L> Many<'a, L> {
    pub(super) fn new(job: &'a Job<'a>, panels: Range<usize>) -> Self {
        Self {
            job,
            panels,
            layout: PhantomData,
        }
    }
}

impl<L: Layout> Kernel for Many<'_, L> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        const {
            assert!(2 * S::FEW_TOKENS_MAX >= S::TILE, "more tokens fill a tile");
            assert!(BLOCKS_A_TILE.is_multiple_of(L::Scales::RUN_BLOCKS));
        }
        let activations = self.job.activations;
        let columns = self.job.matrix.columns();
        let group_tokens = (S::ACTIVATION_BYTES_MAX / columns).clamp(S::TILE, GROUP_TOKENS_MAX);
        let group = group_tokens / S::TILE;
        for first in (0..activations.tiles()).step_by(group) {
            let tiles = first..activations.tiles().min(first + group);
            for panel in self.panels.clone() {
                // SAFETY: the caller's promise.
                unsafe { self.panel(isa, panel, tiles.clone()) };
            }
        }
        // SAFETY: the instruction set is there.
        unsafe { isa.finish_streams() };
    }
}

impl<L: Layout> Many<'_, L> {
    #[inline(always)]
    unsafe fn panel<S: Isa>(&self, isa: S, panel: usize, tiles: Range<usize>) {
        let activations = self.job.activations;
        let blocks = self.job.matrix.columns() / BLOCK;
        let packed = Panel::<L>::new(self.job.matrix, panel);
        let mut memory = MaybeUninit::<ScratchMemory>::uninit();
        let mut sums = MaybeUninit::<[[f32; LANES]; GROUP_TOKENS_MAX]>::uninit();
        let sums: *mut f32 = sums.as_mut_ptr().cast();
        let tokens = tiles.start * S::TILE..tiles.end * S::TILE;
        let sums_of = |token: usize| sums.wrapping_add((token - tokens.start) * LANES);
        // SAFETY: the scratch is filled before it is read; sums are those of the group's tokens.
        unsafe {
            sums.write_bytes(0, tokens.len() * LANES);
            let part_blocks = SCRATCH_BLOCKS.min(BLOCKS_A_TILE * tiles.len());
            for from in (0..blocks).step_by(part_blocks) {
                let part = from..blocks.min(from + part_blocks);
                let scratch = Scratch::fill::<S, L>(isa, &mut memory, packed, part.clone());
                // What comes next is asked for a little at a time: it arrives while this is multiplied.
                let lines = packed
                    .bytes(part.clone())
                    .div_ceil(LINE_BYTES * tiles.len());
                let mut next = packed.scales(part.end);
                for tile in tiles.clone() {
                    for _ in 0..lines {
                        isa.prefetch(next);
                        next = next.wrapping_add(LINE_BYTES);
                    }
                    let tile = activations.tile(tile);
                    let step = TileStep {
                        scratch,
                        blocks: part.clone(),
                        tile,
                        sums: sums_of(tile.first),
                    };
                    match S::TILE {
                        4 => isa.enter(KindStep::<L::Kind, 4>(step, PhantomData)),
                        _ => isa.enter(KindStep::<L::Kind, 8>(step, PhantomData)),
                    }
                }
            }
            let end = activations.tokens().min(tokens.end);
            for first in (tokens.start..end).step_by(STEP) {
                let held = load_sums::<S, STEP>(isa, sums_of(first));
                self.job.put::<S, STEP, true>(isa, panel, first, &held);
            }
        }
    }
}

/// The unpacked blocks of a panel times those of a tile.
struct TileStep {
    scratch: Scratch,
    blocks: Range<usize>,
    tile: Tile,
    /// `[tokens of the tile][16]`.
    sums: *mut f32,
}

impl TileStep {
    /// All that is multiplied, by its addresses.
    #[inline(always)]
    fn unpacked<K: Kind>(&self) -> UnpackedTile {
        let Tile {
            width,
            codes,
            scales,
            ..
        } = self.tile;
        let at = self.blocks.start * width;
        UnpackedTile {
            blocks: self.blocks.len(),
            codes: self.scratch.codes,
            factors: self.scratch.factors,
            activations: codes.wrapping_add(at * BLOCK),
            scales: scales.wrapping_add(at),
            token_sums: match K::HALVED {
                false => self.tile.scaled_sums.wrapping_add(at),
                true => self.tile.scaled_half_sums.wrapping_add(2 * at),
            },
            sums: self.sums,
        }
    }
}

/// The same, for a kind of format and a width.
struct KindStep<K, const T: usize>(TileStep, PhantomData<K>);

impl<K: Kind, const T: usize> Kernel for KindStep<K, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Isa>(self, isa: S) {
        let Self(step, _) = self;
        let count = step.blocks.len();
        // SAFETY: the caller's promise.
        unsafe {
            if isa.multiply_tile(step.unpacked::<K>(), K::HALVED, !K::CENTRED) {
                return;
            }
            let mut sums = load_sums::<S, T>(isa, step.sums);
            accumulate::<S, K, _, T>(
                isa,
                step.scratch,
                0..count,
                step.blocks.start,
                step.tile,
                &mut sums,
            );
            for (token, &sum) in sums.iter().enumerate() {
                isa.store(sum, step.sums.add(token * LANES));
            }
        }
    }
}

/// Sums of `T` tokens, `[T][16]`.
#[inline(always)]
unsafe fn load_sums<S: Isa, const T: usize>(isa: S, from: *const f32) -> [S::Floats; T] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [isa.splat(0.0); T];
        for (token, sum) in sums.iter_mut().enumerate() {
            *sum = isa.load(from.add(token * LANES));
        }
        sums
    }
}

#[repr(align(64))]
struct ScratchMemory {
    codes: [u8; SCRATCH_BLOCKS * UNPACKED_BYTES],
    factors: [f32; SCRATCH_BLOCKS * 4 * LANES],
}

/// Unpacked blocks: `[blocks][8 groups][64]` codes, `[blocks][2 scales, 2 minima][16]` floats, of which those are initialized that
/// the kind of format has.
#[derive(Clone, Copy)]
struct Scratch {
    codes: *const u8,
    factors: *const f32,
}

impl Scratch {
    #[inline(always)]
    unsafe fn fill<S: Isa, L: Layout>(
        isa: S,
        memory: &mut MaybeUninit<ScratchMemory>,
        from: Panel<L>,
        blocks: Range<usize>,
    ) -> Self {
        let memory = memory.as_mut_ptr();
        // SAFETY: there are at most `SCRATCH_BLOCKS` blocks, which the memory has room for.
        unsafe {
            let codes = (&raw mut (*memory).codes).cast::<u8>();
            let factors = (&raw mut (*memory).factors).cast::<f32>();
            for (slot, block) in blocks.enumerate() {
                let codes = codes.add(slot * UNPACKED_BYTES);
                let quads = from.quads(isa, block);
                each!(2, half => each!(4, group => {
                    let to = codes.add((4 * half + group) * LINE_BYTES);
                    isa.store_bytes(quads[half][group], to)
                }));
                let factors = factors.add(slot * 4 * LANES);
                let (scales, mins) = from.factors(isa, block);
                each!(2, half => {
                    if half == 0 || L::Kind::HALVED {
                        isa.store(scales[half], factors.add(half * LANES));
                        if !L::Kind::CENTRED {
                            isa.store(mins[half], factors.add((2 + half) * LANES));
                        }
                    }
                });
            }
            Self { codes, factors }
        }
    }
}

impl<S: Isa> Blocks<S> for Scratch {
    type Codes = ScratchBlock;

    #[inline(always)]
    unsafe fn codes(self, _: S, block: usize) -> ScratchBlock {
        ScratchBlock(self.codes.wrapping_add(block * UNPACKED_BYTES))
    }

    #[inline(always)]
    unsafe fn scales<K: Kind>(self, isa: S, block: usize) -> (Pair<S>, Pair<S>) {
        let halves_apart = if K::HALVED { LANES } else { 0 };
        // SAFETY: the caller's promise; what the kind of format does not have was not stored.
        unsafe {
            let scales = self.factors.add(4 * block * LANES);
            let mins = scales.add(2 * LANES);
            (
                each!(2, half => isa.load(scales.add(half * halves_apart))),
                if K::CENTRED {
                    [isa.splat(0.0); 2]
                } else {
                    each!(2, half => isa.load(mins.add(half * halves_apart)))
                },
            )
        }
    }
}

/// The codes of a block in the scratch.
#[derive(Clone, Copy)]
struct ScratchBlock(*const u8);

impl<S: Isa> Codes<S> for ScratchBlock {
    #[inline(always)]
    unsafe fn group(self, isa: S, index: usize) -> S::Bytes {
        // SAFETY: the caller's promise; the block holds all groups.
        unsafe { isa.load_bytes(self.0.add(index * LINE_BYTES)) }
    }
}
