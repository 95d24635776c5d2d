//! What a target says beside its tensors, drawn from the source: its name, its provenance, its tokenizer.
//! No path and no time goes in, so equal inputs give equal files.

use super::ConvertOptions;
use super::plan::Plan;
use crate::contract::families::Role;
use crate::formats::{Checkpoint, Container, GgufValue};
use crate::models::Bound;
use crate::tensor::DType;
use crate::tokenizer::{Token, TokenKind, TokenizerModel, TokenizerSpec};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Everything that metadata is made from.
pub(super) struct About<'a> {
    pub checkpoint: &'a Checkpoint,
    pub bound: &'a Bound,
    pub plan: &'a Plan,
    pub tokenizer: Option<&'a TokenizerSpec>,
    pub options: &'a ConvertOptions,
}

impl About<'_> {
    /// The model's name: what the source calls it, or the name of its file.
    pub fn name(&self) -> String {
        let said = match &self.checkpoint.container {
            Container::Hf(_) => None,
            Container::Gguf(header) => {
                header.get("general.name").and_then(GgufValue::as_str).map(str::to_owned)
            }
            Container::Apr(header) => header.metadata.get("name").and_then(Json::as_str).map(str::to_owned),
        };
        let stem = || {
            let path = &self.checkpoint.path;
            path.file_stem().or(path.file_name()).map(|s| s.to_string_lossy().into_owned())
        };
        said.or_else(stem).unwrap_or_else(|| "model".to_owned())
    }

    /// The file or folder name of the source.
    pub fn source(&self) -> String {
        self.checkpoint.path.file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The encoding of most linear weights of the target.
    pub fn main_encoding(&self) -> DType {
        let mut elements: BTreeMap<DType, usize> = BTreeMap::new();
        for step in &self.plan.steps {
            if self.bound.tensors[step.parts[0]].role == Role::Linear {
                *elements.entry(step.dtype).or_default() += step.shape.numel();
            }
        }
        elements.into_iter().max_by_key(|(_, n)| *n).map_or(DType::F32, |(dtype, _)| dtype)
    }

    /// Elements of the model, a tied head counted once.
    pub fn parameters(&self) -> usize {
        self.bound.tensors.iter().map(|t| t.shape.numel()).sum()
    }
}

/// Whether the source says anything about a tokenizer.
pub(super) fn has_tokenizer(checkpoint: &Checkpoint) -> bool {
    match &checkpoint.container {
        Container::Hf(folder) => folder.tokenizer_json.is_some(),
        Container::Gguf(header) => header.get("tokenizer.ggml.model").is_some(),
        Container::Apr(header) => header.metadata.contains_key("tokenizer.vocabulary"),
    }
}

/// The vocabulary filled up to the embedding's rows, as llama.cpp demands of a GGUF and its converter does.
pub(super) fn padded(spec: &TokenizerSpec, rows: usize) -> TokenizerSpec {
    let mut spec = spec.clone();
    let score = match spec.model {
        TokenizerModel::SentencePiece => -1000.0,
        TokenizerModel::ByteLevelBpe { .. } => 0.0,
    };
    for id in spec.tokens.len()..rows {
        spec.tokens.push(Token { text: format!("[PAD{id}]"), score, kind: TokenKind::Unused });
    }
    spec
}
