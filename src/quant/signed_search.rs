//! The search for `x ~ scale * q` with signed `q`, for sixteen sub-blocks at once, each in its lane.
//!
//! The value of the largest magnitude is mapped to `-half`, which every code has, and to eighteen places around it;
//! the least-squares scale with the smallest weighted error is kept.

use super::lanes::{Lanes, WIDTH};

/// Below this a sub-block counts as all zeros.
pub(super) const NOTHING: f32 = 1e-15;

/// What was found, for each of sixteen sub-blocks.
pub(super) struct Signed<L> {
    /// Zero where all values are (nearly) zero.
    pub scale: L,
    /// `q = nearest(inverse * x)` within `-half..half`. Zero where the scale is zero for want of values.
    pub inverse: L,
    /// Lanes that hold any value.
    pub live: u32,
}

/// Searches for sub-blocks of `N` values `x` with weights `w`, both side by side; levels are `-half..half`.
#[inline(always)]
pub(super) fn search<L: Lanes, const N: usize>(x: &[L; N], w: &[L; N], half: i32) -> Signed<L> {
    let zero = L::splat(0.0);
    let (mut magnitude, mut largest) = (zero, zero);
    for x in x {
        let more = magnitude.lt(x.abs());
        magnitude = L::select(more, x.abs(), magnitude);
        largest = L::select(more, *x, largest);
    }
    let empty = magnitude.lt(L::splat(NOTHING));
    let live = !L::bits(empty) & 0xffff;
    if live == 0 {
        return Signed { scale: zero, inverse: zero, live };
    }

    let mut wx = [zero; N];
    for i in 0..N {
        wx[i] = w[i].mul(x[i]);
    }
    let mut inverse = L::splat(-half as f32).div(largest);
    let (sum_xl, sum_l2) = sums(x, w, &wx, inverse, half);
    let mut scale = L::select(sum_l2.ne(zero), sum_xl.div(sum_l2), zero);
    let mut best = scale.mul(sum_xl);
    for step in (-9..=9).filter(|s| *s != 0) {
        let tried = L::splat(-(half as f32 + 0.1 * step as f32)).div(largest);
        let (sum_xl, sum_l2) = sums(x, w, &wx, tried, half);
        let better = best.mul(sum_l2).lt(sum_xl.mul(sum_xl));
        let kept = L::both(zero.lt(sum_l2), better);
        scale = L::select(kept, sum_xl.div(sum_l2), scale);
        best = L::select(kept, scale.mul(sum_xl), best);
        inverse = L::select(kept, tried, inverse);
    }
    Signed { scale: L::select(empty, zero, scale), inverse: L::select(empty, zero, inverse), live }
}

/// The weighted sums of `x * q` and `q * q`.
#[inline(always)]
fn sums<L: Lanes, const N: usize>(x: &[L; N], w: &[L; N], wx: &[L; N], inverse: L, half: i32) -> (L, L) {
    let (mut sum_xl, mut sum_l2) = (L::splat(0.0), L::splat(0.0));
    for i in 0..N {
        let level = inverse.mul(x[i]).nearest_within(-half, half - 1);
        sum_xl = sum_xl.add(wx[i].mul(level));
        sum_l2 = sum_l2.add(w[i].mul(level).mul(level));
    }
    (sum_xl, sum_l2)
}

/// The codes (level plus `half`) of one sub-block in a row's order: `q = nearest(inverse * x)`.
#[inline(always)]
pub(super) fn codes<L: Lanes>(x: &[f32], inverse: f32, half: i32, out: &mut [u8]) {
    for (x, out) in x.as_chunks::<WIDTH>().0.iter().zip(out.as_chunks_mut::<WIDTH>().0) {
        let level = L::splat(inverse).mul(L::load(x)).nearest_within(-half, half - 1);
        *out = level.truncated().map(|q| (q + half) as u8);
    }
}

/// The codes of one sub-block for the scale that a reader will see: `q = nearest(x / scale)`.
#[inline(always)]
pub(super) fn stored_codes<L: Lanes>(x: &[f32], scale: f32, half: i32, out: &mut [u8]) {
    for (x, out) in x.as_chunks::<WIDTH>().0.iter().zip(out.as_chunks_mut::<WIDTH>().0) {
        let level = L::load(x).div(L::splat(scale)).nearest_within(-half, half - 1);
        *out = level.truncated().map(|q| (q + half) as u8);
    }
}
