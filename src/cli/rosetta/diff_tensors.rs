//! `rosetta diff-tensors A B`: is there a bijection between the tensors of two models?

use crate::models::{self, CanonicalTensor};
use crate::{Error, Kind, Result, formats};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `rosetta diff-tensors`.
#[derive(clap::Args)]
pub struct Args {
    /// The original.
    model_a: PathBuf,
    /// The conversion.
    model_b: PathBuf,
    /// List only tensors that do not match.
    #[arg(long)]
    mismatches_only: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model_a: String,
    model_b: String,
    tensors_a: usize,
    tensors_b: usize,
    tensors_compared: usize,
    layout_mismatches: usize,
    missing_in_a: usize,
    missing_in_b: usize,
    mismatched_tensors: Vec<Mismatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matched_tensors: Vec<Match>,
    passed: bool,
    diagnosis: String,
}

#[derive(Serialize)]
struct Mismatch {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape_a: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape_b: Option<Vec<usize>>,
}

#[derive(Serialize)]
struct Match {
    name: String,
    shape: Vec<usize>,
    dtype_a: &'static str,
    dtype_b: &'static str,
}

/// Compares; exit code 1 where there is no bijection.
pub fn execute(args: &Args) -> Result<u8> {
    let a = models::canonical_tensors(&formats::open(&args.model_a)?)?;
    let b = models::canonical_tensors(&formats::open(&args.model_b)?)?;
    if a.is_empty() && b.is_empty() {
        let subject = format!("{} and {}", args.model_a.display(), args.model_b.display());
        return Err(Error::new(Kind::Contract, subject, "no tensors on either side: nothing was compared"));
    }
    let output = compare(args, &a, &b);
    if args.json {
        super::super::print_json(&output)?;
    } else {
        super::super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.passed))
}

fn compare(args: &Args, a: &[CanonicalTensor], b: &[CanonicalTensor]) -> Output {
    let by_name = |side: &'_ [CanonicalTensor]| -> BTreeMap<String, (Vec<usize>, &'static str)> {
        side.iter().map(|t| (t.name.clone(), (t.shape.0.clone(), t.dtype.name()))).collect()
    };
    let (left, right) = (by_name(a), by_name(b));
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let (mut mismatched, mut matched) = (Vec::new(), Vec::new());
    let (mut layout, mut missing_a, mut missing_b) = (0, 0, 0);
    for name in names {
        let (in_a, in_b) = (left.get(name), right.get(name));
        match (in_a, in_b) {
            (Some((shape, dtype_a)), Some((shape_b, dtype_b))) if shape == shape_b => {
                matched.push(Match { name: name.clone(), shape: shape.clone(), dtype_a, dtype_b });
                continue;
            }
            (Some(_), Some(_)) => layout += 1,
            (None, _) => missing_a += 1,
            (Some(_), None) => missing_b += 1,
        }
        let shape = |side: Option<&(Vec<usize>, &'static str)>| side.map(|(shape, _)| shape.clone());
        mismatched.push(Mismatch { name: name.clone(), shape_a: shape(in_a), shape_b: shape(in_b) });
    }
    let diagnosis = match (layout, missing_a, missing_b) {
        (0, 0, 0) => format!("{} tensors correspond one to one", matched.len()),
        _ => {
            format!("{layout} differ in shape, {missing_a} only in the second, {missing_b} only in the first")
        }
    };
    Output {
        model_a: args.model_a.display().to_string(),
        model_b: args.model_b.display().to_string(),
        tensors_a: a.len(),
        tensors_b: b.len(),
        tensors_compared: matched.len() + layout,
        layout_mismatches: layout,
        missing_in_a: missing_a,
        missing_in_b: missing_b,
        passed: mismatched.is_empty(),
        mismatched_tensors: mismatched,
        matched_tensors: if args.mismatches_only { Vec::new() } else { matched },
        diagnosis,
    }
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    let shown = |shape: &Option<Vec<usize>>| {
        shape.as_ref().map_or_else(|| "missing".to_owned(), |s| crate::tensor::Shape(s.clone()).to_string())
    };
    // Writing to a String cannot fail.
    for m in &output.matched_tensors {
        let shape = crate::tensor::Shape(m.shape.clone());
        let _ = writeln!(out, "ok    {:<28} {shape} {} {}", m.name, m.dtype_a, m.dtype_b);
    }
    for m in &output.mismatched_tensors {
        let _ = writeln!(out, "WRONG {:<28} {} against {}", m.name, shown(&m.shape_a), shown(&m.shape_b));
    }
    let _ = writeln!(out, "{}", output.diagnosis);
    out
}
