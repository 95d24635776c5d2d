//! Model files: an HF folder, a GGUF or an APR file, opened as a [`Checkpoint`].
//!
//! A checkpoint holds what the file says, in the file's own names and order; `models` gives it meaning.
//! Readers never allocate from a length that they have not checked against the file.

use crate::tensor::{DType, Shape, Tensor};
use serde_json::{Map, Value as Json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

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

/// An opened model: its tensors in file order and its metadata, nothing copied.
pub struct Checkpoint {
    /// The folder or file it was opened from.
    pub path: PathBuf,
    /// What the file says beside its tensors.
    pub container: Container,
    /// File order.
    tensors: Vec<NamedTensor>,
    by_name: HashMap<String, usize>,
}

/// A tensor with its stored name and place.
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// The name in the file.
    pub name: String,
    /// Encoding, shape and bytes.
    pub tensor: Tensor,
    /// Byte offset of the data in `file`.
    pub offset: u64,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
}

/// Metadata, by container.
pub enum Container {
    /// An HF folder.
    Hf(HfFolder),
    /// A GGUF file.
    Gguf(GgufHeader),
    /// An APR file.
    Apr(AprHeader),
}

/// The side files of an HF folder.
#[derive(Clone, Default)]
pub struct HfFolder {
    /// `config.json`.
    pub config: Map<String, Json>,
    /// `generation_config.json`.
    pub generation_config: Option<Map<String, Json>>,
    /// `tokenizer.json`, as stored.
    pub tokenizer_json: Option<Arc<[u8]>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Map<String, Json>>,
    /// A separate `chat_template.jinja`, which newer folders have.
    pub chat_template: Option<String>,
}

/// What a GGUF says before its tensors.
#[derive(Clone)]
pub struct GgufHeader {
    /// 2 or 3.
    pub version: u32,
    /// `general.alignment`, 32 where absent.
    pub alignment: u64,
    /// File order.
    pub metadata: Vec<(String, GgufValue)>,
}

/// The 13 metadata value types of GGUF.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the type is the name
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A GGUF array: all elements of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the type is the name
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// What an APR v2 file says before its tensors.
#[derive(Clone)]
pub struct AprHeader {
    /// Major and minor version.
    pub version: (u8, u8),
    /// Flag bits (reference A.2).
    pub flags: u16,
    /// The metadata object, in file order.
    pub metadata: Map<String, Json>,
    /// The footer's CRC where there is a footer, and whether it holds.
    pub footer: Option<(u32, bool)>,
}
