//! IQ3_S: 256 elements in 110 bytes, eight sub-blocks of 32. `y = +-d * (2 * scale + 1) * magnitude`.
//!
//! Block: `d` f16, 64 bytes with the low bits of the indexes of four magnitudes, 8 bytes with their ninth bits, 32 bytes
//! of signs, 4 bytes of 4-bit scales.

use super::grid::{iq3_s, signed};
use super::iq3_grids::IQ3_S;
use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Iq3S;

const LEN: usize = 256;
const BYTES: usize = 110;

impl Codec for Iq3S {
    fn dtype(&self) -> DType {
        DType::IQ3_S
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, ninth, signs, scales) = (&b[2..66], &b[66..74], &b[74..106], &b[106..]);
            for (n, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let scale = scales[n / 8] >> (n / 4 % 2 * 4) & 0x0f;
                let scale = d * f32::from(1 + 2 * scale);
                let entry = |k: usize| {
                    let high = usize::from(ninth[k / 8] >> (k % 8) & 1) << 8;
                    IQ3_S[usize::from(low[k]) | high]
                };
                let pair = [entry(2 * n), entry(2 * n + 1)];
                signed(y, scale, |j| iq3_s(pair[j / 4], j % 4), signs[n]);
            }
        }
    }
}
