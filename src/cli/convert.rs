//! `convert SRC DST`: HF folder, APR and GGUF into each other.

use crate::convert::{self, ConvertOptions, ConvertReport, Exactness, NameDialect};
use crate::formats::{AprDialect, AprLayout, FormatKind, imatrix};
use crate::quant::Quantize;
use crate::{Error, Kind, Result};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Encoding of the 2-D weights, or a mixture as llama-quantize makes it; without it payloads pass through bit
    /// by bit. int8 is Q8_0, int4 is Q4_0 with embeddings and head Q8_0 (with `--dialect aprender`: its own).
    #[arg(long, value_name = "ENCODING", value_parser = encodings())]
    quantize: Option<Quantize>,
    /// Importance matrix (llama.cpp's imatrix in GGUF form): which columns matter more when weights are encoded.
    #[arg(long, value_name = "FILE", requires = "quantize")]
    imatrix: Option<PathBuf>,
    /// Threads that encode; default: as many as the machine has. No byte depends on it.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Tensor names in an APR file.
    #[arg(long, default_value = "gguf-short", value_name = "NAMES")]
    names: Names,
    /// Dialect of an APR file: the contract's, or the one that aprender 0.72 reads.
    #[arg(long, default_value = "contract", value_name = "DIALECT")]
    dialect: Dialect,
    /// How the blocks of matrices stand in an APR file: row after row, or in tiles of 16 rows, which the CPU engine
    /// multiplies as they are mapped. Values are the same.
    #[arg(long, default_value = "plain", value_name = "LAYOUT")]
    layout: Layout,
    /// Allow a conversion that loses more than its target encoding must, such as quantising again, or that its reader
    /// cannot run.
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
enum Names {
    Hf,
    GgufShort,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dialect {
    Contract,
    Aprender,
}

#[derive(Clone, Copy, ValueEnum)]
enum Layout {
    Plain,
    Tiled,
}

/// Every encoding by name, listed in the help.
pub(super) fn encodings() -> impl TypedValueParser<Value = Quantize> {
    PossibleValuesParser::new(Quantize::ALL.iter().map(|q| q.name()))
        .map(|name| Quantize::from_name(&name).expect("the possible values are the names of all encodings"))
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
    let importance = match &args.imatrix {
        None => None,
        Some(path) => Some((path.display().to_string(), Arc::new(imatrix::open(path)?))),
    };
    let options = ConvertOptions {
        quantize: args.quantize,
        importance,
        threads: args.threads.map(NonZeroUsize::get),
        names: match args.names {
            Names::Hf => NameDialect::Hf,
            Names::GgufShort => NameDialect::GgufShort,
        },
        dialect: match args.dialect {
            Dialect::Contract => AprDialect::Contract,
            Dialect::Aprender => AprDialect::Aprender,
        },
        layout: match args.layout {
            Layout::Plain => AprLayout::Plain,
            Layout::Tiled => AprLayout::Tiled,
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
        let layout = if tensor.tiled { ", tiled" } else { "" };
        let _ = writeln!(
            out,
            "{:<40} {:>6} -> {:<6} {what}{layout} {note}",
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
