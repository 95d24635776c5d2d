//! Writing an HF folder: weights, `config.json`, tokenizer and generation settings as transformers saves them.
//! The folder is made beside its place and renamed into it.

use super::metadata::About;
use crate::formats::{Container, TensorSource, hf, safetensors, write_bytes};
use crate::tensor::DType;
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file that a written folder may hold; a folder with others is not overwritten.
pub(super) const FILES: &[&str] =
    &["config.json", "generation_config.json", hf::WEIGHTS, "tokenizer.json", "tokenizer_config.json"];

pub(super) fn write(dst: &Path, about: &About, tensors: &[TensorSource]) -> Result<()> {
    let parent = match dst.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // The scratch folder is private to this user; the folder made inside it has the usual permissions.
    let scratch =
        tempfile::Builder::new().prefix(".convert-").tempdir_in(parent).map_err(|e| Error::io(parent, &e))?;
    let made = scratch.path().join("made");
    fs::create_dir(&made).map_err(|e| Error::io(&made, &e))?;
    write_files(&made, about, tensors)?;
    let old = scratch.path().join("old");
    let replaces = dst.exists();
    if replaces {
        fs::rename(dst, &old).map_err(|e| Error::io(dst, &e))?;
    }
    fs::rename(&made, dst).map_err(|e| {
        if replaces {
            // The first error is the one to tell; what was there should stay there.
            drop(fs::rename(&old, dst));
        }
        Error::io(dst, &e)
    })
}

fn write_files(folder: &Path, about: &About, tensors: &[TensorSource]) -> Result<()> {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::write(&folder.join(hf::WEIGHTS), &metadata, tensors)?;
    write_json(&folder.join("config.json"), config(about, tensors))?;
    write_json(&folder.join("generation_config.json"), generation_config(about))?;
    if let Some(spec) = about.tokenizer {
        let files = spec.to_hf()?;
        write_json(&folder.join("tokenizer.json"), files.tokenizer_json)?;
        write_json(&folder.join("tokenizer_config.json"), Json::Object(files.tokenizer_config))?;
    }
    Ok(())
}

fn config(about: &About, tensors: &[TensorSource]) -> Json {
    let contract = about.bound.family.contract();
    let config = &about.bound.config;
    let mut map = about.bound.family.write_hf(config, about.bound.biases);
    let mut put = |key: &str, value: Json| drop(map.insert(key.to_owned(), value));
    put("architectures", vec![contract.hf.architectures[0].clone()].into());
    put("model_type", contract.hf.model_types[0].clone().into());
    put("tie_word_embeddings", config.tied_embeddings.into());
    put("torch_dtype", widest(tensors).into());
    put("vocab_size", config.vocab_size.into());
    if let Some(spec) = about.tokenizer {
        put("bos_token_id", spec.bos.map_or(Json::Null, Json::from));
        put("eos_token_id", spec.eos.map_or(Json::Null, Json::from));
        if let Some(pad) = spec.pad {
            put("pad_token_id", pad.into());
        }
    }
    Json::Object(map)
}

/// The precision in which a loader loses nothing.
fn widest(tensors: &[TensorSource]) -> &'static str {
    let all = |dtype: DType| tensors.iter().all(|t| t.dtype == dtype);
    if all(DType::F16) {
        "float16"
    } else if all(DType::BF16) {
        "bfloat16"
    } else {
        "float32"
    }
}

/// The source's own settings where it has them, with the ids that end a generation.
fn generation_config(about: &About) -> Json {
    let mut map = match &about.checkpoint.container {
        Container::Hf(folder) => folder.generation_config.clone().unwrap_or_default(),
        Container::Gguf(_) | Container::Apr(_) => Map::new(),
    };
    if let Some(spec) = about.tokenizer {
        let ends = spec.stop_ids();
        let eos = match ends[..] {
            [] => Json::Null,
            [one] => one.into(),
            _ => ends.into(),
        };
        map.entry("eos_token_id").or_insert(eos);
        map.entry("bos_token_id").or_insert(spec.bos.map_or(Json::Null, Json::from));
        if let Some(pad) = spec.pad {
            map.entry("pad_token_id").or_insert(pad.into());
        }
    }
    Json::Object(map)
}

/// Sorted and indented, as transformers writes its files.
fn write_json(path: &Path, mut value: Json) -> Result<()> {
    // The order inside tokenizer.json is a vocabulary's id order, which readers rely on.
    if path.file_name().is_some_and(|name| name != "tokenizer.json") {
        value.sort_all_objects();
    }
    let mut bytes = serde_json::to_vec_pretty(&value)
        .map_err(|e| Error::new(Kind::Internal, path.display().to_string(), e.to_string()))?;
    bytes.push(b'\n');
    write_bytes(path, &bytes)
}
