//! Activations: rows of f32, padded with zeros to whole vectors of 16 lanes.

use super::lanes::WIDTH;
use super::lines::Lines;
use std::marker::PhantomData;
use std::ops::Range;

/// `[n, width]`; every row takes whole vectors, whose lanes beyond `width` are 0.
pub struct Rows {
    width: usize,
    n: usize,
    data: Lines<[f32; WIDTH]>, // [n, vectors]
}

impl Rows {
    pub(super) fn new(width: usize) -> Rows {
        Rows { width, n: 0, data: Lines::new() }
    }

    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Vectors per row.
    pub(super) fn vectors(&self) -> usize {
        self.width.div_ceil(WIDTH)
    }

    /// Sets the number of rows. Old values stay where they fit; nothing relies on them.
    pub(super) fn set_n(&mut self, n: usize) {
        self.n = n;
        self.data.resize(n * self.vectors(), [0.0; WIDTH]);
    }

    /// Row `t` in vectors.
    pub(super) fn row(&self, t: usize) -> &[[f32; WIDTH]] {
        let vectors = self.vectors();
        &self.data[t * vectors..(t + 1) * vectors]
    }

    /// Row `t` in vectors; lanes beyond the width must stay 0.
    pub(super) fn row_mut(&mut self, t: usize) -> &mut [[f32; WIDTH]] {
        let vectors = self.vectors();
        &mut self.data[t * vectors..(t + 1) * vectors]
    }

    /// All rows in vectors, `[n, vectors]`; lanes beyond the width must stay 0.
    pub(super) fn all_mut(&mut self) -> &mut [[f32; WIDTH]] {
        &mut self.data
    }

    /// All rows in vectors, `[n, vectors]`.
    pub(super) fn all(&self) -> &[[f32; WIDTH]] {
        &self.data
    }

    /// The `width` values of row `t`.
    pub(super) fn values(&self, t: usize) -> &[f32] {
        &self.row(t).as_flattened()[..self.width]
    }

    /// The `width` values of row `t`.
    pub(super) fn values_mut(&mut self, t: usize) -> &mut [f32] {
        let width = self.width;
        &mut self.row_mut(t).as_flattened_mut()[..width]
    }

    /// A view through which the tasks of one region write values that no two of them share.
    pub(super) fn shared(&mut self) -> SharedRows<'_> {
        let stride = self.vectors() * WIDTH;
        SharedRows::new(self.data.as_flattened_mut(), stride, self.width)
    }
}

/// Rows that several tasks write, each its own columns or rows.
#[derive(Clone, Copy)]
pub(super) struct SharedRows<'a> {
    start: *mut f32,
    n: usize,
    stride: usize,
    columns: (usize, usize), // those that exist, `from..to`
    rows: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is `slice`, whose caller promises that ranges in use at one time do not overlap.
unsafe impl Send for SharedRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// Rows of `width` values, `stride` apart.
    pub(super) fn new(data: &'a mut [f32], stride: usize, width: usize) -> SharedRows<'a> {
        assert!(width <= stride, "rows do not overlap");
        let n = data.len() / stride;
        SharedRows { start: data.as_mut_ptr(), n, stride, columns: (0, width), rows: PhantomData }
    }

    /// Rows that hold only the columns `columns` of a wider matrix.
    pub(super) fn shifted(data: &'a mut [f32], columns: Range<usize>) -> SharedRows<'a> {
        let (stride, n) = (columns.len(), data.len() / columns.len());
        let columns = (columns.start, columns.end);
        SharedRows { start: data.as_mut_ptr(), n, stride, columns, rows: PhantomData }
    }

    /// Columns `from..to` of row `t`.
    ///
    /// # Safety
    /// No other task may use an overlapping range of the same row while this slice lives.
    #[inline(always)]
    pub(super) unsafe fn slice(&self, t: usize, from: usize, to: usize) -> &'a mut [f32] {
        let (first, end) = self.columns;
        assert!(t < self.n && first <= from && from <= to && to <= end, "row {t}, columns {from}..{to}");
        // SAFETY: the range lies inside row `t` by the assertion, row `t` inside the data by the constructors;
        // the caller promises that nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(t * self.stride + from - first), to - from) }
    }
}
