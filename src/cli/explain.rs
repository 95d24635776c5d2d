//! `explain PLAYBOOK`: where each value comes from, and what a run will cost in time, memory and disk.

use super::playbook_file::{self, PlaybookArgs};
use crate::Result;
use crate::playbook::{self, FileSizes, Origin, Playbook};
use crate::runner::Catalog;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    playbook: PlaybookArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Explains.
pub fn execute(args: &Args) -> Result<u8> {
    let planned = playbook_file::plan(&args.playbook)?;
    let explained = playbook::explain(&planned.playbook, &planned.cases, &Catalog, &sizes(&planned.playbook));
    if args.json {
        let estimate = &explained.estimate;
        super::print_json(&json!({
            "cases": explained.cases,
            "seconds": estimate.seconds,
            "memory_bytes": estimate.memory,
            "disk_bytes": estimate.disk,
            "text": explained.text,
        }))?;
    } else {
        super::print_text(&explained.text)?;
    }
    Ok(0)
}

/// Sizes of what is there; what is not yet pulled has none, and the estimate says so.
fn sizes(playbook: &Playbook) -> FileSizes {
    let mut sizes = FileSizes::default();
    for (name, model) in playbook.models.iter() {
        if let Some(bytes) = size(&playbook.resolve(&model.source.value)) {
            sizes.models.insert(name.value.clone(), bytes);
        }
        let text = model.text.as_ref().and_then(|text| size(&playbook.resolve(&text.value)));
        if let Some(bytes) = text {
            sizes.texts.insert(name.value.clone(), bytes);
        }
    }
    for (name, artifact) in playbook.artifacts.iter() {
        if let Some(Origin::File(file)) = artifact.origin()
            && let Some(bytes) = size(&playbook.resolve(&file.value))
        {
            sizes.files.insert(name.value.clone(), bytes);
        }
    }
    sizes
}

/// The bytes of a file, or of the files of a folder.
fn size(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.is_file() {
        return Some(metadata.len());
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    Some(entries.filter_map(|entry| entry.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum())
}
