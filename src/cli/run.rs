//! `run PLAYBOOK`: makes artifacts, judges cases, writes reports, says the verdict.

use super::model::AdapterArg;
use super::report_args::ReportArgs;
use crate::playbook::Filter;
use crate::record::RunRecord;
use crate::report::{github, terminal};
use crate::runner::{self, Interrupt, Keeping, Made, Options, Outcome, Style};
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
    #[command(flatten)]
    reports: ReportArgs,
    #[command(flatten)]
    conduct: Conduct,
    #[command(flatten)]
    cache: CacheArgs,
    /// Stop at the first case that does not pass.
    #[arg(long)]
    fail_fast: bool,
    /// Print the run record as JSON instead of the summary.
    #[arg(long)]
    json: bool,
}

/// Where conversions are kept between runs.
#[derive(clap::Args)]
#[command(next_help_heading = "Cache")]
pub struct CacheArgs {
    /// Folder in which conversions are kept, by content; default: artifacts/ beside the reports.
    #[arg(long, value_name = "DIR", env = "APR_QA_CACHE")]
    cache: Option<PathBuf>,
    /// Make every conversion anew, and compute stored distributions anew.
    #[arg(long)]
    no_cache: bool,
    /// Say of every conversion whether it was taken from the cache, or what changed since.
    #[arg(long)]
    why_rerun: bool,
}

impl CacheArgs {
    fn keeping(&self) -> Keeping {
        Keeping { folder: self.cache.clone(), anew: self.no_cache }
    }

    /// One line for every conversion.
    fn explain(&self, made: &[Made]) -> String {
        let line = |m: &Made| format!("{}/{}: {}\n", m.model, m.artifact, m.why);
        if self.why_rerun { made.iter().map(line).collect() } else { String::new() }
    }
}

/// How a command that runs cases goes about it.
#[derive(clap::Args)]
pub struct Conduct {
    /// Threads of all cases together; default: the playbook's, else the machine's. No result depends on it.
    #[arg(long, value_name = "N", env = "APR_QA_THREADS", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    #[command(flatten)]
    adapter: AdapterArg,
    /// Report without judging: exit 0 whatever the cases say.
    #[arg(long)]
    exit_zero: bool,
    /// Show no progress on stderr.
    #[arg(long)]
    no_progress: bool,
    /// When to color the summary.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

impl Conduct {
    /// The threads asked for.
    pub fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// The adapter asked for.
    pub fn adapter(&self) -> Option<String> {
        self.adapter.request().map(str::to_owned)
    }

    /// How progress is shown.
    pub fn progress(&self) -> Style {
        progress(self.no_progress)
    }

    /// Whether the summary is colored.
    pub fn colored(&self) -> bool {
        colored(self.color)
    }

    /// The exit code: the record's, or 0 where nothing is to be judged.
    pub fn exit_code(&self, record: &RunRecord) -> u8 {
        if self.exit_zero && record.interrupted.is_none() { 0 } else { record.exit_code }
    }
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

/// When to color.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal that wants it.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// Runs; the exit code is the record's.
pub fn run(args: RunArgs) -> Result<u8> {
    let options = Options {
        playbook: args.playbook.clone(),
        filter: args.filter.filter(),
        destinations: args.reports.destinations(),
        render: args.reports.render(),
        threads: args.conduct.threads(),
        adapter: args.conduct.adapter(),
        keeping: args.cache.keeping(),
        fail_fast: args.fail_fast,
        progress: args.conduct.progress(),
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let Outcome { record, folder, made } = runner::run(&options, &Interrupt::listen())?;
    let why = args.cache.explain(&made);
    if args.json {
        eprint!("{why}");
        super::print_json(&record)?;
    } else {
        super::print_text(&why)?;
        print_summary(&terminal::summary(&record, args.conduct.colored()), &folder)?;
    }
    tell_github(&record, &folder)?;
    Ok(args.conduct.exit_code(&record))
}

/// Prints a summary, and where the reports lie.
pub fn print_summary(text: &str, folder: &Path) -> Result<()> {
    // In a CI log model text stands between stop-commands, so that it is never taken for a command.
    let safe = in_github().then(|| github::without_commands(text));
    super::print_text(safe.as_deref().unwrap_or(text))?;
    super::print_text(&format!("reports: {}\n", folder.display()))
}

/// How progress is shown on stderr.
pub fn progress(none: bool) -> Style {
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
pub fn tell_github(record: &RunRecord, folder: &Path) -> Result<()> {
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
