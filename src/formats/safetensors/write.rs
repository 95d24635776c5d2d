//! A safetensors file, one tensor in memory at a time; equal inputs give equal bytes.

use super::DTYPES;
use super::head::Head;
use crate::formats::TensorSource;
use crate::formats::sink::Sink;
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes `tensors` to a new file at `path`. Wide elements come first and names are sorted within a width,
/// so that every tensor is aligned to its element, which PyTorch's loader needs.
///
/// # Errors
/// [`Kind::Unsupported`] for an encoding that the format has no name for; [`Kind::Usage`] for a name that
/// stands twice; those of the producers; [`Kind::Io`].
pub fn write(path: &Path, metadata: &BTreeMap<String, String>, tensors: &[TensorSource<'_>]) -> Result<()> {
    let mut sorted: Vec<&TensorSource<'_>> = tensors.iter().collect();
    sorted.sort_by(|a, b| (b.dtype.block_bytes(), &a.name).cmp(&(a.dtype.block_bytes(), &b.name)));
    let head = Head::bytes_of(&header(path, metadata, &sorted)?, path)?;
    let mut sink = Sink::create(path)?;
    sink.put(&head)?;
    for tensor in sorted {
        sink.put(&tensor.bytes()?)?;
    }
    sink.commit()
}

fn header(path: &Path, metadata: &BTreeMap<String, String>, sorted: &[&TensorSource<'_>]) -> Result<String> {
    let mut object = Map::new();
    if !metadata.is_empty() {
        object.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0u64;
    for tensor in sorted {
        let at = format!("tensor `{}`", tensor.name);
        let Some((dtype, _)) = DTYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype) else {
            let what = format!("safetensors has no {}", tensor.dtype);
            return Err(Error::unsupported(path.display().to_string(), what)
                .at(at)
                .hint("dequantise it first"));
        };
        let end = offset + tensor.nbytes()? as u64;
        let entry = json!({ "dtype": dtype, "shape": tensor.shape.0, "data_offsets": [offset, end] });
        if tensor.name == "__metadata__" || object.insert(tensor.name.clone(), entry).is_some() {
            let what = "the name is given twice, or is the one that the format keeps for itself";
            return Err(Error::new(Kind::Usage, path.display().to_string(), what).at(at));
        }
        offset = end;
    }
    Ok(Json::Object(object).to_string())
}
