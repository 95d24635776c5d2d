//! Q2_K: 256 elements in 84 bytes, sixteen sub-blocks of 16. `y = d * scale * q - dmin * min`.
//!
//! Block: 16 bytes (scale in the low nibble, min in the high one), 64 bytes of 2-bit quanta, `d` f16,
//! `dmin` f16. Each half of 128 elements has 32 bytes; bit pair `s` of byte `l` is element `32 * s + l`.

use super::affine_search::{Affine, Trials, levels, search, stored_levels};
use super::lanes::Lanes;
use super::rounding::{nearest, stored_half};
use super::rows::{self, Encoder, Rows, side_by_side};
use super::{Codec, assert_blocks, half_at, scale_search};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q2K;

const LEN: usize = 256;
const BYTES: usize = 84;

impl Codec for Q2K {
    fn dtype(&self) -> DType {
        DType::Q2_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (scales, quanta) = (&b[..16], &b[16..80]);
            let (d, dmin) = (half_at(b, 80), half_at(b, 82));
            // Sub-block `n`: half `n / 8`, bit pair `n / 2 % 4`, bytes 16 * (n % 2) ..
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scales[n] & 0x0f);
                let min = dmin * f32::from(scales[n] >> 4);
                let (start, shift) = (n / 8 * 32 + n % 2 * 16, n / 2 % 4 * 2);
                for (q, y) in quanta[start..start + 16].iter().zip(y) {
                    *y = scale * f32::from(q >> shift & 3) - min;
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
        rows::encode::<Q2K>(values, row_len, importance, out)
    }
}

/// Sub-blocks, their length, and the largest scale and minimum.
const SUBS: usize = 16;
const SUB: usize = 16;
const FOUR_BITS: i32 = 15;
/// The largest level.
const HIGH: i32 = 3;

impl Encoder for Q2K {
    const DTYPE: DType = DType::Q2_K;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (n, values) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
            let index = n * LEN;
            let x: [L; SUB] = side_by_side(values);
            let (found, d, dmin, packed) = match rows.importance_at(index, LEN) {
                None => plain(&x),
                Some(importance) => weighted(&x, values, importance),
            };
            let (Some((d_bytes, d)), Some((dmin_bytes, dmin))) = (stored_half(d), stored_half(dmin)) else {
                return Err(rows.overflow(index));
            };
            let mut all = [0; LEN];
            for (j, (x, out)) in values.chunks(SUB).zip(all.chunks_mut(SUB)).enumerate() {
                let scale = d * f32::from(packed[j] & 0x0f);
                if scale != 0.0 {
                    stored_levels::<L>(x, scale, dmin * f32::from(packed[j] >> 4), HIGH, out);
                } else {
                    levels::<L>(x, found.inverse.to_array()[j], found.base.to_array()[j], HIGH, out);
                }
            }
            out.extend(packed);
            for q in all.as_chunks::<128>().0 {
                out.extend((0..32).map(|l| q[l] | q[l + 32] << 2 | q[l + 64] << 4 | q[l + 96] << 6));
            }
            out.extend(d_bytes);
            out.extend(dmin_bytes);
        }
        Ok(())
    }
}

/// What the search found, `d`, `dmin` and the packed scales and minima, where the largest is mapped to 15. An
/// element weighs its magnitude.
#[inline(always)]
fn plain<L: Lanes>(x: &[L; SUB]) -> (Affine<L>, f32, f32, [u8; SUBS]) {
    let mut w = *x;
    for w in &mut w {
        *w = w.abs();
    }
    let found = search(x, &w, &Trials { high: HIGH, first: -0.5, step: 0.1, more: 15, absolute: true });
    let (d, scales) = whole(&found.scale.to_array());
    let (dmin, mins) = whole(&found.min.to_array());
    (found, d, dmin, packed(&scales, &mins))
}

#[inline(always)]
fn whole(all: &[f32; SUBS]) -> (f32, [u8; SUBS]) {
    let max = all.iter().fold(0.0, |m: f32, v| if *v > m { *v } else { m });
    if max > 0.0 {
        let inverse = FOUR_BITS as f32 / max;
        (max / FOUR_BITS as f32, all.map(|v| nearest(inverse * v) as u8))
    } else {
        (0.0, [0; SUBS])
    }
}

/// As [`plain`], with the least-squares fit of scales and minima. An element weighs its importance times the root
/// of its square plus the super-block's mean square.
#[inline(always)]
fn weighted<L: Lanes>(
    x: &[L; SUB],
    values: &[f32; LEN],
    importance: &[f32],
) -> (Affine<L>, f32, f32, [u8; SUBS]) {
    let sum = values.iter().fold(0.0, |sum: f32, x| sum + x * x);
    let sigma2 = L::splat(sum / LEN as f32);
    let mut w: [L; SUB] = side_by_side(importance);
    let mut sums = L::splat(0.0);
    for i in 0..SUB {
        w[i] = w[i].mul(sigma2.add(x[i].mul(x[i])).sqrt());
        sums = sums.add(w[i]);
    }
    let sums = sums.to_array();
    let found = search(x, &w, &Trials { high: HIGH, first: -0.9, step: 0.05, more: 36, absolute: false });
    let (mut scales, mut mins) = ([0; SUBS], [0; SUBS]);
    let d = scale_search::search(&found.scale.to_array(), &sums, FOUR_BITS, &mut scales);
    let dmin = scale_search::search(&found.min.to_array(), &sums, FOUR_BITS, &mut mins);
    (found, d, dmin, packed(&scales, &mins))
}

#[inline(always)]
fn packed(scales: &[u8; SUBS], mins: &[u8; SUBS]) -> [u8; SUBS] {
    std::array::from_fn(|j| scales[j] | mins[j] << 4)
}
