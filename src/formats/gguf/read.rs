//! From a stored head to a checkpoint: every name once, every type known, every tensor inside the file.

use super::head::{Head, Info};
use super::split::position;
use super::{GgufHeader, GgufValue};
use crate::formats::cursor::Cursor;
use crate::formats::span::{align_up, check_disjoint, check_empty, within};
use crate::formats::{Checkpoint, Container, NamedTensor};
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Result};
use std::collections::HashSet;
use std::path::Path;

/// The alignment where `general.alignment` is absent.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;

/// Reads a GGUF file's bytes; `path` is only for messages.
///
/// # Errors
/// [`crate::Kind::Malformed`] where the bytes break the format, [`crate::Kind::Unsupported`] for version 1,
/// big-endian files, parts of a split file and GGML types that this program does not decode.
pub fn parse(bytes: Bytes, path: &Path) -> Result<Checkpoint> {
    let part = parse_part(bytes, path)?;
    match position(path, &part.header, part.tensors.len())? {
        None => part.into_checkpoint(path),
        Some(position) => {
            let what = format!("this is one of {} parts of a split GGUF", position.count);
            Err(Error::unsupported(path.display().to_string(), what)
                .at("metadata `split.count`")
                .hint("open the file itself, with its other parts beside it"))
        }
    }
}

/// One file: a whole model, or a part of one.
pub(super) struct Part {
    pub(super) header: GgufHeader,
    /// File order; their `file` is 0.
    pub(super) tensors: Vec<NamedTensor>,
}

impl Part {
    /// As a whole model in the file at `path`.
    pub(super) fn into_checkpoint(self, path: &Path) -> Result<Checkpoint> {
        let Part { header, tensors } = self;
        Checkpoint::new(path.to_owned(), Container::Gguf(header), vec![path.to_owned()], tensors)
    }
}

/// Reads one file, without a look at the parts that it may have beside it.
pub(super) fn parse_part(bytes: Bytes, path: &Path) -> Result<Part> {
    let mut cursor = Cursor::new(path, &bytes);
    let head = Head::read(&mut cursor, path)?;
    let head_end = cursor.position() as u64;
    check_keys(path, &head.metadata)?;
    let alignment = alignment(path, &head.metadata)?;
    let header = GgufHeader { version: head.version, alignment, metadata: head.metadata.into_owned() };
    let data_start = align_up(head_end, header.alignment);
    let mut tensors = Vec::with_capacity(head.tensors.len());
    for info in head.tensors {
        tensors.push(resolve(path, &bytes, info, data_start, header.alignment)?);
    }
    let end = |t: &NamedTensor| t.offset as usize + t.tensor.bytes.len();
    let mut spans: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.offset as usize..end(t))).collect();
    check_disjoint(path, &mut spans)?;
    Ok(Part { header, tensors })
}

fn check_keys(path: &Path, metadata: &[(String, GgufValue)]) -> Result<()> {
    let mut seen = HashSet::with_capacity(metadata.len());
    match metadata.iter().find(|(key, _)| !seen.insert(key)) {
        None => Ok(()),
        Some((key, _)) => Err(Error::malformed(path, "duplicate name").at(format!("metadata `{key}`"))),
    }
}

/// `general.alignment`, or the default.
pub(super) fn alignment(path: &Path, metadata: &[(String, GgufValue)]) -> Result<u64> {
    match metadata.iter().find(|(key, _)| key == "general.alignment").map(|(_, value)| value) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(value) => match value.as_u64() {
            // The key is a uint32.
            Some(n) if n.is_power_of_two() && n <= u64::from(u32::MAX) => Ok(n),
            _ => Err(Error::malformed(path, format!("{value:?} is no power of two in 32 bits"))
                .at("metadata `general.alignment`")),
        },
    }
}

fn resolve(
    path: &Path,
    file: &Bytes,
    info: Info,
    data_start: Option<u64>,
    alignment: u64,
) -> Result<NamedTensor> {
    let broken = |what: String| Error::malformed(path, what).at(format!("tensor `{}`", info.name));
    let Some(dtype) = DType::from_ggml_id(info.dtype) else { return Err(unknown_type(path, &info)) };
    let dims: Option<Vec<usize>> = info.dims.iter().rev().map(|d| usize::try_from(*d).ok()).collect();
    let shape = Shape(dims.ok_or_else(|| broken(format!("dimensions {:?} overflow", info.dims)))?);
    check_empty(path, &info.name, &shape, file.len())?;
    let Some(size) = dtype.nbytes(&shape) else {
        let why = "its size overflows, or a row is no whole number of blocks";
        return Err(broken(format!("{dtype} of shape {shape} is impossible: {why}")));
    };
    if !info.offset.is_multiple_of(alignment) {
        return Err(broken(format!(
            "data offset {} is no multiple of the alignment {alignment}",
            info.offset
        )));
    }
    let start = data_start.and_then(|s| s.checked_add(info.offset));
    let range = within(path, &info.name, start, size, file.len())?;
    let offset = range.start as u64;
    let bytes = file.slice(range).expect("`within` checked the range");
    Ok(NamedTensor { name: info.name, tensor: Tensor { dtype, shape, bytes }, offset, file: 0 })
}

/// GGML types that exist and are not decoded here.
const KNOWN_TYPES: &[(u32, &str)] = &[
    (4, "Q4_2, which GGML removed"),
    (5, "Q4_3, which GGML removed"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (31, "Q4_0_4_4, which GGML removed"),
    (32, "Q4_0_4_8, which GGML removed"),
    (33, "Q4_0_8_8, which GGML removed"),
    (36, "IQ4_NL_4_4, which GGML removed"),
    (37, "IQ4_NL_4_8, which GGML removed"),
    (38, "IQ4_NL_8_8, which GGML removed"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

fn unknown_type(path: &Path, info: &Info) -> Error {
    let at = format!("tensor `{}`", info.name);
    match KNOWN_TYPES.iter().find(|(id, _)| *id == info.dtype) {
        Some((id, name)) => Error::unsupported(
            path.display().to_string(),
            format!("dtype {id} is {name}: it is not decoded here"),
        )
        .at(at)
        .hint("requantise the model to Q8_0, Q4_0 or a K-quant"),
        None => Error::malformed(path, format!("unknown dtype {}", info.dtype)).at(at),
    }
}
