//! `list PLAYBOOK`: the cases it expands to, each with its id.

use super::playbook_file::{self, PlaybookArgs};
use crate::{Result, playbook};

/// Arguments of `list`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    playbook: PlaybookArgs,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

/// Lists.
pub fn execute(args: &Args) -> Result<u8> {
    let planned = playbook_file::plan(&args.playbook)?;
    if args.json {
        super::print_json(&playbook::list_json(&planned.cases))?;
    } else {
        super::print_text(&playbook::list(&planned.cases))?;
    }
    Ok(0)
}
