//! `canary create` and `canary check`: what a model said, frozen, and held against it later.

use super::model::{self, ModelArgs};
use crate::inspect::canary::{self, Canary, Heard, Provenance};
use crate::{Error, Kind, Result, formats, inspect, runner};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

/// The two halves.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Freeze greedy generations with the log-probability of every token.
    Create(CreateArgs),
    /// Hold a canary against a model.
    Check(CheckArgs),
}

/// Arguments of `canary create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Prompt; may be given several times.
    #[arg(short, long = "prompt", value_name = "TEXT", required = true)]
    prompts: Vec<String>,
    /// Freeze at most N tokens of each prompt.
    #[arg(short = 'n', long, default_value_t = 32, value_name = "N")]
    max_tokens: usize,
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print the canary as well.
    #[arg(long)]
    json: bool,
}

/// Arguments of `canary check`.
#[derive(clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// File that `canary create` wrote.
    #[arg(long, value_name = "FILE")]
    canary: PathBuf,
    /// How far the log-probability of a frozen token may move.
    #[arg(long, default_value_t = 1e-3, value_name = "NATS")]
    tolerance: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    canary: String,
    /// What the canary was made with.
    provenance: Provenance,
    /// Whether the values of all tensors are still the same.
    weights_unchanged: bool,
    tolerance: f64,
    prompts: Vec<Heard>,
    passed: bool,
}

/// Creates or checks.
pub fn execute(command: &Command) -> Result<u8> {
    match command {
        Command::Create(args) => create(args),
        Command::Check(args) => check(args),
    }
}

fn create(args: &CreateArgs) -> Result<u8> {
    let path = &args.model.model;
    let checkpoint = formats::open(path)?;
    let opened = model::open(path, &args.model.engine)?;
    let prints = inspect::fingerprint(&inspect::view(&checkpoint)?, &|_| true)?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let family = &opened.loaded.config().family;
    let provenance = Provenance::of(&checkpoint, family, &prints, &args.model.engine.backend, &now);
    let made = canary::create(&opened.loaded, &opened.tokenizer, &args.prompts, args.max_tokens, provenance)?;
    let text = serde_json::to_string_pretty(&made)
        .map_err(|e| Error::new(Kind::Internal, "JSON output", e.to_string()))?;
    runner::write_atomically(&args.output, format!("{text}\n").as_bytes())?;
    if args.json {
        super::print_json(&made)?;
    } else {
        let tokens: usize = made.songs.iter().map(|song| song.tokens.len()).sum();
        let (file, n) = (args.output.display(), made.songs.len());
        super::print_text(&format!("{file}: {n} prompts, {tokens} tokens frozen\n"))?;
    }
    Ok(0)
}

/// Checks; exit code 1 where the model says something else.
fn check(args: &CheckArgs) -> Result<u8> {
    if args.tolerance.is_nan() || args.tolerance < 0.0 {
        return Err(Error::new(Kind::Usage, "--tolerance", "must be 0 or more"));
    }
    let canary = Canary::parse(&args.canary.display().to_string(), &model::read_text(&args.canary)?)?;
    let path = &args.model.model;
    let opened = model::open(path, &args.model.engine)?;
    let prints = inspect::fingerprint(&inspect::view(&formats::open(path)?)?, &|_| true)?;
    let prompts = canary::check(&opened.loaded, &opened.tokenizer, &canary)?;
    let output = Output {
        model: path.display().to_string(),
        canary: args.canary.display().to_string(),
        weights_unchanged: prints.model == canary.provenance.model_checksum,
        passed: prompts.iter().all(|heard| heard.holds(args.tolerance)),
        provenance: canary.provenance,
        tolerance: args.tolerance,
        prompts,
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.passed))
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for heard in &output.prompts {
        let word = if heard.holds(output.tolerance) { "ok   " } else { "WRONG" };
        let _ = writeln!(
            out,
            "{word} {:?}: {} of {} tokens differ, log-probabilities by at most {:.2e}",
            heard.prompt, heard.mismatches, heard.tokens, heard.max_logprob_diff
        );
        if !heard.prompt_ids_equal {
            let _ = writeln!(out, "      the prompt is tokenized differently");
        }
    }
    let weights = if output.weights_unchanged { "unchanged" } else { "not those of the canary" };
    let _ = writeln!(out, "weights {weights}; {} prompts", output.prompts.len());
    out
}
