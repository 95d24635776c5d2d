//! `inspect MODEL`: what a file says of itself, before anything is judged.

use crate::formats::{self, Checkpoint, Container};
use crate::inspect;
use crate::models::{self, ModelConfig};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// HF model folder, GGUF or APR file.
    model: PathBuf,
    /// Print metadata arrays whole, not only their length and first elements.
    #[arg(long)]
    full: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output {
    file: String,
    valid: bool,
    format: &'static str,
    version: String,
    tensor_count: usize,
    size_bytes: u64,
    /// Only APR files carry checksums.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum_valid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_layers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_heads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_kv_heads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Json>,
    metadata: Map<String, Json>,
}

/// Inspects.
pub fn execute(args: &Args) -> Result<u8> {
    let checkpoint = formats::open(&args.model)?;
    let output = describe(args, &checkpoint)?;
    if args.json {
        super::print_json(&output)?;
    } else {
        super::print_text(&text(&output))?;
    }
    Ok(0)
}

fn describe(args: &Args, checkpoint: &Checkpoint) -> Result<Output> {
    // A family that is not known still has a format, tensors and metadata to show.
    let config: Option<ModelConfig> = models::config(checkpoint).ok();
    let (format, version) = format_and_version(&checkpoint.container);
    let mut size_bytes = 0;
    for file in checkpoint.files() {
        size_bytes += std::fs::metadata(file).map_err(|e| Error::io(file, &e))?.len();
    }
    Ok(Output {
        file: args.model.display().to_string(),
        valid: true,
        format,
        version,
        tensor_count: checkpoint.tensors().len(),
        size_bytes,
        checksum_valid: match &checkpoint.container {
            Container::Apr(header) => Some(header.footer.is_none_or(|(_, holds)| holds)),
            Container::Hf(_) | Container::Gguf(_) => None,
        },
        architecture: config.as_ref().map(|c| c.family.clone()),
        num_layers: config.as_ref().map(|c| c.n_layers),
        num_heads: config.as_ref().map(|c| c.n_heads),
        num_kv_heads: config.as_ref().map(|c| c.n_kv_heads),
        hidden_size: config.as_ref().map(|c| c.hidden_size),
        vocab_size: config.as_ref().map(|c| c.vocab_size),
        flags: flags(&checkpoint.container),
        metadata: shown_metadata(&checkpoint.container, args.full),
    })
}

fn format_and_version(container: &Container) -> (&'static str, String) {
    match container {
        Container::Hf(_) => ("safetensors", "1".to_owned()),
        Container::Gguf(header) => ("gguf", header.version.to_string()),
        Container::Apr(header) => ("apr", format!("{}.{}", header.version.0, header.version.1)),
    }
}

/// APR's flag bits under the names that `apr inspect` gives them.
fn flags(container: &Container) -> Option<Json> {
    let Container::Apr(header) = container else { return None };
    let set = |bit: u16| header.flags & bit != 0;
    Some(json!({
        "lz4_compressed": set(0x0001),
        "zstd_compressed": set(0x0002),
        "encrypted": set(0x0004),
        "signed": set(0x0008),
        "sharded": set(0x0010),
        "quantized": set(0x0020),
        "has_vocab": set(0x0200),
        "row_major": set(0x0400),
    }))
}

fn shown_metadata(container: &Container, full: bool) -> Map<String, Json> {
    let mut all = inspect::metadata(container);
    if !full {
        all.values_mut().for_each(inspect::shorten);
    }
    all
}

fn text(output: &Output) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:<14} {value}");
    };
    line("file", output.file.clone());
    line("format", format!("{} {}", output.format, output.version));
    line("tensors", output.tensor_count.to_string());
    line("bytes", output.size_bytes.to_string());
    if let Some(valid) = output.checksum_valid {
        line("checksums", if valid { "valid".to_owned() } else { "broken".to_owned() });
    }
    line("family", output.architecture.clone().unwrap_or_else(|| "unknown".to_owned()));
    let sizes = [
        ("layers", output.num_layers),
        ("heads", output.num_heads),
        ("kv heads", output.num_kv_heads),
        ("hidden size", output.hidden_size),
        ("vocabulary", output.vocab_size),
    ];
    for (name, size) in sizes {
        if let Some(size) = size {
            line(name, size.to_string());
        }
    }
    for (key, value) in &output.metadata {
        line("metadata", format!("{key} = {value}"));
    }
    out
}
