//! Q4_0: 32 elements in 18 bytes. `y = d * (q - 8)`.
//!
//! Block: `d` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its high one.
//! The scale takes the sign of the largest element, `d = max / -8`, so that element is held exactly.

use super::{Codec, assert_blocks, check_finite, half_at, half_overflow, truncate};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_0;

const LEN: usize = 32;
const BYTES: usize = 18;

impl Codec for Q4_0 {
    fn dtype(&self) -> DType {
        DType::Q4_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[2..].iter().zip(low).zip(high) {
                *l = (i32::from(q & 0x0f) - 8) as f32 * d;
                *h = (i32::from(q >> 4) - 8) as f32 * d;
            }
        }
    }

    fn encode(&self, values: &[f32], out: &mut Vec<u8>) -> Result<()> {
        check_finite(self.dtype(), values)?;
        assert!(values.len().is_multiple_of(LEN), "a row is whole blocks");
        for (n, x) in values.as_chunks::<LEN>().0.iter().enumerate() {
            let (mut largest, mut at) = (0.0f32, 0);
            for (i, v) in x.iter().enumerate() {
                if largest.abs() < v.abs() {
                    (largest, at) = (*v, i);
                }
            }
            let d = largest / -8.0;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let scale = half::f16::from_f32(d);
            if scale.is_infinite() {
                return Err(half_overflow(self.dtype(), n * LEN + at, largest));
            }
            out.extend(scale.to_le_bytes());
            // The largest element gives 0.5; its negative would give 16.5 and is clamped. Where `inverse`
            // overflowed, the truncation yields 0, as GGML's does.
            let quantum = |v: f32| (truncate(v * inverse + 8.5) as i8).min(15) as u8;
            out.extend((0..LEN / 2).map(|j| quantum(x[j]) | (quantum(x[j + LEN / 2]) << 4)));
        }
        Ok(())
    }
}
