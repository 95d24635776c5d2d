//! `evidence.jsonl`: one event a line, on disk before the next case begins.
//!
//! While the run lasts the file is `evidence.jsonl.partial`, so that a reader never takes half a run for a whole
//! one; a crash loses at most the case in flight.

use crate::record::Event;
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
        let mut line = serde_json::to_string(event)
            .map_err(|error| Error::new(Kind::Internal, "evidence", error.to_string()))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|error| not_writable(&self.partial, &error))
    }

    /// Syncs the log and gives it its final name.
    pub fn finish(self) -> Result<PathBuf> {
        self.file.sync_all().map_err(|error| not_writable(&self.partial, &error))?;
        fs::rename(&self.partial, &self.path).map_err(|error| not_writable(&self.path, &error))?;
        Ok(self.path)
    }
}

/// Reports that cannot be written are the environment's fault: exit code 3.
pub fn not_writable(path: &Path, error: &std::io::Error) -> Error {
    let what = format!("cannot be written: {error}");
    Error::new(Kind::Environment, path.display().to_string(), what)
        .hint("give a writable folder with --report-dir")
}
