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

    /// The product of token `t` and row `r`.
    #[inline(always)]
    pub(super) fn put(&self, t: usize, r: usize, product: f32) {
        self.put_rows(t, r, &[product]);
    }

    /// The products of token `t` and the rows from `first` on; those that are not owned are dropped.
    #[inline(always)]
    pub(super) fn put_rows(&self, t: usize, first: usize, products: &[f32]) {
        let end = (first + products.len()).min(self.owned.end);
        debug_assert!(self.owned.start <= first);
        // SAFETY: the constructor was promised these columns.
        let out = unsafe { self.out.slice(t, first, end) };
        match (self.store, self.bias) {
            (Store::Set, None) => out.copy_from_slice(&products[..end - first]),
            (Store::Set, Some(bias)) => {
                let with_bias = products.iter().zip(&bias[first..end]);
                out.iter_mut().zip(with_bias).for_each(|(y, (product, bias))| *y = product + bias);
            }
            (Store::Add, None) => out.iter_mut().zip(products).for_each(|(y, product)| *y += product),
            (Store::Add, Some(bias)) => {
                let with_bias = products.iter().zip(&bias[first..end]);
                out.iter_mut().zip(with_bias).for_each(|(y, (product, bias))| *y += product + bias);
            }
        }
    }
}
