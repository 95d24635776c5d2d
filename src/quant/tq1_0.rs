//! TQ1_0: 256 ternary elements in 54 bytes, five to a byte. `y = d * (q - 1)`.
//!
//! Block: 48 bytes of five elements, 4 bytes of four, `d` f16. A byte is the fraction of 256 that its elements spell
//! in base 3, first element first. Element `k` of bytes 0..32 stands at `32 * k ..`, of bytes 32..48 at
//! `160 + 16 * k ..`, of the last four at `240 + 4 * k ..`.

use super::{Codec, assert_blocks, half_at};
use crate::tensor::DType;

pub(super) struct Tq1_0;

const LEN: usize = 256;
const BYTES: usize = 54;

impl Codec for Tq1_0 {
    fn dtype(&self) -> DType {
        DType::TQ1_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 52);
            let mut rest = &mut y[..];
            for (bytes, digits) in [(&b[..32], 5), (&b[32..48], 5), (&b[48..52], 4)] {
                for k in 0..digits {
                    let (now, later) = rest.split_at_mut(bytes.len());
                    for (byte, y) in bytes.iter().zip(now) {
                        *y = f32::from(digit(*byte, k) - 1) * d;
                    }
                    rest = later;
                }
            }
        }
    }
}

/// Digit `k` of a fraction in base 3: shift the digits before it out, and the next carry is it.
fn digit(fraction: u8, k: usize) -> i8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let shifted = fraction.wrapping_mul(POWERS[k]);
    ((u16::from(shifted) * 3) >> 8) as i8
}
