//! The HF folder's faults: the file at fault is rewritten, all the others are linked.

use super::{INDEX, WEIGHTS, folder_of};
use crate::formats::fault::{Fault, STRANGER, Stage, copy_file, is_needed, unsuited, victim};
use crate::formats::map::map_file;
use crate::formats::patch::{Index, IndexEntry, StoredType};
use crate::formats::safetensors::head::Head;
use crate::formats::{json, sink::Sink, write_bytes};
use crate::{Error, Result};
use serde_json::{Map, Value as Json, json};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Every fault of an HF folder.
pub(in crate::formats) const FAULTS: &[Fault] = &[
    Fault { name: "unknown-dtype", stage: Stage::Open, expect: "unknown dtype `Q9_X`", apply: unknown_dtype },
    Fault { name: "unknown-tensor", stage: Stage::Check, expect: STRANGER, apply: unknown_tensor },
    Fault { name: "renamed-tensor", stage: Stage::Check, expect: "missing", apply: renamed_tensor },
    Fault { name: "missing-tensor", stage: Stage::Check, expect: "missing", apply: missing_tensor },
    Fault { name: "duplicate-tensor", stage: Stage::Open, expect: "duplicate name", apply: duplicate_tensor },
    Fault { name: "swapped-shape", stage: Stage::Check, expect: "expected", apply: swapped_shape },
    Fault {
        name: "size-against-shape",
        stage: Stage::Open,
        expect: "do not hold",
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
    Fault { name: "header-2^60", stage: Stage::Open, expect: "header length", apply: huge_header },
    Fault { name: "mistyped-config", stage: Stage::Check, expect: "layer", apply: mistyped_config },
    Fault { name: "broken-config", stage: Stage::Open, expect: "config.json", apply: broken_config },
    Fault { name: "truncated", stage: Stage::Open, expect: "out of bounds", apply: truncated },
];

/// Copies the folder `src` (or that of the weights file `src`) to the new folder `dst` without the files named
/// in `but`. The copies share their bytes with the originals: nobody may write into them.
pub(in crate::formats) fn copy_folder(src: &Path, dst: &Path, but: &[&str]) -> Result<()> {
    let src = folder_of(src);
    std::fs::create_dir(dst).map_err(|e| Error::io(dst, &e))?;
    for entry in std::fs::read_dir(src).map_err(|e| Error::io(src, &e))? {
        let entry = entry.map_err(|e| Error::io(src, &e))?;
        let (from, to) = (entry.path(), dst.join(entry.file_name()));
        // Only a model's own files: sub-folders and empty files are no part of it.
        let about = std::fs::metadata(&from).map_err(|e| Error::io(&from, &e))?;
        if !about.is_file() || about.len() == 0 || but.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        // A link is refused across file systems, and where `from` is itself a link into a cache.
        let linked = !from.is_symlink() && std::fs::hard_link(&from, &to).is_ok();
        if !linked {
            copy_file(&from, &to)?;
        }
    }
    Ok(())
}

/// The weights file of a copy in the making.
struct Draft {
    /// The header's entries; offsets are relative to the data.
    object: Map<String, Json>,
    /// Text to put before the header's closing brace.
    appendix: String,
    /// The parts of the source's data that are copied, in order.
    data: Vec<Range<usize>>,
    /// Data after those.
    extra: Vec<u8>,
    /// Another header length than the true one.
    declared: Option<u64>,
    /// The index's `weight_map`, where the folder has shards, and the name of this one.
    weight_map: Option<Map<String, Json>>,
    shard: String,
}

impl Draft {
    fn names(&self) -> Vec<String> {
        self.object.keys().filter(|name| *name != "__metadata__").cloned().collect()
    }

    fn victim(&self) -> String {
        let names = self.names();
        // `draft` refused files without tensors.
        names[victim(names.iter().map(String::as_str))].clone()
    }

    fn entry(&mut self, name: &str) -> &mut Json {
        &mut self.object[name]
    }

    fn data_len(&self) -> usize {
        self.data.iter().map(Range::len).sum()
    }

    /// Adds a sound little tensor with data of its own.
    fn add(&mut self, name: &str) {
        let start = self.data_len();
        self.extra = vec![0; 128];
        let entry = json!({ "dtype": "F32", "shape": [32], "data_offsets": [start, start + 128] });
        self.object.insert(name.into(), entry);
        let shard = self.shard.clone();
        if let Some(map) = &mut self.weight_map {
            map.insert(name.into(), shard.into());
        }
    }

    /// Takes a tensor's entry out of header and index.
    fn remove(&mut self, name: &str) -> Json {
        if let Some(map) = &mut self.weight_map {
            map.remove(name);
        }
        self.object.remove(name).expect("the name was just found")
    }
}

/// Writes a copy of folder `src`, its weights changed by `change`, to `dst`.
fn draft(src: &Path, dst: &Path, change: impl FnOnce(&mut Draft) -> Result<()>) -> Result<()> {
    let src = folder_of(src);
    let index = src.join(INDEX);
    let (weights, mut index_object) = if src.join(WEIGHTS).exists() {
        (src.join(WEIGHTS), None)
    } else {
        let object = json::object_file(&index)?.ok_or_else(|| unsuited(src, "weights"))?;
        (first_shard(src, &object)?, Some(object))
    };
    let shard = weights.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = map_file(&weights)?;
    let head = Head::read(&file, &weights)?;
    let data = head.data_start..file.len();
    let weight_map = index_object.as_ref().and_then(|o| o.get("weight_map")?.as_object().cloned());
    let mut draft = Draft {
        object: head.object,
        appendix: String::new(),
        data: Vec::from([data]),
        extra: Vec::new(),
        declared: None,
        weight_map,
        shard: shard.clone(),
    };
    if draft.names().is_empty() {
        return Err(unsuited(src, "tensors"));
    }
    change(&mut draft)?;

    copy_folder(src, dst, &[&shard, INDEX])?;
    if let (Some(object), Some(map)) = (&mut index_object, draft.weight_map) {
        object.insert("weight_map".into(), map.into());
        write_bytes(&dst.join(INDEX), Json::Object(object.clone()).to_string().as_bytes())?;
    }
    let mut text = Json::Object(draft.object).to_string();
    text.insert_str(text.len() - 1, &draft.appendix);
    let path = dst.join(shard);
    let mut head = Head::bytes_of(&text, &path)?;
    if let Some(declared) = draft.declared {
        head[..8].copy_from_slice(&declared.to_le_bytes());
    }
    let mut sink = Sink::create(&path)?;
    sink.put(&head)?;
    for part in draft.data {
        sink.put(&file[part])?;
    }
    sink.put(&draft.extra)?;
    sink.commit_unsynced()
}

/// [`crate::formats::patch_index`] of an HF folder.
pub(in crate::formats) fn patch(src: &Path, dst: &Path, change: &mut dyn FnMut(&mut Index)) -> Result<()> {
    let mut repeated = None;
    draft(src, dst, |d| {
        let mut entries = Vec::new();
        for name in d.names() {
            let stored = d.entry(&name).clone();
            let sound = indexed(&name, &stored);
            entries.push(sound.ok_or_else(|| unsuited(src, "a sound index"))?);
        }
        let mut index = Index { entries, repeated_key: None };
        change(&mut index);
        repeated = index.repeated_key;
        d.object.retain(|name, _| name == "__metadata__");
        for IndexEntry { name, dtype, dims, offset, size } in index.entries {
            let (StoredType::Name(dtype), Some(size)) = (dtype, size) else {
                return Err(unsuited(src, "the name of a type and a size"));
            };
            let entry = json!({ "dtype": dtype, "shape": dims, "data_offsets": [offset, offset + size] });
            d.object.insert(name, entry);
        }
        Ok(())
    })?;
    match repeated {
        Some(key) => repeat(&dst.join("config.json"), &key),
        None => Ok(()),
    }
}

fn indexed(name: &str, entry: &Json) -> Option<IndexEntry> {
    let (start, end) = offsets(entry)?;
    Some(IndexEntry {
        name: name.to_owned(),
        dtype: StoredType::Name(entry["dtype"].as_str()?.to_owned()),
        dims: entry["shape"].as_array()?.iter().map(Json::as_u64).collect::<Option<_>>()?,
        offset: start as u64,
        size: Some((end - start) as u64),
    })
}

/// Puts a key of the config in a second time, with the same value.
fn repeat(path: &Path, key: &str) -> Result<()> {
    let config = json::object_file(path)?.ok_or_else(|| unsuited(path, "a config.json"))?;
    let value = config.get(key).ok_or_else(|| unsuited(path, &format!("the key `{key}`")))?;
    let mut text = Json::Object(config.clone()).to_string();
    text.insert_str(text.len() - 1, &format!(",{}:{value}", Json::from(key)));
    // The copy may share its bytes with the original: the file is replaced, never written into.
    write_bytes(path, text.as_bytes())
}

/// The shard that holds the tensor to be broken.
fn first_shard(src: &Path, index: &Map<String, Json>) -> Result<PathBuf> {
    let map = index.get("weight_map").and_then(Json::as_object).filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| unsuited(src, "a weight map"))?;
    let names: Vec<&str> = map.keys().map(String::as_str).collect();
    let shard = map[names[victim(names.iter().copied())]].as_str().unwrap_or_default();
    Ok(src.join(shard))
}

fn offsets(entry: &Json) -> Option<(usize, usize)> {
    let [start, end] = entry["data_offsets"].as_array()?.as_slice() else { return None };
    Some((start.as_u64()? as usize, end.as_u64()? as usize))
}

fn unknown_dtype(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        d.entry(&name)["dtype"] = "Q9_X".into();
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
        let name = d.victim();
        let entry = d.remove(&name);
        d.object.insert(STRANGER.into(), entry);
        let shard = d.shard.clone();
        if let Some(map) = &mut d.weight_map {
            map.insert(STRANGER.into(), shard.into());
        }
        Ok(())
    })
}

fn missing_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        let gone = d.remove(&name);
        let (start, end) = offsets(&gone).ok_or_else(|| unsuited(src, "sound offsets"))?;
        // The format allows no hole: what lies behind moves up.
        let whole = d.data[0].clone();
        d.data = vec![whole.start..whole.start + start, whole.start + end..whole.end];
        for name in d.names() {
            let (from, to) = offsets(d.entry(&name)).ok_or_else(|| unsuited(src, "sound offsets"))?;
            if from >= end {
                let size = end - start;
                d.entry(&name)["data_offsets"] = json!([from - size, to - size]);
            }
        }
        Ok(())
    })
}

fn duplicate_tensor(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        d.appendix = format!(",{}:{}", Json::from(name.as_str()), d.entry(&name));
        Ok(())
    })
}

fn swapped_shape(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let (needed, others): (Vec<String>, Vec<String>) = d.names().into_iter().partition(|n| is_needed(n));
        for name in needed.iter().chain(&others) {
            if let Json::Array(shape) = &mut d.entry(name)["shape"]
                && let [a, b] = shape.as_slice()
                && a != b
            {
                shape.reverse();
                return Ok(());
            }
        }
        Err(unsuited(src, "a matrix that is not square"))
    })
}

fn size_against_shape(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        if let Json::Array(shape) = &mut d.entry(&name)["shape"] {
            shape.push(2.into());
        }
        Ok(())
    })
}

fn offset_out_of_bounds(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        let (start, end) = offsets(d.entry(&name)).ok_or_else(|| unsuited(src, "sound offsets"))?;
        d.entry(&name)["data_offsets"] = json!([start + (1 << 40), end + (1 << 40)]);
        Ok(())
    })
}

fn overlapping_tensors(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let last = d.names().into_iter().max_by_key(|name| offsets(d.entry(name)));
        let last = last.filter(|_| d.names().len() > 1).ok_or_else(|| unsuited(src, "two tensors"))?;
        let (start, end) = offsets(d.entry(&last)).ok_or_else(|| unsuited(src, "sound offsets"))?;
        d.entry(&last)["data_offsets"] = json!([0, end - start]);
        Ok(())
    })
}

fn huge_dimension(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let name = d.victim();
        d.entry(&name)["shape"] = json!([1u64 << 60, 1u64 << 60]);
        Ok(())
    })
}

fn huge_header(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        d.declared = Some(1 << 60);
        Ok(())
    })
}

fn mistyped_config(src: &Path, dst: &Path) -> Result<()> {
    let path = folder_of(src).join("config.json");
    let mut config = json::object_file(&path)?.ok_or_else(|| unsuited(src, "a config.json"))?;
    let key = ["num_hidden_layers", "n_layer"].iter().find(|key| config.contains_key(**key));
    config.insert(key.ok_or_else(|| unsuited(src, "a layer count"))?.to_string(), "thirty".into());
    copy_folder(src, dst, &["config.json"])?;
    write_bytes(&dst.join("config.json"), Json::Object(config).to_string().as_bytes())
}

fn broken_config(src: &Path, dst: &Path) -> Result<()> {
    copy_folder(src, dst, &["config.json"])?;
    write_bytes(&dst.join("config.json"), b"{\"model_type\": ")
}

fn truncated(src: &Path, dst: &Path) -> Result<()> {
    draft(src, dst, |d| {
        let whole = &mut d.data[0];
        whole.end = whole.start + whole.len() / 2;
        Ok(())
    })
}
