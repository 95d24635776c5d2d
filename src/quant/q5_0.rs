//! Q5_0: 32 elements in 22 bytes. `y = d * (q - 16)`.
//!
//! Block: `d` f16, 32 fifth bits (bit `i` belongs to element `i`), then 16 bytes of low bits in Q4_0's order.

use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::weighted_blocks::fifth_bits;
use super::{Codec, assert_blocks, half_at, signed_blocks};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q5_0;

const LEN: usize = 32;
const BYTES: usize = 22;

impl Codec for Q5_0 {
    fn dtype(&self) -> DType {
        DType::Q5_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let fifth = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
            for j in 0..LEN / 2 {
                let q = b[6 + j];
                let low = u32::from(q & 0x0f) | (fifth >> j & 1) << 4;
                let high = u32::from(q >> 4) | (fifth >> (j + 16) & 1) << 4;
                y[j] = (low as i32 - 16) as f32 * d;
                y[j + LEN / 2] = (high as i32 - 16) as f32 * d;
            }
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        rows::encode::<Q5_0>(values, row_len, importance, out)
    }
}

/// Levels are `-HALF..HALF`.
const HALF: i32 = 16;

impl Encoder for Q5_0 {
    const DTYPE: DType = DType::Q5_0;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        signed_blocks::encode::<L, BYTES>(rows, HALF, block, out)
    }
}

/// `d` and the codes of the lower and the upper half of a block.
#[inline(always)]
fn block(d: [u8; 2], low: &[u8], high: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&d);
    block[2..6].copy_from_slice(&fifth_bits(low, high));
    for ((q, low), high) in block[6..].iter_mut().zip(low).zip(high) {
        *q = (low & 0x0f) | high << 4;
    }
    block
}
