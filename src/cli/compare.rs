//! `compare REFERENCE CANDIDATE…`: no playbook needed; one is composed, run like any other, and kept on request.

use super::model::existing;
use super::report_args::ReportArgs;
use super::run::{Conduct, print_summary, tell_github};
use crate::gates::BATTERY;
use crate::playbook::{Asked, Comparison, Filter, fitting};
use crate::record::RunRecord;
use crate::report::comparison;
use crate::runner::{self, Interrupt, Options, Outcome, write_atomically};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Args {
    /// The model as it should be: HF folder, GGUF or APR file.
    reference: PathBuf,
    /// What was made of it, by any program.
    #[arg(required = true, value_name = "CANDIDATE")]
    candidates: Vec<PathBuf>,
    /// Score this text instead of the one that ships with the program.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// Only these gates; may be given several times.
    #[arg(long, value_name = "ID")]
    gate: Vec<String>,
    /// Time for scoring text, `60s` or `2m`: where it is short, fewer chunks are scored and the intervals widen.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    budget: Option<std::time::Duration>,
    /// Also write what is done as a playbook.
    #[arg(long, value_name = "FILE")]
    write_playbook: Option<PathBuf>,
    #[command(flatten)]
    reports: ReportArgs,
    #[command(flatten)]
    conduct: Conduct,
    /// Print one JSON object: verdict, candidates, failures.
    #[arg(long)]
    json: bool,
}

/// Compares; the exit code is the run's.
pub fn execute(args: &Args) -> Result<u8> {
    let comparison = comparison_of(args)?;
    let destinations = args.reports.destinations();
    let folder = destinations.folder.clone().unwrap_or_else(|| PathBuf::from("reports/compare"));
    let playbook = folder.join("playbook.yaml");
    write_atomically(&playbook, comparison.to_yaml(&absolute(&folder)?).as_bytes())?;
    if let Some(kept) = &args.write_playbook {
        let beside = kept.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own = Comparison { name: playbook_name(kept), ..comparison.clone() };
        write_atomically(kept, own.to_yaml(&absolute(beside)?).as_bytes())?;
    }
    let options = Options {
        playbook,
        filter: Filter { gates: args.gate.clone(), ..Filter::default() },
        destinations: runner::Destinations { folder: Some(folder), ..destinations },
        render: args.reports.render(),
        threads: args.conduct.threads(),
        adapter: args.conduct.adapter(),
        keeping: runner::Keeping::default(),
        fail_fast: false,
        progress: args.conduct.progress(),
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let Outcome { record, folder, .. } = runner::run(&options, &Interrupt::listen())?;
    show(args, &comparison, &record, &folder)?;
    tell_github(&record, &folder)?;
    Ok(args.conduct.exit_code(&record))
}

fn show(args: &Args, asked: &Comparison, record: &RunRecord, folder: &Path) -> Result<()> {
    let names = asked.names();
    let files = names.into_iter().zip(&asked.candidates).map(|(name, path)| comparison::File {
        name,
        path: path.display().to_string(),
        bytes: bytes_of(path),
    });
    let reference = comparison::File {
        name: crate::playbook::REFERENCE.to_owned(),
        path: asked.reference.display().to_string(),
        bytes: bytes_of(&asked.reference),
    };
    let summary = comparison::Summary::of(record, reference, files.collect());
    if args.json {
        return super::print_json(&summary);
    }
    print_summary(&summary.screen(record, args.conduct.colored()), folder)
}

fn comparison_of(args: &Args) -> Result<Comparison> {
    let text = args.text_file.as_deref().map(existing).transpose()?;
    let scoring = |gate: &str| -> Vec<(String, f64)> {
        let budget = args.budget.filter(|_| SCORES_TEXT.contains(&gate));
        budget.map(|time| ("budget".to_owned(), time.as_secs_f64())).into_iter().collect()
    };
    let asked =
        |id: &&str| Asked { suite: suite_of(id).to_owned(), gate: (*id).to_owned(), limits: scoring(id) };
    let mut gates: Vec<_> = BATTERY.iter().map(asked).collect();
    // A suite stands once in a playbook, so its gates stand together; their order is otherwise the battery's.
    gates.sort_by_key(|asked| SUITES.iter().position(|s| *s == asked.suite));
    Ok(Comparison {
        name: "compare".into(),
        reference: existing(&args.reference)?,
        candidates: args.candidates.iter().map(|path| existing(path)).collect::<Result<_>>()?,
        text,
        gates,
        prompts: PROMPTS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    })
}

/// Gates that score the text and so take a time budget.
const SCORES_TEXT: &[&str] = &["kl-divergence"];

/// Suites in the order in which a reader asks.
const SUITES: &[&str] = &["contract", "tokenizer", "weights", "logits", "generation"];

fn suite_of(gate: &str) -> &'static str {
    match gate {
        "contract-i5" => "tokenizer",
        "live-values" | "tensor-fidelity" => "weights",
        "kl-divergence" => "logits",
        "generation" => "generation",
        _ => "contract",
    }
}

/// What people ask of any model: facts, sums, code, prose, lists, another language.
const PROMPTS: &[(&str, &str)] = &[
    ("arithmetic", "What is 2+2? Answer:"),
    ("code", "def fibonacci(n):"),
    ("completion", "The capital of France is"),
    ("greeting", "Hello, my name is"),
    ("story", "Once upon a time there was a small town by the sea, and"),
    ("list", "The seven days of the week are Monday, Tuesday,"),
];

fn absolute(folder: &Path) -> Result<PathBuf> {
    let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::canonicalize(folder));
    made.map_err(|error| Error::io(folder, &error))
}

/// A kept playbook is called like its file.
fn playbook_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    fitting(&stem).unwrap_or_else(|| "compare".into())
}

/// Bytes of a file, or of the files of a folder. One that cannot be read counts nothing here; its gates say why.
fn bytes_of(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0, |file| file.len());
    };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_of_the_battery_has_a_suite_that_is_listed() {
        for id in BATTERY {
            assert!(SUITES.contains(&suite_of(id)), "{id}");
        }
    }

    #[test]
    fn a_kept_playbook_has_a_name_that_the_schema_allows() {
        assert_eq!(playbook_name(Path::new("a/My Playbook.yaml")), "my-playbook");
        assert_eq!(playbook_name(Path::new("---")), "compare");
    }
}
