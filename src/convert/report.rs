//! What a conversion did, tensor by tensor, as plain data.

use super::encode::Outcome;
use super::metadata::About;
use crate::formats::{AprLayout, FormatKind, apr};
use crate::{Error, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertReport {
    /// The model that was read.
    pub source: String,
    /// The file or folder that was written.
    pub target: String,
    /// Container of the source: `safetensors`, `gguf`, `apr`.
    pub source_format: String,
    /// Container of the target.
    pub target_format: String,
    /// Every tensor of the target, in model order.
    pub tensors: Vec<TensorReport>,
    /// Bytes of the source's tensor files.
    pub original_size: u64,
    /// Bytes of the target's tensor file.
    pub converted_size: u64,
    /// What a reader should know: fallbacks, a missing tokenizer.
    pub warnings: Vec<String>,
}

/// What happened to one tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// Name in the target.
    pub name: String,
    /// Canonical names of its parts.
    pub from: Vec<String>,
    /// Stored encoding of the first part.
    pub dtype_from: String,
    /// Encoding in the target.
    pub dtype_to: String,
    /// Whether its blocks stand as row tiles in the target.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tiled: bool,
    /// Whether values changed.
    pub exactness: Exactness,
    /// How much, or why the encoding is not the one asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What became of a tensor's values; measured by decoding what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exactness {
    /// Every value is the same number.
    Exact,
    /// Values were rounded to blocks with scales.
    Quantized,
    /// Values were rounded to a narrower float.
    Rounded,
}

impl ConvertReport {
    /// Whether every value of the model is the same number as before.
    pub fn is_exact(&self) -> bool {
        self.tensors.iter().all(|t| t.exactness == Exactness::Exact)
    }
}

pub(super) fn report(
    about: &About,
    dst: &Path,
    kind: FormatKind,
    outcomes: Vec<Mutex<Option<Outcome>>>,
    warnings: Vec<String>,
) -> Result<ConvertReport> {
    let About { checkpoint, bound, plan, options, .. } = *about;
    let tensors = plan.steps.iter().zip(outcomes).map(|(step, outcome)| {
        let outcome = outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A step that only keeps bytes leaves none.
        let done = outcome.unwrap_or(Outcome { exactness: Exactness::Exact, note: None });
        TensorReport {
            name: step.name.clone(),
            from: step.sources.clone(),
            dtype_from: bound.tensors[step.parts[0]].dtype.name().to_owned(),
            dtype_to: step.dtype.name().to_owned(),
            tiled: options.layout == AprLayout::Tiled && apr::stands_tiled(step.dtype, &step.shape),
            exactness: done.exactness,
            note: match (&step.note, done.note) {
                (Some(why), Some(how)) => Some(format!("{why}; {how}")),
                (Some(why), None) => Some(why.clone()),
                (None, how) => how,
            },
        }
    });
    let size = |path: &Path| fs::metadata(path).map(|m| m.len()).map_err(|e| Error::io(path, &e));
    let written = match kind {
        FormatKind::HfFolder => dst.join(crate::formats::hf::WEIGHTS),
        FormatKind::Gguf | FormatKind::Apr => dst.to_path_buf(),
    };
    Ok(ConvertReport {
        source: checkpoint.path.display().to_string(),
        target: dst.display().to_string(),
        source_format: checkpoint.kind().name().to_owned(),
        target_format: kind.name().to_owned(),
        tensors: tensors.collect(),
        original_size: checkpoint.files().iter().map(|f| size(f)).sum::<Result<u64>>()?,
        converted_size: size(&written)?,
        warnings,
    })
}
