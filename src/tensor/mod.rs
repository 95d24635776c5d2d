//! Plain tensor data: what a weight is before anyone computes with it.
//!
//! Shapes are row-major, outermost dimension first, as PyTorch and safetensors write them
//! (`[out, in]`, `[vocab, hidden]`). GGUF's `ne` order is the reverse; only `formats::gguf` knows that.

mod bytes;
mod dtype;
mod pages;

pub use bytes::Bytes;
pub use dtype::DType;
pub use pages::Pages;

use std::fmt;

/// A tensor: an encoding, a shape and the bytes, usually inside a mapped file.
#[derive(Clone)]
pub struct Tensor {
    /// How the elements are encoded.
    pub dtype: DType,
    /// Row-major dimensions, outermost first.
    pub shape: Shape,
    /// Exactly `dtype.nbytes(&shape)` bytes.
    pub bytes: Bytes,
}

/// Row-major dimensions, outermost first. An empty shape is a scalar.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub Vec<usize>);

impl Tensor {
    /// `tiled` where the blocks stand as row tiles in their file; nothing where they stand row by row.
    pub fn layout(&self) -> Option<&'static str> {
        self.bytes.tiles().map(|_| "tiled")
    }
}

impl Shape {
    /// The number of elements, or `None` where the product overflows (a hostile header).
    pub fn checked_numel(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// The number of elements of a shape that was read through a checked parser.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// The innermost dimension: the length of a row (1 for a scalar).
    pub fn row_len(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The number of rows: the product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        self.0.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// The number of dimensions.
    pub fn ndim(&self) -> usize {
        self.0.len()
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(dims.to_vec())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, "]")
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {}, {} bytes)", self.dtype, self.shape, self.bytes.len())
    }
}
