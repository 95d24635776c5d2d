//! Sums over the values of tensors in f64: one order of operations, so the same bits on every instruction set.
//!
//! Plain Rust that the compiler turns into vector code, as in [`super::exponentials`].

use super::exponentials::widest;

/// What one pass over values gives; those that are not finite are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// How many are finite.
    pub finite: u32,
    /// How many are 0.
    pub zeros: u32,
    /// Of the finite ones.
    pub sum: f64,
    /// Smallest; infinite for none.
    pub min: f32,
    /// Largest; -infinite for none.
    pub max: f32,
}

/// What one pass over pairs gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Differences {
    /// Pairs that are not the same number.
    pub different: u32,
    /// Sum of `a²`.
    pub a_squares: f64,
    /// Sum of `b²`.
    pub b_squares: f64,
    /// Sum of `a b`.
    pub products: f64,
    /// Sum of `(a - b)²`.
    pub off_squares: f64,
    /// The largest `|a - b|` that is a number.
    pub largest: f64,
}

/// What stands in [`Sums`], of fewer than 2^32 values.
pub fn sums(values: &[f32]) -> Sums {
    widest!(sums_in(values: &[f32]) -> Sums)
}

/// `sum((x - mean)²)` over the finite values.
pub fn squares_around(values: &[f32], mean: f64) -> f64 {
    widest!(squares_in(values: &[f32], mean: f64) -> f64)
}

/// What stands in [`Differences`], of fewer than 2^32 pairs; a longer slice is read as far as the other reaches.
pub fn differences(a: &[f32], b: &[f32]) -> Differences {
    widest!(differences_in(a: &[f32], b: &[f32]) -> Differences)
}

/// The largest magnitude, and the largest `|a - b|` in f64, NaN where one is.
pub fn largest_move(a: &[f32], b: &[f32]) -> (f32, f64) {
    widest!(move_in(a: &[f32], b: &[f32]) -> (f32, f64))
}

/// Partial sums: element `i` belongs to sum `i % LANES`, and the sums are added in order of their number.
const LANES: usize = 16;

#[inline(always)]
fn sums_in(values: &[f32]) -> Sums {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let (mut finite, mut zeros, mut sum) = ([0u32; LANES], [0u32; LANES], [0.0f64; LANES]);
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for block in blocks {
        for i in 0..LANES {
            let (x, is_finite) = (block[i], block[i].is_finite());
            finite[i] += u32::from(is_finite);
            zeros[i] += u32::from(x == 0.0);
            sum[i] += f64::from(if is_finite { x } else { 0.0 });
            min[i] = if is_finite && x < min[i] { x } else { min[i] };
            max[i] = if is_finite && x > max[i] { x } else { max[i] };
        }
    }
    for (i, x) in rest.iter().enumerate().filter(|(_, x)| x.is_finite()) {
        finite[i] += 1;
        zeros[i] += u32::from(*x == 0.0);
        sum[i] += f64::from(*x);
        (min[i], max[i]) = (min[i].min(*x), max[i].max(*x));
    }
    Sums {
        finite: finite.iter().sum(),
        zeros: zeros.iter().sum(),
        sum: sum.iter().sum(),
        min: min.into_iter().fold(f32::INFINITY, f32::min),
        max: max.into_iter().fold(f32::NEG_INFINITY, f32::max),
    }
}

#[inline(always)]
fn squares_in(values: &[f32], mean: f64) -> f64 {
    let square = |x: f32| {
        let off = f64::from(x) - mean;
        if x.is_finite() { off * off } else { 0.0 }
    };
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut all = [0.0; LANES];
    for block in blocks {
        for i in 0..LANES {
            all[i] += square(block[i]);
        }
    }
    all.iter_mut().zip(rest).for_each(|(sum, x)| *sum += square(*x));
    all.iter().sum()
}

#[inline(always)]
fn differences_in(a: &[f32], b: &[f32]) -> Differences {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut different = [0u32; LANES];
    let [mut aa, mut bb, mut ab, mut off, mut largest] = [[0.0f64; LANES]; 5];
    let mut take = |i: usize, a: f32, b: f32| {
        let (x, y) = (f64::from(a), f64::from(b));
        let d = (x - y).abs();
        different[i] += u32::from(a != b);
        aa[i] += x * x;
        bb[i] += y * y;
        ab[i] += x * y;
        off[i] += d * d;
        largest[i] = if d > largest[i] { d } else { largest[i] };
    };
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            take(i, a[i], b[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        take(i, *a, *b);
    }
    Differences {
        different: different.iter().sum(),
        a_squares: aa.iter().sum(),
        b_squares: bb.iter().sum(),
        products: ab.iter().sum(),
        off_squares: off.iter().sum(),
        largest: largest.into_iter().fold(0.0, f64::max),
    }
}

#[inline(always)]
fn move_in(a: &[f32], b: &[f32]) -> (f32, f64) {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let (mut size, mut moved, mut check) = ([0.0f32; LANES], [0.0f64; LANES], [0.0f64; LANES]);
    let mut take = |i: usize, a: f32, b: f32| {
        let d = (f64::from(a) - f64::from(b)).abs();
        size[i] = if a.abs() > size[i] { a.abs() } else { size[i] };
        moved[i] = if d > moved[i] { d } else { moved[i] };
        // 0 for what is finite, NaN for everything else.
        check[i] += d * 0.0;
    };
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            take(i, a[i], b[i]);
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        take(i, *a, *b);
    }
    let check: f64 = check.iter().sum();
    (size.into_iter().fold(0.0, f32::max), moved.into_iter().fold(0.0, f64::max) + check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix;

    fn values(seed: u64, n: usize) -> Vec<f32> {
        let mut random = SplitMix(seed);
        let special = [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
        (0..n).map(|i| if i % 23 == 5 { special[i % 5] } else { 6.0 * random.unit() as f32 - 3.0 }).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 131, 4096] {
            let (a, b) = (values(1, n), values(2, n));
            let finite =
                |values: &[f32]| values.iter().copied().filter(|x| x.is_finite()).collect::<Vec<_>>();
            assert_eq!(sums(&a), sums_in(&a));
            assert_eq!(squares_around(&a, 0.25).to_bits(), squares_in(&a, 0.25).to_bits());
            let (a, b) = (finite(&a), finite(&b));
            assert_eq!(differences(&a, &b), differences_in(&a, &b));
            assert_eq!(largest_move(&a, &b), move_in(&a, &b));
        }
    }

    #[test]
    fn sums_are_those_of_a_plain_loop() {
        let all = values(3, 1000);
        let finite: Vec<f64> = all.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
        let found = sums(&all);
        assert_eq!(found.finite as usize, finite.len());
        assert_eq!(found.zeros as usize, finite.iter().filter(|x| **x == 0.0).count());
        assert!(found.zeros > 0 && finite.len() < 1000);
        assert!((found.sum - finite.iter().sum::<f64>()).abs() < 1e-10);
        assert_eq!(f64::from(found.min), finite.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(f64::from(found.max), finite.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let squares: f64 = finite.iter().map(|x| (x - 0.5) * (x - 0.5)).sum();
        assert!((squares_around(&all, 0.5) - squares).abs() < 1e-9);
    }

    #[test]
    fn differences_are_those_of_a_plain_loop_and_nan_is_not_hidden() {
        let mut random = SplitMix(4);
        let a: Vec<f32> = (0..333).map(|_| random.unit() as f32).collect();
        let mut b: Vec<f32> = a.iter().map(|x| x + random.below(3) as f32 / 8.0).collect();
        let found = differences(&a, &b);
        let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        assert_eq!(found.different as usize, pairs().filter(|(a, b)| a != b).count());
        for (sum, of) in [
            (found.a_squares, pairs().map(|(a, _)| a * a).sum::<f64>()),
            (found.b_squares, pairs().map(|(_, b)| b * b).sum()),
            (found.products, pairs().map(|(a, b)| a * b).sum()),
            (found.off_squares, pairs().map(|(a, b)| (a - b) * (a - b)).sum()),
        ] {
            assert!((sum - of).abs() < 1e-10, "{sum} {of}");
        }
        let largest = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let size = a.iter().copied().fold(0.0, f32::max);
        assert_eq!((found.largest, largest_move(&a, &b)), (largest, (size, largest)));
        for (at, bad) in [(3, f32::NAN), (332, f32::INFINITY)] {
            b[at] = bad;
            assert!(largest_move(&a, &b).1.is_nan());
        }
        assert!(differences(&a, &b).off_squares.is_nan());
    }
}
