//! Rows of logits: `[vocab]` f32, one per position.

/// `ln(sum(exp(x)))`, shifted by the maximum so that it cannot overflow; -inf for an empty row.
pub fn logsumexp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::from(max);
    }
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}

/// Natural-log probabilities of a row of logits.
pub fn log_softmax(row: &[f32]) -> Vec<f64> {
    let lse = logsumexp(row);
    row.iter().map(|&x| f64::from(x) - lse).collect()
}

/// The index of the largest logit, the lowest among equals; `None` for an empty row or one that holds a NaN.
pub fn argmax(row: &[f32]) -> Option<u32> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &x) in row.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, b)| x > b) {
            best = Some((i, x));
        }
    }
    best.map(|(i, _)| i as u32)
}

/// The ids of the `k` largest logits, best first, the lowest id first among equals; all of them where the row is
/// shorter. NaN counts as the least.
pub fn top_ids(row: &[f32], k: usize) -> Vec<u32> {
    let better = |a: &u32, b: &u32| {
        let of =
            |id: &u32| row.get(*id as usize).copied().filter(|x| !x.is_nan()).unwrap_or(f32::NEG_INFINITY);
        of(b).total_cmp(&of(a)).then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..row.len() as u32).collect();
    if k < ids.len() && k > 0 {
        ids.select_nth_unstable_by(k - 1, better);
    }
    ids.truncate(k);
    ids.sort_unstable_by(better);
    ids
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
    let (lp, lq) = (logsumexp(p), logsumexp(q));
    let term = |(&a, &b): (&f32, &f32)| {
        let (ln_p, ln_q) = (f64::from(a) - lp, f64::from(b) - lq);
        let p = ln_p.exp();
        // An impossible token says nothing, whatever the other side makes of it: 0 * ln 0 is 0.
        if p == 0.0 { 0.0 } else { p * (ln_p - ln_q) }
    };
    Some(p.iter().zip(q).map(term).sum())
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
