//! IQ1_S: 256 elements in 50 bytes, eight sub-blocks of 32. `y = d * (2 * scale + 1) * (element +- 1/8)`.
//!
//! Block: `d` f16, 32 bytes with the low bits of the indexes of eight elements, then 16 bits for each sub-block: four
//! times three high bits, the 3-bit scale, and on top the sign of the shift.

use super::grid::iq1;
use super::iq1_grid::IQ1;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq1S;

const LEN: usize = 256;
const BYTES: usize = 50;

impl Codec for Iq1S {
    fn dtype(&self) -> DType {
        DType::IQ1_S
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, words) = b[2..].split_at(32);
            for (n, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let word = u16::from_le_bytes(words.as_chunks::<2>().0[n / 4]);
                let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
                let shift = if word >> 15 == 1 { -SHIFT } else { SHIFT };
                let entry = IQ1[usize::from(low[n]) | usize::from(word >> (n % 4 * 3) & 7) << 8];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = scale * (f32::from(iq1(entry, j)) + shift);
                }
            }
        }
    }
}

/// How far elements are moved off the integers; IQ1_M has the same.
pub(super) const SHIFT: f32 = 0.125;
