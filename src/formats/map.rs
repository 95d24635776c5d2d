//! Files as bytes: mapped, so that opening a model copies nothing.

use crate::tensor::Bytes;
use crate::{Error, Kind, Result};
use std::fs::File;
use std::path::Path;

/// The whole file at `path`, mapped read-only.
///
/// # Errors
/// [`Kind::Io`] where it cannot be read or is no regular file, [`Kind::Malformed`] where it is empty.
pub(super) fn map_file(path: &Path) -> Result<Bytes> {
    // Asked before opening: opening a named pipe would wait for its writer.
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if !about.is_file() {
        let found = if about.is_dir() { "a folder where a file should be" } else { "not a regular file" };
        return Err(Error::new(Kind::Io, path.display().to_string(), found));
    }
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    if file.metadata().map_err(|e| Error::io(path, &e))?.len() == 0 {
        return Err(Error::malformed(path, "the file is empty").at("byte 0"));
    }
    // SAFETY: the map is read-only and private to us. What Rust cannot rule out is another process that
    // writes to or truncates the file while it is mapped: changed bytes would be seen as changed weights,
    // and a truncated page as SIGBUS. Every writer of this crate replaces files by rename, which leaves the
    // mapped inode alone. A model that something else rewrites in place while it is under test is outside
    // what a memory map can promise, here as in every runner that maps its models.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, &e))?;
    Ok(Bytes::from_mmap(map))
}
