//! MXFP4: 32 elements in 17 bytes, the microscaling format of the Open Compute Project. `y = 2^(e - 127) * E2M1[q]`.
//!
//! Block: the exponent `e`, then 16 bytes in Q4_0's order. A code is a sign and a float of two exponent bits and one
//! mantissa bit. The exponent 255, by the standard a NaN, is read as any other, as GGML does.

use super::{Codec, assert_blocks};
use crate::tensor::DType;

pub(super) struct Mxfp4;

const LEN: usize = 32;
const BYTES: usize = 17;

impl Codec for Mxfp4 {
    fn dtype(&self) -> DType {
        DType::MXFP4
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_power(b[0]);
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[1..].iter().zip(low).zip(high) {
                *l = doubled(q & 0x0f) * d;
                *h = doubled(q >> 4) * d;
            }
        }
    }
}

/// `2^(e - 128)`: half the scale, since the levels are doubled. The two lowest are subnormal.
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Twice the values of the 4-bit codes. Minus zero is read as zero.
pub(super) const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Twice the value of a code.
fn doubled(code: u8) -> f32 {
    f32::from(LEVELS[usize::from(code)])
}
