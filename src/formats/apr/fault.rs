//! APR's faults: the head is rewritten with a valid CRC, the tensor data follows as it was, the footer is
//! computed anew; so only the fault itself is left to complain about.

use super::head::{ALIGNMENT, Entry, HEADER, Head, seal};
use crate::Result;
use crate::formats::fault::{Fault, STRANGER, Stage, is_needed, unsuited, victim};
use crate::formats::json;
use crate::formats::map::map_file;
use crate::formats::patch::{Index, IndexEntry, StoredType};
use crate::formats::sink::{Sink, padding};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Every fault of an APR file.
pub(in crate::formats) const FAULTS: &[Fault] = &[
    Fault {
        name: "unknown-dtype",
        stage: Stage::Open,
        expect: "unknown dtype byte 200",
        apply: unknown_dtype,
    },
    Fault { name: "unknown-tensor", stage: Stage::Check, expect: STRANGER, apply: unknown_tensor },
    Fault { name: "renamed-tensor", stage: Stage::Check, expect: "missing", apply: renamed_tensor },
    Fault { name: "missing-tensor", stage: Stage::Check, expect: "missing", apply: missing_tensor },
    Fault { name: "duplicate-tensor", stage: Stage::Open, expect: "duplicate name", apply: duplicate_tensor },
    Fault { name: "unsorted-index", stage: Stage::Open, expect: "not sorted", apply: unsorted_index },
    Fault { name: "swapped-shape", stage: Stage::Check, expect: "expected", apply: swapped_shape },
    Fault {
        name: "size-against-shape",
        stage: Stage::Open,
        expect: "does not fit",
        apply: size_against_shape,
    },
    Fault {
        name: "offset-out-of-bounds",
        stage: Stage::Open,
        expect: "out of bounds",
        apply: offset_out_of_bounds,
    },
    Fault { name: "overlapping-tensors", stage: Stage::Open, expect: "overlaps", apply: overlapping_tensors },
    Fault { name: "dimension-2^60", stage: Stage::Open, expect: "overflows", apply: huge_dimension },
    Fault { name: "count-2^32", stage: Stage::Open, expect: "tensors declared", apply: huge_count },
    Fault {
        name: "duplicate-metadata-key",
        stage: Stage::Open,
        expect: "duplicate name",
        apply: duplicate_key,
    },
    Fault { name: "mistyped-metadata", stage: Stage::Check, expect: "layer", apply: mistyped_metadata },
    Fault { name: "broken-header-crc", stage: Stage::Open, expect: "header CRC", apply: broken_header_crc },
    Fault { name: "broken-footer-crc", stage: Stage::Open, expect: "footer CRC", apply: broken_footer_crc },
    Fault { name: "truncated", stage: Stage::Open, expect: "out of bounds", apply: truncated },
];

/// A copy in the making.
struct Draft {
    head: Head,
    /// Data of further tensors, appended on an aligned place: `data_len` rounded up.
    extra: Vec<u8>,
    /// Bytes to put over the finished header, whose CRC is then set again.
    patch: Option<(usize, Vec<u8>)>,
    /// A bit to flip in the header after its CRC was set.
    break_header: bool,
    /// A bit to flip in the footer.
    break_footer: bool,
    /// How much of the data section is copied: up to the end of the last tensor.
    data_len: u64,
}

impl Draft {
    fn victim(&mut self) -> &mut Entry {
        let at = victim(self.head.entries.iter().map(|e| e.name.as_str()));
        &mut self.head.entries[at]
    }

    /// Adds a sound little tensor of that name with data of its own, in its sorted place.
    fn add(&mut self, name: &str) {
        let offset = self.data_len.next_multiple_of(ALIGNMENT);
        self.extra = vec![0; 128];
        let at = self.head.entries.partition_point(|e| e.name.as_str() <= name);
        self.head
            .entries
            .insert(at, Entry { name: name.into(), dtype: 0, dims: vec![32], offset, size: 128 });
    }
}

/// Writes a copy of `src`, changed by `change`, to `dst`.
fn draft(src: &Path, dst: &Path, change: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    let file = map_file(src)?;
    let head = Head::read(&file, src)?;
    if head.entries.len() < 2 {
        return Err(unsuited(src, "two tensors"));
    }
    let start = head.data_offset as usize;
    let end = |entries: &[Entry]| entries.iter().map(|e| e.offset.saturating_add(e.size)).max().unwrap_or(0);
    let data_len = end(&head.entries).min((file.len() - start) as u64);
    let mut draft =
        Draft { head, extra: Vec::new(), patch: None, break_header: false, break_footer: false, data_len };
    change(&mut draft)?;

    let mut head = draft.head.to_bytes(dst)?;
    if let Some((at, bytes)) = &draft.patch {
        head[*at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut head);
    }
    if draft.break_header {
        // The last of the reserved bytes: no field, but under the CRC.
        head[HEADER - 1] ^= 1;
    }
    let extra_start = padding(draft.data_len, ALIGNMENT);
    let (mut crc, mut sink) = (crc32fast::Hasher::new(), Sink::create(dst)?);
    let data = &file[start..start + draft.data_len as usize];
    for part in [&head, data, &extra_start, &draft.extra] {
        crc.update(part);
        sink.put(part)?;
    }
    let mut crc = crc.finalize();
    if draft.break_footer {
        crc ^= 1;
    }
    sink.put(&crc.to_le_bytes())?;
    sink.commit_unsynced()
}

/// [`crate::formats::patch_index`] of an APR file.
pub(in crate::formats) fn patch(src: &Path, dst: &Path, change: &mut dyn FnMut(&mut Index)) -> Result<()> {
    draft(src, dst, |d| {
        let indexed = |e: &Entry| IndexEntry {
            name: e.name.clone(),
            dtype: StoredType::Number(e.dtype.into()),
            dims: e.dims.clone(),
            offset: e.offset,
            size: Some(e.size),
        };
        let mut index = Index { entries: d.head.entries.iter().map(indexed).collect(), repeated_key: None };
        change(&mut index);
        d.head.entries = index.entries.into_iter().map(entry).collect::<Result<_>>()?;
        if let Some(key) = index.repeated_key {
            repeat(src, &mut d.head, &key)?;
        }
        Ok(())
    })
}

fn entry(entry: IndexEntry) -> Result<Entry> {
    let IndexEntry { name, dtype, dims, offset, size } = entry;
    match (dtype, size) {
        (StoredType::Number(number), Some(size)) if u8::try_from(number).is_ok() => {
            Ok(Entry { name, dtype: number as u8, dims, offset, size })
        }
        (StoredType::Number(_) | StoredType::Name(_), _) => {
            Err(unsuited(Path::new(&name), "a dtype byte and a size"))
        }
    }
}

/// Puts a metadata key in a second time, with the same value.
fn repeat(src: &Path, head: &mut Head, key: &str) -> Result<()> {
    let metadata = json::object(src, "the metadata", &head.metadata)?;
    let value = metadata.get(key).ok_or_else(|| unsuited(src, &format!("the key `{key}`")))?;
    let mut text = Json::Object(metadata.clone()).to_string();
    text.insert_str(text.len() - 1, &format!(",{}:{value}", Json::from(key)));
    head.metadata = text.into_bytes();
    Ok(())
}

fn unknown_dtype(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().dtype = 200;
        Ok(())
    })
}

fn unknown_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.add(STRANGER);
        Ok(())
    })
}

fn renamed_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().name = STRANGER.into();
        d.head.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(())
    })
}

fn missing_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let at = victim(d.head.entries.iter().map(|e| e.name.as_str()));
        let gone = d.head.entries.remove(at);
        // Where its data was the last, the file ends before it.
        if gone.offset + gone.size == d.data_len {
            d.data_len = d.head.entries.iter().map(|e| e.offset + e.size).max().unwrap_or(0);
        }
        Ok(())
    })
}

fn duplicate_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim().name.clone();
        d.add(&name);
        Ok(())
    })
}

fn unsorted_index(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.head.entries.swap(0, 1);
        Ok(())
    })
}

fn swapped_shape(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // Both dimensions hold whole blocks of any encoding, or the size alone would refuse the swap.
        let swappable = |e: &Entry| {
            // Row tiles have the number of their plain blocks, plus 0xA0.
            let block = if matches!(e.dtype, 10..=14 | 0xaa..=0xae) { 256 } else { 32 };
            let blocked = !matches!(e.dtype, 0 | 1 | 30);
            matches!(*e.dims, [a, b] if a != b && (!blocked || a.is_multiple_of(block) && b.is_multiple_of(block)))
        };
        let entries = &mut d.head.entries;
        let needed = entries.iter().position(|e| is_needed(&e.name) && swappable(e));
        let at = needed.or_else(|| entries.iter().position(swappable));
        entries[at.ok_or_else(|| unsuited(src, "a matrix that is not square"))?].dims.reverse();
        Ok(())
    })
}

fn size_against_shape(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().size -= 1;
        Ok(())
    })
}

fn offset_out_of_bounds(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().offset = ALIGNMENT << 40;
        Ok(())
    })
}

fn overlapping_tensors(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let last = d.head.entries.iter_mut().max_by_key(|e| e.offset).expect("a draft has two tensors");
        last.offset = 0;
        Ok(())
    })
}

fn huge_dimension(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.victim().dims = vec![1 << 60, 1 << 60];
        Ok(())
    })
}

fn huge_count(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        // The count stands after magic, version and flags, and has 32 bits.
        d.patch = Some((8, u32::MAX.to_le_bytes().to_vec()));
        Ok(())
    })
}

fn duplicate_key(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let text = String::from_utf8_lossy(&d.head.metadata);
        let inside = text.trim().trim_start_matches('{');
        d.head.metadata = format!(r#"{{"qa_injected":1,"qa_injected":2,{inside}"#).into_bytes();
        Ok(())
    })
}

fn mistyped_metadata(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let mut metadata: Map<String, Json> = json::object(src, "the metadata", &d.head.metadata)?;
        let names = ["num_layers", "n_layers", "num_hidden_layers", "n_layer"];
        let key = names.iter().find(|key| metadata.contains_key(**key));
        metadata.insert(key.ok_or_else(|| unsuited(src, "a layer count"))?.to_string(), "thirty".into());
        d.head.metadata = Json::Object(metadata).to_string().into_bytes();
        Ok(())
    })
}

fn broken_header_crc(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.break_header = true;
        Ok(())
    })
}

fn broken_footer_crc(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.break_footer = true;
        Ok(())
    })
}

fn truncated(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.data_len /= 2;
        Ok(())
    })
}
