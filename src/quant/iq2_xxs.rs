//! IQ2_XXS: 256 elements in 66 bytes, eight sub-blocks of 32. `y = +-d * (scale + 0.5) / 4 * magnitude`.
//!
//! Block: `d` f16, then for each sub-block four indexes of eight magnitudes, a byte each, and 32 bits: four times
//! seven signs, and on top the 4-bit scale.

use super::grid::{even_signs, iq2, signed};
use super::iq2_grids::IQ2_XXS;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq2Xxs;

const LEN: usize = 256;
const BYTES: usize = 66;

impl Codec for Iq2Xxs {
    fn dtype(&self) -> DType {
        DType::IQ2_XXS
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            for (sub, y) in b[2..].as_chunks::<8>().0.iter().zip(y.as_chunks_mut::<32>().0) {
                let [i0, i1, i2, i3, signs @ ..] = *sub;
                let signs = u32::from_le_bytes(signs);
                let scale = d * (0.5 + (signs >> 28) as f32) * 0.25;
                for (l, (index, y)) in [i0, i1, i2, i3].iter().zip(y.as_chunks_mut::<8>().0).enumerate() {
                    let entry = IQ2_XXS[usize::from(*index)];
                    signed(y, scale, |j| iq2(entry, j), even_signs(signs >> (7 * l)));
                }
            }
        }
    }
}
