//! `rosetta inspect MODEL`: a file in a few numbers, the same ones for every container.

use crate::inspect;
use crate::{Error, Result, formats, models};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Arguments of `rosetta inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file: String,
    format: &'static str,
    file_size: u64,
    total_params: usize,
    tensor_count: usize,
    tensor_names: Vec<String>,
    /// Family, or what the file calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    /// The encoding of most parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<&'static str>,
    metadata_keys: usize,
}

/// Inspects.
pub fn execute(args: &Args) -> Result<u8> {
    let checkpoint = formats::open(&args.model)?;
    let mut file_size = 0;
    for file in checkpoint.files() {
        file_size += std::fs::metadata(file).map_err(|e| Error::io(file, &e))?.len();
    }
    let mut elements: BTreeMap<&'static str, usize> = BTreeMap::new();
    for t in checkpoint.tensors() {
        *elements.entry(t.tensor.dtype.name()).or_default() += t.tensor.shape.numel();
    }
    let family = models::family_of(&checkpoint).ok().map(|f| f.id().to_owned());
    let output = Output {
        file: args.model.display().to_string(),
        format: checkpoint.kind().name(),
        file_size,
        total_params: elements.values().sum(),
        tensor_count: checkpoint.tensors().len(),
        tensor_names: checkpoint.tensors().iter().map(|t| t.name.clone()).collect(),
        architecture: family.or_else(|| models::unknown_family(&checkpoint)),
        quantization: elements.iter().max_by_key(|(_, n)| **n).map(|(dtype, _)| *dtype),
        metadata_keys: inspect::metadata(&checkpoint.container).len(),
    };
    if args.json {
        super::super::print_json(&output)?;
    } else {
        let o = &output;
        let architecture = o.architecture.as_deref().unwrap_or("unknown");
        let (encoding, keys) = (o.quantization.unwrap_or("none"), o.metadata_keys);
        super::super::print_text(&format!(
            "{}: {}, {architecture}, {} parameters in {} tensors, mostly {encoding}, {} bytes, {keys} metadata keys\n",
            o.file, o.format, o.total_params, o.tensor_count, o.file_size
        ))?;
    }
    Ok(0)
}
