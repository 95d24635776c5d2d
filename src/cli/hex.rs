//! `hex MODEL`: bytes of a file or a tensor, the values that they decode to, and the statistics of the tensor.

use crate::formats::{self, NamedTensor};
use crate::inspect;
use crate::stats::Statistics;
use crate::{Error, Kind, Result, models, quant};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `hex`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Look into tensors of this stored or canonical name; `*` stands for any characters, `?` for one. Without it,
    /// the bytes are the file's own.
    #[arg(long, value_name = "NAME")]
    tensor: Option<String>,
    /// First byte, counted from the start of the file or of the tensor; 0x marks hexadecimal.
    #[arg(long, default_value = "0", value_parser = offset, value_name = "N")]
    offset: u64,
    /// Show at most N bytes.
    #[arg(long, default_value_t = 64, value_name = "N")]
    limit: usize,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct FileOutput {
    file: String,
    format: &'static str,
    size_bytes: u64,
    tensor_count: usize,
    rows: Vec<inspect::Row>,
}

#[derive(Serialize)]
struct TensorOutput {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical: Option<String>,
    dims: Vec<usize>,
    dtype: &'static str,
    /// `tiled` where the blocks stand as row tiles; the rows below are then of the plain blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<&'static str>,
    file: String,
    /// Of the tensor's first byte.
    file_offset: u64,
    size_bytes: usize,
    rows: Vec<inspect::Row>,
    /// Flat index of the first sample.
    first_index: usize,
    sample_values: Vec<f32>,
    /// Of the whole tensor, finite values only; none where there are none.
    mean: Option<f64>,
    std: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    nan_count: usize,
    inf_count: usize,
}

/// Dumps.
pub fn execute(args: &Args) -> Result<u8> {
    if args.limit == 0 {
        return Err(Error::new(Kind::Usage, "--limit", "must be at least 1"));
    }
    let checkpoint = formats::open(&args.model)?;
    let Some(pattern) = &args.tensor else {
        let file = checkpoint.files().first().ok_or_else(|| {
            Error::new(Kind::Contract, args.model.display().to_string(), "it has no tensor file")
        })?;
        let bytes = inspect::bytes_at(file, args.offset, args.limit)?;
        let output = FileOutput {
            file: file.display().to_string(),
            format: checkpoint.kind().name(),
            size_bytes: std::fs::metadata(file).map_err(|e| Error::io(file, &e))?.len(),
            tensor_count: checkpoint.tensors().len(),
            rows: bytes.rows(),
        };
        if args.json {
            super::print_json(&output)?;
        } else {
            super::print_text(&dump(&output.rows))?;
        }
        return Ok(0);
    };
    let glob = super::tensors::glob(pattern)?;
    // A fused tensor is found by the name of each of its parts.
    let canonical = models::canonical_tensors(&checkpoint).unwrap_or_default();
    let known_as = |t: &NamedTensor| {
        let names: Vec<&str> =
            canonical.iter().filter(|c| c.stored == t.name).map(|c| c.name.as_str()).collect();
        names
    };
    let found: Vec<&NamedTensor> = checkpoint
        .tensors()
        .iter()
        .filter(|t| glob.is_match(&t.name) || known_as(t).iter().any(|name| glob.is_match(name)))
        .collect();
    if found.is_empty() {
        let error =
            Error::new(Kind::Usage, args.model.display().to_string(), format!("no tensor `{pattern}`"));
        return Err(error.hint("`tensors` lists them"));
    }
    let mut outputs = Vec::new();
    for tensor in found {
        let names = known_as(tensor);
        let canonical = (!names.is_empty()).then(|| names.join(" + "));
        let file = checkpoint.files()[tensor.file].display().to_string();
        outputs.push(describe(tensor, canonical, file, args)?);
    }
    if args.json {
        super::print_json(&outputs)?;
    } else {
        super::print_text(&outputs.iter().map(text).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(0)
}

fn describe(
    tensor: &NamedTensor,
    canonical: Option<String>,
    file: String,
    args: &Args,
) -> Result<TensorOutput> {
    let at = usize::try_from(args.offset).unwrap_or(usize::MAX);
    let piece = inspect::decoded(tensor, at, args.limit)?;
    let values = quant::to_f32(&tensor.tensor)?;
    let s = Statistics::of(&values);
    let finite = s.n > s.non_finite;
    let if_finite = |value: f64| finite.then_some(value);
    Ok(TensorOutput {
        name: tensor.name.clone(),
        canonical,
        dims: tensor.tensor.shape.0.clone(),
        dtype: tensor.tensor.dtype.name(),
        layout: tensor.tensor.layout(),
        file,
        file_offset: tensor.offset,
        size_bytes: tensor.tensor.bytes.stored_len(),
        rows: piece.bytes.rows(),
        first_index: piece.first_index,
        sample_values: piece.values,
        mean: if_finite(s.mean),
        std: if_finite(s.std),
        min: if_finite(s.min),
        max: if_finite(s.max),
        nan_count: values.iter().filter(|v| v.is_nan()).count(),
        inf_count: values.iter().filter(|v| v.is_infinite()).count(),
    })
}

fn offset(text: &str) -> std::result::Result<u64, String> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    u64::from_str_radix(digits, radix).map_err(|e| e.to_string())
}

fn dump(rows: &[inspect::Row]) -> String {
    rows.iter().map(|row| format!("{:08x}  {:<47}  |{}|\n", row.offset, row.hex, row.ascii)).collect()
}

fn text(t: &TensorOutput) -> String {
    let shape = crate::tensor::Shape(t.dims.clone());
    let layout = t.layout.map(|layout| format!(", {layout}")).unwrap_or_default();
    let mut out = format!("{} {shape} {}{layout}, {} bytes", t.name, t.dtype, t.size_bytes);
    // Writing to a String cannot fail.
    if let Some(canonical) = &t.canonical {
        let _ = write!(out, " = {canonical}");
    }
    let _ = writeln!(out, "\nat byte {} of {}", t.file_offset, t.file);
    if t.layout.is_some() {
        let _ = writeln!(out, "the plain blocks, made from row tiles:");
    }
    out.push_str(&dump(&t.rows));
    let shown = |v: Option<f64>| v.map_or("none".to_owned(), |v| format!("{v:+.6}"));
    let (mean, std, min, max) = (shown(t.mean), shown(t.std), shown(t.min), shown(t.max));
    let _ =
        writeln!(out, "mean {mean} std {std} min {min} max {max} NaN {} Inf {}", t.nan_count, t.inf_count);
    let _ = writeln!(out, "values from [{}]: {:?}", t.first_index, t.sample_values);
    out
}
