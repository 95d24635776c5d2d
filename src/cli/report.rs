//! `report EVIDENCE`: the reports of a run once more, from its evidence alone.

use super::report_args::RenderArgs;
use crate::record::RunRecord;
use crate::report::{REPORTS, terminal};
use crate::runner::write_atomically;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `report`.
#[derive(clap::Args)]
pub struct Args {
    /// The evidence of a run: evidence.jsonl, or the folder that holds it.
    evidence: PathBuf,
    /// Write the HTML report here.
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,
    /// Write the Markdown report here.
    #[arg(long, value_name = "PATH")]
    md: Option<PathBuf>,
    /// Write the JUnit XML here.
    #[arg(long, value_name = "PATH")]
    junit: Option<PathBuf>,
    /// Write the run record here, as JSON.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    #[command(flatten)]
    rendering: RenderArgs,
}

/// Renders; the exit code says whether that worked, not what the run came to.
pub fn execute(args: &Args) -> Result<u8> {
    let evidence = match args.evidence.is_dir() {
        true => args.evidence.join("evidence.jsonl"),
        false => args.evidence.clone(),
    };
    let bytes = fs::read(&evidence).map_err(|error| Error::io(&evidence, &error))?;
    let replay = RunRecord::from_evidence(&evidence.display().to_string(), &bytes)?;
    for note in &replay.notes {
        eprintln!("note: {note}");
    }
    let options = args.rendering.options();
    let asked = [("html", &args.html), ("markdown", &args.md), ("junit", &args.junit), ("json", &args.json)];
    let any = asked.iter().any(|(_, path)| path.is_some());
    let folder = evidence.parent().unwrap_or(Path::new("."));
    let mut written = String::new();
    for report in REPORTS.iter().filter(|report| report.applies(&replay.record)) {
        let of_flag = asked.iter().find(|(id, _)| *id == report.id()).and_then(|(_, path)| (*path).clone());
        let beside = (!any).then(|| folder.join(report.file_name()));
        let Some(path) = of_flag.or(beside) else { continue };
        write_atomically(&path, &report.render(&replay.record, &options))?;
        written.push_str(&format!("{}\n", path.display()));
    }
    super::print_text(&terminal::summary(&replay.record, false))?;
    super::print_text(&written)?;
    Ok(0)
}
