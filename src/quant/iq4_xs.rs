//! IQ4_XS: 256 elements in 136 bytes, eight sub-blocks of 32. `y = d * (scale - 32) * LEVELS[q]`.
//!
//! Block: `d` f16, 16 bits with two high bits of each scale, 4 bytes with their low nibbles, then 16 bytes of codes
//! per sub-block in Q4_0's order. The levels are IQ4_NL's.

use super::iq4_nl::level;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq4Xs;

const LEN: usize = 256;
const BYTES: usize = 136;

impl Codec for Iq4Xs {
    fn dtype(&self) -> DType {
        DType::IQ4_XS
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let high = u16::from_le_bytes([b[2], b[3]]);
            for (n, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let scale = (b[4 + n / 2] >> (n % 2 * 4) & 0x0f) | ((high >> (2 * n) & 3) as u8) << 4;
                let scale = d * f32::from(scale as i8 - 32);
                let (low, high) = y.split_at_mut(16);
                for ((q, l), h) in b[8 + 16 * n..].iter().zip(low).zip(high) {
                    *l = scale * level(q & 0x0f);
                    *h = scale * level(q >> 4);
                }
            }
        }
    }
}
