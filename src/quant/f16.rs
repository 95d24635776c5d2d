//! F16: IEEE 754 half, widened exactly, narrowed to the nearest (ties to even).

use super::rows::{check_rows, half_overflow};
use super::{Codec, assert_blocks};
use crate::Result;
use crate::tensor::DType;
use half::f16;
use half::slice::HalfFloatSliceExt;

pub(super) struct F16;

/// Halves per conversion call: enough for any vector width, small enough for the stack.
const LANES: usize = 64;

impl Codec for F16 {
    fn dtype(&self) -> DType {
        DType::F16
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        let mut halves = [f16::ZERO; LANES];
        for (b, y) in bytes.chunks(2 * LANES).zip(out.chunks_mut(LANES)) {
            for (h, b) in halves.iter_mut().zip(b.as_chunks::<2>().0) {
                *h = f16::from_le_bytes(*b);
            }
            halves[..y.len()].convert_to_f32_slice(y);
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_rows(self.dtype(), values, row_len, importance)?;
        let start = out.len();
        out.resize(start + 2 * values.len(), 0);
        let mut halves = [f16::ZERO; LANES];
        for (n, (x, bytes)) in values.chunks(LANES).zip(out[start..].chunks_mut(2 * LANES)).enumerate() {
            let halves = &mut halves[..x.len()];
            halves.convert_from_f32_slice(x);
            // Values are finite, so the only exponent of all ones is that of an infinity.
            let largest = halves.iter().fold(0, |m, h| m.max(h.to_bits() & 0x7fff));
            if largest >= f16::INFINITY.to_bits() {
                let i = halves.iter().position(|h| h.is_infinite()).expect("the largest one is");
                out.truncate(start);
                return Err(half_overflow(self.dtype(), n * LANES + i, x[i]));
            }
            for (b, h) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *b = h.to_le_bytes();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn narrowing_rounds_ties_to_even_and_refuses_overflow_by_index() {
        let mut out = Vec::new();
        // 1 + 2^-11 lies halfway between 1 and 1 + 2^-10; 1 + 3 * 2^-11 halfway above that.
        F16.encode(&[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65504.0], &mut out).unwrap();
        assert_eq!(out, [0x00, 0x3c, 0x02, 0x3c, 0xff, 0x7b]);
        let err = F16.encode(&[0.0, 65520.0], &mut out).unwrap_err();
        assert_eq!((err.kind, err.at.as_deref()), (Kind::Lossy, Some("index 1")));
        let err = F16.encode(&[f32::INFINITY], &mut out).unwrap_err();
        assert_eq!((err.kind, err.at.as_deref()), (Kind::NonFinite, Some("index 0")));
    }

    #[test]
    fn every_finite_half_survives_the_way_there_and_back() {
        let all: Vec<u8> =
            (0..=u16::MAX).filter(|h| f16::from_bits(*h).is_finite()).flat_map(u16::to_le_bytes).collect();
        let mut wide = vec![0.0; all.len() / 2];
        F16.decode(&all, &mut wide);
        let mut back = Vec::new();
        F16.encode(&wide, &mut back).unwrap();
        assert!(all == back);
    }
}
