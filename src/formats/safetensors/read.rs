//! From a stored header to tensors: every dtype known, every size right, the data covered without a hole.

use super::head::Head;
use super::{DTYPES, Safetensors, UNREAD_DTYPES};
use crate::formats::NamedTensor;
use crate::formats::span::{check_disjoint, check_empty, within};
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Result};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a safetensors file's bytes; `path` is only for messages. The tensors' `file` is 0.
///
/// # Errors
/// [`crate::Kind::Malformed`] where the bytes break the format, [`crate::Kind::Unsupported`] for a dtype of
/// the format that this program does not hold.
pub fn parse(bytes: Bytes, path: &Path) -> Result<Safetensors> {
    let head = Head::read(&bytes, path)?;
    let mut metadata = BTreeMap::new();
    let mut tensors = Vec::new();
    for (name, entry) in &head.object {
        if name == "__metadata__" {
            metadata = texts(path, entry)?;
        } else {
            tensors.push(resolve(path, &bytes, name, entry, head.data_start)?);
        }
    }
    tensors.sort_by(|a: &NamedTensor, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    let end = |t: &NamedTensor| t.offset as usize + t.tensor.bytes.len();
    let mut spans: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.offset as usize..end(t))).collect();
    check_disjoint(path, &mut spans)?;
    let mut covered = head.data_start;
    for (name, span) in &spans {
        if span.start != covered {
            let what = format!(
                "data starts at byte {}, but the tensor before it ends at {covered}: a hole",
                span.start
            );
            return Err(Error::malformed(path, what).at(format!("tensor `{name}`")));
        }
        covered = span.end;
    }
    if covered != bytes.len() {
        let what = format!("{} bytes follow the last tensor, the format allows none", bytes.len() - covered);
        return Err(Error::malformed(path, what).at(format!("byte {covered}")));
    }
    Ok(Safetensors { metadata, tensors })
}

fn texts(path: &Path, entry: &Json) -> Result<BTreeMap<String, String>> {
    let text = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
    let texts = entry.as_object().and_then(|object| object.iter().map(text).collect());
    texts.ok_or_else(|| Error::malformed(path, "`__metadata__` is no object of strings").at("the header"))
}

fn resolve(path: &Path, file: &Bytes, name: &str, entry: &Json, data_start: usize) -> Result<NamedTensor> {
    let broken = |what: String| Error::malformed(path, what).at(format!("tensor `{name}`"));
    let dtype = match entry["dtype"].as_str() {
        Some(text) => dtype(path, name, text)?,
        None => return Err(broken("`dtype` is missing or no string".into())),
    };
    let dims =
        usizes(&entry["shape"]).ok_or_else(|| broken("`shape` is missing or no list of sizes".into()))?;
    let shape = Shape(dims);
    check_empty(path, name, &shape, file.len())?;
    let Some(&[start, end]) = usizes(&entry["data_offsets"]).as_deref() else {
        return Err(broken("`data_offsets` is missing or no pair of offsets".into()));
    };
    let size =
        dtype.nbytes(&shape).ok_or_else(|| broken(format!("the size of {dtype} {shape} overflows")))?;
    if end.checked_sub(start) != Some(size) {
        return Err(broken(format!(
            "data_offsets {start} to {end} do not hold {dtype} {shape}, which needs {size} bytes"
        )));
    }
    // Both are at most the file's length or refused.
    let range = within(path, name, (data_start as u64).checked_add(start as u64), size, file.len())?;
    let offset = range.start as u64;
    let bytes = file.slice(range).expect("`within` checked the range");
    Ok(NamedTensor { name: name.to_owned(), tensor: Tensor { dtype, shape, bytes }, offset, file: 0 })
}

fn dtype(path: &Path, name: &str, text: &str) -> Result<DType> {
    let known = DTYPES.iter().find(|(n, _)| *n == text).map(|(_, dtype)| *dtype);
    known.ok_or_else(|| {
        let at = format!("tensor `{name}`");
        if UNREAD_DTYPES.contains(&text) {
            Error::unsupported(path.display().to_string(), format!("dtype {text} is not read")).at(at)
        } else {
            Error::malformed(path, format!("unknown dtype `{text}`")).at(at)
        }
    })
}

fn usizes(list: &Json) -> Option<Vec<usize>> {
    list.as_array()?.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
}
