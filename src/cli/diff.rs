//! `diff A B`: everything that differs between two models.

use super::pair;
use crate::Result;
use crate::inspect::{self, Difference, Differences};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The original: HF model folder, GGUF or APR file.
    model_a: PathBuf,
    /// The other one.
    model_b: PathBuf,
    /// Only differences whose field matches this pattern; `*` stands for any characters, `?` for one.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Show only the first N differences; all are counted.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Exit with 0 where only the encoding differs: containers, dtypes, sizes, metadata and rounded values.
    #[arg(long)]
    encoding_may_differ: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file1: String,
    file2: String,
    format1: &'static str,
    format2: &'static str,
    #[serde(flatten)]
    found: Differences,
}

/// Compares; exit code 1 where something differs.
pub fn execute(args: &Args) -> Result<u8> {
    let filter = args.filter.as_deref().map(super::tensors::glob).transpose()?;
    let (a, b) = (pair::open(&args.model_a)?, pair::open(&args.model_b)?);
    let mut found = inspect::diff(&a.side(), &b.side())?;
    let failed = if args.encoding_may_differ { found.structural_diffs > 0 } else { !found.identical };
    found.differences.retain(|d| filter.as_ref().is_none_or(|f| f.is_match(&d.field)));
    found.differences.truncate(args.limit.unwrap_or(usize::MAX));
    let output = Output {
        file1: args.model_a.display().to_string(),
        file2: args.model_b.display().to_string(),
        format1: a.checkpoint.kind().name(),
        format2: b.checkpoint.kind().name(),
        found,
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(u8::from(failed))
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for d in &output.found.differences {
        let mark = if d.structural { "WRONG" } else { "     " };
        let _ = writeln!(
            out,
            "{mark} {:<9} {:<34} {} against {}{}",
            d.kind,
            d.field,
            d.file1_value,
            d.file2_value,
            data(d)
        );
    }
    let found = &output.found;
    let (n, structural, compared) = (found.difference_count, found.structural_diffs, found.tensors_compared);
    let _ = match found.identical {
        true => writeln!(out, "identical: {compared} tensors compared"),
        false => writeln!(out, "{n} differences, {structural} structural; {compared} tensors compared"),
    };
    out
}

fn data(difference: &Difference) -> String {
    let Some(d) = &difference.data else { return String::new() };
    let db = d.sqnr_db.map_or("not finite".to_owned(), |db| format!("{db:.1} dB"));
    let cause = d.cause.as_ref().map(|cause| format!("; {cause}")).unwrap_or_default();
    format!(" at [{}], {} of {} values differ, {db}{cause}", d.first_index, d.differing, d.compared)
}
