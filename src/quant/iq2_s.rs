//! IQ2_S: 256 elements in 82 bytes, sixteen sub-blocks of 16. `y = +-d * (scale + 0.5) / 4 * magnitude`.
//!
//! Block: `d` f16, 32 bytes with the low bits of the indexes of eight magnitudes, 32 bytes of signs, 8 bytes with two
//! high bits of four indexes each, 8 bytes of 4-bit scales.

use super::grid::{iq2, signed};
use super::iq2_grids::IQ2_S;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq2S;

const LEN: usize = 256;
const BYTES: usize = 82;

impl Codec for Iq2S {
    fn dtype(&self) -> DType {
        DType::IQ2_S
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, signs, high, scales) = (&b[2..34], &b[34..66], &b[66..74], &b[74..]);
            for (n, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let scale = scales[n / 4] >> (n / 2 % 2 * 4) & 0x0f;
                let scale = d * (0.5 + f32::from(scale)) * 0.25;
                let index = usize::from(low[n]) | usize::from(high[n / 4] >> (n % 4 * 2) & 3) << 8;
                let entry = IQ2_S[index];
                signed(y, scale, |j| iq2(entry, j), signs[n]);
            }
        }
    }
}
