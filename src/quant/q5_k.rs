//! Q5_K: 256 elements in 176 bytes, eight sub-blocks of 32. `y = d * scale * q - dmin * min`.
//!
//! Block: `d` f16, `dmin` f16, 12 bytes of scales and minima, 32 bytes of fifth bits (bit `j` of byte `l`
//! belongs to element `l` of sub-block `j`), 128 bytes of low nibbles in Q4_K's order.

use super::affine_search::Trials;
use super::k_scales::{self, KBlock, scale_and_min};
use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q5K;

const LEN: usize = 256;
const BYTES: usize = 176;

impl Codec for Q5K {
    fn dtype(&self) -> DType {
        DType::Q5_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, dmin) = (half_at(b, 0), half_at(b, 2));
            let packed = b[4..].first_chunk::<12>().expect("a block has 176 bytes");
            let fifth = &b[16..48];
            for (j, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, min) = scale_and_min(j, packed);
                let (scale, min) = (d * scale, dmin * min);
                let shift = j % 2 * 4;
                for ((q, h), y) in b[48 + j / 2 * 32..].iter().zip(fifth).zip(y) {
                    *y = scale * f32::from((q >> shift & 0x0f) | (h >> j & 1) << 4) - min;
                }
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
        rows::encode::<Q5K>(values, row_len, importance, out)
    }
}

impl Encoder for Q5K {
    const DTYPE: DType = DType::Q5_K;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        k_scales::encode::<L, Self>(rows, out)
    }
}

impl KBlock for Q5K {
    const PLAIN: Trials = Trials { high: 31, first: -0.5, step: 0.1, more: 15, absolute: false };
    const CUT_WEIGHTED: bool = true;

    #[inline(always)]
    fn pack(levels: &[u8; LEN], out: &mut Vec<u8>) {
        let mut fifth = [0u8; 32];
        for (j, q) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (bits, q) in fifth.iter_mut().zip(q) {
                *bits |= q >> 4 << j;
            }
        }
        out.extend(fifth);
        for q in levels.as_chunks::<64>().0 {
            out.extend((0..32).map(|l| (q[l] & 0x0f) | q[l + 32] << 4));
        }
    }
}
