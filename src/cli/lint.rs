//! `lint MODEL`: what readers of a file stumble over.

use crate::inspect::{self, Issue, RULES, Severity};
use crate::{Error, Kind, Result, formats};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `lint`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    #[arg(required_unless_present = "rules")]
    model: Option<PathBuf>,
    /// Fail from this severity on.
    #[arg(long, default_value = "error", value_name = "LEVEL")]
    fail_level: Level,
    /// List the rules and end.
    #[arg(long)]
    rules: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Level {
    Info,
    Warn,
    Error,
}

#[derive(Serialize)]
struct Output {
    model: String,
    passed: bool,
    /// Whether there is no issue at all.
    clean: bool,
    fail_level: Severity,
    rules_checked: usize,
    error_count: usize,
    warn_count: usize,
    info_count: usize,
    total_issues: usize,
    issues: Vec<Issue>,
}

/// Lints; exit code 1 where an issue is as bad as `--fail-level`.
pub fn execute(args: &Args) -> Result<u8> {
    let Some(model) = args.model.as_ref().filter(|_| !args.rules) else { return list(args.json) };
    let fail_level = match args.fail_level {
        Level::Info => Severity::Info,
        Level::Warn => Severity::Warn,
        Level::Error => Severity::Error,
    };
    let checkpoint = formats::open(model)?;
    if checkpoint.tensors().is_empty() {
        return Err(Error::new(Kind::Contract, model.display().to_string(), "it holds no tensor"));
    }
    // What cannot be bound is `check`'s to tell; lint looks at the rest.
    let view = inspect::view(&checkpoint).ok();
    let issues = inspect::lint(&checkpoint, view.as_ref());
    let count = |severity| issues.iter().filter(|issue| issue.severity == severity).count();
    let output = Output {
        model: model.display().to_string(),
        passed: issues.iter().all(|issue| issue.severity < fail_level),
        clean: issues.is_empty(),
        fail_level,
        rules_checked: RULES.len(),
        error_count: count(Severity::Error),
        warn_count: count(Severity::Warn),
        info_count: count(Severity::Info),
        total_issues: issues.len(),
        issues,
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(u8::from(!output.passed))
}

#[derive(Serialize)]
struct Listed {
    id: &'static str,
    level: Severity,
    rule: &'static str,
    suggestion: &'static str,
}

fn list(json: bool) -> Result<u8> {
    let rules: Vec<Listed> = RULES
        .iter()
        .map(|r| Listed { id: r.id, level: r.severity, rule: r.doc, suggestion: r.now })
        .collect();
    if json {
        super::print_json(&rules)?;
    } else {
        let lines: String =
            rules.iter().map(|r| format!("{:<5} {:<24} {}\n", word(r.level), r.id, r.rule)).collect();
        super::print_text(&lines)?;
    }
    Ok(0)
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for issue in &output.issues {
        let _ = writeln!(out, "{:<5} {}: {}: {}", word(issue.severity), issue.id, issue.at, issue.what);
        let _ = writeln!(out, "      now: {}", issue.now);
    }
    let (e, w, i) = (output.error_count, output.warn_count, output.info_count);
    let _ = writeln!(out, "{} rules: {e} errors, {w} warnings, {i} notes", output.rules_checked);
    out
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warn => "warn",
        Severity::Error => "ERROR",
    }
}
