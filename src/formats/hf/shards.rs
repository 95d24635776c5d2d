//! Weights in several files: the index and the shards must tell the same story.

use super::own::own;
use crate::formats::safetensors::{self, Safetensors};
use crate::formats::{json, map};
use crate::{Error, Kind, Result};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The shards that `index` lists, in name order.
pub(super) fn open(folder: &Path, index: &Path) -> Result<(Vec<PathBuf>, Vec<Safetensors>)> {
    let listed = weight_map(index)?;
    let shards: BTreeSet<&String> = listed.values().collect();
    let mut files = Vec::with_capacity(shards.len());
    let mut parsed = Vec::with_capacity(shards.len());
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for shard in shards {
        let at = || format!("tensor `{}`", first_of(&listed, shard));
        let file = shard_path(folder, index, shard).map_err(|e| e.at(at()))?;
        if !file.exists() {
            let what = format!("the index puts it in {shard}, and there is no such file");
            return Err(Error::malformed(index, what)
                .at(at())
                .hint("pull the model again: a shard is missing"));
        }
        let part = safetensors::parse(map::map_file(&file)?, &file)?;
        for tensor in &part.tensors {
            if let Some(other) = found.insert(tensor.name.clone(), shard.clone()) {
                let what = format!("duplicate name: it stands in {other} and in {shard}");
                return Err(Error::malformed(folder, what).at(format!("tensor `{}`", tensor.name)));
            }
        }
        files.push(file);
        parsed.push(part);
    }
    for (name, shard) in &listed {
        if found.get(name) != Some(shard) {
            let what = match found.get(name) {
                Some(other) => format!("the index puts it in {shard}, it stands in {other}"),
                None => format!("the index puts it in {shard}, which does not have it"),
            };
            return Err(Error::malformed(index, what).at(format!("tensor `{name}`")));
        }
    }
    let extra: Vec<&String> = found.keys().filter(|name| !listed.contains_key(*name)).collect();
    if let [first, ..] = extra.as_slice() {
        let what =
            format!("it stands in {} but not in the index ({} such tensors)", found[*first], extra.len());
        return Err(Error::malformed(index, what).at(format!("tensor `{first}`")));
    }
    Ok((files, parsed))
}

/// Tensor name to shard file name.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let object = json::object_file(index)?
        .ok_or_else(|| Error::new(Kind::Io, index.display().to_string(), "no such file"))?;
    let Some(Json::Object(entries)) = object.get("weight_map") else {
        return Err(Error::malformed(index, "the key is missing or no object").at("key `weight_map`"));
    };
    if entries.is_empty() {
        return Err(Error::malformed(index, "no tensor is listed: it is empty").at("key `weight_map`"));
    }
    let text =
        |(name, shard): (&String, &Json)| match shard.as_str() {
            Some(shard) => Ok((name.clone(), shard.to_owned())),
            None => Err(Error::malformed(index, format!("shard {shard} is no file name"))
                .at(format!("tensor `{name}`"))),
        };
    entries.iter().map(text).collect()
}

/// The first tensor that the index puts in `shard`.
fn first_of<'a>(listed: &'a BTreeMap<String, String>, shard: &str) -> &'a str {
    listed.iter().find(|(_, s)| *s == shard).map_or("?", |(name, _)| name)
}

/// The path of `shard`, which must be a plain file name.
fn shard_path(folder: &Path, index: &Path, shard: &str) -> Result<PathBuf> {
    let mut parts = Path::new(shard).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == shard && !shard.contains('\0') => own(folder, shard),
        _ => Err(Error::malformed(
            index,
            format!("shard `{}` is no file of this folder", shard.escape_debug()),
        )),
    }
}
