//! `rosetta fingerprint MODEL [MODEL2]`: hashes and statistics of every tensor in canonical form.

use crate::inspect::{self, Fingerprint, Fingerprints};
use crate::{Error, Kind, Result, formats, runner};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `rosetta fingerprint`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// A second one, to be compared with the first.
    other: Option<PathBuf>,
    /// Only canonical names that match this pattern; `*` stands for any characters, `?` for one.
    #[arg(long, value_name = "GLOB")]
    filter: Option<String>,
    /// Also write the first model's fingerprints to this file, as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Comparison {
    model_a: String,
    model_b: String,
    model_checksum_a: String,
    model_checksum_b: String,
    total_tensors: usize,
    /// Tensors in both whose values differ.
    anomalies: usize,
    anomaly_details: Vec<String>,
    missing_in_a: usize,
    missing_in_b: usize,
    passed: bool,
}

/// Fingerprints; with two models, exit code 1 where they differ.
pub fn execute(args: &Args) -> Result<u8> {
    let glob = args.filter.as_deref().map(super::super::tensors::glob).transpose()?;
    let wanted = |name: &str| glob.as_ref().is_none_or(|g| g.is_match(name));
    let first = of(&args.model, &wanted)?;
    if let Some(path) = &args.output {
        let text = serde_json::to_string_pretty(&first)
            .map_err(|e| Error::new(Kind::Internal, "JSON output", e.to_string()))?;
        runner::write_atomically(path, format!("{text}\n").as_bytes())?;
    }
    let Some(other) = &args.other else {
        if args.json {
            super::super::print_json(&first)?;
        } else {
            super::super::print_text(&text(&first))?;
        }
        return Ok(0);
    };
    let compared = compare(args, other, &first, &of(other, &wanted)?);
    if args.json {
        super::super::print_json(&compared)?;
    } else {
        let lines: String = compared.anomaly_details.iter().map(|d| format!("WRONG {d}\n")).collect();
        let word = if compared.passed { "the same model" } else { "not the same model" };
        let n = compared.total_tensors;
        super::super::print_text(&format!("{lines}{word}: {n} tensors compared\n"))?;
    }
    Ok(u8::from(!compared.passed))
}

fn of(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Fingerprints> {
    let found = inspect::fingerprint(&inspect::view(&formats::open(path)?)?, wanted)?;
    if found.tensors.is_empty() {
        let what = "no tensor to fingerprint";
        return Err(Error::new(Kind::Usage, path.display().to_string(), what).hint("does --filter match?"));
    }
    Ok(found)
}

fn compare(args: &Args, other: &Path, a: &Fingerprints, b: &Fingerprints) -> Comparison {
    let by_name = |side: &'_ Fingerprints| -> BTreeMap<String, Fingerprint> {
        side.tensors.iter().map(|t| (t.name.clone(), t.clone())).collect()
    };
    let (left, right) = (by_name(a), by_name(b));
    let mut details = Vec::new();
    let (mut anomalies, mut both) = (0, 0);
    for (name, x) in &left {
        let Some(y) = right.get(name) else {
            details.push(format!("{name}: only in the first"));
            continue;
        };
        both += 1;
        if x.checksum != y.checksum {
            anomalies += 1;
            let (p, q) = (x.std.unwrap_or(f64::NAN), y.std.unwrap_or(f64::NAN));
            details.push(format!("{name}: {} {} std {p:.6} against {q:.6}", x.dtype, y.dtype));
        }
    }
    for name in right.keys().filter(|name| !left.contains_key(*name)) {
        details.push(format!("{name}: only in the second"));
    }
    let (missing_in_a, missing_in_b) = (right.len() - both, left.len() - both);
    Comparison {
        model_a: args.model.display().to_string(),
        model_b: other.display().to_string(),
        model_checksum_a: a.model.clone(),
        model_checksum_b: b.model.clone(),
        total_tensors: both,
        passed: details.is_empty() && both > 0,
        anomalies,
        anomaly_details: details,
        missing_in_a,
        missing_in_b,
    }
}

fn text(found: &Fingerprints) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for t in &found.tensors {
        let shape = crate::tensor::Shape(t.shape.clone()).to_string();
        let _ = writeln!(out, "{} {:<28} {:<7} {shape}", &t.checksum[..16], t.name, t.dtype);
    }
    let _ = writeln!(out, "{} model, {} tensors", found.model, found.tensors.len());
    out
}
