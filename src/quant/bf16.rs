//! BF16: the upper half of a single, widened exactly, narrowed to the nearest (ties to even).

use super::rows::{check_rows, check_shape};
use super::{Codec, assert_blocks};
use crate::tensor::DType;
use crate::{Error, Kind, Result};

pub(super) struct Bf16;

/// Values per copy: their bytes stay in the first cache.
const CHUNK: usize = 256;

/// The bits of the least magnitude that rounds up to infinity: the last half step below `f32::MAX`.
const OVERFLOW: i32 = 0x7f7f_8000;

impl Codec for Bf16 {
    fn dtype(&self) -> DType {
        DType::BF16
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<2>().0.iter().zip(out) {
            *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        out.reserve(2 * values.len());
        let mut largest = 0;
        let mut halves = [[0; 2]; CHUNK];
        for values in values.chunks(CHUNK) {
            for (half, v) in halves.iter_mut().zip(values) {
                let bits = v.to_bits();
                largest = largest.max((bits & 0x7fff_ffff) as i32);
                // Half a step, less one where the lower neighbour is even: ties go to it.
                *half = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_le_bytes();
            }
            out.extend_from_slice(halves[..values.len()].as_flattened());
        }
        // One pass over the values serves for the good case.
        if largest < OVERFLOW {
            return check_shape(values, row_len, importance);
        }
        out.truncate(start);
        check_rows(self.dtype(), values, row_len, importance)?;
        let overflows = |v: &f32| (v.to_bits() & 0x7fff_ffff) as i32 >= OVERFLOW;
        let i = values.iter().position(overflows).expect("the largest one does");
        let what = format!("{} rounds to infinity in BF16", values[i]);
        Err(Error::new(Kind::Lossy, "weights", what).at(format!("index {i}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_rounds_ties_to_even_and_refuses_overflow_by_index() {
        let mut out = Vec::new();
        Bf16.encode(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0], &mut out).unwrap();
        assert_eq!(out, [0x80, 0x3f, 0x82, 0x3f]);
        let err = Bf16.encode(&[1.0, f32::MAX], &mut out).unwrap_err();
        assert_eq!((err.kind, err.at.as_deref()), (Kind::Lossy, Some("index 1")));
    }
}
