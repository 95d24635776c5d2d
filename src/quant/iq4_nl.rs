//! IQ4_NL: 32 elements in 18 bytes. `y = d * LEVELS[q]`, sixteen levels denser around zero.
//!
//! Block: `d` f16, then 16 bytes in Q4_0's order.

use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq4Nl;

const LEN: usize = 32;
const BYTES: usize = 18;

impl Codec for Iq4Nl {
    fn dtype(&self) -> DType {
        DType::IQ4_NL
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[2..].iter().zip(low).zip(high) {
                *l = d * level(q & 0x0f);
                *h = d * level(q >> 4);
            }
        }
    }
}

/// The levels by 4-bit code.
pub(super) const LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The level of a 4-bit code; IQ4_XS has the same.
pub(super) fn level(code: u8) -> f32 {
    f32::from(LEVELS[usize::from(code)])
}
