//! What a conversion is asked to do.

use crate::formats::imatrix::ImportanceMatrix;
use crate::formats::{AprDialect, AprLayout, FormatKind};
use crate::quant::Quantize;
use std::sync::Arc;

/// How to convert. The default changes no value and writes the contract's names.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// Encode the weights anew; `None` keeps every payload. Norms, biases and learned positions stay F32.
    pub quantize: Option<Quantize>,
    /// How much each column of each matrix counts when it is encoded anew, and the name of the file that says so.
    pub importance: Option<(String, Arc<ImportanceMatrix>)>,
    /// Threads that encode; `None`: as many as the machine has. No byte depends on it.
    pub threads: Option<usize>,
    /// Tensor names in an APR file of the contract's dialect.
    pub names: NameDialect,
    /// Which APR: the contract's, or what aprender 0.72 reads (HF names, its payloads and orders).
    pub dialect: AprDialect,
    /// How the blocks of matrices stand in an APR file of the contract's dialect. No value depends on it.
    pub layout: AprLayout,
    /// Allow what loses information without being asked for: a second quantisation, values that F16 cannot
    /// hold, a file that the program it is written for cannot run.
    pub allow_lossy: bool,
    /// The target container, where the name of the destination does not say it.
    pub to: Option<FormatKind>,
}

/// Tensor names in APR files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameDialect {
    /// The contract's: `0.q_proj.weight`.
    #[default]
    GgufShort,
    /// Hugging Face's: `model.layers.0.self_attn.q_proj.weight`.
    Hf,
}

impl NameDialect {
    /// Every choice.
    pub const ALL: &'static [NameDialect] = &[NameDialect::GgufShort, NameDialect::Hf];

    /// The name on the command line and in playbooks.
    pub const fn name(self) -> &'static str {
        match self {
            NameDialect::GgufShort => "gguf-short",
            NameDialect::Hf => "hf",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<NameDialect> {
        NameDialect::ALL.iter().copied().find(|n| n.name() == name)
    }
}
