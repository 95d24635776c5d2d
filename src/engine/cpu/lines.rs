//! Vectors that begin at cache lines: a load of 64 bytes across two lines takes twice the time, and what the allocator
//! hands out begins 16 bytes into one.

use std::ops::{Deref, DerefMut};

/// A vector of `T`, whole cache lines each, that begins at a line.
pub(super) struct Lines<T>(Vec<Line<T>>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>(T);

impl<T: Copy> Lines<T> {
    pub(super) const fn new() -> Self {
        Lines(Vec::new())
    }

    /// `n` times `value`.
    pub(super) fn of(value: T, n: usize) -> Self {
        Lines(vec![Line(value); n])
    }

    /// As [`Vec::resize`].
    pub(super) fn resize(&mut self, n: usize, value: T) {
        self.0.resize(n, Line(value));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<T: Copy> Default for Lines<T> {
    fn default() -> Self {
        Lines::new()
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        const { assert!(size_of::<Line<T>>() == size_of::<T>(), "whole cache lines") };
        // SAFETY: a `Line<T>` is a `T` and nothing else, by the assertion; both live in the same vector.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }
}

impl<T> DerefMut for Lines<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        const { assert!(size_of::<Line<T>>() == size_of::<T>(), "whole cache lines") };
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len()) }
    }
}
