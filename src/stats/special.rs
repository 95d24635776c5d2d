//! The special functions that exact intervals need, in f64: normal distribution, log-gamma, incomplete beta.
//!
//! Inverses are found by bisection of the function itself, so that `quantile(cdf(x))` is `x` as far as f64 goes.

use std::f64::consts::PI;

/// The probability that a standard normal variable is at most `x`; NaN for NaN.
///
/// Series of Marsaglia, "Evaluating the Normal Distribution" (2004), near the middle; in the tails the continued
/// fraction of Mills' ratio (Abramowitz and Stegun 26.2.14), which keeps small probabilities in relative precision.
pub fn normal_cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
    if x.abs() < 4.0 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > sum.abs() * f64::EPSILON * 0.25 {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    // Q(x) = φ(x) / (x + 1/(x + 2/(x + 3/(x + …)))), from the inside out; 60 levels are exact from 4 on.
    let a = x.abs();
    let tail = density / (1..=60).rev().fold(a, |inner, k| a + f64::from(k) / inner);
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// The `x` below which a standard normal variable stays with probability `p`; infinite at 0 and 1, NaN outside.
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 || p == 1.0 {
        return if p == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    // The lower half has the relative precision that 1 - p loses.
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    bisect(-40.0, 0.0, |x| normal_cdf(x) < p)
}

/// The natural logarithm of the gamma function of a positive number, by Lanczos' approximation (g = 7, 9 terms;
/// coefficients of Godfrey).
pub fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = TERMS[1..].iter().zip(1u32..).fold(TERMS[0], |sum, (c, i)| sum + c / (x + f64::from(i)));
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised incomplete beta function `I_x(a, b)`, for positive `a` and `b` and `x` in 0 to 1: the probability
/// that a beta variable is at most `x`. Continued fraction DLMF 8.17.22, evaluated by Lentz' method.
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast below the mean; above it the mirror image does.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(1.0 - x, b, a);
    }
    let ln_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p();
    ln_front.exp() / (a * beta_fraction(x, a, b))
}

/// The `x` with `I_x(a, b) = p`, for positive `a` and `b`; 0 and 1 at the ends.
pub fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    bisect(0.0, 1.0, |x| beta_cdf(x, a, b) < p)
}

/// `1 + d1 x / (1 + d2 x / (1 + …))`, the denominator of [`beta_cdf`].
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    // Lentz: a zero on the way is replaced by something that vanishes beside every other term.
    let safe = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut value, mut c, mut d) = (1.0f64, 1.0f64, 0.0f64);
    // About sqrt(max(a, b)) terms are needed; the cap only ends what rounding keeps alive.
    for k in 1..100_000u32 {
        let m = f64::from(k / 2);
        let coefficient = if k % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / safe(1.0 + coefficient * d);
        c = safe(1.0 + coefficient / c);
        value *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// The point between `low` and `high` where `below` turns from true to false, as near as f64 tells.
fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found} is not {expected}");
    }

    #[test]
    fn values_of_the_handbook() {
        // Python: mpmath.ncdf, mpmath.loggamma, mpmath.betainc(..., regularized=True), 30 digits.
        near(normal_cdf(1.959_963_984_540_054), 0.975);
        near(normal_cdf(-6.0), 9.865_876_450_376_98e-10);
        near(normal_cdf(-20.0), 2.753_624_118_606_233_7e-89);
        near(normal_quantile(0.025), -1.959_963_984_540_054);
        near(normal_quantile(1e-12), -7.034_483_825_301_131);
        near(ln_gamma(10.0), 362_880f64.ln());
        near(ln_gamma(0.5), PI.sqrt().ln());
        near(ln_gamma(1234.5), 7_550.550_901_077_895);
        near(beta_cdf(0.3, 2.0, 5.0), 0.579_825);
        near(beta_cdf(0.9, 294.0, 7.0), 4.123_531_453_246_853e-8);
        near(beta_quantile(0.5, 3.0, 3.0), 0.5);
    }

    #[test]
    fn ends_and_nonsense() {
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(
            normal_quantile(1.5).is_nan()
                && normal_quantile(f64::NAN).is_nan()
                && normal_cdf(f64::NAN).is_nan()
        );
        assert_eq!((normal_cdf(f64::NEG_INFINITY), normal_cdf(50.0)), (0.0, 1.0));
        assert_eq!((beta_cdf(0.0, 2.0, 3.0), beta_cdf(1.0, 2.0, 3.0)), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn quantiles_invert(p in 1e-9f64..0.999, a in 0.5f64..400.0, b in 0.5f64..400.0) {
            prop_assert!((normal_cdf(normal_quantile(p)) - p).abs() < 1e-13);
            prop_assert!((beta_cdf(beta_quantile(p, a, b), a, b) - p).abs() < 1e-9);
        }

        #[test]
        fn both_halves_mirror(x in -8.0f64..8.0, p in 0.01f64..0.99, a in 0.5f64..50.0, b in 0.5f64..50.0) {
            prop_assert!((normal_cdf(x) + normal_cdf(-x) - 1.0).abs() < 1e-14);
            prop_assert!((beta_cdf(p, a, b) + beta_cdf(1.0 - p, b, a) - 1.0).abs() < 1e-11);
        }
    }
}
