//! A sample record with every verdict and hostile model text, as a real run of a playbook would leave it.

mod planted;
mod statistics;

use crate::record::{
    Adapter, CaseRecord, Finding, Limit, LimitOp, Measurement, RunRecord, Verdict, exit_code,
};
use std::collections::BTreeMap;

pub(super) use planted::detection;

/// The record of `reports/samples/`.
pub(super) fn sample() -> RunRecord {
    let cases = vec![
        parity("tiny-llama", "apr-int8", "code", 0.0, 3.0, 40),
        parity("tiny-llama", "apr-int8", "greeting", 1.0, 3.0, 40),
        over_the_limit(),
        hostile(),
        refused(),
        statistics::weights_in_another_order(),
        statistics::function_over_the_twin(),
        statistics::straddles(),
        statistics::limit_under_the_floor(),
        statistics::within(),
        perplexity("tiny-llama", "apr-int8", 5.812_345, Verdict::Pass),
        inconclusive(),
        expected_failure(),
        CaseRecord {
            verdict: Verdict::Error { kind: "timeout".into(), message: "not finished after 120 s".into() },
            seconds: 120.004,
            adapter: Some(adapter()),
            ..case("speed", "runtime-parity", "tiny-gpt2", "gguf", "wgpu", Some("code"), 77)
        },
        CaseRecord {
            verdict: Verdict::Skip {
                reason: "model `smollm2-135m` is not pulled: run `make pull`, or leave it out with --model"
                    .into(),
            },
            optional: true,
            ..case("perplexity", "perplexity", "smollm2-135m", "apr-int4", "cpu", None, 66)
        },
    ];
    let provenance = [
        ("adapter", "NVIDIA L4 (discrete, Vulkan, NVIDIA 570.86.15)"),
        ("adapter features", "SHADER_F16 SUBGROUP TIMESTAMP_QUERY"),
        ("apr-qa-runner", "0.1.0"),
        ("contract sha256", "9b1c1d4bb39f8b3e0d1d6a3f5a7c2e90"),
        ("cpu features", "avx2 fma f16c"),
        ("artifact tiny-llama/source", "5f70bf18a086007016e948b04aed3b82"),
        ("playbook sha256", "60303ae22b998861bce3b28f33eec1be"),
        ("seed", "0"),
        ("threads", "2"),
    ];
    let mut record = RunRecord {
        schema: RunRecord::SCHEMA,
        playbook: "ci".into(),
        file: "playbooks/ci.yaml".into(),
        started_at: "2026-01-31T12:00:00Z".into(),
        seconds: 131.25,
        interrupted: None,
        not_run: 0,
        exit_code: 0,
        provenance: provenance
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        cases,
    };
    record.exit_code = exit_code(&record.cases, &[]);
    record
}

/// What the sample's GPU backend computed on.
fn adapter() -> Adapter {
    Adapter {
        name: "NVIDIA L4".into(),
        kind: "discrete".into(),
        driver: "NVIDIA 570.86.15".into(),
        api: "Vulkan".into(),
        features: ["SHADER_F16", "SUBGROUP", "TIMESTAMP_QUERY"].map(str::to_owned).to_vec(),
    }
}

/// A case that passed, to be changed where it did not.
fn case(
    suite: &str,
    gate: &str,
    model: &str,
    artifact: &str,
    backend: &str,
    prompt: Option<&str>,
    line: u32,
) -> CaseRecord {
    let parts = [suite, gate, model, artifact, backend, prompt.unwrap_or("")];
    let id = parts.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join("/");
    CaseRecord {
        reproduce: format!("apr-qa-runner run playbooks/ci.yaml --case {id}"),
        id,
        suite: suite.into(),
        gate: gate.into(),
        contract_id: None,
        model: model.into(),
        artifact: artifact.into(),
        backend: backend.into(),
        adapter: None,
        prompt: prompt.map(str::to_owned),
        file: "playbooks/ci.yaml".into(),
        line,
        verdict: Verdict::Pass,
        expected_failure: None,
        optional: false,
        measurements: Vec::new(),
        findings: Vec::new(),
        detail: String::new(),
        charts: Vec::new(),
        departures: Vec::new(),
        detection: None,
        seconds: 0.125,
    }
}

fn limit(op: LimitOp, value: f64, source: &str) -> Option<Limit> {
    Some(Limit { op, value, source: source.into() })
}

fn parity(model: &str, artifact: &str, prompt: &str, mismatches: f64, most: f64, line: u32) -> CaseRecord {
    CaseRecord {
        measurements: vec![
            Measurement {
                metric: "mismatches".into(),
                value: mismatches,
                unit: "tokens".into(),
                n: 32,
                limit: limit(LimitOp::AtMost, most, &format!("playbooks/ci.yaml:{}", line + 1)),
                interval: None,
                floor: None,
            },
            Measurement {
                metric: "mismatches_teacher_forced".into(),
                value: mismatches.min(1.0),
                unit: "tokens".into(),
                n: 32,
                limit: None,
                interval: None,
                floor: None,
            },
        ],
        ..case("parity", "token-parity", model, artifact, "cpu", Some(prompt), line)
    }
}

fn over_the_limit() -> CaseRecord {
    CaseRecord {
        verdict: Verdict::Fail {
            kind: "mismatches".into(),
            message: "measured 7 of 32 tokens that differ from the oracle, limit 5 (source playbooks/ci.yaml:41)"
                .into(),
        },
        detail: "first difference at token 9 of 32\n  oracle: …    if n <= 1:⏎        return [n]\n  found:  …    if n <= 1:⏎        return [1]\n".into(),
        ..parity("tiny-llama", "apr-int4", "code", 7.0, 5.0, 40)
    }
}

/// What a model may write: a workflow command, Markdown, HTML, a mention, control characters.
fn hostile() -> CaseRecord {
    CaseRecord {
        verdict: Verdict::Fail {
            kind: "text".into(),
            message: "measured 0 of 1 texts equal, limit 1 (source oracle/tiny-qwen2/greeting.json)".into(),
        },
        measurements: vec![Measurement {
            metric: "equal_texts".into(),
            value: 0.0,
            unit: String::new(),
            n: 1,
            limit: limit(LimitOp::AtLeast, 1.0, "oracle/tiny-qwen2/greeting.json"),
            interval: None,
            floor: None,
        }],
        detail: "found:\n::error file=a.rs,line=1::owned by a model\n```\n# not a heading\n<script>alert(1)</script> **bold** | cell | @everyone\n]]> \u{1b}[31mred\u{1b}[0m \u{7}\u{0}\u{202e}gnirts\n".into(),
        ..case("canary", "canary", "tiny-qwen2", "gguf", "cpu", Some("greeting"), 31)
    }
}

fn refused() -> CaseRecord {
    CaseRecord {
        contract_id: Some("F-CONTRACT-I2-001".into()),
        verdict: Verdict::Fail {
            kind: "refused".into(),
            message: "target/artifacts/tiny-llama/vendor.gguf: byte 8192: tensor `blk.0.attn_q.weight` ends past the end of the file".into(),
        },
        findings: vec![Finding {
            subject: "blk.0.attn_q.weight".into(),
            detail: "expected [64, 64] at bytes 8192..24576, the file has 20000 bytes".into(),
            cause: None,
        }],
        ..case("contract", "tensor-bijection", "tiny-llama", "vendor", "", None, 52)
    }
}

fn perplexity(model: &str, artifact: &str, value: f64, verdict: Verdict) -> CaseRecord {
    CaseRecord {
        verdict,
        measurements: vec![Measurement {
            metric: "perplexity".into(),
            value,
            unit: String::new(),
            n: 8128,
            limit: limit(LimitOp::AtMost, 9.0, "playbooks/ci.yaml:9"),
            interval: None,
            floor: None,
        }],
        seconds: 2.5,
        ..case("perplexity", "perplexity", model, artifact, "cpu", None, 66)
    }
}

fn inconclusive() -> CaseRecord {
    let message =
        "measured perplexity 8.97 within 8.81 to 9.13, limit 9 lies inside (source playbooks/ci.yaml:9)";
    perplexity("tiny-qwen2", "apr-int4", 8.97, Verdict::Inconclusive { message: message.into() })
}

fn expected_failure() -> CaseRecord {
    CaseRecord {
        expected_failure: Some("four bits are too few for a model of this size".into()),
        detail: "measured 12.4, limit 9".into(),
        ..perplexity("tiny-gpt2", "apr-int4", 12.4, Verdict::Pass)
    }
}
