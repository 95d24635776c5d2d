//! `perplexity MODEL --text-file F`: how well a model predicts a text.

use super::model::{self, ModelArgs};
use crate::{Result, infer};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `perplexity`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to score.
    #[arg(long, value_name = "FILE")]
    text_file: PathBuf,
    /// Chunks of this many tokens, of which the second half is scored (llama.cpp's rule); 0 scores every
    /// next token of the whole text in one context.
    #[arg(long, default_value_t = 512, value_name = "N")]
    ctx: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    dataset: String,
    backend: &'static str,
    ctx: usize,
    perplexity: f64,
    mean_nll: f64,
    tokens_scored: usize,
    eval_time_secs: f64,
}

/// Scores the text.
pub fn execute(args: &Args) -> Result<u8> {
    let text = model::read_text(&args.text_file)?;
    let opened = model::open(&args.model.model, &args.model.engine)?;
    let spec = opened.tokenizer.spec();
    let bos = if spec.add_bos { spec.bos } else { None };
    let start = Instant::now();
    let ids = opened.tokenizer.encode(&text, true)?;
    let scored = infer::perplexity(&opened.loaded, &ids, args.ctx, bos)?;
    if args.json {
        super::print_json(&Output {
            model: args.model.model.display().to_string(),
            dataset: args.text_file.display().to_string(),
            backend: opened.loaded.backend_name(),
            ctx: args.ctx,
            perplexity: scored.perplexity,
            mean_nll: scored.mean_nll,
            tokens_scored: scored.tokens_scored,
            eval_time_secs: start.elapsed().as_secs_f64(),
        })?;
    } else {
        super::print_text(&format!(
            "perplexity {:.4} (mean nll {:.6}) over {} tokens\n",
            scored.perplexity, scored.mean_nll, scored.tokens_scored
        ))?;
    }
    Ok(0)
}
