//! Reports on disk: written beside their name, synced, renamed. A reader never sees half a file.

use super::evidence_log::not_writable;
use crate::playbook::Playbook;
use crate::record::RunRecord;
use crate::report::{REPORTS, RenderOptions};
use crate::{Error, Kind, Result};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where reports go beside, or instead of, where the playbook says.
#[derive(Debug, Clone, Default)]
pub struct Destinations {
    /// Folder of all reports and of the evidence.
    pub folder: Option<PathBuf>,
    /// A further copy of the JUnit XML.
    pub junit: Option<PathBuf>,
    /// A further copy of the Markdown report.
    pub markdown: Option<PathBuf>,
    /// A further copy of the HTML report.
    pub html: Option<PathBuf>,
    /// A further copy of the run record.
    pub json: Option<PathBuf>,
}

impl Destinations {
    /// The folder of this run's reports: the command line's, the playbook's, or `reports/<name>`.
    pub fn folder(&self, playbook: &Playbook) -> PathBuf {
        let of_playbook = || playbook.report.dir.as_ref().map(|dir| playbook.resolve(dir));
        let default = || Path::new("reports").join(&playbook.name.value);
        self.folder.clone().or_else(of_playbook).unwrap_or_else(default)
    }

    /// Renders and writes every report into `folder`, and the further copies.
    ///
    /// # Errors
    /// [`Kind::Environment`] with the first path that cannot be written.
    pub fn write(
        &self,
        playbook: &Playbook,
        folder: &Path,
        record: &RunRecord,
        options: &RenderOptions,
    ) -> Result<()> {
        for report in REPORTS.iter().filter(|report| report.applies(record)) {
            let bytes = report.render(record, options);
            write_atomically(&folder.join(report.file_name()), &bytes)?;
            for copy in self.copies(playbook, report.id()) {
                write_atomically(&copy, &bytes)?;
            }
        }
        Ok(())
    }

    /// Where copies of the report `id` go: the playbook's place and the command line's.
    fn copies(&self, playbook: &Playbook, id: &str) -> Vec<PathBuf> {
        let (of_flag, of_playbook) = match id {
            "junit" => (&self.junit, &playbook.report.junit),
            "markdown" => (&self.markdown, &playbook.report.markdown),
            "html" => (&self.html, &playbook.report.html),
            "json" => (&self.json, &playbook.report.json),
            // A report without a flag of its own has no further copy.
            _ => return Vec::new(),
        };
        of_flag.clone().into_iter().chain(of_playbook.as_ref().map(|path| playbook.resolve(path))).collect()
    }
}

/// Writes `bytes` to `path` so that it appears whole or not at all; makes missing parent folders.
///
/// # Errors
/// [`Kind::Environment`] naming the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        share(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    if path.is_dir() {
        let what = "is a folder; a report needs a file name";
        return Err(Error::new(Kind::Environment, path.display().to_string(), what));
    }
    write().map_err(|error| not_writable(path, &error))
}

/// A temporary file is its owner's alone; a report is for everyone who may read the folder.
#[cfg(unix)]
fn share(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_: &fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_in_folders_that_are_made_for_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b/report.xml");
        write_atomically(&path, b"one").expect("writable");
        write_atomically(&path, b"two").expect("writable");
        assert_eq!(fs::read(&path).expect("readable"), b"two");
        let beside: Vec<_> = fs::read_dir(path.parent().expect("a folder")).expect("readable").collect();
        assert_eq!(beside.len(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_the_environments_fault() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, b"in the way").expect("writable");
        for path in [file.join("report.xml"), folder.path().to_path_buf()] {
            let error = write_atomically(&path, b"x").expect_err("not writable");
            assert_eq!(error.kind, Kind::Environment, "{error}");
        }
    }
}
