//! `convert SRC DST`: HF folder, APR and GGUF into each other.

use crate::convert::{self, ConvertOptions, ConvertReport, Exactness, NameDialect, Quantize};
use crate::formats::{AprDialect, FormatKind};
use crate::{Error, Kind, Result};
use clap::ValueEnum;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `convert`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    pub source: PathBuf,
    /// File ending in .apr or .gguf, or a folder for Hugging Face format.
    pub target: PathBuf,
    /// Format of the target, where its name does not tell.
    #[arg(long, value_name = "FORMAT")]
    to: Option<Target>,
    /// Encoding of the 2-D weights; without it payloads pass through bit by bit.
    #[arg(long, value_name = "ENCODING")]
    quantize: Option<Encoding>,
    /// Tensor names in an APR file.
    #[arg(long, default_value = "gguf-short", value_name = "NAMES")]
    names: Names,
    /// Dialect of an APR file: the contract's, or the one that aprender 0.72 reads.
    #[arg(long, default_value = "contract", value_name = "DIALECT")]
    dialect: Dialect,
    /// Allow a conversion that loses more than its target encoding must, such as quantising again.
    #[arg(long)]
    allow_lossy: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Hf,
    Apr,
    Gguf,
}

#[derive(Clone, Copy, ValueEnum)]
#[allow(non_camel_case_types)] // the spelling people type
enum Encoding {
    F32,
    F16,
    Bf16,
    /// Every 2-D weight Q8_0 (with `--dialect aprender`: aprender's own int8).
    Int8,
    /// Q4_0, embeddings and head Q8_0 (with `--dialect aprender`: aprender's own int4).
    Int4,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    Hf,
    GgufShort,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dialect {
    Contract,
    Aprender,
}

/// Converts.
pub fn execute(args: &Args) -> Result<u8> {
    let report = run(args)?;
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print_text(&text(&report))?;
    }
    Ok(0)
}

/// Converts and says what was done.
pub fn run(args: &Args) -> Result<ConvertReport> {
    let options = ConvertOptions {
        quantize: args.quantize.map(|e| match e {
            Encoding::F32 => Quantize::F32,
            Encoding::F16 => Quantize::F16,
            Encoding::Bf16 => Quantize::Bf16,
            Encoding::Int8 => Quantize::Int8,
            Encoding::Int4 => Quantize::Int4,
            Encoding::Q8_0 => Quantize::Q8_0,
            Encoding::Q4_0 => Quantize::Q4_0,
        }),
        names: match args.names {
            Names::Hf => NameDialect::Hf,
            Names::GgufShort => NameDialect::GgufShort,
        },
        dialect: match args.dialect {
            Dialect::Contract => AprDialect::Contract,
            Dialect::Aprender => AprDialect::Aprender,
        },
        allow_lossy: args.allow_lossy,
        to: Some(target_format(args)?),
    };
    convert::convert(&args.source, &args.target, &options)
}

/// The report for a person.
pub fn text(report: &ConvertReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for tensor in &report.tensors {
        let what = match tensor.exactness {
            Exactness::Exact => "exact",
            Exactness::Quantized => "quantized",
            Exactness::Rounded => "rounded",
        };
        let note = tensor.note.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "{:<40} {:>6} -> {:<6} {what} {note}",
            tensor.name, tensor.dtype_from, tensor.dtype_to
        );
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "note: {warning}");
    }
    let (from, to) = (report.original_size, report.converted_size);
    let _ = writeln!(out, "{}: {} tensors, {from} -> {to} bytes", report.target, report.tensors.len());
    out
}

fn target_format(args: &Args) -> Result<FormatKind> {
    let extension = args.target.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    Ok(match (args.to, extension.as_deref()) {
        (Some(Target::Hf), _) => FormatKind::HfFolder,
        (Some(Target::Apr), _) | (None, Some("apr")) => FormatKind::Apr,
        (Some(Target::Gguf), _) | (None, Some("gguf")) => FormatKind::Gguf,
        (None, Some("safetensors")) => {
            let what = "an HF model is a folder, not one file";
            return Err(
                Error::new(Kind::Usage, args.target.display().to_string(), what).hint("name a folder")
            );
        }
        (None, _) => FormatKind::HfFolder,
    })
}
