//! SHA-256 of files and folders, for provenance and for keys that follow content.

use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// The SHA-256 of a file, or of an HF folder's files with their names, as lower-case hex.
pub fn of_path(path: &Path) -> Result<String> {
    if path.is_dir() { of_folder(path) } else { of_file(path) }
}

/// The SHA-256 of a text, as lower-case hex.
pub fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn of_folder(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::io(folder, &error))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut listing = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        listing.push_str(&format!("{} {name}\n", of_file(&file)?));
    }
    Ok(of_text(&listing))
}

fn of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| Error::io(path, &error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(|error| Error::io(path, &error))?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha256_and_a_folder_depends_on_names_and_contents() {
        assert_eq!(of_text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writable");
        write("a", "abc");
        let first = of_path(folder.path()).expect("readable");
        assert_eq!(of_path(&folder.path().join("a")).expect("readable"), of_text("abc"));
        write("a", "abd");
        let second = of_path(folder.path()).expect("readable");
        fs::rename(folder.path().join("a"), folder.path().join("b")).expect("writable");
        let third = of_path(folder.path()).expect("readable");
        assert!(first != second && second != third && first != third);
    }
}
