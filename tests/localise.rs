//! A walk beside the original names the operation that was broken, whatever the encoding, and nothing where nothing is.

use apr_qa_runner::convert::{ConvertOptions, convert};
use apr_qa_runner::formats::{self, AprDialect, Container, TensorSource, apr};
use apr_qa_runner::models::RowOrder;
use apr_qa_runner::quant::{self, Quantize};
use apr_qa_runner::subject::localise::{Localisation, Request, SAMPLE, TOKENS, localise};
use apr_qa_runner::subject::{Opened, Place, Role};
use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};

fn source(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models").join(model)
}

fn opened(path: &Path) -> Opened {
    Opened::new(Place {
        model: "m".into(),
        artifact: path.display().to_string(),
        path: path.to_owned(),
        shown: path.display().to_string(),
        backend: "cpu".into(),
        threads: 1,
        adapter: None,
        role: Role::UnderTest,
        kept: None,
    })
}

fn walked(candidate: &Path, original: &Path) -> Localisation {
    let request = Request { text: SAMPLE, tokens: TOKENS, until: None };
    localise(&opened(candidate), &opened(original), &request).unwrap_or_else(|e| panic!("{e}"))
}

/// Changes tensors by canonical name, and metadata.
type Change<'a> = &'a dyn Fn(&str, &mut Vec<f32>);

/// `model` with something broken and then converted soundly: to a GGUF of that encoding, or to APR unquantised.
fn broken(
    folder: &Path,
    model: &str,
    change: Change,
    settings: &[(&str, Json)],
    quantize: Option<Quantize>,
) -> PathBuf {
    let (sound, planted) = (folder.join("sound.apr"), folder.join("planted.apr"));
    let plain = ConvertOptions { ..ConvertOptions::default() };
    convert(&source(model), &sound, &plain).unwrap_or_else(|e| panic!("{e}"));
    let checkpoint = formats::open(&sound).expect("a sound copy");
    let Container::Apr(header) = &checkpoint.container else { panic!("no APR file") };
    let mut metadata: Map<String, Json> = header.metadata.clone();
    for (key, value) in settings {
        let old = metadata.insert((*key).to_owned(), value.clone());
        assert!(old.is_some_and(|old| old != *value), "{key} is another setting");
    }
    let tensors = checkpoint.tensors().iter().map(|stored| {
        let (dtype, shape) = (stored.tensor.dtype, stored.tensor.shape.clone());
        let mut values = quant::to_f32(&stored.tensor).expect("plain");
        change(&stored.name, &mut values);
        let bytes = quant::from_f32(dtype, &shape, &values).expect("plain");
        TensorSource::produced(&stored.name, dtype, shape, move || Ok(bytes.clone()))
    });
    apr::write(&planted, metadata, &tensors.collect::<Vec<_>>(), AprDialect::Contract).expect("writes");
    if quantize.is_none() {
        return planted;
    }
    let path = folder.join("broken.gguf");
    convert(&planted, &path, &ConvertOptions { quantize, ..ConvertOptions::default() })
        .unwrap_or_else(|e| panic!("{e}"));
    path
}

const ENCODINGS: [Option<Quantize>; 3] = [None, Some(Quantize::Int8), Some(Quantize::Q4_0)];

/// Requires that the walk names `operation`, `subject` and `cause` first.
#[track_caller]
fn names(found: &Localisation, operation: &str, subject: &str, cause: &str) {
    let first = found.walk.first().unwrap_or_else(|| panic!("nothing is over: {}", found.headline));
    assert_eq!(first.name(), operation, "{}", found.headline);
    let finding = found.finding.as_ref().expect("something is over");
    assert_eq!(finding.subject, subject, "{}", found.headline);
    assert_eq!(found.causes.first().map(|c| c.id), Some(cause), "{:#?}", found.causes);
    assert_eq!(finding.cause.as_deref(), Some(cause));
    assert!(found.headline.starts_with("first over budget: "), "{}", found.headline);
}

#[test]
fn a_wrong_weight_is_named_with_its_cause_in_every_encoding() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &'static str, f: fn(&mut Vec<f32>)| {
        move |found: &str, values: &mut Vec<f32>| {
            if found == name {
                f(values);
            }
        }
    };
    // tiny-llama: 4 query and 2 key heads of 32.
    let pairs = |values: &mut Vec<f32>| {
        let (order, width) = (RowOrder::RopePairs { head_dim: 32 }, values.len() / 64);
        let old = values.clone();
        for row in 0..64 {
            let from = order.stored_row(row);
            values[row * width..(row + 1) * width].copy_from_slice(&old[from * width..(from + 1) * width]);
        }
    };
    for quantize in ENCODINGS {
        let scaled = at("1.down_proj.weight", |v| v.iter_mut().for_each(|x| *x *= 1.5));
        let found =
            walked(&broken(folder.path(), "tiny-llama", &scaled, &[], quantize), &source("tiny-llama"));
        names(&found, "blk.1 ffn_down", "1.down_proj.weight", "scaled");

        let permuted = at("1.k_proj.weight", pairs);
        let found =
            walked(&broken(folder.path(), "tiny-llama", &permuted, &[], quantize), &source("tiny-llama"));
        names(&found, "blk.1 attn_k", "1.k_proj.weight", "rows-interleaved");

        let zeroed = at("0.q_proj.bias", |v| v.fill(0.0));
        let found =
            walked(&broken(folder.path(), "tiny-qwen2", &zeroed, &[], quantize), &source("tiny-qwen2"));
        names(&found, "blk.0 attn_q", "0.q_proj.weight", "bias-zeroed");
    }
}

#[test]
fn gate_and_up_that_changed_places_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let checkpoint = formats::open(&source("tiny-llama")).expect("committed");
    let weights = apr_qa_runner::models::open(&checkpoint).expect("sound").weights;
    let of = |part: &str| weights[&format!("1.{part}.weight")].to_f32().expect("plain");
    let swap = |name: &str, values: &mut Vec<f32>| match name {
        "1.gate_proj.weight" => *values = of("up_proj"),
        "1.up_proj.weight" => *values = of("gate_proj"),
        _ => {}
    };
    for quantize in ENCODINGS {
        let found = walked(&broken(folder.path(), "tiny-llama", &swap, &[], quantize), &source("tiny-llama"));
        names(&found, "blk.1 ffn_gate", "1.gate_proj.weight", "swapped-tensors");
    }
}

#[test]
fn a_wrong_setting_is_named_where_it_works_and_how_it_shows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for quantize in ENCODINGS {
        let eps = [("rms_norm_eps", json!(1e-3))];
        let found =
            walked(&broken(folder.path(), "tiny-llama", &|_, _| {}, &eps, quantize), &source("tiny-llama"));
        names(&found, "blk.0 attn_norm", "0.attn_norm.weight", "norm-eps");

        let theta = [("rope_theta", json!(100.0))];
        let found =
            walked(&broken(folder.path(), "tiny-llama", &|_, _| {}, &theta, quantize), &source("tiny-llama"));
        names(&found, "blk.0 rope_q", "blk.0 rope_q", "rope-theta");
        let course = &found.walk.first().expect("over").by_position;
        assert!(course[0] > course[40] + 3.0, "{course:?}");
    }
}

#[test]
fn identical_models_part_nowhere() {
    for model in ["tiny-llama", "tiny-gpt2", "tiny-gemma3"] {
        let found = walked(&source(model), &source(model));
        assert!(found.walk.first_over.is_none() && found.finding.is_none(), "{model}: {}", found.headline);
        assert!(
            found.walk.taps.iter().all(|t| t.local_db == f64::INFINITY && t.cumulative_db == f64::INFINITY)
        );
        assert!(found.causes.is_empty() && found.notes.is_empty(), "{model}: {:?}", found.causes);
        assert!(found.charts.len() == 3 && found.charts.iter().all(|c| c.labels.len() == c.values.len()));
    }
}

#[test]
fn sound_conversions_are_within_budget_everywhere() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in ["tiny-llama", "tiny-qwen2", "tiny-gpt2", "tiny-gemma3", "tiny-phi3"] {
        for (quantize, name) in [
            (None, "a.apr"),
            (Some(Quantize::Q4_0), "a.gguf"),
            (Some(Quantize::Q4_K_M), "b.gguf"),
            (Some(Quantize::Int8), "b.apr"),
        ] {
            let path = folder.path().join(format!("{model}-{name}"));
            convert(&source(model), &path, &ConvertOptions { quantize, ..ConvertOptions::default() })
                .unwrap_or_else(|e| panic!("{e}"));
            let found = walked(&path, &source(model));
            assert!(found.walk.first_over.is_none(), "{model} {name}: {}", found.headline);
            assert_eq!(found.walk.tokens, TOKENS.min(found.walk.tokens));
        }
    }
}

#[test]
fn models_of_other_shapes_are_no_panic() {
    for (a, b) in [("tiny-llama", "tiny-gpt2"), ("tiny-gemma3", "tiny-llama"), ("tiny-qwen2", "tiny-qwen3")] {
        let request = Request { text: SAMPLE, tokens: TOKENS, until: None };
        match localise(&opened(&source(a)), &opened(&source(b)), &request) {
            Ok(found) => assert!(found.walk.first_over.is_some(), "{a} {b}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
