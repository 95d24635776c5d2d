//! The search for `x ~ scale * q` with unsigned `q`, for the scales or minima of one super-block.
//!
//! Nine inverse scales are tried; from the levels of the best one, single levels are moved as long as that raises
//! the weighted fit, at most five rounds.

use super::rounding::nearest;
use super::signed_search::NOTHING;

/// Writes the level of each of `x` to `levels` and returns the scale. Levels are at most `high`; a negative `x`,
/// which well-behaved rows do not have, wraps as an unsigned byte does.
#[inline(always)]
pub(super) fn search<const N: usize>(x: &[f32; N], w: &[f32; N], high: i32, levels: &mut [u8; N]) -> f32 {
    *levels = [0; N];
    let max = x.iter().fold(0.0, |m: f32, v| if m > *v { m } else { *v });
    if max < NOTHING {
        return 0.0;
    }
    let mut inverse = high as f32 / max;
    let mut least = error(x, w, inverse, |l| f32::from(l as u8));
    for step in (-4..=4).filter(|s| *s != 0) {
        let tried = (0.1 * step as f32 + high as f32) / max;
        let new = error(x, w, tried, |l| l.min(high) as f32);
        if new < least {
            (least, inverse) = (new, tried);
        }
    }

    let (mut sum_xl, mut sum_l2) = (0.0, 0.0);
    for i in 0..N {
        let l = nearest(inverse * x[i]).min(high);
        levels[i] = l as u8;
        sum_xl += w[i] * x[i] * l as f32;
        sum_l2 += w[i] * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let old = f32::from(levels[i]);
            let mut xl = sum_xl - w[i] * x[i] * old;
            let mut l2 = sum_l2 - w[i] * old * old;
            if !(xl > 0.0 && l2 > 0.0) {
                continue;
            }
            let l = nearest(x[i] * l2 / xl).min(high);
            if l == i32::from(levels[i]) {
                continue;
            }
            xl += w[i] * x[i] * l as f32;
            l2 += w[i] * l as f32 * l as f32;
            if xl * xl * sum_l2 > sum_xl * sum_xl * l2 {
                levels[i] = l as u8;
                (sum_xl, sum_l2) = (xl, l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_xl / sum_l2 } else { 0.0 }
}

/// The weighted squared error with scale `1 / inverse` and the levels that `bound` makes of the nearest integers.
#[inline(always)]
fn error<const N: usize>(x: &[f32; N], w: &[f32; N], inverse: f32, bound: impl Fn(i32) -> f32) -> f32 {
    let scale = 1.0 / inverse;
    let mut sum = 0.0;
    for i in 0..N {
        let off = x[i] - scale * bound(nearest(inverse * x[i]));
        sum += w[i] * off * off;
    }
    sum
}
