//! Candidates held against their reference from the command line: `compare`, `calibrate`, `perplexity --against`.

use crate::cli::{code, json, repository, runner, shown, stderr, tiny};
use serde_json::Value as Json;
use std::fs;

/// `compare` of a sound and a broken candidate: verdicts, the broken tensor, its cause, and a playbook that repeats it.
#[test]
fn a_comparison_names_the_broken_tensor_and_can_be_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let (source, sound, broken, kept) =
        (tiny("tiny-llama"), at("sound.gguf"), at("broken.gguf"), at("kept.yaml"));
    let made = runner(&["convert", shown(&source), shown(&sound), "--quantize", "q8_0"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let planted = json(&[
        "mutate",
        shown(&sound),
        "--defect",
        "tensor-zeroed",
        "--seed",
        "5",
        "-o",
        shown(&broken),
        "--json",
    ]);
    let target = planted["planted"]["targets"][0].as_str().expect("a tensor").to_owned();
    let reports = at("reports");
    let shared = ["--report-dir", shown(&reports), "--no-progress", "--gate", "tensor-fidelity"];
    let arguments = ["compare", shown(&source), shown(&sound), "--json", "--write-playbook", shown(&kept)];
    let good = json(&[&arguments[..], &shared[..]].concat());
    assert_eq!(
        (good["verdict"].as_str(), good["failures"].as_array().map(Vec::len)),
        (Some("pass"), Some(0))
    );

    let arguments = ["compare", shown(&source), shown(&sound), shown(&broken), "--json"];
    let output = runner(&[&arguments[..], &shared[..]].concat());
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let bad: Json = serde_json::from_slice(&output.stdout).expect("stdout is one JSON value");
    let verdicts: Vec<_> =
        bad["candidates"].as_array().expect("two").iter().map(|c| c["verdict"].clone()).collect();
    assert_eq!(verdicts, ["pass", "fail"]);
    let first = &bad["failures"][0];
    assert_eq!((first["gate"].as_str(), first["tensor"].as_str()), (Some("tensor-fidelity"), Some(&*target)));
    assert_eq!(first["cause"].as_str(), Some("zeroed"), "{first}");
    assert!(first["measured"].is_number() && first["limit"].is_number(), "{first}");

    let again = runner(&[
        "run",
        shown(&kept),
        "--gate",
        "config-parity",
        "--no-progress",
        "--report-dir",
        shown(&reports),
    ]);
    assert_eq!(code(&again), 0, "{}", stderr(&again));
    let nowhere = runner(&["compare", shown(&source), shown(&at("absent.gguf"))]);
    assert_eq!(code(&nowhere), 2);
    assert!(stderr(&nowhere).contains("absent.gguf"), "{}", stderr(&nowhere));
}

#[test]
fn a_blessed_file_calibrates_limits_that_it_passes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, text) = (tiny("tiny-llama"), repository().join("oracle/text/tiny.txt"));
    let (blessed, limits) = (folder.path().join("blessed.gguf"), folder.path().join("limits.yaml"));
    let made = runner(&["convert", shown(&source), shown(&blessed), "--quantize", "q8_0"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let arguments = ["--text-file", shown(&text), "--date", "2026-01-31", "--no-progress"];
    let made = runner(
        &[&["calibrate", shown(&source), shown(&blessed), "-o", shown(&limits)], &arguments[..]].concat(),
    );
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let written = fs::read_to_string(&limits).expect("written");
    assert!(written.contains("on 2026-01-31") && written.contains("max_kl: "), "{written}");
    let run = runner(&[
        "run",
        shown(&limits),
        "--report-dir",
        shown(&folder.path().join("reports")),
        "--no-progress",
    ]);
    assert_eq!(code(&run), 0, "{written}\n{}", String::from_utf8_lossy(&run.stdout));
    // A coarser file costs more than the blessed one.
    let coarse = folder.path().join("coarse.gguf");
    let made = runner(&["convert", shown(&source), shown(&coarse), "--quantize", "q4_0"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    fs::write(&limits, written.replace("blessed.gguf", "coarse.gguf")).expect("writable");
    let run = runner(&[
        "run",
        shown(&limits),
        "--report-dir",
        shown(&folder.path().join("reports")),
        "--no-progress",
    ]);
    assert_eq!(code(&run), 1, "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
fn divergence_from_another_model_has_llama_perplexitys_figures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, text) = (tiny("tiny-llama"), repository().join("oracle/text/tiny.txt"));
    let made = folder.path().join("q4.gguf");
    assert_eq!(code(&runner(&["convert", shown(&source), shown(&made), "--quantize", "q4_0"])), 0);
    let with = ["--text-file", shown(&text), "--ctx", "64", "--chunks", "8", "--json"];
    let found = json(&[&["perplexity", shown(&made), "--against", shown(&source)], &with[..]].concat());
    assert_eq!((found["chunks"].as_u64(), found["tokens_scored"].as_u64()), (Some(8), Some(8 * 31)));
    let value = |name: &str| found[name]["value"].as_f64().expect("a number");
    assert!(value("kl") > 1e-4 && value("kl") < 1.0, "{found}");
    assert!((value("perplexity_ratio") - value("perplexity") / value("perplexity_reference")).abs() < 1e-9);
    let itself = json(&[&["perplexity", shown(&source), "--against", shown(&source)], &with[..]].concat());
    assert_eq!(
        (itself["kl"]["value"].as_f64(), itself["same_top"]["value"].as_f64()),
        (Some(0.0), Some(1.0))
    );
    let text = runner(&["perplexity", shown(&made), "--text-file", shown(&text), "--chunks", "8"]);
    assert_eq!(code(&text), 2, "--chunks is of --against");
}
