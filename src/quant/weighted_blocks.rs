//! Blocks of 32 with an importance, sixteen side by side, for the encodings whose blocks stand alone in a row.
//!
//! An element weighs `importance * sqrt(sigma2 + x * x)`, where `sigma2` is the mean square of its row.

use super::lanes::{Lanes, WIDTH};
use super::rows::{Rows, side_by_side};

/// Elements of a block.
const LEN: usize = 32;

/// Goes through all rows, sixteen blocks at a time.
pub(super) struct Batches<'a> {
    rows: &'a Rows<'a>,
    importance: &'a [f32],
    next: usize,
    /// The row whose mean square is known.
    row: usize,
    sigma2: f32,
}

/// Up to sixteen consecutive blocks; the lanes beyond them are zero.
pub(super) struct Batch<L> {
    /// Index of the first element.
    pub index: usize,
    /// Blocks.
    pub count: usize,
    /// The values, side by side.
    pub x: [L; LEN],
    /// Their weights.
    pub w: [L; LEN],
}

impl<L> Batch<L> {
    /// The blocks themselves, in order.
    #[inline(always)]
    pub(super) fn blocks<'a>(&self, rows: &Rows<'a>) -> &'a [[f32; LEN]] {
        rows.values[self.index..self.index + self.count * LEN].as_chunks::<LEN>().0
    }
}

impl<'a> Batches<'a> {
    #[inline(always)]
    pub(super) fn new(rows: &'a Rows<'a>, importance: &'a [f32]) -> Self {
        Batches { rows, importance, next: 0, row: usize::MAX, sigma2: 0.0 }
    }

    /// The next blocks, or `None` at the end.
    #[inline(always)]
    pub(super) fn next<L: Lanes>(&mut self) -> Option<Batch<L>> {
        let index = self.next;
        let count = ((self.rows.values.len() - index) / LEN).min(WIDTH);
        if count == 0 {
            return None;
        }
        self.next += count * LEN;
        let (mut x, mut importance) = ([0.0; WIDTH * LEN], [0.0; WIDTH * LEN]);
        let mut sigma2 = [0.0; WIDTH];
        x[..count * LEN].copy_from_slice(&self.rows.values[index..self.next]);
        for (block, importance) in importance.as_chunks_mut::<LEN>().0[..count].iter_mut().enumerate() {
            let at = index + block * LEN;
            let column = at % self.rows.row_len;
            importance.copy_from_slice(&self.importance[column..column + LEN]);
            sigma2[block] = self.mean_square(at / self.rows.row_len);
        }
        let (x, mut w) = (side_by_side::<L, LEN>(&x), side_by_side::<L, LEN>(&importance));
        let sigma2 = L::load(&sigma2);
        for i in 0..LEN {
            w[i] = w[i].mul(sigma2.add(x[i].mul(x[i])).sqrt());
        }
        Some(Batch { index, count, x, w })
    }

    #[inline(always)]
    fn mean_square(&mut self, row: usize) -> f32 {
        if row != self.row {
            let len = self.rows.row_len;
            let sum = self.rows.values[row * len..(row + 1) * len].iter().fold(0.0, |sum, x| sum + x * x);
            (self.row, self.sigma2) = (row, sum / len as f32);
        }
        self.sigma2
    }
}

/// The fifth bits of the lower and the upper half of a block: bit `i` belongs to element `i`.
#[inline(always)]
pub(super) fn fifth_bits(low: &[u8], high: &[u8]) -> [u8; 4] {
    // The product moves bit 4 of byte `i` to bit `i` of the top byte, and nothing else gets there.
    let eight = |codes: &[u8; 8]| {
        let fifth = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
        (fifth.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    let mut bits = [0; 4];
    for (bits, codes) in bits.iter_mut().zip(low.as_chunks::<8>().0.iter().chain(high.as_chunks::<8>().0)) {
        *bits = eight(codes);
    }
    bits
}
