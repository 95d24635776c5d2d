//! The gates notice: one thing is broken in a copy of an artifact, the playbook exits 1, the failing gate names it.

use apr_qa_runner::convert::{ConvertOptions, convert};
use apr_qa_runner::formats::{self, AprDialect, Checkpoint, Container, TensorSource, apr, gguf};
use apr_qa_runner::models::RowOrder;
use apr_qa_runner::playbook::Filter;
use apr_qa_runner::quant::Quantize;
use apr_qa_runner::record::{CaseRecord, RunRecord, Verdict};
use apr_qa_runner::report::RenderOptions;
use apr_qa_runner::runner::{self, Destinations, Interrupt, Options, Style};
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};

fn source(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models").join(model)
}

/// The model converted to a file of that name, sound.
fn sound(folder: &Path, model: &str, name: &str, quantize: Option<Quantize>) -> Checkpoint {
    let path = folder.join(name);
    let options = ConvertOptions { quantize, ..ConvertOptions::default() };
    convert(&source(model), &path, &options).unwrap_or_else(|e| panic!("{e}"));
    formats::open(&path).unwrap_or_else(|e| panic!("{e}"))
}

/// The metadata of an APR file.
fn metadata(checkpoint: &Checkpoint) -> Map<String, Json> {
    match &checkpoint.container {
        Container::Apr(header) => header.metadata.clone(),
        Container::Hf(_) | Container::Gguf(_) => panic!("no APR file"),
    }
}

/// A copy of an APR file with changed metadata and, under `victim`, changed bytes.
fn rewrite_apr(
    sound: &Checkpoint,
    to: &Path,
    metadata: Map<String, Json>,
    victim: &str,
    change: fn(&mut Vec<u8>),
) {
    let mut changed = 0;
    let mut tensors: Vec<TensorSource> = Vec::new();
    for stored in sound.tensors() {
        if stored.name == victim {
            changed += 1;
            let mut bytes = stored.tensor.bytes.to_vec();
            change(&mut bytes);
            let (dtype, shape) = (stored.tensor.dtype, stored.tensor.shape.clone());
            tensors.push(TensorSource::produced(&stored.name, dtype, shape, move || Ok(bytes.clone())));
        } else {
            tensors.push(TensorSource::stored(&stored.name, &stored.tensor));
        }
    }
    assert!(victim.is_empty() || changed == 1, "no tensor {victim}");
    apr::write(to, metadata, &tensors, AprDialect::Contract).unwrap_or_else(|e| panic!("{e}"));
}

/// Runs every gate that must notice something on the file at `path`, which claims to be `model`.
fn run(folder: &Path, model: &str, path: &Path) -> RunRecord {
    let playbook = folder.join("detect.yaml");
    let (source, path) = (source(model), path.display());
    let text = format!(
        "version: 1
name: detect
models:
  {model}: {{ source: {source} }}
prompts:
  arithmetic: {{ text: \"What is 2+2? Answer:\" }}
  completion: {{ text: \"The capital of France is\" }}
artifacts:
  copy: {{ file: {path}, models: [{model}] }}
backends: [cpu]
suites:
  detect:
    - {{ gate: weights-check, artifacts: [copy] }}
    - {{ gate: config-parity, artifacts: [copy] }}
    - {{ gate: contract-i1, artifacts: [copy] }}
    - {{ gate: contract-i2, artifacts: [copy] }}
    - {{ gate: contract-i4, artifacts: [copy] }}
    - {{ gate: contract-i5, artifacts: [copy] }}
",
        source = source.display(),
    );
    std::fs::write(&playbook, text).expect("a writable folder");
    let options = Options {
        playbook,
        filter: Filter::default(),
        destinations: Destinations { folder: Some(folder.join("reports")), ..Destinations::default() },
        render: RenderOptions::default(),
        threads: Some(2),
        adapter: None,
        keeping: runner::Keeping::default(),
        fail_fast: false,
        progress: Style::None,
        started_at: "2026-01-01T00:00:00Z".into(),
    };
    runner::run(&options, &Interrupt::default()).unwrap_or_else(|e| panic!("{e}")).record
}

/// The cases that failed, by gate.
fn failed(record: &RunRecord) -> Vec<&CaseRecord> {
    record.cases.iter().filter(|case| matches!(case.verdict, Verdict::Fail { .. })).collect()
}

/// Requires exit code 1, and that `gate` fails and names `subject`.
#[track_caller]
fn names(record: &RunRecord, gate: &str, subject: &str) {
    assert_eq!(record.exit_code, 1, "{record:#?}");
    let case = failed(record).into_iter().find(|case| case.gate == gate);
    let case = case.unwrap_or_else(|| panic!("{gate} did not fail: {record:#?}"));
    assert!(case.findings.iter().any(|f| f.subject.contains(subject)), "{subject} is not named: {case:#?}");
}

#[test]
fn sound_copies_pass() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (model, name) in [("tiny-llama", "a.apr"), ("tiny-llama", "b.gguf"), ("tiny-qwen2", "c.apr")] {
        let copy = sound(folder.path(), model, name, Some(Quantize::Int8));
        let record = run(folder.path(), model, &copy.path);
        assert_eq!((record.exit_code, record.cases.len()), (0, 6), "{:#?}", failed(&record));
    }
}

#[test]
fn a_flipped_tensor_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = sound(folder.path(), "tiny-llama", "sound.apr", Some(Quantize::Int8));
    let broken = folder.path().join("broken.apr");
    // The sign of every block's f16 scale: the tensor is negated, its size and range are kept.
    rewrite_apr(&copy, &broken, metadata(&copy), "1.down_proj.weight", |bytes| {
        bytes.chunks_exact_mut(34).for_each(|block| block[1] ^= 0x80);
    });
    let record = run(folder.path(), "tiny-llama", &broken);
    names(&record, "contract-i4", "1.down_proj.weight");
    assert!(failed(&record).iter().any(|case| case.gate == "contract-i1"), "{:#?}", failed(&record));
}

#[test]
fn one_flipped_weight_of_a_plain_tensor_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = sound(folder.path(), "tiny-llama", "sound.apr", None);
    let broken = folder.path().join("broken.apr");
    rewrite_apr(&copy, &broken, metadata(&copy), "0.q_proj.weight", |bytes| bytes[101] ^= 0x80);
    names(&run(folder.path(), "tiny-llama", &broken), "contract-i4", "0.q_proj.weight");
}

#[test]
fn another_norm_epsilon_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = sound(folder.path(), "tiny-llama", "sound.apr", Some(Quantize::Int8));
    let mut metadata = metadata(&copy);
    let old = metadata.insert("rms_norm_eps".into(), json!(1e-3)).expect("our APR files say it");
    assert_ne!(old, json!(1e-3));
    let broken = folder.path().join("broken.apr");
    rewrite_apr(&copy, &broken, metadata, "", |_| {});
    names(&run(folder.path(), "tiny-llama", &broken), "config-parity", "norm_eps");
}

#[test]
fn two_swapped_merge_rules_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = sound(folder.path(), "tiny-qwen2", "sound.apr", Some(Quantize::Int8));
    let mut metadata = metadata(&copy);
    let merges =
        metadata.get_mut("tokenizer.merges").and_then(Json::as_array_mut).expect("byte-level BPE merges");
    merges.swap(7, 8);
    let broken = folder.path().join("broken.apr");
    rewrite_apr(&copy, &broken, metadata, "", |_| {});
    names(&run(folder.path(), "tiny-qwen2", &broken), "contract-i5", "merge rule 7");
}

#[test]
fn rows_in_the_wrong_rope_order_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = sound(folder.path(), "tiny-llama", "sound.gguf", Some(Quantize::Int8));
    let config = apr_qa_runner::models::open(&copy).expect("a sound copy").config;
    let Container::Gguf(header) = &copy.container else { panic!("no GGUF file") };
    // A llama GGUF interleaves the rows of each head; this copy has them as Hugging Face orders them.
    let order = RowOrder::RopePairs { head_dim: config.head_dim };
    let tensors = copy.tensors().iter().map(|stored| {
        if stored.name != "blk.1.attn_q.weight" {
            return TensorSource::stored(&stored.name, &stored.tensor);
        }
        let rows = stored.tensor.shape.rows();
        let width = stored.tensor.bytes.len() / rows;
        let row = |r: usize| &stored.tensor.bytes[r * width..(r + 1) * width];
        let bytes: Vec<u8> = (0..rows).flat_map(|r| row(order.stored_row(r)).to_vec()).collect();
        let (dtype, shape) = (stored.tensor.dtype, stored.tensor.shape.clone());
        TensorSource::produced(&stored.name, dtype, shape, move || Ok(bytes.clone()))
    });
    let broken = folder.path().join("broken.gguf");
    gguf::write(&broken, &header.metadata, &tensors.collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{e}"));
    let record = run(folder.path(), "tiny-llama", &broken);
    names(&record, "contract-i4", "1.q_proj.weight");
    let failures = failed(&record);
    let case = failures.iter().find(|case| case.gate == "contract-i1").expect("the text changes too");
    // A gate about numbers is followed by a walk: what is at fault comes first, with its cause and a picture.
    let finding = case.findings.first().expect("it is localised");
    assert_eq!(finding.subject, "1.q_proj.weight", "{case:#?}");
    assert_eq!(finding.cause.as_deref(), Some("rows-interleaved"), "{case:#?}");
    assert!(finding.detail.starts_with("first over budget: blk.1 attn_q, SQNR "), "{}", finding.detail);
    assert!(case.detail.contains("1. rows-interleaved (") && !case.charts.is_empty(), "{}", case.detail);
}
