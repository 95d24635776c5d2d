//! Encodings: bytes to f32 and back, one file per encoding, all in [`CODECS`].
//!
//! Dequantisation equals GGML's bit for bit on any bytes; quantisation equals `ggml_quantize_chunk`.

use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// One encoding. Stateless; blocks are independent of each other, except in `AprQ8`.
pub trait Codec: Sync {
    /// The encoding.
    fn dtype(&self) -> DType;

    /// Decodes whole blocks: `out.len()` is the number of elements in `bytes`.
    ///
    /// # Panics
    /// Where the two lengths do not belong together.
    fn decode(&self, bytes: &[u8], out: &mut [f32]);

    /// Encodes one row (or, for the flat `Apr*` encodings, one whole tensor) and appends its bytes.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] where this encoding is only read; [`crate::Kind::Lossy`] where a value
    /// cannot be held at all (an f16 overflow to infinity).
    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<()>;
}
