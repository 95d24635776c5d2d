//! `bisect A B`: the first operation at which a conversion parts from its original, and what to fix.

use super::model::{self, EngineArgs};
use crate::Result;
use crate::infer::lockstep::TapError;
use crate::inspect::cause::Cause;
use crate::subject::localise::{self, Localisation, Request, SAMPLE, TOKENS, number_db};
use crate::subject::{Opened, Place, Role};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `bisect`.
#[derive(clap::Args)]
pub struct Args {
    /// The original: HF model folder, GGUF or APR file.
    original: PathBuf,
    /// Its conversion.
    conversion: PathBuf,
    /// Text to walk through; a few sentences that ship with the program where none is given.
    #[arg(long, value_name = "TEXT", conflicts_with = "text_file")]
    text: Option<String>,
    /// File with the text to walk through.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// Walk through at most N tokens of it.
    #[arg(long, default_value_t = TOKENS, value_name = "N")]
    tokens: usize,
    /// Show every operation, not only the worst of each layer and those over budget.
    #[arg(long)]
    all: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Serialize)]
struct Output<'a> {
    original: String,
    conversion: String,
    tokens: usize,
    passed: bool,
    headline: &'a str,
    symptom: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_over: Option<usize>,
    causes: Vec<Reason<'a>>,
    notes: &'a [String],
    operations: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Reason<'a> {
    id: &'static str,
    sentence: &'a str,
    score: f64,
}

/// One operation; a ratio that is infinite, because nothing was lost, or no number is null.
#[derive(Serialize)]
struct Row<'a> {
    name: String,
    layer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<&'a str>,
    over_budget: bool,
    exact: bool,
    local_db: Option<f64>,
    expected_db: Option<f64>,
    bound_db: Option<f64>,
    cumulative_db: Option<f64>,
    expected_cumulative_db: Option<f64>,
    cosine: Option<f64>,
}

/// Walks; exit code 1 where an operation is over its budget.
pub fn execute(args: &Args) -> Result<u8> {
    let text = match (&args.text, &args.text_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => model::read_text(file)?,
        (None, None) => SAMPLE.to_owned(),
    };
    let engine = model::options(&args.engine);
    let open = |path: &Path, role: Role| {
        let shown = path.display().to_string();
        Opened::new(Place {
            model: shown.clone(),
            artifact: shown.clone(),
            path: path.to_owned(),
            shown,
            backend: engine.backend.clone(),
            threads: engine.threads,
            adapter: engine.adapter.clone(),
            role,
            kept: None,
        })
    };
    let (original, conversion) =
        (open(&args.original, Role::Reference), open(&args.conversion, Role::UnderTest));
    let request = Request { text: &text, tokens: args.tokens, until: None };
    let found = localise::localise(&conversion, &original, &request)?;
    if args.json {
        super::print_json(&output(args, &found))?;
    } else {
        super::print_text(&shown(&found, args.all))?;
    }
    Ok(u8::from(found.walk.first_over.is_some()))
}

fn output<'a>(args: &Args, found: &'a Localisation) -> Output<'a> {
    let finite = |db: f64| db.is_finite().then_some(db);
    let row = |tap: &'a TapError| Row {
        name: tap.name(),
        layer: tap.place.layer,
        tensor: tap.tensor.as_deref(),
        over_budget: tap.is_over(),
        exact: tap.local_db == f64::INFINITY,
        local_db: finite(tap.local_db),
        expected_db: finite(tap.expected_db),
        bound_db: finite(tap.bound_db),
        cumulative_db: finite(tap.cumulative_db),
        expected_cumulative_db: tap.expected_cumulative_db.and_then(finite),
        cosine: finite(tap.cosine),
    };
    let reason = |cause: &'a Cause| Reason { id: cause.id, sentence: &cause.sentence, score: cause.score };
    Output {
        original: args.original.display().to_string(),
        conversion: args.conversion.display().to_string(),
        tokens: found.walk.tokens,
        passed: found.walk.first_over.is_none(),
        headline: &found.headline,
        symptom: found.symptom.phrase(),
        first_over: found.walk.first_over,
        causes: found.causes.iter().map(reason).collect(),
        notes: &found.notes,
        operations: found.walk.taps.iter().map(row).collect(),
    }
}

fn shown(found: &Localisation, all: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<4} {:<24} {:>10} {:>10} {:>11} {:>10} {:>9}",
        "", "operation", "local", "expected", "cumulative", "expected", "cosine"
    );
    let worst = localise::worst(&found.walk);
    for tap in &found.walk.taps {
        if !(all || tap.is_over() || worst.contains(&tap)) {
            continue;
        }
        let _ = writeln!(
            out,
            "{:<4} {:<24} {:>10} {:>10} {:>11} {:>10} {:>9.6}",
            if tap.is_over() { "OVER" } else { "" },
            tap.name(),
            number_db(tap.local_db),
            number_db(tap.expected_db),
            number_db(tap.cumulative_db),
            tap.expected_cumulative_db.map_or("-".to_owned(), number_db),
            tap.cosine
        );
    }
    for note in &found.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "{}", found.headline);
    if found.walk.first_over.is_some() {
        let _ = writeln!(out, "the error of the logits: {}", found.symptom.phrase());
    }
    for (i, cause) in found.causes.iter().enumerate() {
        let Cause { id, sentence, score } = cause;
        let _ = writeln!(out, "{:>2}. {id} ({:.0} %): {sentence}", i + 1, 100.0 * score);
    }
    out
}
