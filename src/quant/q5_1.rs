//! Q5_1: 32 elements in 24 bytes. `y = d * q + m`.
//!
//! Block: `d` f16, `m` f16, 32 fifth bits (bit `i` belongs to element `i`), then 16 bytes of low bits in
//! Q4_0's order.

use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::weighted_blocks::fifth_bits;
use super::{Codec, affine_blocks, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q5_1;

const LEN: usize = 32;
const BYTES: usize = 24;

impl Codec for Q5_1 {
    fn dtype(&self) -> DType {
        DType::Q5_1
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let fifth = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
            for j in 0..LEN / 2 {
                let q = b[8 + j];
                let low = u32::from(q & 0x0f) | (fifth >> j & 1) << 4;
                let high = u32::from(q >> 4) | (fifth >> (j + 16) & 1) << 4;
                y[j] = low as f32 * d + m;
                y[j + LEN / 2] = high as f32 * d + m;
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
        rows::encode::<Q5_1>(values, row_len, importance, out)
    }
}

/// The largest level.
const HIGH: i32 = 31;

impl Encoder for Q5_1 {
    const DTYPE: DType = DType::Q5_1;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        // Not cut: the largest element lies below `HIGH + 1`.
        let cut = |v: i32| v as u8;
        affine_blocks::encode::<L, BYTES>(rows, HIGH, cut, block, out)
    }
}

/// `d`, `m` and the levels of the lower and the upper half of a block.
#[inline(always)]
fn block(d: [u8; 2], m: [u8; 2], low: &[u8], high: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&d);
    block[2..4].copy_from_slice(&m);
    block[4..8].copy_from_slice(&fifth_bits(low, high));
    for ((q, low), high) in block[8..].iter_mut().zip(low).zip(high) {
        *q = (low & 0x0f) | high << 4;
    }
    block
}
