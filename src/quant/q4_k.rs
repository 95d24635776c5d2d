//! Q4_K: 256 elements in 144 bytes, eight sub-blocks of 32. `y = d * scale * q - dmin * min`.
//!
//! Block: `d` f16, `dmin` f16, 12 bytes of scales and minima, 128 bytes; of each 32 bytes the low nibbles
//! are one sub-block and the high nibbles the next.

use super::k_scales::scale_and_min;
use super::{Codec, assert_blocks, half_at, read_only};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4K;

const LEN: usize = 256;
const BYTES: usize = 144;

impl Codec for Q4K {
    fn dtype(&self) -> DType {
        DType::Q4_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, dmin) = (half_at(b, 0), half_at(b, 2));
            let packed = b[4..].first_chunk::<12>().expect("a block has 144 bytes");
            for (j, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, min) = scale_and_min(j, packed);
                let (scale, min) = (d * scale, dmin * min);
                let shift = j % 2 * 4;
                for (q, y) in b[16 + j / 2 * 32..].iter().zip(y) {
                    *y = scale * f32::from(q >> shift & 0x0f) - min;
                }
            }
        }
    }

    fn encode(&self, _values: &[f32], _out: &mut Vec<u8>) -> Result<()> {
        Err(read_only(self.dtype()))
    }
}
