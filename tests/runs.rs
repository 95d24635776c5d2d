//! A whole run: nothing but times depends on how many cases ran at once, and conversions are kept by content.

use crate::cli::{code, repository, runner, shown, stderr, tiny};
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A playbook over the models `name: source`.
fn playbook(folder: &Path, models: &[(&str, &Path)], artifacts: &str, suites: &str) -> PathBuf {
    let models: String = models
        .iter()
        .map(|(name, source)| {
            format!(
                "  {name}:\n    source: {}\n    oracle: {}\n    text: {}\n    perplexity_ceiling: 9\n",
                shown(source),
                shown(&repository().join("oracle").join(name)),
                shown(&repository().join("oracle/text/tiny.txt")),
            )
        })
        .collect();
    let text = format!(
        "version: 1\nname: whole\nmodels:\n{models}prompts:\n  completion: {{ text: \"The capital of France is\" \
         }}\nartifacts:\n{artifacts}suites:\n{suites}"
    );
    let path = folder.join("whole.yaml");
    fs::write(&path, text).expect("the test folder is writable");
    path
}

fn run(playbook: &Path, more: &[&str]) -> Output {
    let reports = playbook.with_file_name("reports");
    runner(&[&["run", shown(playbook), "--no-progress", "--report-dir", shown(&reports)], more].concat())
}

/// The record of the last run without what is another in every run.
fn record(playbook: &Path) -> Json {
    let text = fs::read(playbook.with_file_name("reports").join("report.json")).expect("the record");
    let mut record: Json = serde_json::from_slice(&text).expect("JSON");
    for (key, value) in [("seconds", Json::Null), ("started_at", Json::Null)] {
        record[key] = value;
    }
    record["provenance"]["threads"] = Json::Null;
    for case in record["cases"].as_array_mut().expect("cases") {
        case["seconds"] = Json::Null;
    }
    record
}

#[test]
fn threads_change_nothing_but_times() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = [("tiny-llama", tiny("tiny-llama")), ("tiny-gpt2", tiny("tiny-gpt2"))];
    let models = [(models[0].0, &*models[0].1), (models[1].0, &*models[1].1)];
    let artifacts = "  apr-int8: { from: source, format: apr, quantize: int8 }\n  gguf: { from: apr-int8, format: \
                     gguf }\n";
    let suites = "  structure:\n    - gate: weights-check\n    - gate: contract-i3\n      artifacts: [apr-int8]\n  \
                  speech:\n    - gate: format-roundtrip\n      artifacts: [gguf]\n      against: apr-int8\n    - gate: \
                  runtime-parity\n      against: reference\n      artifacts: [apr-int8]\n      limits: { \
                  max_logit_diff: 0 }\n  numbers:\n    - gate: numerics-parity\n      artifacts: [gguf]\n      \
                  against: reference\n      limits: { ctx: 64, chunks: 4 }\n";
    let path = playbook(folder.path(), &models, artifacts, suites);
    let mut records = Vec::new();
    for threads in ["1", "4"] {
        let output = run(&path, &["--no-cache", "--threads", threads]);
        assert!(code(&output) == 1, "a limit of 0 is not kept: {}", stderr(&output));
        records.push(record(&path));
    }
    assert_eq!(records[0], records[1]);
    // Cases stand in plan order in the record and in the evidence, whatever ran first.
    let listed = runner(&["list", shown(&path), "--json"]);
    let listed: Json = serde_json::from_slice(&listed.stdout).expect("JSON");
    let ids = |cases: &Json| -> Vec<String> {
        let id = |case: &Json| case["id"].as_str().expect("an id").to_owned();
        cases.as_array().expect("cases").iter().map(id).collect()
    };
    let planned = ids(if listed.is_array() { &listed } else { &listed["cases"] });
    assert_eq!(ids(&records[1]["cases"]), planned);
    assert!(planned.len() >= 10, "{planned:?}");
    let evidence = fs::read_to_string(folder.path().join("reports/evidence.jsonl")).expect("the evidence");
    let places: Vec<usize> =
        planned.iter().map(|id| evidence.find(&format!("\"{id}\"")).expect("there")).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!folder.path().join("reports/evidence.jsonl.partial").exists());
}

#[test]
fn fail_fast_ends_with_the_same_case_on_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suites = "  a:\n    - gate: weights-check\n    - gate: perplexity\n      limits: { ceiling: 0.5 }\n  b:\n    - \
                  gate: config-parity\n    - gate: contract-i2\n";
    let models = [("tiny-llama", &*tiny("tiny-llama"))];
    let path = playbook(
        folder.path(),
        &models,
        "  apr-int8: { from: source, format: apr, quantize: int8 }\n",
        suites,
    );
    for threads in ["1", "4"] {
        let output = run(&path, &["--fail-fast", "--threads", threads]);
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let record = record(&path);
        let gates: Vec<&str> =
            record["cases"].as_array().expect("cases").iter().filter_map(|c| c["gate"].as_str()).collect();
        assert_eq!((gates, &record["not_run"]), (vec!["weights-check", "perplexity"], &Json::from(2)));
    }
}

#[test]
fn a_conversion_is_kept_until_what_it_follows_from_changes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("model");
    fs::create_dir(&source).expect("writable");
    for entry in fs::read_dir(tiny("tiny-llama")).expect("in the repository").flatten() {
        fs::copy(entry.path(), source.join(entry.file_name())).expect("writable");
    }
    let cache = folder.path().join("kept");
    let write = |recipe: &str| {
        let artifacts = format!(
            "  apr: {{ from: source, format: apr, quantize: {recipe} }}\n  gguf: {{ from: apr, format: gguf }}\n"
        );
        playbook(folder.path(), &[("tiny-llama", &source)], &artifacts, "  a:\n    - gate: weights-check\n")
    };
    let path = write("int8");
    let why = |more: &[&str]| -> Vec<String> {
        let output = run(&path, &[&["--cache", shown(&cache), "--why-rerun"], more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = said.lines().filter(|line| line.starts_with("tiny-llama/"));
        lines.map(str::to_owned).collect()
    };
    let made = |name: &str| -> PathBuf {
        let files = fs::read_dir(cache.join("whole/tiny-llama")).expect("made").flatten().map(|f| f.path());
        let mut files = files.filter(|f| f.extension().is_some_and(|e| e == name));
        let one = files.next().unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(files.next(), None, "earlier versions are removed");
        one
    };
    let all = |lines: &[String], what: &str| lines.len() == 2 && lines.iter().all(|l| l.contains(what));

    let first = why(&[]);
    assert!(all(&first, "the cache has no such artifact"), "{first:?}");
    let bytes = fs::read(made("apr")).expect("made");
    let written = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).expect("a time");
    let at = written(&made("apr"));
    let second = why(&[]);
    assert!(all(&second, "taken from the cache") && written(&made("apr")) == at, "{second:?}");

    // One flipped bit, and a file that was cut: rebuilt, never trusted.
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for broken in [&flipped[..], &bytes[..bytes.len() - 1]] {
        fs::write(made("apr"), broken).expect("writable");
        let third = why(&[]);
        assert!(third[0].contains("apr: made anew: the cached file is damaged"), "{third:?}");
        assert!(third[1].contains("gguf: taken from the cache"), "{third:?}");
        assert_eq!(fs::read(made("apr")).expect("made"), bytes);
    }

    let asked = why(&["--no-cache"]);
    assert!(all(&asked, "the cache is not asked"), "{asked:?}");
    let config = fs::read_to_string(source.join("config.json")).expect("a setting");
    fs::write(source.join("config.json"), format!("{config}\n")).expect("writable");
    let touched = why(&[]);
    assert!(all(&touched, "made anew: source "), "{touched:?}");
    write("int4");
    let other = why(&[]);
    assert!(
        other[0].contains("recipe `") && other[0].contains("Int4") && !other[0].contains("source"),
        "{other:?}"
    );
    assert!(other[1].contains("source ") && !other[1].contains("recipe"), "{other:?}");
}
