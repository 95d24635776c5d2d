//! A loaded model and its sessions: prefill, logits, generation, scoring.

use crate::models::{Model, ModelConfig};
use crate::{Error, Result};

/// How to run a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// A name of the backend table: `reference`, `cpu`.
    pub backend: String,
    /// Worker threads, at least 1; no result depends on it.
    pub threads: usize,
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
