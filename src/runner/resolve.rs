//! From a playbook's path to its cases: every name settled before anything runs.

use super::catalog::Catalog;
use crate::playbook::{self, Case, Filter, Playbook};
use crate::{Error, Result};
use std::path::Path;

/// A playbook with its selected cases.
pub struct Planned {
    /// The playbook, prompts read.
    pub playbook: Playbook,
    /// The selected cases, in plan order.
    pub cases: Vec<Case>,
}

/// Reads, parses and expands the playbook at `path`, and selects by `filter`.
///
/// # Errors
/// [`crate::Kind::Io`] where it cannot be read; [`crate::Kind::Usage`] with every fault of the playbook, each with
/// line and column, and for a filter name that no case has.
pub fn resolve(path: &Path, filter: &Filter) -> Result<Planned> {
    let bytes = read_playbook(path)?;
    let mut playbook = playbook::parse_bytes(&path.display().to_string(), &bytes)?;
    playbook
        .read_prompts(&mut |file| std::fs::read_to_string(file).map_err(|error| Error::io(file, &error)))?;
    let cases = filter.select(playbook::plan(&playbook, &Catalog)?)?;
    Ok(Planned { playbook, cases })
}

/// A playbook that cannot be read is a wrong argument: nothing was run.
fn read_playbook(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let mut wrong = Error::io(path, &error).hint("give the path of a playbook");
        wrong.kind = crate::Kind::Usage;
        wrong
    })
}
