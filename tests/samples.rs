//! Small valid model files, made by the project's own writers, for other tests to break or compare.

use apr_qa_runner::formats::{
    self, AprDialect, FormatKind, GgufArray, GgufValue, TensorSource, apr, gguf, safetensors,
};
use apr_qa_runner::quant;
use apr_qa_runner::tensor::{DType, Shape};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// One valid file in memory.
pub struct Sample {
    pub name: &'static str,
    pub kind: FormatKind,
    pub bytes: Vec<u8>,
    /// Where the last tensor ends.
    pub data_end: usize,
}

/// One sample of every format and dialect.
pub fn in_memory() -> Vec<Sample> {
    let dir = tempfile::tempdir().unwrap();
    let mut samples = Vec::new();
    for (name, kind, path) in on_disk(dir.path()) {
        if name == "sharded" {
            continue;
        }
        let file = if path.is_dir() { path.join("model.safetensors") } else { path };
        let checkpoint = formats::open(&file).unwrap();
        let ends = checkpoint.tensors().iter().map(|t| t.offset as usize + t.tensor.bytes.stored_len());
        samples.push(Sample { name, kind, data_end: ends.max().unwrap(), bytes: fs::read(file).unwrap() });
    }
    assert_eq!(samples.len(), 5);
    samples
}

/// One artifact of every format and dialect, in `dir`.
pub fn on_disk(dir: &Path) -> Vec<(&'static str, FormatKind, PathBuf)> {
    let gguf_path = dir.join("sample.gguf");
    gguf::write(&gguf_path, &gguf_metadata(), &tensors(&[DType::Q8_0, DType::Q4_0, DType::F16])).unwrap();
    let metadata = json!({ "architecture": "llama", "num_layers": 1, "tokenizer.vocabulary": ["a", "b"] });
    let metadata = metadata.as_object().unwrap();
    let contract = dir.join("contract.apr");
    let encodings = [DType::Q8_0, DType::Q4_0, DType::BF16];
    apr::write(&contract, metadata.clone(), &tensors(&encodings), AprDialect::Contract).unwrap();
    let aprender = dir.join("aprender.apr");
    let encodings = [DType::AprQ8, DType::AprQ4, DType::F16];
    apr::write(&aprender, metadata.clone(), &tensors(&encodings), AprDialect::Aprender).unwrap();
    let tiled = dir.join("tiled.apr");
    let encodings = [DType::Q8_0, DType::Q5_0, DType::BF16];
    let mut padded = tensors(&encodings);
    // Twenty rows are no whole tiles, and a vector has none.
    padded.push(values("0.k_proj.weight", DType::Q4_1, &[20, 32]));
    padded.push(values("0.up_proj.weight", DType::Q4_0, &[64]));
    apr::write_tiled(&tiled, metadata.clone(), &padded, NonZeroUsize::MIN).unwrap();
    let folder = dir.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), r#"{"model_type":"llama","num_hidden_layers":1}"#).unwrap();
    let about = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let encodings = [DType::F32, DType::BF16, DType::F16];
    safetensors::write(&folder.join("model.safetensors"), &about, &tensors(&encodings)).unwrap();
    vec![
        ("gguf", FormatKind::Gguf, gguf_path),
        ("contract", FormatKind::Apr, contract),
        ("aprender", FormatKind::Apr, aprender),
        ("tiled", FormatKind::Apr, tiled),
        ("folder", FormatKind::HfFolder, folder),
        ("sharded", FormatKind::HfFolder, sharded(dir)),
    ]
}

/// An HF folder with two shards.
pub fn sharded(dir: &Path) -> PathBuf {
    let folder = dir.join("sharded");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config.json"), r#"{"model_type":"llama","num_hidden_layers":1}"#).unwrap();
    let one = [values("a.weight", DType::F32, &[4, 32]), values("a.bias", DType::F32, &[4])];
    let two = [values("b.weight", DType::BF16, &[2, 32])];
    safetensors::write(&folder.join("one.safetensors"), &BTreeMap::new(), &one).unwrap();
    safetensors::write(&folder.join("two.safetensors"), &BTreeMap::new(), &two).unwrap();
    let map = json!({ "weight_map": {
        "a.weight": "one.safetensors", "a.bias": "one.safetensors", "b.weight": "two.safetensors" } });
    fs::write(folder.join("model.safetensors.index.json"), map.to_string()).unwrap();
    folder
}

/// A metadata value of every type.
pub fn gguf_metadata() -> Vec<(String, GgufValue)> {
    let arrays = GgufArray::Array(vec![GgufArray::U16(vec![1, 2]), GgufArray::String(vec!["x".into()])]);
    [
        ("general.architecture", GgufValue::from("llama")),
        ("llama.block_count", GgufValue::U32(1)),
        ("u8", GgufValue::U8(255)),
        ("i8", GgufValue::I8(-1)),
        ("u16", GgufValue::U16(65535)),
        ("i16", GgufValue::I16(-2)),
        ("i32", GgufValue::I32(-3)),
        ("f32", GgufValue::F32(1e-5)),
        ("bool", GgufValue::Bool(true)),
        ("u64", GgufValue::U64(u64::MAX)),
        ("i64", GgufValue::I64(i64::MIN)),
        ("f64", GgufValue::F64(-0.1)),
        ("tokens", GgufValue::Array(GgufArray::String(vec!["a".into(), String::new(), "é".into()]))),
        ("flags", GgufValue::Array(GgufArray::Bool(vec![true, false]))),
        ("arrays", GgufValue::Array(arrays)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn tensors(encodings: &[DType; 3]) -> Vec<TensorSource<'static>> {
    let [first, second, third] = *encodings;
    vec![
        values("token_embd.weight", first, &[96, 32]),
        values("0.down_proj.weight", second, &[32, 64]),
        values("0.q_proj.weight", third, &[32, 32]),
        values("output_norm.weight", DType::F32, &[32]),
    ]
}

/// A tensor of that encoding with values in mixed order.
pub fn values(name: &str, dtype: DType, dims: &[usize]) -> TensorSource<'static> {
    let shape = Shape::from(dims);
    let numbers = shape.clone();
    TensorSource::produced(name, dtype, shape, move || {
        let values: Vec<f32> = (0..numbers.numel()).map(|i| (i * 37 % 64) as f32 / 16.0 - 2.0).collect();
        quant::from_f32(dtype, &numbers, &values)
    })
}
