//! Conversions of small synthetic models, each container read back and held against the values it was made of.

use super::*;
use crate::engine::random_model;
use crate::formats::{AprDialect, Container, GgufValue, HfFolder, NamedTensor};
use crate::models::fixture::{Tiny, assert_same_values, checkpoint, tensor, with_tensors};
use crate::models::{FAMILIES, RopeScaling, RowOrder, canonical_tensors};
use crate::quant::{self, Quantize};
use crate::tensor::{DType, Shape};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A folder with one source model in it, as a file that `convert` can open.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `checkpoint` written as it is: its own names and metadata.
    fn put(&self, name: &str, checkpoint: &Checkpoint) -> PathBuf {
        let path = self.path(name);
        let tensors: Vec<TensorSource> = checkpoint.tensors().iter().map(TensorSource::from).collect();
        match &checkpoint.container {
            Container::Hf(folder) => {
                std::fs::create_dir(&path).expect("a new folder");
                let config = serde_json::to_vec(&folder.config).expect("JSON");
                std::fs::write(path.join("config.json"), config).expect("writable");
                let weights = path.join(crate::formats::hf::WEIGHTS);
                crate::formats::safetensors::write(&weights, &BTreeMap::new(), &tensors).expect("written");
            }
            Container::Gguf(header) => {
                crate::formats::gguf::write(&path, &header.metadata, &tensors).expect("written");
            }
            Container::Apr(header) => {
                let metadata = header.metadata.clone();
                crate::formats::apr::write(&path, metadata, &tensors, AprDialect::Aprender).expect("written");
            }
        }
        path
    }

    fn convert(&self, src: &Path, dst: &str, options: &ConvertOptions) -> Result<ConvertReport> {
        convert(src, &self.path(dst), options)
    }

    fn to(&self, src: &Path, dst: &str) -> PathBuf {
        let report = self.convert(src, dst, &ConvertOptions::default()).expect("an exact conversion");
        assert!(report.is_exact(), "{report:?}");
        self.path(dst)
    }
}

fn quantize(to: Quantize) -> ConvertOptions {
    ConvertOptions { quantize: Some(to), ..ConvertOptions::default() }
}

fn values(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let opened = open(path).expect("what was written opens");
    let tensors = canonical_tensors(&opened).expect("what was written is sound");
    tensors.iter().map(|t| (t.name.clone(), t.to_f32().expect("decodes"))).collect()
}

/// Stored name to encoding and bytes.
fn payloads(path: &Path) -> BTreeMap<String, (DType, Shape, Vec<u8>)> {
    let opened = open(path).expect("what was written opens");
    let payload = |t: &NamedTensor| (t.tensor.dtype, t.tensor.shape.clone(), t.tensor.bytes.to_vec());
    opened.tensors().iter().map(|t| (t.name.clone(), payload(t))).collect()
}

fn variants() -> Vec<Tiny> {
    let mut all = Vec::new();
    for family in FAMILIES {
        all.push(Tiny::new(family.id()));
        all.push(Tiny { tied: false, ..Tiny::new(family.id()) });
    }
    all.push(Tiny { biased: true, tied: false, ..Tiny::new("llama") });
    all
}

#[test]
fn every_path_between_containers_keeps_every_value() {
    for tiny in variants() {
        for dtype in [DType::F32, DType::BF16] {
            let bench = Bench::new();
            let truth = tiny.truth();
            let hf = bench.put("hf", &tiny.hf(dtype));
            let apr = bench.to(&hf, "a.apr");
            let gguf = bench.to(&apr, "a.gguf");
            let again = bench.to(&gguf, "again.apr");
            let folder = bench.to(&gguf, "folder");
            let direct = bench.to(&hf, "direct.gguf");
            for path in [&hf, &apr, &gguf, &again, &folder, &direct] {
                assert_same_values(&values(path), &truth);
            }
            // Weights keep their bytes; only vectors and positions became F32 on the way through GGUF.
            for (name, payload) in payloads(&apr) {
                let back = &payloads(&again)[&name];
                let widened = back.0 == DType::F32 && (payload.1.ndim() < 2 || name.starts_with("position"));
                assert!(*back == payload || widened, "{name}");
            }
            assert!(payloads(&gguf) == payloads(&direct), "APR lies between without a trace");
            let third = bench.to(&folder, "third.gguf");
            if dtype == DType::F32 {
                assert!(payloads(&third) == payloads(&gguf), "GGUF, HF, GGUF");
                assert!(payloads(&again) == payloads(&apr), "APR, GGUF, APR");
            }
        }
    }
}

/// What llama.cpp and transformers store, made by hand in the fixture, is what we write.
#[test]
fn our_gguf_and_hf_hold_the_bytes_of_the_hand_made_ones() {
    for tiny in variants() {
        let bench = Bench::new();
        let hf = bench.put("hf", &tiny.hf(DType::F16));
        let by_hand = bench.put("hand.gguf", &tiny.gguf(DType::F16));
        let ours = bench.to(&hf, "ours.gguf");
        assert!(payloads(&ours) == payloads(&by_hand), "{}", tiny.family.id());
        let hf32 = bench.put("hf32", &tiny.hf(DType::F32));
        let back = bench.to(&bench.put("hand32.gguf", &tiny.gguf(DType::F32)), "back");
        assert!(payloads(&back) == payloads(&hf32), "{}", tiny.family.id());
    }
}

#[test]
fn blocks_move_whole_through_row_orders_and_fusion() {
    for tiny in variants() {
        let bench = Bench::new();
        let hf = bench.put("hf", &tiny.hf(DType::F32));
        let (apr, gguf) = (bench.path("a.apr"), bench.path("a.gguf"));
        convert(&hf, &apr, &quantize(Quantize::Int8)).expect("asked for");
        convert(&hf, &gguf, &quantize(Quantize::Q8_0)).expect("asked for");
        // The int8 APR and the Q8_0 GGUF of one model hold the same blocks.
        let from_gguf = bench.to(&gguf, "b.apr");
        assert!(payloads(&from_gguf) == payloads(&apr), "{}", tiny.family.id());
        assert!(payloads(&bench.to(&apr, "b.gguf")) == payloads(&gguf), "{}", tiny.family.id());
        assert_same_values(&values(&bench.to(&apr, "dequantised")), &values(&apr));
    }
}

/// An encoding that is only read stays what it is in a GGUF, and becomes exactly what it decodes to in an APR, which
/// has no dtype byte for it; nothing turns into it.
#[test]
fn encodings_that_are_only_read_pass_through_gguf_and_decode_exactly_for_apr() {
    for dtype in [DType::IQ4_NL, DType::IQ4_XS, DType::IQ2_XXS, DType::TQ2_0, DType::MXFP4] {
        let bench = Bench::new();
        let tiny = Tiny { hidden: 256, inner: 256, ..Tiny::new("llama") };
        let source = with_tensors(&tiny.gguf(DType::F32), |tensors| {
            for t in tensors.iter_mut().filter(|t| t.name.starts_with("blk.")) {
                if t.tensor.shape.ndim() == 2 {
                    let dims = t.tensor.shape.0.clone();
                    t.tensor = random_model::tensor(dtype, &dims, 0.0, 0.05, &mut random_model::Random(7));
                }
            }
        });
        let gguf = bench.put("a.gguf", &source);
        let again = bench.to(&gguf, "b.gguf");
        assert!(payloads(&again) == payloads(&gguf), "{dtype}");
        let apr = bench.to(&gguf, "a.apr");
        assert_eq!(payloads(&apr)["0.k_proj.weight"].0, DType::F32, "{dtype}");
        assert_same_values(&values(&apr), &values(&gguf));
    }
}

/// Blocks go from GGUF to APR and back as they are, rows moved.
#[test]
fn k_quants_pass_through() {
    // (encoding, byte offsets of its f16 scales): small scales, so that no random block is infinite.
    for (dtype, scales) in [(DType::Q4_K, &[0usize, 2][..]), (DType::Q6_K, &[208]), (DType::Q3_K, &[108])] {
        let bench = Bench::new();
        let tiny = Tiny { hidden: 256, inner: 256, ..Tiny::new("llama") };
        let source = with_tensors(&tiny.gguf(DType::F16), |tensors| {
            for (n, t) in tensors.iter_mut().enumerate().filter(|(_, t)| t.name.starts_with("blk.")) {
                if t.tensor.shape.ndim() == 2 {
                    let size = dtype.nbytes(&t.tensor.shape).expect("rows of 256");
                    let mut bytes: Vec<u8> = (0..size).map(|i| (i * 31 + i / 256 + n) as u8).collect();
                    for block in bytes.chunks_mut(dtype.block_bytes()) {
                        scales.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&[0x00, 0x2c]));
                    }
                    t.tensor.dtype = dtype;
                    t.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
                }
            }
        });
        let gguf = bench.put("a.gguf", &source);
        let apr = bench.to(&gguf, "a.apr");
        assert!(payloads(&bench.to(&apr, "b.gguf")) == payloads(&gguf), "{dtype}");
        let (stored, ours) = (&payloads(&gguf)["blk.0.attn_k.weight"], &payloads(&apr)["0.k_proj.weight"]);
        let row = dtype.block_bytes();
        let order = RowOrder::RopePairs { head_dim: 64 };
        for r in 0..128 {
            let from = order.stored_row(r);
            assert!(
                ours.2[r * row..(r + 1) * row] == stored.2[from * row..(from + 1) * row],
                "{dtype} row {r}"
            );
        }
    }
}

#[test]
fn int4_spares_embeddings_head_vectors_and_positions() {
    for tiny in variants() {
        let bench = Bench::new();
        let hf = bench.put("hf", &tiny.hf(DType::F32));
        bench.convert(&hf, "a.apr", &quantize(Quantize::Int4)).expect("asked for");
        for (name, (dtype, shape, _)) in payloads(&bench.path("a.apr")) {
            let expected = match name.as_str() {
                "token_embd.weight" | "output.weight" => DType::Q8_0,
                "position_embd.weight" => DType::F32,
                _ if shape.ndim() < 2 => DType::F32,
                _ => DType::Q4_0,
            };
            assert_eq!(dtype, expected, "{name}");
        }
    }
}

#[test]
fn rows_that_do_not_fit_their_blocks_become_f16_and_the_file_says_so() {
    let bench = Bench::new();
    let tiny = Tiny::new("llama");
    let mut odd = tiny.hf(DType::F32);
    let Container::Hf(folder) = &mut odd.container else { unreachable!("an HF folder was made") };
    folder.config.insert("intermediate_size".into(), 40.into());
    let odd = with_tensors(&odd, |tensors| {
        for t in tensors.iter_mut().filter(|t| t.name.contains(".mlp.")) {
            let dims = if t.name.contains("down") { [64, 40] } else { [40, 64] };
            *t = tensor(&t.name, DType::F32, dims.into(), &[0.25; 40 * 64]);
        }
    });
    let report =
        bench.convert(&bench.put("hf", &odd), "a.apr", &quantize(Quantize::Int8)).expect("asked for");
    assert_eq!(payloads(&bench.path("a.apr"))["1.down_proj.weight"].0, DType::F16);
    assert_eq!(payloads(&bench.path("a.apr"))["1.up_proj.weight"].0, DType::Q8_0);
    assert!(
        report.warnings.iter().any(|w| w.contains("1.down_proj.weight: rows of 40")),
        "{:?}",
        report.warnings
    );
    let Container::Apr(header) = open(&bench.path("a.apr")).expect("opens").container else {
        panic!("an APR")
    };
    let notes = header.metadata["conversion_notes"].as_array().expect("a list").len();
    assert_eq!(notes, 2, "one for each layer");
}

#[test]
fn a_second_quantisation_needs_the_flag() {
    let bench = Bench::new();
    let hf = bench.put("hf", &Tiny::new("qwen2").hf(DType::F32));
    bench.convert(&hf, "a.apr", &quantize(Quantize::Int8)).expect("asked for");
    let apr = bench.path("a.apr");
    let refused = bench.convert(&apr, "b.apr", &quantize(Quantize::Int4)).expect_err("quantised twice");
    assert_eq!(refused.kind, Kind::Lossy);
    assert!(refused.to_string().contains("0.q_proj.weight"), "{refused}");
    assert!(!bench.path("b.apr").exists());
    let allowed = ConvertOptions { allow_lossy: true, ..quantize(Quantize::Int4) };
    bench.convert(&apr, "b.apr", &allowed).expect("allowed");
    // The same encoding again is no second quantisation, and plain floats hold every value.
    assert!(bench.convert(&apr, "c.gguf", &quantize(Quantize::Q8_0)).expect("kept").is_exact());
    assert!(bench.convert(&apr, "d.apr", &quantize(Quantize::F32)).expect("widened").is_exact());
}

#[test]
fn nan_and_infinity_are_refused_by_tensor_and_index() {
    for (bad, index) in [(f32::NAN, 5), (f32::INFINITY, 4095)] {
        let bench = Bench::new();
        let sick = with_tensors(&Tiny::new("llama").hf(DType::F32), |tensors| {
            let name = "model.layers.1.self_attn.o_proj.weight";
            let t = tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the family");
            let mut bytes = t.tensor.bytes.to_vec();
            bytes[index * 4..index * 4 + 4].copy_from_slice(&bad.to_le_bytes());
            t.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
        });
        let error =
            bench.convert(&bench.put("hf", &sick), "a.gguf", &ConvertOptions::default()).expect_err("sick");
        assert_eq!(error.kind, Kind::NonFinite);
        assert!(error.to_string().contains(&format!("o_proj.weight`[{index}]")), "{error}");
        assert!(!bench.path("a.gguf").exists());
    }
}

#[test]
fn what_f16_cannot_hold_is_counted_and_refused() {
    let bench = Bench::new();
    let wide = with_tensors(&Tiny::new("llama").hf(DType::BF16), |tensors| {
        let t = tensors.iter_mut().find(|t| t.name.ends_with("1.mlp.up_proj.weight")).expect("a tensor");
        let mut values = quant::to_f32(&t.tensor).expect("BF16");
        (values[3], values[9], values[11]) = (1e6, -1e6, 1e-12);
        *t = tensor(&t.name, DType::BF16, t.tensor.shape.clone(), &values);
    });
    let hf = bench.put("hf", &wide);
    let error = bench.convert(&hf, "a.apr", &quantize(Quantize::F16)).expect_err("out of range");
    assert_eq!(error.kind, Kind::Lossy);
    let text = error.to_string();
    assert!(
        text.contains("2 values are too large")
            && text.contains("index 3")
            && text.contains("and 1 are too small"),
        "{text}"
    );
    let allowed = ConvertOptions { allow_lossy: true, ..quantize(Quantize::F16) };
    let report = bench.convert(&hf, "a.apr", &allowed).expect("allowed");
    assert_eq!(values(&bench.path("a.apr"))["1.up_proj.weight"][3], 65504.0);
    let told = report.tensors.iter().find(|t| t.name == "1.up_proj.weight").expect("reported");
    assert!(
        told.note.as_ref().is_some_and(|n| n.contains("2 clamped") && n.contains("1 became zero")),
        "{told:?}"
    );
}

#[test]
fn equal_inputs_give_equal_files() {
    for tiny in variants() {
        let bench = Bench::new();
        let hf = bench.put("hf", &tiny.hf(DType::BF16));
        for (one, two) in [("a.apr", "b.apr"), ("a.gguf", "b.gguf")] {
            bench.to(&hf, one);
            bench.to(&hf, two);
            let read = |name: &str| std::fs::read(bench.path(name)).expect("written");
            assert!(read(one) == read(two), "{one}");
        }
    }
}

#[test]
fn the_three_name_dialects_of_apr_hold_the_same_model() {
    for tiny in variants() {
        let bench = Bench::new();
        let hf = bench.put("hf", &tiny.hf(DType::F32));
        let short = bench.to(&hf, "short.apr");
        let options = ConvertOptions { names: NameDialect::Hf, ..ConvertOptions::default() };
        bench.convert(&hf, "hf.apr", &options).expect("exact");
        let options = aprender(ConvertOptions::default());
        bench.convert(&hf, "aprender.apr", &options).expect("exact");
        for name in ["short.apr", "hf.apr", "aprender.apr"] {
            assert_same_values(&values(&bench.path(name)), &tiny.truth());
        }
        let names = |path: &Path| payloads(path).into_keys().collect::<Vec<_>>();
        assert!(names(&short).iter().all(|n| !n.starts_with("model.")));
        let aprender = names(&bench.path("aprender.apr"));
        assert!(aprender.contains(&"model.layers.1.self_attn.q_proj.weight".to_owned()));
        assert!(aprender.contains(&"lm_head.weight".to_owned()), "aprender wants a head, tied or not");
        // From aprender's orders straight to GGUF: the same file as from ours.
        let gguf = payloads(&bench.to(&bench.path("aprender.apr"), "x.gguf"));
        assert!(gguf == payloads(&bench.to(&short, "y.gguf")), "{}", tiny.family.id());
    }
}

#[test]
fn aprender_gets_its_own_integers_and_its_own_exceptions() {
    for tiny in variants() {
        for (asked, expected) in [(Quantize::Int8, DType::AprQ8), (Quantize::Int4, DType::AprQ4)] {
            let bench = Bench::new();
            let hf = bench.put("hf", &tiny.hf(DType::F32));
            let options = aprender(quantize(asked));
            bench.convert(&hf, "a.apr", &options).expect("asked for");
            for (name, (dtype, shape, _)) in payloads(&bench.path("a.apr")) {
                let kept = ["bias", "norm", "position"].iter().any(|part| name.contains(part))
                    || shape.numel() < 1024;
                assert_eq!(dtype, if kept { DType::F32 } else { expected }, "{name}");
            }
            assert_same_values(
                &values(&bench.to(&bench.path("a.apr"), "b.apr")),
                &values(&bench.path("a.apr")),
            );
            // An aprender file goes into the aprender dialect untouched, Conv1D and all.
            let again = aprender(ConvertOptions::default());
            bench.convert(&bench.path("a.apr"), "c.apr", &again).expect("kept");
            assert!(payloads(&bench.path("c.apr")) == payloads(&bench.path("a.apr")), "{}", tiny.family.id());
        }
    }
}

/// In aprender's dialect, also for families that aprender does not run.
fn aprender(options: ConvertOptions) -> ConvertOptions {
    ConvertOptions { dialect: AprDialect::Aprender, allow_lossy: true, ..options }
}

#[test]
fn a_family_that_aprender_does_not_run_needs_a_flag_in_its_dialect() {
    for (family, runs) in [("llama", true), ("qwen2", true), ("gpt2", false), ("gemma3", false)] {
        let bench = Bench::new();
        let hf = bench.put("hf", &Tiny::new(family).hf(DType::F32));
        let options = ConvertOptions { dialect: AprDialect::Aprender, ..ConvertOptions::default() };
        let written = bench.convert(&hf, "a.apr", &options);
        assert_eq!(written.is_ok(), runs, "{family}");
        if let Err(error) = written {
            let text = error.to_string();
            assert!(text.contains(family) && text.contains("--allow-lossy"), "{text}");
            bench.convert(&hf, "a.apr", &aprender(ConvertOptions::default())).expect("allowed");
        }
    }
}

/// `apr import` writes `tied_embeddings: true` for tied and untied models alike.
#[test]
fn in_aprenders_own_files_the_stored_head_says_whether_it_is_tied() {
    for tied in [true, false] {
        let bench = Bench::new();
        let tiny = Tiny { tied, ..Tiny::new("llama") };
        let options = ConvertOptions { dialect: AprDialect::Aprender, ..ConvertOptions::default() };
        bench.convert(&bench.put("hf", &tiny.hf(DType::F32)), "a.apr", &options).expect("exact");
        let mut theirs = open(&bench.path("a.apr")).expect("opens");
        let Container::Apr(header) = &mut theirs.container else { panic!("an APR") };
        header.metadata.insert("tied_embeddings".into(), true.into());
        let theirs = bench.put("theirs.apr", &theirs);
        let model = crate::models::open(&open(&theirs).expect("opens")).expect("sound");
        assert_eq!(model.config.tied_embeddings, tied);
        assert_same_values(&values(&theirs), &tiny.truth());
    }
}

/// What scales rotary frequencies, windows attention and shifts norms survives every container.
#[test]
fn settings_beyond_the_sizes_survive_every_container() {
    let llama3 = |family: &str| {
        let tiny = Tiny::new(family);
        let mut folder = HfFolder { config: tiny.hf_config(), ..HfFolder::default() };
        let rope = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_theta": 500_000.0,
        });
        folder.config.insert("rope_parameters".into(), rope);
        checkpoint(Container::Hf(folder), tiny.hf(DType::BF16).tensors().to_vec())
    };
    let config = |path: &Path| crate::models::config(&open(path).expect("opens")).expect("a known family");
    let sources = [
        llama3("llama"),
        llama3("mistral"),
        Tiny::new("mistral").hf(DType::BF16),
        Tiny::new("gemma3").hf(DType::BF16),
    ];
    for source in sources {
        let bench = Bench::new();
        let hf = bench.put("hf", &source);
        let gguf = bench.to(&hf, "a.gguf");
        let apr = bench.to(&gguf, "a.apr");
        let again = bench.to(&apr, "again");
        let expected = config(&hf);
        for path in [&gguf, &apr, &again] {
            assert_eq!(config(path), expected, "{}", path.display());
        }
        let stored = open(&gguf).expect("opens");
        let divisors = stored.get("rope_freqs.weight");
        assert_eq!(divisors.is_some(), matches!(expected.rope_scaling, RopeScaling::Llama3(_)));
    }
    // A GGUF of qwen2 has no place for divisors, and says so instead of losing them.
    let bench = Bench::new();
    let hf = bench.put("hf", &llama3("qwen2"));
    let error = bench.convert(&hf, "a.gguf", &ConvertOptions::default()).expect_err("refused").to_string();
    assert!(error.contains("no place for RoPE divisors"), "{error}");
}

/// Norms that multiply by `1 + w`: `w` in HF folders, `1 + w` in F32 everywhere else, and back without a change.
#[test]
fn unit_offsets_are_added_once_and_taken_off_again() {
    let bench = Bench::new();
    let hf = bench.put("hf", &Tiny::new("gemma3").hf(DType::BF16));
    let gguf = bench.to(&hf, "a.gguf");
    let again = bench.to(&gguf, "again");
    let stored = |path: &Path, name: &str| {
        let checkpoint = open(path).expect("opens");
        let tensor = &checkpoint.get(name).expect("stored").tensor;
        (tensor.dtype, crate::quant::to_f32(tensor).expect("floats"))
    };
    let (_, w) = stored(&hf, "model.layers.1.self_attn.q_norm.weight");
    let (dtype, shifted) = stored(&gguf, "blk.1.attn_q_norm.weight");
    assert_eq!(dtype, DType::F32);
    assert_eq!(shifted, w.iter().map(|w| 1.0 + w).collect::<Vec<_>>());
    assert_eq!(stored(&again, "model.layers.1.self_attn.q_norm.weight"), (DType::F32, w));
}

/// The trained models of the project, tokenizer and padded embedding rows included.
#[test]
fn the_trained_tiny_models_go_all_the_way_round() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
    let entries =
        std::fs::read_dir(&models).expect("the project's models").map(|e| e.expect("readable").path());
    let folders: Vec<PathBuf> = entries.filter(|path| path.join("config.json").is_file()).collect();
    assert!(folders.len() >= 2, "{folders:?}");
    for hf in folders {
        let slug = hf.display().to_string();
        let bench = Bench::new();
        let apr = bench.to(&hf, "a.apr");
        let gguf = bench.to(&apr, "a.gguf");
        let again = bench.to(&gguf, "again.apr");
        let folder = bench.to(&again, "folder");
        let truth = values(&hf);
        let tokenizer = |path: &Path| {
            crate::tokenizer::Tokenizer::from_checkpoint(&open(path).expect("opens"))
                .expect("has a tokenizer")
        };
        let source = tokenizer(&hf);
        for path in [&apr, &gguf, &again, &folder] {
            assert_same_values(&values(path), &truth);
            let converted = tokenizer(path);
            for text in ["What is 2+2? Answer:", "def fibonacci(n):\n    return n", " Zürich  \u{1f600}"] {
                let ids = |t: &crate::tokenizer::Tokenizer| t.encode(text, true).expect("encodes");
                assert_eq!(ids(&converted), ids(&source), "{slug} {}: {text:?}", path.display());
            }
            assert_eq!(converted.spec().stop_ids(), source.spec().stop_ids(), "{slug}");
            let report = crate::models::check(&open(path).expect("opens"));
            assert!(report.all_passed(), "{slug} {}: {:?}", path.display(), report.problems);
        }
        // llama.cpp wants one token per row of the embedding.
        let Container::Gguf(header) = open(&gguf).expect("opens").container else { panic!("a GGUF") };
        let tokens = header.get("tokenizer.ggml.tokens").and_then(GgufValue::as_array).expect("tokens").len();
        let rows = open(&gguf).expect("opens").get("token_embd.weight").expect("stored").tensor.shape.rows();
        assert_eq!(tokens, rows, "{slug}");
        assert_eq!(tokenizer(&again).spec().tokens.len(), source.spec().tokens.len(), "{slug}");
    }
}

#[test]
fn gguf_keys_are_those_of_llama_cpp() {
    let keys = |tiny: &Tiny| {
        let bench = Bench::new();
        let gguf = bench.to(&bench.put("some-name", &tiny.hf(DType::F16)), "a.gguf");
        let Container::Gguf(header) = open(&gguf).expect("opens").container else { panic!("a GGUF") };
        header.metadata.into_iter().collect::<BTreeMap<String, GgufValue>>()
    };
    let llama = keys(&Tiny::new("llama"));
    assert_eq!(llama["general.architecture"], GgufValue::String("llama".into()));
    assert_eq!(llama["general.name"], GgufValue::String("some-name".into()));
    assert_eq!(llama["general.file_type"], GgufValue::U32(1));
    assert_eq!(llama["llama.attention.head_count_kv"], GgufValue::U32(2));
    assert_eq!(llama["llama.rope.dimension_count"], GgufValue::U32(16));
    assert_eq!(llama["llama.rope.freq_base"], GgufValue::F32(10000.0));
    assert_eq!(llama["llama.attention.layer_norm_rms_epsilon"], GgufValue::F32(1e-5));
    assert_eq!(llama["llama.vocab_size"], GgufValue::U32(40));
    assert!(!llama.contains_key("general.quantization_version"), "nothing is quantised");
    let gpt2 = keys(&Tiny::new("gpt2"));
    assert_eq!(gpt2["gpt2.attention.layer_norm_epsilon"], GgufValue::F32(1e-5));
    assert!(!gpt2.contains_key("gpt2.attention.layer_norm_rms_epsilon"));
    assert!(!gpt2.keys().any(|k| k.contains("rope")));
}

#[test]
fn a_destination_that_is_not_ours_is_left_alone() {
    let bench = Bench::new();
    let hf = bench.put("hf", &Tiny::new("qwen2").hf(DType::F32));
    let refusal = |src: &Path, dst: &str| {
        let error = bench.convert(src, dst, &ConvertOptions::default()).expect_err("must be refused");
        assert_eq!(error.kind, Kind::Usage, "{error}");
        error.to_string()
    };
    assert!(refusal(&hf, "hf").contains("is the source"));
    let gguf = bench.to(&hf, "a.gguf");
    assert!(refusal(&gguf, "a.gguf").contains("is the source"));
    assert!(refusal(&hf, "weights.safetensors").contains("name the folder"));
    std::fs::create_dir(bench.path("diary")).expect("a new folder");
    std::fs::write(bench.path("diary/notes.txt"), "dear diary").expect("writable");
    assert!(refusal(&gguf, "diary").contains("notes.txt"));
    std::fs::create_dir(bench.path("dir.apr")).expect("a new folder");
    assert!(refusal(&gguf, "dir.apr").contains("no regular file"));
    // Its own results it does replace.
    bench.to(&gguf, "folder");
    bench.to(&gguf, "folder");
    bench.to(&hf, "a.gguf");
    let left = std::fs::read_dir(bench.dir.path()).expect("readable").filter_map(|e| e.ok());
    let hidden = left.filter(|e| e.file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(hidden, 0, "no scratch is left behind");
}

#[test]
fn an_hf_folder_holds_no_blocks() {
    let bench = Bench::new();
    let hf = bench.put("hf", &Tiny::new("llama").hf(DType::F32));
    let error = bench.convert(&hf, "out", &quantize(Quantize::Int8)).expect_err("no such dtype there");
    assert!(error.to_string().contains("plain floats"), "{error}");
}

#[test]
fn the_plan_says_what_happens_without_reading_a_value() {
    let hf = Tiny::new("gpt2").hf(DType::F32);
    let steps = plan(&hf, FormatKind::Gguf, &ConvertOptions::default()).expect("a plan").steps;
    let qkv = steps.iter().find(|s| s.name == "blk.1.attn_qkv.weight").expect("fused");
    assert_eq!(qkv.sources, ["1.q_proj.weight", "1.k_proj.weight", "1.v_proj.weight"]);
    assert_eq!((qkv.operation, qkv.shape.clone()), (Operation::Turn, Shape::from([192, 64])));
    let gguf = Tiny::new("llama").gguf(DType::Q8_0);
    let steps = plan(&gguf, FormatKind::Apr, &ConvertOptions::default()).expect("a plan").steps;
    let of = |name: &str| steps.iter().find(|s| s.name == name).expect("planned").operation;
    assert_eq!(of("0.k_proj.weight"), Operation::MoveRows);
    assert_eq!(of("0.v_proj.weight"), Operation::Keep);
    let empty = checkpoint(Container::Hf(Default::default()), Vec::new());
    assert!(plan(&empty, FormatKind::Apr, &ConvertOptions::default()).is_err());
}
