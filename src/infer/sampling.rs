//! Choosing a token: greedy, or seeded with filters in the order penalty, temperature, top-k, top-p.
//!
//! Same logits and seed give the same tokens on every platform: the generator is SplitMix64 (Steele, Lea and
//! Flood 2014), probabilities are f64, and the exponential is our own.

use super::Sampling;
use crate::engine::MOST_BEST;
use crate::stats::{SplitMix, argmax, top_ids};
use crate::{Error, Kind, Result};
use std::collections::BTreeSet;

/// Chooses the tokens of one generation.
pub(super) struct Sampler {
    sampling: Sampling,
    seen: BTreeSet<u32>,
    random: SplitMix,
}

impl Sampler {
    /// # Errors
    /// [`Kind::Usage`] for a value out of its range.
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Sampler> {
        let seed = match *sampling {
            Sampling::Greedy => 0,
            Sampling::Random { repeat_penalty, temperature, top_k: _, top_p, seed } => {
                in_range("temperature", temperature, temperature > 0.0, "above 0; 0 would be greedy")?;
                in_range("repeat_penalty", repeat_penalty, repeat_penalty > 0.0, "above 0; 1 is off")?;
                in_range("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1; 1 is off")?;
                seed
            }
        };
        Ok(Sampler {
            sampling: sampling.clone(),
            seen: prompt.iter().copied().collect(),
            random: SplitMix(seed),
        })
    }

    /// The next token. `logits` is `[vocab]`, not empty, without NaN.
    pub(super) fn choose(&mut self, logits: &[f32]) -> u32 {
        let id = match self.sampling {
            Sampling::Greedy => argmax(logits).expect("the caller refuses NaN and a vocabulary is not empty"),
            Sampling::Random { repeat_penalty, temperature, top_k, top_p, seed: _ } => {
                let mut logits = logits.to_vec();
                for &id in &self.seen {
                    let logit = &mut logits[id as usize];
                    *logit = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
                }
                let ids = top_ids(&logits, if top_k == 0 { logits.len() } else { top_k });
                let candidates: Vec<(u32, f32)> =
                    ids.into_iter().map(|id| (id, logits[id as usize])).collect();
                draw(&candidates, temperature, top_p, self.random.unit())
            }
        };
        self.seen.insert(id);
        id
    }

    /// How many of the best logits are all that a choice looks at; none where it looks at others, too.
    pub(super) fn needs_best(&self) -> Option<usize> {
        match self.sampling {
            Sampling::Random { repeat_penalty: 1.0, top_k, .. } if (1..=MOST_BEST).contains(&top_k) => {
                Some(top_k)
            }
            Sampling::Greedy | Sampling::Random { .. } => None,
        }
    }

    /// The next token, as [`Sampler::choose`] gives it, of the best logits that [`Sampler::needs_best`] asks for.
    pub(super) fn choose_among(&mut self, best: &[(u32, f32)]) -> u32 {
        let id = match self.sampling {
            Sampling::Greedy => best[0].0,
            Sampling::Random { temperature, top_p, .. } => draw(best, temperature, top_p, self.random.unit()),
        };
        self.seen.insert(id);
        id
    }
}

/// Draws among `candidates` (best first): cuts after the smallest prefix whose mass reaches `top_p`, then takes
/// the first whose cumulative mass exceeds `unit` times the mass that is left.
fn draw(candidates: &[(u32, f32)], temperature: f32, top_p: f32, unit: f64) -> u32 {
    let best = f64::from(candidates[0].1);
    let weight = |(_, logit): &(u32, f32)| match f64::from(*logit) - best {
        // Infinite logits: equal ones share the mass, all others have none.
        d if d.is_nan() => 1.0,
        d => exp(d / f64::from(temperature)),
    };
    let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    if top_p < 1.0 {
        let mut mass = 0.0;
        let enough = |w: &f64| {
            mass += w;
            mass >= f64::from(top_p) * total
        };
        let kept = weights.iter().position(enough).map_or(weights.len(), |last| last + 1);
        weights.truncate(kept);
    }
    let aim = unit * weights.iter().sum::<f64>();
    let mut mass = 0.0;
    let past = |w: &f64| {
        mass += w;
        mass > aim
    };
    candidates[weights.iter().position(past).unwrap_or(weights.len() - 1)].0
}

fn in_range(name: &str, value: f32, ok: bool, range: &str) -> Result<()> {
    if ok && value.is_finite() {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, name, format!("{value} is out of range"))
        .hint(format!("use a value {range}")))
}

/// `x <= 0` to within an ulp or two: `2^n exp(r)` with `|r| <= ln 2 / 2`, its Taylor sum to the 13th power in Horner
/// form. Plain products and sums only, so every platform rounds alike.
fn exp(x: f64) -> f64 {
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    if x < -708.0 {
        return 0.0;
    }
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let sum = (1..=13).rev().fold(1.0, |sum, i| 1.0 + sum * r / f64::from(i));
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampling {
        Sampling::Random { repeat_penalty: 1.0, temperature, top_k, top_p, seed }
    }

    fn counts(sampling: &Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling, &[]).expect("valid sampling");
        let mut counts = vec![0; logits.len()];
        (0..draws).for_each(|_| counts[sampler.choose(logits) as usize] += 1);
        counts
    }

    #[test]
    fn generator_matches_its_published_sequence() {
        let mut random = SplitMix(1234567);
        assert_eq!([random.bits(), random.bits()], [6457827717110365317, 3203168211198807973]);
    }

    #[test]
    fn exponential_is_accurate() {
        for i in 0..7000 {
            let x = -f64::from(i) / 10.0;
            assert!((exp(x) - x.exp()).abs() <= 4e-16 * x.exp(), "exp({x})");
        }
        assert_eq!((exp(0.0), exp(-1e4), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0, 1.0, 2.0, -1.0].map(|x: f32| x);
        let (draws, total) = (20_000, logits.iter().map(|l| l.exp()).sum::<f32>());
        for (count, logit) in counts(&random(1.0, 0, 1.0, 7), &logits, draws).iter().zip(logits) {
            let expected = logit.exp() / total * draws as f32;
            // Five standard deviations of a binomial.
            assert!((*count as f32 - expected).abs() < 5.0 * expected.sqrt(), "{count} against {expected}");
        }
    }

    #[test]
    fn filters_cut_what_they_say() {
        let logits = [0.0, 3.0, 2.0, 2.0];
        assert_eq!(counts(&random(1.0, 1, 1.0, 1), &logits, 50), [0, 50, 0, 0]);
        let two = counts(&random(1.0, 2, 1.0, 1), &logits, 500);
        assert!(two[1] > 0 && two[2] > 0 && two[0] == 0 && two[3] == 0, "ties go to the lower id: {two:?}");
        assert_eq!(counts(&random(1.0, 0, 0.3, 1), &logits, 50), [0, 50, 0, 0]);
        assert_eq!(counts(&random(0.01, 0, 1.0, 1), &logits, 50), [0, 50, 0, 0]);
    }

    #[test]
    fn same_seed_same_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.77).sin()).collect();
        let run = |seed| {
            let mut s = Sampler::new(&random(0.8, 40, 0.95, seed), &[1, 2]).expect("valid sampling");
            (0..20).map(|_| s.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn penalty_lowers_what_was_seen() {
        let sampling =
            Sampling::Random { repeat_penalty: 1e6, temperature: 1.0, top_k: 0, top_p: 1.0, seed: 3 };
        let mut sampler = Sampler::new(&sampling, &[1]).expect("valid sampling");
        // Positive logits are divided, negative ones multiplied: each seen id falls behind.
        let order: Vec<u32> = (0..2).map(|_| sampler.choose(&[30.0, 60.0, -1.0])).collect();
        assert_eq!(order[0], 0);
        let mut negative = Sampler::new(&sampling, &[0]).expect("valid sampling");
        assert_eq!(negative.choose(&[-1.0, -50.0]), 1);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [
            random(0.0, 0, 1.0, 0),
            random(f32::NAN, 0, 1.0, 0),
            random(1.0, 0, 0.0, 0),
            random(1.0, 0, 1.1, 0),
        ] {
            assert_eq!(Sampler::new(&bad, &[]).err().map(|e| e.kind), Some(Kind::Usage), "{bad:?}");
        }
    }
}
