//! Model files: an HF folder, a GGUF or an APR file, opened as a [`Checkpoint`].
//!
//! A checkpoint holds what the file says, in the file's own names and order; `models` gives it meaning.
//! Readers never allocate from a length that they have not checked against the file.

pub mod apr;
mod checkpoint;
mod cursor;
mod fault;
pub mod gguf;
pub mod hf;
pub mod imatrix;
pub(crate) mod json;
mod map;
mod patch;
pub mod safetensors;
mod sink;
mod source;
mod span;

pub use apr::{AprDialect, AprHeader, AprLayout};
pub use checkpoint::{Checkpoint, Container, NamedTensor};
pub use fault::{Fault, Stage, copy_artifact, faults};
pub use gguf::{GgufArray, GgufHeader, GgufValue};
pub use hf::HfFolder;
pub use imatrix::{Importance, ImportanceMatrix};
pub use patch::{Index, IndexEntry, StoredType, patch_index};
pub use sink::write_bytes;
pub use source::{Payload, TensorSource};

use crate::tensor::Bytes;
use crate::{Error, Kind, Result};
use std::fmt;
use std::path::Path;

/// Every container, in the order in which a file's first bytes are tried.
pub const FORMATS: &[&dyn Format] = &[&gguf::Gguf, &apr::Apr, &hf::Hf];

/// Opens the model at `path`: an HF folder, a `.safetensors` file inside one, a GGUF or an APR file.
/// A file is known by its first bytes; its name does not matter. Tensors stay in the mapped file.
///
/// # Errors
/// [`Kind::Io`] where there is nothing to read, [`Kind::Malformed`] for a file that is none of these or
/// breaks its format, [`Kind::Unsupported`] for a version, encoding or variant that this program does not
/// read. The error names the path and the place.
pub fn open(path: &Path) -> Result<Checkpoint> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, &e))?;
    if about.is_dir() {
        return hf::open_folder(path);
    }
    let bytes = map::map_file(path)?;
    match FORMATS.iter().find(|f| f.recognizes(&bytes)) {
        Some(format) => format.open(path, bytes),
        None => Err(unrecognized(path, &bytes)),
    }
}

/// One container: how it is known and how it is read.
pub trait Format: Sync {
    /// Which one.
    fn kind(&self) -> FormatKind;

    /// Whether a file that begins like this is meant to be of this format, broken or not.
    fn recognizes(&self, file: &[u8]) -> bool;

    /// Opens a file that [`Format::recognizes`] accepts.
    ///
    /// # Errors
    /// As [`open`].
    fn open(&self, path: &Path, file: Bytes) -> Result<Checkpoint>;
}

/// The three containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatKind {
    /// A Hugging Face model folder: `config.json`, safetensors, tokenizer files.
    HfFolder,
    /// GGUF v2 or v3.
    Gguf,
    /// APR v2.
    Apr,
}

impl FormatKind {
    /// The name in playbooks, reports and JSON: `safetensors`, `gguf`, `apr`.
    pub const fn name(self) -> &'static str {
        match self {
            FormatKind::HfFolder => "safetensors",
            FormatKind::Gguf => "gguf",
            FormatKind::Apr => "apr",
        }
    }
}

impl fmt::Display for FormatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Things people hand over by mistake, by how they begin.
const LOOKALIKES: &[(&[u8], &str)] = &[
    (b"version https://git-lfs", "this is a Git LFS pointer, not the model: run `git lfs pull`"),
    (b"PK\x03\x04", "this is a ZIP archive, probably a PyTorch checkpoint: save it as safetensors first"),
    (b"\x80\x02", "this is a Python pickle, which is never executed here: save it as safetensors first"),
    (b"lmgg", "this is a GGML file from before GGUF: convert it with llama.cpp first"),
    (b"fmgg", "this is a GGML file from before GGUF: convert it with llama.cpp first"),
    (b"tjgg", "this is a GGJT file from before GGUF: convert it with llama.cpp first"),
    (b"{", "this is JSON text: name the model folder that it lies in"),
    (b"<", "this is a web page or XML: the download went wrong"),
];

fn unrecognized(path: &Path, bytes: &[u8]) -> Error {
    let first = &bytes[..bytes.len().min(8)];
    let what = format!("no model file begins like this: {} ({})", hex(first), first.escape_ascii());
    let error = Error::new(Kind::Malformed, path.display().to_string(), what).at("byte 0");
    // aprender's shards come with a list of them.
    let start = &bytes[..bytes.len().min(4096)];
    if start.starts_with(b"{") && start.windows(13).any(|w| w == b"\"shard_count\"") {
        return error.hint("this is the manifest of a sharded APR: import the model again into one file");
    }
    let known = LOOKALIKES.iter().find(|(start, _)| bytes.starts_with(start));
    error.hint(
        known.map_or("expected a GGUF, APR or safetensors file, or an HF model folder", |(_, hint)| hint),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused_with_its_first_bytes_and_advice() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, kind, says) in [
            (&b""[..], Kind::Malformed, "empty"),
            (b"GG", Kind::Malformed, "47 47"),
            (b"PK\x03\x04zip", Kind::Malformed, "ZIP archive"),
            (b"version https://git-lfs.github.com/spec/v1", Kind::Malformed, "git lfs pull"),
            (b"<!DOCTYPE html>", Kind::Malformed, "3c 21 44 4f"),
            (b"{\n \"version\": \"2.0\", \"shard_count\": 3}", Kind::Malformed, "sharded APR"),
        ] {
            let path = dir.path().join("model.gguf");
            std::fs::write(&path, bytes).unwrap();
            let error = open(&path).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, kind);
            let text = error.to_string();
            assert!(text.contains(says) && text.contains("model.gguf"), "{text}");
        }
        let error = open(&dir.path().join("absent.gguf")).map(|_| ()).unwrap_err();
        assert_eq!(error.kind, Kind::Io);
    }
}
