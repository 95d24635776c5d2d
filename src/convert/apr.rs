//! Writing APR: metadata in the one spelling of reference A.6, the tokenizer embedded, the source named.

use super::metadata::About;
use crate::Result;
use crate::formats::{AprDialect, AprLayout, TensorSource, apr};
use crate::models::apr_metadata;
use crate::tensor::DType;
use serde_json::{Map, Value as Json, json};
use std::num::NonZeroUsize;
use std::path::Path;

pub(super) fn write(
    dst: &Path,
    about: &About,
    tensors: &[TensorSource],
    threads: NonZeroUsize,
) -> Result<()> {
    let dialect = about.options.dialect;
    let metadata = metadata(about, tensors, dialect)?;
    match about.options.layout {
        AprLayout::Plain => apr::write(dst, metadata, tensors, dialect),
        AprLayout::Tiled => apr::write_tiled(dst, metadata, tensors, threads),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::convert::{ConvertOptions, convert};
    use crate::formats::{Container, gguf, open};
    use crate::models::canonical_tensors;
    use crate::models::fixture::Tiny;
    use crate::quant::{Quantize, tiled};
    use std::fs;
    use std::path::PathBuf;

    /// A GGUF whose rows are whole blocks of every encoding; the 40 rows of its embedding are no whole tiles.
    fn source(folder: &Path) -> PathBuf {
        let tiny = Tiny { hidden: 256, inner: 512, tied: false, ..Tiny::new("llama") };
        let checkpoint = tiny.gguf(DType::F32);
        let Container::Gguf(header) = &checkpoint.container else { unreachable!("a GGUF was made") };
        let tensors: Vec<TensorSource> = checkpoint.tensors().iter().map(TensorSource::from).collect();
        let path = folder.join("source.gguf");
        gguf::write(&path, &header.metadata, &tensors).expect("written");
        path
    }

    fn options(quantize: Option<Quantize>, layout: AprLayout) -> ConvertOptions {
        ConvertOptions { quantize, layout, ..ConvertOptions::default() }
    }

    #[test]
    fn row_tiles_are_undone_exactly_by_every_export() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = source(dir.path());
        let read = |path: &Path| fs::read(path).expect("written");
        for recipe in [
            Quantize::Q4_0,
            Quantize::Q4_1,
            Quantize::Q5_0,
            Quantize::Q5_1,
            Quantize::Int8,
            Quantize::Q2_K,
            Quantize::Q3_K_M,
            Quantize::Q4_K_M,
            Quantize::Q5_K_M,
            Quantize::Q6_K,
        ] {
            // The name of the source is in a file, so equal names stand in folders of their own.
            let [from_plain, from_tiled] = ["plain", "tiled"].map(|layout| {
                let folder = dir.path().join(format!("{layout}-{}", recipe.name()));
                fs::create_dir(&folder).expect("a new folder");
                folder
            });
            let [plain, tiled] = [&from_plain, &from_tiled].map(|folder| folder.join("m.apr"));
            convert(&source, &plain, &options(Some(recipe), AprLayout::Plain)).expect("converts");
            let report =
                convert(&source, &tiled, &options(Some(recipe), AprLayout::Tiled)).expect("converts");

            let (a, b) = (open(&plain).expect("opens"), open(&tiled).expect("opens"));
            let in_tiles = b.tensors().iter().filter(|t| t.tensor.layout().is_some()).count();
            let matrices = b.tensors().iter().filter(|t| tiled::is_tiled(t.tensor.dtype)).count();
            assert!(in_tiles == matrices && in_tiles >= 16, "{recipe:?}: {in_tiles} of {matrices}");
            assert_eq!(report.tensors.iter().filter(|t| t.tiled).count(), in_tiles);
            let embedding = &b.get("token_embd.weight").expect("stored").tensor.bytes;
            assert_eq!(embedding.stored_len(), embedding.len() / 40 * 48);
            // Values first: decoding from tiles must not need the plain blocks.
            let values = |c| {
                canonical_tensors(c)
                    .expect("sound")
                    .iter()
                    .map(|t| t.to_f32().expect("decodes"))
                    .collect::<Vec<_>>()
            };
            assert!(values(&a) == values(&b), "{recipe:?}");
            for (x, y) in a.tensors().iter().zip(b.tensors()) {
                assert!(x.name == y.name && *x.tensor.bytes == *y.tensor.bytes, "{recipe:?} {}", x.name);
            }

            let exports = [
                ("x.gguf", AprLayout::Plain),
                ("x.apr", AprLayout::Plain),
                ("y.apr", AprLayout::Tiled),
                ("folder", AprLayout::Plain),
            ];
            for (name, layout) in exports {
                let [x, y] = [(&plain, &from_plain), (&tiled, &from_tiled)].map(|(source, folder)| {
                    let report =
                        convert(source, &folder.join(name), &options(None, layout)).expect("converts");
                    assert!(name == "folder" || report.is_exact(), "{report:?}");
                    folder.join(name)
                });
                let file = |path: &Path| {
                    if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() }
                };
                assert!(read(&file(&x)) == read(&file(&y)), "{recipe:?} {name}");
            }
            let threads = ConvertOptions { threads: Some(3), ..options(Some(recipe), AprLayout::Tiled) };
            let again = from_tiled.join("again.apr");
            convert(&source, &again, &threads).expect("converts");
            assert!(read(&again) == read(&tiled), "{recipe:?}: the number of threads changes no byte");
        }
    }

    #[test]
    fn row_tiles_are_refused_where_no_reader_would_know_them() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = source(dir.path());
        let tiled = options(None, AprLayout::Tiled);
        let aprender = ConvertOptions { dialect: AprDialect::Aprender, ..tiled.clone() };
        for (name, options) in [("x.gguf", &tiled), ("folder", &tiled), ("x.apr", &aprender)] {
            let path = dir.path().join(name);
            let error = convert(&source, &path, options).expect_err("no place for tiles");
            assert!(error.kind == Kind::Usage && error.to_string().contains("row tiles"), "{error}");
            assert!(!path.exists());
        }
    }
}
