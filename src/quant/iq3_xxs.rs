//! IQ3_XXS: 256 elements in 98 bytes, eight sub-blocks of 32. `y = +-d * (scale + 0.5) / 2 * magnitude`.
//!
//! Block: `d` f16, 64 indexes of four magnitudes, a byte each, then for each sub-block 32 bits: four times seven signs
//! of eight elements, and on top the 4-bit scale.

use super::grid::{even_signs, iq3_xxs, signed};
use super::iq3_grids::IQ3_XXS;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq3Xxs;

const LEN: usize = 256;
const BYTES: usize = 98;

impl Codec for Iq3Xxs {
    fn dtype(&self) -> DType {
        DType::IQ3_XXS
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (indexes, words) = b[2..].split_at(64);
            for (n, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let word = words.as_chunks::<4>().0[n / 4];
                let word = u32::from_le_bytes(word);
                let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
                let pair = [indexes[2 * n], indexes[2 * n + 1]].map(|i| IQ3_XXS[usize::from(i)]);
                signed(y, scale, |j| iq3_xxs(pair[j / 4], j % 4), even_signs(word >> (n % 4 * 7)));
            }
        }
    }
}
