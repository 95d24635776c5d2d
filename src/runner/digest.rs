//! SHA-256 of files and folders, for provenance and for keys that follow content.

use crate::formats;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The SHA-256 of a file, or of the files of an HF folder or of a split GGUF with their names, as lower-case hex.
pub fn of_path(path: &Path) -> Result<String> {
    if path.is_dir() {
        return of_folder(path);
    }
    match parts(path) {
        Some(files) => of_files(&files),
        None => of_file(path),
    }
}

/// The parts of a split GGUF, of which `path` is one by its name (`-00001-of-00003.gguf`); `None` for any other
/// file, and for one that does not open: its error is told where it is read.
fn parts(path: &Path) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    if !name.contains("-of-") || !name.ends_with(".gguf") {
        return None;
    }
    let checkpoint = formats::open(path).ok()?;
    (checkpoint.files().len() > 1).then(|| checkpoint.files().to_vec())
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
    of_files(&files)
}

fn of_files(files: &[PathBuf]) -> Result<String> {
    let mut listing = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        listing.push_str(&format!("{} {name}\n", of_file(file)?));
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

    #[test]
    fn a_split_gguf_is_hashed_whole_from_any_of_its_parts() {
        use crate::formats::{GgufValue, TensorSource, gguf};
        use crate::tensor::{Bytes, DType, Shape, Tensor};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let part = |no: u16| folder.path().join(format!("m-{:05}-of-00002.gguf", no + 1));
        let write = |no: u16, value: f32| {
            let keys = [
                ("general.architecture", GgufValue::String("llama".into())),
                ("split.no", GgufValue::U16(no)),
                ("split.count", GgufValue::U16(2)),
                ("split.tensors.count", GgufValue::I32(2)),
            ];
            let bytes = Bytes::from_vec(value.to_le_bytes().to_vec());
            let tensor = Tensor { dtype: DType::F32, shape: Shape::from([1]), bytes };
            let keys = keys.map(|(key, value)| (key.to_owned(), value));
            let name = format!("t{no}");
            gguf::write(&part(no), &keys, &[TensorSource::stored(&name, &tensor)]).expect("writable");
        };
        write(0, 1.0);
        write(1, 2.0);
        let whole = of_path(&part(0)).expect("readable");
        assert_eq!(of_path(&part(1)).expect("readable"), whole);
        write(1, 3.0);
        assert_ne!(of_path(&part(0)).expect("readable"), whole, "a change in the other part is seen");
    }
}
