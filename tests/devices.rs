//! Adapters as users meet them: listed, asked for, missing; and playbooks whose backends may be missing.

use super::cli::{code, repository, shown, stderr, tiny};
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs with this adapter asked for. Where `hidden`, no driver of this machine shows itself, so that there is none.
fn runner(arguments: &[&str], adapter: &str, hidden: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apr-qa-runner"));
    command.args(arguments).env("APR_QA_ADAPTER", adapter).env_remove("GITHUB_ACTIONS");
    if hidden {
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(variable, "/nowhere");
        }
    }
    command.output().expect("the binary was built with the tests")
}

fn parsed(output: &Output) -> Json {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON value")
}

/// What this machine has; none where no driver is installed, or the program was built without GPU backends.
fn adapters() -> Vec<Json> {
    let output = runner(&["devices", "--json"], "", false);
    if code(&output) == 3 {
        return Vec::new();
    }
    parsed(&output)["adapters"].as_array().expect("a list").clone()
}

#[test]
fn a_machine_without_adapters_says_so() {
    for (arguments, adapter) in [
        (&["devices"][..], ""),
        (&["devices", "--json"][..], "0"),
        (&["devices", "--adapter", "cpu"][..], ""),
    ] {
        let output = runner(arguments, adapter, true);
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{arguments:?}");
        let said = stderr(&output);
        if cfg!(feature = "wgpu") {
            assert!(said.contains("no GPU adapter") && said.contains("mesa-vulkan-drivers"), "{said}");
        } else {
            assert!(said.contains("built without GPU backends") && said.contains("feature `wgpu`"), "{said}");
        }
    }
}

#[test]
fn adapters_are_listed_and_the_one_asked_for_is_marked() {
    let all = adapters();
    for (i, adapter) in all.iter().enumerate() {
        let name = adapter["name"].as_str().expect("a name");
        let limits = adapter["limits"].as_object().expect("limits");
        assert!(limits.len() == 8 && limits.values().all(Json::is_u64), "{adapter}");
        let listed = parsed(&runner(&["devices", "--json"], &i.to_string(), false));
        assert_eq!((&listed["chosen"], &listed["adapters"][i]), (&Json::from(i), adapter));
        let text = runner(&["devices", "--adapter", &i.to_string()], "no such adapter", false);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains(&format!("* {i}  {name}")), "the flag goes before the variable: {text}");
    }
    if let Some(first) = all.first() {
        let output = runner(&["devices"], "no such adapter", false);
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains(first["name"].as_str().expect("a name")), "{}", stderr(&output));
    }
}

/// A playbook that runs tiny-llama on `backends`, and holds `cpu` against the last of them.
fn playbook(folder: &Path, backends: &str, against: &str) -> PathBuf {
    let text = format!(
        "version: 1\nname: devices\nmodels:\n  tiny: {{ source: {}, oracle: {} }}\nprompts:\n  completion: {{ text: \
         \"The capital of France is\" }}\nartifacts:\n  own: {{ source: true }}\nbackends: {backends}\nsuites:\n  tokens:\n    \
         - gate: token-parity\n      artifacts: [own]\n      limits: {{ max_mismatches: 0 }}\n      tokens: 8\n    \
         - gate: runtime-parity\n      artifacts: [own]\n      backends: [cpu]\n      against: {against}\n      tokens: 8\n\
         report: {{ dir: reports }}\n",
        shown(&tiny("tiny-llama")),
        shown(&repository().join("oracle/tiny-llama")),
    );
    let path = folder.join("devices.yaml");
    fs::write(&path, text).expect("the test folder is writable");
    path
}

/// Id, verdict and adapter of every case.
fn verdicts(record: &Json) -> Vec<(String, String, Json)> {
    let text = |case: &Json, key: &str| case[key].as_str().expect("text").to_owned();
    let cases = record["cases"].as_array().expect("cases");
    cases.iter().map(|case| (text(case, "id"), text(case, "verdict"), case["adapter"].clone())).collect()
}

#[test]
fn an_optional_backend_without_its_adapter_is_skipped_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let optional = "[cpu, { name: wgpu, optional: true }]";
    let playbook = playbook(folder.path(), optional, "wgpu");
    let record = parsed(&runner(&["run", shown(&playbook), "--json", "--no-progress"], "", true));
    let found = verdicts(&record);
    let expected = [
        ("tokens/token-parity/tiny/own/cpu/completion", "pass"),
        ("tokens/token-parity/tiny/own/wgpu/completion", "skip"),
        ("tokens/runtime-parity/tiny/own/cpu/completion", "skip"),
    ];
    let shown: Vec<(&str, &str)> = found.iter().map(|(id, verdict, _)| (&**id, &**verdict)).collect();
    assert_eq!(shown, expected);
    assert!(
        found.iter().all(|(_, _, adapter)| adapter.is_null()) && record["provenance"]["adapter"].is_null()
    );
    for case in record["cases"].as_array().expect("cases").iter().skip(1) {
        let reason = case["reason"].as_str().expect("a skip has a reason");
        let why = if cfg!(feature = "wgpu") { "mesa-vulkan-drivers" } else { "built without GPU backends" };
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn without_the_adapter_of_a_backend_that_must_be_there_nothing_runs() {
    for (backends, against) in [
        ("[cpu, wgpu]", "reference"),
        ("[cpu]", "wgpu"),
        ("[cpu, { name: wgpu, optional: true }]", "wgpu-fast"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let playbook = playbook(folder.path(), backends, against);
        let output = runner(&["run", shown(&playbook), "--no-progress"], "", true);
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{}", stderr(&output));
        assert!(stderr(&output).contains("needed by `tokens/"), "{}", stderr(&output));
        assert!(!folder.path().join("reports").exists(), "nothing ran");
        // What was not selected is not needed.
        let chosen = ["run", shown(&playbook), "--no-progress", "--gate", "token-parity", "--backend", "cpu"];
        assert_eq!(code(&runner(&chosen, "", true)), 0);
    }
}

#[test]
fn commands_that_run_a_model_never_fall_back_to_the_processor() {
    let model = tiny("tiny-llama");
    for backend in ["wgpu", "wgpu-fast"] {
        let output = runner(&["generate", shown(&model), "-p", "a", "--backend", backend], "", true);
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{}", stderr(&output));
    }
}

#[test]
fn the_evidence_of_every_case_names_the_adapter_that_ran_it() {
    let Some(best) = adapters().into_iter().next() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let playbook = playbook(folder.path(), "[cpu, wgpu]", "wgpu");
    let record = parsed(&runner(&["run", shown(&playbook), "--json", "--no-progress"], "0", false));
    for (id, verdict, adapter) in verdicts(&record) {
        assert_eq!(verdict, "pass", "{id}");
        if id.ends_with("token-parity/tiny/own/cpu/completion") {
            assert!(adapter.is_null(), "{id}: {adapter}");
            continue;
        }
        for key in ["name", "kind", "api", "features"] {
            assert_eq!(adapter[key], best[key], "{id}");
        }
        assert!(adapter["driver"].as_str().expect("text").contains(best["driver"].as_str().expect("text")));
    }
    let name = best["name"].as_str().expect("text");
    assert!(
        record["provenance"]["adapter"].as_str().expect("named").contains(name),
        "{}",
        record["provenance"]
    );
    for report in ["report.md", "report.html", "junit.xml", "evidence.jsonl"] {
        let path = folder.path().join("reports").join(report);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(text.contains(name), "{report}");
    }
}
