//! The engine against HF transformers in float32: every recorded token, every recorded log-probability within 1e-3.
//!
//! The tiny models are committed; the real ones are judged where `make pull` put them.

use apr_qa_runner::infer::{self, EngineOptions, GenerateOptions, LoadedModel, Sampling, logsumexp};
use apr_qa_runner::{formats, models, oracle};
use serde::Deserialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Natural-log probabilities may differ by so much: the acceptance rule of this engine.
const TOLERANCE: f64 = 1e-3;

const PROMPTS: [&str; 4] = ["arithmetic", "code", "completion", "greeting"];

/// `score*.logits.json`: every next token of a text.
#[derive(Deserialize)]
struct Score {
    prompt_ids: Vec<u32>,
    next_logprob: Vec<f64>,
    mean_nll: f64,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn load(path: &Path, backend: &str) -> LoadedModel {
    let checkpoint = formats::open(path).expect("the model opens");
    let model = models::open(&checkpoint).expect("the model has a known family");
    let options = EngineOptions { backend: backend.to_owned(), threads: 2, adapter: None };
    LoadedModel::load(&model, &options).expect("the model is whole")
}

/// Every step of every prompt: the recorded token is our best, and the recorded log-probabilities are ours.
fn judge_prompts(model: &LoadedModel, slug: &str) {
    let vocab = model.config().vocab_size;
    for prompt in PROMPTS {
        let recorded =
            oracle::load_logits(&root().join("oracle").join(slug), prompt).expect("a recorded oracle");
        let options = GenerateOptions {
            max_tokens: recorded.tokens.len(),
            stop: vec![],
            sampling: Sampling::Greedy,
            logprobs: 0,
        };
        let free = infer::generate(model, &recorded.prompt_ids, &options, &mut |_| ControlFlow::Continue(()))
            .expect("it generates");
        assert_eq!(free.tokens, recorded.tokens, "{slug} {prompt} {}", model.backend_name());

        let taught = recorded.tokens.len() - 1;
        let mut session = model.session();
        let mut logits = session.prefill(&recorded.prompt_ids).expect("it fits");
        if taught > 0 {
            logits.extend(session.logits_all(&recorded.tokens[..taught]).expect("it fits"));
        }
        for (step, (recorded, row)) in recorded.steps.iter().zip(logits.chunks_exact(vocab)).enumerate() {
            let total = logsumexp(row);
            for (id, expected) in &recorded.top {
                let found = f64::from(row[*id as usize]) - total;
                assert!(
                    (found - expected).abs() <= TOLERANCE,
                    "{slug} {prompt} {} step {step} id {id}: {found}, recorded {expected}",
                    model.backend_name()
                );
            }
        }
    }
}

/// The first `n` next-token log-probabilities of the scored text, and their mean where it is the whole.
fn judge_score(model: &LoadedModel, slug: &str, file: &str, n: usize) {
    let path = root().join("oracle").join(slug).join(file);
    let text = std::fs::read_to_string(&path).expect("a recorded score");
    let recorded: Score = serde_json::from_str(&text).expect("a recorded score");
    let n = n.min(recorded.next_logprob.len());
    let found = infer::score(model, &recorded.prompt_ids[..=n]).expect("it fits");
    for (i, (found, expected)) in found.iter().zip(&recorded.next_logprob).enumerate() {
        assert!(
            (found - expected).abs() <= TOLERANCE,
            "{slug} {} token {}: {found}, recorded {expected}",
            model.backend_name(),
            i + 1
        );
    }
    if n == recorded.next_logprob.len() {
        let mean = -found.iter().sum::<f64>() / n as f64;
        assert!(
            (mean - recorded.mean_nll).abs() <= TOLERANCE,
            "{slug}: {mean}, recorded {}",
            recorded.mean_nll
        );
    }
}

fn judge_tiny(slug: &str) {
    for backend in ["reference", "cpu"] {
        let model = load(&root().join("oracle/models").join(slug), backend);
        judge_prompts(&model, slug);
        judge_score(&model, slug, "score.logits.json", usize::MAX);
    }
}

/// The scalar backend takes a second for ten tokens of a real model, so it reads the beginning of the long text.
fn judge_real(slug: &str, file: &str) {
    let path = root().join("models").join(slug).join(file);
    if !path.exists() {
        eprintln!("{} is not here: `make pull` gets it", path.display());
        return;
    }
    for (backend, scored) in [("cpu", usize::MAX), ("reference", 64)] {
        let model = load(&path, backend);
        judge_prompts(&model, slug);
        judge_score(&model, slug, "score_long.logits.json", scored);
    }
}

#[test]
fn tiny_llama() {
    judge_tiny("tiny-llama");
}

#[test]
fn tiny_qwen2() {
    judge_tiny("tiny-qwen2");
}

#[test]
fn tiny_gpt2() {
    judge_tiny("tiny-gpt2");
}

#[test]
fn tiny_qwen3() {
    judge_tiny("tiny-qwen3");
}

#[test]
fn tiny_gemma3() {
    judge_tiny("tiny-gemma3");
}

#[test]
fn tiny_mistral() {
    judge_tiny("tiny-mistral");
}

#[test]
fn tiny_llama3() {
    judge_tiny("tiny-llama3");
}

#[test]
fn tiny_phi3() {
    judge_tiny("tiny-phi3");
}

#[test]
fn smollm2() {
    judge_real("smollm2-135m-instruct", "smollm2-135m-instruct-q4_1.gguf");
}

#[test]
fn qwen2_5_coder() {
    judge_real("qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
}

#[test]
fn gemma3() {
    judge_real("gemma3-270m", "gemma-3-270m-q4_k_m.gguf");
}
