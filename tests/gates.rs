//! The gates over the tiny models as they lie in the repository: what the engine reads there is what was recorded.

use apr_qa_runner::contract::Contract;
use apr_qa_runner::convert::{ConvertOptions, convert};
use apr_qa_runner::gates::{self, Against, References, Settings, Trial};
use apr_qa_runner::oracle::{self, Oracle, OracleLogits};
use apr_qa_runner::playbook::{At, Located, ParamValue};
use apr_qa_runner::quant::Quantize;
use apr_qa_runner::record::{Judgement, Unable, Verdict};
use apr_qa_runner::subject::{Answer, DistributionPlan, Opened, Place, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MODELS: [&str; 3] = ["tiny-llama", "tiny-qwen2", "tiny-gpt2"];
const PROMPTS: [&str; 4] = ["arithmetic", "code", "completion", "greeting"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

/// The recordings of one model.
struct Recorded(PathBuf);

impl References for Recorded {
    fn oracle(&self, prompt: &str) -> Answer<(Arc<Oracle>, String)> {
        let found = oracle::load(&self.0, prompt).map_err(Unable::Reference)?;
        Ok((Arc::new(found), oracle::path(&self.0, prompt).display().to_string()))
    }

    fn oracle_logits(&self, prompt: &str) -> Answer<(Arc<OracleLogits>, String)> {
        let found = oracle::load_logits(&self.0, prompt).map_err(Unable::Reference)?;
        Ok((Arc::new(found), format!("{prompt}.logits.json")))
    }

    fn text(&self) -> Answer<(Arc<str>, String)> {
        let path = root().join("text/tiny.txt");
        let text = std::fs::read_to_string(&path).expect("the text is in the repository");
        Ok((text.into(), path.display().to_string()))
    }

    fn perplexity_ceiling(&self) -> Option<(f64, String)> {
        Some((20.0, "test".into()))
    }
}

fn opened(path: &Path, backend: &str) -> Opened {
    Opened::new(Place {
        model: "m".into(),
        artifact: "a".into(),
        path: path.to_path_buf(),
        shown: path.display().to_string(),
        backend: backend.into(),
        threads: 2,
        adapter: None,
        role: Role::UnderTest,
        kept: None,
    })
}

/// Judges one gate on `subject`, against `other` where the gate compares.
fn judge(gate: &str, model: &str, prompt: Option<&str>, subject: &Opened, other: &Opened) -> Judgement {
    let gate = gates::find(gate).expect("a gate of the table");
    let references = Recorded(root().join(model));
    let text = |name: &str| references.oracle(name).expect("recorded").0.prompt.clone();
    let prompts: Vec<(String, String)> = PROMPTS.iter().map(|name| (name.to_string(), text(name))).collect();
    let none = Located { value: ParamValue::Number(0.0), at: At { line: 1, column: 1 } };
    let limits = match gate.info().id {
        "token-parity" => BTreeMap::from([("max_mismatches".to_string(), none)]),
        _ => BTreeMap::new(),
    };
    let settings = Settings::new(gate.info().params, limits, "test.yaml");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let (subject, other) = (subject.in_role(Role::UnderTest), other.in_role(Role::Reference));
    let prompt = prompt.map(|name| (name, text(name)));
    let judged = gate.judge(&Trial {
        subject: &*subject,
        against: Some(Against::Subject(&*other)),
        prompt: prompt.as_ref().map(|(name, text)| (*name, text.as_str())),
        prompts: &prompts,
        tokens: 32,
        settings: &settings,
        references: &references,
        contract: Contract::builtin(),
        scratch: scratch.path(),
    });
    judged.unwrap_or_else(|unable| panic!("{model}: {}: {unable:?}", gate.info().id))
}

#[test]
fn prompts_asked_together_are_answered_as_alone_and_remembered() {
    for model in MODELS {
        let source = root().join("models").join(model);
        for backend in ["cpu", "cpu-fast"] {
            let together = opened(&source, backend).in_role(Role::UnderTest);
            let alone = opened(&source, backend).in_role(Role::UnderTest);
            // One twice, one without a token where nothing is put before it, and one that was asked before.
            let prompts = ["The capital of", "", "2 + 2 =", "The capital of", "def f(", "Hello"];
            let asked_before = together.generate("Hello", 12);
            let found = together.generate_many(&prompts, 12);
            assert_eq!(found.len(), prompts.len());
            for (prompt, found) in prompts.iter().zip(&found) {
                assert_eq!(*found, alone.generate(prompt, 12), "{model} {backend} {prompt:?}");
            }
            assert_eq!(found[1].is_err(), alone.encode("", true) == Ok(Vec::new()));
            for (first, again) in
                [(&asked_before, &found[5]), (&found[0], &together.generate(prompts[0], 12))]
            {
                let (Ok(first), Ok(again)) = (first, again) else { panic!("{model} {backend}: {first:?}") };
                assert!(Arc::ptr_eq(first, again), "{model} {backend}: an answer is kept");
            }
        }
    }
}

#[test]
fn the_sources_pass_every_gate_that_needs_no_conversion() {
    for model in MODELS {
        let source = root().join("models").join(model);
        for backend in ["reference", "cpu"] {
            let (subject, other) = (opened(&source, backend), opened(&source, "cpu"));
            for gate in ["oracle-logits", "canary", "token-parity", "runtime-parity", "format-roundtrip"] {
                for prompt in PROMPTS {
                    let judged = judge(gate, model, Some(prompt), &subject, &other);
                    assert_eq!(
                        judged.verdict,
                        Verdict::Pass,
                        "{model} {backend} {gate} {prompt}: {judged:#?}"
                    );
                }
            }
        }
        let subject = opened(&source, "cpu");
        for gate in [
            "weights-check",
            "config-parity",
            "contract-i1",
            "contract-i2",
            "contract-i3",
            "contract-i4",
            "contract-i5",
            "perplexity",
            "perplexity-drift",
            "tensor-fidelity",
            "kl-divergence",
        ] {
            let judged = judge(gate, model, None, &subject, &subject);
            assert_eq!(judged.verdict, Verdict::Pass, "{model} {gate}: {judged:#?}");
        }
    }
}

#[test]
fn conversions_pass_the_contract() {
    let conversions: [(&str, &str, Option<Quantize>); 5] = [
        ("f32.apr", "F32 holds the source's numbers", Some(Quantize::F32)),
        ("kept.apr", "nothing changes", None),
        ("int8.apr", "Q8_0", Some(Quantize::Int8)),
        ("int4.apr", "Q4_0", Some(Quantize::Int4)),
        ("int8.gguf", "the same blocks elsewhere", Some(Quantize::Int8)),
    ];
    let folder = tempfile::tempdir().expect("a temporary folder");
    for model in MODELS {
        let source = root().join("models").join(model);
        let original = opened(&source, "cpu");
        for (name, why, quantize) in &conversions {
            let path = folder.path().join(format!("{model}-{name}"));
            convert(&source, &path, &ConvertOptions { quantize: *quantize, ..ConvertOptions::default() })
                .unwrap_or_else(|e| panic!("{model} {name}: {e}"));
            let converted = opened(&path, "cpu");
            for gate in [
                "weights-check",
                "config-parity",
                "contract-i1",
                "contract-i2",
                "contract-i3",
                "contract-i4",
                "contract-i5",
                "tensor-fidelity",
                "kl-divergence",
            ] {
                let judged = judge(gate, model, None, &converted, &original);
                assert_eq!(judged.verdict, Verdict::Pass, "{model} {name} ({why}) {gate}: {judged:#?}");
            }
        }
    }
}

#[test]
fn distributions_are_read_by_the_next_run_and_computed_again_where_they_are_broken() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = root().join("models/tiny-llama");
    let text: Arc<str> =
        std::fs::read_to_string(root().join("text/tiny.txt")).expect("in the repository").into();
    let plan = DistributionPlan { text, ctx: 64, chunks: 4, top: 32, samples: 8, seed: 1, budget: None };
    let take = || {
        let place = Place {
            model: "m".into(),
            artifact: "a".into(),
            path: source.clone(),
            shown: source.display().to_string(),
            backend: "cpu".into(),
            threads: 2,
            adapter: None,
            role: Role::UnderTest,
            kept: Some(folder.path().to_path_buf()),
        };
        Opened::new(place).in_role(Role::Reference).distributions(&plan).expect("scored")
    };
    let first = take();
    assert!(first.provenance.starts_with("computed and stored"), "{}", first.provenance);
    let second = take();
    assert!(second.provenance.starts_with("read from"), "{}", second.provenance);
    assert_eq!(first.stored, second.stored);
    let file = folder.path().join(first.stored.key.file_name());
    let mut bytes = std::fs::read(&file).expect("stored");
    bytes[300] ^= 1;
    std::fs::write(&file, bytes).expect("writable");
    let third = take();
    assert!(
        third.provenance.contains("checksum") && third.provenance.starts_with("computed"),
        "{}",
        third.provenance
    );
    assert_eq!(third.stored, first.stored);
    assert!(take().provenance.starts_with("read from"));
}

#[test]
fn two_percent_of_a_quarter_of_one_tensor_are_refuted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = root().join("models/tiny-qwen2");
    let path = folder.path().join("f32.gguf");
    let options = ConvertOptions { quantize: Some(Quantize::F32), ..ConvertOptions::default() };
    convert(&source, &path, &options).expect("converts");
    // The first quarter of the down projection of layer 1, scaled by 1.02 where it lies in the file.
    let checkpoint = apr_qa_runner::formats::open(&path).expect("sound");
    let tensor = checkpoint
        .tensors()
        .iter()
        .find(|t| t.name.contains("1.") && t.name.contains("down"))
        .expect("a name");
    let (at, len) = (tensor.offset as usize, tensor.tensor.bytes.len() / 4);
    drop(checkpoint);
    let mut bytes = std::fs::read(&path).expect("written");
    for value in bytes[at..at + len].as_chunks_mut::<4>().0 {
        *value = (f32::from_le_bytes(*value) * 1.02).to_le_bytes();
    }
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, bytes).expect("writable");
    let (converted, original) = (opened(&broken, "cpu"), opened(&source, "cpu"));
    for gate in ["tensor-fidelity", "kl-divergence"] {
        let judged = judge(gate, "tiny-qwen2", None, &converted, &original);
        assert!(matches!(judged.verdict, Verdict::Fail { .. }), "{gate}: {judged:#?}");
    }
}
