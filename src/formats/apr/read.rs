//! From a stored head to a checkpoint: names sorted, every dtype decided, every tensor inside the file.

use super::AprHeader;
use super::dialect::{self, APRENDER_NAME, AprDialect, AprLayout, CONTRACT_NAME, DIALECT_KEY};
use super::head::{ALIGNMENT, Entry, Head};
use crate::formats::span::{align_up, check_disjoint, check_empty, within};
use crate::formats::{Checkpoint, Container, NamedTensor, json};
use crate::quant::tiled;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Result};
use serde_json::{Map, Value as Json};
use std::num::NonZeroUsize;
use std::path::Path;

/// Reads an APR file's bytes; `path` is only for messages.
///
/// # Errors
/// [`crate::Kind::Malformed`] where the bytes break the format or a CRC does not hold,
/// [`crate::Kind::Unsupported`] for version 1 and for compressed, encrypted, sharded and column-major files.
pub fn parse(bytes: Bytes, path: &Path) -> Result<Checkpoint> {
    let head = Head::read(&bytes, path)?;
    let metadata = json::object(path, "the metadata", &head.metadata)?;
    refuse_shard(path, &metadata)?;
    let declared = declared(path, &metadata)?;
    check_order(path, &head.entries)?;
    let mut tensors = Vec::with_capacity(head.entries.len());
    let mut data_end = head.data_offset;
    for entry in head.entries {
        let tensor = resolve(path, &bytes, entry, head.data_offset, declared)?;
        data_end = data_end.max(tensor.offset + tensor.tensor.bytes.stored_len() as u64);
        tensors.push(tensor);
    }
    let end = |t: &NamedTensor| t.offset as usize + t.tensor.bytes.stored_len();
    let mut spans: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.offset as usize..end(t))).collect();
    check_disjoint(path, &mut spans)?;
    let footer = footer(path, &bytes, data_end)?.map(|crc| (crc, true));
    let header = AprHeader { version: head.version, flags: head.flags, metadata, footer };
    Checkpoint::new(path.to_owned(), Container::Apr(header), vec![path.to_owned()], tensors)
}

/// The table of dtype bytes that the metadata declares. A declaration that is not known is not guessed at.
fn declared(path: &Path, metadata: &Map<String, Json>) -> Result<Option<AprDialect>> {
    dialect::declared(metadata).map_err(|value| {
        Error::unsupported(path.display().to_string(), format!("dialect {value} is unknown"))
            .at(format!("metadata `{DIALECT_KEY}`"))
            .hint(format!(
                "\"{CONTRACT_NAME}\" and \"{APRENDER_NAME}\" are known, and so are files without the key"
            ))
    })
}

/// aprender's metadata may say what the flag does not: that this is one shard of several.
fn refuse_shard(path: &Path, metadata: &Map<String, Json>) -> Result<()> {
    match metadata.get("sharding").and_then(|s| s.get("shard_count")).and_then(Json::as_u64) {
        Some(count @ 2..) => {
            let what = format!("this file is one shard of {count}, which is not read");
            Err(Error::unsupported(path.display().to_string(), what)
                .at("metadata `sharding`")
                .hint("import the model again into one file"))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_order(path: &Path, entries: &[Entry]) -> Result<()> {
    for pair in entries.windows(2) {
        let (before, after) = (&pair[0].name, &pair[1].name);
        if before >= after {
            let what = match before == after {
                true => "duplicate name".to_owned(),
                false => format!("the index is not sorted: it comes after `{before}`"),
            };
            return Err(Error::malformed(path, what).at(format!("tensor `{after}`")));
        }
    }
    Ok(())
}

fn resolve(
    path: &Path,
    file: &Bytes,
    entry: Entry,
    data_offset: u64,
    declared: Option<AprDialect>,
) -> Result<NamedTensor> {
    let broken = |what: String| Error::malformed(path, what).at(format!("tensor `{}`", entry.name));
    let dims: Option<Vec<usize>> = entry.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = Shape(dims.ok_or_else(|| broken(format!("dimensions {:?} overflow", entry.dims)))?);
    check_empty(path, &entry.name, &shape, file.len())?;
    let (dtype, layout) = dialect::resolve(entry.dtype, &shape, entry.size, declared).map_err(broken)?;
    if !entry.offset.is_multiple_of(ALIGNMENT) {
        return Err(broken(format!("data offset {} is no multiple of {ALIGNMENT}", entry.offset)));
    }
    let size = usize::try_from(entry.size).map_err(|_| broken(format!("size {} overflows", entry.size)))?;
    let range = within(path, &entry.name, data_offset.checked_add(entry.offset), size, file.len())?;
    let offset = range.start as u64;
    let stored = file.slice(range).expect("`within` checked the range");
    let bytes = match layout {
        AprLayout::Plain => stored,
        AprLayout::Tiled => untiled_on_demand(stored, dtype, &shape)
            .ok_or_else(|| broken(format!("row tiles of {dtype} {shape} overflow")))?,
    };
    Ok(NamedTensor { name: entry.name, tensor: Tensor { dtype, shape, bytes }, offset, file: 0 })
}

/// Tiles of the size that `resolve` demanded, seen as plain blocks.
fn untiled_on_demand(tiles: Bytes, dtype: DType, shape: &Shape) -> Option<Bytes> {
    let len = dtype.nbytes(shape)?;
    let shape = shape.clone();
    let untile = move |tiles: &[u8]| {
        tiled::unpack(dtype, &shape, tiles, NonZeroUsize::MIN).expect("`resolve` checked shape and size")
    };
    Some(Bytes::from_tiles(tiles, len, untile))
}

/// The footer's CRC, verified. Old files end after the last tensor's padding and have none.
fn footer(path: &Path, file: &[u8], data_end: u64) -> Result<Option<u32>> {
    // The tensors lie in the file, so rounding up stays far from overflow.
    let end = align_up(data_end, ALIGNMENT).and_then(|end| usize::try_from(end).ok());
    let rest = end.and_then(|end| file.get(end..));
    match rest {
        None => Err(Error::malformed(path, "the file is cut short inside the last tensor's padding")
            .at(format!("byte {}", file.len()))),
        Some([]) => Ok(None),
        Some(&[a, b, c, d]) => {
            let stored = u32::from_le_bytes([a, b, c, d]);
            let computed = crc32fast::hash(&file[..file.len() - 4]);
            if stored != computed {
                let what = format!("footer CRC is {stored:08x}, the file's bytes give {computed:08x}");
                return Err(Error::malformed(path, what)
                    .at(format!("byte {}", file.len() - 4))
                    .hint("the file was damaged or cut after it was written"));
            }
            Ok(Some(stored))
        }
        Some(rest) => {
            let what = format!("{} bytes follow the last tensor where a 4-byte footer should be", rest.len());
            Err(Error::malformed(path, what).at(format!("byte {}", file.len() - rest.len())))
        }
    }
}
