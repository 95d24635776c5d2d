//! Q2_K: 256 elements in 84 bytes, sixteen sub-blocks of 16. `y = d * scale * q - dmin * min`.
//!
//! Block: 16 bytes (scale in the low nibble, min in the high one), 64 bytes of 2-bit quanta, `d` f16,
//! `dmin` f16. Each half of 128 elements has 32 bytes; bit pair `s` of byte `l` is element `32 * s + l`.

use super::{Codec, assert_blocks, half_at, read_only};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q2K;

const LEN: usize = 256;
const BYTES: usize = 84;

impl Codec for Q2K {
    fn dtype(&self) -> DType {
        DType::Q2_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (scales, quanta) = (&b[..16], &b[16..80]);
            let (d, dmin) = (half_at(b, 80), half_at(b, 82));
            // Sub-block `n`: half `n / 8`, bit pair `n / 2 % 4`, bytes 16 * (n % 2) ..
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scales[n] & 0x0f);
                let min = dmin * f32::from(scales[n] >> 4);
                let (start, shift) = (n / 8 * 32 + n % 2 * 16, n / 2 % 4 * 2);
                for (q, y) in quanta[start..start + 16].iter().zip(y) {
                    *y = scale * f32::from(q >> shift & 3) - min;
                }
            }
        }
    }

    fn encode(&self, _values: &[f32], _out: &mut Vec<u8>) -> Result<()> {
        Err(read_only(self.dtype()))
    }
}
