//! `perplexity MODEL --text-file F`: how well a model predicts a text, and how far it is from another model on it.

use super::model::{self, EngineArgs, ModelArgs};
use crate::infer::{Feeding, Scoring};
use crate::stats::{Estimate, QUANTILES, Summary};
use crate::{Error, Kind, Result, infer};
use serde::Serialize;
use serde_json::{Value, json};
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
    /// Also run this model, and say how the distributions of MODEL diverge from its: the figures of
    /// llama-perplexity --kl-divergence, over the whole vocabulary.
    #[arg(long, value_name = "REFERENCE")]
    against: Option<PathBuf>,
    /// With --against: the backend that runs REFERENCE; default: that of MODEL.
    #[arg(long, requires = "against", value_name = "NAME")]
    against_backend: Option<String>,
    /// With --against: score at most so many chunks.
    #[arg(long, requires = "against", value_name = "N")]
    chunks: Option<usize>,
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
    if let Some(reference) = &args.against {
        let ids = opened.tokenizer.encode(&text, true)?;
        return against(args, &opened, reference, &ids, bos);
    }
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

/// Scores the text with both models.
fn against(
    args: &Args,
    opened: &model::Opened,
    reference: &std::path::Path,
    ids: &[u32],
    bos: Option<u32>,
) -> Result<u8> {
    let engine = &args.model.engine;
    let backend = args.against_backend.as_ref().unwrap_or(&engine.backend).clone();
    let base = model::open(reference, &EngineArgs { backend, ..engine.clone() })?;
    let ids = infer::chunks_of(ids, args.ctx, args.chunks.unwrap_or(usize::MAX), bos)?;
    let threads = model::options(&args.model.engine).threads;
    let (ctx, feeding) = (args.ctx, Feeding::default());
    let scoring =
        Scoring { ids: &ids, ctx, rows: usize::MAX, feeding, threads, until: None, from: None, into: None };
    let start = Instant::now();
    let positions = infer::diverge_fully(&base.loaded, &opened.loaded, &scoring)?;
    let nothing = || Error::new(Kind::Usage, "text", "no position was scored").hint("use a longer text");
    let summary = Summary::of(&positions).ok_or_else(nothing)?;
    if args.json {
        let quantiles = |values: &[f64]| -> Value {
            QUANTILES
                .iter()
                .zip(values)
                .map(|(share, value)| (share.to_string(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let of = |e: &Estimate| json!({ "value": e.value, "uncertainty": e.uncertainty });
        super::print_json(&json!({
            "model": args.model.model.display().to_string(),
            "reference": reference.display().to_string(),
            "dataset": args.text_file.display().to_string(),
            "backend": opened.loaded.backend_name(),
            "backend_reference": base.loaded.backend_name(),
            "ctx": args.ctx,
            "chunks": ids.len() / args.ctx,
            "tokens_scored": summary.n,
            "perplexity": of(&summary.perplexity),
            "perplexity_reference": of(&summary.perplexity_base),
            "ln_perplexity_ratio": of(&summary.ln_ratio),
            "perplexity_ratio": of(&summary.ratio),
            "kl": of(&summary.kl),
            "kl_quantiles": quantiles(&summary.kl_quantiles),
            "delta_p": of(&summary.delta_p),
            "delta_p_rms": of(&summary.delta_p_rms),
            "delta_p_quantiles": quantiles(&summary.delta_p_quantiles),
            "same_top": of(&summary.same_top),
            "top_10_shared": summary.top_shared,
            "eval_time_secs": start.elapsed().as_secs_f64(),
        }))?;
    } else {
        let row = |what: &str, e: &Estimate| format!("{what:<22} {:>12.6} ± {:.6}\n", e.value, e.uncertainty);
        super::print_text(
            &[
                row("perplexity", &summary.perplexity),
                row("perplexity, reference", &summary.perplexity_base),
                row("perplexity ratio", &summary.ratio),
                row("KL divergence (nats)", &summary.kl),
                row("delta p", &summary.delta_p),
                row("delta p, RMS", &summary.delta_p_rms),
                row("same top-1", &summary.same_top),
                format!("over {} tokens in {} chunks\n", summary.n, ids.len() / args.ctx),
            ]
            .concat(),
        )?;
    }
    Ok(0)
}
