//! Where products go: set or added to a residual, with or without a bias.

use super::rows::SharedRows;
use std::ops::Range;

/// How a product reaches the output.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// `y = product + bias`.
    Set,
    /// `y += product + bias`.
    Add,
}

/// Columns of an output that one task owns.
pub(super) struct Sink<'a> {
    /// `[rows of the matrix]`
    bias: Option<&'a [f32]>,
    store: Store,
    out: SharedRows<'a>,
    owned: Range<usize>,
}

impl<'a> Sink<'a> {
    /// # Safety
    /// No other task may use the columns `owned` of `out` while this lives.
    pub(super) unsafe fn new(
        bias: Option<&'a [f32]>,
        (store, out): (Store, SharedRows<'a>),
        owned: Range<usize>,
    ) -> Self {
        Sink { bias, store, out, owned }
    }

    /// The products of token `t` and the rows from `first` on; those that are not owned are dropped.
    #[inline(always)]
    pub(super) fn put_rows<const N: usize>(&self, t: usize, first: usize, products: &[f32; N]) {
        debug_assert!(self.owned.start <= first);
        if first + N > self.owned.end {
            return (first..self.owned.end).zip(products).for_each(|(r, product)| self.put(t, r, *product));
        }
        // SAFETY: the constructor was promised these columns.
        let out = unsafe { self.out.slice(t, first, first + N) };
        // Arrays, so that the loops below are vectors and not calls.
        let out: &mut [f32; N] = out.try_into().expect("the range has N columns");
        let mut y = *products;
        if let Some(bias) = self.bias {
            let bias: &[f32; N] = bias[first..first + N].try_into().expect("the range has N rows");
            for r in 0..N {
                y[r] += bias[r];
            }
        }
        match self.store {
            Store::Set => *out = y,
            Store::Add => {
                for r in 0..N {
                    out[r] += y[r];
                }
            }
        }
    }

    /// The product of token `t` and row `r`.
    #[inline(always)]
    pub(super) fn put(&self, t: usize, r: usize, product: f32) {
        let y = match self.bias {
            Some(bias) => product + bias[r],
            None => product,
        };
        // SAFETY: as above.
        let out = unsafe { &mut self.out.slice(t, r, r + 1)[0] };
        match self.store {
            Store::Set => *out = y,
            Store::Add => *out += y,
        }
    }
}
