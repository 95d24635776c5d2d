//! Sums over the outputs of one operation, position by position.

/// Signal, noise and inner products of everything compared at one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// Per position: squares of the original, squares of the difference.
    rows: Vec<(f64, f64)>,
    inner: f64,
    other: f64,
}

impl Sums {
    /// Adds rows of `width`; only the first `common` of each are compared.
    pub fn add(&mut self, original: &[f32], found: &[f32], widths: (usize, usize), common: usize) {
        for (a, b) in original.chunks_exact(widths.0).zip(found.chunks_exact(widths.1)) {
            let (mut signal, mut noise) = (0.0f64, 0.0f64);
            for (x, y) in a.iter().zip(b).take(common) {
                let (x, y) = (f64::from(*x), f64::from(*y));
                signal += x * x;
                noise += (x - y) * (x - y);
                self.inner += x * y;
                self.other += y * y;
            }
            self.rows.push((signal, noise));
        }
    }

    /// The mean over positions of noise by signal, in dB. A position counts once however loud it is: the first token
    /// of many models is a thousand times louder than all others, and would hide them.
    pub fn db(&self) -> f64 {
        let share = self.rows.iter().map(|(s, n)| if *n == 0.0 { 0.0 } else { n / s }).sum::<f64>();
        let mean = share / self.rows.len() as f64;
        if mean == 0.0 { f64::INFINITY } else { -10.0 * mean.log10() }
    }

    /// Of all positions in one; 1 where both are zero.
    pub fn cosine(&self) -> f64 {
        let signal: f64 = self.rows.iter().map(|(s, _)| s).sum();
        match (signal * self.other).sqrt() {
            0.0 if signal == self.other => 1.0,
            0.0 => 0.0,
            lengths => self.inner / lengths,
        }
    }

    /// dB of every position.
    pub fn by_position(&self) -> Vec<f64> {
        let db = |(s, n): &(f64, f64)| if *n == 0.0 { f64::INFINITY } else { 10.0 * (s / n).log10() };
        self.rows.iter().map(db).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_counts_once() {
        let mut sums = Sums::default();
        // A loud position without error, and a quiet one that is off by a tenth: half of 1 % is 23 dB.
        sums.add(&[1000.0, 0.0, 1.0, 0.0], &[1000.0, 0.0, 0.9, 0.0], (2, 2), 2);
        assert!((sums.db() - 23.01).abs() < 0.01, "{}", sums.db());
        let by = sums.by_position();
        assert!(by[0] == f64::INFINITY && (by[1] - 20.0).abs() < 1e-5, "{by:?}");
        assert!(sums.cosine() > 0.999);
    }

    #[test]
    fn nothing_lost_is_infinite_and_a_nan_is_no_number() {
        let mut same = Sums::default();
        same.add(&[1.0, 2.0], &[1.0, 2.0], (2, 2), 2);
        assert_eq!((same.db(), same.cosine()), (f64::INFINITY, 1.0));
        let mut broken = Sums::default();
        broken.add(&[1.0, 2.0], &[1.0, f32::NAN], (2, 2), 2);
        assert!(broken.db().is_nan());
        let mut from_nothing = Sums::default();
        from_nothing.add(&[0.0], &[1.0], (1, 1), 1);
        assert_eq!(from_nothing.db(), f64::NEG_INFINITY);
    }

    #[test]
    fn rows_of_two_widths_share_their_first_columns() {
        let mut sums = Sums::default();
        sums.add(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 9.0, 3.0, 4.0, 9.0], (2, 3), 2);
        assert_eq!((sums.db(), sums.by_position().len()), (f64::INFINITY, 2));
    }
}
