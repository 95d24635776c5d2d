//! The search for `x ~ scale * q + min` with unsigned `q`, for sixteen sub-blocks at once, each in its lane.
//!
//! A fixed list of inverse scales is tried in order; each gives levels, those give the least-squares scale and
//! minimum, and what has the smaller weighted error than all before it is kept. The minimum of the kept one is
//! the base of the next trials, so trials cannot be reordered: that is why lanes are sub-blocks.

use super::lanes::Lanes;

/// Which inverse scales are tried, and how an error is measured.
pub(super) struct Trials {
    /// The largest level: levels are `0..=high`.
    pub high: i32,
    /// The first trial maps the range of values to `high + first` levels.
    pub first: f32,
    /// By how much each following one has more.
    pub step: f32,
    /// Trials after the first.
    pub more: usize,
    /// Whether an error counts by its magnitude instead of its square.
    pub absolute: bool,
}

/// What was found, for each of sixteen sub-blocks.
pub(super) struct Affine<L> {
    pub scale: L,
    /// The minimum, negated: never negative in well-behaved rows.
    pub min: L,
    /// `q = nearest(inverse * (x - base))` within `0..=high`. Zero where all values are equal.
    pub inverse: L,
    pub base: L,
}

/// Searches for sub-blocks of `N` values `x` with weights `w`, both side by side.
#[inline(always)]
pub(super) fn search<L: Lanes, const N: usize>(x: &[L; N], w: &[L; N], trials: &Trials) -> Affine<L> {
    let (zero, one) = (L::splat(0.0), L::splat(1.0));
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = sum_w.mul(x[0]);
    for i in 1..N {
        min = x[i].min(min);
        max = x[i].max(max);
        sum_w = sum_w.add(w[i]);
        sum_x = sum_x.add(w[i].mul(x[i]));
    }
    min = zero.min(min);
    let uneven = min.lt(max);
    let mut found = Affine { scale: zero, min: min.neg(), inverse: zero, base: min };
    if L::bits(uneven) == 0 {
        return found;
    }

    // Lanes whose values are all equal compute nonsense from here on; no trial of theirs is ever kept.
    let mut inverse = L::splat(trials.high as f32).div(max.sub(min));
    let mut base = min;
    let mut scale = one.div(inverse);
    let mut levels = [zero; N];
    for i in 0..N {
        levels[i] = inverse.mul(x[i].sub(min)).nearest_within(0, trials.high);
    }
    let mut least = error(x, w, &levels, scale, min, trials.absolute);

    for trial in 0..=trials.more {
        let range = trials.first + trials.step * trial as f32 + trials.high as f32;
        let tried = L::splat(range).div(max.sub(min));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..N {
            let level = tried.mul(x[i].sub(min)).nearest_within(0, trials.high);
            levels[i] = level;
            let weighted = w[i].mul(level);
            sum_l = sum_l.add(weighted);
            sum_l2 = sum_l2.add(weighted.mul(level));
            sum_xl = sum_xl.add(weighted.mul(x[i]));
        }
        let determinant = sum_w.mul(sum_l2).sub(sum_l.mul(sum_l));
        let new_scale = sum_w.mul(sum_xl).sub(sum_x.mul(sum_l)).div(determinant);
        let new_min = sum_l2.mul(sum_x).sub(sum_l.mul(sum_xl)).div(determinant);
        // A minimum above zero is none: zero it is, and the scale alone is fitted.
        let above = zero.lt(new_min);
        let new_scale = L::select(above, sum_xl.div(sum_l2), new_scale);
        let new_min = L::select(above, zero, new_min);
        let new_error = error(x, w, &levels, new_scale, new_min, trials.absolute);

        let kept = L::both(L::both(uneven, zero.lt(determinant)), new_error.lt(least));
        least = L::select(kept, new_error, least);
        inverse = L::select(kept, tried, inverse);
        base = L::select(kept, min, base);
        scale = L::select(kept, new_scale, scale);
        min = L::select(kept, new_min, min);
    }
    found.scale = L::select(uneven, scale, found.scale);
    found.inverse = L::select(uneven, inverse, found.inverse);
    found.base = base;
    found.min = min.neg();
    found
}

/// The weighted error of each sub-block.
#[inline(always)]
fn error<L: Lanes, const N: usize>(
    x: &[L; N],
    w: &[L; N],
    levels: &[L; N],
    scale: L,
    min: L,
    absolute: bool,
) -> L {
    let mut sum = L::splat(0.0);
    for i in 0..N {
        let off = scale.mul(levels[i]).add(min).sub(x[i]);
        let off = if absolute { off.abs() } else { off.mul(off) };
        sum = sum.add(w[i].mul(off));
    }
    sum
}

/// The levels of one sub-block in a row's order: `q = nearest(inverse * (x - base))` within `0..=high`.
#[inline(always)]
pub(super) fn levels<L: Lanes>(x: &[f32], inverse: f32, base: f32, high: i32, out: &mut [u8]) {
    for (x, out) in x.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0) {
        let level = L::splat(inverse).mul(L::load(x).sub(L::splat(base))).nearest_within(0, high);
        *out = level.truncated().map(|q| q as u8);
    }
}

/// The levels of one sub-block for the scale and minimum that a reader will see: `q = nearest((x + min) / scale)`.
#[inline(always)]
pub(super) fn stored_levels<L: Lanes>(x: &[f32], scale: f32, min: f32, high: i32, out: &mut [u8]) {
    for (x, out) in x.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<16>().0) {
        let level = L::load(x).add(L::splat(min)).div(L::splat(scale)).nearest_within(0, high);
        *out = level.truncated().map(|q| q as u8);
    }
}
