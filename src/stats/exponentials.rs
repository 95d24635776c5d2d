//! Sums over a row of logits in f64: one order of operations, so the same bits on every instruction set.
//!
//! The loops are plain Rust that the compiler turns into vector code, once for each instruction set that is worth it.
//! Nothing in them is fused or reordered by it: IEEE arithmetic leaves no choice.

/// Runs a function compiled for the widest instruction set that the machine has.
macro_rules! widest {
    ($body:ident($($name:ident: $type:ty),*) -> $result:ty) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn on_avx2($($name: $type),*) -> $result {
                $body($($name),*)
            }
            #[target_feature(enable = "avx512f,avx512dq")]
            fn on_avx512($($name: $type),*) -> $result {
                $body($($name),*)
            }
            if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
                // SAFETY: the machine has what the function is compiled for.
                return unsafe { on_avx512($($name),*) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { on_avx2($($name),*) };
            }
        }
        $body($($name),*)
    }};
}
pub(super) use widest;

/// The largest value of a row, and whether one is NaN; negative infinity for an empty row. NaN is larger than nothing.
pub fn largest(row: &[f32]) -> (f32, bool) {
    widest!(largest_in(row: &[f32]) -> (f32, bool))
}

/// How many blocks of [`BLOCK`] values at the start of a row hold nothing that is `least` or more; a last, shorter one
/// counts as one.
pub fn blocks_below(row: &[f32], least: f32) -> usize {
    widest!(below_in(row: &[f32], least: f32) -> usize)
}

/// `exp(x - max)` of every `x`, and their sum. `max` is finite and no less than any `x`; below `exp(-708)` all is 0.
pub fn exponentials(row: &[f32], max: f32) -> (Vec<f64>, f64) {
    let mut weights = vec![0.0; row.len()];
    let sum = fill(row, max, &mut weights);
    (weights, sum)
}

fn fill(row: &[f32], max: f32, out: &mut [f64]) -> f64 {
    widest!(exponentials_in(row: &[f32], max: f32, out: &mut [f64]) -> f64)
}

/// The one of [`exponentials`] that is `x`'s.
pub fn exponential(x: f32, max: f32) -> f64 {
    exp(f64::from(x) - f64::from(max))
}

/// The values of a row that are `most` or less, in order; NaN is not.
pub fn at_most(row: &[f32], most: f32) -> Vec<f32> {
    let mut found = vec![0.0; row.len()];
    let n = pick(row, most, &mut found);
    found.truncate(n);
    found
}

fn pick(row: &[f32], most: f32, out: &mut [f32]) -> usize {
    widest!(pick_in(row: &[f32], most: f32, out: &mut [f32]) -> usize)
}

/// The sum of [`exponentials`] alone.
pub fn sum_of_exponentials(row: &[f32], max: f32) -> f64 {
    widest!(sum_in(row: &[f32], max: f32) -> f64)
}

/// The sum of the values.
pub fn sum(values: &[f64]) -> f64 {
    widest!(plain_sum_in(values: &[f64]) -> f64)
}

/// `sum(weight * (x - from))`; a weight of 0 adds nothing, whatever `x` is. The slices are of one length.
pub fn weighted_excess(weights: &[f64], row: &[f32], from: f64) -> f64 {
    widest!(excess_in(weights: &[f64], row: &[f32], from: f64) -> f64)
}

/// `sum(weight * (a - b))`; a weight of 0 adds nothing, whatever the difference is. The slices are of one length.
pub fn weighted_difference(weights: &[f64], a: &[f32], b: &[f32]) -> f64 {
    widest!(difference_in(weights: &[f64], a: &[f32], b: &[f32]) -> f64)
}

/// So many values are looked at together.
pub const BLOCK: usize = 64;

/// Partial sums: element `i` belongs to sum `i % LANES`, and the sums are added in order of their number.
const LANES: usize = 16;

#[inline(always)]
fn largest_in(row: &[f32]) -> (f32, bool) {
    let (blocks, rest) = row.as_chunks::<LANES>();
    let (mut best, mut nan) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    for block in blocks {
        for i in 0..LANES {
            best[i] = if block[i] > best[i] { block[i] } else { best[i] };
            nan[i] |= block[i].is_nan();
        }
    }
    let all = best.iter().chain(rest);
    let max = all.fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
    (max, nan.contains(&true) || rest.iter().any(|x| x.is_nan()))
}

#[inline(always)]
fn below_in(row: &[f32], least: f32) -> usize {
    let holds_none = |block: &&[f32]| !block.iter().fold(false, |any, x| any | (*x >= least));
    row.chunks(BLOCK).take_while(holds_none).count()
}

#[inline(always)]
fn pick_in(row: &[f32], most: f32, out: &mut [f32]) -> usize {
    let mut n = 0;
    for x in row {
        // Written whether it is taken or not: a branch would be foreseen wrongly too often. `n` counts values seen
        // before this one, so it is below the length.
        out[n] = *x;
        n += usize::from(*x <= most);
    }
    n
}

#[inline(always)]
fn plain_sum_in(values: &[f64]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for i in 0..LANES {
            sums[i] += block[i];
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += value;
    }
    sums.iter().sum()
}

#[inline(always)]
fn exponentials_in(row: &[f32], max: f32, out: &mut [f64]) -> f64 {
    let max = f64::from(max);
    for (x, weight) in row.iter().zip(out.iter_mut()) {
        *weight = exp(f64::from(*x) - max);
    }
    plain_sum_in(out)
}

#[inline(always)]
fn sum_in(row: &[f32], max: f32) -> f64 {
    let max = f64::from(max);
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for i in 0..LANES {
            sums[i] += exp(f64::from(block[i]) - max);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += exp(f64::from(*x) - max);
    }
    sums.iter().sum()
}

#[inline(always)]
fn excess_in(weights: &[f64], row: &[f32], from: f64) -> f64 {
    let term = |w: f64, x: f32| {
        let product = w * (f64::from(x) - from);
        if w == 0.0 { 0.0 } else { product }
    };
    let ((w, w_rest), (x, x_rest)) = (weights.as_chunks::<LANES>(), row.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (w, x) in w.iter().zip(x) {
        for i in 0..LANES {
            sums[i] += term(w[i], x[i]);
        }
    }
    for ((sum, w), x) in sums.iter_mut().zip(w_rest).zip(x_rest) {
        *sum += term(*w, *x);
    }
    sums.iter().sum()
}

#[inline(always)]
fn difference_in(weights: &[f64], a: &[f32], b: &[f32]) -> f64 {
    let term = |w: f64, a: f32, b: f32| {
        let product = w * (f64::from(a) - f64::from(b));
        if w == 0.0 { 0.0 } else { product }
    };
    let ((w, w_rest), (a, a_rest), (b, b_rest)) =
        (weights.as_chunks::<LANES>(), a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for ((w, a), b) in w.iter().zip(a).zip(b) {
        for i in 0..LANES {
            sums[i] += term(w[i], a[i], b[i]);
        }
    }
    for (i, sum) in sums.iter_mut().enumerate().take(w_rest.len()) {
        *sum += term(w_rest[i], a_rest[i], b_rest[i]);
    }
    sums.iter().sum()
}

/// `exp(x)` for `x <= 0`, within two units in the last place: `x = n ln 2 + r`, a Taylor polynomial of `r`, and `n` in
/// the exponent. Below -708, where numbers lose digits, 0.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Adding it leaves the nearest integer in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // The high part has so few bits that its product with `n` is exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const TAYLOR: [f64; 14] = [
        1.0,
        1.0,
        1.0 / 2.0,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5_040.0,
        1.0 / 40_320.0,
        1.0 / 362_880.0,
        1.0 / 3_628_800.0,
        1.0 / 39_916_800.0,
        1.0 / 479_001_600.0,
        1.0 / 6_227_020_800.0,
    ];
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut y = TAYLOR[13];
    for k in (0..13).rev() {
        y = y * r + TAYLOR[k];
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { y * power }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix;

    fn row(n: usize) -> Vec<f32> {
        let mut random = SplitMix(n as u64 + 1);
        (0..n).map(|_| 40.0 * random.unit() as f32 - 35.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 131, 4096] {
            let (a, b) = (row(n), row(n + 7)[7..].to_vec());
            let (max, nan) = largest(&a);
            assert_eq!((max, nan), largest_in(&a));
            let max = if n == 0 { 0.0 } else { max };
            let (weights, sum) = exponentials(&a, max);
            let mut plain = vec![0.0; n];
            let plain_sum = exponentials_in(&a, max, &mut plain);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&weights), bits(&plain));
            let sums = [sum, plain_sum, sum_of_exponentials(&a, max), sum_in(&a, max)];
            assert!(sums.iter().all(|s| s.to_bits() == sum.to_bits()), "{n}: {sums:?}");
            assert!(sum.to_bits() == super::sum(&weights).to_bits());
            let excesses = [weighted_excess(&weights, &a, 0.5), excess_in(&weights, &a, 0.5)];
            assert_eq!(excesses[0].to_bits(), excesses[1].to_bits());
            for least in [-30.0, -1.0, 4.0, 9.0] {
                assert_eq!(blocks_below(&a, least), below_in(&a, least));
            }
            for (x, weight) in a.iter().zip(&weights) {
                assert_eq!(exponential(*x, max).to_bits(), weight.to_bits());
            }
            let some: Vec<f32> = a.iter().copied().filter(|x| *x <= -9.0).collect();
            assert_eq!(at_most(&a, -9.0), some);
            let differences = [weighted_difference(&weights, &a, &b), difference_in(&weights, &a, &b)];
            assert_eq!(differences[0].to_bits(), differences[1].to_bits());
        }
    }

    #[test]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        let mut random = SplitMix(3);
        let mut points = vec![0.0, -0.0, -1e-300, -0.346_573_59, -0.346_573_6, -708.0, -1.0];
        points.extend((0..20_000).map(|_| -708.0 * random.unit()));
        points.extend((0..20_000).map(|_| -2.0 * random.unit()));
        for x in points {
            let (found, expected) = (exp(x), x.exp());
            assert!((found - expected).abs() <= 4.5e-16 * expected, "exp({x}) = {found}, not {expected}");
        }
        assert_eq!((exp(-709.0), exp(f64::NEG_INFINITY), exp(0.0)), (0.0, 0.0, 1.0));
    }

    #[test]
    fn nan_is_told_and_is_not_the_largest() {
        for at in [0, 15, 16, 20] {
            let mut values = row(21);
            let expected = values.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, x)| *x);
            let expected = expected.fold(f32::NEG_INFINITY, f32::max);
            values[at] = f32::NAN;
            assert_eq!(largest(&values), (expected, true));
        }
        assert_eq!(largest(&[]), (f32::NEG_INFINITY, false));
        assert_eq!(weighted_excess(&[0.0, 2.0], &[f32::NEG_INFINITY, 2.0], 0.5), 3.0);
        assert_eq!(weighted_difference(&[0.0, 1.0], &[f32::NEG_INFINITY, 2.0], &[f32::INFINITY, 1.0]), 1.0);
    }
}
