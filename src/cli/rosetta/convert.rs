//! `rosetta convert SRC DST`: `convert`, with a judgement of the result on request.

use super::super::convert;
use super::verify;
use crate::Result;
use crate::convert::{ConvertReport, Exactness};
use crate::inspect::Verification;
use serde::Serialize;

/// Arguments of `rosetta convert`.
// clap names an argument group after the struct, and the flattened one is called Args too.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    convert: convert::Args,
    /// Open the result and hold every value, setting and token against the source.
    #[arg(long)]
    verify: bool,
    /// With --verify: how far a value may be off. A quantised result is as far off as its encoding makes it.
    #[arg(long, default_value_t = 1e-5, value_name = "X", requires = "verify")]
    tolerance: f64,
}

#[derive(Serialize)]
struct Output {
    path: String,
    source: End,
    target: End,
    lossless: bool,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification: Option<Verification>,
}

#[derive(Serialize)]
struct End {
    format: String,
    tensors: usize,
    size: u64,
}

/// Converts; exit code 1 where the result was to be verified and is not equivalent.
pub fn execute(args: &Args) -> Result<u8> {
    let report = convert::run(&args.convert)?;
    let verification = args
        .verify
        .then(|| verify::judge(&args.convert.source, &args.convert.target, args.tolerance))
        .transpose()?;
    let failed = verification.as_ref().is_some_and(|v| !v.is_equivalent);
    if args.convert.json {
        super::super::print_json(&output(args, &report, verification)?)?;
    } else {
        let judged = verification.as_ref().map(verify::text).unwrap_or_default();
        super::super::print_text(&format!("{}{judged}", convert::text(&report)))?;
    }
    Ok(u8::from(failed))
}

fn output(args: &Args, report: &ConvertReport, verification: Option<Verification>) -> Result<Output> {
    let tensors = crate::formats::open(&args.convert.source)?.tensors().len();
    Ok(Output {
        path: report.target.clone(),
        source: End { format: report.source_format.clone(), tensors, size: report.original_size },
        target: End {
            format: report.target_format.clone(),
            tensors: report.tensors.len(),
            size: report.converted_size,
        },
        lossless: report.tensors.iter().all(|t| t.exactness == Exactness::Exact),
        warnings: report.warnings.clone(),
        verification,
    })
}
