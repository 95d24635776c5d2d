//! What Q4_K and Q5_K share: eight sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum in 12 bytes.

use super::affine_search::{Affine, Trials, levels, search, stored_levels};
use super::lanes::Lanes;
use super::rounding::{nearest, stored_half};
use super::rows::{Rows, side_by_side};
use super::scale_search;
use crate::Result;

/// Elements of a super-block and of a sub-block.
const LEN: usize = 256;
const SUB: usize = 32;
const SUBS: usize = LEN / SUB;

/// The largest scale and minimum.
const SIX_BITS: i32 = 63;

/// An encoding of this kind.
pub(super) trait KBlock {
    /// How sub-blocks are searched without importance.
    const PLAIN: Trials;
    /// Whether a weighted scale beyond six bits, from a row that is not well behaved, is cut to them.
    const CUT_WEIGHTED: bool;
    /// Appends the levels of a super-block, in a row's order.
    fn pack(levels: &[u8; LEN], out: &mut Vec<u8>);
}

/// Scale and minimum of sub-block `j` (0..8) of 32 elements.
///
/// Sub-blocks 0..4 keep their six bits in the low part of bytes `j` and `j + 4`; the top two bits of those
/// bytes, with the nibbles of bytes 8..12, make up sub-blocks 4..8.
pub(super) fn scale_and_min(j: usize, packed: &[u8; 12]) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let nibbles = packed[j + 4];
        ((nibbles & 0x0f) | (packed[j - 4] >> 6) << 4, (nibbles >> 4) | (packed[j] >> 6) << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// The inverse of [`scale_and_min`].
fn pack_scales(scales: &[u8; SUBS], mins: &[u8; SUBS]) -> [u8; 12] {
    let mut packed = [0; 12];
    packed[..4].copy_from_slice(&scales[..4]);
    packed[4..8].copy_from_slice(&mins[..4]);
    for j in 4..SUBS {
        packed[j + 4] = (scales[j] & 0x0f) | (mins[j] & 0x0f) << 4;
        packed[j - 4] |= (scales[j] >> 4) << 6;
        packed[j] |= (mins[j] >> 4) << 6;
    }
    packed
}

/// Appends the blocks of `rows`.
///
/// # Errors
/// That of [`Rows::overflow`].
#[inline(always)]
pub(super) fn encode<L: Lanes, B: KBlock>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
    for (n, pair) in rows.values.chunks(2 * LEN).enumerate() {
        let index = n * 2 * LEN;
        // The sub-blocks of two super-blocks fill the lanes; an absent second one is zero.
        let mut x = [0.0; 2 * LEN];
        x[..pair.len()].copy_from_slice(pair);
        let x: [L; SUB] = side_by_side(&x);
        let (found, sums) = if rows.importance.is_some() {
            let w = weights(rows, index, pair, &x);
            let mut sum = L::splat(0.0);
            for w in &w {
                sum = sum.add(*w);
            }
            let trials = Trials { high: B::PLAIN.high, first: -0.9, step: 0.05, more: 36, absolute: false };
            (search(&x, &w, &trials), Some(sum.to_array()))
        } else {
            (search(&x, &plain_weights(&x), &B::PLAIN), None)
        };
        let (scales, mins) = (found.scale.to_array(), found.min.to_array());
        for (h, values) in pair.as_chunks::<LEN>().0.iter().enumerate() {
            // Lanes `8 * h ..` are this super-block.
            let sub = |all: &[f32; 16]| *all[h * SUBS..].first_chunk::<SUBS>().expect("there are 16 lanes");
            let (scales, mins) = (sub(&scales), sub(&mins));
            let whole = match &sums {
                None => whole_scales(&scales, &mins),
                Some(sums) => weighted_scales::<B>(&scales, &mins, &sub(sums)),
            };
            let (Some((d_bytes, d)), Some((dmin_bytes, dmin))) =
                (stored_half(whole.d), stored_half(whole.dmin))
            else {
                return Err(rows.overflow(index + h * LEN));
            };
            out.extend(d_bytes);
            out.extend(dmin_bytes);
            out.extend(whole.packed);
            B::pack(&all_levels::<L>(values, d, dmin, &whole.packed, &found, h, B::PLAIN.high), out);
        }
    }
    Ok(())
}

/// A sub-block's root mean square plus the magnitude.
#[inline(always)]
fn plain_weights<L: Lanes>(x: &[L; SUB]) -> [L; SUB] {
    let mut sum = L::splat(0.0);
    for x in x {
        sum = sum.add(x.mul(*x));
    }
    let mean = sum.div(L::splat(SUB as f32)).sqrt();
    let mut w = [mean; SUB];
    for i in 0..SUB {
        w[i] = mean.add(x[i].abs());
    }
    w
}

/// Importance times the root of the magnitude's square plus twice the super-block's mean square.
#[inline(always)]
fn weights<L: Lanes>(rows: &Rows<'_>, index: usize, pair: &[f32], x: &[L; SUB]) -> [L; SUB] {
    let (mut importance, mut sigma2) = ([0.0; 2 * LEN], [0.0; 2 * SUBS]);
    for (h, values) in pair.as_chunks::<LEN>().0.iter().enumerate() {
        let sum = values.iter().fold(0.0, |sum: f32, x| sum + x * x);
        sigma2[h * SUBS..(h + 1) * SUBS].fill(2.0 * sum / LEN as f32);
        if let Some(w) = rows.importance_at(index + h * LEN, LEN) {
            importance[h * LEN..(h + 1) * LEN].copy_from_slice(w);
        }
    }
    let mut w: [L; SUB] = side_by_side(&importance);
    let sigma2 = L::load(&sigma2);
    for i in 0..SUB {
        w[i] = w[i].mul(sigma2.add(x[i].mul(x[i])).sqrt());
    }
    w
}

/// Scales and minima as a block stores them, the two halves not yet rounded.
struct Whole {
    d: f32,
    dmin: f32,
    packed: [u8; 12],
}

/// The largest one is mapped to 63.
#[inline(always)]
fn whole_scales(scales: &[f32; SUBS], mins: &[f32; SUBS]) -> Whole {
    let part = |all: &[f32; SUBS]| {
        let max = all.iter().fold(0.0, |m: f32, v| if *v > m { *v } else { m });
        let inverse = if max > 0.0 { SIX_BITS as f32 / max } else { 0.0 };
        (max / SIX_BITS as f32, all.map(|v| (nearest(inverse * v) as u8).min(SIX_BITS as u8)))
    };
    let ((d, scales), (dmin, mins)) = (part(scales), part(mins));
    Whole { d, dmin, packed: pack_scales(&scales, &mins) }
}

/// The least-squares fit, each sub-block weighing what its elements weigh together.
#[inline(always)]
fn weighted_scales<B: KBlock>(scales: &[f32; SUBS], mins: &[f32; SUBS], sums: &[f32; SUBS]) -> Whole {
    let part = |all: &[f32; SUBS]| {
        let mut found = [0; SUBS];
        let d = scale_search::search(all, sums, SIX_BITS, &mut found);
        if B::CUT_WEIGHTED {
            found = found.map(|l| l.min(SIX_BITS as u8));
        }
        (d, found)
    };
    let ((d, scales), (dmin, mins)) = (part(scales), part(mins));
    Whole { d, dmin, packed: pack_scales(&scales, &mins) }
}

/// The levels of super-block `h` for what a reader will see; where that is a scale of zero, those of the search.
#[inline(always)]
fn all_levels<L: Lanes>(
    values: &[f32; LEN],
    d: f32,
    dmin: f32,
    packed: &[u8; 12],
    found: &Affine<L>,
    h: usize,
    high: i32,
) -> [u8; LEN] {
    let mut out = [0; LEN];
    for (j, (x, out)) in values.chunks(SUB).zip(out.chunks_mut(SUB)).enumerate() {
        let (scale, min) = scale_and_min(j, packed);
        let (scale, min) = (d * scale, dmin * min);
        if scale != 0.0 {
            stored_levels::<L>(x, scale, min, high, out);
        } else {
            let lane = h * SUBS + j;
            levels::<L>(x, found.inverse.to_array()[lane], found.base.to_array()[lane], high, out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_read_back() {
        let scales: [u8; 8] = [0, 63, 1, 32, 17, 48, 62, 15];
        let mins: [u8; 8] = [63, 0, 33, 16, 47, 31, 5, 58];
        let packed = pack_scales(&scales, &mins);
        for j in 0..8 {
            assert_eq!(scale_and_min(j, &packed), (f32::from(scales[j]), f32::from(mins[j])), "{j}");
        }
    }
}
