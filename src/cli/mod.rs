//! The command line: one file per subcommand, one exit code per outcome.
//!
//! Results go to stdout, everything else to stderr. `apr-qa-runner PLAYBOOK` is `run PLAYBOOK`.

mod bench;
mod bisect;
mod calibrate;
mod canary;
mod check;
mod compare;
mod completions;
mod convert;
mod devices;
mod diff;
mod explain;
mod generate;
mod hex;
mod imatrix;
mod inspect;
mod lint;
mod list;
mod model;
mod mutate;
mod pair;
mod perplexity;
mod playbook_file;
mod report;
mod report_args;
mod rosetta;
pub mod run;
mod schema;
mod tensors;
mod tokenize;
mod tree;
mod validate;

use crate::{Error, Kind};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Parses the arguments, runs the subcommand, returns its exit code.
pub fn main() -> ExitCode {
    let arguments = with_default_subcommand(std::env::args_os().collect());
    // clap prints usage errors itself and exits with 2, and --help and --version with 0.
    match Cli::parse_from(arguments).command.execute() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(exit_code(error.kind))
        }
    }
}

/// Declarative QA for model conversions: a YAML playbook in, gate reports out.
///
/// MODEL is everywhere a Hugging Face model folder, a GGUF file or an APR file.
#[derive(Parser)]
#[command(name = "apr-qa-runner", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "`apr-qa-runner PLAYBOOK` is short for `apr-qa-runner run PLAYBOOK`.\n\n\
    Exit codes: 0 passed, 1 a gate failed or the artifact was refused, 2 wrong usage or invalid playbook,\n\
    3 environment or reference, 4 a case ended in an error, 5 inconclusive, 6 nothing selected,\n\
    130/143 interrupted.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a playbook: make its artifacts, judge them, write the reports.
    Run(Box<run::RunArgs>),
    /// Hold candidates against their reference, whoever made them, with limits that calibrate themselves.
    Compare(Box<compare::Args>),
    /// Check a playbook without any model: every problem with line, column and a suggestion.
    Validate(validate::Args),
    /// List the cases that a playbook expands to.
    List(list::Args),
    /// Say where each value of a playbook comes from, and what a run will cost.
    Explain(explain::Args),
    /// Write the reports of a run once more, from its evidence alone.
    ///
    /// Without a path all of them are written beside the evidence; with paths only those that are asked for. The
    /// exit code says whether they could be written, not what the run came to.
    Report(report::Args),
    /// Print the JSON Schema of playbooks.
    Schema(schema::Args),
    /// Convert a model between HF folder, APR and GGUF, with or without quantisation.
    Convert(convert::Args),
    /// Say what a model file is: format, family, sizes, metadata.
    Inspect(inspect::Args),
    /// List the tensors of a model, with statistics on request.
    Tensors(tensors::Args),
    /// Judge a model against its family contract: every problem at once.
    Check(check::Args),
    /// Show the tensors as a tree of layers with their sizes.
    Tree(tree::Args),
    /// Show the bytes of a file or a tensor, and what they decode to.
    Hex(hex::Args),
    /// Look for what readers stumble over though nothing is broken.
    Lint(lint::Args),
    /// Compare two models: settings, metadata, and every tensor by its canonical name.
    Diff(diff::Args),
    /// Walk a conversion beside its original, operation by operation: where they part, and what to fix.
    Bisect(bisect::Args),
    /// Plant a defect of the catalogue into a copy of a model, or list the catalogue.
    Mutate(mutate::Args),
    /// Measure a blessed conversion and write its figures, with margins, as the limits of a playbook.
    Calibrate(calibrate::Args),
    /// Freeze what a model says, and hold it against the model later.
    #[command(subcommand)]
    Canary(canary::Command),
    /// Generate text.
    Generate(generate::Args),
    /// Turn text into token ids, or ids into text.
    Tokenize(tokenize::Args),
    /// Measure the perplexity of a text.
    Perplexity(perplexity::Args),
    /// Collect the importance of weight columns on a text, for quantising.
    Imatrix(imatrix::Args),
    /// Compare two models.
    #[command(subcommand)]
    Rosetta(rosetta::Command),
    /// Measure how fast models are, beside the limits of the machine and, on request, beside another program.
    Bench(Box<bench::Args>),
    /// List the adapters that GPU backends can compute on, with their limits and features, and which would be chosen.
    Devices(devices::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
}

impl Command {
    fn execute(self) -> crate::Result<u8> {
        match self {
            Command::Run(args) => run::run(*args),
            Command::Compare(args) => compare::execute(&args),
            Command::Validate(args) => validate::execute(&args),
            Command::List(args) => list::execute(&args),
            Command::Explain(args) => explain::execute(&args),
            Command::Report(args) => report::execute(&args),
            Command::Schema(args) => schema::execute(&args),
            Command::Convert(args) => convert::execute(&args),
            Command::Inspect(args) => inspect::execute(&args),
            Command::Tensors(args) => tensors::execute(&args),
            Command::Check(args) => check::execute(&args),
            Command::Tree(args) => tree::execute(&args),
            Command::Hex(args) => hex::execute(&args),
            Command::Lint(args) => lint::execute(&args),
            Command::Diff(args) => diff::execute(&args),
            Command::Bisect(args) => bisect::execute(&args),
            Command::Mutate(args) => mutate::execute(&args),
            Command::Calibrate(args) => calibrate::execute(&args),
            Command::Canary(command) => canary::execute(&command),
            Command::Generate(args) => generate::execute(&args),
            Command::Tokenize(args) => tokenize::execute(&args),
            Command::Perplexity(args) => perplexity::execute(&args),
            Command::Imatrix(args) => imatrix::execute(&args),
            Command::Rosetta(command) => rosetta::execute(&command),
            Command::Bench(args) => bench::execute(&args),
            Command::Devices(args) => devices::execute(&args),
            Command::Completions(args) => completions::execute(&args),
        }
    }
}

/// Inserts `run` where the first argument is a playbook. A word that is neither a subcommand nor a
/// playbook is left to clap, which suggests the nearest subcommand.
fn with_default_subcommand(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_playbook = arguments.get(1).is_some_and(|first| {
        let path = Path::new(first);
        let subcommand = path.to_str().is_some_and(|w| Cli::command().find_subcommand(w).is_some());
        let yaml =
            path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
        !subcommand && (yaml || path.is_file())
    });
    if is_playbook {
        arguments.insert(1, OsString::from("run"));
    }
    arguments
}

/// The exit code of an error that ended a subcommand (design: verdicts and exit codes).
fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Malformed | Kind::Unsupported | Kind::Contract | Kind::NonFinite | Kind::Lossy => 1,
        Kind::Usage => 2,
        Kind::Io | Kind::Environment => 3,
        Kind::Internal => 4,
    }
}

/// Prints a value as pretty JSON, one trailing newline.
fn print_json(value: &impl serde::Serialize) -> crate::Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(Kind::Internal, "JSON output", e.to_string()))?;
    print_text(&format!("{text}\n"))
}

/// Writes to stdout; a reader that went away (`| head`) is no error.
fn print_text(text: &str) -> crate::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", &e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Vec<OsString> {
        std::iter::once("apr-qa-runner").chain(words.iter().copied()).map(OsString::from).collect()
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_playbook_alone_means_run() {
        assert_eq!(
            with_default_subcommand(arguments(&["a.yaml", "--json"])),
            arguments(&["run", "a.yaml", "--json"])
        );
        assert_eq!(with_default_subcommand(arguments(&["list", "a.yaml"])), arguments(&["list", "a.yaml"]));
        assert_eq!(with_default_subcommand(arguments(&["lst"])), arguments(&["lst"]));
        assert_eq!(with_default_subcommand(arguments(&[])), arguments(&[]));
    }

    #[test]
    fn every_argument_is_documented() {
        fn walk(command: &clap::Command, missing: &mut Vec<String>) {
            for argument in command.get_arguments() {
                if argument.get_help().is_none() {
                    missing.push(format!("{} {}", command.get_name(), argument.get_id()));
                }
            }
            for sub in command.get_subcommands() {
                if sub.get_about().is_none() {
                    missing.push(sub.get_name().to_owned());
                }
                walk(sub, missing);
            }
        }
        let mut missing = Vec::new();
        walk(&Cli::command(), &mut missing);
        assert!(missing.is_empty(), "without help: {missing:?}");
    }
}
