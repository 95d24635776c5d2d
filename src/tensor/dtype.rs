//! Every element encoding this program knows by name, with its block geometry.

use super::Shape;
use std::fmt;

/// An element encoding. Numbers and block sizes are GGML's, except for the two `Apr*` encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)] // the field's own spelling: Q4_K, not Q4K
pub enum DType {
    /// IEEE 754 single.
    F32,
    /// IEEE 754 half.
    F16,
    /// bfloat16.
    BF16,
    /// IEEE 754 double.
    F64,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// GGML: 32 elements, f16 scale, 4-bit signed.
    Q4_0,
    /// GGML: 32 elements, f16 scale and minimum, 4-bit.
    Q4_1,
    /// GGML: 32 elements, f16 scale, 5-bit signed.
    Q5_0,
    /// GGML: 32 elements, f16 scale and minimum, 5-bit.
    Q5_1,
    /// GGML: 32 elements, f16 scale, 8-bit signed.
    Q8_0,
    /// GGML K-quant: 256 elements, 2-bit.
    Q2_K,
    /// GGML K-quant: 256 elements, 3-bit.
    Q3_K,
    /// GGML K-quant: 256 elements, 4-bit.
    Q4_K,
    /// GGML K-quant: 256 elements, 5-bit.
    Q5_K,
    /// GGML K-quant: 256 elements, 6-bit.
    Q6_K,
    /// GGML, read only: 256 elements, 2-bit code book.
    IQ2_XXS,
    /// GGML, read only: 256 elements, 2-bit code book.
    IQ2_XS,
    /// GGML, read only: 256 elements, 3-bit code book.
    IQ3_XXS,
    /// GGML, read only: 256 elements, ternary code book.
    IQ1_S,
    /// GGML, read only: 32 elements, f16 scale, sixteen uneven levels.
    IQ4_NL,
    /// GGML, read only: 256 elements, 3-bit code book.
    IQ3_S,
    /// GGML, read only: 256 elements, 2-bit code book.
    IQ2_S,
    /// GGML, read only: 256 elements, sixteen uneven levels.
    IQ4_XS,
    /// GGML, read only: 256 elements, ternary code book.
    IQ1_M,
    /// GGML, read only: 256 elements, ternary, five to a byte.
    TQ1_0,
    /// GGML, read only: 256 elements, ternary, four to a byte.
    TQ2_0,
    /// GGML, read only: 32 elements, a power of two as scale, 4-bit floats.
    MXFP4,
    /// aprender's int4: flat blocks of 32 (the last may be partial), f16 scale, interleaved nibbles.
    AprQ4,
    /// aprender's int8: one f32 scale for the whole tensor, then one signed byte per element.
    AprQ8,
}

use DType::*;

impl DType {
    /// Every encoding, in the order of their table.
    pub const ALL: &'static [DType] = &[
        F32, F16, BF16, F64, I8, I16, I32, I64, U8, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K,
        Q6_K, IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, IQ1_M, TQ1_0, TQ2_0, MXFP4,
        AprQ4, AprQ8,
    ];

    /// The name people know it by: `F32`, `Q8_0`, `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            F64 => "F64",
            I8 => "I8",
            I16 => "I16",
            I32 => "I32",
            I64 => "I64",
            U8 => "U8",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q2_K => "Q2_K",
            Q3_K => "Q3_K",
            Q4_K => "Q4_K",
            Q5_K => "Q5_K",
            Q6_K => "Q6_K",
            IQ2_XXS => "IQ2_XXS",
            IQ2_XS => "IQ2_XS",
            IQ3_XXS => "IQ3_XXS",
            IQ1_S => "IQ1_S",
            IQ4_NL => "IQ4_NL",
            IQ3_S => "IQ3_S",
            IQ2_S => "IQ2_S",
            IQ4_XS => "IQ4_XS",
            IQ1_M => "IQ1_M",
            TQ1_0 => "TQ1_0",
            TQ2_0 => "TQ2_0",
            MXFP4 => "MXFP4",
            AprQ4 => "APR_Q4",
            AprQ8 => "APR_Q8",
        }
    }

    /// The encoding of that name, whatever its case.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.name().eq_ignore_ascii_case(name))
    }

    /// GGML's type number, where GGML has the encoding.
    pub const fn ggml_id(self) -> Option<u32> {
        Some(match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q5_0 => 6,
            Q5_1 => 7,
            Q8_0 => 8,
            Q2_K => 10,
            Q3_K => 11,
            Q4_K => 12,
            Q5_K => 13,
            Q6_K => 14,
            IQ2_XXS => 16,
            IQ2_XS => 17,
            IQ3_XXS => 18,
            IQ1_S => 19,
            IQ4_NL => 20,
            IQ3_S => 21,
            IQ2_S => 22,
            IQ4_XS => 23,
            IQ1_M => 29,
            TQ1_0 => 34,
            TQ2_0 => 35,
            MXFP4 => 39,
            I8 => 24,
            I16 => 25,
            I32 => 26,
            I64 => 27,
            F64 => 28,
            BF16 => 30,
            U8 | AprQ4 | AprQ8 => return None,
        })
    }

    /// The encoding of GGML type number `id`.
    pub fn from_ggml_id(id: u32) -> Option<DType> {
        DType::ALL.iter().copied().find(|d| d.ggml_id() == Some(id))
    }

    /// Elements in a block; 1 for plain encodings.
    pub const fn block_len(self) -> usize {
        match self {
            F32 | F16 | BF16 | F64 | I8 | I16 | I32 | I64 | U8 | AprQ8 => 1,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL | MXFP4 | AprQ4 => 32,
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K => 256,
            IQ2_XXS | IQ2_XS | IQ3_XXS | IQ1_S | IQ3_S | IQ2_S | IQ4_XS | IQ1_M | TQ1_0 | TQ2_0 => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            I8 | U8 | AprQ8 => 1,
            F16 | BF16 | I16 => 2,
            F32 | I32 => 4,
            F64 | I64 => 8,
            Q4_0 | IQ4_NL | AprQ4 => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q8_0 => 34,
            Q2_K => 84,
            Q3_K | IQ3_S => 110,
            Q4_K => 144,
            Q5_K => 176,
            Q6_K => 210,
            IQ2_XXS | TQ2_0 => 66,
            IQ2_XS => 74,
            IQ3_XXS => 98,
            IQ1_S => 50,
            IQ2_S => 82,
            IQ4_XS => 136,
            IQ1_M => 56,
            TQ1_0 => 54,
            MXFP4 => 17,
        }
    }

    /// The exact size of a tensor of this encoding and `shape`, or `None` where a row is no whole number
    /// of blocks or the size overflows. The `Apr*` encodings are flat: their blocks ignore rows.
    pub fn nbytes(self, shape: &Shape) -> Option<usize> {
        let numel = shape.checked_numel()?;
        match self {
            AprQ8 => numel.checked_add(4),
            AprQ4 => numel.div_ceil(32).checked_mul(18),
            _ if !shape.row_len().is_multiple_of(self.block_len()) => None,
            _ => (numel / self.block_len()).checked_mul(self.block_bytes()),
        }
    }

    /// Whether elements are plain IEEE or bfloat16 floats of at most 32 bits: no blocks, no scales.
    pub const fn is_plain_float(self) -> bool {
        matches!(self, F32 | F16 | BF16)
    }

    /// Whether elements are quantised in blocks with scales, or by a scale.
    pub const fn is_quantized(self) -> bool {
        match self {
            F32 | F16 | BF16 | F64 | I8 | I16 | I32 | I64 | U8 => false,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | AprQ4 | AprQ8 => true,
            IQ2_XXS | IQ2_XS | IQ3_XXS | IQ1_S | IQ4_NL | IQ3_S | IQ2_S | IQ4_XS | IQ1_M | TQ1_0 | TQ2_0
            | MXFP4 => true,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
