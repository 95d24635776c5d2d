//! Statistics of one tensor, and of the difference between two, in one order of operations on every instruction set.

use super::sums::{differences, squares_around, sums};

/// What I-4 preserves of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Elements seen.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population standard deviation: divided by n, not n - 1.
    pub std: f64,
    /// Smallest value; infinite for none.
    pub min: f64,
    /// Largest value; -infinite for none.
    pub max: f64,
    /// Elements equal to 0.
    pub zeros: u64,
    /// Elements that are no number or infinite; the other fields leave them out.
    pub non_finite: u64,
}

impl Statistics {
    /// The statistics of `values`: of every [`CHUNK`] of them in two passes, drawn together in order.
    pub fn of(values: &[f32]) -> Statistics {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut all = Statistics { n: 0, mean: 0.0, std: 0.0, min, max, zeros: 0, non_finite: 0 };
        let (mut seen, mut squares) = (0.0, 0.0);
        for chunk in values.chunks(CHUNK) {
            let sums = sums(chunk);
            all.n += chunk.len() as u64;
            all.zeros += u64::from(sums.zeros);
            all.non_finite += chunk.len() as u64 - u64::from(sums.finite);
            if sums.finite == 0 {
                continue;
            }
            (all.min, all.max) = (all.min.min(f64::from(sums.min)), all.max.max(f64::from(sums.max)));
            // Two samples drawn together: Chan, Golub and LeVeque.
            let n = f64::from(sums.finite);
            let mean = sums.sum / n;
            let off = mean - all.mean;
            squares += squares_around(chunk, mean) + off * off * seen * n / (seen + n);
            seen += n;
            all.mean += off * n / seen;
        }
        Statistics { std: if seen > 0.0 { (squares / seen).sqrt() } else { 0.0 }, ..all }
    }
}

/// Values that are in the first-level cache when they are looked at for the second time.
const CHUNK: usize = 4096;

/// How one tensor differs from its original.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Elements compared.
    pub n: u64,
    /// Elements that are not the same number.
    pub different: u64,
    /// Sum of the squares of the original.
    pub signal: f64,
    /// Sum of the squares of the difference.
    pub noise: f64,
    /// The largest difference.
    pub max_abs: f64,
    /// Where the largest difference stands.
    pub worst: usize,
    /// Inner product of the two over the product of their lengths; 1 where both are zero.
    pub cosine: f64,
}

impl Noise {
    /// The noise of `converted` against `original`; `None` where the lengths differ.
    pub fn between(original: &[f32], converted: &[f32]) -> Option<Noise> {
        if original.len() != converted.len() {
            return None;
        }
        let mut noise = Noise {
            n: original.len() as u64,
            different: 0,
            signal: 0.0,
            noise: 0.0,
            max_abs: 0.0,
            worst: 0,
            cosine: 1.0,
        };
        let (mut inner, mut other) = (0.0f64, 0.0f64);
        for (chunk, (a, b)) in original.chunks(CHUNK).zip(converted.chunks(CHUNK)).enumerate() {
            let sums = differences(a, b);
            noise.different += u64::from(sums.different);
            noise.signal += sums.a_squares;
            noise.noise += sums.off_squares;
            inner += sums.products;
            other += sums.b_squares;
            // A NaN compares with nothing, so it is asked for by name; the sum of squares has one where a difference is.
            if sums.largest > noise.max_abs || sums.off_squares.is_nan() && !noise.max_abs.is_nan() {
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    let off = (f64::from(*a) - f64::from(*b)).abs();
                    if off > noise.max_abs || (off.is_nan() && !noise.max_abs.is_nan()) {
                        (noise.max_abs, noise.worst) = (off, chunk * CHUNK + i);
                    }
                }
            }
        }
        if noise.signal > 0.0 || other > 0.0 {
            let lengths = (noise.signal * other).sqrt();
            noise.cosine = if lengths > 0.0 { inner / lengths } else { 0.0 };
        }
        Some(noise)
    }

    /// Signal to quantisation noise in dB, higher is better: infinite for equal tensors, 0 for all zeros in place of
    /// something, -infinite for something in place of all zeros.
    pub fn sqnr_db(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }

    /// Mean square error over mean square signal: `10^(-dB / 10)`.
    pub fn nmse(&self) -> f64 {
        if self.noise == 0.0 { 0.0 } else { self.noise / self.signal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statistics_of_known_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 0.0, f32::NAN];
        let s = Statistics::of(&values);
        let many: Vec<f32> = (0..2 * CHUNK + 7).flat_map(|_| values).collect();
        let m = Statistics::of(&many);
        assert_eq!((m.n, m.zeros, m.min, m.max), (6 * many.len() as u64 / 6, m.non_finite, s.min, s.max));
        assert!((m.mean - s.mean).abs() < 1e-12 && (m.std - s.std).abs() < 1e-12, "{m:?}");
        let none = Statistics::of(&[f32::NAN, f32::INFINITY]);
        assert_eq!((none.n, none.non_finite, none.mean, none.std), (2, 2, 0.0, 0.0));
        assert_eq!((none.min, none.max), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!((s.n, s.zeros, s.non_finite), (6, 1, 1));
        assert_eq!((s.mean, s.min, s.max), (2.0, 0.0, 4.0));
        assert!((s.std - 2.0f64.sqrt()).abs() < 1e-15, "{}", s.std);
    }

    #[test]
    fn a_zeroed_tensor_has_no_decibels_however_small_it_was() {
        let small = vec![1e-6f32; 64];
        let zeroed = Noise::between(&small, &vec![0.0; 64]).unwrap();
        assert_eq!((zeroed.sqnr_db(), zeroed.nmse(), zeroed.cosine), (0.0, 1.0, 0.0));
        let same = Noise::between(&small, &small).unwrap();
        assert_eq!((same.sqnr_db(), same.different), (f64::INFINITY, 0));
        assert!((same.cosine - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_nan_is_the_worst_difference() {
        let noise = Noise::between(&[1.0, 2.0, 3.0], &[9.0, f32::NAN, 3.0]).unwrap();
        assert!(noise.max_abs.is_nan() && noise.worst == 1 && noise.different == 2, "{noise:?}");
        assert!(noise.sqnr_db().is_nan());
        assert_eq!(Noise::between(&[1.0], &[]), None);
    }

    #[test]
    fn the_first_of_the_largest_differences_is_named_whatever_chunk_it_is_in() {
        let original: Vec<f32> = (0..3 * CHUNK).map(|i| (i % 100) as f32).collect();
        let mut converted = original.clone();
        for at in [CHUNK + 9, CHUNK + 10, 2 * CHUNK] {
            converted[at] += 2.0;
        }
        converted[3] += 1.0;
        let noise = Noise::between(&original, &converted).unwrap();
        assert_eq!((noise.max_abs, noise.worst, noise.different, noise.noise), (2.0, CHUNK + 9, 4, 13.0));
        assert_eq!(noise.signal, original.iter().map(|x| f64::from(x * x)).sum::<f64>());
        converted[2 * CHUNK + 1] = f32::NAN;
        assert_eq!(Noise::between(&original, &converted).unwrap().worst, 2 * CHUNK + 1);
    }

    proptest! {
        #[test]
        fn decibels_and_nmse_say_the_same(pairs in proptest::collection::vec((-4.0f32..4.0, -4.0f32..4.0), 1..40)) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let noise = Noise::between(&a, &b).unwrap();
            if noise.noise > 0.0 && noise.signal > 0.0 {
                let from_db = 10f64.powf(-noise.sqnr_db() / 10.0);
                prop_assert!((noise.nmse() - from_db).abs() <= 1e-9 * noise.nmse());
            }
        }

        #[test]
        fn one_pass_agrees_with_two(values in proptest::collection::vec(-100.0f32..100.0, 1..200)) {
            let s = Statistics::of(&values);
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
            prop_assert!((s.mean - mean).abs() < 1e-9);
            prop_assert!((s.std - var.sqrt()).abs() < 1e-9);
        }
    }
}
