//! What a row of logits says beside its best id and its log-sum-exp: the best few, in order.

use crate::stats::{logsumexp, top_ids};

/// The `k` best ids with their natural-log probabilities, best first, the lower id first among equals.
pub fn top_logprobs(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let total = logsumexp(logits);
    top_ids(logits, k).into_iter().map(|id| (id, f64::from(logits[id as usize]) - total)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_is_ordered_and_normalised() {
        let logits = [0.5f32, 2.0, -1.0, 2.0, 100.0 - 98.5];
        let top = top_logprobs(&logits, 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 4]);
        let all: f64 = top_logprobs(&logits, 9).iter().map(|t| t.1.exp()).sum();
        assert!((all - 1.0).abs() < 1e-12);
        assert!(top_logprobs(&logits, 0).is_empty());
    }
}
