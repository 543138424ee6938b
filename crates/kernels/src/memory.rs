//! Memory for weights and caches: aligned to cache lines, zeroed, and backed by the system only as it is written.
#![expect(unsafe_code, reason = "an allocation of its own alignment")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// From this size on, huge pages are asked for, and the start is aligned to one.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Zeroed bytes.
#[derive(Debug)]
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are owned like those of a `Box<[u8]>`.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// Allocates `length` zeroed bytes; the system backs them as they are first written.
    pub(crate) fn zeroed(length: usize) -> Self {
        let align = if length >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            LINE_BYTES
        };
        let layout = Layout::from_size_align(length.max(LINE_BYTES), align)
            .expect("lengths are those of things in memory");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        ask_for_huge_pages(start, layout.size());
        Self { start, layout }
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
        // SAFETY: allocated with this layout by `zeroed`.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Only a wish: a system without huge pages works as well, with more misses of the address cache.
#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_huge_pages(start: NonNull<u8>, length: usize) {
    if length < HUGE_PAGE_BYTES {
        return;
    }
    let whole = length / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    // SAFETY: the range was just allocated, starts at a page, and the advice changes no content.
    let _ = unsafe {
        rustix::mm::madvise(
            start.as_ptr().cast(),
            whole,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn ask_for_huge_pages(_: NonNull<u8>, _: usize) {}

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

    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
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
