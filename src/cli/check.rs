//! `check MODEL`: every problem of a file at once, before any inference.

use crate::models::{CheckReport, Problem, Stage, StageStatus};
use crate::{Result, formats, models};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `check`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    model: String,
    architecture: String,
    stages: Vec<Stage>,
    problems: Vec<Problem>,
    passed: usize,
    total: usize,
    all_passed: bool,
}

/// Checks; exit code 1 where a stage fails.
pub fn execute(args: &Args) -> Result<u8> {
    let report = models::check(&formats::open(&args.model)?);
    let output = output(args, report);
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.all_passed))
}

fn output(args: &Args, report: CheckReport) -> Output {
    Output {
        model: args.model.display().to_string(),
        passed: report.stages.iter().filter(|stage| stage.status == StageStatus::Pass).count(),
        total: report.stages.len(),
        all_passed: report.all_passed(),
        architecture: report.family,
        stages: report.stages,
        problems: report.problems,
    }
}

fn text(output: &Output) -> String {
    let mut out = format!("{}: family {}\n", output.model, output.architecture);
    // Writing to a String cannot fail.
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
    let _ = writeln!(out, "{} of {} stages passed", output.passed, output.total);
    out
}
