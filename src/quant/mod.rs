//! Encodings: bytes to f32 and back, one file per encoding, all in [`CODECS`].
//!
//! Dequantisation equals GGML's bit for bit on any bytes; quantisation equals `ggml_quantize_chunk`, with and without
//! importance. The I-quants, the ternary ones and MXFP4 are only read.
//! (The payload of a NaN that comes from a NaN scale is not part of that promise.)

mod affine_blocks;
mod affine_search;
mod apr_q4;
mod apr_q8;
mod bf16;
#[cfg(feature = "wgpu")]
mod code_book;
mod extremes;
mod f16;
mod f32;
mod f64;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_files;
mod grid;
mod iq1_grid;
mod iq1_m;
mod iq1_s;
mod iq2_grids;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_grids;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;
#[cfg(target_arch = "x86_64")]
mod lanes_x86;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod quantize;
mod rounding;
mod rows;
mod scale_search;
mod signed_blocks;
mod signed_search;
pub mod tiled;
mod tq1_0;
mod tq2_0;
mod weighted_blocks;

#[cfg(feature = "wgpu")]
pub(crate) use code_book::code_book;
pub use quantize::Quantize;

use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Kind, Result};

/// Every encoding whose values are weights, in the order of [`DType::ALL`]. The plain integer encodings
/// are no weights and have no codec.
pub const CODECS: &[&dyn Codec] = &[
    &f32::F32,
    &f16::F16,
    &bf16::Bf16,
    &f64::F64,
    &q4_0::Q4_0,
    &q4_1::Q4_1,
    &q5_0::Q5_0,
    &q5_1::Q5_1,
    &q8_0::Q8_0,
    &q2_k::Q2K,
    &q3_k::Q3K,
    &q4_k::Q4K,
    &q5_k::Q5K,
    &q6_k::Q6K,
    &iq2_xxs::Iq2Xxs,
    &iq2_xs::Iq2Xs,
    &iq3_xxs::Iq3Xxs,
    &iq1_s::Iq1S,
    &iq4_nl::Iq4Nl,
    &iq3_s::Iq3S,
    &iq2_s::Iq2S,
    &iq4_xs::Iq4Xs,
    &iq1_m::Iq1M,
    &tq1_0::Tq1_0,
    &tq2_0::Tq2_0,
    &mxfp4::Mxfp4,
    &apr_q4::AprQ4,
    &apr_q8::AprQ8,
];

/// One encoding. Stateless; blocks are independent of each other, except in `AprQ8`.
pub trait Codec: Sync {
    /// The encoding.
    fn dtype(&self) -> DType;

    /// Decodes whole blocks: `out.len()` is the number of elements in `bytes`.
    ///
    /// # Panics
    /// Where the two lengths do not belong together.
    fn decode(&self, bytes: &[u8], out: &mut [f32]);

    /// Decodes the elements `start .. start + out.len()` of the tensor whose bytes are `bytes`.
    /// Here both ends are block boundaries; the flat `Apr*` encodings take any range.
    ///
    /// # Panics
    /// Where the range does not lie inside, or is no whole number of blocks.
    fn decode_range(&self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let (len, size) = (self.dtype().block_len(), self.dtype().block_bytes());
        assert!(
            start.is_multiple_of(len) && out.len().is_multiple_of(len),
            "a {} range holds whole blocks",
            self.dtype()
        );
        self.decode(&bytes[start / len * size..(start + out.len()) / len * size], out);
    }

    /// Encodes whole rows of `row_len` elements (for the flat `Apr*` encodings, one whole tensor) and appends
    /// their bytes. Rows do not influence each other, so threads can share a tensor by ranges of rows; except
    /// for `AprQ8`.
    ///
    /// `importance` has one weight per column, the mean square of what the column is multiplied with: the error
    /// of important columns counts more. The encodings that search for their scales heed it (all but F32, F16,
    /// BF16, Q8_0 and the `Apr*` ones); an absent one is not the same as a uniform one.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] where this encoding is only read; [`crate::Kind::NonFinite`] for a NaN or
    /// an infinity, or such an importance; [`crate::Kind::Lossy`] where a value cannot be held at all (an f16
    /// overflow to infinity); [`crate::Kind::Contract`] for an importance of another length.
    fn encode_rows(
        &self,
        _values: &[f32],
        _row_len: usize,
        _importance: Option<&[f32]>,
        _out: &mut Vec<u8>,
    ) -> Result<()> {
        Err(read_only(self.dtype()))
    }

    /// Encodes one row without importance.
    ///
    /// # Errors
    /// Those of [`Codec::encode_rows`].
    fn encode(&self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        self.encode_rows(values, values.len(), None, out)
    }
}

/// The codec of `dtype`.
///
/// # Errors
/// [`Kind::Unsupported`] for the plain integer encodings, whose values are no weights.
pub fn codec(dtype: DType) -> Result<&'static dyn Codec> {
    CODECS.iter().copied().find(|c| c.dtype() == dtype).ok_or_else(|| {
        Error::unsupported(format!("dtype {dtype}"), "an integer tensor is no weight and has no f32 values")
    })
}

/// Every element of `tensor`, row-major.
///
/// # Errors
/// [`Kind::Unsupported`] for an integer tensor; [`Kind::Malformed`] where bytes and shape disagree.
pub fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let codec = codec(tensor.dtype)?;
    check_size(tensor)?;
    // The size check bounds the element count by the bytes that are really there.
    let mut out = vec![0.0; tensor.shape.numel()];
    decode_range(codec, tensor, 0, &mut out);
    Ok(out)
}

/// Row `row` of `tensor` (`out.len()` is the innermost dimension). Works for every encoding that has a
/// codec, also for the flat `Apr*` ones, whose blocks ignore rows.
///
/// # Errors
/// As [`to_f32`], and [`Kind::Internal`] for a row that is not there or an `out` of another length.
pub fn row_to_f32(tensor: &Tensor, row: usize, out: &mut [f32]) -> Result<()> {
    let codec = codec(tensor.dtype)?;
    check_size(tensor)?;
    let len = tensor.shape.row_len();
    if row >= tensor.shape.rows() || out.len() != len {
        let what = format!("row {row} with room for {} elements asked of shape {}", out.len(), tensor.shape);
        return Err(Error::new(Kind::Internal, "quant::row_to_f32", what));
    }
    decode_range(codec, tensor, row * len, out);
    Ok(())
}

/// The elements `start .. start + out.len()` of `tensor`, row-major: whole blocks, but for the flat `Apr*` encodings.
/// Tiles are decoded row by row, without the plain blocks being kept.
///
/// # Errors
/// As [`to_f32`], and [`Kind::Internal`] for a range that is not there or begins or ends inside a block.
pub fn range_to_f32(tensor: &Tensor, start: usize, out: &mut [f32]) -> Result<()> {
    let codec = codec(tensor.dtype)?;
    check_size(tensor)?;
    let block = match tensor.dtype {
        DType::AprQ4 | DType::AprQ8 => 1,
        dtype => dtype.block_len(),
    };
    let end = start.checked_add(out.len()).filter(|end| *end <= tensor.shape.numel());
    if end.is_none() || !start.is_multiple_of(block) || !out.len().is_multiple_of(block) {
        let what = format!("{} elements from {start} on asked of shape {}", out.len(), tensor.shape);
        return Err(Error::new(Kind::Internal, "quant::range_to_f32", what));
    }
    decode_range(codec, tensor, start, out);
    Ok(())
}

/// The size of `tensor` is checked, and the range is the caller's promise.
fn decode_range(codec: &dyn Codec, tensor: &Tensor, start: usize, out: &mut [f32]) {
    match tensor.bytes.tiles() {
        Some(tiles) => tiled::decode_range(codec, &tensor.shape, tiles, start, out),
        None => codec.decode_range(&tensor.bytes, start, out),
    }
}

/// Whether this program writes `dtype`, and does not only read it.
pub fn encodes(dtype: DType) -> bool {
    let n = dtype.block_len().max(1);
    from_f32(dtype, &Shape::from([1, n]), &vec![0.0; n]).is_ok()
}

/// The bytes of `values` (row-major, of `shape`) in `dtype`. Rows do not influence each other, except in
/// `AprQ8`, which has one scale for the whole tensor.
///
/// # Errors
/// As [`from_f32_weighted`].
pub fn from_f32(dtype: DType, shape: &Shape, values: &[f32]) -> Result<Vec<u8>> {
    from_f32_weighted(dtype, shape, values, None)
}

/// As [`from_f32`], with one weight per column of the innermost dimension, as [`Codec::encode_rows`] says.
///
/// # Errors
/// As [`Codec::encode_rows`], naming the flat index; [`Kind::Lossy`] where a row is no whole number of blocks.
pub fn from_f32_weighted(
    dtype: DType,
    shape: &Shape,
    values: &[f32],
    importance: Option<&[f32]>,
) -> Result<Vec<u8>> {
    let codec = codec(dtype)?;
    if shape.checked_numel() != Some(values.len()) {
        let what = format!("{} values for shape {shape}", values.len());
        return Err(Error::new(Kind::Internal, "quant::from_f32", what));
    }
    let Some(size) = dtype.nbytes(shape) else {
        let what = format!(
            "a row of {} elements is no whole number of {}-element blocks",
            shape.row_len(),
            dtype.block_len()
        );
        return Err(Error::new(Kind::Lossy, format!("dtype {dtype}"), what).hint("store this tensor as F16"));
    };
    let mut out = Vec::with_capacity(size);
    codec.encode_rows(values, shape.row_len(), importance, &mut out)?;
    Ok(out)
}

fn check_size(tensor: &Tensor) -> Result<()> {
    let needed = tensor.dtype.nbytes(&tensor.shape);
    if needed == Some(tensor.bytes.len()) {
        return Ok(());
    }
    let what = match needed {
        Some(needed) => format!("{} bytes found, {needed} needed", tensor.bytes.len()),
        None => "a row is no whole number of blocks, or the size overflows".to_owned(),
    };
    Err(Error::new(Kind::Malformed, format!("{} tensor of shape {}", tensor.dtype, tensor.shape), what))
}

/// The little-endian half at byte `at` of a block, widened exactly.
fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Asserts that `bytes` are whole blocks of `dtype` and hold `out_len` elements.
fn assert_blocks(dtype: DType, bytes: &[u8], out_len: usize) {
    let (len, size) = (dtype.block_len(), dtype.block_bytes());
    assert!(
        bytes.len().is_multiple_of(size) && bytes.len() / size * len == out_len,
        "{} bytes of {dtype} do not hold {out_len} elements",
        bytes.len()
    );
}

fn read_only(dtype: DType) -> Error {
    Error::unsupported(format!("dtype {dtype}"), "this encoding is read, not written")
        .hint("write F32, F16, BF16, Q8_0 or a K-quant")
}
