//! Q4_K: 256 elements in 144 bytes, eight sub-blocks of 32. `y = d * scale * q - dmin * min`.
//!
//! Block: `d` f16, `dmin` f16, 12 bytes of scales and minima, 128 bytes; of each 32 bytes the low nibbles
//! are one sub-block and the high nibbles the next.

use super::affine_search::Trials;
use super::k_scales::{self, KBlock, scale_and_min};
use super::lanes::Lanes;
use super::rows::{self, Encoder, Rows};
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4K;

const LEN: usize = 256;
const BYTES: usize = 144;

impl Codec for Q4K {
    fn dtype(&self) -> DType {
        DType::Q4_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, dmin) = (half_at(b, 0), half_at(b, 2));
            let packed = b[4..].first_chunk::<12>().expect("a block has 144 bytes");
            for (j, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, min) = scale_and_min(j, packed);
                let (scale, min) = (d * scale, dmin * min);
                let shift = j % 2 * 4;
                for (q, y) in b[16 + j / 2 * 32..].iter().zip(y) {
                    *y = scale * f32::from(q >> shift & 0x0f) - min;
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
        rows::encode::<Q4K>(values, row_len, importance, out)
    }
}

impl Encoder for Q4K {
    const DTYPE: DType = DType::Q4_K;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        k_scales::encode::<L, Self>(rows, out)
    }
}

impl KBlock for Q4K {
    const PLAIN: Trials = Trials { high: 15, first: -1.0, step: 0.1, more: 20, absolute: false };
    const CUT_WEIGHTED: bool = false;

    #[inline(always)]
    fn pack(levels: &[u8; LEN], out: &mut Vec<u8>) {
        for q in levels.as_chunks::<64>().0 {
            out.extend((0..32).map(|l| q[l] | q[l + 32] << 4));
        }
    }
}
