//! GGUF's faults: the head is rewritten, the tensor data follows as it was.

use super::GgufValue;
use super::head::{Head, Info};
use super::read::alignment;
use crate::Result;
use crate::formats::cursor::Cursor;
use crate::formats::fault::{Fault, STRANGER, Stage, is_needed, unsuited, victim};
use crate::formats::map::map_file;
use crate::formats::patch::{Index, IndexEntry, StoredType};
use crate::formats::sink::{Sink, padding};
use crate::tensor::DType;
use std::path::Path;

/// Every fault of a GGUF file.
pub(in crate::formats) const FAULTS: &[Fault] = &[
    Fault { name: "unknown-dtype", stage: Stage::Open, expect: "unknown dtype 250", apply: unknown_dtype },
    Fault { name: "unknown-tensor", stage: Stage::Check, expect: STRANGER, apply: unknown_tensor },
    Fault { name: "renamed-tensor", stage: Stage::Check, expect: "missing", apply: renamed_tensor },
    Fault { name: "missing-tensor", stage: Stage::Check, expect: "missing", apply: missing_tensor },
    Fault { name: "duplicate-tensor", stage: Stage::Open, expect: "duplicate name", apply: duplicate_tensor },
    Fault { name: "swapped-shape", stage: Stage::Check, expect: "expected", apply: swapped_shape },
    Fault {
        name: "shape-beyond-data",
        stage: Stage::Open,
        expect: "out of bounds",
        apply: shape_beyond_data,
    },
    Fault {
        name: "offset-out-of-bounds",
        stage: Stage::Open,
        expect: "out of bounds",
        apply: offset_out_of_bounds,
    },
    Fault { name: "overlapping-tensors", stage: Stage::Open, expect: "overlaps", apply: overlapping_tensors },
    Fault { name: "dimension-2^60", stage: Stage::Open, expect: "overflow", apply: huge_dimension },
    Fault { name: "count-2^60", stage: Stage::Open, expect: "tensors declared", apply: huge_count },
    Fault {
        name: "unknown-metadata-type",
        stage: Stage::Open,
        expect: "unknown value type 99",
        apply: unknown_value_type,
    },
    Fault {
        name: "duplicate-metadata-key",
        stage: Stage::Open,
        expect: "duplicate name",
        apply: duplicate_key,
    },
    Fault { name: "mistyped-metadata", stage: Stage::Check, expect: "block_count", apply: mistyped_metadata },
    Fault { name: "truncated", stage: Stage::Open, expect: "out of bounds", apply: truncated },
];

/// A copy in the making.
struct Draft {
    head: Head<'static>,
    /// Data of further tensors, appended on an aligned place: `data_len` rounded up.
    extra: Vec<u8>,
    /// Bytes to put over the finished head.
    patch: Option<(usize, Vec<u8>)>,
    /// How much of the data section is copied.
    data_len: u64,
    alignment: u64,
}

impl Draft {
    fn victim(&mut self) -> &mut Info {
        let at = victim(self.head.tensors.iter().map(|t| t.name.as_str()));
        &mut self.head.tensors[at]
    }

    /// The tensor whose data comes last.
    fn last(&mut self) -> &mut Info {
        // `draft` refused files without tensors.
        self.head.tensors.iter_mut().max_by_key(|t| t.offset).expect("a draft has tensors")
    }
}

/// Writes a copy of `src`, changed by `change`, to `dst`.
fn draft(src: &Path, dst: &Path, change: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    let file = map_file(src)?;
    let mut cursor = Cursor::new(src, &file);
    let head = Head::read(&mut cursor, src)?;
    if head.tensors.is_empty() || head.metadata.is_empty() {
        return Err(unsuited(src, "tensors and metadata"));
    }
    let alignment = alignment(src, &head.metadata)?;
    let start = cursor.position().next_multiple_of(alignment as usize).min(file.len());
    let data_len = (file.len() - start) as u64;
    let mut draft = Draft { head, extra: Vec::new(), patch: None, data_len, alignment };
    change(&mut draft)?;

    let mut head = draft.head.to_bytes();
    if let Some((at, bytes)) = &draft.patch {
        head[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    let mut sink = Sink::create(dst)?;
    sink.put(&head)?;
    sink.put(&padding(sink.written(), alignment))?;
    sink.put(&file[start..start + draft.data_len as usize])?;
    if !draft.extra.is_empty() {
        sink.put(&padding(sink.written(), alignment))?;
        sink.put(&draft.extra)?;
    }
    sink.commit_unsynced()
}

/// [`crate::formats::patch_index`] of a GGUF.
pub(in crate::formats) fn patch(src: &Path, dst: &Path, change: &mut dyn FnMut(&mut Index)) -> Result<()> {
    draft(src, dst, |d| {
        let entry = |t: &Info| IndexEntry {
            name: t.name.clone(),
            dtype: StoredType::Number(t.dtype),
            dims: t.dims.iter().rev().copied().collect(),
            offset: t.offset,
            size: None,
        };
        let mut index = Index { entries: d.head.tensors.iter().map(entry).collect(), repeated_key: None };
        change(&mut index);
        d.head.tensors = index.entries.into_iter().map(info).collect::<Result<_>>()?;
        if let Some(key) = index.repeated_key {
            let pair = d.head.metadata.iter().find(|(k, _)| *k == key).cloned();
            d.head.metadata.to_mut().push(pair.ok_or_else(|| unsuited(src, &format!("the key `{key}`")))?);
        }
        Ok(())
    })
}

fn info(entry: IndexEntry) -> Result<Info> {
    let StoredType::Number(dtype) = entry.dtype else {
        return Err(unsuited(Path::new(&entry.name), "a type number"));
    };
    let dims = entry.dims.into_iter().rev().collect();
    Ok(Info { name: entry.name, dims, dtype, offset: entry.offset })
}

fn unknown_dtype(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().dtype = 250;
        Ok(())
    })
}

fn unknown_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let offset = d.data_len.next_multiple_of(d.alignment);
        d.extra = vec![0; 128];
        d.head.tensors.push(Info { name: STRANGER.into(), dims: vec![32], dtype: 0, offset });
        Ok(())
    })
}

fn renamed_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().name = STRANGER.into();
        Ok(())
    })
}

fn missing_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let at = victim(d.head.tensors.iter().map(|t| t.name.as_str()));
        d.head.tensors.remove(at);
        Ok(())
    })
}

fn duplicate_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // Data of its own, so that only the name is wrong.
        let offset = d.data_len.next_multiple_of(d.alignment);
        d.extra = vec![0; 128];
        let name = d.victim().name.clone();
        d.head.tensors.push(Info { name, dims: vec![32], dtype: 0, offset });
        Ok(())
    })
}

fn swapped_shape(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let swappable = |t: &Info| {
            let block = DType::from_ggml_id(t.dtype).map_or(1, DType::block_len) as u64;
            matches!(*t.dims, [a, b] if a != b && a.is_multiple_of(block) && b.is_multiple_of(block))
        };
        let tensors = &mut d.head.tensors;
        let needed = tensors.iter().position(|t| is_needed(&t.name) && swappable(t));
        let at = needed.or_else(|| tensors.iter().position(swappable));
        tensors[at.ok_or_else(|| unsuited(src, "a matrix that is not square"))?].dims.reverse();
        Ok(())
    })
}

fn shape_beyond_data(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // The outermost dimension, so that rows stay whole blocks.
        if let Some(outermost) = d.last().dims.last_mut() {
            *outermost = outermost.saturating_mul(1 << 20);
        }
        Ok(())
    })
}

fn offset_out_of_bounds(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let far = d.alignment << 40;
        d.victim().offset = far;
        Ok(())
    })
}

fn overlapping_tensors(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        if d.head.tensors.len() < 2 {
            return Err(unsuited(src, "two tensors"));
        }
        d.last().offset = 0;
        Ok(())
    })
}

fn huge_dimension(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().dims.fill(1 << 60);
        d.victim().dims.resize(2, 1 << 60);
        Ok(())
    })
}

fn huge_count(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // The tensor count stands after magic and version.
        d.patch = Some((8, (1u64 << 60).to_le_bytes().to_vec()));
        Ok(())
    })
}

fn unknown_value_type(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // Magic, version and two counts are 24 bytes; then the first key's length, the key, its type.
        let at = 24 + 8 + d.head.metadata[0].0.len();
        d.patch = Some((at, 99u32.to_le_bytes().to_vec()));
        Ok(())
    })
}

fn duplicate_key(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let first = d.head.metadata[0].clone();
        d.head.metadata.to_mut().push(first);
        Ok(())
    })
}

fn mistyped_metadata(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let found = d.head.metadata.to_mut().iter_mut().find(|(key, _)| key.ends_with(".block_count"));
        found.ok_or_else(|| unsuited(src, "a block count"))?.1 = GgufValue::from("thirty");
        Ok(())
    })
}

fn truncated(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.data_len /= 2;
        Ok(())
    })
}
