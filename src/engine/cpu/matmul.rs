//! `y[t, r] = sum_k w[r, k] x[t, k]`, contract `contracts/kernels/matmul.yaml`: 16 lanes over `k`, one fma chain each,
//! one tree at the end, whatever the batch.
//!
//! One token multiplies blocks as they are decoded in registers, so weights are read once from memory. More tokens
//! share panels of decoded rows, multiplied in tiles of accumulators.

use super::encodings::{self, Encoding, Visitor, WithEncoding};
use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH, ask_for};
use super::lines::Lines;
use super::matrix::Piece;
use super::rows::Rows;
use super::sink::Sink;
use crate::models::{RowOrder, Weight};
use crate::quant;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};
use std::array::from_fn;
use std::cell::RefCell;
use std::ops::Range;

/// Rows decoded at once for a batch: with 1500 columns, 96 KB of the second-level cache.
const PANEL: usize = 16;

/// A weight `[rows, width]` in the encoding of its file.
pub(super) struct RowMatrix {
    tensor: Tensor,
    order: RowOrder,
    n_rows: usize,
    width: usize,
    /// Bytes of a row where blocks are decoded in registers.
    row_bytes: Option<usize>,
}

impl RowMatrix {
    /// # Errors
    /// [`Kind::Unsupported`] for an encoding without a codec.
    pub(super) fn new(weight: &Weight) -> Result<RowMatrix> {
        let tensor = weight.tensor.clone();
        quant::codec(tensor.dtype)?;
        let (n_rows, width) = (tensor.shape.rows(), tensor.shape.row_len());
        if tensor.dtype.nbytes(&tensor.shape) != Some(tensor.bytes.len()) {
            return Err(Error::new(
                Kind::Internal,
                "engine::cpu",
                "a tensor's bytes do not belong to its shape",
            ));
        }
        let whole = encodings::is_fast(tensor.dtype) && width % WIDTH == 0;
        let row_bytes = whole.then(|| width / tensor.dtype.block_len() * tensor.dtype.block_bytes());
        Ok(RowMatrix { tensor, order: weight.rows, n_rows, width, row_bytes })
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Bytes that a row takes in the file, about.
    pub(super) fn row_cost(&self) -> usize {
        self.tensor.bytes.len() / self.n_rows.max(1)
    }

    /// Canonical row `r`, decoded.
    pub(super) fn read_row(&self, r: usize, out: &mut [f32]) -> Result<()> {
        quant::row_to_f32(&self.tensor, self.order.stored_row(r), out)
    }

    /// The bytes of those of `rows` that exist, or of rows near them where they are stored in another order.
    pub(super) fn stored(&self, rows: Range<usize>) -> &[u8] {
        &self.tensor.bytes[rows.start * self.row_cost()..rows.end.min(self.n_rows) * self.row_cost()]
    }

    /// The blocks of canonical row `r`.
    #[inline(always)]
    fn row(&self, r: usize, row_bytes: usize) -> &[u8] {
        let at = self.order.stored_row(r) * row_bytes;
        &self.tensor.bytes[at..at + row_bytes]
    }
}

/// The products of the rows of `piece` with every token of `x`, into `sink`.
pub(super) fn multiply(isa: Isa, matrix: &RowMatrix, x: &Rows, piece: &Piece<'_>, sink: Sink<'_>) {
    let job = Product { matrix, x, piece, sink };
    if x.n() == 1 && matrix.row_bytes.is_some() {
        isa.run(OneToken(job));
    } else {
        PANEL_ROWS.with_borrow_mut(|panel| isa.run(Batch(job, panel)));
    }
}

struct Product<'a> {
    matrix: &'a RowMatrix,
    x: &'a Rows,
    piece: &'a Piece<'a>,
    sink: Sink<'a>,
}

struct OneToken<'a>(Product<'a>);

impl Kernel for OneToken<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        encodings::dispatch(self.0.matrix.tensor.dtype, Dots::<L>(self.0, std::marker::PhantomData));
    }
}

struct Dots<'a, L>(Product<'a>, std::marker::PhantomData<L>);

impl<L: Lanes> WithEncoding for Dots<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<E: Encoding>(self) {
        let Product { matrix, x, piece, sink } = self.0;
        let row_bytes = matrix.width / E::LEN * E::BYTES;
        let x = x.row(0);
        // One row at a time: memory is read in one stream, which the processor foresees; while a row's chain of fma
        // waits for its own latency, the next row has begun.
        for r in piece.rows.clone() {
            sink.put(0, r, dot::<L, E>(matrix.row(r, row_bytes), x));
        }
    }
}

#[inline(always)]
fn dot<L: Lanes, E: Encoding>(row: &[u8], x: &[[f32; WIDTH]]) -> f32 {
    let mut acc = L::splat(0.0);
    for (block, x) in row.chunks_exact(E::BYTES).zip(x.chunks_exact(E::LEN / WIDTH)) {
        E::each::<L>(block, &mut Dot { x, acc: &mut acc });
    }
    acc.sum()
}

/// Adds decoded elements times activations.
struct Dot<'a, L> {
    x: &'a [[f32; WIDTH]],
    acc: &'a mut L,
}

impl<L: Lanes> Visitor<L> for Dot<'_, L> {
    #[inline(always)]
    fn take(&mut self, i: usize, elements: L) {
        *self.acc = elements.fma(L::load(&self.x[i]), *self.acc);
    }
}

struct Batch<'a>(Product<'a>, &'a mut Lines<[f32; WIDTH]>);

impl Kernel for Batch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Batch(Product { matrix, x, piece, sink }, panel) = self;
        let rows = &piece.rows;
        let vectors = x.vectors();
        let stride = stride(vectors);
        if !matrix.width.is_multiple_of(WIDTH) {
            // The last vectors are not written whole.
            panel.clear();
        }
        panel.resize(PANEL * stride, [0.0; WIDTH]);
        let mut start = rows.start;
        while start < rows.end {
            let n = PANEL.min(rows.end - start);
            for (i, row) in panel.chunks_exact_mut(stride).take(n).enumerate() {
                decode::<L>(matrix, start + i, &mut row[..vectors]);
            }
            let next =
                if start + n < rows.end { matrix.stored(start + n..start + n + PANEL) } else { piece.next };
            if L::LARGE_TILES {
                tiles::<L, 4, 6>(panel, x, start..start + n, next, &sink);
            } else {
                tiles::<L, 2, 3>(panel, x, start..start + n, next, &sink);
            }
            start += n;
        }
    }
}

/// Vectors from one row of a panel to the next: an odd multiple of 512 bytes, so that rows do not meet in the same
/// few lines of the first-level cache, as those of 1024 columns, 4 KB apart, would.
fn stride(vectors: usize) -> usize {
    (vectors + 7) / 16 * 16 + 8
}

thread_local! {
    /// Decoded rows, [PANEL, stride].
    static PANEL_ROWS: RefCell<Lines<[f32; WIDTH]>> = const { RefCell::new(Lines::new()) };
}

/// Canonical row `r` into whole vectors; lanes beyond the width stay 0.
#[inline(always)]
fn decode<L: Lanes>(matrix: &RowMatrix, r: usize, out: &mut [[f32; WIDTH]]) {
    struct Work<'a, L>(&'a [u8], &'a mut [[f32; WIDTH]], std::marker::PhantomData<L>);
    impl<L: Lanes> WithEncoding for Work<'_, L> {
        type Output = ();

        #[inline(always)]
        fn run<E: Encoding>(self) {
            for (block, out) in self.0.chunks_exact(E::BYTES).zip(self.1.chunks_exact_mut(E::LEN / WIDTH)) {
                E::each::<L>(block, &mut Keep(out));
            }
        }
    }
    match matrix.row_bytes {
        Some(row_bytes) => {
            let work = Work::<L>(matrix.row(r, row_bytes), out, std::marker::PhantomData);
            encodings::dispatch(matrix.tensor.dtype, work);
        }
        None => matrix
            .read_row(r, &mut out.as_flattened_mut()[..matrix.width])
            .expect("`RowMatrix::new` checked the codec and the size, and r is a row"),
    }
}

/// Stores decoded elements.
struct Keep<'a>(&'a mut [[f32; WIDTH]]);

impl<L: Lanes> Visitor<L> for Keep<'_> {
    #[inline(always)]
    fn take(&mut self, i: usize, elements: L) {
        elements.store(&mut self.0[i]);
    }
}

/// The rows of `panel` that stand for `rows`, times every token, in tiles of `R` rows and `T` tokens.
#[inline(always)]
fn tiles<L: Lanes, const R: usize, const T: usize>(
    panel: &[[f32; WIDTH]],
    x: &Rows,
    rows: Range<usize>,
    next: &[u8],
    sink: &Sink<'_>,
) {
    let mut t = 0;
    // Asked for while this panel is multiplied: a stream of a panel is too short for the processor to foresee.
    let mut next = next.chunks(next.len().div_ceil(x.n().div_ceil(T)).max(1));
    while t < x.n() {
        let left = x.n() - t;
        if left >= T {
            strip::<L, R, T>(panel, x, t, &rows, next.next().unwrap_or_default(), sink);
            t += T;
        } else if left >= 3 {
            strip::<L, R, 3>(panel, x, t, &rows, next.next().unwrap_or_default(), sink);
            t += 3;
        } else {
            strip::<L, R, 1>(panel, x, t, &rows, &[], sink);
            t += 1;
        }
    }
}

/// `T` tokens from `t`, times every row of the panel. A last tile of fewer than `R` rows computes what earlier
/// panels left behind and drops it.
#[inline(always)]
fn strip<L: Lanes, const R: usize, const T: usize>(
    panel: &[[f32; WIDTH]],
    x: &Rows,
    t: usize,
    rows: &Range<usize>,
    next: &[u8],
    sink: &Sink<'_>,
) {
    let (vectors, stride) = (x.vectors(), stride(x.vectors()));
    let tokens: [&[[f32; WIDTH]]; T] = from_fn(|i| x.row(t + i));
    let mut next = next.chunks(next.len().div_ceil(PANEL / R).max(1));
    for (first, weights) in rows.clone().step_by(R).zip(panel.chunks_exact(R * stride)) {
        let weights: [&[[f32; WIDTH]]; R] = from_fn(|i| &weights[i * stride..][..vectors]);
        ask_for::<L>(next.next().unwrap_or_default());
        for (i, sums) in tile::<L, R, T>(weights, tokens).iter().enumerate() {
            sink.put_rows(t + i, first, sums);
        }
    }
}

#[inline(always)]
fn tile<L: Lanes, const R: usize, const T: usize>(
    weights: [&[[f32; WIDTH]]; R],
    tokens: [&[[f32; WIDTH]]; T],
) -> [[f32; R]; T] {
    let vectors = weights[0].len();
    let (weights, tokens) = (weights.map(|w| &w[..vectors]), tokens.map(|x| &x[..vectors]));
    let mut acc = [[L::splat(0.0); T]; R];
    for k in 0..vectors {
        let mut w = [L::splat(0.0); R];
        for r in 0..R {
            // SAFETY: every slice was cut to `vectors` above. A test per slice and step would cost registers, and with
            // them a load from the stack for half of the rows.
            w[r] = L::load(unsafe { weights[r].get_unchecked(k) });
        }
        for (t, token) in tokens.iter().enumerate() {
            // SAFETY: as above.
            let x = L::load(unsafe { token.get_unchecked(k) });
            for r in 0..R {
                acc[r][t] = w[r].fma(x, acc[r][t]);
            }
        }
    }
    let mut sums = [[0.0; R]; T];
    for t in 0..T {
        if R == 4 {
            sums[t].copy_from_slice(&L::sums([acc[0][t], acc[1][t], acc[2 % R][t], acc[3 % R][t]]));
        } else {
            for r in 0..R {
                sums[t][r] = acc[r][t].sum();
            }
        }
    }
    sums
}
