//! A PLAYBOOK argument of the subcommands that need no model.

use super::run::CaseFilter;
use crate::Result;
use crate::runner::{self, Planned};
use std::path::PathBuf;

/// A playbook and which of its cases.
#[derive(clap::Args)]
pub struct PlaybookArgs {
    /// YAML playbook.
    pub playbook: PathBuf,
    #[command(flatten)]
    pub filter: CaseFilter,
}

/// Reads, checks and expands the playbook.
pub fn plan(args: &PlaybookArgs) -> Result<Planned> {
    runner::resolve(&args.playbook, &args.filter.filter())
}
