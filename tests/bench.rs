//! `bench`: what its JSON holds and what it refuses. How fast anything is, is measured and never tested.

use crate::cli::{code, json, runner, shown, stderr, tiny};
use serde_json::Value as Json;

/// A quick measurement of a tiny model, with further arguments; without limits unless they say so.
fn quick<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["bench", model, "--prompt", "8", "--gen", "3", "--repeat", "2", "--json"];
    if !more.contains(&"--limit-mib") {
        arguments.extend(["--limit-mib", "0"]);
    }
    arguments.extend_from_slice(more);
    arguments
}

fn positive(value: &Json) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!(number.is_finite() && number > 0.0, "{number}");
    number
}

#[test]
fn every_model_has_its_figures_beside_the_limits() {
    let (llama, gpt2) = (tiny("tiny-llama"), tiny("tiny-gpt2"));
    let found =
        json(&quick(shown(&llama), &[shown(&gpt2), "--threads", "2", "--depth", "4", "--limit-mib", "1"]));
    let expected = [("threads", 2), ("prompt", 8), ("gen", 3), ("depth", 4), ("repeat", 2)];
    for (key, value) in expected {
        assert_eq!(found[key], value, "{key}");
    }
    let limits = &found["limits"];
    positive(&limits["read_bytes_per_s"]);
    positive(&limits["f32_operations_per_s"]);
    let results = found["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2);
    for (row, model) in results.iter().zip([&llama, &gpt2]) {
        assert_eq!(row["model"], shown(model));
        for (median, spread) in [("prompt_tokens_per_s", "prompt_spread"), ("gen_tokens_per_s", "gen_spread")]
        {
            let (median, spread) = (positive(&row[median]), &row[spread]);
            assert!(positive(&spread["min"]) <= median && median <= positive(&spread["max"]));
        }
        for key in
            ["load_s", "bytes_per_token", "prompt_operations", "prompt_share_of_peak", "gen_share_of_read"]
        {
            positive(&row[key]);
        }
        let parts = ["weight_bytes_per_token", "cache_bytes_per_token"].map(|key| positive(&row[key]));
        assert_eq!(parts[0] + parts[1], positive(&row["bytes_per_token"]));
        assert_eq!(row["prompt_instruction"], "f32");
        assert!(row.get("peer").is_none());
    }
}

#[test]
fn what_is_left_out_is_null_and_a_reader_gets_a_table() {
    let model = tiny("tiny-llama");
    let found = json(&quick(shown(&model), &["--backend", "reference"]));
    assert_eq!(found["results"][0]["backend"], "reference");
    let fast = json(&quick(shown(&model), &["--backend", "cpu-fast"]));
    let of = |found: &Json, key: &str| positive(&found["results"][0][key]);
    assert_eq!(of(&fast, "cache_bytes_per_token") * 2.0, of(&found, "cache_bytes_per_token"));
    let one = ["bench", shown(&model), "--prompt", "0", "--gen", "2", "--repeat", "1", "--limit-mib", "0"];
    let found = json(&[&one[..], &["--json"]].concat());
    assert!(found["limits"].is_null() && found["results"][0]["prompt_tokens_per_s"].is_null());
    let output = runner(&one);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("MiB a token") && !text.contains("% of the"), "{text}");
}

#[test]
fn a_random_model_needs_no_file() {
    let arguments = ["bench", "--random-model", "230m", "--quantize", "q4_0", "--prompt", "2", "--gen", "1"];
    let found = json(&[&arguments[..], &["--repeat", "1", "--limit-mib", "0", "--json"]].concat());
    let row = &found["results"][0];
    assert_eq!((&row["model"], &row["encoding"]), (&"random 230m q4_0".into(), &"Q4_0".into()));
    // 180 million weights in the layers, in 4.5 bits, and a head of 33 million in Q6_K.
    let bytes = positive(&row["weight_bytes_per_token"]);
    assert!((120e6..140e6).contains(&bytes), "{bytes}");
}

/// Where there is an adapter: which, its limits, and the time of each kernel.
#[test]
fn a_gpu_backend_is_held_against_its_adapter() {
    let devices = runner(&["devices", "--json"]);
    if code(&devices) != 0 {
        return;
    }
    let devices: Json = serde_json::from_slice(&devices.stdout).expect("JSON");
    let chosen = &devices["adapters"][devices["chosen"].as_u64().expect("an index") as usize];
    let model = tiny("tiny-llama");
    let more = ["--backend", "wgpu", "--limit-mib", "1", "--profile-kernels"];
    let found = json(&quick(shown(&model), &more));
    for key in ["read_bytes_per_s", "f32_operations_per_s", "int8_operations_per_s"] {
        positive(&found["adapter_limits"][key]);
    }
    let row = &found["results"][0];
    assert_eq!((&row["backend"], &row["adapter"]["name"]), (&"wgpu".into(), &chosen["name"]));
    assert!(found["limits"].is_null(), "those of the processor say nothing here");
    positive(&row["gen_share_of_read"]);
    let phases = row["kernels"].as_array().expect("phases");
    let named: Vec<(&Json, &Json)> = phases.iter().map(|p| (&p["phase"], &p["tokens"])).collect();
    assert_eq!(named, [(&"prompt".into(), &8.into()), (&"generation".into(), &3.into())]);
    for phase in phases {
        let kernels = phase["kernels"].as_array().expect("kernels");
        let of =
            |name: &str| kernels.iter().find(|k| k["name"].as_str().is_some_and(|n| n.starts_with(name)));
        positive(&of("matvec").expect("weights are multiplied")["weight_bytes"]);
        positive(&of("rope_store").expect("keys are stored")["dispatches"]);
    }
}

#[cfg(unix)]
#[test]
fn a_peer_runs_beside_every_measurement() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("peer.sh");
    let said = "echo \"[{\\\"n_prompt\\\": $1, \\\"n_gen\\\": 0, \\\"avg_ts\\\": 2.0},\
                {\\\"n_prompt\\\": 0, \\\"n_gen\\\": $2, \\\"avg_ts\\\": 4.0}]\"\n";
    std::fs::write(&script, said).expect("writable");
    let model = tiny("tiny-llama");
    let peer = format!("sh {} {{prompt}} {{gen}} {{model}}", shown(&script));
    let found = json(&quick(shown(&model), &["--peer", &peer]));
    let peer = &found["results"][0]["peer"];
    assert_eq!(peer["gen_tokens_per_s"], serde_json::json!([4.0, 4.0]));
    for ratio in ["prompt_ratio", "gen_ratio"] {
        assert_eq!(peer[ratio]["pairs"].as_array().map(Vec::len), Some(2));
        positive(&peer[ratio]["median"]);
    }
}

#[test]
fn what_cannot_be_measured_is_one_clear_error() {
    let model = tiny("tiny-llama");
    let refused = |arguments: &[&str], exit: i32, said: &str| {
        let output = runner(arguments);
        assert_eq!(code(&output), exit, "{}", stderr(&output));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    };
    refused(&["bench", shown(&model), "--depth", "1000000"], 2, "do not fit into the model's context");
    refused(&["bench", shown(&model), "--prompt", "0", "--gen", "0"], 2, "neither a prompt nor a generation");
    refused(&quick(shown(&model), &["--peer", "/nowhere/llama-bench"]), 3, "cannot be started");
    refused(&quick(shown(&model), &["--backend", "cuda"]), 2, "there is no such backend");
    refused(&quick(shown(&model), &["--profile-kernels"]), 2, "not kernels on a device");
    let random = ["bench", "--random-model", "230m", "--quantize", "q4_0", "--peer", "llama-bench"];
    refused(&random, 2, "add --write");
    refused(&["bench"], 2, "MODEL");
    refused(&["bench", "--random-model", "230m"], 2, "--quantize");
}
