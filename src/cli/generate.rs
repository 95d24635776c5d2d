//! `generate MODEL -p TEXT`: text from a model, streamed, or the whole result as JSON.

use super::model::{self, EngineArgs, Opened};
use crate::infer::{self, GenerateOptions, Generation, Sampling, StopReason};
use crate::tokenizer::ChatMessage;
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `generate`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Prompt.
    #[arg(
        short,
        long,
        value_name = "TEXT",
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file"
    )]
    prompt: Option<String>,
    /// File that holds the prompt, taken as it is.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Generate at most N tokens.
    #[arg(short = 'n', long, default_value_t = 32, value_name = "N")]
    max_tokens: usize,
    /// 0 is greedy; above 0 the distribution is sampled.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f32,
    /// Sample among the K most likely tokens; 0 is off.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Sample among the smallest set of tokens that holds this probability; 1 is off.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f32,
    /// Penalty on tokens seen so far; 1 is off. Applies when sampling.
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    repeat_penalty: f32,
    /// Seed of the sampler: same seed, same tokens.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Wrap the prompt in the model's chat template, as one user message.
    #[arg(long)]
    chat: bool,
    /// Add the K most likely tokens of every step with their natural-log probabilities (with --json).
    #[arg(long, default_value_t = 0, value_name = "K", requires = "json")]
    logprobs: usize,
    /// Print one JSON object instead of streaming the text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Output<'a> {
    model: String,
    backend: &'a str,
    text: String,
    tokens: &'a [u32],
    tokens_generated: usize,
    prompt_tokens: &'a [u32],
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Step>>,
    max_tokens: usize,
    tok_per_sec: f64,
    inference_time_ms: f64,
}

#[derive(Serialize)]
struct Step {
    token: u32,
    logsumexp: f64,
    top: Vec<(u32, f64)>,
}

/// Generates.
pub fn execute(args: &Args) -> Result<u8> {
    let sampling = sampling(args)?;
    let opened = model::open(&args.model, &args.engine)?;
    let prompt = prompt_ids(args, &opened)?;
    let options = GenerateOptions {
        max_tokens: args.max_tokens,
        stop: opened.tokenizer.stop_ids(),
        sampling,
        logprobs: args.logprobs,
    };
    let start = Instant::now();
    if args.json {
        let made = infer::generate(&opened.loaded, &prompt, &options, &mut |_| ControlFlow::Continue(()))?;
        print_result(args, &opened, &prompt, &made, start.elapsed().as_secs_f64())?;
    } else {
        stream(&opened, &prompt, &options)?;
    }
    Ok(0)
}

fn sampling(args: &Args) -> Result<Sampling> {
    let wrong = |what: &str| Err(Error::new(Kind::Usage, "generate", what));
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        return wrong("--temperature must be a number of at least 0");
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return wrong("--top-p must lie above 0 and not above 1");
    }
    if !(args.repeat_penalty.is_finite() && args.repeat_penalty > 0.0) {
        return wrong("--repeat-penalty must be above 0");
    }
    if args.temperature == 0.0 {
        if args.top_k != 0 || args.top_p != 1.0 || args.repeat_penalty != 1.0 {
            return wrong(
                "--top-k, --top-p and --repeat-penalty apply to sampling: give --temperature above 0 too",
            );
        }
        return Ok(Sampling::Greedy);
    }
    Ok(Sampling::Random {
        repeat_penalty: args.repeat_penalty,
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        seed: args.seed,
    })
}

fn prompt_ids(args: &Args, opened: &Opened) -> Result<Vec<u32>> {
    let text = match (&args.prompt, &args.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => model::read_text(file)?,
        (None, None) => {
            return Err(Error::new(Kind::Usage, "generate", "no prompt").hint("give --prompt TEXT"));
        }
    };
    if !args.chat {
        return opened.tokenizer.encode(&text, true);
    }
    let message = ChatMessage { role: "user".to_owned(), content: text };
    let chat = opened.tokenizer.render_chat(&[message], true)?;
    // The template writes the begin token itself.
    opened.tokenizer.encode(&chat, false)
}

fn stream(opened: &Opened, prompt: &[u32], options: &GenerateOptions) -> Result<()> {
    let mut decoder = opened.tokenizer.stream(true);
    let mut failed = None;
    infer::generate(&opened.loaded, prompt, options, &mut |id| {
        let printed = decoder.push(id).map_or(Ok(()), |piece| super::print_text(&piece));
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => super::print_text(&format!("{}\n", decoder.finish().unwrap_or_default())),
    }
}

fn print_result(args: &Args, opened: &Opened, prompt: &[u32], made: &Generation, seconds: f64) -> Result<()> {
    let logprobs = (args.logprobs > 0).then(|| {
        let step = |(s, &token): (&infer::StepLogprobs, &u32)| Step {
            token,
            logsumexp: s.logsumexp,
            top: s.top.clone(),
        };
        made.steps.iter().zip(&made.tokens).map(step).collect()
    });
    super::print_json(&Output {
        model: args.model.display().to_string(),
        backend: opened.loaded.backend_name(),
        text: opened.tokenizer.decode(&made.tokens, true),
        tokens: &made.tokens,
        tokens_generated: made.tokens.len(),
        prompt_tokens: prompt,
        finish_reason: match made.stop {
            StopReason::Eos => "stop",
            StopReason::Length => "length",
            StopReason::Context => "context",
        },
        logprobs,
        max_tokens: args.max_tokens,
        tok_per_sec: (made.tokens.len() as f64 / seconds * 10.0).round() / 10.0,
        inference_time_ms: (seconds * 1e6).round() / 1e3,
    })
}
