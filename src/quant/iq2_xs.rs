//! IQ2_XS: 256 elements in 74 bytes, sixteen sub-blocks of 16. `y = +-d * (scale + 0.5) / 4 * magnitude`.
//!
//! Block: `d` f16, 32 times 16 bits (nine of an index of eight magnitudes, seven signs), 8 bytes of 4-bit scales.

use super::grid::{even_signs, iq2, signed};
use super::iq2_grids::IQ2_XS;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq2Xs;

const LEN: usize = 256;
const BYTES: usize = 74;

impl Codec for Iq2Xs {
    fn dtype(&self) -> DType {
        DType::IQ2_XS
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            for (n, (q, y)) in b[2..66].as_chunks::<2>().0.iter().zip(y.as_chunks_mut::<8>().0).enumerate() {
                let q = u16::from_le_bytes(*q);
                let scale = b[66 + n / 4] >> (n / 2 % 2 * 4) & 0x0f;
                let scale = d * (0.5 + f32::from(scale)) * 0.25;
                let entry = IQ2_XS[usize::from(q & 511)];
                signed(y, scale, |j| iq2(entry, j), even_signs(u32::from(q >> 9)));
            }
        }
    }
}
