//! `run PLAYBOOK`: makes artifacts, judges cases, writes reports, says the verdict.

use crate::playbook::Filter;
use crate::record::RunRecord;
use crate::report::{JunitDialect, JunitInconclusive, RenderOptions, github, terminal};
use crate::runner::{self, Destinations, Interrupt, Options, Outcome, Style};
use crate::{Error, Result};
use clap::ValueEnum;
use std::env;
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// YAML playbook.
    playbook: PathBuf,
    #[command(flatten)]
    filter: CaseFilter,
    /// Folder of all reports and of the evidence; default: the playbook's, else reports/NAME.
    #[arg(long, value_name = "DIR", env = "APR_QA_REPORT_DIR")]
    report_dir: Option<PathBuf>,
    /// Write a further copy of the JUnit XML here.
    #[arg(long, value_name = "PATH")]
    report_junit: Option<PathBuf>,
    /// Write a further copy of the Markdown report here.
    #[arg(long, value_name = "PATH")]
    report_md: Option<PathBuf>,
    /// Write a further copy of the run record here, as JSON.
    #[arg(long, value_name = "PATH")]
    report_json: Option<PathBuf>,
    /// `strict` leaves out of the JUnit XML what the Jenkins schema does not know.
    #[arg(long, value_name = "DIALECT", default_value = "full")]
    junit_dialect: Dialect,
    /// How an inconclusive case stands in the JUnit XML.
    #[arg(long, value_name = "AS", default_value = "failure")]
    junit_inconclusive: Inconclusive,
    /// Worker threads; default: the playbook's, else the machine's. No result depends on it.
    #[arg(long, value_name = "N", env = "APR_QA_THREADS", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Stop at the first case that does not pass.
    #[arg(long)]
    fail_fast: bool,
    /// Report without judging: exit 0 whatever the cases say.
    #[arg(long)]
    exit_zero: bool,
    /// Show no progress on stderr.
    #[arg(long)]
    no_progress: bool,
    /// When to color the summary.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Print the run record as JSON instead of the summary.
    #[arg(long)]
    json: bool,
}

/// Which cases, by name; every flag may be given several times.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Selection")]
pub struct CaseFilter {
    /// Only this suite.
    #[arg(long, value_name = "NAME")]
    suite: Vec<String>,
    /// Only this gate.
    #[arg(long, value_name = "ID")]
    gate: Vec<String>,
    /// Only this model.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    /// Only this artifact.
    #[arg(long, value_name = "NAME")]
    artifact: Vec<String>,
    /// Only this backend.
    #[arg(long, value_name = "NAME")]
    backend: Vec<String>,
    /// Only this prompt.
    #[arg(long, value_name = "NAME")]
    prompt: Vec<String>,
    /// Only the case of this id, as reports and `list` give it.
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,
}

impl CaseFilter {
    /// As the planner takes it.
    pub fn filter(&self) -> Filter {
        Filter {
            suites: self.suite.clone(),
            gates: self.gate.clone(),
            models: self.model.clone(),
            artifacts: self.artifact.clone(),
            backends: self.backend.clone(),
            prompts: self.prompt.clone(),
            cases: self.case.clone(),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Dialect {
    Full,
    Strict,
}

#[derive(Clone, Copy, ValueEnum)]
enum Inconclusive {
    Failure,
    Skipped,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Runs; the exit code is the record's.
pub fn run(args: RunArgs) -> Result<u8> {
    let options = Options {
        playbook: args.playbook.clone(),
        filter: args.filter.filter(),
        destinations: Destinations {
            folder: args.report_dir.clone(),
            junit: args.report_junit.clone(),
            markdown: args.report_md.clone(),
            json: args.report_json.clone(),
        },
        render: RenderOptions {
            junit_dialect: match args.junit_dialect {
                Dialect::Full => JunitDialect::Full,
                Dialect::Strict => JunitDialect::Strict,
            },
            junit_inconclusive: match args.junit_inconclusive {
                Inconclusive::Failure => JunitInconclusive::Failure,
                Inconclusive::Skipped => JunitInconclusive::Skipped,
            },
        },
        threads: args.threads.map(usize::from),
        fail_fast: args.fail_fast,
        progress: progress(args.no_progress),
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let Outcome { record, folder } = runner::run(&options, &Interrupt::listen())?;
    if args.json {
        super::print_json(&record)?;
    } else {
        let text = terminal::summary(&record, colored(args.color));
        // In a CI log model text stands between stop-commands, so that it is never taken for a command.
        super::print_text(&if in_github() { github::without_commands(&text) } else { text })?;
        super::print_text(&format!("reports: {}\n", folder.display()))?;
    }
    tell_github(&record, &folder)?;
    Ok(if args.exit_zero && record.interrupted.is_none() { 0 } else { record.exit_code })
}

fn progress(none: bool) -> Style {
    let in_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    let dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
    match (none, std::io::stderr().is_terminal() && !in_ci && !dumb) {
        (true, _) => Style::None,
        (false, true) => Style::Bar,
        (false, false) => Style::Lines,
    }
}

/// `--color`, then NO_COLOR, CLICOLOR_FORCE, TERM=dumb, then whether stdout is a terminal.
fn colored(when: Color) -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if set("CLICOLOR_FORCE") => true,
        Color::Auto => std::io::stdout().is_terminal() && !env::var("TERM").is_ok_and(|term| term == "dumb"),
    }
}

fn in_github() -> bool {
    env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true")
}

/// Step summary, annotations and outputs, where GitHub offers them.
fn tell_github(record: &RunRecord, folder: &Path) -> Result<()> {
    if in_github() {
        super::print_text(&github::annotations(record))?;
    }
    if let Some(path) = env::var_os("GITHUB_STEP_SUMMARY") {
        let path = Path::new(&path);
        // The limit is one for the whole step, so what stands there already counts.
        let already = std::fs::metadata(path).map_or(0, |file| file.len() as usize);
        append(path, &github::step_summary(record, already))?;
    }
    if let Some(path) = env::var_os("GITHUB_OUTPUT") {
        append(Path::new(&path), &github::outputs(record, &folder.display().to_string()))?;
    }
    Ok(())
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file =
        OpenOptions::new().append(true).create(true).open(path).map_err(|error| Error::io(path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| Error::io(path, &error))
}
