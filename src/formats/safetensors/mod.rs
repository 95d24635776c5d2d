//! safetensors: a u64 header length, a JSON header, then tensor data without holes; little-endian.
//!
//! Source: the format's README and reference implementation. Beyond them, a name that stands twice is an
//! error, not the later one.

pub(super) mod head;
mod read;
mod write;

pub use read::parse;
pub use write::write;

use super::NamedTensor;
use crate::tensor::DType;
use std::collections::BTreeMap;

/// The contents of one safetensors file.
#[derive(Debug, Clone)]
pub struct Safetensors {
    /// `__metadata__`, empty where absent.
    pub metadata: BTreeMap<String, String>,
    /// In the order of their data.
    pub tensors: Vec<NamedTensor>,
}

/// The format's dtype names that have a counterpart here.
const DTYPES: &[(&str, DType)] = &[
    ("F64", DType::F64),
    ("F32", DType::F32),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I64", DType::I64),
    ("I32", DType::I32),
    ("I16", DType::I16),
    ("I8", DType::I8),
    ("U8", DType::U8),
];

/// The format's dtype names that have none.
const UNREAD_DTYPES: &[&str] = &[
    "BOOL",
    "U16",
    "U32",
    "U64",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
    "F6_E2M3",
    "F6_E3M2",
    "F4",
    "C64",
];
