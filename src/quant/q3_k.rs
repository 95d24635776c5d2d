//! Q3_K: 256 elements in 110 bytes, sixteen sub-blocks of 16. `y = d * (scale - 32) * (q - 4)`.
//!
//! Block: 32 bytes of third bits, 64 bytes of low bit pairs (Q2_K's order), 12 bytes of sixteen 6-bit scales,
//! `d` f16. Bit `n / 2` of third-bit byte `l` belongs to the element at place `l` of sub-block pair `n / 2`.

use super::{Codec, assert_blocks, half_at, read_only};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q3K;

const LEN: usize = 256;
const BYTES: usize = 110;

impl Codec for Q3K {
    fn dtype(&self) -> DType {
        DType::Q3_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (third, pairs, scales) = (&b[..32], &b[32..96], &b[96..108]);
            let d = half_at(b, 108);
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scale(n, scales));
                let place = n % 2 * 16;
                let (start, shift) = (n / 8 * 32 + place, n / 2 % 4 * 2);
                for (l, y) in y.iter_mut().enumerate() {
                    let low = (pairs[start + l] >> shift & 3) as i8;
                    let absent = third[place + l] >> (n / 2) & 1 == 0;
                    *y = scale * f32::from(if absent { low - 4 } else { low });
                }
            }
        }
    }

    fn encode(&self, _values: &[f32], _out: &mut Vec<u8>) -> Result<()> {
        Err(read_only(self.dtype()))
    }
}

/// Scale `n` (0..16) less its offset of 32. Four low bits: the low nibbles of bytes 0..8, then their high
/// ones. Two high bits: bit pair `n / 4` of byte `8 + n % 4`.
fn scale(n: usize, packed: &[u8]) -> i8 {
    let low = packed[n % 8] >> (n / 8 * 4) & 0x0f;
    let high = packed[8 + n % 4] >> (n / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}
