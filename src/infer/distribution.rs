//! What a row of logits says: the best id, the log-sum-exp, the top log-probabilities, all in f64.

use std::cmp::Ordering;

/// The id of the largest logit, the lowest id among equals; `None` for an empty row or a NaN in it.
pub fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if *logit > logits[best] {
            best = id;
        }
    }
    (!logits.is_empty()).then_some(best as u32)
}

/// `ln(sum(exp(logits)))`, natural logarithm, summed in f64 in the order of ids.
pub fn logsumexp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f32::NEG_INFINITY, |m, &l| m.max(l));
    if !max.is_finite() {
        return f64::from(max);
    }
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - f64::from(max)).exp()).sum();
    f64::from(max) + sum.ln()
}

/// The `k` best ids with their natural-log probabilities, best first, the lower id first among equals.
pub fn top_logprobs(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let total = logsumexp(logits);
    best_first(logits, k).into_iter().map(|id| (id, f64::from(logits[id as usize]) - total)).collect()
}

/// The ids of the `k` largest logits, best first, the lower id first among equals.
pub(super) fn best_first(logits: &[f32], k: usize) -> Vec<u32> {
    let order =
        |a: &u32, b: &u32| -> Ordering { logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)) };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if k == 0 {
        return Vec::new();
    }
    if k < ids.len() {
        ids.select_nth_unstable_by(k - 1, order);
        ids.truncate(k);
    }
    ids.sort_unstable_by(order);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_go_to_the_lower_id_and_nan_has_no_best() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
        assert_eq!(argmax(&[-1.0]), Some(0));
        assert_eq!(argmax(&[]), None);
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[f32::NAN, 1.0]), None);
    }

    #[test]
    fn top_is_ordered_and_normalised() {
        let logits = [0.5f32, 2.0, -1.0, 2.0, 100.0 - 98.5];
        let top = top_logprobs(&logits, 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 4]);
        let all: f64 = top_logprobs(&logits, 9).iter().map(|t| t.1.exp()).sum();
        assert!((all - 1.0).abs() < 1e-12);
        assert!(top_logprobs(&logits, 0).is_empty());
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert!((logsumexp(&[1e4, 1e4]) - (1e4 + 2f64.ln())).abs() < 1e-9);
    }
}
