//! The extreme elements of a block of 32, of equal ones the first, as scanning in order finds them.
//!
//! Which of two equal ones matters: a largest magnitude has a sign, and so has a minimum of zero.

use super::lanes::{Lanes, WIDTH};

const LEN: usize = 2 * WIDTH;

/// The first element of the largest magnitude; of zeros alone, the positive zero.
#[inline(always)]
pub(super) fn largest_magnitude<L: Lanes>(x: &[f32; LEN]) -> f32 {
    // The bits of magnitudes are ordered as the magnitudes are.
    let magnitude = x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff));
    if magnitude == 0 {
        return 0.0;
    }
    let magnitude = L::splat(f32::from_bits(magnitude));
    let (low, high) = halves::<L>(x);
    first(x, L::bits(low.abs().ne(magnitude)), L::bits(high.abs().ne(magnitude)))
}

/// The first smallest and the first largest element.
#[inline(always)]
pub(super) fn range<L: Lanes>(x: &[f32; LEN]) -> (f32, f32) {
    let min = from_ordered(x.iter().fold(i32::MAX, |m, v| m.min(ordered(*v))));
    let max = from_ordered(x.iter().fold(i32::MIN, |m, v| m.max(ordered(*v))));
    (first_of::<L>(x, min), first_of::<L>(x, max))
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

/// `value` with the sign of the first of its kind: only zeros of both signs are equal and different.
#[inline(always)]
fn first_of<L: Lanes>(x: &[f32; LEN], value: f32) -> f32 {
    if value != 0.0 {
        return value;
    }
    let (low, high) = halves::<L>(x);
    first(x, L::bits(low.ne(L::splat(0.0))), L::bits(high.ne(L::splat(0.0))))
}

/// An integer that is ordered as the float is.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ (bits >> 31) & i32::MAX
}

/// The inverse of [`ordered`].
#[inline(always)]
fn from_ordered(key: i32) -> f32 {
    f32::from_bits((key ^ (key >> 31) & i32::MAX) as u32)
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    #[test]
    fn of_equal_elements_the_first_is_found() {
        let mut x = [0.25; LEN];
        (x[3], x[20]) = (-2.0, 2.0);
        assert_eq!(largest_magnitude::<Portable>(&x), -2.0);
        x[3] = 1.0;
        assert_eq!(largest_magnitude::<Portable>(&x), 2.0);
        assert_eq!(range::<Portable>(&x), (0.25, 2.0));
    }

    #[test]
    fn zeros_keep_the_sign_of_the_first() {
        let mut x = [1.0; LEN];
        (x[7], x[9]) = (0.0, -0.0);
        assert_eq!(range::<Portable>(&x).0.to_bits(), 0.0f32.to_bits());
        (x[7], x[9]) = (-0.0, 0.0);
        assert_eq!(range::<Portable>(&x).0.to_bits(), (-0.0f32).to_bits());
        assert_eq!(largest_magnitude::<Portable>(&[-0.0; LEN]).to_bits(), 0);
    }

    #[test]
    fn floats_and_their_keys_are_ordered_alike() {
        let all = [f32::MIN, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, f32::MAX];
        assert!(all.is_sorted_by_key(|x| ordered(*x)));
        assert!(all.iter().all(|x| from_ordered(ordered(*x)).to_bits() == x.to_bits()));
    }
}
