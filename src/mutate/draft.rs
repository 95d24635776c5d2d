//! An artifact taken apart, changed, and written again in its own container with the writers of `formats`.

use crate::formats::{
    AprDialect, Checkpoint, Container, FormatKind, Index, NamedTensor, TensorSource, apr, gguf, hf, open,
    patch_index, safetensors, write_bytes,
};
use crate::models::{Bound, CanonicalTensor, ModelConfig, bind_sound};
use crate::tensor::{Bytes, DType, Tensor};
use crate::{Error, Kind, Result};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A change of the written file's index.
pub(super) type Patch = Box<dyn FnMut(&mut Index)>;

/// A sound artifact, open to be broken.
pub(super) struct Draft {
    path: PathBuf,
    original: Checkpoint,
    /// What the family makes of it: canonical tensors with their stored places.
    pub bound: Bound,
    /// Metadata; changed in place.
    pub side: Container,
    /// Stored tensors in file order; changed in place.
    pub tensors: Vec<NamedTensor>,
    /// A change of the index after writing.
    pub patch: Option<Patch>,
    /// HF only: the weights go to two shards, and then this happens.
    pub shards: Option<Shards>,
    /// Files of a folder that are left out.
    pub left_out: Vec<&'static str>,
    /// The share of the weights file that is left.
    pub cut: Option<f64>,
}

/// What becomes of the second of two shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shards {
    /// It is not there, and the index does not know.
    Gone,
    /// It is not there, and the index leaves its tensors out.
    Forgotten,
    /// The index says that a tensor of the second is in the first.
    Stale,
}

impl Draft {
    /// Takes the artifact at `path` apart.
    ///
    /// # Errors
    /// As [`open`], and where it is no sound model of a known family.
    pub fn open(path: &Path) -> Result<Draft> {
        let original = open(path)?;
        let bound = bind_sound(&original)?;
        Ok(Draft {
            path: path.to_owned(),
            side: original.container.clone(),
            tensors: original.tensors().to_vec(),
            original,
            bound,
            patch: None,
            shards: None,
            left_out: Vec::new(),
            cut: None,
        })
    }

    /// Which container.
    pub fn kind(&self) -> FormatKind {
        self.original.kind()
    }

    /// The sound artifact's settings.
    pub fn config(&self) -> &ModelConfig {
        &self.bound.config
    }

    /// The artifact as it was.
    pub fn original(&self) -> &Checkpoint {
        &self.original
    }

    /// The stored tensor of that name.
    pub fn stored(&mut self, name: &str) -> Result<&mut NamedTensor> {
        let missing = || Error::new(Kind::Internal, "mutate", format!("no tensor `{name}` in the draft"));
        self.tensors.iter_mut().find(|t| t.name == name).ok_or_else(missing)
    }

    /// Puts other bytes, of the same type and shape, into the stored tensor of that name.
    pub fn replace(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let stored = self.stored(name)?;
        if stored.tensor.bytes.len() != bytes.len() {
            let what = format!("{} bytes for the {} of `{name}`", bytes.len(), stored.tensor.bytes.len());
            return Err(Error::new(Kind::Internal, "mutate", what));
        }
        stored.tensor.bytes = Bytes::from_vec(bytes);
        Ok(())
    }

    /// The sound canonical tensor of that name.
    pub fn canonical(&self, name: &str) -> Option<&CanonicalTensor> {
        self.bound.tensors.iter().find(|t| t.name == name)
    }

    /// Whether the change says anything: another setting, another name, type, shape or value.
    pub fn differs(&self) -> bool {
        let other_index =
            self.patch.is_some() || self.shards.is_some() || !self.left_out.is_empty() || self.cut.is_some();
        let same = |a: &NamedTensor, b: &NamedTensor| a.name == b.name && same_values(&a.tensor, &b.tensor);
        other_index
            || !same_metadata(&self.side, &self.original.container)
            || self.tensors.len() != self.original.tensors().len()
            || !self.tensors.iter().zip(self.original.tensors()).all(|(a, b)| same(a, b))
    }

    /// Writes the draft to the new place `out`.
    ///
    /// # Errors
    /// Those of the writers.
    pub fn write(mut self, out: &Path) -> Result<()> {
        match self.patch.take() {
            None => self.write_plain(out).and_then(|()| self.cut_short(out)),
            Some(mut patch) => {
                let folder = out.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
                let scratch = tempfile::tempdir_in(folder).map_err(|e| Error::io(folder, &e))?;
                let plain = scratch.path().join("plain");
                self.write_plain(&plain)?;
                patch_index(&plain, out, &mut patch)
            }
        }
    }

    /// Cuts the written weights short where that is the defect.
    fn cut_short(&self, out: &Path) -> Result<()> {
        let Some(share) = self.cut else { return Ok(()) };
        let file = if out.is_dir() { out.join(hf::WEIGHTS) } else { out.to_owned() };
        let bytes = std::fs::read(&file).map_err(|e| Error::io(&file, &e))?;
        write_bytes(&file, &bytes[..(bytes.len() as f64 * share) as usize])
    }

    fn write_plain(&self, out: &Path) -> Result<()> {
        let sources: Vec<TensorSource> = self.tensors.iter().map(TensorSource::from).collect();
        match &self.side {
            Container::Gguf(header) => gguf::write(out, &header.metadata, &sources),
            Container::Apr(header) => {
                let aprender = |t: &TensorSource| AprDialect::Aprender.byte(t.dtype).is_some();
                let dialect = match header.declares_contract() {
                    false if sources.iter().all(aprender) => AprDialect::Aprender,
                    true | false => AprDialect::Contract,
                };
                apr::write(out, header.metadata.clone(), &sources, dialect)
            }
            Container::Hf(folder) => {
                std::fs::create_dir(out).map_err(|e| Error::io(out, &e))?;
                let json = |name: &'static str, value: Option<Json>| match value {
                    Some(value) if !self.left_out.contains(&name) => {
                        write_bytes(&out.join(name), value.to_string().as_bytes())
                    }
                    Some(_) | None => Ok(()),
                };
                json("config.json", Some(Json::Object(folder.config.clone())))?;
                json("generation_config.json", folder.generation_config.clone().map(Json::Object))?;
                json("tokenizer_config.json", folder.tokenizer_config.clone().map(Json::Object))?;
                if let Some(bytes) =
                    folder.tokenizer_json.as_ref().filter(|_| !self.left_out.contains(&"tokenizer.json"))
                {
                    write_bytes(&out.join("tokenizer.json"), bytes)?;
                }
                if let Some(template) = &folder.chat_template {
                    write_bytes(&out.join("chat_template.jinja"), template.as_bytes())?;
                }
                match self.shards {
                    None => safetensors::write(&out.join(hf::WEIGHTS), &folder.weights_metadata, &sources),
                    Some(shards) => write_shards(out, sources, &folder.weights_metadata, shards),
                }
            }
        }
    }

    /// Where the artifact was taken from, for messages.
    pub fn subject(&self) -> String {
        self.path.display().to_string()
    }
}

fn write_shards(
    out: &Path,
    mut sources: Vec<TensorSource>,
    metadata: &BTreeMap<String, String>,
    shards: Shards,
) -> Result<()> {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let second = sources.split_off(sources.len() / 2);
    let mut map: BTreeMap<String, &str> = sources.iter().map(|t| (t.name.clone(), names[0])).collect();
    if shards != Shards::Forgotten {
        map.extend(second.iter().map(|t| (t.name.clone(), names[1])));
    }
    safetensors::write(&out.join(names[0]), metadata, &sources)?;
    if shards == Shards::Stale {
        safetensors::write(&out.join(names[1]), metadata, &second)?;
        if let Some(first) = second.first() {
            map.insert(first.name.clone(), names[0]);
        }
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    write_bytes(&out.join(hf::INDEX), index.to_string().as_bytes())
}

fn same_metadata(a: &Container, b: &Container) -> bool {
    match (a, b) {
        (Container::Gguf(a), Container::Gguf(b)) => a.metadata == b.metadata,
        (Container::Apr(a), Container::Apr(b)) => a.metadata == b.metadata,
        (Container::Hf(a), Container::Hf(b)) => {
            a.config == b.config
                && a.generation_config == b.generation_config
                && a.tokenizer_json == b.tokenizer_json
                && a.tokenizer_config == b.tokenizer_config
                && a.chat_template == b.chat_template
        }
        (Container::Gguf(_) | Container::Apr(_) | Container::Hf(_), _) => false,
    }
}

/// Whether both hold the same numbers: other bytes may stand for the same value, as 0 and -0 do.
fn same_values(a: &Tensor, b: &Tensor) -> bool {
    if a.shape != b.shape || a.dtype != b.dtype {
        return false;
    }
    if *a.bytes == *b.bytes {
        return true;
    }
    let numbers = |t: &Tensor| -> Option<Vec<f32>> { crate::quant::to_f32(t).ok() };
    match (numbers(a), numbers(b)) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => false,
    }
}

/// Whether blocks of this encoding belong to the whole tensor instead of to a row.
pub(super) fn is_flat(dtype: DType) -> bool {
    matches!(dtype, DType::AprQ4 | DType::AprQ8)
}
