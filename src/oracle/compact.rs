//! One distribution, kept small: its best tokens exactly, the rest by its mass, its entropy and a sample.
//!
//! The divergence of another model from it is then known up to the tail. Let `S` be the kept tokens, `T` the mass of
//! `p` outside of them, `H = sum(p ln p)` there, `Q` the mass of `q` there; `p_min` the least kept probability.
//! `KL = head + tail`, where `head = sum over S of p ln(p/q)` is exact and `tail = H - sum(p ln q)` is not:
//!
//! * **Below.** By the log-sum inequality `tail >= T ln(T/Q)`, with equality where `q` is `p` scaled. (It is the
//!   divergence of the two distributions with the tail drawn together to one token.)
//! * **Above.** No tail token has more than `p_min`, for the kept ones are the largest. So `-sum(p ln q)` is at most
//!   the maximum of a linear function over `0 <= p_i <= p_min, sum(p_i) = T`: the greedy choice, which puts `p_min`
//!   on the tokens with the smallest `q` until `T` is used up.
//! * **Between.** The sample is drawn from the tail with probabilities `p_i / T`, so `T` times the mean of
//!   `ln p - ln q` over it is an estimate without bias. Its noise is part of what a bootstrap over chunks sees.

use crate::stats::{self, Position, SplitMix, TOP, largest, shared, top_ids};

/// A token and its logit.
pub type Entry = (u32, f32);

/// What is kept of one row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactRow {
    /// The token that really follows.
    pub label: u32,
    /// Its logit.
    pub label_logit: f32,
    /// Log-sum-exp of the whole row: `ln p = logit - logsumexp`.
    pub logsumexp: f64,
    /// Mass outside [`CompactRow::top`].
    pub tail_mass: f64,
    /// `sum(p ln p)` outside of it.
    pub tail_plogp: f64,
    /// The largest logits, best first, the lowest id first among equals.
    pub top: Vec<Entry>,
    /// Drawn from the rest in proportion to its probabilities; empty where there is no rest.
    pub sample: Vec<Entry>,
}

impl CompactRow {
    /// Keeps the `k` best tokens of `row` (`[vocab]`), and `samples` of the rest; `None` for a row with a NaN, without
    /// `label`, or of no finite sum. `seed` is that of this position alone.
    pub fn of(row: &[f32], label: u32, k: usize, samples: usize, seed: u64) -> Option<CompactRow> {
        let label_logit = *row.get(label as usize)?;
        let (max, nan) = largest(row);
        if nan || !max.is_finite() {
            return None;
        }
        let (mut weights, total) = stats::exponentials(row, max);
        let logsumexp = f64::from(max) + total.ln();
        let top: Vec<Entry> = top_ids(row, k.max(1)).into_iter().map(|id| (id, row[id as usize])).collect();
        // The weights of the rest: what is kept has none there, and adds nothing to any sum.
        top.iter().for_each(|(id, _)| weights[*id as usize] = 0.0);
        let tail = stats::sum(&weights);
        let (tail_mass, tail_plogp) =
            (tail / total, stats::weighted_excess(&weights, row, logsumexp) / total);
        let sample =
            draw(&weights, tail, samples, seed).into_iter().map(|id| (id, row[id as usize])).collect();
        Some(CompactRow { label, label_logit, logsumexp, tail_mass, tail_plogp, top, sample })
    }

    /// Natural-log probability of the token that follows, as exact as the row was.
    pub fn label_log_prob(&self) -> f64 {
        f64::from(self.label_logit) - self.logsumexp
    }

    /// How `row` of another model differs from this; `None` for a row with a NaN, of no finite sum, or too short for
    /// a kept token.
    pub fn compare(&self, row: &[f32]) -> Option<Position> {
        let (max, nan) = largest(row);
        if nan || !max.is_finite() {
            return None;
        }
        let total = stats::sum_of_exponentials(row, max);
        let logsumexp = f64::from(max) + total.ln();
        let at = |id: u32| row.get(id as usize).map(|x| f64::from(*x) - logsumexp);
        let (mut head, mut kept) = (0.0, 0.0);
        for &(id, logit) in &self.top {
            let ln_p = f64::from(logit) - self.logsumexp;
            let p = ln_p.exp();
            head += if p > 0.0 { p * (ln_p - at(id)?) } else { 0.0 };
            kept += stats::exponential(*row.get(id as usize)?, max);
        }
        let (low, kl, high) = if self.tail_mass > 0.0 {
            // Never below what f64 can tell from nothing: the mass is a difference of sums.
            let rest = ((total - kept) / total).max(f64::MIN_POSITIVE);
            let low = self.tail_mass * (self.tail_mass / rest).ln();
            let mut drawn = 0.0;
            for &(id, logit) in &self.sample {
                drawn += f64::from(logit) - self.logsumexp - at(id)?;
            }
            let between = self.tail_mass * drawn / self.sample.len() as f64;
            let between = if self.sample.is_empty() { low } else { between };
            (head + low, head + between, head + self.tail_plogp + self.worst_cross(row, logsumexp)?)
        } else {
            (head, head, head)
        };
        let base: Vec<u32> = self.top.iter().take(TOP).map(|(id, _)| *id).collect();
        Some(Position {
            kl,
            kl_low: low,
            kl_high: high,
            nll_base: -self.label_log_prob(),
            nll: -at(self.label)?,
            top_base: *base.first()?,
            top: row.iter().position(|x| *x == max)? as u32,
            label: self.label,
            top_shared: shared(&base, &top_ids(row, base.len())),
        })
    }

    /// The largest `-sum(p ln q)` over the tail that mass and cap allow.
    fn worst_cross(&self, row: &[f32], logsumexp: f64) -> Option<f64> {
        let cap = (f64::from(self.top.last()?.1) - self.logsumexp).exp();
        let free = row.len().checked_sub(self.top.len())?;
        // Whole shares of `cap`, then what is left of the mass; never more tokens than there are.
        let whole = ((self.tail_mass / cap).floor() as usize).min(free.checked_sub(1)?);
        let mut least = self.least_of_tail(row, whole + 1)?;
        let (smallest, next, _) = least.select_nth_unstable_by(whole, f32::total_cmp);
        let cost = |x: f32| logsumexp - f64::from(x);
        let shares: f64 = smallest.iter().map(|x| cap * cost(*x)).sum();
        let left = (self.tail_mass - whole as f64 * cap).max(0.0);
        Some(shares + if left > 0.0 { left * cost(*next) } else { 0.0 })
    }

    /// Logits of `row` outside of what is kept: the `n` smallest of them, and perhaps more. The row has no NaN.
    fn least_of_tail(&self, row: &[f32], n: usize) -> Option<Vec<f32>> {
        // Some of the row say about how high the smallest reach; where that is too low, the next look takes all.
        let mut some: Vec<f32> = row.iter().step_by(LOOK).copied().collect();
        let at = (n + n / 4) / LOOK + 16;
        let about = (at < some.len()).then(|| *some.select_nth_unstable_by(at, f32::total_cmp).1);
        for most in [about.unwrap_or(f32::INFINITY), f32::INFINITY] {
            let mut least = stats::at_most(row, most);
            // Only how large they are counts, so one value as large as a kept token's goes in that token's place.
            let mut kept: Vec<f32> = Vec::with_capacity(self.top.len());
            for (id, _) in &self.top {
                kept.extend(Some(*row.get(*id as usize)?).filter(|x| *x <= most));
            }
            kept.sort_unstable_by(f32::total_cmp);
            if least.len() < n + kept.len() {
                continue;
            }
            if !kept.is_empty() {
                least.sort_unstable_by(f32::total_cmp);
                let mut kept = kept.into_iter().peekable();
                least.retain(|x| kept.next_if(|k| k.to_bits() == x.to_bits()).is_none());
            }
            return Some(least);
        }
        None
    }
}

/// Every so many logits one is looked at, to guess how the others are spread.
const LOOK: usize = 32;

/// Systematic sampling: one random start, then equal steps through the `weights`, whose sum is `mass`. Gives the ids
/// that the steps fall on, in order; an id without weight is none of them.
fn draw(weights: &[f64], mass: f64, samples: usize, seed: u64) -> Vec<u32> {
    let mut drawn = Vec::new();
    if mass <= 0.0 || samples == 0 {
        return drawn;
    }
    let step = mass / samples as f64;
    let (mut passed, mut mark) = (0.0, SplitMix(seed).unit() * step);
    // Few blocks hold a mark; the others are passed as a whole.
    for (b, block) in weights.chunks(BLOCK).enumerate() {
        let end = passed + stats::sum(block);
        if mark < end {
            for (i, weight) in block.iter().enumerate() {
                passed += weight;
                while mark < passed && *weight > 0.0 && drawn.len() < samples {
                    drawn.push((b * BLOCK + i) as u32);
                    mark += step;
                }
            }
        }
        // Whether a block was looked into does not show in the sum.
        passed = end;
    }
    drawn
}

/// Weights that are added up at once.
const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::kl_divergence;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (4usize..200, 0.0f32..3.0).prop_flat_map(|(n, harm)| {
            let base = proptest::collection::vec(-12.0f32..6.0, n);
            let noise = proptest::collection::vec(-1.0f32..1.0, n);
            (base, noise).prop_map(move |(base, noise)| {
                let found = base.iter().zip(&noise).map(|(b, e)| b + harm * e).collect();
                (base, found)
            })
        })
    }

    proptest! {
        #[test]
        fn the_bounds_hold_the_divergence((base, found) in rows(), k in 1usize..40, seed in any::<u64>()) {
            let kept = CompactRow::of(&base, 1, k, 8, seed).expect("a sound row");
            let position = kept.compare(&found).expect("a sound row");
            let full = kl_divergence(&base, &found).expect("one length");
            prop_assert!(position.kl_low <= full + 1e-10 && full <= position.kl_high + 1e-10, "{position:?} {full}");
            let exact = Position::between(&base, &found, 1).expect("sound rows");
            prop_assert!((position.nll - exact.nll).abs() < 1e-12 && (position.nll_base - exact.nll_base).abs() < 1e-12);
            prop_assert_eq!((position.top, position.top_base), (exact.top, exact.top_base));
            if k >= 10 {
                prop_assert_eq!(position.top_shared, exact.top_shared);
            }
            if k >= base.len() {
                prop_assert_eq!((position.kl_low, position.kl_high), (position.kl, position.kl));
                prop_assert!((position.kl - full).abs() < 1e-12);
            }
        }

        #[test]
        fn the_same_row_diverges_by_nothing((base, _) in rows(), k in 1usize..40, seed in any::<u64>()) {
            let kept = CompactRow::of(&base, 0, k, 8, seed).expect("a sound row");
            let itself = kept.compare(&base).expect("a sound row");
            prop_assert!(itself.kl.abs() < 1e-12 && itself.kl_low.abs() < 1e-10, "{itself:?}");
        }

        #[test]
        fn more_kept_tokens_never_widen_the_bounds((base, found) in rows(), k in 1usize..40) {
            let width = |k: usize| {
                let p = CompactRow::of(&base, 0, k, 4, 1).expect("sound").compare(&found).expect("sound");
                p.kl_high - p.kl_low
            };
            prop_assert!(width(k + 10) <= width(k) + 1e-9);
        }
    }

    #[test]
    fn the_sample_stands_at_equal_steps_through_the_tail_and_holds_nothing_that_is_kept() {
        let mut random = SplitMix(2);
        let row: Vec<f32> = (0..3000).map(|_| 9.0 * random.unit() as f32).collect();
        for seed in 0..50 {
            let kept = CompactRow::of(&row, 0, 40, 32, seed).expect("a sound row");
            let sum = row.iter().map(|x| (f64::from(*x) - kept.logsumexp).exp());
            let tail: Vec<f64> = sum
                .enumerate()
                .map(|(id, p)| if kept.top.iter().any(|(top, _)| *top as usize == id) { 0.0 } else { p })
                .collect();
            let mass: f64 = tail.iter().sum();
            let plogp: f64 = tail.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum();
            assert!((kept.tail_mass - mass).abs() < 1e-12 && (kept.tail_plogp - plogp).abs() < 1e-11);
            assert_eq!(kept.sample.len(), 32);
            // Of two draws that follow each other, one stands a step of the mass after the other.
            let before = |id: u32| tail[..id as usize].iter().sum::<f64>();
            for (n, (id, logit)) in kept.sample.iter().enumerate() {
                assert!(tail[*id as usize] > 0.0 && *logit == row[*id as usize]);
                let mark = (n as f64 + SplitMix(seed).unit()) * mass / 32.0;
                let (low, high) = (before(*id), before(*id) + tail[*id as usize]);
                assert!(low - 1e-12 <= mark && mark <= high + 1e-12, "{mark} is not in {low}..{high}");
            }
        }
    }

    #[test]
    fn the_upper_bound_is_that_of_the_sorted_tail() {
        let mut random = SplitMix(7);
        for n in [5, 300, 4000] {
            let base: Vec<f32> = (0..n).map(|_| 6.0 * random.unit() as f32).collect();
            // Few values, many of them equal, so that kept tokens are among the smallest of the other model too.
            let found: Vec<f32> = (0..n).map(|_| random.below(9) as f32).collect();
            let kept = CompactRow::of(&base, 0, 3, 2, 1).expect("a sound row");
            let logsumexp = stats::logsumexp(&found);
            let is_kept = |id: usize| kept.top.iter().any(|(top, _)| *top as usize == id);
            let mut tail: Vec<f32> = (0..n).filter(|id| !is_kept(*id)).map(|id| found[id]).collect();
            tail.sort_by(f32::total_cmp);
            let cap = (f64::from(kept.top[2].1) - kept.logsumexp).exp();
            let (mut left, mut expected) = (kept.tail_mass, 0.0);
            for x in tail {
                let share = left.min(cap);
                expected += share * (logsumexp - f64::from(x));
                left -= share;
            }
            let worst = kept.worst_cross(&found, logsumexp).expect("a bound");
            assert!((worst - expected).abs() < 1e-9, "{n}: {worst} is not {expected}");
        }
    }

    #[test]
    fn the_estimate_has_no_bias() {
        // 400 seeds of one row: the mean of the estimates is the divergence, within four of its standard errors.
        let mut random = SplitMix(9);
        let base: Vec<f32> = (0..300).map(|_| 6.0 * random.unit() as f32).collect();
        let found: Vec<f32> = base.iter().map(|b| b + random.unit() as f32).collect();
        let full = kl_divergence(&base, &found).expect("one length");
        let estimates: Vec<f64> = (0..400u64)
            .map(|seed| {
                CompactRow::of(&base, 0, 10, 8, seed * 7919)
                    .and_then(|k| k.compare(&found))
                    .expect("sound")
                    .kl
            })
            .collect();
        let mean = estimates.iter().sum::<f64>() / 400.0;
        let spread = (estimates.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / 399.0).sqrt();
        assert!(spread > 1e-4 && (mean - full).abs() < 4.0 * spread / 20.0, "{mean} {full} {spread}");
    }

    #[test]
    fn rows_that_say_nothing_are_refused_and_impossible_tokens_cost_infinitely() {
        assert_eq!(CompactRow::of(&[1.0, f32::NAN], 0, 1, 1, 1), None);
        assert_eq!(CompactRow::of(&[f32::NEG_INFINITY; 3], 0, 1, 1, 1), None);
        assert_eq!(CompactRow::of(&[1.0, 2.0], 2, 1, 1, 1), None);
        let kept = CompactRow::of(&[3.0, 2.0, 1.0], 1, 1, 2, 1).expect("a sound row");
        assert_eq!(kept.compare(&[1.0, f32::NAN, 1.0]), None);
        let impossible = kept.compare(&[f32::NEG_INFINITY, 1.0, 1.0]).expect("no NaN");
        assert_eq!((impossible.kl_low, impossible.kl), (f64::INFINITY, f64::INFINITY));
        let rare = kept.compare(&[1.0, 1.0, f32::NEG_INFINITY]).expect("no NaN");
        assert!(rare.kl_high == f64::INFINITY && rare.kl_low.is_finite(), "{rare:?}");
    }
}
