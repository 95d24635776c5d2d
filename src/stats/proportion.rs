//! Intervals for a proportion, `hits` of `n`: Wilson's score interval and the exact one of Clopper and Pearson.

use super::special::{beta_quantile, normal_quantile};

/// Wilson's score interval (1927): near its level also for few trials and shares near 0 and 1. `(0, 1)` for no trials;
/// more hits than trials count as all of them.
pub fn wilson(hits: u64, n: u64, level: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (hits, n) = (hits.min(n) as f64, n as f64);
    let z = normal_quantile(0.5 + level / 2.0);
    let (share, slack) = (hits / n, z * z / n);
    let middle = (share + slack / 2.0) / (1.0 + slack);
    let half = (share * (1.0 - share) * slack + slack * slack / 4.0).sqrt() / (1.0 + slack);
    // Rounding must not put the estimate itself outside where it stands at an end.
    ((middle - half).clamp(0.0, share), (middle + half).clamp(share, 1.0))
}

/// The exact interval of Clopper and Pearson (1934): it holds the true share in at least `level` of all samples,
/// whatever that share is. `(0, 1)` for no trials; more hits than trials count as all of them.
pub fn clopper_pearson(hits: u64, n: u64, level: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let hits = hits.min(n);
    let (k, misses, outside) = (hits as f64, (n - hits) as f64, (1.0 - level) / 2.0);
    let low = if hits == 0 { 0.0 } else { beta_quantile(outside, k, misses + 1.0) };
    // The mirror image of the lower bound for the misses, which keeps the precision that 1 - p loses.
    let high = if hits == n { 1.0 } else { 1.0 - beta_quantile(outside, misses, k + 1.0) };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn near(found: (f64, f64), low: f64, high: f64) {
        assert!(
            (found.0 - low).abs() < 1e-9 && (found.1 - high).abs() < 1e-9,
            "{found:?} is not ({low}, {high})"
        );
    }

    #[test]
    fn published_and_computed_values() {
        // scipy.stats.binomtest(k, n).proportion_ci(0.95, "exact" and "wilson").
        near(clopper_pearson(294, 300, 0.95), 0.956_978_917_326_483, 0.992_625_837_998_259);
        near(wilson(294, 300, 0.95), 0.957_060_379_182_139, 0.990_802_368_442_296);
        near(clopper_pearson(7, 20, 0.9), 0.177_310_917_574_449, 0.558_034_511_315_489);
        // 0 of n: 1 - (alpha / 2)^(1 / n), the case that can be solved by hand.
        near(clopper_pearson(0, 300, 0.95), 0.0, 1.0 - 0.025f64.powf(1.0 / 300.0));
        near(clopper_pearson(300, 300, 0.95), 0.025f64.powf(1.0 / 300.0), 1.0);
        // Newcombe (1998), table I, 81 of 263 and 1 of 29: 0.2553 to 0.3662 and 0.0061 to 0.1718.
        let (low, high) = wilson(81, 263, 0.95);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        let (low, high) = wilson(1, 29, 0.95);
        assert!((low - 0.0061).abs() < 5e-5 && (high - 0.1718).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn no_trials_tell_nothing() {
        assert_eq!((clopper_pearson(0, 0, 0.95), wilson(0, 0, 0.95)), ((0.0, 1.0), (0.0, 1.0)));
    }

    /// The probability of `k` hits in `n` trials at `share`.
    fn binomial(k: u64, n: u64, share: f64) -> f64 {
        use super::super::special::ln_gamma;
        let choose = |n: u64, k: u64| {
            ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0)
        };
        (choose(n, k) + k as f64 * share.ln() + (n - k) as f64 * (1.0 - share).ln()).exp()
    }

    proptest! {
        #[test]
        fn the_exact_interval_covers_at_least_its_level(n in 1u64..60, share in 0.01f64..0.99) {
            let covered = (0..=n).filter(|&k| {
                let (low, high) = clopper_pearson(k, n, 0.95);
                (low..=high).contains(&share)
            });
            let coverage: f64 = covered.map(|k| binomial(k, n, share)).sum();
            prop_assert!(coverage >= 0.95 - 1e-9, "{coverage}");
        }

        #[test]
        fn intervals_hold_the_estimate_mirror_and_shrink(k in 0u64..50, more in 0u64..50) {
            let n = k + more + 1;
            for interval in [clopper_pearson, wilson] {
                let (low, high) = interval(k, n, 0.95);
                let share = k as f64 / n as f64;
                prop_assert!((0.0..=share).contains(&low) && (share..=1.0).contains(&high));
                let (mirrored_low, mirrored_high) = interval(n - k, n, 0.95);
                prop_assert!((low - (1.0 - mirrored_high)).abs() < 1e-9 && (high - (1.0 - mirrored_low)).abs() < 1e-9);
                let (tighter_low, tighter_high) = interval(10 * k, 10 * n, 0.95);
                prop_assert!(tighter_high - tighter_low < high - low);
                let (wider_low, wider_high) = interval(k, n, 0.99);
                prop_assert!(wider_low <= low && wider_high >= high);
            }
        }
    }
}
