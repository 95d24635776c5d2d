//! Seeded choice: the same seed makes the same choices on every machine.

use super::SplitMix;

/// [`SplitMix`] with a purpose, and the throws that choosing needs.
#[derive(Debug, Clone)]
pub struct Dice(SplitMix);

impl Dice {
    /// Dice that always fall alike for this seed and purpose.
    pub fn new(seed: u64, purpose: &str) -> Dice {
        // FNV-1a, so that two defects of one seed choose apart.
        let hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Dice(SplitMix(seed ^ hash))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number under `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }

    /// One of several, each equally likely; none of none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { Some(&items[self.below(items.len())]) }
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0.unit()
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_comes_up_and_the_same_seed_chooses_alike() {
        let mut counts = [0; 7];
        let (mut a, mut b) = (Dice::new(3, "x"), Dice::new(3, "x"));
        for _ in 0..7000 {
            let choice = a.below(7);
            assert_eq!(choice, b.below(7));
            counts[choice] += 1;
        }
        assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
        assert_ne!(Dice::new(3, "x").bits(), Dice::new(3, "y").bits());
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let mut dice = Dice::new(1, "normal");
        let draws: Vec<f64> = (0..20_000).map(|_| dice.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }
}
