//! Memory for weights and caches: aligned to cache lines, zeroed, and backed by the system only as it is written.
#![expect(
    unsafe_code,
    reason = "memory of its own alignment, written by several threads"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// A cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// From this size on, memory comes from the system by itself, and huge pages are asked for.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Memory is given back in multiples of this, so that no huge page is split.
const RELEASE_STEP_BYTES: usize = HUGE_PAGE_BYTES;

/// Zeroed bytes.
#[derive(Debug)]
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
    /// Where the mapping begins, if it is one, and its length.
    mapping: Option<Mapping>,
}

// SAFETY: the bytes are owned like those of a `Box<[u8]>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Takes `length` zeroed bytes. Large ones are reserved only: no memory is taken before it is written.
    pub(crate) fn zeroed(length: usize) -> Self {
        let layout = Layout::from_size_align(length.max(LINE_BYTES), LINE_BYTES)
            .expect("lengths are those of things in memory");
        if length >= HUGE_PAGE_BYTES
            && let Some((start, mapping)) = map(length)
        {
            return Self {
                start,
                layout,
                mapping: Some(mapping),
            };
        }
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self {
            start,
            layout,
            mapping: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the bytes are initialized, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        match self.mapping {
            Some(mapping) => unmap(mapping),
            // SAFETY: allocated with this layout by `zeroed`.
            None => unsafe { dealloc(self.start.as_ptr(), self.layout) },
        }
    }
}

/// A mapping: where it begins, and its length.
type Mapping = (NonNull<u8>, usize);

/// Maps anonymous memory that starts at a huge page. Huge pages are only a wish: without them the address cache
/// misses more often.
#[cfg(all(target_os = "linux", not(miri)))]
fn map(length: usize) -> Option<(NonNull<u8>, Mapping)> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let whole = length.checked_add(HUGE_PAGE_BYTES)?;
    let (access, flags) = (
        ProtFlags::READ | ProtFlags::WRITE,
        MapFlags::PRIVATE | MapFlags::NORESERVE,
    );
    // SAFETY: a new mapping, where the system likes, touches nothing that exists.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, access, flags) };
    let base = NonNull::new(base.ok()?.cast::<u8>())?;
    let skipped = base.as_ptr().align_offset(HUGE_PAGE_BYTES);
    // SAFETY: less than a huge page is skipped, which was mapped in addition.
    let start = unsafe { base.add(skipped) };
    // SAFETY: the range lies in the mapping, and the advice changes no content.
    let _ = unsafe { madvise(start.as_ptr().cast(), length, Advice::LinuxHugepage) };
    Some((start, (base, whole)))
}

#[cfg(all(target_os = "linux", not(miri)))]
fn unmap((base, length): Mapping) {
    // SAFETY: mapped with this length by `map`, and its owner is gone.
    let result = unsafe { rustix::mm::munmap(base.as_ptr().cast(), length) };
    debug_assert!(result.is_ok(), "a mapping of ours can be unmapped");
}

/// Lets the system take the memory back; it would read as zeros.
#[cfg(all(target_os = "linux", not(miri)))]
fn give_back(memory: &mut AlignedBytes, from: usize, length: usize) {
    use rustix::mm::{Advice, madvise};
    let start = memory.as_mut_ptr().wrapping_add(from);
    // SAFETY: the range lies in an anonymous mapping that is borrowed alone, and zeros are initialized bytes.
    let result = unsafe { madvise(start.cast(), length, Advice::LinuxDontNeed) };
    debug_assert!(result.is_ok(), "pages of ours can be given back");
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn give_back(_: &mut AlignedBytes, _: usize, _: usize) {}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn map(_: usize) -> Option<(NonNull<u8>, Mapping)> {
    None
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn unmap(_: Mapping) {}

/// One piece of memory for many matrices, so that all of it lies in huge pages.
#[derive(Debug)]
pub struct Arena {
    memory: Arc<AlignedBytes>,
    taken: usize,
}

/// A part of an [`Arena`] that has one owner.
#[derive(Debug)]
pub(crate) struct Region {
    memory: Arc<AlignedBytes>,
    offset: usize,
    length: usize,
}

impl Arena {
    /// Reserves `length` bytes, which the system backs as they are written.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self {
            memory: Arc::new(AlignedBytes::zeroed(length)),
            taken: 0,
        }
    }

    /// The next `length` bytes, zeroed, from a cache line on; none if they are not there.
    pub(crate) fn take(&mut self, length: usize) -> Option<Region> {
        let end = self.taken.checked_add(length)?;
        if end > self.memory.len() {
            return None;
        }
        let region = Region {
            memory: Arc::clone(&self.memory),
            offset: self.taken,
            length,
        };
        self.taken = end.next_multiple_of(LINE_BYTES);
        Some(region)
    }
}

impl Region {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr().wrapping_add(self.offset)
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the arena gave these bytes, which are initialized, to this region alone, and nobody makes a reference
        // to the whole.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr().cast_mut(), self.length) }
    }
}

/// Bytes that are written once, then read, and given back to the system from the front as they are not needed any more.
#[derive(Debug)]
pub struct ReleasableBytes {
    memory: AlignedBytes,
    length: usize,
    released: usize,
}

impl ReleasableBytes {
    /// Takes `length` zeroed bytes, which the system backs as they are written.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        Self {
            memory: AlignedBytes::zeroed(length),
            length,
            released: 0,
        }
    }

    /// All bytes, to be written before anything is released.
    ///
    /// # Panics
    /// After a release.
    #[must_use]
    pub fn whole_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.released, 0, "released bytes are not written again");
        &mut self.memory.as_mut_slice()[..self.length]
    }

    /// How many there are, released or not.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The bytes from `offset` on; none if that was released or lies beyond the end.
    #[must_use]
    pub fn from(&self, offset: usize) -> Option<&[u8]> {
        if offset < self.released || offset > self.length {
            return None;
        }
        // SAFETY: the memory is that long, initialized, and borrowed as `self` is.
        let whole = unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.length) };
        Some(&whole[offset..])
    }

    /// Gives up everything before `offset`.
    pub fn release(&mut self, offset: usize) {
        let end = offset.min(self.length);
        let first = self.released / RELEASE_STEP_BYTES * RELEASE_STEP_BYTES;
        let last = end / RELEASE_STEP_BYTES * RELEASE_STEP_BYTES;
        if self.memory.mapping.is_some() && first < last {
            give_back(&mut self.memory, first, last - first);
        }
        self.released = self.released.max(end);
    }
}

/// Room for results: floats that begin at a cache line, so that no two threads write the same one.
#[derive(Debug)]
pub struct FloatBuffer {
    memory: AlignedBytes,
    length_max: usize,
}

impl FloatBuffer {
    /// Makes room for `length_max` floats, which are zero at first.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self {
            memory: AlignedBytes::zeroed(length_max * size_of::<f32>()),
            length_max,
        }
    }

    /// The first `length` floats, as they were last written.
    ///
    /// # Panics
    /// If there is no room for as many.
    #[must_use]
    pub fn first(&self, length: usize) -> &[f32] {
        self.check(length);
        // SAFETY: the memory is that long, aligned, initialized, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), length) }
    }

    /// The first `length` floats, as they were last written.
    ///
    /// # Panics
    /// If there is no room for as many.
    #[must_use]
    pub fn first_mut(&mut self, length: usize) -> &mut [f32] {
        self.check(length);
        // SAFETY: the memory is that long, aligned, initialized, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), length) }
    }

    fn check(&self, length: usize) {
        assert!(
            length <= self.length_max,
            "{length} floats, but room for {}",
            self.length_max
        );
    }
}

/// A slice whose parts are written by several threads at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<T> {
    start: *mut T,
    length: usize,
}

// SAFETY: `part` leaves it to its callers that no element has two users.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where element `index` is.
    ///
    /// # Safety
    /// The slice must still be borrowed and that long, and nobody else may use the element meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        debug_assert!(index < self.length, "{index} of {} elements", self.length);
        // SAFETY: in bounds, by the caller's promise.
        unsafe { self.start.add(index) }
    }

    /// `length` elements from `from` on.
    ///
    /// # Safety
    /// The slice must still be borrowed, and nobody else may use the same elements meanwhile.
    pub(crate) unsafe fn part<'a>(self, from: usize, length: usize) -> &'a mut [T] {
        assert!(
            from.checked_add(length)
                .is_some_and(|end| end <= self.length),
            "{from} + {length} lies outside of {} elements",
            self.length
        );
        // SAFETY: in bounds; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), length) }
    }
}
