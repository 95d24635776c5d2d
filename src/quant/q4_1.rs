//! Q4_1: 32 elements in 20 bytes. `y = d * q + m`.
//!
//! Block: `d` f16, `m` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its
//! high one.

use super::{Codec, assert_blocks, half_at, read_only};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_1;

const LEN: usize = 32;
const BYTES: usize = 20;

impl Codec for Q4_1 {
    fn dtype(&self) -> DType {
        DType::Q4_1
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[4..].iter().zip(low).zip(high) {
                *l = f32::from(q & 0x0f) * d + m;
                *h = f32::from(q >> 4) * d + m;
            }
        }
    }

    fn encode(&self, _values: &[f32], _out: &mut Vec<u8>) -> Result<()> {
        Err(read_only(self.dtype()))
    }
}
