//! Statistics of one tensor, and of the difference between two, each in one pass.

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
    /// The statistics of `values`, in their order (Welford's update, f64).
    pub fn of(values: &[f32]) -> Statistics {
        let mut running = Running::new();
        values.iter().for_each(|value| running.take(*value));
        running.end()
    }

    /// The statistics of two tensors of one length. Every update waits for the one before, a division among them, and
    /// those of the other tensor fill the time.
    pub fn of_both(a: &[f32], b: &[f32]) -> (Statistics, Statistics) {
        let (mut first, mut second) = (Running::new(), Running::new());
        let both = a.len().min(b.len());
        for (x, y) in a.iter().zip(b) {
            first.take(*x);
            second.take(*y);
        }
        a[both..].iter().for_each(|x| first.take(*x));
        b[both..].iter().for_each(|y| second.take(*y));
        (first.end(), second.end())
    }
}

/// Statistics in the making.
struct Running {
    found: Statistics,
    /// Finite elements.
    seen: f64,
    squares: f64,
}

impl Running {
    fn new() -> Running {
        let (mean, std, zeros, non_finite) = (0.0, 0.0, 0, 0);
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        let found = Statistics { n: 0, mean, std, min, max, zeros, non_finite };
        Running { found, seen: 0.0, squares: 0.0 }
    }

    #[inline(always)]
    fn take(&mut self, value: f32) {
        let s = &mut self.found;
        s.n += 1;
        if !value.is_finite() {
            s.non_finite += 1;
            return;
        }
        let x = f64::from(value);
        self.seen += 1.0;
        let off = x - s.mean;
        s.mean += off / self.seen;
        self.squares += off * (x - s.mean);
        s.min = s.min.min(x);
        s.max = s.max.max(x);
        s.zeros += u64::from(x == 0.0);
    }

    fn end(self) -> Statistics {
        let std = if self.seen > 0.0 { (self.squares / self.seen).sqrt() } else { 0.0 };
        Statistics { std, ..self.found }
    }
}

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
        for (i, (&a, &b)) in original.iter().zip(converted).enumerate() {
            let (x, y) = (f64::from(a), f64::from(b));
            let off = (x - y).abs();
            noise.different += u64::from(a != b);
            noise.signal += x * x;
            noise.noise += off * off;
            inner += x * y;
            other += y * y;
            // A NaN compares with nothing, so it is asked for by name.
            if off > noise.max_abs || (off.is_nan() && !noise.max_abs.is_nan()) {
                (noise.max_abs, noise.worst) = (off, i);
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
        let other = [-7.0, f32::INFINITY, 0.5];
        assert_eq!(Statistics::of_both(&values, &other), (s, Statistics::of(&other)));
        assert_eq!(Statistics::of_both(&other, &values), (Statistics::of(&other), s));
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
