//! Q4_0: 32 elements in 18 bytes. `y = d * (q - 8)`.
//!
//! Block: `d` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its high one.
//! The scale takes the sign of the largest element, `d = max / -8`, so that element is held exactly.

use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::{Codec, assert_blocks, half_at, signed_blocks};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_0;

const LEN: usize = 32;
const BYTES: usize = 18;

impl Codec for Q4_0 {
    fn dtype(&self) -> DType {
        DType::Q4_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[2..].iter().zip(low).zip(high) {
                *l = (i32::from(q & 0x0f) - 8) as f32 * d;
                *h = (i32::from(q >> 4) - 8) as f32 * d;
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
        rows::encode::<Q4_0>(values, row_len, importance, out)
    }
}

/// Levels are `-HALF..HALF`.
const HALF: i32 = 8;

impl Encoder for Q4_0 {
    const DTYPE: DType = DType::Q4_0;

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
    for ((q, low), high) in block[2..].iter_mut().zip(low).zip(high) {
        *q = low | high << 4;
    }
    block
}
