//! Writing GGUF: the keys that llama.cpp's converter writes for these architectures, in its order.

use super::metadata::{About, padded};
use crate::Result;
use crate::formats::gguf::GgufArray;
use crate::formats::{GgufValue, TensorSource, gguf};
use crate::models::{Bound, Position, RopeScaling};
use crate::quant::Quantize;
use crate::tensor::{DType, Shape};
use std::path::Path;

pub(super) fn write(dst: &Path, about: &About, tensors: &[TensorSource]) -> Result<()> {
    gguf::write(dst, &metadata(about, tensors), tensors)
}

/// The settings that GGUF keeps as tensors: the divisors of scaled rotary frequencies, where no key can say them.
pub(super) fn settings(bound: &Bound) -> Option<TensorSource<'static>> {
    let name = bound.family.contract().gguf.rope_freqs.clone()?;
    let (theta, dim) = match (&bound.config.rope_scaling, &bound.config.position) {
        (RopeScaling::Llama3(_) | RopeScaling::Factors(_), Position::Rope { theta, dim }) => (*theta, *dim),
        (RopeScaling::None | RopeScaling::Linear { .. }, _) | (_, Position::Learned) => return None,
    };
    let factors = bound.config.rope_scaling.factors(theta, dim)?;
    let shape = Shape::from([factors.len()]);
    let bytes = move || Ok(factors.iter().flat_map(|f| f.to_le_bytes()).collect());
    Some(TensorSource::produced(name, DType::F32, shape, bytes))
}

fn metadata(about: &About, tensors: &[TensorSource]) -> Vec<(String, GgufValue)> {
    let text = |s: &str| GgufValue::String(s.to_owned());
    let contract = about.bound.family.contract();
    let mut keys = vec![
        ("general.architecture".to_owned(), text(&contract.gguf.architecture)),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(&about.name())),
    ];
    keys.extend(about.bound.family.write_gguf(&about.bound.config));
    let file_type =
        about.options.quantize.map_or_else(|| file_type(about.main_encoding()), Quantize::file_type);
    keys.push(("general.file_type".to_owned(), GgufValue::U32(file_type)));
    if tensors.iter().any(|t| t.dtype.is_quantized()) {
        keys.push(("general.quantization_version".to_owned(), GgufValue::U32(2)));
    }
    if let Some(quantize) = about.options.quantize {
        keys.push(("quantize.recipe".to_owned(), text(quantize.name())));
    }
    if !about.plan.notes.is_empty() {
        keys.push((
            "quantize.notes".to_owned(),
            GgufValue::Array(GgufArray::String(about.plan.notes.clone())),
        ));
    }
    if let Some((file, matrix)) = &about.options.importance {
        // llama-quantize's own keys.
        let count = |n: usize| GgufValue::I32(i32::try_from(n).unwrap_or(i32::MAX));
        keys.push(("quantize.imatrix.file".to_owned(), text(file)));
        keys.push(("quantize.imatrix.dataset".to_owned(), text(&matrix.datasets.join(" "))));
        keys.push(("quantize.imatrix.entries_count".to_owned(), count(matrix.entries.len())));
        keys.push(("quantize.imatrix.chunks_count".to_owned(), count(matrix.chunk_count as usize)));
    }
    if let Some(tokenizer) = about.tokenizer {
        keys.extend(padded(tokenizer, about.bound.config.vocab_size).to_gguf());
    }
    keys
}

/// llama.cpp's `llama_ftype`; the "mostly" of its names is the encoding of most linear weights.
fn file_type(encoding: DType) -> u32 {
    match encoding {
        DType::F32 | DType::F64 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 7,
        DType::Q5_0 => 8,
        DType::Q5_1 => 9,
        DType::Q2_K => 10,
        DType::Q3_K => 12,
        DType::Q4_K => 15,
        DType::Q5_K => 17,
        DType::Q6_K => 18,
        DType::IQ2_XXS => 19,
        DType::IQ2_XS => 20,
        DType::IQ3_XXS => 23,
        DType::IQ1_S => 24,
        DType::IQ4_NL => 25,
        DType::IQ3_S => 26,
        DType::IQ2_S => 28,
        DType::IQ4_XS => 30,
        DType::IQ1_M => 31,
        DType::BF16 => 32,
        DType::TQ1_0 => 36,
        DType::TQ2_0 => 37,
        DType::MXFP4 => 38,
        // 1024 is llama.cpp's "guessed": GGUF has no such weights.
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 | DType::AprQ4 | DType::AprQ8 => 1024,
    }
}
