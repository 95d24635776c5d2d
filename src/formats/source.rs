//! A tensor to be written: its description now, its bytes when their turn comes.

use super::NamedTensor;
use crate::tensor::{Bytes, DType, Shape};
use crate::{Error, Kind, Result};
use std::borrow::Cow;

/// A tensor that a writer is to store. Only its description is needed up front, so a writer holds the bytes
/// of one tensor at a time.
pub struct TensorSource<'a> {
    /// The name in the new file.
    pub name: String,
    /// The encoding of the bytes.
    pub dtype: DType,
    /// Row-major dimensions, outermost first.
    pub shape: Shape,
    /// The bytes, or how to make them.
    pub payload: Payload<'a>,
}

/// The bytes of a tensor: at hand, or made on demand.
pub enum Payload<'a> {
    /// At hand, usually in a mapped file.
    Bytes(Bytes),
    /// Made when the writer comes to them.
    Produce(Box<dyn Fn() -> Result<Vec<u8>> + Send + Sync + 'a>),
}

impl<'a> TensorSource<'a> {
    /// The bytes of `tensor` unchanged, under `name`.
    pub fn stored(name: impl Into<String>, tensor: &crate::tensor::Tensor) -> Self {
        TensorSource {
            name: name.into(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            payload: Payload::Bytes(tensor.bytes.clone()),
        }
    }

    /// A tensor whose bytes `produce` makes.
    pub fn produced(
        name: impl Into<String>,
        dtype: DType,
        shape: Shape,
        produce: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'a,
    ) -> Self {
        TensorSource { name: name.into(), dtype, shape, payload: Payload::Produce(Box::new(produce)) }
    }

    /// The exact number of bytes that will be written.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where a row is no whole number of blocks.
    pub fn nbytes(&self) -> Result<usize> {
        self.dtype.nbytes(&self.shape).ok_or_else(|| {
            let what = format!(
                "{} cannot hold shape {}: a row is no whole number of blocks",
                self.dtype, self.shape
            );
            Error::unsupported(format!("tensor `{}`", self.name), what).hint("store this tensor as F16")
        })
    }

    /// The bytes, checked to be as many as announced.
    ///
    /// # Errors
    /// Those of the producer; [`Kind::Internal`] for another number of bytes than [`TensorSource::nbytes`].
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let bytes: Cow<'_, [u8]> = match &self.payload {
            Payload::Bytes(bytes) => bytes.plain(),
            Payload::Produce(produce) => Cow::Owned(produce()?),
        };
        let needed = self.nbytes()?;
        if bytes.len() != needed {
            let what =
                format!("{} bytes made for {} {}, {needed} needed", bytes.len(), self.dtype, self.shape);
            return Err(Error::new(Kind::Internal, format!("tensor `{}`", self.name), what));
        }
        Ok(bytes)
    }
}

impl From<&NamedTensor> for TensorSource<'_> {
    fn from(named: &NamedTensor) -> Self {
        TensorSource::stored(&named.name, &named.tensor)
    }
}
