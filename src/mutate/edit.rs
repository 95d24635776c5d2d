//! Canonical tensors changed where they are stored: values decoded, changed and encoded again in the tensor's own
//! encoding, rows moved with their blocks.

use super::draft::{Draft, is_flat};
use crate::models::{CanonicalTensor, rows_of};
use crate::quant;
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Kind, Result};

impl Draft {
    /// The canonical values of `t` as the draft holds them now, row-major.
    pub(super) fn values(&self, t: &CanonicalTensor) -> Result<Vec<f32>> {
        let stored = self.current(t)?;
        let all = quant::to_f32(stored)?;
        let offset = if t.place.unit_offset { 1.0 } else { 0.0 };
        let at = Places::of(t, stored)?;
        at.all().map(|i| all.get(i).map(|v| v + offset).ok_or_else(outside)).collect()
    }

    /// Puts these canonical values into `t`, in its stored encoding. Rows of other tensors that share the stored one
    /// keep their bytes, except in encodings that have one scale for the whole tensor.
    pub(super) fn set_values(&mut self, t: &CanonicalTensor, values: &[f32]) -> Result<()> {
        let stored = self.current(t)?.clone();
        let at = Places::of(t, &stored)?;
        if values.len() != at.rows * at.width {
            return Err(Error::new(Kind::Internal, "mutate", "as many values as the tensor has are due"));
        }
        let offset = if t.place.unit_offset { 1.0 } else { 0.0 };
        let whole = at.transposed || is_flat(stored.dtype) || t.shape.ndim() < 2;
        let mut bytes = stored.bytes.to_vec();
        if whole {
            let mut all = quant::to_f32(&stored)?;
            for (i, value) in at.all().zip(values) {
                *all.get_mut(i).ok_or_else(outside)? = value - offset;
            }
            bytes = quant::from_f32(stored.dtype, &stored.shape, &all)?;
        } else {
            let mut rows = vec![0.0; values.len()];
            for (r, row) in values.chunks_exact(at.width).enumerate() {
                let to = (at.stored_row(r) - at.start) * at.width;
                rows[to..to + at.width].copy_from_slice(row);
            }
            rows.iter_mut().for_each(|v| *v -= offset);
            let encoded = quant::from_f32(stored.dtype, &t.shape, &rows)?;
            let from = row_bytes(stored.dtype, at.width)? * at.start;
            bytes.get_mut(from..from + encoded.len()).ok_or_else(outside)?.copy_from_slice(&encoded);
        }
        self.replace(&t.stored, bytes)
    }

    /// Changes the canonical values of `t`.
    pub(super) fn change_values(
        &mut self,
        t: &CanonicalTensor,
        change: impl FnOnce(&mut Vec<f32>),
    ) -> Result<()> {
        let mut values = self.values(t)?;
        change(&mut values);
        self.set_values(t, &values)
    }

    /// Puts canonical row `from(r)` where canonical row `r` was. Rows keep their blocks where rows have blocks of
    /// their own.
    pub(super) fn move_rows(&mut self, t: &CanonicalTensor, from: impl Fn(usize) -> usize) -> Result<()> {
        let stored = self.current(t)?.clone();
        let at = Places::of(t, &stored)?;
        if at.transposed || is_flat(stored.dtype) {
            let width = at.width;
            return self.change_values(t, |values| {
                let old = values.clone();
                for r in 0..old.len() / width {
                    let source = from(r) * width;
                    values[r * width..(r + 1) * width].copy_from_slice(&old[source..source + width]);
                }
            });
        }
        let size = row_bytes(stored.dtype, at.width)?;
        let mut bytes = stored.bytes.to_vec();
        for r in 0..at.rows {
            let (source, target) = (at.stored_row(from(r)) * size, at.stored_row(r) * size);
            let row = stored.bytes.get(source..source + size).ok_or_else(outside)?;
            bytes.get_mut(target..target + size).ok_or_else(outside)?.copy_from_slice(row);
        }
        self.replace(&t.stored, bytes)
    }

    /// Swaps what two tensors of one shape hold.
    pub(super) fn swap(&mut self, a: &CanonicalTensor, b: &CanonicalTensor) -> Result<()> {
        let (of_a, of_b) = (self.blocks_or_values(a)?, self.blocks_or_values(b)?);
        self.put(a, of_b)?;
        self.put(b, of_a)
    }

    /// What the tensor holds, to be put into another.
    pub(super) fn blocks_or_values(&self, t: &CanonicalTensor) -> Result<Contents> {
        let stored = self.current(t)?;
        let at = Places::of(t, stored)?;
        if at.transposed || is_flat(stored.dtype) || t.place.unit_offset {
            return self.values(t).map(Contents::Values);
        }
        let size = row_bytes(stored.dtype, at.width)?;
        let row = |r: usize| {
            let from = at.stored_row(r) * size;
            stored.bytes.get(from..from + size).ok_or_else(outside)
        };
        let rows = (0..at.rows).map(row).collect::<Result<Vec<_>>>()?.concat();
        Ok(Contents::Rows { dtype: stored.dtype, bytes: rows, values: self.values(t)? })
    }

    /// Puts contents of a tensor of the same shape into `t`.
    pub(super) fn put(&mut self, t: &CanonicalTensor, contents: Contents) -> Result<()> {
        let stored = self.current(t)?.clone();
        let at = Places::of(t, &stored)?;
        match contents {
            Contents::Rows { dtype, bytes: rows, .. }
                if dtype == stored.dtype && !at.transposed && !t.place.unit_offset =>
            {
                let size = row_bytes(dtype, at.width)?;
                let mut bytes = stored.bytes.to_vec();
                for (r, row) in rows.chunks_exact(size).enumerate() {
                    let to = at.stored_row(r) * size;
                    bytes.get_mut(to..to + size).ok_or_else(outside)?.copy_from_slice(row);
                }
                self.replace(&t.stored, bytes)
            }
            Contents::Rows { values, .. } | Contents::Values(values) => self.set_values(t, &values),
        }
    }

    /// The byte range of `t`'s rows in its stored tensor; `None` where they are not together.
    pub(super) fn byte_range(&self, t: &CanonicalTensor) -> Result<Option<std::ops::Range<usize>>> {
        let stored = self.current(t)?;
        let at = Places::of(t, stored)?;
        if at.transposed || is_flat(stored.dtype) {
            return Ok(t.is_whole().then_some(0..stored.bytes.len()));
        }
        let size = row_bytes(stored.dtype, at.width)?;
        Ok(Some(at.start * size..(at.start + at.rows) * size))
    }

    fn current(&self, t: &CanonicalTensor) -> Result<&Tensor> {
        let missing =
            || Error::new(Kind::Internal, "mutate", format!("no tensor `{}` in the draft", t.stored));
        Ok(&self.tensors.iter().find(|s| s.name == t.stored).ok_or_else(missing)?.tensor)
    }
}

/// What a tensor holds.
#[derive(Debug, Clone)]
pub(super) enum Contents {
    /// Canonical rows as encoded, and their values.
    Rows { dtype: DType, bytes: Vec<u8>, values: Vec<f32> },
    /// Values alone, where rows have no blocks of their own.
    Values(Vec<f32>),
}

/// Where the elements of a canonical tensor are stored.
struct Places<'a> {
    t: &'a CanonicalTensor,
    rows: usize,
    width: usize,
    /// First row inside a fused tensor.
    start: usize,
    transposed: bool,
    /// Columns of the stored tensor, where it is transposed.
    all_outs: usize,
}

impl<'a> Places<'a> {
    fn of(t: &'a CanonicalTensor, stored: &Tensor) -> Result<Places<'a>> {
        let (rows, width) = rows_of(&t.shape);
        let all_outs = stored.shape.0.last().copied().unwrap_or(0);
        let place = Places { t, rows, width, start: t.place.start, transposed: t.place.transposed, all_outs };
        if rows == 0 || width == 0 { Err(outside()) } else { Ok(place) }
    }

    fn stored_row(&self, r: usize) -> usize {
        self.start + self.t.place.order.stored_row(r)
    }

    /// Stored flat index of every canonical element, row-major.
    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.rows).flat_map(move |r| {
            let row = if self.transposed { self.start + r } else { self.stored_row(r) * self.width };
            (0..self.width).map(move |c| if self.transposed { c * self.all_outs + row } else { row + c })
        })
    }
}

/// Bytes of one row.
pub(super) fn row_bytes(dtype: DType, width: usize) -> Result<usize> {
    dtype.nbytes(&Shape::from([width])).ok_or_else(|| {
        Error::unsupported("mutate", format!("a row of {width} is no whole number of {dtype} blocks"))
    })
}

fn outside() -> Error {
    Error::new(Kind::Internal, "mutate", "a canonical tensor does not lie inside its stored one")
}
