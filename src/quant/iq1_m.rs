//! IQ1_M: 256 elements in 56 bytes, sixteen sub-blocks of 16. `y = d * (2 * scale + 1) * (element +- 1/8)`.
//!
//! Block: 32 bytes with the low bits of the indexes of eight elements, 16 bytes with two nibbles each (three high bits
//! and the sign of the shift), four times 16 bits: four 3-bit scales, and on top a nibble of the f16 `d`.

use super::grid::iq1;
use super::iq1_grid::IQ1;
use super::iq1_s::SHIFT;
use super::{Codec, assert_blocks};
use crate::tensor::DType;

pub(super) struct Iq1M;

const LEN: usize = 256;
const BYTES: usize = 56;

impl Codec for Iq1M {
    fn dtype(&self) -> DType {
        DType::IQ1_M
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (low, nibbles, words) = (&b[..32], &b[32..48], &b[48..]);
            let word = |i: usize| u16::from_le_bytes([words[2 * i], words[2 * i + 1]]);
            let d = (0..4).fold(0, |d, i| d | (word(i) >> 12) << (4 * i));
            let d = half::f16::from_bits(d).to_f32();
            for (n, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let scale = d * f32::from(2 * (word(n / 8) >> (n / 2 % 4 * 3) & 7) + 1);
                let nibble = nibbles[n / 2] >> (n % 2 * 4);
                let shift = if nibble >> 3 & 1 == 1 { -SHIFT } else { SHIFT };
                let entry = IQ1[usize::from(low[n]) | usize::from(nibble & 7) << 8];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = scale * (f32::from(iq1(entry, j)) + shift);
                }
            }
        }
    }
}
