//! Writing APR: metadata in the one spelling of reference A.6, the tokenizer embedded, the source named.

use super::metadata::About;
use crate::Result;
use crate::formats::{AprDialect, TensorSource, apr};
use crate::models::apr_metadata;
use crate::tensor::DType;
use serde_json::{Map, Value as Json, json};
use std::path::Path;

pub(super) fn write(dst: &Path, about: &About, tensors: &[TensorSource], dialect: AprDialect) -> Result<()> {
    apr::write(dst, metadata(about, tensors, dialect)?, tensors, dialect)
}

fn metadata(about: &About, tensors: &[TensorSource], dialect: AprDialect) -> Result<Map<String, Json>> {
    let contract = about.bound.family.contract();
    // The rows of q and k: halves in the canonical form, adjacent pairs where the target stores those.
    let rope_type = if about.plan.target.rope_pairs { 0 } else { 2 };
    let mut map = apr_metadata(&about.bound.config, about.bound.family.id(), rope_type);
    let size = tensors.iter().map(|t| t.nbytes().map(|n| n as u64)).sum::<Result<u64>>()?;
    let mut put = |key: &str, value: Json| map.insert(key.to_owned(), value);
    put("hf_architecture", contract.hf.architectures[0].clone().into());
    put("hf_model_type", contract.hf.model_types[0].clone().into());
    put("model_type", about.bound.family.id().into());
    put("name", about.name().into());
    put("original_format", about.checkpoint.kind().name().into());
    put("source", about.source().into());
    put("param_count", about.parameters().into());
    put("total_size", size.into());
    if let Some(quantization) = quantization(about.main_encoding(), dialect) {
        put("quantization", quantization);
    }
    if let Some(quantize) = about.options.quantize {
        put("quantization_recipe", quantize.name().into());
    }
    if let Some((file, matrix)) = &about.options.importance {
        let said = json!({
            "file": file, "datasets": matrix.datasets,
            "entries": matrix.entries.len(), "chunks": matrix.chunk_count,
        });
        put("quantization_importance", said);
    }
    if !about.plan.notes.is_empty() {
        put("conversion_notes", about.plan.notes.clone().into());
    }
    if let Some(tokenizer) = about.tokenizer {
        map.extend(tokenizer.to_apr());
    }
    Ok(map)
}

fn quantization(encoding: DType, dialect: AprDialect) -> Option<Json> {
    if !encoding.is_quantized() {
        return None;
    }
    let name = match (dialect, encoding) {
        (AprDialect::Aprender, DType::AprQ8) => "int8".to_owned(),
        (AprDialect::Aprender, DType::AprQ4) => "int4".to_owned(),
        (AprDialect::Aprender | AprDialect::Contract, _) => encoding.name().to_lowercase(),
    };
    // Only the encodings with a minimum per block are not symmetric around zero.
    let asymmetric = matches!(encoding, DType::Q4_1 | DType::Q5_1 | DType::Q2_K | DType::Q4_K | DType::Q5_K);
    let bits: u32 = match encoding {
        DType::IQ1_S | DType::IQ1_M => 1,
        DType::Q2_K | DType::TQ1_0 | DType::TQ2_0 => 2,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 2,
        DType::Q3_K | DType::IQ3_XXS | DType::IQ3_S => 3,
        DType::Q4_0 | DType::Q4_1 | DType::Q4_K | DType::AprQ4 => 4,
        DType::IQ4_NL | DType::IQ4_XS | DType::MXFP4 => 4,
        DType::Q5_0 | DType::Q5_1 | DType::Q5_K => 5,
        DType::Q6_K => 6,
        DType::Q8_0 | DType::AprQ8 => 8,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => return None,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => return None,
    };
    let block_size = (encoding.block_len() > 1).then(|| encoding.block_len());
    Some(json!({"bits": bits, "block_size": block_size, "quant_type": name, "symmetric": !asymmetric}))
}
