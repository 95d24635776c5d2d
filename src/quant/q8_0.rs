//! Q8_0: 32 elements in 34 bytes. `y = d * q`.
//!
//! Block: `d` f16, then 32 signed bytes. `d = max |x| / 127`; elements round half away from zero, scaled by
//! the inverse of the unrounded `d`.

use super::{Codec, assert_blocks, check_finite, half_at, half_overflow, truncate};
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

    fn encode(&self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        check_finite(self.dtype(), values)?;
        assert!(values.len().is_multiple_of(LEN), "a row is whole blocks");
        for (n, x) in values.as_chunks::<LEN>().0.iter().enumerate() {
            let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let d = largest / 127.0;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let scale = half::f16::from_f32(d);
            if scale.is_infinite() {
                let at = x.iter().position(|v| v.abs() == largest).unwrap_or(0);
                return Err(half_overflow(self.dtype(), n * LEN + at, x[at]));
            }
            out.extend(scale.to_le_bytes());
            out.extend(x.iter().map(|v| truncate((v * inverse).round()) as u8));
        }
        Ok(())
    }
}
