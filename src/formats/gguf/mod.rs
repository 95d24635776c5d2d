//! GGUF: magic, counts, typed metadata, tensor descriptions, padding, tensor data; all little-endian.
//!
//! Versions 2 and 3 are read (their little-endian bytes are laid out alike), 3 is written. GGUF stores the
//! innermost dimension first; a [`crate::tensor::Shape`] is the reverse, the bytes are the same.
//! Source: the GGUF specification in ggml's `docs/gguf.md`, and llama.cpp's reader where that is silent.

pub(super) mod fault;
mod head;
mod read;
mod split;
mod value;
mod write;

pub use read::parse;
pub use value::{GgufArray, GgufValue};
pub use write::write;

use super::{Checkpoint, Format, FormatKind, map};
use crate::Result;
use crate::tensor::Bytes;
use std::path::Path;

/// The first four bytes.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// What a GGUF says before its tensors.
#[derive(Debug, Clone)]
pub struct GgufHeader {
    /// 2 or 3.
    pub version: u32,
    /// `general.alignment`, 32 where absent.
    pub alignment: u64,
    /// File order.
    pub metadata: Vec<(String, GgufValue)>,
}

impl GgufHeader {
    /// The value of metadata key `key`.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

/// The row of [`super::FORMATS`].
pub(super) struct Gguf;

impl Format for Gguf {
    fn kind(&self) -> FormatKind {
        FormatKind::Gguf
    }

    fn recognizes(&self, file: &[u8]) -> bool {
        file.starts_with(MAGIC)
    }

    fn open(&self, path: &Path, file: Bytes) -> Result<Checkpoint> {
        split::open(path, file)
    }
}

/// Opens the GGUF file at `path`; of a split one, any part.
///
/// # Errors
/// As [`super::open`].
pub fn open(path: &Path) -> Result<Checkpoint> {
    split::open(path, map::map_file(path)?)
}
