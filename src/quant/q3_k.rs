//! Q3_K: 256 elements in 110 bytes, sixteen sub-blocks of 16. `y = d * (scale - 32) * (q - 4)`.
//!
//! Block: 32 bytes of third bits, 64 bytes of low bit pairs (Q2_K's order), 12 bytes of sixteen 6-bit scales,
//! `d` f16. Bit `n / 2` of third-bit byte `l` belongs to the element at place `l` of sub-block pair `n / 2`.

use super::lanes::Lanes;
use super::rounding::{nearest, stored_half};
use super::rows::{self, Encoder, Rows, side_by_side};
use super::signed_search::{self, NOTHING, Signed, codes, search, stored_codes};
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q3K;

const LEN: usize = 256;
const BYTES: usize = 110;

impl Codec for Q3K {
    fn dtype(&self) -> DType {
        DType::Q3_K
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (third, pairs, scales) = (&b[..32], &b[32..96], &b[96..108]);
            let d = half_at(b, 108);
            for (n, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scale(n, scales));
                let place = n % 2 * 16;
                let (start, shift) = (n / 8 * 32 + place, n / 2 % 4 * 2);
                for (l, y) in y.iter_mut().enumerate() {
                    let low = (pairs[start + l] >> shift & 3) as i8;
                    let absent = third[place + l] >> (n / 2) & 1 == 0;
                    *y = scale * f32::from(if absent { low - 4 } else { low });
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
        rows::encode::<Q3K>(values, row_len, importance, out)
    }
}

/// Scale `n` (0..16) less its offset of 32. Four low bits: the low nibbles of bytes 0..8, then their high
/// ones. Two high bits: bit pair `n / 4` of byte `8 + n % 4`.
fn scale(n: usize, packed: &[u8]) -> i8 {
    let low = packed[n % 8] >> (n / 8 * 4) & 0x0f;
    let high = packed[8 + n % 4] >> (n / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// Sub-blocks and their length; levels are `-HALF..HALF`.
const SUBS: usize = 16;
const SUB: usize = 16;
const HALF: i32 = 4;
/// Scales are `-HALF_SCALE..HALF_SCALE`.
const HALF_SCALE: i32 = 32;

impl Encoder for Q3K {
    const DTYPE: DType = DType::Q3_K;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        for (n, values) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
            let index = n * LEN;
            let x: [L; SUB] = side_by_side(values);
            let (searched, d, packed) = match rows.importance_at(index, LEN) {
                None => {
                    let (scale, codes) = refined(&x);
                    let (d, packed) = whole(&scale.to_array());
                    (Searched::Codes(codes), d, packed)
                }
                Some(importance) => {
                    let (found, d, packed) = weighted(&x, values, importance);
                    (Searched::Scales(found), d, packed)
                }
            };
            let Some((d_bytes, d)) = stored_half(d) else { return Err(rows.overflow(index)) };
            let mut all = [0; LEN];
            for (j, (x, out)) in values.chunks(SUB).zip(all.chunks_mut(SUB)).enumerate() {
                let scale = d * f32::from(scale(j, &packed));
                if scale != 0.0 {
                    stored_codes::<L>(x, scale, HALF, out);
                    continue;
                }
                match &searched {
                    Searched::Codes(codes) => {
                        for (code, out) in codes.iter().zip(out) {
                            *out = code.to_array()[j] as u8;
                        }
                    }
                    Searched::Scales(found) if found.live >> j & 1 == 1 => {
                        codes::<L>(x, found.inverse.to_array()[j], HALF, out);
                    }
                    Searched::Scales(_) => {}
                }
            }
            let mut third = [0u8; 32];
            for (j, q) in all.as_chunks::<32>().0.iter().enumerate() {
                for (bits, q) in third.iter_mut().zip(q) {
                    *bits |= q >> 2 << j;
                }
            }
            out.extend(third);
            for q in all.as_chunks::<128>().0 {
                let pair = |l: usize| q[l] & 3;
                out.extend(
                    (0..32).map(|l| pair(l) | pair(l + 32) << 2 | pair(l + 64) << 4 | pair(l + 96) << 6),
                );
            }
            out.extend(packed);
            out.extend(d_bytes);
        }
        Ok(())
    }
}

/// The search's own codes, for sub-blocks whose stored scale is zero.
enum Searched<L> {
    /// The codes themselves, side by side.
    Codes([L; SUB]),
    /// What they follow from.
    Scales(Signed<L>),
}

/// Scales and codes without importance, an element weighing its square: from the levels that map the largest
/// magnitude to -4, single levels are moved as long as that raises the fit, at most five rounds.
#[inline(always)]
fn refined<L: Lanes>(x: &[L; SUB]) -> (L, [L; SUB]) {
    let zero = L::splat(0.0);
    let (mut magnitude, mut largest) = (zero, zero);
    for x in x {
        let more = magnitude.lt(x.abs());
        magnitude = L::select(more, x.abs(), magnitude);
        largest = L::select(more, *x, largest);
    }
    let empty = magnitude.lt(L::splat(NOTHING));
    let inverse = L::splat(-HALF as f32).div(largest);
    let (mut w, mut wx, mut levels) = (*x, *x, *x);
    let (mut sum_xl, mut sum_l2) = (zero, zero);
    for i in 0..SUB {
        w[i] = x[i].mul(x[i]);
        wx[i] = w[i].mul(x[i]);
        levels[i] = inverse.mul(x[i]).nearest_within(-HALF, HALF - 1);
        sum_xl = sum_xl.add(wx[i].mul(levels[i]));
        sum_l2 = sum_l2.add(w[i].mul(levels[i]).mul(levels[i]));
    }
    for _ in 0..5 {
        let mut changed = 0;
        for i in 0..SUB {
            let old = levels[i];
            let xl = sum_xl.sub(wx[i].mul(old));
            let l2 = sum_l2.sub(w[i].mul(old).mul(old));
            let level = x[i].mul(l2).div(xl).nearest_within(-HALF, HALF - 1);
            let sensible = L::both(zero.lt(xl), level.ne(old));
            let xl = xl.add(wx[i].mul(level));
            let l2 = l2.add(w[i].mul(level).mul(level));
            let better = sum_xl.mul(sum_xl).mul(l2).lt(xl.mul(xl).mul(sum_l2));
            let moved = L::both(sensible, L::both(zero.lt(l2), better));
            levels[i] = L::select(moved, level, old);
            sum_xl = L::select(moved, xl, sum_xl);
            sum_l2 = L::select(moved, l2, sum_l2);
            changed |= L::bits(moved);
        }
        // A sub-block that one round leaves as it is stays so in the next.
        if changed == 0 {
            break;
        }
    }
    for level in &mut levels {
        *level = L::select(empty, zero, level.add(L::splat(HALF as f32)));
    }
    let fitted = L::select(zero.lt(sum_l2), sum_xl.div(sum_l2), zero);
    (L::select(empty, zero, fitted), levels)
}

/// `d` and the packed scales, where the scale of the largest magnitude is mapped to -32.
#[inline(always)]
fn whole(scales: &[f32; SUBS]) -> (f32, [u8; 12]) {
    let mut largest = 0.0f32;
    for scale in scales {
        if scale.abs() > largest.abs() {
            largest = *scale;
        }
    }
    if largest == 0.0 {
        return (0.0, [0; 12]);
    }
    let inverse = -HALF_SCALE as f32 / largest;
    let codes = scales.map(|s| {
        let level = i32::from(nearest(inverse * s) as i8);
        (level.clamp(-HALF_SCALE, HALF_SCALE - 1) + HALF_SCALE) as u8
    });
    (1.0 / inverse, pack_scales(&codes))
}

/// What the search found, `d` and the packed scales. An element weighs its importance times the root of its square
/// plus twice the super-block's mean square; a sub-block what its elements weigh together.
#[inline(always)]
fn weighted<L: Lanes>(x: &[L; SUB], values: &[f32; LEN], importance: &[f32]) -> (Signed<L>, f32, [u8; 12]) {
    let sum = values.iter().fold(0.0, |sum: f32, x| sum + x * x);
    let sigma2 = L::splat(2.0 * sum / LEN as f32);
    let mut w: [L; SUB] = side_by_side(importance);
    let mut sums = L::splat(0.0);
    for i in 0..SUB {
        w[i] = w[i].mul(sigma2.add(x[i].mul(x[i])).sqrt());
        sums = sums.add(w[i]);
    }
    let found = search(x, &w, HALF);
    // The sixteen scales are themselves a sub-block, alone in lane 0.
    let (scales, sums) = (found.scale.to_array(), sums.to_array());
    let (mut one, mut weights) = ([L::splat(0.0); SUBS], [L::splat(0.0); SUBS]);
    for j in 0..SUBS {
        one[j] = L::splat(scales[j]);
        weights[j] = L::splat(sums[j]);
    }
    let fit = search(&one, &weights, HALF_SCALE);
    let mut codes = [0; SUBS];
    if fit.live != 0 {
        signed_search::codes::<L>(&scales, fit.inverse.to_array()[0], HALF_SCALE, &mut codes);
    }
    (found, fit.scale.to_array()[0], pack_scales(&codes))
}

/// The inverse of [`scale`], of codes 0..64.
fn pack_scales(codes: &[u8; SUBS]) -> [u8; 12] {
    let mut packed = [0; 12];
    for (n, code) in codes.iter().enumerate() {
        packed[n % 8] |= (code & 0x0f) << (n / 8 * 4);
        packed[8 + n % 4] |= code >> 4 << (n / 4 * 2);
    }
    packed
}
