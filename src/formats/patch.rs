//! The index of a written file changed in place of its tensors: what a writer that is wrong about types, sizes or
//! places leaves behind. Everything around the change stays valid, checksums included.

use super::{FormatKind, apr, gguf, hf, open};
use crate::Result;
use std::path::Path;

/// What an index says, open to be changed. The tensor data follows as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// File order.
    pub entries: Vec<IndexEntry>,
    /// A metadata key that is to stand twice.
    pub repeated_key: Option<String>,
}

/// One tensor as the index describes it, sound or not.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// The stored name.
    pub name: String,
    /// The stored type.
    pub dtype: StoredType,
    /// Outermost first.
    pub dims: Vec<u64>,
    /// From the start of the data section.
    pub offset: u64,
    /// Bytes; `None` where the format derives them from type and shape (GGUF).
    pub size: Option<u64>,
}

/// How a format writes an element type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredType {
    /// GGUF's type number, APR's byte.
    Number(u32),
    /// safetensors' name.
    Name(String),
}

/// Copies the artifact at `src` to the new place `dst` with its index changed by `change`. Of a folder with shards, the
/// index of the first is meant.
///
/// # Errors
/// As [`open`]; [`crate::Kind::Unsupported`] where the file has nothing that can be changed so; [`crate::Kind::Io`].
pub fn patch_index(src: &Path, dst: &Path, change: &mut dyn FnMut(&mut Index)) -> Result<()> {
    match open(src)?.kind() {
        FormatKind::Gguf => gguf::fault::patch(src, dst, change),
        FormatKind::Apr => apr::fault::patch(src, dst, change),
        FormatKind::HfFolder => hf::fault::patch(src, dst, change),
    }
}
