//! What weights can be asked to become: one name for the command line, playbooks and reports.
//! The mixtures and their numbers are those of llama.cpp's `llama-quantize` (`llama_ftype`).

use crate::tensor::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An encoding, or a mixture of encodings by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(non_camel_case_types)] // the field's own spelling: Q8_0, Q4_K_M
pub enum Quantize {
    /// 32-bit floats: exact from any source.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Q8_0 for every matrix (aprender's own int8 in its dialect).
    Int8,
    /// Q4_0 for matrices, Q8_0 for embeddings and head (aprender's own int4 in its dialect).
    Int4,
    /// Q8_0 for every matrix.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// Q4_0 as llama-quantize mixes it.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// Q4_1 as llama-quantize mixes it.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// Q5_0 as llama-quantize mixes it.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// Q5_1 as llama-quantize mixes it.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// Two bits and more where it counts.
    #[serde(rename = "q2_k")]
    Q2_K,
    /// Two bits, four in the first layers.
    #[serde(rename = "q2_k_s")]
    Q2_K_S,
    /// Three bits everywhere.
    #[serde(rename = "q3_k_s")]
    Q3_K_S,
    /// Three bits, more for values and down projections.
    #[serde(rename = "q3_k_m", alias = "q3_k")]
    Q3_K_M,
    /// Three bits, five for values, outputs and down projections.
    #[serde(rename = "q3_k_l")]
    Q3_K_L,
    /// Four bits, five in the first layers.
    #[serde(rename = "q4_k_s")]
    Q4_K_S,
    /// Four bits, six for some values and down projections.
    #[serde(rename = "q4_k_m", alias = "q4_k")]
    Q4_K_M,
    /// Five bits everywhere.
    #[serde(rename = "q5_k_s")]
    Q5_K_S,
    /// Five bits, six for some values and down projections.
    #[serde(rename = "q5_k_m", alias = "q5_k")]
    Q5_K_M,
    /// Six bits everywhere.
    #[serde(rename = "q6_k")]
    Q6_K,
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
        Quantize::Q4_1,
        Quantize::Q5_0,
        Quantize::Q5_1,
        Quantize::Q2_K,
        Quantize::Q2_K_S,
        Quantize::Q3_K_S,
        Quantize::Q3_K_M,
        Quantize::Q3_K_L,
        Quantize::Q4_K_S,
        Quantize::Q4_K_M,
        Quantize::Q5_K_S,
        Quantize::Q5_K_M,
        Quantize::Q6_K,
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
            Quantize::Q4_1 => "q4_1",
            Quantize::Q5_0 => "q5_0",
            Quantize::Q5_1 => "q5_1",
            Quantize::Q2_K => "q2_k",
            Quantize::Q2_K_S => "q2_k_s",
            Quantize::Q3_K_S => "q3_k_s",
            Quantize::Q3_K_M => "q3_k_m",
            Quantize::Q3_K_L => "q3_k_l",
            Quantize::Q4_K_S => "q4_k_s",
            Quantize::Q4_K_M => "q4_k_m",
            Quantize::Q5_K_S => "q5_k_s",
            Quantize::Q5_K_M => "q5_k_m",
            Quantize::Q6_K => "q6_k",
        }
    }

    /// The choice of that name, in any case; `q4_k` and the like mean the `_m` mixture, as in llama-quantize.
    pub fn from_name(name: &str) -> Option<Quantize> {
        let name = name.to_ascii_lowercase();
        let medium = format!("{name}_m");
        let of = |name: &str| Quantize::ALL.iter().copied().find(|q| q.name() == name);
        of(&name).or_else(|| of(&medium))
    }

    /// The encoding of an ordinary matrix.
    pub const fn main(self) -> DType {
        match self {
            Quantize::F32 => DType::F32,
            Quantize::F16 => DType::F16,
            Quantize::Bf16 => DType::BF16,
            Quantize::Int8 | Quantize::Q8_0 => DType::Q8_0,
            Quantize::Int4 | Quantize::Q4_0 => DType::Q4_0,
            Quantize::Q4_1 => DType::Q4_1,
            Quantize::Q5_0 => DType::Q5_0,
            Quantize::Q5_1 => DType::Q5_1,
            Quantize::Q2_K | Quantize::Q2_K_S => DType::Q2_K,
            Quantize::Q3_K_S | Quantize::Q3_K_M | Quantize::Q3_K_L => DType::Q3_K,
            Quantize::Q4_K_S | Quantize::Q4_K_M => DType::Q4_K,
            Quantize::Q5_K_S | Quantize::Q5_K_M => DType::Q5_K,
            Quantize::Q6_K => DType::Q6_K,
        }
    }

    /// `general.file_type` of a GGUF made this way: llama.cpp's `llama_ftype`.
    pub const fn file_type(self) -> u32 {
        match self {
            Quantize::F32 => 0,
            Quantize::F16 => 1,
            Quantize::Int4 | Quantize::Q4_0 => 2,
            Quantize::Q4_1 => 3,
            Quantize::Int8 | Quantize::Q8_0 => 7,
            Quantize::Q5_0 => 8,
            Quantize::Q5_1 => 9,
            Quantize::Q2_K => 10,
            Quantize::Q3_K_S => 11,
            Quantize::Q3_K_M => 12,
            Quantize::Q3_K_L => 13,
            Quantize::Q4_K_S => 14,
            Quantize::Q4_K_M => 15,
            Quantize::Q5_K_S => 16,
            Quantize::Q5_K_M => 17,
            Quantize::Q6_K => 18,
            Quantize::Q2_K_S => 21,
            Quantize::Bf16 => 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_in_any_case_and_serde_agrees() {
        for &quantize in Quantize::ALL {
            assert_eq!(Quantize::from_name(quantize.name()), Some(quantize));
            assert_eq!(Quantize::from_name(&quantize.name().to_uppercase()), Some(quantize));
            assert_eq!(serde_json::to_value(quantize).expect("a string"), quantize.name());
        }
        assert_eq!(Quantize::from_name("q4_k"), Some(Quantize::Q4_K_M));
        assert_eq!(Quantize::from_name("q4_k_xl"), None);
    }
}
