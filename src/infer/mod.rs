//! A loaded model and its sessions: prefill, logits, generation, scoring.
//!
//! No result depends on how the tokens were fed: one prefill, pieces of it, or token by token give the same bits.

mod distribution;
mod distributions;
mod generate;
mod importance;
pub mod lockstep;
mod passed;
mod sampling;
mod score;
mod session;
pub mod speed;

pub use crate::engine::Want;
pub use crate::stats::{argmax, logsumexp};
pub use distribution::top_logprobs;
pub use distributions::{
    Feeding, Row, Scoring, chunks_of, diverge, diverge_and_keep, diverge_fully, each_row, keep,
};
pub use generate::{generate, generate_many};
pub use importance::importance;
pub use passed::Passed;
pub use score::{Perplexity, perplexity, perplexity_with, score, score_many};
pub use session::{Feed, LoadedModel, Session};

/// How to run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// A name of the backend table: `reference`, `cpu`.
    pub backend: String,
    /// Worker threads, at least 1; no result depends on it.
    pub threads: usize,
    /// The adapter of a GPU backend, as [`choose_device`](crate::engine::choose_device) reads it; none for the best.
    pub adapter: Option<String>,
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// At most so many tokens.
    pub max_tokens: usize,
    /// Ids after which generation ends (the end token is part of the result).
    pub stop: Vec<u32>,
    /// How to choose.
    pub sampling: Sampling,
    /// How many top log-probabilities to keep of every step; 0 keeps none.
    pub logprobs: usize,
}

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// The largest logit; the lowest id among equals.
    Greedy,
    /// Seeded; the filters apply in the order of these fields.
    Random {
        /// Divides positive and multiplies negative logits of tokens seen so far; 1 is off.
        repeat_penalty: f32,
        /// Above 0.
        temperature: f32,
        /// Keep the best k; 0 is off.
        top_k: usize,
        /// Keep the smallest set with at least this mass; 1 is off.
        top_p: f32,
        /// Same seed, same tokens.
        seed: u64,
    },
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Generated ids only, the end token included if it came.
    pub tokens: Vec<u32>,
    /// Per generated token, where asked for.
    pub steps: Vec<StepLogprobs>,
    /// Why it ended.
    pub stop: StopReason,
}

/// The distribution one token was chosen from.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLogprobs {
    /// Log-sum-exp of the raw logits.
    pub logsumexp: f64,
    /// Ids with natural-log probabilities, best first.
    pub top: Vec<(u32, f64)>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// An end token.
    Eos,
    /// `max_tokens`.
    Length,
    /// The model's context is full.
    Context,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::engine::random_model::{Random, config, model};
    use crate::tensor::DType;
    use std::ops::ControlFlow;

    fn load(family: &str) -> LoadedModel {
        let options = EngineOptions { backend: "reference".into(), threads: 1, adapter: None };
        LoadedModel::load(&model(&config(family), DType::F32, 5), &options).expect("a whole model")
    }

    fn greedy(max_tokens: usize) -> GenerateOptions {
        GenerateOptions { max_tokens, stop: vec![], sampling: Sampling::Greedy, logprobs: 3 }
    }

    fn run(model: &LoadedModel, prompt: &[u32], options: &GenerateOptions) -> Generation {
        generate(model, prompt, options, &mut |_| ControlFlow::Continue(())).expect("a valid prompt")
    }

    #[test]
    fn prompts_do_not_influence_each_other() {
        let model = load("llama");
        let (a, b) = (Random(1).ids(9, 131), Random(2).ids(5, 131));
        let first = run(&model, &a, &greedy(6));
        run(&model, &b, &greedy(6));
        assert_eq!(run(&model, &a, &greedy(6)), first);
        let mut session = model.session();
        let fresh = session.prefill(&a).expect("valid");
        session.prefill(&b).expect("valid");
        session.reset();
        assert_eq!((session.position(), session.prefill(&a).expect("valid")), (0, fresh));
    }

    #[test]
    fn generation_ends_for_its_reason_and_reports_every_step() {
        let model = load("qwen2");
        let prompt = Random(3).ids(4, 131);
        let free = run(&model, &prompt, &greedy(5));
        assert_eq!((free.tokens.len(), free.steps.len(), free.stop), (5, 5, StopReason::Length));
        assert!(free.steps.iter().zip(&free.tokens).all(|(s, t)| s.top[0].0 == *t && s.top.len() == 3));

        let stop = GenerateOptions { stop: vec![free.tokens[2]], ..greedy(5) };
        let stopped = run(&model, &prompt, &stop);
        let end = free.tokens.iter().position(|t| *t == free.tokens[2]).expect("it is there");
        assert_eq!((stopped.tokens, stopped.stop), (free.tokens[..=end].to_vec(), StopReason::Eos));

        let mut seen = Vec::new();
        let broken = generate(&model, &prompt, &greedy(5), &mut |t| {
            seen.push(t);
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(broken.expect("valid").tokens, seen);
        assert!(run(&model, &prompt, &greedy(0)).tokens.is_empty());
    }

    #[test]
    fn a_full_context_ends_generation_and_refuses_a_longer_prompt() {
        let mut small = config("llama");
        small.max_positions = 6;
        let options = EngineOptions { backend: "reference".into(), threads: 1, adapter: None };
        let model = LoadedModel::load(&model(&small, DType::F32, 5), &options).expect("a whole model");
        let full = run(&model, &[1, 2, 3, 4], &greedy(50));
        // Six positions hold the prompt and two tokens; the third is chosen and never appended.
        assert_eq!((full.tokens.len(), full.stop), (3, StopReason::Context));
        let error = model.session().prefill(&[1; 7]).expect_err("too long");
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.to_string().contains("context of 6"), "{error}");
    }

    #[test]
    fn bad_prompts_are_refused() {
        let model = load("gpt2");
        let options = greedy(3);
        let mut quiet = |_| ControlFlow::Continue(());
        for (prompt, needle) in [(vec![], "no tokens"), (vec![5, 131], "token id 131")] {
            let error = generate(&model, &prompt, &options, &mut quiet).expect_err("bad prompt");
            assert!(error.kind == Kind::Usage && error.to_string().contains(needle), "{error}");
        }
    }

    #[test]
    fn nan_logits_name_the_step() {
        let mut broken = model(&config("llama"), DType::F32, 5);
        let weight = broken.weights.get_mut("output.weight").expect("untied");
        let mut bytes = weight.tensor.bytes.to_vec();
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        weight.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
        let options = EngineOptions { backend: "reference".into(), threads: 1, adapter: None };
        let broken = LoadedModel::load(&broken, &options).expect("shapes are whole");
        let error = generate(&broken, &[1], &greedy(2), &mut |_| ControlFlow::Continue(())).expect_err("NaN");
        assert_eq!((error.kind, error.at.as_deref()), (Kind::NonFinite, Some("step 0")));
        assert_eq!(score(&broken, &[1, 2]).expect_err("NaN").kind, Kind::NonFinite);
    }

    #[test]
    fn scores_are_log_probabilities_of_the_next_token() {
        let model = load("llama");
        let ids = Random(8).ids(90, 131);
        let scores = score(&model, &ids).expect("fits");
        assert_eq!(scores.len(), 89);
        let logits = model.session().logits_all(&ids).expect("fits");
        for at in [1usize, 63, 64, 65, 89] {
            let row = &logits[(at - 1) * 131..at * 131];
            let all: f64 = row.iter().map(|l| f64::from(*l).exp()).sum();
            assert!((scores[at - 1] - (f64::from(row[ids[at] as usize]).exp() / all).ln()).abs() < 1e-9);
        }
    }

    #[test]
    fn texts_scored_together_score_as_alone() {
        let model = load("llama");
        let texts: Vec<Vec<u32>> = (0..20).map(|i| Random(i).ids(2 + 7 * i as usize % 90, 131)).collect();
        let begun = |prefix: usize| -> Vec<Vec<u32>> {
            texts.iter().map(|t| [&Random(99).ids(prefix, 131)[..], t].concat()).collect()
        };
        // Without a prefix; with one; with one that is a whole text but its last token; one text twice.
        let cases = [texts.clone(), begun(1), begun(70), vec![texts[3].clone(), texts[3].clone()]];
        for texts in &cases {
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let found = score_many(&model, &texts).expect("fits");
            let alone: Vec<Vec<f64>> = texts.iter().map(|ids| score(&model, ids).expect("fits")).collect();
            assert_eq!(found, alone);
        }
        assert!(score_many(&model, &[]).expect("nothing").is_empty());
        assert_eq!(score_many(&model, &[&[1, 2], &[1]]).expect_err("one token").kind, Kind::Usage);
    }

    #[test]
    fn prompts_continued_side_by_side_are_continued_as_alone() {
        let model = load("qwen2");
        let free = run(&model, &Random(3).ids(4, 131), &greedy(8));
        let random =
            Sampling::Random { repeat_penalty: 1.1, temperature: 0.8, top_k: 9, top_p: 0.9, seed: 5 };
        for options in [
            greedy(8),
            GenerateOptions { stop: free.tokens[2..4].to_vec(), ..greedy(8) },
            GenerateOptions { sampling: random, logprobs: 0, ..greedy(8) },
            greedy(0),
        ] {
            for prefix in [0, 30] {
                let prompts: Vec<Vec<u32>> = (0..18)
                    .map(|i| [Random(99).ids(prefix, 131), Random(i).ids(1 + i as usize % 5, 131)].concat())
                    .chain([[Random(99).ids(prefix, 131), Random(3).ids(4, 131)].concat()])
                    .collect();
                let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
                let found = generate_many(&model, &prompts, &options);
                for (prompt, found) in prompts.iter().zip(found) {
                    assert_eq!(found.expect("valid"), run(&model, prompt, &options));
                }
            }
        }
        let found = generate_many(&model, &[&[1, 2], &[], &[131], &[7]], &greedy(3));
        let kinds: Vec<Option<Kind>> = found.iter().map(|f| f.as_ref().err().map(|e| e.kind)).collect();
        assert_eq!(kinds, [None, Some(Kind::Usage), Some(Kind::Usage), None]);
        assert_eq!(found[3].as_ref().expect("valid"), &run(&model, &[7], &greedy(3)));
    }

    #[test]
    fn perplexity_scores_second_halves_of_whole_chunks() {
        let model = load("llama");
        let ids = Random(8).ids(45, 131);
        let found = perplexity(&model, &ids, 20, Some(7)).expect("long enough");
        let mut expected = Vec::new();
        for chunk in [&ids[..20], &ids[20..40]] {
            let mut chunk = chunk.to_vec();
            chunk[0] = 7;
            expected.extend_from_slice(&score(&model, &chunk).expect("fits")[10..]);
        }
        let mean = -expected.iter().sum::<f64>() / expected.len() as f64;
        assert_eq!((found.tokens_scored, found.mean_nll, found.perplexity), (18, mean, mean.exp()));

        let whole = perplexity(&model, &ids, 0, Some(7)).expect("fits");
        assert_eq!(whole.tokens_scored, 44);

        let short = perplexity(&model, &ids, 30, None).expect_err("two chunks are needed");
        assert!(short.to_string().contains("at least 60 tokens, the text has 45"), "{short}");
        assert!(perplexity(&model, &Random(8).ids(401, 131), 0, None).is_err());
    }
}
