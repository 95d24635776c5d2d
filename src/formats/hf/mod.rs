//! A Hugging Face model folder: `config.json`, the weights as safetensors (one file or shards with an index)
//! and the tokenizer's files.
//!
//! Every tensor of the index stands in its shard and every tensor of a shard in the index; a shard is a file
//! of this folder and of no other, and no file here is a link to something outside it. Source: transformers' `save_pretrained` and its loader.

pub(super) mod fault;
mod own;
mod shards;

use super::safetensors::{self, Safetensors};
use super::{Checkpoint, Container, Format, FormatKind, json, map};
use crate::tensor::Bytes;
use crate::{Error, Result};
use own::own;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The weights, where they are one file.
pub const WEIGHTS: &str = "model.safetensors";

/// The list of shards, where they are several.
pub const INDEX: &str = "model.safetensors.index.json";

/// The side files of an HF folder.
#[derive(Clone, Default)]
pub struct HfFolder {
    /// `config.json`.
    pub config: Map<String, Json>,
    /// `generation_config.json`.
    pub generation_config: Option<Map<String, Json>>,
    /// `tokenizer.json`, as stored.
    pub tokenizer_json: Option<Arc<[u8]>>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Map<String, Json>>,
    /// A separate `chat_template.jinja`, which newer folders have.
    pub chat_template: Option<String>,
    /// `__metadata__` of the weights; of shards, all of them merged in name order.
    pub weights_metadata: BTreeMap<String, String>,
}

/// The row of [`super::FORMATS`]: a safetensors file stands for the folder that it lies in.
pub(super) struct Hf;

impl Format for Hf {
    fn kind(&self) -> FormatKind {
        FormatKind::HfFolder
    }

    fn recognizes(&self, file: &[u8]) -> bool {
        file.get(8) == Some(&b'{')
    }

    fn open(&self, path: &Path, file: Bytes) -> Result<Checkpoint> {
        let folder = folder_of(path);
        let Safetensors { metadata, tensors } = safetensors::parse(file, path)?;
        let side = HfFolder { weights_metadata: metadata, ..side_files(folder)? };
        Checkpoint::new(path.to_owned(), Container::Hf(side), vec![path.to_owned()], tensors)
    }
}

/// Opens the HF model folder at `path`. Where it has both, [`WEIGHTS`] is taken and [`INDEX`] is not, as
/// transformers does.
///
/// # Errors
/// As [`super::open`]; [`crate::Kind::Malformed`] where `config.json` or the weights are missing or an index and
/// its shards disagree.
pub fn open_folder(path: &Path) -> Result<Checkpoint> {
    let side = side_files(path)?;
    let single = own(path, WEIGHTS)?;
    let index = own(path, INDEX)?;
    let (files, parsed): (Vec<PathBuf>, Vec<Safetensors>) = if single.exists() {
        let parsed = safetensors::parse(map::map_file(&single)?, &single)?;
        (vec![single], vec![parsed])
    } else if index.exists() {
        shards::open(path, &index)?
    } else {
        return Err(Error::malformed(path, format!("the folder has neither {WEIGHTS} nor {INDEX}"))
            .hint("PyTorch .bin weights are not read: save the model as safetensors first"));
    };
    let mut metadata = BTreeMap::new();
    let mut tensors = Vec::new();
    for (file, part) in parsed.into_iter().enumerate() {
        metadata.extend(part.metadata);
        tensors.extend(part.tensors.into_iter().map(|t| super::NamedTensor { file, ..t }));
    }
    let side = HfFolder { weights_metadata: metadata, ..side };
    Checkpoint::new(path.to_owned(), Container::Hf(side), files, tensors)
}

/// The model folder that `path` stands for: itself, or where the weights file lies.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        _ if path.is_dir() => path,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn side_files(folder: &Path) -> Result<HfFolder> {
    let Some(config) = json::object_file(&own(folder, "config.json")?)? else {
        return Err(Error::malformed(folder, "the folder has no config.json").hint(
            "expected a GGUF or APR file, or an HF model folder with config.json and safetensors weights",
        ));
    };
    let template = own(folder, "chat_template.jinja")?;
    let chat_template = match map::read_side_file(&template)? {
        None => None,
        Some(bytes) => Some(String::from_utf8(bytes).map_err(|e| {
            let at = format!("byte {}", e.utf8_error().valid_up_to());
            Error::malformed(&template, "the file is not UTF-8").at(at)
        })?),
    };
    Ok(HfFolder {
        config,
        generation_config: json::object_file(&own(folder, "generation_config.json")?)?,
        tokenizer_json: map::read_side_file(&own(folder, "tokenizer.json")?)?.map(Arc::from),
        tokenizer_config: json::object_file(&own(folder, "tokenizer_config.json")?)?,
        chat_template,
        weights_metadata: BTreeMap::new(),
    })
}
