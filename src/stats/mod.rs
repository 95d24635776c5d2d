//! Numbers about numbers: token mismatches, tensor statistics, noise, perplexity, divergence.
//!
//! Sums are f64 and run in element order, so that equal inputs give equal results to the last bit.

mod bootstrap;
mod columns;
mod dice;
mod divergence;
mod exponentials;
mod logits;
mod mcnemar;
mod proportion;
mod special;
mod sums;
mod tensor;
mod tokens;

pub use bootstrap::{Bounded, Cluster, FEWEST_CHUNKS, Resampling, SplitMix};
pub use columns::spared_columns;
pub use dice::Dice;
pub use divergence::{Estimate, Position, QUANTILES, Summary, TOP, quantile, shared};
pub use exponentials::{
    at_most, exponential, exponentials, largest, sum, sum_of_exponentials, weighted_excess,
};
pub use logits::{argmax, kl_divergence, log_softmax, logsumexp, top_ids, top_two_gap};
pub use mcnemar::{McNemar, mcnemar};
pub use proportion::{clopper_pearson, wilson};
pub use sums::{Differences, Sums, differences, largest_move, squares_around, sums};
pub use tensor::{Noise, Statistics};
pub use tokens::{count_mismatches, first_difference, loop_period};

/// `exp` of the mean negative natural-log probability; `None` for no tokens at all.
pub fn perplexity(log_probs: &[f64]) -> Option<f64> {
    if log_probs.is_empty() {
        return None;
    }
    Some((-log_probs.iter().sum::<f64>() / log_probs.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_of_a_uniform_guess_is_the_number_of_choices() {
        let p = perplexity(&[(1.0f64 / 50.0).ln(); 7]).unwrap();
        assert!((p - 50.0).abs() < 1e-9, "{p}");
        assert_eq!(perplexity(&[]), None);
    }
}
