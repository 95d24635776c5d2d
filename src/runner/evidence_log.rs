//! `evidence.jsonl`: one event a line, on disk as it happens.
//!
//! While the run lasts the file is `evidence.jsonl.partial`, in the order of events, so that a reader never takes half
//! a run for a whole one and a crash loses at most the cases in flight. The whole one has the cases in plan order.

use super::output::write_atomically;
use crate::record::{Event, RunRecord};
use crate::report::evidence;
use crate::{Error, Kind, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The log of one run.
pub struct EvidenceLog {
    file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl EvidenceLog {
    /// Begins the log in `folder`, which must exist.
    pub fn begin(folder: &Path) -> Result<EvidenceLog> {
        let path = folder.join("evidence.jsonl");
        let partial = folder.join("evidence.jsonl.partial");
        let file = File::create(&partial).map_err(|error| not_writable(&partial, &error))?;
        Ok(EvidenceLog { file, partial, path })
    }

    /// Appends one event and hands it to the operating system.
    pub fn append(&mut self, event: &Event) -> Result<()> {
        let line = evidence::line(event);
        self.file.write_all(line.as_bytes()).map_err(|error| not_writable(&self.partial, &error))
    }

    /// Writes the log of the whole run under its final name.
    pub fn finish(self, record: &RunRecord) -> Result<PathBuf> {
        write_atomically(&self.path, evidence::render(record).as_bytes())?;
        fs::remove_file(&self.partial).map_err(|error| not_writable(&self.partial, &error))?;
        Ok(self.path)
    }
}

/// Reports that cannot be written are the environment's fault: exit code 3.
pub fn not_writable(path: &Path, error: &std::io::Error) -> Error {
    let what = format!("cannot be written: {error}");
    Error::new(Kind::Environment, path.display().to_string(), what)
        .hint("give a writable folder with --report-dir")
}
