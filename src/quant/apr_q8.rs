//! aprender's int8: one f32 scale for the whole tensor, then one signed byte per element. `y = d * q`.
//!
//! `d = max |x| / 127`, 1 for a tensor of zeros; elements round half away from zero. One outlier degrades
//! the whole tensor: do not expect the quality of Q8_0.

use super::Codec;
use super::rows::check_rows;
use crate::Result;
use crate::tensor::DType;

pub(super) struct AprQ8;

impl Codec for AprQ8 {
    fn dtype(&self) -> DType {
        DType::AprQ8
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert!(
            bytes.len() == out.len() + 4,
            "{} bytes of APR_Q8 do not hold {} elements",
            bytes.len(),
            out.len()
        );
        self.decode_range(bytes, 0, out);
    }

    fn decode_range(&self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let (scale, quanta) = bytes.split_first_chunk::<4>().expect("the scale comes first");
        let d = f32::from_le_bytes(*scale);
        for (q, y) in quanta[start..start + out.len()].iter().zip(out) {
            *y = f32::from(*q as i8) * d;
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
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let d = if largest == 0.0 { 1.0 } else { largest / 127.0 };
        out.extend(d.to_le_bytes());
        // A denormal `d` underflows to 0 and `0 / 0` to NaN, which saturates to 0, as in aprender.
        out.extend(values.iter().map(|v| (v / d).round().clamp(-127.0, 127.0) as i8 as u8));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_scale_serves_the_whole_tensor() {
        let mut out = Vec::new();
        AprQ8.encode(&[127.0, -2.5, 0.4, -127.0], &mut out).unwrap();
        assert_eq!(out, [0, 0, 0x80, 0x3f, 127, (-3i8) as u8, 0, 0x81]);
        let mut back = [0.0; 2];
        AprQ8.decode_range(&out, 1, &mut back);
        assert_eq!(back, [-3.0, 0.0]);
        let mut zeros = Vec::new();
        AprQ8.encode(&[0.0; 3], &mut zeros).unwrap();
        assert_eq!(zeros, [0, 0, 0x80, 0x3f, 0, 0, 0]);
    }
}
