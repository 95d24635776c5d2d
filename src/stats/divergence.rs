//! How two models' distributions over a text differ: position by position, and in sum by llama-perplexity's rules.
//!
//! Every formula is that of llama.cpp's `perplexity --kl-divergence`, except that no term is cut off: the sum runs over
//! the whole vocabulary, in f64. Its uncertainties take positions for independent, which those of one chunk are not;
//! they are here to be compared with llama.cpp's, and a verdict rests on [`super::Resampling`] instead.

use super::logits::{argmax, logsumexp, top_ids};

/// So many best tokens are compared for [`Position::top_shared`].
pub const TOP: usize = 10;

/// What two models make of one position. The base is the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// `sum(p * (ln p - ln q))` in nats, or the estimate of it that a compact reference allows.
    pub kl: f64,
    /// No more than the divergence.
    pub kl_low: f64,
    /// No less than the divergence.
    pub kl_high: f64,
    /// Negative natural-log probability of the right token, by the base.
    pub nll_base: f64,
    /// The same by the model that is compared.
    pub nll: f64,
    /// The base's most probable token.
    pub top_base: u32,
    /// The compared model's.
    pub top: u32,
    /// The token that really follows.
    pub label: u32,
    /// Share of the base's [`TOP`] best tokens that are among the compared model's.
    pub top_shared: f64,
}

impl Position {
    /// Compares two rows of logits `[vocab]` where `label` follows; `None` where they differ in length, hold a NaN,
    /// or have no such token.
    pub fn between(base: &[f32], found: &[f32], label: u32) -> Option<Position> {
        let (top_base, top) = (argmax(base)?, argmax(found)?);
        let kl = super::kl_divergence(base, found)?;
        let (at_base, at) = (*base.get(label as usize)?, *found.get(label as usize)?);
        Some(Position {
            kl,
            kl_low: kl,
            kl_high: kl,
            nll_base: logsumexp(base) - f64::from(at_base),
            nll: logsumexp(found) - f64::from(at),
            top_base,
            top,
            label,
            top_shared: shared(&top_ids(base, TOP), &top_ids(found, TOP)),
        })
    }

    /// `q(label) - p(label)`.
    pub fn delta_p(&self) -> f64 {
        (-self.nll).exp() - (-self.nll_base).exp()
    }

    /// Whether both models have the same most probable token.
    pub fn same_top(&self) -> bool {
        self.top == self.top_base
    }
}

/// The share of `base` that is in `found`; 1 for nothing.
pub fn shared(base: &[u32], found: &[u32]) -> f64 {
    if base.is_empty() {
        return 1.0;
    }
    base.iter().filter(|id| found.contains(id)).count() as f64 / base.len() as f64
}

/// A mean and how uncertain it is where positions are independent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean, or what is derived from it.
    pub value: f64,
    /// Standard error; 0 for up to ten positions, as llama.cpp has it.
    pub uncertainty: f64,
}

/// What llama-perplexity prints, from the positions of all chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Positions.
    pub n: u64,
    /// Perplexity of the compared model.
    pub perplexity: Estimate,
    /// Perplexity of the base.
    pub perplexity_base: Estimate,
    /// `ln(perplexity / perplexity of the base)`, the uncertainty paired: `u² = u_q² + u_b² - 2 cov`.
    pub ln_ratio: Estimate,
    /// `exp` of it.
    pub ratio: Estimate,
    /// Mean divergence in nats.
    pub kl: Estimate,
    /// Divergences at [`QUANTILES`].
    pub kl_quantiles: [f64; QUANTILES.len()],
    /// Mean `q - p` of the right token.
    pub delta_p: Estimate,
    /// Root of its mean square.
    pub delta_p_rms: Estimate,
    /// It at [`QUANTILES`].
    pub delta_p_quantiles: [f64; QUANTILES.len()],
    /// Share of positions with the same most probable token, binomial uncertainty.
    pub same_top: Estimate,
    /// Mean share of the base's best ten tokens that are among the compared model's.
    pub top_shared: f64,
}

/// Minimum, 0.1 %, 1 %, 5 %, 10 %, median, 90 %, 95 %, 99 %, 99.9 %, maximum.
pub const QUANTILES: [f64; 11] = [0.0, 0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0];

impl Summary {
    /// The summary; `None` for no positions.
    pub fn of(positions: &[Position]) -> Option<Summary> {
        if positions.is_empty() {
            return None;
        }
        let each = |f: fn(&Position) -> f64| positions.iter().map(f).collect::<Vec<f64>>();
        let (nll, nll_base, delta_p) = (each(|p| p.nll), each(|p| p.nll_base), each(Position::delta_p));
        let (mean, mean_base) = (estimate(&nll), estimate(&nll_base));
        let exp = |e: Estimate| Estimate { value: e.value.exp(), uncertainty: e.value.exp() * e.uncertainty };
        // The paired uncertainty is that of the mean of the differences.
        let ln_ratio = estimate(&each(|p| p.nll - p.nll_base));
        let mse = estimate(&each(|p| p.delta_p() * p.delta_p()));
        let rms = mse.value.sqrt();
        let n = positions.len() as f64;
        let same = positions.iter().filter(|p| p.same_top()).count() as f64 / n;
        let kl = each(|p| p.kl);
        Some(Summary {
            n: positions.len() as u64,
            perplexity: exp(mean),
            perplexity_base: exp(mean_base),
            ln_ratio,
            ratio: exp(ln_ratio),
            kl: estimate(&kl),
            kl_quantiles: quantiles(kl),
            delta_p: estimate(&delta_p),
            delta_p_rms: Estimate {
                value: rms,
                uncertainty: if rms > 0.0 { 0.5 / rms * mse.uncertainty } else { 0.0 },
            },
            delta_p_quantiles: quantiles(delta_p),
            same_top: Estimate {
                value: same,
                uncertainty: if n > 1.0 { (same * (1.0 - same) / (n - 1.0)).sqrt() } else { 0.0 },
            },
            top_shared: positions.iter().map(|p| p.top_shared).sum::<f64>() / n,
        })
    }
}

/// Mean and `sqrt((E[x²] - E[x]²) / (n - 1))`.
fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - value) * (v - value)).sum::<f64>() / n;
    Estimate { value, uncertainty: if values.len() > 10 { (variance / (n - 1.0)).sqrt() } else { 0.0 } }
}

fn quantiles(mut values: Vec<f64>) -> [f64; QUANTILES.len()] {
    values.sort_by(f64::total_cmp);
    QUANTILES.map(|share| quantile(&values, share))
}

/// The value below which `share` of the `sorted` values lie, between two of them by linear interpolation; NaN for
/// none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let (Some(last), at) = (sorted.len().checked_sub(1), share.clamp(0.0, 1.0)) else { return f64::NAN };
    let at = at * last as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    // Two equal infinities would give a NaN between them.
    if part == 0.0 || sorted[below] == sorted[(below + 1).min(last)] {
        return sorted[below];
    }
    (1.0 - part) * sorted[below] + part * sorted[below + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(kl: f64, nll_base: f64, nll: f64, top: u32) -> Position {
        Position { kl, kl_low: kl, kl_high: kl, nll_base, nll, top_base: 0, top, label: 0, top_shared: 1.0 }
    }

    #[test]
    fn one_position_by_hand() {
        // p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4); the right token is 1.
        let base = [0.5f32.ln() + 3.0, 0.25f32.ln() + 3.0, 0.25f32.ln() + 3.0];
        let found = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()];
        let found = Position::between(&base, &found, 1).expect("sound rows");
        assert!((found.kl - 0.25 * 2f64.ln()).abs() < 1e-7, "{found:?}");
        assert!((found.delta_p() - 0.25).abs() < 1e-7 && (found.nll - 2f64.ln()).abs() < 1e-7, "{found:?}");
        assert!(!found.same_top() && found.top_base == 0 && found.top == 1);
        assert_eq!(found.top_shared, 1.0);
        assert_eq!(Position::between(&base, &base[..2], 0), None);
        assert_eq!(Position::between(&base, &[f32::NAN, 0.0, 0.0], 0), None);
        assert_eq!(Position::between(&base, &base, 3), None);
    }

    #[test]
    fn the_summary_is_that_of_llama_perplexity() {
        // 12 positions; the expected values are those of the formulas in perplexity.cpp, sums and all, in numpy.
        let nll_base = [0.5, 1.5, 2.0, 0.25, 3.0, 1.0, 0.75, 2.5, 1.25, 0.1, 4.0, 1.75];
        let added = [0.01, -0.02, 0.03, 0.0, 0.1, -0.05, 0.02, 0.0, 0.04, 0.01, -0.1, 0.2];
        let positions: Vec<Position> = (0..12)
            .map(|i| {
                position(0.01 * (i * i) as f64, nll_base[i], nll_base[i] + added[i], u32::from(i % 4 == 3))
            })
            .collect();
        let s = Summary::of(&positions).expect("positions");
        let near = |found: Estimate, value: f64, uncertainty: f64| {
            assert!((found.value - value).abs() < 1e-12, "{} is not {value}", found.value);
            assert!(
                (found.uncertainty - uncertainty).abs() < 1e-12,
                "{} is not {uncertainty}",
                found.uncertainty
            );
        };
        near(s.perplexity, 4.806648193775176, 1.625669807115456);
        near(s.perplexity_base, 4.711470182590742, 1.5977372741992935);
        near(s.ln_ratio, 0.019999999999999574, 0.021532216876960063);
        near(s.ratio, 1.0202013400267553, 0.021967196511621375);
        near(s.kl, 0.4216666666666667, 0.11882526854354018);
        near(s.delta_p, -0.004213998224239037, 0.0034029328779697876);
        near(s.delta_p_rms, 0.01204729243131148, 0.003409819512330543);
        near(s.same_top, 0.75, (0.75f64 * 0.25 / 11.0).sqrt());
        // 0.9 * 11 = 9.9: between the tenth and the eleventh value.
        assert!((s.kl_quantiles[6] - (0.1 * 0.81 + 0.9 * 1.0)).abs() < 1e-12, "{:?}", s.kl_quantiles);
        assert_eq!((s.kl_quantiles[0], s.kl_quantiles[10]), (0.0, 1.21));
        assert!((s.kl_quantiles[5] - 0.5 * (0.25 + 0.36)).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn quantiles_of_nothing_and_of_infinities() {
        assert!(quantile(&[], 0.5).is_nan());
        assert_eq!(quantile(&[f64::INFINITY, f64::INFINITY], 0.3), f64::INFINITY);
        assert_eq!(quantile(&[2.0], 0.999), 2.0);
    }

    proptest! {
        #[test]
        fn the_order_of_positions_does_not_matter(kls in proptest::collection::vec(0.0f64..3.0, 1..40)) {
            let of = |kls: &[f64]| {
                let positions: Vec<Position> = kls.iter().map(|k| position(*k, 1.0, 1.0 + k / 9.0, 0)).collect();
                Summary::of(&positions).expect("positions")
            };
            let (forth, back) = (of(&kls), of(&kls.iter().rev().copied().collect::<Vec<_>>()));
            prop_assert!((forth.kl.value - back.kl.value).abs() < 1e-12);
            prop_assert!((forth.ln_ratio.uncertainty - back.ln_ratio.uncertainty).abs() < 1e-12);
            prop_assert_eq!(forth.kl_quantiles, back.kl_quantiles);
        }

        #[test]
        fn a_shift_of_all_logits_changes_nothing(row in proptest::collection::vec(-9.0f32..9.0, 2..30), by in -64i8..64) {
            // Whole steps of 1/8 and shifts by whole numbers are exact in f32.
            let row: Vec<f32> = row.iter().map(|x| (x * 8.0).round() / 8.0).collect();
            let shifted: Vec<f32> = row.iter().map(|x| x + f32::from(by)).collect();
            let found = Position::between(&row, &shifted, 1).expect("sound rows");
            prop_assert!(found.kl.abs() < 1e-12 && found.same_top() && found.delta_p().abs() < 1e-12);
            prop_assert_eq!(found.top_shared, 1.0);
        }
    }
}
