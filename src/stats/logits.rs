//! Rows of logits: `[vocab]` f32, one per position.

use super::exponentials::{
    BLOCK, blocks_below, exponentials, largest, sum_of_exponentials, weighted_difference,
};
use std::cmp::Ordering;

/// `ln(sum(exp(x)))`, shifted by the maximum so that it cannot overflow; -inf for an empty row, NaN for one with a NaN.
pub fn logsumexp(row: &[f32]) -> f64 {
    let (max, nan) = largest(row);
    if nan {
        return f64::NAN;
    }
    if !max.is_finite() {
        return f64::from(max);
    }
    f64::from(max) + sum_of_exponentials(row, max).ln()
}

/// Natural-log probabilities of a row of logits.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let lse = logsumexp(row);
    row.iter().map(|&x| f64::from(x) - lse).collect()
}

/// The index of the largest logit, the lowest among equals; `None` for an empty row or one that holds a NaN.
pub fn argmax(row: &[f32]) -> Option<u32> {
    let (max, nan) = largest(row);
    if nan {
        return None;
    }
    row.iter().position(|x| *x == max).map(|at| at as u32)
}

/// The ids of the `k` largest logits, best first, the lowest id first among equals; all of them where the row is
/// shorter. NaN counts as the least.
pub fn top_ids(row: &[f32], k: usize) -> Vec<u32> {
    let mut ids = best_ids(row, k);
    ids.sort_unstable_by(better(row));
    ids
}

/// The ids that [`top_ids`] gives, in no order that means anything.
fn best_ids(row: &[f32], k: usize) -> Vec<u32> {
    if k == 0 {
        return Vec::new();
    }
    let of = |id: u32| value(row, id);
    // Blocks whose values are all under the k-th best so far hold none of the best, and nearly all are.
    let (room, mut least, mut ids) = (2 * k.max(BLOCK), f32::NEG_INFINITY, Vec::new());
    let mut start = 0;
    while start < row.len() {
        let end = (start + BLOCK).min(row.len());
        ids.extend((start as u32..end as u32).filter(|id| of(*id) >= least));
        if ids.len() >= room {
            ids.select_nth_unstable_by(k - 1, better(row));
            ids.truncate(k);
            least = of(ids[k - 1]);
        }
        // Every logit is at least the smallest, NaN among them.
        let skipped = if least > f32::NEG_INFINITY { blocks_below(&row[end..], least) } else { 0 };
        start = end + skipped * BLOCK;
    }
    if k < ids.len() {
        ids.select_nth_unstable_by(k - 1, better(row));
        ids.truncate(k);
    }
    ids
}

/// The logit of `id`, NaN as the least.
fn value(row: &[f32], id: u32) -> f32 {
    row.get(id as usize).copied().filter(|x| !x.is_nan()).unwrap_or(f32::NEG_INFINITY)
}

/// Larger logits first, then lower ids.
fn better(row: &[f32]) -> impl Fn(&u32, &u32) -> Ordering {
    |a, b| value(row, *b).total_cmp(&value(row, *a)).then(a.cmp(b))
}

/// How far the best logit is from the second best; infinite for a row of one.
pub fn top_two_gap(row: &[f32]) -> f64 {
    let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for &x in row {
        let x = f64::from(x);
        if x > first {
            (first, second) = (x, first);
        } else if x > second {
            second = x;
        }
    }
    first - second
}

/// `sum(p * (ln p - ln q))` in nats, both given as logits over the same vocabulary; `None` where the lengths differ.
pub fn kl_divergence(p: &[f32], q: &[f32]) -> Option<f64> {
    if p.len() != q.len() || p.is_empty() {
        return None;
    }
    let (max, nan) = largest(p);
    let lq = logsumexp(q);
    if nan || !max.is_finite() || !lq.is_finite() {
        return Some(f64::NAN);
    }
    // An impossible token says nothing, whatever the other side makes of it: 0 ln 0 is 0.
    let (weights, total) = exponentials(p, max);
    Some(weighted_difference(&weights, p, q) / total - (f64::from(max) + total.ln() - lq))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn divergence_is_never_negative_and_zero_from_itself(
            (p, q) in (2usize..9).prop_flat_map(|n| {
                let row = || proptest::collection::vec(-8.0f32..8.0, n);
                (row(), row())
            })
        ) {
            prop_assert_eq!(kl_divergence(&p, &p), Some(0.0));
            prop_assert!(kl_divergence(&p, &q).unwrap() > -1e-12);
        }

        #[test]
        fn probabilities_sum_to_one(row in proptest::collection::vec(-50.0f32..50.0, 1..20)) {
            let sum: f64 = log_softmax(&row).iter().map(|lp| lp.exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_best_ids_of_a_long_row_are_those_of_the_sorted_row() {
        let mut random = crate::stats::SplitMix(5);
        // Few values, so that many are equal, in rows that rise, fall and do neither.
        let wild: Vec<f32> = (0..5000).map(|_| random.below(400) as f32 - 200.0).collect();
        let mut rising = wild.clone();
        rising.sort_by(f32::total_cmp);
        let falling: Vec<f32> = rising.iter().rev().copied().collect();
        for row in [wild, rising, falling, vec![1.0; 700], vec![f32::NEG_INFINITY; 300]] {
            let mut sorted: Vec<u32> = (0..row.len() as u32).collect();
            sorted.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)));
            for k in [0, 1, 10, 64, 256, 4999, 6000] {
                assert_eq!(top_ids(&row, k), sorted[..k.min(sorted.len())], "{k}");
            }
        }
    }

    #[test]
    fn the_best_ids_come_in_order_and_ties_by_id() {
        assert_eq!(top_ids(&[1.0, 5.0, 3.0, 5.0, -0.0, 0.0], 3), [1, 3, 2]);
        assert_eq!(top_ids(&[2.0, f32::NAN, 1.0], 9), [0, 2, 1]);
        assert!(top_ids(&[1.0], 0).is_empty() && top_ids(&[], 4).is_empty());
    }

    #[test]
    fn divergence_of_known_distributions() {
        let (p, q) = ([0.5f32.ln(), 0.5f32.ln()], [0.25f32.ln(), 0.75f32.ln()]);
        let expected = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl_divergence(&p, &q).unwrap() - expected).abs() < 1e-7);
        assert_eq!(kl_divergence(&p, &q[..1]), None);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((logsumexp(&[1e4, 1e4]) - (1e4 + 2f64.ln())).abs() < 1e-9);
        assert_eq!(logsumexp(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn ties_go_to_the_lowest_id_and_nan_to_nobody() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[f32::NAN, 1.0]), None);
        assert_eq!(argmax(&[-1.0]), Some(0));
        assert_eq!(argmax(&[]), None);
        assert_eq!(top_two_gap(&[1.0, 3.0, 2.5]), 0.5);
        assert_eq!(top_two_gap(&[3.0, 3.0]), 0.0);
    }
}
