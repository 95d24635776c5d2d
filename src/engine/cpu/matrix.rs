//! A weight as the backend multiplies it: rows in the encoding of their file, or tiles of sixteen rows for the integer
//! kernels of `fast` numerics.

use super::isa::Isa;
use super::lanes::WIDTH;
use super::matmul::{self, RowMatrix};
use super::pool::Pool;
use super::quantized::Quantized;
use super::rows::Rows;
use super::sink::Sink;
use super::tile_matrix::TileMatrix;
use crate::Result;
use crate::models::Weight;
use std::ops::Range;

/// Rows of a matrix that belong to one task.
pub(super) struct Piece<'a> {
    /// They start at a multiple of 16.
    pub rows: Range<usize>,
    /// What the same thread is likely to decode after them.
    pub next: &'a [u8],
}

/// A weight `[rows, width]`.
pub struct Matrix(Form);

enum Form {
    Rows(RowMatrix),
    Tiles(TileMatrix),
}

impl Matrix {
    /// A weight that is multiplied as its encoding decodes.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] for an encoding without a codec.
    pub(super) fn rows(weight: &Weight) -> Result<Matrix> {
        Ok(Matrix(Form::Rows(RowMatrix::new(weight)?)))
    }

    /// A weight in tiles, where its encoding has integer kernels; else as [`Matrix::rows`].
    ///
    /// # Errors
    /// Those of [`Matrix::rows`]; [`crate::Kind::Environment`] where there is no memory for the tiles.
    pub(super) fn tiles(weight: &Weight, pool: &Pool) -> Result<Matrix> {
        match TileMatrix::new(weight, pool)? {
            Some(tiles) => Ok(Matrix(Form::Tiles(tiles))),
            None => Matrix::rows(weight),
        }
    }

    /// Whether it is multiplied with quantised activations.
    pub(super) fn is_tiled(&self) -> bool {
        match self.0 {
            Form::Tiles(_) => true,
            Form::Rows(_) => false,
        }
    }

    pub(super) fn n_rows(&self) -> usize {
        match &self.0 {
            Form::Rows(m) => m.n_rows(),
            Form::Tiles(m) => m.n_rows(),
        }
    }

    /// Bytes that a row takes, about.
    pub(super) fn row_cost(&self) -> usize {
        match &self.0 {
            Form::Rows(m) => m.row_cost(),
            Form::Tiles(m) => m.row_cost(),
        }
    }

    /// The bytes of the sixteen rows from `row` on, or of rows near them where they are stored in another order.
    pub(super) fn stored(&self, row: usize) -> &[u8] {
        match &self.0 {
            Form::Rows(m) => m.stored(row..row + WIDTH),
            Form::Tiles(m) => m.tile(row / WIDTH),
        }
    }

    /// Canonical row `r`, decoded.
    pub(super) fn read_row(&self, r: usize, out: &mut [f32]) -> Result<()> {
        match &self.0 {
            Form::Rows(m) => m.read_row(r, out),
            Form::Tiles(m) => m.read_row(r, out),
        }
    }

    /// The products of the rows of `piece` with every token of `x`, into `sink`.
    /// `quantized` is `x` where this matrix is tiled.
    pub(super) fn multiply(
        &self,
        isa: Isa,
        x: &Rows,
        quantized: Option<&Quantized>,
        piece: &Piece<'_>,
        sink: Sink<'_>,
    ) {
        match &self.0 {
            Form::Rows(m) => matmul::multiply(isa, m, x, piece, sink),
            Form::Tiles(m) => {
                let x = quantized.expect("activations are quantised where a matrix is tiled");
                m.multiply(isa, x, piece, sink);
            }
        }
    }
}
