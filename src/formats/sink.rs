//! Files appear whole or not at all: written beside their place, synced, then renamed into it.

use crate::{Error, Result};
use std::io::{BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes `bytes` to the file at `path`, replacing it as a whole.
///
/// # Errors
/// [`crate::Kind::Io`] where the folder or disk does not allow it; an older file then stays as it was.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut sink = Sink::create(path)?;
    sink.put(bytes)?;
    sink.commit()
}

/// A file being written beside `path`. Dropped before [`Sink::commit`], it leaves nothing behind.
pub(super) struct Sink<'a> {
    path: &'a Path,
    out: BufWriter<NamedTempFile>,
    written: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn create(path: &'a Path) -> Result<Sink<'a>> {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".writing-");
        // A temporary file is private by default; this one becomes an ordinary file, under the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(|e| Error::io(path, &e))?;
        Ok(Sink { path, out: BufWriter::with_capacity(1 << 20, file), written: 0 })
    }

    /// Appends `bytes`.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| Error::io(self.path, &e))
    }

    /// How many bytes have been put.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Syncs and renames into place.
    pub(super) fn commit(mut self) -> Result<()> {
        let synced = self.out.flush().and_then(|()| self.out.get_ref().as_file().sync_all());
        synced.map_err(|e| Error::io(self.path, &e))?;
        self.commit_unsynced()
    }

    /// Renames into place: for copies that need not survive a power cut.
    pub(super) fn commit_unsynced(self) -> Result<()> {
        let file = self.out.into_inner().map_err(|e| Error::io(self.path, e.error()))?;
        file.persist(self.path).map_err(|e| Error::io(self.path, &e.error))?;
        Ok(())
    }
}

/// Zeros up to the next multiple of `alignment` after `written` bytes.
pub(super) fn padding(written: u64, alignment: u64) -> Vec<u8> {
    // `alignment` is at most a few KiB in files that we write.
    vec![0; (written.next_multiple_of(alignment) - written) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_bytes(&path, b"one").unwrap();
        let mut sink = Sink::create(&path).unwrap();
        sink.put(b"half").unwrap();
        drop(sink);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_bytes(&dir.path().join("no/such/folder/f"), b"").is_err());
    }
}
