//! The extreme elements of a block of 32, of equal ones the first, as scanning in order finds them.
//!
//! Which of two equal ones matters: a largest magnitude has a sign, and so has a minimum of zero.

use super::lanes::{Lanes, WIDTH};

const LEN: usize = 2 * WIDTH;

/// The first element of the largest magnitude.
#[inline(always)]
pub(super) fn largest_magnitude<L: Lanes>(x: &[f32; LEN]) -> f32 {
    // The bits of magnitudes are ordered as the magnitudes are.
    let magnitude = x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
    let magnitude = L::splat(f32::from_bits(magnitude));
    let (low, high) = halves::<L>(x);
    first(x, L::bits(low.abs().ne(magnitude)), L::bits(high.abs().ne(magnitude)))
}

/// The first smallest and the first largest element.
#[inline(always)]
pub(super) fn range<L: Lanes>(x: &[f32; LEN]) -> (f32, f32) {
    let (low, high) = halves::<L>(x);
    let min = L::splat(tree(low.min(high).to_array(), |a, b| if a < b { a } else { b }));
    let max = L::splat(tree(low.max(high).to_array(), |a, b| if a > b { a } else { b }));
    let min = first(x, L::bits(low.ne(min)), L::bits(high.ne(min)));
    let max = first(x, L::bits(low.ne(max)), L::bits(high.ne(max)));
    (min, max)
}

/// The lower and the upper sixteen elements.
#[inline(always)]
pub(super) fn halves<L: Lanes>(x: &[f32; LEN]) -> (L, L) {
    let (low, high) = x.split_at(WIDTH);
    let half = |x: &[f32]| *x.first_chunk::<WIDTH>().expect("each half has sixteen elements");
    (L::load(&half(low)), L::load(&half(high)))
}

/// The first element whose bit is clear.
#[inline(always)]
fn first(x: &[f32; LEN], low: u32, high: u32) -> f32 {
    let same = !(low | high << WIDTH);
    x[same.trailing_zeros() as usize % LEN]
}

#[inline(always)]
fn tree(mut x: [f32; WIDTH], f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            x[l] = f(x[l], x[l + half]);
        }
    }
    x[0]
}
