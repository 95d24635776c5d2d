//! The test binary's allocator: the system's, counting for each thread what it holds and what it asked for.
//!
//! Parsers start no threads, so what a thread counts is what its parser took, whatever other tests do meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What `work` took from the heap of this thread, beside its result.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Heap) {
    let before = HELD.get();
    PEAK.set(before);
    LARGEST.set(0);
    let result = work();
    // What was held before may have been given back in between: the peak is then no more than that.
    let peak = PEAK.get().saturating_sub(before).max(0);
    (result, Heap { largest: LARGEST.get(), peak: peak.unsigned_abs() })
}

/// Bytes.
pub struct Heap {
    /// The largest single request.
    pub largest: usize,
    /// The most that was held at once.
    pub peak: usize,
}

struct Watched;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    // Signed: a thread may give back what another took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged; the cells are constant-initialised thread-locals without a
// destructor, so touching them never allocates. `realloc` is the trait's own: a new block, a copy, the old one back.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is `System`'s.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(change: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(change));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[global_allocator]
static WATCHED: Watched = Watched;

#[test]
fn the_counter_sees_what_is_held_at_once() {
    let (_, heap) = measure(|| {
        drop(vec![1u8; 3 << 20]);
        let held = vec![1u8; 1 << 20];
        vec![2u8; 1 << 20].len() + held.len()
    });
    assert_eq!((heap.largest, heap.peak), (3 << 20, 3 << 20));
}
