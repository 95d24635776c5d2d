//! Whole rows on their way into blocks: checked once, then handed to an encoder compiled for this processor.

use super::lanes::{Isa, Kernel, Lanes, WIDTH};
use crate::tensor::DType;
use crate::{Error, Kind, Result};
use std::marker::PhantomData;
use std::ops::Range;

/// An encoding's quantiser, written over lanes.
pub(super) trait Encoder {
    /// Its encoding.
    const DTYPE: DType;

    /// Appends the blocks of `rows`. Must be `#[inline(always)]`.
    ///
    /// # Errors
    /// That of [`Rows::overflow`].
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()>;
}

/// Checks the arguments of [`super::Codec::encode_rows`] and runs `E`.
pub(super) fn encode<E: Encoder>(
    values: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    check_rows(E::DTYPE, values, row_len, importance)?;
    if let Some((i, value)) = first_from(values, OUT_OF_REACH) {
        return Err(half_overflow(E::DTYPE, i, value));
    }
    assert!(row_len.is_multiple_of(E::DTYPE.block_len()), "a row is whole blocks");
    out.reserve(values.len() / E::DTYPE.block_len() * E::DTYPE.block_bytes());
    Isa::run(Encode::<E> {
        rows: Rows { dtype: E::DTYPE, values, row_len, importance },
        out,
        encoder: PhantomData,
    })
}

/// Refuses what no encoding is defined for: a partial row, an importance of another length, and the first NaN or
/// infinity.
pub(super) fn check_rows(
    dtype: DType,
    values: &[f32],
    row_len: usize,
    importance: Option<&[f32]>,
) -> Result<()> {
    check_shape(values, row_len, importance)?;
    check_finite(dtype, values)
}

/// As [`check_rows`], but for the values themselves.
pub(super) fn check_shape(values: &[f32], row_len: usize, importance: Option<&[f32]>) -> Result<()> {
    let whole = if row_len == 0 { values.is_empty() } else { values.len().is_multiple_of(row_len) };
    if !whole {
        let what = format!("{} values are no whole rows of {row_len}", values.len());
        return Err(Error::new(Kind::Internal, "quant::encode_rows", what));
    }
    let Some(importance) = importance else { return Ok(()) };
    if importance.len() != row_len {
        let what = format!("{} importances for rows of {row_len}", importance.len());
        return Err(Error::new(Kind::Contract, "importance matrix", what)
            .hint("use the matrix that was computed for this very model"));
    }
    match importance.iter().position(|w| !w.is_finite() || *w < 0.0) {
        None => Ok(()),
        Some(i) => {
            let what = format!("{} is no mean of squares", importance[i]);
            Err(Error::new(Kind::NonFinite, "importance matrix", what).at(format!("column {i}")))
        }
    }
}

/// Refuses the first NaN or infinity: no encoding here has a promise to keep about them.
fn check_finite(dtype: DType, values: &[f32]) -> Result<()> {
    match first_from(values, f32::INFINITY) {
        None => Ok(()),
        Some((i, value)) => {
            let what = format!("{value} cannot be encoded as {dtype}");
            Err(Error::new(Kind::NonFinite, "weights", what).at(format!("index {i}")))
        }
    }
}

/// No block here holds such a magnitude: the largest half times 127 in Q8_0, 63 * 31 in Q5_K, 128 * 32 in Q6_K. The
/// squares of much larger ones would overflow in the searches, and a row of zeros be the result.
const OUT_OF_REACH: f32 = 1_073_741_824.0;

/// The first value that is a NaN or has a magnitude of `bound` or more.
fn first_from(values: &[f32], bound: f32) -> Option<(usize, f32)> {
    let magnitude = |v: &f32| v.to_bits() & 0x7fff_ffff;
    values.chunks(256).enumerate().find_map(|(n, chunk)| {
        // Without a branch in it, this loop runs at the speed of memory.
        let largest = chunk.iter().fold(0, |m, v| m.max(magnitude(v)));
        if largest < bound.to_bits() {
            return None;
        }
        let i = chunk.iter().position(|v| magnitude(v) >= bound.to_bits())?;
        Some((n * 256 + i, chunk[i]))
    })
}

/// Whole, finite rows.
pub(super) struct Rows<'a> {
    dtype: DType,
    /// Row-major, [rows, row_len].
    pub values: &'a [f32],
    /// Columns, a multiple of the block length.
    pub row_len: usize,
    /// One weight per column.
    pub importance: Option<&'a [f32]>,
}

impl<'a> Rows<'a> {
    /// The importances of the `len` columns on which the values from `index` on stand.
    pub(super) fn importance_at(&self, index: usize, len: usize) -> Option<&'a [f32]> {
        let column = index % self.row_len;
        self.importance.map(|w| &w[column..column + len])
    }

    /// The block at `index` has a scale or minimum that is no finite half: names its largest element, or where that
    /// one is innocent, the largest of its row, whose square has spoiled the weights of all.
    pub(super) fn overflow(&self, index: usize) -> Error {
        let block = index..index + self.dtype.block_len();
        let at = self.largest(block);
        let row = index / self.row_len * self.row_len;
        let innocent = self.values[at].abs() <= half::f16::MAX.to_f32();
        let at = if innocent { self.largest(row..row + self.row_len) } else { at };
        half_overflow(self.dtype, at, self.values[at])
    }

    /// The index of the first largest magnitude.
    fn largest(&self, range: Range<usize>) -> usize {
        let mut at = range.start;
        for i in range {
            if self.values[at].abs() < self.values[i].abs() {
                at = i;
            }
        }
        at
    }
}

/// A finite `value` at `index` whose f16 (itself or its block's scale) is infinite.
pub(super) fn half_overflow(dtype: DType, index: usize, value: f32) -> Error {
    let what = format!("{value} is beyond what {dtype} holds: its f16 would be infinite");
    Error::new(Kind::Lossy, "weights", what)
        .at(format!("index {index}"))
        .hint("keep this tensor as F32 or BF16")
}

struct Encode<'a, E> {
    rows: Rows<'a>,
    out: &'a mut Vec<u8>,
    encoder: PhantomData<E>,
}

impl<E: Encoder> Kernel for Encode<'_, E> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<()> {
        E::encode::<L>(&self.rows, self.out)
    }
}

/// Sixteen consecutive sub-blocks of `N` side by side: lane `l` of vector `i` is `x[l * N + i]`.
///
/// # Panics
/// Where `x` has not `16 * N` elements.
#[inline(always)]
pub(super) fn side_by_side<L: Lanes, const N: usize>(x: &[f32]) -> [L; N] {
    assert_eq!(x.len(), WIDTH * N);
    let mut out = [L::splat(0.0); N];
    for (i, out) in out.iter_mut().enumerate() {
        let mut lanes = [0.0; WIDTH];
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane = x[l * N + i];
        }
        *out = L::load(&lanes);
    }
    out
}
