//! GGUF version 3, one tensor in memory at a time; equal inputs give equal bytes.

use super::GgufValue;
use super::head::{Head, Info, MAX_DIMS};
use super::read::DEFAULT_ALIGNMENT;
use crate::formats::TensorSource;
use crate::formats::sink::{Sink, padding};
use crate::{Error, Kind, Result};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

/// llama.cpp refuses tensor names of 64 bytes and more.
const MAX_NAME: usize = 63;

/// Writes `metadata` and `tensors`, both in the given order, to a new file at `path`. Alignment is
/// `general.alignment` where given, else 32. A scalar is stored as one dimension of 1.
///
/// # Errors
/// [`Kind::Unsupported`] for an encoding that GGML does not have, more than four dimensions or a name that
/// llama.cpp would refuse; [`Kind::Usage`] for a name or key that stands twice or a bad alignment; those of
/// the producers; [`Kind::Io`].
pub fn write(path: &Path, metadata: &[(String, GgufValue)], tensors: &[TensorSource<'_>]) -> Result<()> {
    let alignment = alignment(path, metadata)?;
    let head = head(path, metadata, tensors, alignment)?.to_bytes();
    let mut sink = Sink::create(path)?;
    sink.put(&head)?;
    for tensor in tensors {
        // Before every tensor, so that a file ends with its last tensor's padding and starts without any.
        sink.put(&padding(sink.written(), alignment))?;
        sink.put(&tensor.bytes()?)?;
    }
    sink.put(&padding(sink.written(), alignment))?;
    sink.commit()
}

fn alignment(path: &Path, metadata: &[(String, GgufValue)]) -> Result<u64> {
    match metadata.iter().find(|(key, _)| key == "general.alignment").map(|(_, value)| value) {
        None => Ok(DEFAULT_ALIGNMENT),
        // The upper bound keeps padding small; real files have 32 or a page.
        Some(GgufValue::U32(n)) if n.is_power_of_two() && *n <= 1 << 16 => Ok(u64::from(*n)),
        Some(value) => {
            let what = format!("general.alignment {value:?} is no uint32 power of two up to 65536");
            Err(Error::new(Kind::Usage, path.display().to_string(), what))
        }
    }
}

fn head<'a>(
    path: &Path,
    metadata: &'a [(String, GgufValue)],
    tensors: &[TensorSource<'_>],
    alignment: u64,
) -> Result<Head<'a>> {
    let twice = |what: &str, name: &str| {
        Error::new(Kind::Usage, path.display().to_string(), format!("{what} `{name}` is given twice"))
    };
    let mut keys = HashSet::new();
    if let Some((key, _)) = metadata.iter().find(|(key, _)| !keys.insert(key.as_str())) {
        return Err(twice("metadata key", key));
    }
    let mut names = HashSet::new();
    let mut offset = 0u64;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(twice("tensor", &tensor.name));
        }
        infos.push(info(path, tensor, offset)?);
        offset = (offset + tensor.nbytes()? as u64).next_multiple_of(alignment);
    }
    Ok(Head { version: 3, metadata: Cow::Borrowed(metadata), tensors: infos })
}

fn info(path: &Path, tensor: &TensorSource<'_>, offset: u64) -> Result<Info> {
    let refuse = |what: String| {
        Error::unsupported(path.display().to_string(), what).at(format!("tensor `{}`", tensor.name))
    };
    let dtype = tensor.dtype.ggml_id().ok_or_else(|| refuse(format!("GGUF has no {}", tensor.dtype)))?;
    if tensor.name.len() > MAX_NAME {
        return Err(refuse(format!("llama.cpp reads names of up to {MAX_NAME} bytes")));
    }
    if tensor.shape.ndim() > MAX_DIMS as usize {
        return Err(refuse(format!("shape {} has more than {MAX_DIMS} dimensions", tensor.shape)));
    }
    let mut dims: Vec<u64> = tensor.shape.0.iter().rev().map(|d| *d as u64).collect();
    if dims.is_empty() {
        dims.push(1);
    }
    Ok(Info { name: tensor.name.clone(), dims, dtype, offset })
}
