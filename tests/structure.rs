//! `playbooks/structure.yaml`, and a file of a family that this program does not know: every structural gate judges
//! it, and every inference gate is a Skip that names the family.

use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn runner(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_apr-qa-runner"))
        .args(arguments)
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_STEP_SUMMARY")
        .env_remove("GITHUB_OUTPUT")
        .output()
        .expect("the binary was built with the tests")
}

/// Runs a playbook with its reports in `reports`, and gives the exit code, the record and what was printed.
fn run(playbook: &Path, reports: &Path) -> (i32, Json, String) {
    let path = |p: &Path| p.to_str().expect("test paths are UTF-8").to_owned();
    let output = runner(&[&path(playbook), "--report-dir", &path(reports), "--no-progress"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let record = fs::read(reports.join("report.json")).unwrap_or_else(|e| panic!("{e}: {said}"));
    let code = output.status.code().expect("the runner was not killed");
    (code, serde_json::from_slice(&record).expect("JSON"), said)
}

fn cases(record: &Json) -> &Vec<Json> {
    record["cases"].as_array().expect("a list of cases")
}

#[test]
fn every_structure_suite_passes_on_the_committed_models() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (code, record, said) = run(&repository().join("playbooks/structure.yaml"), folder.path());
    assert_eq!(code, 0, "{said}");
    let suites: BTreeSet<&str> = cases(&record).iter().filter_map(|c| c["suite"].as_str()).collect();
    // The suites of tiny-model-ground-truth, by the names that it gives them.
    let claimed = [
        "inspect",
        "validate",
        "tensors",
        "lint",
        "selftest",
        "diff",
        "tree",
        "oracle-id",
        "hex",
        "debug",
        "bench",
        "qa",
        "list",
        "rosetta-diff",
    ];
    assert_eq!(suites, BTreeSet::from(claimed));
    for case in cases(&record) {
        assert_eq!(case["verdict"], "pass", "{}", case["id"]);
        assert!(case["measurements"][0]["n"].as_u64() >= Some(1), "{}", case["id"]);
    }
}

/// tiny-llama as a GGUF whose architecture is `mamba`: the two names have one length, so the bytes are exchanged in
/// place.
fn mamba(folder: &Path) -> PathBuf {
    let path = folder.join("mamba.gguf");
    let model = repository().join("oracle/models/tiny-llama");
    let made = runner(&["convert", model.to_str().expect("UTF-8"), path.to_str().expect("UTF-8")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut bytes = fs::read(&path).expect("it was written");
    let mut replaced = 0;
    for at in 0..8192.min(bytes.len() - 6) {
        // The value of general.architecture, and the prefix of the model's own keys.
        let value = bytes[at..].starts_with(b"llama") && bytes[..at].ends_with(&[5, 0, 0, 0, 0, 0, 0, 0]);
        if (value && replaced == 0) || bytes[at..].starts_with(b"llama.") {
            bytes[at..at + 5].copy_from_slice(b"mamba");
            replaced += 1;
        }
    }
    assert!(replaced > 5, "only {replaced} names found");
    fs::write(&path, bytes).expect("writable");
    path
}

#[test]
fn an_unknown_family_gets_every_structural_gate_and_skips_that_name_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    mamba(folder.path());
    let text = "# yaml-language-server: $schema=playbook.schema.json\n\
        version: 1\n\
        name: stranger\n\
        models:\n  stranger: { source: mamba.gguf, family: mamba }\n\
        prompts:\n  one: { text: \"The capital of France is\" }\n\
        artifacts:\n  copy: { file: mamba.gguf, models: [stranger] }\n  \
          apr: { from: source, format: apr }\n\
        suites:\n  structure:\n    \
            - gate: weights-check\n      artifacts: [source, copy]\n    \
            - gate: declared-config\n      artifacts: [source]\n      \
              limits: { architecture: mamba, num_layers: 4, hidden_size: 128, vocab_size: 1024 }\n    \
            - gate: layer-tree\n      artifacts: [source]\n    \
            - gate: live-values\n      artifacts: [source]\n    \
            - gate: lint\n      artifacts: [source]\n    \
            - gate: config-parity\n      artifacts: [copy]\n    \
            - gate: contract-i2\n      artifacts: [copy]\n    \
            - gate: contract-i3\n      artifacts: [copy]\n    \
            - gate: contract-i4\n      artifacts: [copy]\n    \
            - gate: contract-i5\n      artifacts: [copy]\n  \
          inference:\n    \
            - gate: canary\n      artifacts: [source]\n    \
            - gate: token-parity\n      artifacts: [source]\n      limits: { max_mismatches: 0 }\n    \
            - gate: oracle-logits\n      artifacts: [source]\n    \
            - gate: contract-i1\n      artifacts: [copy]\n    \
            - gate: format-roundtrip\n      artifacts: [copy]\n      against: source\n    \
            - gate: runtime-parity\n      artifacts: [copy]\n      against: reference\n    \
            - gate: perplexity\n      artifacts: [source]\n      limits: { ceiling: 20 }\n    \
            - gate: throughput\n      artifacts: [source]\n    \
            - gate: decoder-stages\n      artifacts: [source]\n    \
            - gate: weights-check\n      label: converted\n      artifacts: [apr]\n\
        report: { dir: reports }\n";
    let playbook = folder.path().join("stranger.yaml");
    fs::write(&playbook, text).expect("writable");
    let (code, record, said) = run(&playbook, &folder.path().join("reports"));
    assert_eq!(code, 0, "{said}");
    let mut seen = (0, 0);
    for case in cases(&record) {
        if case["suite"] == "structure" {
            assert_eq!(case["verdict"], "pass", "{case}");
            seen.0 += 1;
        } else {
            assert_eq!(case["verdict"], "skip", "{case}");
            assert!(case["reason"].as_str().is_some_and(|why| why.contains("`mamba`")), "{case}");
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (11, 10));
}

#[test]
fn a_broken_file_of_an_unknown_family_fails_its_structural_gates() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = mamba(folder.path());
    let shown = path.to_str().expect("UTF-8");
    let sound = runner(&["check", shown]);
    let said = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert!(said.contains("no family answers to `mamba`") && !said.contains("NaN"), "{said}");
    let hex = runner(&["hex", shown, "--tensor", "blk.2.ffn_up.weight", "--json"]);
    let hex: Json = serde_json::from_slice(&hex.stdout).expect("JSON");
    let offset = hex[0]["file_offset"].as_u64().expect("an offset") as usize;
    let mut bytes = fs::read(&path).expect("readable");
    bytes[offset..offset + 2].copy_from_slice(&0x7fc0u16.to_le_bytes());
    fs::write(&path, bytes).expect("writable");
    let broken = runner(&["check", shown]);
    let said = String::from_utf8_lossy(&broken.stdout).into_owned();
    assert!(said.contains("`blk.2.ffn_up.weight`[0]: the weight is NaN"), "{said}");
}
