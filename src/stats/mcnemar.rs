//! McNemar's test: do two models that answered the same questions differ in how many they get right?
//!
//! Only the questions that one of them got right and the other wrong say anything. Under no difference they fall
//! either way with probability 1/2.

use super::special::{beta_cdf, ln_gamma};

/// Both p-values, two-sided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct McNemar {
    /// Exact binomial: never too small.
    pub exact: f64,
    /// Mid-p (Fagerland, Lydersen and Laake 2013): half the probability of the observed table taken back, nearer to
    /// the nominal level.
    pub mid: f64,
}

/// The test of `only_first` questions that the first alone got right against `only_second`. Both p-values are 1 where
/// the two never disagree.
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let (n, fewer) = (only_first + only_second, only_first.min(only_second));
    if n == 0 {
        return McNemar { exact: 1.0, mid: 1.0 };
    }
    let (n_real, k) = (n as f64, fewer as f64);
    let ln_choose = ln_gamma(n_real + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n_real - k + 1.0);
    let observed = (ln_choose - n_real * std::f64::consts::LN_2).exp();
    if only_first == only_second {
        return McNemar { exact: 1.0, mid: 1.0 - 0.5 * observed };
    }
    // P(at most k of n at 1/2) is the incomplete beta function at 1/2.
    let exact = (2.0 * beta_cdf(0.5, n_real - k, k + 1.0)).min(1.0);
    McNemar { exact, mid: exact - observed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_of_scipy() {
        // scipy.stats.binomtest(min, n, 0.5).pvalue, and 2 * binom.cdf(min, n, 0.5) - binom.pmf(min, n, 0.5).
        let rows = [
            (1, 9, 0.021_484_375, 0.011_718_75),
            (12, 30, 0.007_915_897_334_896_727, 0.005_401_572_654_591_29),
            (150, 190, 0.034_270_046_533_293_9, 0.030_152_277_208_311_824),
            (7, 7, 1.0, 0.895_263_671_875),
            (0, 3, 0.25, 0.125),
            (0, 0, 1.0, 1.0),
        ];
        for (b, c, exact, mid) in rows {
            let found = mcnemar(b, c);
            assert!(
                (found.exact - exact).abs() < 1e-11 && (found.mid - mid).abs() < 1e-11,
                "{b} {c} {found:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_is_symmetric_bounded_and_mid_is_the_smaller(b in 0u64..500, c in 0u64..500) {
            let found = mcnemar(b, c);
            prop_assert_eq!(found, mcnemar(c, b));
            prop_assert!(0.0 <= found.mid && found.mid <= found.exact && found.exact <= 1.0);
            if b > c {
                prop_assert!(mcnemar(b + 1, c).exact <= found.exact + 1e-12);
            }
        }
    }
}
