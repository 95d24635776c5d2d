//! Files as bytes: weights mapped, so that opening a model copies nothing; side files read, if they are of a side
//! file's size.

use crate::tensor::Bytes;
use crate::{Error, Kind, Result};
use std::fs::File;
use std::path::Path;

/// The whole file at `path`, mapped read-only.
///
/// # Errors
/// [`Kind::Io`] where it cannot be read or is no regular file, [`Kind::Malformed`] where it is empty.
pub(super) fn map_file(path: &Path) -> Result<Bytes> {
    check_regular(path, &std::fs::metadata(path).map_err(|e| Error::io(path, &e))?)?;
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

/// The bytes of the text file at `path`, or `None` where there is none.
///
/// # Errors
/// [`Kind::Io`] where it cannot be read or is no regular file, [`Kind::Malformed`] where it is larger than
/// [`LARGEST_SIDE_FILE`].
pub(super) fn read_side_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, &e)),
    };
    check_regular(path, &about)?;
    if about.len() > LARGEST_SIDE_FILE {
        let what = format!("the file has {} bytes, its kind never has over {LARGEST_SIDE_FILE}", about.len());
        return Err(Error::malformed(path, what).at(format!("byte {LARGEST_SIDE_FILE}")));
    }
    std::fs::read(path).map(Some).map_err(|e| Error::io(path, &e))
}

/// The largest configuration, index or tokenizer that is read, in bytes: several times the largest in use.
const LARGEST_SIDE_FILE: u64 = 256 << 20;

/// Asked before opening: opening a named pipe would wait for its writer.
fn check_regular(path: &Path, about: &std::fs::Metadata) -> Result<()> {
    if about.is_file() {
        return Ok(());
    }
    let found = if about.is_dir() { "a folder where a file should be" } else { "not a regular file" };
    Err(Error::new(Kind::Io, path.display().to_string(), found))
}
