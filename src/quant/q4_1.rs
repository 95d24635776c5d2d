//! Q4_1: 32 elements in 20 bytes. `y = d * q + m`.
//!
//! Block: `d` f16, `m` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its
//! high one.

use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::{Codec, affine_blocks, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_1;

const LEN: usize = 32;
const BYTES: usize = 20;

impl Codec for Q4_1 {
    fn dtype(&self) -> DType {
        DType::Q4_1
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[4..].iter().zip(low).zip(high) {
                *l = f32::from(q & 0x0f) * d + m;
                *h = f32::from(q >> 4) * d + m;
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
        rows::encode::<Q4_1>(values, row_len, importance, out)
    }
}

/// The largest level.
const HIGH: i32 = 15;

impl Encoder for Q4_1 {
    const DTYPE: DType = DType::Q4_1;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        // The largest element may come to lie above `HIGH + 0.5` and is cut.
        let cut = |v: i32| (v as i8).min(HIGH as i8) as u8;
        affine_blocks::encode::<L, BYTES>(rows, HIGH, cut, block, out)
    }
}

/// `d`, `m` and the levels of the lower and the upper half of a block.
#[inline(always)]
fn block(d: [u8; 2], m: [u8; 2], low: &[u8], high: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&d);
    block[2..4].copy_from_slice(&m);
    for ((q, low), high) in block[4..].iter_mut().zip(low).zip(high) {
        *q = (low & 0x0f) | high << 4;
    }
    block
}
