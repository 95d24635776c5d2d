//! `rosetta chain SRC --formats apr,gguf,apr`: there and back, and is it still the same model?

use super::verify;
use crate::formats::FormatKind;
use crate::inspect::{self, Link, Verification};
use crate::{Error, Kind, Result, formats};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `rosetta chain`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    source: PathBuf,
    /// Formats to go through, in order.
    #[arg(long, value_name = "FORMAT,…", value_delimiter = ',', required = true)]
    formats: Vec<Format>,
    /// Folder to keep the files in; without it they are removed again.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Apr,
    Gguf,
    #[value(alias = "hf")]
    Safetensors,
}

#[derive(Serialize)]
struct Output {
    source: String,
    chain: Vec<&'static str>,
    steps: Vec<Step>,
    total_steps: usize,
    /// The end against the start, bit by bit.
    verification: Verification,
    success: bool,
}

#[derive(Serialize)]
struct Step {
    step: usize,
    format: &'static str,
    path: String,
    source_tensors: usize,
    target_tensors: usize,
    warnings: Vec<String>,
    lossless: bool,
}

/// Converts through the chain; exit code 1 where the end is not the start.
pub fn execute(args: &Args) -> Result<u8> {
    let kinds: Vec<FormatKind> = args
        .formats
        .iter()
        .map(|format| match format {
            Format::Apr => FormatKind::Apr,
            Format::Gguf => FormatKind::Gguf,
            Format::Safetensors => FormatKind::HfFolder,
        })
        .collect();
    let temporary =
        tempfile::tempdir().map_err(|e| Error::new(Kind::Environment, "temporary folder", e.to_string()))?;
    let folder = args.work_dir.as_deref().unwrap_or(temporary.path());
    if let Some(kept) = &args.work_dir {
        std::fs::create_dir_all(kept).map_err(|e| Error::io(kept, &e))?;
    }
    let output = run(args, &kinds, folder)?;
    if args.json {
        super::super::print_json(&output)?;
    } else {
        super::super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.success))
}

fn run(args: &Args, kinds: &[FormatKind], folder: &Path) -> Result<Output> {
    let first = formats::open(&args.source)?;
    let made = inspect::chain(&args.source, kinds, folder)?;
    let end = made.end().ok_or_else(|| Error::new(Kind::Internal, "chain", "it has no end"))?;
    let verification = verify::judge(&args.source, end, 0.0)?;
    let mut steps = Vec::new();
    let mut before = first.tensors().len();
    for (i, link) in made.links.iter().enumerate() {
        steps.push(step(i + 1, link, before));
        before = link.report.tensors.len();
    }
    Ok(Output {
        source: args.source.display().to_string(),
        chain: std::iter::once(first.kind().name()).chain(kinds.iter().map(|k| k.name())).collect(),
        total_steps: steps.len(),
        steps,
        success: verification.is_equivalent,
        verification,
    })
}

fn step(step: usize, link: &Link, source_tensors: usize) -> Step {
    Step {
        step,
        format: link.format.name(),
        path: link.path.display().to_string(),
        source_tensors,
        target_tensors: link.report.tensors.len(),
        warnings: link.report.warnings.clone(),
        lossless: link.lossless(),
    }
}

fn text(output: &Output) -> String {
    let mut out = format!("{}\n", output.chain.join(" -> "));
    // Writing to a String cannot fail.
    for s in &output.steps {
        let word = if s.lossless { "exact" } else { "not exact" };
        let _ = writeln!(out, "step {}: {} {} tensors, {word}", s.step, s.format, s.target_tensors);
        s.warnings.iter().for_each(|w| {
            let _ = writeln!(out, "  note: {w}");
        });
    }
    out.push_str(&verify::text(&output.verification));
    out
}
