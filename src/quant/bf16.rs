//! BF16: the upper half of a single, widened exactly, narrowed to the nearest (ties to even).

use super::rows::check_rows;
use super::{Codec, assert_blocks};
use crate::tensor::DType;
use crate::{Error, Kind, Result};

pub(super) struct Bf16;

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
        check_rows(self.dtype(), values, row_len, importance)?;
        for (i, v) in values.iter().enumerate() {
            let h = half::bf16::from_f32(*v);
            if h.is_infinite() {
                // Only the last half step below f32::MAX rounds up to infinity.
                let what = format!("{v} rounds to infinity in BF16");
                return Err(Error::new(Kind::Lossy, "weights", what).at(format!("index {i}")));
            }
            out.extend(h.to_le_bytes());
        }
        Ok(())
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
