//! Q8_0: 32 elements in 34 bytes. `y = d * q`.
//!
//! Block: `d` f16, then 32 signed bytes. `d = max |x| / 127`; elements round half away from zero, scaled by
//! the inverse of the unrounded `d`.

use super::extremes::{halves, largest_magnitude};
use super::lanes::Lanes;
use super::rounding::stored_half;
use super::rows::{self, Encoder, Rows};
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q8_0;

const LEN: usize = 32;
const BYTES: usize = 34;

impl Codec for Q8_0 {
    fn dtype(&self) -> DType {
        DType::Q8_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            for (q, y) in b[2..].iter().zip(y) {
                *y = f32::from(*q as i8) * d;
            }
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        rows::encode::<Q8_0>(values, row_len, importance, out)
    }
}

impl Encoder for Q8_0 {
    const DTYPE: DType = DType::Q8_0;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (n, x) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
            let d = largest_magnitude::<L>(x).abs() / 127.0;
            let inverse = L::splat(if d != 0.0 { 1.0 / d } else { 0.0 });
            let Some((d, _)) = stored_half(d) else { return Err(rows.overflow(n * LEN)) };
            let (low, high) = halves::<L>(x);
            out.extend(d);
            out.extend(low.mul(inverse).away_from_zero().truncated().map(|q| q as u8));
            out.extend(high.mul(inverse).away_from_zero().truncated().map(|q| q as u8));
        }
        Ok(())
    }
}
