//! `tensors MODEL`: every tensor by its stored name, with statistics on request.

use crate::formats::{self, Container, NamedTensor};
use crate::stats::Statistics;
use crate::{Error, Kind, Result, quant};
use regex::Regex;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `tensors`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Add mean, standard deviation, minimum, maximum and the counts of NaN and infinite values.
    #[arg(long)]
    stats: bool,
    /// Only names that match this pattern; `*` stands for any characters, `?` for one.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Only the first N tensors.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file: String,
    format_version: String,
    tensor_count: usize,
    total_size_bytes: usize,
    tensors: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    shape: Vec<usize>,
    dtype: &'static str,
    /// `tiled` where the blocks stand as row tiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<&'static str>,
    size_bytes: usize,
    #[serde(flatten)]
    stats: Option<Stats>,
}

#[derive(Serialize)]
struct Stats {
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
    nan_count: usize,
    inf_count: usize,
}

/// Lists.
pub fn execute(args: &Args) -> Result<u8> {
    let checkpoint = formats::open(&args.model)?;
    let filter = args.filter.as_deref().map(glob).transpose()?;
    let chosen: Vec<&NamedTensor> = checkpoint
        .tensors()
        .iter()
        .filter(|t| filter.as_ref().is_none_or(|f| f.is_match(&t.name)))
        .take(args.limit.unwrap_or(usize::MAX))
        .collect();
    let tensors: Vec<Row> = chosen.iter().map(|t| row(t, args.stats)).collect::<Result<_>>()?;
    let output = Output {
        file: args.model.display().to_string(),
        format_version: match &checkpoint.container {
            Container::Hf(_) => "safetensors".to_owned(),
            Container::Gguf(header) => format!("gguf v{}", header.version),
            Container::Apr(header) => format!("v{}", header.version.0),
        },
        tensor_count: tensors.len(),
        total_size_bytes: tensors.iter().map(|t| t.size_bytes).sum(),
        tensors,
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(0)
}

fn row(named: &NamedTensor, stats: bool) -> Result<Row> {
    let tensor = &named.tensor;
    let stats = if stats {
        let values = quant::to_f32(tensor)?;
        let s = Statistics::of(&values);
        let nan_count = values.iter().filter(|v| v.is_nan()).count();
        Some(Stats {
            mean: s.mean,
            std: s.std,
            min: s.min,
            max: s.max,
            nan_count,
            inf_count: values.iter().filter(|v| v.is_infinite()).count(),
        })
    } else {
        None
    };
    Ok(Row {
        name: named.name.clone(),
        shape: tensor.shape.0.clone(),
        dtype: tensor.dtype.name(),
        layout: tensor.layout(),
        size_bytes: tensor.bytes.stored_len(),
        stats,
    })
}

/// A glob over tensor names as an anchored regular expression.
pub fn glob(pattern: &str) -> Result<Regex> {
    let escaped = regex::escape(pattern).replace(r"\*", ".*").replace(r"\?", ".");
    Regex::new(&format!("^{escaped}$")).map_err(|e| Error::new(Kind::Usage, "--filter", e.to_string()))
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    for t in &output.tensors {
        let shape = crate::tensor::Shape(t.shape.clone()).to_string();
        // Writing to a String cannot fail.
        let encoding = t.layout.map_or(t.dtype.to_owned(), |layout| format!("{}, {layout}", t.dtype));
        let _ = write!(out, "{:<44} {encoding:<7} {shape:<18} {:>12}", t.name, t.size_bytes);
        if let Some(s) = &t.stats {
            let _ = write!(out, "  mean {:+.6} std {:.6} min {:+.6} max {:+.6}", s.mean, s.std, s.min, s.max);
            if s.nan_count + s.inf_count > 0 {
                let _ = write!(out, "  NaN {} Inf {}", s.nan_count, s.inf_count);
            }
        }
        out.push('\n');
    }
    let _ = writeln!(out, "{} tensors, {} bytes", output.tensor_count, output.total_size_bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_glob_matches_whole_names_and_takes_dots_literally() {
        let some = glob("blk.*.attn_q.weight").expect("a valid pattern");
        assert!(some.is_match("blk.11.attn_q.weight"));
        assert!(!some.is_match("blk.11.attn_q.weights"));
        assert!(!glob("a.b").expect("a valid pattern").is_match("axb"));
        assert!(glob("?.q").expect("a valid pattern").is_match("3.q"));
    }
}
