//! What every container becomes: named tensors in file order, and what the file says beside them.

use super::{AprHeader, FormatKind, GgufHeader, HfFolder};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// An opened model: its tensors in file order and its metadata, nothing copied.
#[derive(Clone)]
pub struct Checkpoint {
    /// The folder or file it was opened from.
    pub path: PathBuf,
    /// What the file says beside its tensors.
    pub container: Container,
    /// The files that hold the tensors: shards in name order, or the one file.
    files: Vec<PathBuf>,
    /// File order.
    tensors: Vec<NamedTensor>,
    by_name: HashMap<String, usize>,
}

/// A tensor with its stored name and place.
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// The name in the file.
    pub name: String,
    /// Encoding, shape and bytes.
    pub tensor: Tensor,
    /// Byte offset of the data in `file`.
    pub offset: u64,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
}

/// Metadata, by container.
#[derive(Clone)]
pub enum Container {
    /// An HF folder.
    Hf(HfFolder),
    /// A GGUF file.
    Gguf(GgufHeader),
    /// An APR file.
    Apr(AprHeader),
}

impl Checkpoint {
    /// A checkpoint of these parts, `tensors` in file order.
    ///
    /// # Errors
    /// [`crate::Kind::Malformed`] where two tensors have one name.
    pub fn new(
        path: PathBuf,
        container: Container,
        files: Vec<PathBuf>,
        tensors: Vec<NamedTensor>,
    ) -> Result<Checkpoint> {
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if let Some(first) = by_name.insert(tensor.name.clone(), i) {
                let file = |i: usize| files.get(tensors[i].file).unwrap_or(&path);
                let what = match file(first) == file(i) {
                    true => "duplicate name".to_owned(),
                    false => format!(
                        "duplicate name, first in {} and again in {}",
                        file(first).display(),
                        file(i).display()
                    ),
                };
                return Err(Error::malformed(&path, what).at(format!("tensor `{}`", tensor.name)));
            }
        }
        Ok(Checkpoint { path, container, files, tensors, by_name })
    }

    /// Which container it is.
    pub fn kind(&self) -> FormatKind {
        match self.container {
            Container::Hf(_) => FormatKind::HfFolder,
            Container::Gguf(_) => FormatKind::Gguf,
            Container::Apr(_) => FormatKind::Apr,
        }
    }

    /// Every tensor, in file order.
    pub fn tensors(&self) -> &[NamedTensor] {
        &self.tensors
    }

    /// The tensor of that stored name.
    pub fn get(&self, name: &str) -> Option<&NamedTensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The files that hold the tensors: shards in name order, or the one file.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({} {}, {} tensors)", self.kind(), self.path.display(), self.tensors.len())
    }
}
