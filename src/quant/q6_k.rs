//! Q6_K: 256 elements in 210 bytes, sixteen sub-blocks of 16. `y = d * scale * (q - 32)`.
//!
//! Block: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, `d` f16. In each half of
//! 128 elements, quarter `k` takes its low bits from nibble `k / 2` of bytes `32 * (k % 2) ..` of the half's
//! 64, and its high bits from bit pair `k` of the half's 32.

use super::{Codec, assert_blocks, half_at, read_only};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q6K;

const LEN: usize = 256;
const BYTES: usize = 210;

impl Codec for Q6K {
    fn dtype(&self) -> DType {
        DType::Q6_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (nibbles, pairs, scales) = (&b[..128], &b[128..192], &b[192..208]);
            let d = half_at(b, 208);
            // Sub-block `n`: half `n / 8`, quarter `n / 2 % 4`, place 16 * (n % 2).
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let (half, quarter, place) = (n / 8, n / 2 % 4, n % 2 * 16);
                let scale = d * f32::from(scales[n] as i8);
                let low = &nibbles[half * 64 + quarter % 2 * 32 + place..];
                let high = &pairs[half * 32 + place..];
                let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                for ((l, h), y) in low.iter().zip(high).zip(y) {
                    let q = (l >> low_shift & 0x0f) | (h >> high_shift & 3) << 4;
                    *y = scale * f32::from(q as i8 - 32);
                }
            }
        }
    }

    fn encode(&self, _values: &[f32], _out: &mut Vec<u8>) -> Result<()> {
        Err(read_only(self.dtype()))
    }
}
