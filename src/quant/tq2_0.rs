//! TQ2_0: 256 ternary elements in 66 bytes. `y = d * (q - 1)`.
//!
//! Block: 64 bytes, then `d` f16. Each half of 128 elements has 32 bytes; bit pair `s` of byte `l` is element
//! `32 * s + l`. The code 3, which no quantiser writes, is 2.

use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Tq2_0;

const LEN: usize = 256;
const BYTES: usize = 66;

impl Codec for Tq2_0 {
    fn dtype(&self) -> DType {
        DType::TQ2_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 64);
            for (n, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (q, y) in b[n / 4 * 32..].iter().zip(y) {
                    *y = f32::from((q >> (n % 4 * 2) & 3) as i8 - 1) * d;
                }
            }
        }
    }
}
