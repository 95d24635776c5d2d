//! `validate PLAYBOOK`: every problem at once, with line, column and a suggestion.

use super::playbook_file::{self, PlaybookArgs};
use crate::Result;
use serde::Serialize;

/// Arguments of `validate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    playbook: PlaybookArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    playbook: String,
    valid: bool,
    cases: usize,
}

/// Validates.
pub fn execute(args: &Args) -> Result<u8> {
    let planned = playbook_file::plan(&args.playbook)?;
    let output = Output {
        playbook: args.playbook.playbook.display().to_string(),
        valid: true,
        cases: planned.cases.len(),
    };
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&format!("{}: valid, {} cases\n", output.playbook, output.cases))?;
    }
    Ok(0)
}
