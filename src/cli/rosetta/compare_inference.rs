//! `rosetta compare-inference A B`: do two models say the same?

use super::super::model::{self, EngineArgs, Opened};
use crate::infer::{self, GenerateOptions, Sampling};
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Arguments of `rosetta compare-inference`.
#[derive(clap::Args)]
pub struct Args {
    /// The original.
    model_a: PathBuf,
    /// The conversion.
    model_b: PathBuf,
    /// Prompt for both.
    #[arg(long, default_value = "2+2=", value_name = "TEXT")]
    prompt: String,
    /// Tokens to generate, greedily.
    #[arg(long, default_value_t = 5, value_name = "N")]
    max_tokens: usize,
    /// Share of tokens that may differ.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    tolerance: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Output {
    model_a: String,
    model_b: String,
    prompt: String,
    prompt_tokens_equal: bool,
    total_tokens: usize,
    mismatches: usize,
    match_rate: f64,
    /// Position of the first generated token that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_mismatch: Option<usize>,
    text_a: String,
    text_b: String,
    tokens_a: Vec<u32>,
    tokens_b: Vec<u32>,
    /// Largest difference of the log-probabilities of A's tokens, both models fed A's tokens.
    max_logprob_diff: f64,
    passed: bool,
}

/// Compares; exit code 1 where more differs than is allowed.
pub fn execute(args: &Args) -> Result<u8> {
    if !(0.0..=1.0).contains(&args.tolerance) {
        return Err(Error::new(Kind::Usage, "--tolerance", "must lie between 0 and 1"));
    }
    let a = model::open(&args.model_a, &args.engine)?;
    let b = model::open(&args.model_b, &args.engine)?;
    let (prompt_a, prompt_b) =
        (a.tokenizer.encode(&args.prompt, true)?, b.tokenizer.encode(&args.prompt, true)?);
    let tokens_a = greedy(&a, &prompt_a, args.max_tokens)?;
    let tokens_b = greedy(&b, &prompt_b, args.max_tokens)?;
    let total = tokens_a.len().max(tokens_b.len());
    if total == 0 {
        return Err(Error::new(
            Kind::Internal,
            "compare-inference",
            "neither model generated a token: nothing was compared",
        ));
    }
    let mismatches = crate::stats::count_mismatches(&tokens_a, &tokens_b);
    let match_rate = 1.0 - mismatches as f64 / total as f64;
    let prompt_tokens_equal = prompt_a == prompt_b;
    let output = Output {
        model_a: args.model_a.display().to_string(),
        model_b: args.model_b.display().to_string(),
        prompt: args.prompt.clone(),
        prompt_tokens_equal,
        total_tokens: total,
        mismatches,
        match_rate,
        first_mismatch: crate::stats::first_difference(&tokens_a, &tokens_b),
        text_a: a.tokenizer.decode(&tokens_a, true),
        text_b: b.tokenizer.decode(&tokens_b, true),
        max_logprob_diff: max_logprob_diff(&a, &b, &prompt_a, &tokens_a)?,
        tokens_a,
        tokens_b,
        passed: prompt_tokens_equal && 1.0 - match_rate <= args.tolerance,
    };
    if args.json {
        super::super::print_json(&output)?;
    } else {
        super::super::print_text(&format!(
            "{} of {} tokens differ{}; largest log-probability difference {:.3e}\nA: {:?}\nB: {:?}\n",
            output.mismatches,
            output.total_tokens,
            if prompt_tokens_equal { "" } else { ", and the prompts are tokenized differently" },
            output.max_logprob_diff,
            output.text_a,
            output.text_b
        ))?;
    }
    Ok(u8::from(!output.passed))
}

fn greedy(opened: &Opened, prompt: &[u32], max_tokens: usize) -> Result<Vec<u32>> {
    let options = GenerateOptions {
        max_tokens,
        stop: opened.tokenizer.stop_ids(),
        sampling: Sampling::Greedy,
        logprobs: 0,
    };
    Ok(infer::generate(&opened.loaded, prompt, &options, &mut |_| ControlFlow::Continue(()))?.tokens)
}

fn max_logprob_diff(a: &Opened, b: &Opened, prompt: &[u32], tokens: &[u32]) -> Result<f64> {
    let ids: Vec<u32> = prompt.iter().chain(tokens).copied().collect();
    let (score_a, score_b) = (infer::score(&a.loaded, &ids)?, infer::score(&b.loaded, &ids)?);
    Ok(score_a.iter().zip(&score_b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max))
}
