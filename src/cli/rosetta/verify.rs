//! `rosetta verify A B`: are two files one model?

use super::super::pair;
use crate::inspect::{self, Verification};
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `rosetta verify`.
#[derive(clap::Args)]
pub struct Args {
    /// The original: HF model folder, GGUF or APR file.
    model_a: PathBuf,
    /// The other one.
    model_b: PathBuf,
    /// How far a value may be off.
    #[arg(long, default_value_t = 1e-5, value_name = "X")]
    tolerance: f64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model_a: String,
    model_b: String,
    #[serde(flatten)]
    found: Verification,
}

/// Judges; exit code 1 where they are not equivalent.
pub fn execute(args: &Args) -> Result<u8> {
    if args.tolerance.is_nan() || args.tolerance < 0.0 {
        return Err(Error::new(Kind::Usage, "--tolerance", "must be 0 or more"));
    }
    let found = judge(&args.model_a, &args.model_b, args.tolerance)?;
    let output = Output {
        model_a: args.model_a.display().to_string(),
        model_b: args.model_b.display().to_string(),
        found,
    };
    if args.json {
        super::super::print_json(&output)?;
    } else {
        super::super::print_text(&text(&output.found))?;
    }
    Ok(u8::from(!output.found.is_equivalent))
}

/// Opens both and judges.
pub fn judge(a: &Path, b: &Path, tolerance: f64) -> Result<Verification> {
    let (a, b) = (pair::open(a)?, pair::open(b)?);
    inspect::verify(&a.side(), &b.side(), tolerance)
}

/// The judgement for a person.
pub fn text(found: &Verification) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for failure in &found.failures {
        let _ = writeln!(out, "WRONG {:<28} {}", failure.tensor, failure.what);
    }
    for setting in &found.settings {
        let _ = writeln!(out, "WRONG setting {setting}");
    }
    if let Some(what) = &found.tokenizer {
        let _ = writeln!(out, "WRONG tokenizer: {what}");
    }
    let word = if found.is_equivalent { "equivalent" } else { "not equivalent" };
    let (n, max, tolerance) = (found.tensors_compared, found.max_diff, found.tolerance);
    let _ = writeln!(
        out,
        "{word}: {n} tensors compared, largest difference {max:.3e}, tolerance {tolerance:.1e}"
    );
    out
}
