//! `check MODEL`: every problem of a file at once, before any inference.

use super::pair;
use crate::models::{CheckReport, Problem, Stage, StageStatus};
use crate::{Result, formats, inspect, models};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Also hold every setting and tensor against this original, and name the mistake behind what differs: rows in
    /// another order show in no other way. Another encoding is no mistake.
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    architecture: String,
    /// What the file calls its family, where no family answers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_family: Option<String>,
    stages: Vec<Stage>,
    problems: Vec<Problem>,
    tensors_checked: usize,
    weights_checked: usize,
    /// What differs from `--against`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Mistake>,
    passed: usize,
    total: usize,
    all_passed: bool,
}

/// A difference from the original that its encoding does not explain.
#[derive(Serialize)]
struct Mistake {
    /// A tensor or a setting.
    field: String,
    expected: String,
    found: String,
    /// Flat index of the first value that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// Checks; exit code 1 where a stage fails.
pub fn execute(args: &Args) -> Result<u8> {
    let report = models::check(&formats::open(&args.model)?);
    let differences = match &args.against {
        // A file that cannot be bound is compared with nothing; its problems say why.
        Some(original) if report.problems.iter().all(|p| p.index.is_some()) => {
            mistakes(original, &args.model)?
        }
        Some(_) | None => Vec::new(),
    };
    let output = output(args, report, differences);
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.all_passed))
}

fn mistakes(original: &Path, model: &Path) -> Result<Vec<Mistake>> {
    let (a, b) = (pair::open(original)?, pair::open(model)?);
    let found = inspect::diff(&a.side(), &b.side())?;
    let structural = found.differences.into_iter().filter(|d| d.structural);
    Ok(structural
        .map(|d| Mistake {
            field: d.field,
            expected: d.file1_value,
            found: d.file2_value,
            index: d.data.as_ref().map(|data| data.first_index),
            cause: d.data.and_then(|data| data.cause),
        })
        .collect())
}

fn output(args: &Args, report: CheckReport, differences: Vec<Mistake>) -> Output {
    Output {
        model: args.model.display().to_string(),
        passed: report.stages.iter().filter(|stage| stage.status == StageStatus::Pass).count(),
        total: report.stages.len(),
        all_passed: report.all_passed() && differences.is_empty(),
        architecture: report.family,
        unknown_family: report.unknown_family,
        stages: report.stages,
        problems: report.problems,
        tensors_checked: report.tensors,
        weights_checked: report.weights,
        differences,
    }
}

fn text(output: &Output) -> String {
    let mut out = format!("{}: family {}\n", output.model, output.architecture);
    // Writing to a String cannot fail.
    if let Some(family) = &output.unknown_family {
        let _ = writeln!(out, "no family answers to `{family}`: only the file and its weights were judged");
    }
    for stage in &output.stages {
        let word = match stage.status {
            StageStatus::Pass => "pass",
            StageStatus::Fail => "FAIL",
        };
        let _ = writeln!(out, "{word}  {:<22} {}", stage.name, stage.details);
    }
    for problem in &output.problems {
        let _ = writeln!(out, "problem: {problem}");
    }
    for d in &output.differences {
        let at = d.index.map(|index| format!("[{index}]")).unwrap_or_default();
        let cause = d.cause.as_ref().map(|cause| format!("; likely cause: {cause}")).unwrap_or_default();
        let _ =
            writeln!(out, "differs: `{}`{at}: expected {}, found {}{cause}", d.field, d.expected, d.found);
    }
    let (weights, tensors) = (output.weights_checked, output.tensors_checked);
    let _ = writeln!(out, "{weights} weights in {tensors} tensors were read");
    let _ = writeln!(out, "{} of {} stages passed", output.passed, output.total);
    out
}
