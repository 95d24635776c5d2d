//! `imatrix MODEL --text-file F -o OUT`: which columns of every weight a text uses most.

use super::model::{self, ModelArgs};
use crate::formats::imatrix;
use crate::{Result, infer};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `imatrix`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Text to run the model on: like what it will be used for.
    #[arg(long, value_name = "FILE")]
    text_file: PathBuf,
    /// Where to write the importance matrix, a GGUF as llama-imatrix writes it.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Tokens in a chunk; every chunk is a context of its own.
    #[arg(long, default_value_t = 512, value_name = "N")]
    ctx: usize,
    /// At most so many chunks; default: the whole text.
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    dataset: String,
    output: String,
    backend: &'static str,
    entries: usize,
    chunks: u32,
    ctx: usize,
    time_secs: f64,
}

/// Collects and writes.
pub fn execute(args: &Args) -> Result<u8> {
    let text = model::read_text(&args.text_file)?;
    let opened = model::open(&args.model.model, &args.model.engine)?;
    let spec = opened.tokenizer.spec();
    let bos = if spec.add_bos { spec.bos } else { None };
    let start = Instant::now();
    let mut ids = opened.tokenizer.encode(&text, true)?;
    if let Some(chunks) = args.chunks {
        ids.truncate(chunks.saturating_mul(args.ctx));
    }
    let dataset = args.text_file.display().to_string();
    let matrix = infer::importance(&opened.loaded, &ids, args.ctx, bos, &dataset)?;
    imatrix::write(&args.output, &matrix)?;
    let output = Output {
        model: args.model.model.display().to_string(),
        dataset,
        output: args.output.display().to_string(),
        backend: opened.loaded.backend_name(),
        entries: matrix.entries.len(),
        chunks: matrix.chunk_count,
        ctx: args.ctx,
        time_secs: start.elapsed().as_secs_f64(),
    };
    match args.json {
        true => super::print_json(&output)?,
        false => super::print_text(&format!(
            "{}: {} weights over {} chunks of {} tokens\n",
            output.output, output.entries, output.chunks, output.ctx
        ))?,
    }
    Ok(0)
}
