//! One pass over a tensor's values, whatever its encoding, in a fixed amount of memory.

use crate::quant;
use crate::stats;
use crate::tensor::Tensor;
use crate::{Error, Kind, Result};

/// What a pass over the values found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scan {
    /// Flat index, row-major as stored, and value of the first NaN or infinity.
    pub non_finite: Option<(usize, f32)>,
    /// Whether every value is zero (of a tensor that has values).
    pub all_zero: bool,
    /// Values that are zero, up to the first that is not finite.
    pub zeros: usize,
    /// Sum of the squares of the values, up to the first that is not finite.
    pub squares: f64,
}

/// Elements decoded at a time: a whole number of blocks of every encoding.
const CHUNK: usize = 16 * 1024;

/// Looks at every value of `tensor` up to the first that is not finite.
///
/// # Errors
/// [`Kind::Unsupported`] for an integer tensor, [`Kind::Malformed`] where bytes and shape disagree.
pub(crate) fn scan(tensor: &Tensor) -> Result<Scan> {
    quant::codec(tensor.dtype)?;
    if tensor.dtype.nbytes(&tensor.shape) != Some(tensor.bytes.len()) {
        let what = format!("{} bytes are not {} {}", tensor.bytes.len(), tensor.dtype, tensor.shape);
        return Err(Error::new(Kind::Malformed, "tensor", what));
    }
    // The size check bounds the count by the bytes that are there.
    let numel = tensor.shape.numel();
    let mut buffer = vec![0.0; CHUNK.min(numel)];
    let (mut zeros, mut squares) = (0, 0.0);
    let mut start = 0;
    while start < numel {
        let values = &mut buffer[..CHUNK.min(numel - start)];
        quant::range_to_f32(tensor, start, values)?;
        let sums = stats::sums(values);
        if let Some(i) = first_non_finite(values, &sums) {
            let non_finite = Some((start + i, values[i]));
            return Ok(Scan { non_finite, all_zero: false, zeros, squares });
        }
        zeros += sums.zeros as usize;
        squares += stats::squares_around(values, 0.0);
        start += values.len();
    }
    Ok(Scan { non_finite: None, all_zero: numel > 0 && zeros == numel, zeros, squares })
}

/// Where the first value stands that is not finite; nobody looks where all were counted.
fn first_non_finite(values: &[f32], sums: &stats::Sums) -> Option<usize> {
    if sums.finite as usize == values.len() {
        return None;
    }
    values.iter().position(|x| !x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Bytes, DType, Shape};

    fn f32s(values: Vec<f32>) -> Tensor {
        let shape = Shape::from([values.len()]);
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Tensor { dtype: DType::F32, shape, bytes: Bytes::from_vec(bytes) }
    }

    #[test]
    fn the_first_bad_value_is_found_past_the_first_chunk() {
        let mut values = vec![1.0; CHUNK + 10];
        values[CHUNK + 7] = f32::NEG_INFINITY;
        let found = scan(&f32s(values)).expect("F32 scans");
        assert_eq!(found.non_finite, Some((CHUNK + 7, f32::NEG_INFINITY)));
    }

    #[test]
    fn a_nan_scale_poisons_its_block() {
        let mut bytes = vec![0u8; 68];
        bytes[34..36].copy_from_slice(&0x7e00u16.to_le_bytes());
        let tensor =
            Tensor { dtype: DType::Q8_0, shape: Shape::from([2, 32]), bytes: Bytes::from_vec(bytes) };
        let (index, value) = scan(&tensor).expect("Q8_0 scans").non_finite.expect("a NaN");
        assert!(index == 32 && value.is_nan());
    }

    #[test]
    fn zero_is_only_zero_when_all_of_it_is() {
        assert!(scan(&f32s(vec![0.0, -0.0])).expect("scans").all_zero);
        assert!(!scan(&f32s(vec![0.0, 1e-30])).expect("scans").all_zero);
        assert!(!scan(&f32s(vec![])).expect("scans").all_zero);
    }
}
