//! Q6_K: 256 elements in 210 bytes, sixteen sub-blocks of 16. `y = d * scale * (q - 32)`.
//!
//! Block: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, `d` f16. In each half of
//! 128 elements, quarter `k` takes its low bits from nibble `k / 2` of bytes `32 * (k % 2) ..` of the half's
//! 64, and its high bits from bit pair `k` of the half's 32.

use super::lanes::Lanes;
use super::rounding::{nearest, stored_half};
use super::rows::{self, Encoder, Rows, side_by_side};
use super::signed_search::{NOTHING, codes, search, stored_codes};
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q6K;

const LEN: usize = 256;
const BYTES: usize = 210;

impl Codec for Q6K {
    fn dtype(&self) -> DType {
        DType::Q6_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (nibbles, pairs, scales) = (&b[..128], &b[128..192], &b[192..208]);
            let d = half_at(b, 208);
            // Sub-block `n`: half `n / 8`, quarter `n / 2 % 4`, place 16 * (n % 2).
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let (half, quarter, place) = (n / 8, n / 2 % 4, n % 2 * 16);
                let scale = d * f32::from(scales[n] as i8);
                let low = &nibbles[half * 64 + quarter % 2 * 32 + place..];
                let high = &pairs[half * 32 + place..];
                let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                for ((l, h), y) in low.iter().zip(high).zip(y) {
                    let q = (l >> low_shift & 0x0f) | (h >> high_shift & 3) << 4;
                    *y = scale * f32::from(q as i8 - 32);
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
        rows::encode::<Q6K>(values, row_len, importance, out)
    }
}

/// Sub-blocks and their length; levels are `-HALF..HALF`.
const SUBS: usize = 16;
const SUB: usize = 16;
const HALF: i32 = 32;

impl Encoder for Q6K {
    const DTYPE: DType = DType::Q6_K;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (n, values) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
            let index = n * LEN;
            let x: [L; SUB] = side_by_side(values);
            let mut w = match rows.importance_at(index, LEN) {
                Some(importance) => side_by_side(importance),
                None => x,
            };
            if rows.importance.is_none() {
                for w in &mut w {
                    *w = w.mul(*w);
                }
            }
            let found = search(&x, &w, HALF);
            let scales = found.scale.to_array();
            let mut largest = 0.0f32;
            for scale in scales {
                if scale.abs() > largest.abs() {
                    largest = scale;
                }
            }
            if largest.abs() < NOTHING {
                out.extend([0; BYTES]);
                continue;
            }
            let inverse = -128.0 / largest;
            let Some((d_bytes, d)) = stored_half(1.0 / inverse) else { return Err(rows.overflow(index)) };
            let whole: [i8; SUBS] = scales.map(|s| nearest(inverse * s).min(127) as i8);
            let mut all = [0; LEN];
            for (j, (x, out)) in values.chunks(SUB).zip(all.chunks_mut(SUB)).enumerate() {
                let scale = d * f32::from(whole[j]);
                if scale != 0.0 {
                    stored_codes::<L>(x, scale, HALF, out);
                } else if found.live >> j & 1 == 1 {
                    codes::<L>(x, found.inverse.to_array()[j], HALF, out);
                }
            }
            pack(&all, out);
            out.extend(whole.map(|s| s as u8));
            out.extend(d_bytes);
        }
        Ok(())
    }
}

/// Low nibbles of both halves, then high bit pairs.
#[inline(always)]
fn pack(codes: &[u8; LEN], out: &mut Vec<u8>) {
    let halves = codes.as_chunks::<128>().0;
    for q in halves {
        out.extend((0..64).map(|l| (q[l] & 0x0f) | q[l + 64] << 4));
    }
    for q in halves {
        out.extend(
            (0..32).map(|l| q[l] >> 4 | q[l + 32] >> 4 << 2 | q[l + 64] >> 4 << 4 | q[l + 96] >> 4 << 6),
        );
    }
}
