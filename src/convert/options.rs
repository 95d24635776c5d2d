//! What a conversion is asked to do.

use crate::formats::{AprDialect, FormatKind};

/// How to convert. The default changes no value and writes the contract's names.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// Encode the weights anew; `None` keeps every payload.
    pub quantize: Option<Quantize>,
    /// Tensor names in an APR file of the contract's dialect.
    pub names: NameDialect,
    /// Which APR: the contract's, or what aprender 0.72 reads (HF names, its payloads and orders).
    pub dialect: AprDialect,
    /// Allow what loses information without being asked for: a second quantisation, values that F16 cannot
    /// hold.
    pub allow_lossy: bool,
    /// The target container, where the name of the destination does not say it.
    pub to: Option<FormatKind>,
}

/// Encodings of weights. Norms, biases and learned positions stay F32 under each of them; a row that is no
/// whole number of blocks becomes F16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)] // the field's own spelling: Q8_0
pub enum Quantize {
    /// Every tensor F32: exact from any source.
    F32,
    /// F16.
    F16,
    /// bfloat16.
    Bf16,
    /// Q8_0 (aprender's int8 in its dialect).
    Int8,
    /// Q4_0 with embedding and head Q8_0 (aprender's int4 in its dialect).
    Int4,
    /// The same blocks as `Int8`, under GGML's name.
    Q8_0,
    /// The same blocks as `Int4`, under GGML's name. `llama-quantize` would make the head Q6_K instead.
    Q4_0,
}

impl Quantize {
    /// Every choice, in the order of the command line's help.
    pub const ALL: &'static [Quantize] = &[
        Quantize::F32,
        Quantize::F16,
        Quantize::Bf16,
        Quantize::Int8,
        Quantize::Int4,
        Quantize::Q8_0,
        Quantize::Q4_0,
    ];

    /// The name on the command line and in playbooks.
    pub const fn name(self) -> &'static str {
        match self {
            Quantize::F32 => "f32",
            Quantize::F16 => "f16",
            Quantize::Bf16 => "bf16",
            Quantize::Int8 => "int8",
            Quantize::Int4 => "int4",
            Quantize::Q8_0 => "q8_0",
            Quantize::Q4_0 => "q4_0",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Quantize> {
        Quantize::ALL.iter().copied().find(|q| q.name() == name)
    }
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
