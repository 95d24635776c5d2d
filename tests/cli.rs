//! The command line as users meet it: output fields, streams, exit codes.

use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn tiny(slug: &str) -> PathBuf {
    repository().join("oracle/models").join(slug)
}

pub fn runner(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_apr-qa-runner"))
        .args(arguments)
        .env_remove("GITHUB_ACTIONS")
        .env_remove("GITHUB_STEP_SUMMARY")
        .env_remove("GITHUB_OUTPUT")
        .output()
        .expect("the binary was built with the tests")
}

pub fn shown(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("the runner was not killed")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs, requires exit code 0, and parses stdout.
pub fn json(arguments: &[&str]) -> Json {
    let output = runner(arguments);
    assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON value")
}

fn ids(value: &Json) -> Vec<u64> {
    value.as_array().expect("an array of ids").iter().map(|id| id.as_u64().expect("an id")).collect()
}

/// A playbook over tiny-llama with the given artifacts and suites, in a folder of its own.
fn playbook(folder: &Path, artifacts: &str, suites: &str) -> PathBuf {
    let model = shown(&tiny("tiny-llama")).to_owned();
    let oracle = shown(&repository().join("oracle/tiny-llama")).to_owned();
    let text = format!(
        "# yaml-language-server: $schema=playbook.schema.json\nversion: 1\nname: case\nmodels:\n  tiny:\n    \
         source: {model}\n    oracle: {oracle}\nprompts:\n  completion: {{ text: \"The capital of France is\" }}\n\
         artifacts:\n{artifacts}\nsuites:\n{suites}\nreport: {{ dir: reports }}\n"
    );
    let path = folder.join("case.yaml");
    fs::write(&path, text).expect("the test folder is writable");
    path
}

#[test]
fn generate_gives_the_recorded_tokens_in_the_documented_fields() {
    let oracle = fs::read(repository().join("oracle/tiny-llama/completion.json")).expect("a recorded oracle");
    let oracle: Json = serde_json::from_slice(&oracle).expect("JSON");
    let model = tiny("tiny-llama");
    let made = json(&[
        "generate",
        shown(&model),
        "-p",
        "The capital of France is",
        "-n",
        "32",
        "--logprobs",
        "3",
        "--json",
    ]);
    assert_eq!(ids(&made["tokens"]), ids(&oracle["tokens"]));
    assert_eq!(made["text"], oracle["text"]);
    let steps = made["logprobs"].as_array().expect("a list of steps");
    assert_eq!(steps.len(), 32);
    assert_eq!(steps[0]["top"].as_array().expect("pairs").len(), 3);
    assert_eq!(steps[0]["top"][0][0], made["tokens"][0], "greedy takes the most likely token");
    assert!(!ids(&made["prompt_tokens"]).is_empty());

    let streamed = runner(&["generate", shown(&model), "-p", "The capital of France is", "-n", "32"]);
    let text = String::from_utf8(streamed.stdout).expect("UTF-8");
    assert_eq!(text.trim_end_matches('\n'), oracle["text"].as_str().expect("text").trim_end_matches('\n'));
}

#[test]
fn a_seed_decides_a_sample() {
    let model = tiny("tiny-qwen2");
    let sample = |seed: &str| {
        let arguments = [
            "generate",
            shown(&model),
            "-p",
            "Hello",
            "-n",
            "24",
            "--temperature",
            "1.5",
            "--seed",
            seed,
            "--json",
        ];
        ids(&json(&arguments)["tokens"])
    };
    assert_eq!(sample("7"), sample("7"));
    let others: Vec<_> = ["8", "9", "10"].iter().map(|s| sample(s)).collect();
    assert!(others.iter().any(|o| *o != sample("7")), "four seeds, one text");
}

#[test]
fn tokenize_and_decode_are_inverse() {
    for slug in ["tiny-llama", "tiny-qwen2", "tiny-gpt2"] {
        let model = tiny(slug);
        let text = "def f(x):\n    return x + 12  # naïve 你好";
        let made = json(&["tokenize", shown(&model), "--text", text, "--no-special", "--json"]);
        let list: Vec<String> = ids(&made["ids"]).iter().map(u64::to_string).collect();
        assert_eq!(made["tokens"].as_array().expect("pieces").len(), list.len());
        let back = json(&["tokenize", shown(&model), "--decode", &list.join(","), "--json"]);
        assert_eq!(back["text"], text, "{slug}");
    }
    let wrong = runner(&["tokenize", shown(&tiny("tiny-gpt2")), "--decode", "5,99999999"]);
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains("99999999"), "{}", stderr(&wrong));
}

#[test]
fn perplexity_counts_by_the_documented_rule() {
    let model = tiny("tiny-gpt2");
    let text = repository().join("oracle/text/tiny.txt");
    let made = json(&["perplexity", shown(&model), "--text-file", shown(&text), "--ctx", "128", "--json"]);
    let tokens = json(&["tokenize", shown(&model), "--text-file", shown(&text), "--json"]);
    let chunks = ids(&tokens["ids"]).len() / 128;
    // Each chunk of 128 tokens scores the tokens after its 64th.
    assert_eq!(made["tokens_scored"].as_u64().expect("a count"), chunks as u64 * 63);
    let (ppl, nll) =
        (made["perplexity"].as_f64().expect("a number"), made["mean_nll"].as_f64().expect("a number"));
    assert!((ppl.ln() - nll).abs() < 1e-9 && ppl > 1.0);
    let long = runner(&["perplexity", shown(&model), "--text-file", shown(&text), "--ctx", "0"]);
    assert_ne!(code(&long), 0, "the text is longer than the context");
    assert!(stderr(&long).contains("token"), "{}", stderr(&long));
}

#[test]
fn the_contracts_own_commands_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let original = tiny("tiny-qwen2");
    let converted = folder.path().join("model.apr");
    let made = runner(&["convert", shown(&original), shown(&converted), "--quantize", "int8"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));

    let diff = json(&["rosetta", "diff-tensors", shown(&original), shown(&converted), "--json"]);
    assert_eq!(diff["layout_mismatches"], 0);
    assert_eq!(diff["missing_in_a"], 0);
    assert_eq!(diff["missing_in_b"], 0);
    assert!(diff["tensors_compared"].as_u64().expect("a count") > 20);

    let check = json(&["check", shown(&converted), "--json"]);
    assert_eq!(check["all_passed"], true);

    let stats = json(&["rosetta", "validate-stats", shown(&original), shown(&converted), "--json"]);
    assert_eq!(stats["passed"], true);
    assert_eq!(stats["anomalies"], 0);
    assert!(stats["total_tensors"].as_u64().expect("a count") > 20);

    let arguments = [
        "rosetta",
        "compare-inference",
        shown(&original),
        shown(&converted),
        "--prompt",
        "Hello",
        "--max-tokens",
        "1",
        "--json",
    ];
    let same = json(&arguments);
    assert_eq!(same["passed"], true);
    assert_eq!(same["total_tokens"], 1);

    let inspect = json(&["inspect", shown(&converted), "--json"]);
    assert_eq!(inspect["format"], "apr");
    assert_eq!(inspect["architecture"], "qwen2");
    assert_eq!(inspect["checksum_valid"], true);
    let tensors = json(&["tensors", shown(&converted), "--stats", "--filter", "*.q_proj.weight", "--json"]);
    assert_eq!(tensors["tensors"][0]["dtype"], "Q8_0");
    assert!(tensors["tensors"][0]["std"].as_f64().expect("a number") > 0.0);
}

/// A conversion of a tiny model in `folder`.
fn converted(folder: &Path, slug: &str, name: &str, more: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let model = tiny(slug);
    let mut arguments = vec!["convert", shown(&model), shown(&path)];
    arguments.extend(more);
    let made = runner(&arguments);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    path
}

/// Runs, requires this exit code, and parses stdout.
fn json_with_code(expected: i32, arguments: &[&str]) -> Json {
    let output = runner(arguments);
    assert_eq!(code(&output), expected, "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("stdout is one JSON value")
}

#[test]
fn diff_tells_an_encoding_from_a_difference_of_the_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let original = tiny("tiny-llama");
    let int8 = converted(folder.path(), "tiny-llama", "int8.apr", &["--quantize", "int8"]);
    let same = json(&["diff", shown(&original), shown(&original), "--json"]);
    assert_eq!((&same["identical"], &same["difference_count"]), (&Json::from(true), &Json::from(0)));
    let encoded = json_with_code(1, &["diff", shown(&original), shown(&int8), "--json"]);
    assert_eq!(encoded["structural_diffs"], 0);
    assert!(encoded["category_counts"]["quantization"].as_u64().expect("a count") > 20);
    let differences = encoded["differences"].as_array().expect("a list");
    let data = differences.iter().find(|d| d["type"] == "data").expect("values are rounded");
    assert!(data["sqnr_db"].as_f64().expect("finite") > 30.0 && data["first_index"].is_u64(), "{data}");
    json(&["diff", shown(&original), shown(&int8), "--encoding-may-differ", "--json"]);
    let other = json_with_code(
        1,
        &[
            "diff",
            shown(&original),
            shown(&tiny("tiny-qwen2")),
            "--encoding-may-differ",
            "--limit",
            "3",
            "--json",
        ],
    );
    assert!(other["structural_diffs"].as_u64().expect("a count") > 3);
    assert_eq!(other["differences"].as_array().expect("a list").len(), 3);
}

#[test]
fn a_chain_ends_where_it_began_and_all_containers_have_one_fingerprint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for slug in ["tiny-llama", "tiny-qwen2", "tiny-gpt2"] {
        let model = tiny(slug);
        let made = json(&["rosetta", "chain", shown(&model), "--formats", "apr,gguf,apr", "--json"]);
        assert_eq!(made["success"], true, "{slug}");
        assert_eq!(made["total_steps"], 3);
        assert_eq!(made["verification"]["max_diff"], 0.0);
        // Quantised once, the blocks are the same in both containers.
        let int8 = converted(folder.path(), slug, &format!("{slug}.apr"), &["--quantize", "int8"]);
        let gguf = folder.path().join(format!("{slug}.gguf"));
        let verified = json(&["rosetta", "convert", shown(&int8), shown(&gguf), "--verify", "--json"]);
        assert_eq!(verified["verification"]["is_equivalent"], true);
        assert_eq!(verified["target"]["format"], "gguf");
        let prints = |path: &Path| json(&["rosetta", "fingerprint", shown(path), "--json"]);
        let (a, b) = (prints(&int8), prints(&gguf));
        assert_eq!(a["model_checksum"], b["model_checksum"], "{slug}");
        for (x, y) in a["fingerprints"]
            .as_array()
            .expect("a list")
            .iter()
            .zip(b["fingerprints"].as_array().expect("a list"))
        {
            assert_eq!(x["blocks_checksum"], y["blocks_checksum"], "{slug} {}", x["name"]);
        }
        let both = json(&["rosetta", "fingerprint", shown(&int8), shown(&gguf), "--json"]);
        assert_eq!((&both["passed"], &both["anomalies"]), (&Json::from(true), &Json::from(0)));
        let off = json_with_code(1, &["rosetta", "fingerprint", shown(&model), shown(&int8), "--json"]);
        assert!(off["anomalies"].as_u64().expect("a count") > 10);
        let rounded = json_with_code(1, &["rosetta", "verify", shown(&model), shown(&int8), "--json"]);
        assert_eq!(rounded["is_equivalent"], false);
        assert!(rounded["failed_tensors"].as_u64().expect("a count") > 10);
    }
    let none = runner(&["rosetta", "fingerprint", shown(&tiny("tiny-gpt2")), "--filter", "nothing*"]);
    assert_eq!(code(&none), 2, "nothing compared is no success: {}", stderr(&none));
    let inspect = json(&["rosetta", "inspect", shown(&tiny("tiny-gpt2")), "--json"]);
    assert_eq!((&inspect["format"], &inspect["architecture"]), (&"safetensors".into(), &"gpt2".into()));
    assert!(inspect["total_params"].as_u64().expect("a count") > 900_000);
}

#[test]
fn a_defect_is_planted_by_its_seed_and_noticed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let list = json(&["mutate", "--list", "--json"]);
    assert!(list.as_array().expect("the catalogue").len() >= 40);
    let lines = runner(&["mutate", "--list"]);
    assert_eq!(
        String::from_utf8_lossy(&lines.stdout).lines().count(),
        list.as_array().expect("a list").len()
    );
    let model = tiny("tiny-llama");
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let plant = |out: &Path| {
        json(&["mutate", shown(&model), "--defect", "norm-zeroed", "--seed", "5", "-o", shown(out), "--json"])
    };
    let planted = plant(&a);
    assert_eq!(planted, plant(&b));
    assert_eq!(fs::read(a.join("model.safetensors")).ok(), fs::read(b.join("model.safetensors")).ok());
    assert!(planted["planted"]["targets"][0].as_str().expect("a tensor").contains("norm"));
    assert_eq!(planted["causes"][0], "zeroed");
    json_with_code(1, &["check", shown(&a), "--json"]);
    let taken = runner(&["mutate", shown(&model), "--defect", "norm-zeroed", "-o", shown(&a)]);
    assert_eq!(code(&taken), 2, "{}", stderr(&taken));
    let unknown =
        runner(&["mutate", shown(&model), "--defect", "no-such", "-o", shown(&folder.path().join("c"))]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("mutate --list"), "{}", stderr(&unknown));
}

#[test]
fn tree_hex_and_lint_show_what_is_in_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gguf = converted(folder.path(), "tiny-llama", "model.gguf", &["--quantize", "int8"]);
    let tree = json(&["tree", shown(&gguf), "--json"]);
    assert_eq!((&tree["num_layers"], &tree["architecture"]), (&Json::from(4), &"llama".into()));
    let sizes = tree["children"].as_array().expect("groups").iter().map(|c| c["total_size"].as_u64());
    assert_eq!(sizes.sum::<Option<u64>>(), tree["total_size"].as_u64());
    let wrong = runner(&["tree", shown(&gguf), "--filter", "nothing*"]);
    assert_eq!(code(&wrong), 2, "{}", stderr(&wrong));

    let head = json(&["hex", shown(&gguf), "--limit", "20", "--json"]);
    assert_eq!(head["rows"][0]["ascii"].as_str().map(|a| &a[..4]), Some("GGUF"));
    let tensor = json(&["hex", shown(&gguf), "--tensor", "0.q_proj.weight", "--json"]);
    assert_eq!((&tensor[0]["name"], &tensor[0]["dtype"]), (&"blk.0.attn_q.weight".into(), &"Q8_0".into()));
    assert_eq!(tensor[0]["sample_values"].as_array().expect("values").len(), 64, "two blocks");
    assert!(tensor[0]["std"].as_f64().expect("a number") > 0.0);
    // The rows are the file's own bytes.
    let offset = tensor[0]["file_offset"].as_u64().expect("an offset").to_string();
    let raw = json(&["hex", shown(&gguf), "--offset", &offset, "--json"]);
    assert_eq!(raw["rows"], tensor[0]["rows"]);
    let behind = runner(&["hex", shown(&gguf), "--offset", "0xffffffffff"]);
    assert_eq!(code(&behind), 2, "{}", stderr(&behind));

    let lint = json(&["lint", shown(&gguf), "--json"]);
    assert_eq!((&lint["passed"], &lint["error_count"]), (&Json::from(true), &Json::from(0)));
    assert_eq!(lint["issues"][0]["id"], "license-missing");
    json_with_code(1, &["lint", shown(&gguf), "--fail-level", "warn", "--json"]);
    assert!(json(&["lint", "--rules", "--json"]).as_array().expect("rules").len() >= 12);
}

#[test]
fn a_canary_sings_for_its_model_and_for_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = tiny("tiny-llama");
    let file = folder.path().join("canary.json");
    let made = runner(&[
        "canary",
        "create",
        shown(&model),
        "-p",
        "The capital of France is",
        "-p",
        "Hello",
        "-n",
        "8",
        "-o",
        shown(&file),
    ]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let frozen: Json = serde_json::from_slice(&fs::read(&file).expect("written")).expect("JSON");
    assert_eq!(frozen["prompts"][0]["log_probs"].as_array().expect("numbers").len(), 8);
    assert_eq!(frozen["provenance"]["architecture"], "llama");
    let check = |path: &Path, expected: i32, more: &[&str]| {
        let mut arguments = vec!["canary", "check", shown(path), "--canary", shown(&file), "--json"];
        arguments.extend(more);
        json_with_code(expected, &arguments)
    };
    let same = check(&model, 0, &["--tolerance", "0"]);
    assert_eq!((&same["passed"], &same["weights_unchanged"]), (&Json::from(true), &Json::from(true)));
    let gguf = converted(folder.path(), "tiny-llama", "model.gguf", &[]);
    assert_eq!(
        check(&gguf, 0, &["--tolerance", "0"])["weights_unchanged"],
        true,
        "the same values elsewhere"
    );
    let int4 = converted(folder.path(), "tiny-llama", "int4.apr", &["--quantize", "int4"]);
    assert_eq!(check(&int4, 1, &[])["weights_unchanged"], false);
    fs::write(&file, "{}").expect("writable");
    let broken = runner(&["canary", "check", shown(&model), "--canary", shown(&file)]);
    assert_eq!(code(&broken), 1);
    assert!(stderr(&broken).contains("canary create"), "{}", stderr(&broken));
}

/// A GGUF of tiny-llama whose first key projection was permuted as if it had as many heads as the queries.
fn permuted_by_queries(folder: &Path) -> PathBuf {
    let path = converted(folder, "tiny-llama", "permuted.gguf", &["--quantize", "f32"]);
    let found = json(&["hex", shown(&path), "--tensor", "blk.0.attn_k.weight", "--json"]);
    let number = |value: &Json| value.as_u64().expect("a number") as usize;
    let (at, rows, columns) =
        (number(&found[0]["file_offset"]), number(&found[0]["dims"][0]), number(&found[0]["dims"][1]));
    let mut bytes = fs::read(&path).expect("readable");
    let width = 4 * columns;
    // The file holds pairs of 2 heads of 32 rows. Back to halves, then into pairs of 4 heads of 16.
    let interleaved = |row: usize, head: usize| {
        let (h, within) = (row / head, row % head);
        h * head + 2 * (within % (head / 2)) + within / (head / 2)
    };
    let original = bytes[at..at + rows * width].to_vec();
    for row in 0..rows {
        let (from, to) = (interleaved(row, 32) * width, at + interleaved(row, 16) * width);
        bytes[to..to + width].copy_from_slice(&original[from..from + width]);
    }
    fs::write(&path, bytes).expect("writable");
    path
}

#[test]
fn bisect_names_the_operation_that_is_wrong_and_what_to_fix() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let original = tiny("tiny-llama");
    let sound = converted(folder.path(), "tiny-llama", "sound.gguf", &["--quantize", "q4_0"]);
    let fine = json(&["bisect", shown(&original), shown(&sound), "--tokens", "24", "--json"]);
    assert_eq!((&fine["passed"], &fine["tokens"]), (&Json::Bool(true), &Json::from(24)));
    let operations = fine["operations"].as_array().expect("rows");
    assert!(operations.len() > 20 && operations.iter().all(|row| row["over_budget"] == false));

    let broken = permuted_by_queries(folder.path());
    let found = json_with_code(1, &["bisect", shown(&original), shown(&broken), "--json"]);
    let first = &found["operations"][found["first_over"].as_u64().expect("an index") as usize];
    assert_eq!(first["tensor"], "0.k_proj.weight", "{first}");
    assert_eq!(found["causes"][0]["id"], "rows-permuted-by-wrong-heads", "{}", found["causes"]);
    let text = runner(&["bisect", shown(&original), shown(&broken), "--text", "Once upon a time"]);
    let shown_text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(shown_text.contains("OVER blk.0 attn_k"), "{shown_text}");
    assert!(shown_text.contains("first over budget: blk.0 attn_k, SQNR "), "{shown_text}");
    assert_eq!(code(&runner(&["bisect", shown(&original), "no-such-file.gguf"])), 3);
}

#[test]
fn check_names_every_problem_with_its_likely_cause() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let original = tiny("tiny-llama");
    let sound = json(&["check", shown(&original), "--json"]);
    assert_eq!((&sound["passed"], &sound["total"]), (&Json::from(10), &Json::from(10)));
    let gpt2 = json(&["check", shown(&tiny("tiny-gpt2")), "--json"]);
    assert_eq!(gpt2["passed"], 10, "a family without a gate has a sound feed-forward");

    // Names and shapes are right, so only the original shows what happened.
    let permuted = permuted_by_queries(folder.path());
    assert_eq!(json(&["check", shown(&permuted), "--json"])["all_passed"], true);
    let told = json_with_code(1, &["check", shown(&permuted), "--against", shown(&original), "--json"]);
    let differences = told["differences"].as_array().expect("a list");
    assert_eq!(differences.len(), 1, "{told}");
    assert_eq!(differences[0]["field"], "0.k_proj.weight");
    assert_eq!(differences[0]["cause"], "K permuted with n_heads (4) instead of n_kv_heads (2)");

    // Sizes in the index are exchanged: the shape is wrong in the file itself.
    let gguf = converted(folder.path(), "tiny-llama", "turned.gguf", &[]);
    let mut bytes = fs::read(&gguf).expect("readable");
    let name = b"blk.1.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).expect("in the index") + name.len() + 4;
    let (first, second) = (bytes[at..at + 8].to_vec(), bytes[at + 8..at + 16].to_vec());
    bytes[at..at + 8].copy_from_slice(&second);
    bytes[at + 8..at + 16].copy_from_slice(&first);
    fs::write(&gguf, bytes).expect("writable");
    let told = json_with_code(1, &["check", shown(&gguf), "--json"]);
    let problem = &told["problems"][0];
    assert_eq!(problem["tensor"], "blk.1.ffn_up.weight");
    assert_eq!((&problem["expected"], &problem["found"]), (&"[352, 128]".into(), &"[128, 352]".into()));
    assert_eq!(problem["cause"], "saved transposed");
    assert_eq!(told["passed"], 9);
}

#[test]
fn what_cannot_be_opened_is_one_clear_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let garbage = folder.path().join("garbage.gguf");
    fs::write(&garbage, b"these are no model weights").expect("writable");
    let missing = folder.path().join("missing.gguf");
    for (path, expected) in [(&garbage, 1), (&missing, 3)] {
        for verb in ["inspect", "tensors", "check", "tree", "hex", "lint"] {
            let output = runner(&[verb, shown(path)]);
            assert_eq!(code(&output), expected, "{verb}: {}", stderr(&output));
            let message = stderr(&output);
            assert!(message.starts_with("error: ") && message.contains(shown(path)), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}

#[test]
fn a_run_that_passes_exits_0_and_leaves_every_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suites = "  canary:\n    - gate: canary\n  structure:\n    - gate: weights-check\n";
    let path = playbook(folder.path(), "  apr-int8: { from: source, format: apr, quantize: int8 }", suites);
    let junit = folder.path().join("elsewhere.xml");
    let html = folder.path().join("pages/of/case.html");
    let copies = ["--report-junit", shown(&junit), "--report-html", shown(&html)];
    let output = runner(&[&[shown(&path), "--no-progress"], &copies[..]].concat());
    assert_eq!(code(&output), 0, "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    let xml = fs::read_to_string(&junit).expect("the JUnit report");
    assert!(
        xml.contains("<testsuites") && xml.contains("tests=\"2\"") && xml.contains("failures=\"0\""),
        "{xml}"
    );
    let page = fs::read_to_string(&html).expect("the HTML report");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("PASS"), "{page}");
    assert!(
        page == fs::read_to_string(folder.path().join("reports/report.html"))
            .expect("the same in the folder")
    );
    let evidence = fs::read_to_string(folder.path().join("reports/evidence.jsonl")).expect("the evidence");
    for line in evidence.lines() {
        let _: Json = serde_json::from_str(line).expect("every line is JSON");
    }
    assert!(fs::read_to_string(folder.path().join("reports/report.md")).expect("Markdown").contains("case"));
}

#[test]
fn reports_come_again_from_the_evidence_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suites = "  structure:\n    - gate: weights-check\n";
    let path = playbook(folder.path(), "  apr-int8: { from: source, format: apr, quantize: int8 }", suites);
    let run = runner(&[shown(&path), "--no-progress"]);
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    let (first, again) = (folder.path().join("reports"), folder.path().join("again"));
    fs::create_dir(&again).expect("writable");
    fs::copy(first.join("evidence.jsonl"), again.join("evidence.jsonl")).expect("the evidence");
    let rendered = runner(&["report", shown(&again)]);
    assert_eq!(code(&rendered), 0, "{}", stderr(&rendered));
    for name in ["report.html", "report.md", "junit.xml", "report.json"] {
        let bytes = |folder: &Path| fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(bytes(&first) == bytes(&again), "{name} differs from the one of the run");
    }
    // With a path only what is asked for; of a log that was cut what it holds, and a note.
    let evidence = fs::read_to_string(first.join("evidence.jsonl")).expect("the evidence");
    let cut = folder.path().join("cut.jsonl");
    fs::write(&cut, &evidence[..evidence.len() - 20]).expect("writable");
    let page = folder.path().join("cut/page.html");
    let rendered = runner(&["report", shown(&cut), "--html", shown(&page)]);
    assert_eq!(code(&rendered), 0, "{}", stderr(&rendered));
    assert!(stderr(&rendered).contains("broke off"), "{}", stderr(&rendered));
    assert!(fs::read_to_string(&page).expect("the page").contains("weights-check"));
    assert!(!folder.path().join("report.md").exists() && !folder.path().join("cut/report.md").exists());
    assert_eq!(code(&runner(&["report", shown(&path)])), 1, "a playbook is no evidence");
    assert_eq!(code(&runner(&["report", "/nowhere/evidence.jsonl"])), 3);
}

#[test]
fn exit_codes_tell_failure_usage_environment_and_emptiness_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken = folder.path().join("broken.gguf");
    fs::write(&broken, b"GGUF but not really").expect("writable");
    let vendor = format!("  vendor: {{ file: {}, models: [tiny] }}", shown(&broken));

    let path = playbook(folder.path(), &vendor, "  structure:\n    - gate: weights-check\n");
    let refused = runner(&[shown(&path), "--no-progress"]);
    assert_eq!(code(&refused), 1, "{}", stderr(&refused));
    assert!(String::from_utf8_lossy(&refused.stdout).contains(shown(&broken)), "the file is named");
    let xml = fs::read_to_string(folder.path().join("reports/junit.xml")).expect("the JUnit report");
    assert!(xml.contains("type=\"refused\""), "{xml}");

    let selected_nothing = runner(&[shown(&path), "--gate", "canary", "--no-progress"]);
    assert!([2, 6].contains(&code(&selected_nothing)), "{}", stderr(&selected_nothing));

    let path = playbook(folder.path(), &vendor, "  structure:\n    - gate: weigths-check\n");
    let misspelt = runner(&[shown(&path)]);
    assert_eq!(code(&misspelt), 2);
    assert!(stderr(&misspelt).contains("weights-check"), "suggests the gate: {}", stderr(&misspelt));

    let path = playbook(
        folder.path(),
        &vendor,
        "  structure:\n    - gate: weights-check\n      artifacts: [source]\n",
    );
    let text = fs::read_to_string(&path).expect("readable").replace("source: ", "source: /nowhere");
    fs::write(&path, text).expect("writable");
    let no_reference = runner(&[shown(&path), "--no-progress"]);
    assert_eq!(code(&no_reference), 3, "{}", stderr(&no_reference));
}

#[test]
fn validate_list_and_explain_need_no_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suites = "  canary:\n    - gate: canary\n";
    let path = playbook(folder.path(), "  apr-int8: { from: source, format: apr, quantize: int8 }", suites);
    let text = fs::read_to_string(&path).expect("readable").replace("/oracle/models/", "/not-there/");
    fs::write(&path, text).expect("writable");
    let validated = json(&["validate", shown(&path), "--json"]);
    assert_eq!(validated["cases"], 1);
    assert_eq!(code(&runner(&["list", shown(&path)])), 0);
    let explained = runner(&["explain", shown(&path)]);
    assert_eq!(code(&explained), 0, "{}", stderr(&explained));
}

#[test]
fn completions_and_the_schema_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = runner(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(String::from_utf8_lossy(&output.stdout).contains("rosetta"), "{shell}");
    }
    let schema = runner(&["schema"]);
    let committed =
        fs::read(repository().join("playbooks/playbook.schema.json")).expect("the committed schema");
    assert!(
        schema.stdout == committed,
        "playbooks/playbook.schema.json is out of date: run `apr-qa-runner schema`"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_valid_reports_of_what_ran() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slow = "  slow: { command: [sleep, \"60\"] }";
    let suites = "  structure:\n    - gate: weights-check\n  outside:\n    - gate: runtime-parity\n      \
                  against: slow\n";
    let path = playbook(folder.path(), "  apr-int8: { from: source, format: apr, quantize: int8 }", suites);
    let text = fs::read_to_string(&path)
        .expect("readable")
        .replace("suites:", &format!("runtimes:\n{slow}\nsuites:"));
    fs::write(&path, text).expect("writable");
    let child = Command::new(env!("CARGO_BIN_EXE_apr-qa-runner"))
        .args([shown(&path), "--no-progress"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary was built with the tests");
    // The second case waits for a minute; the evidence of the first stands on disk before it begins.
    let evidence = folder.path().join("reports/evidence.jsonl.partial");
    let begun = || fs::read_to_string(&evidence).is_ok_and(|text| text.matches("case_started").count() == 2);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !begun() {
        assert!(std::time::Instant::now() < patience, "the second case never began");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let killed =
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is everywhere");
    assert!(killed.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 130);
    let record = fs::read(folder.path().join("reports/report.json")).expect("the record");
    let record: Json = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["interrupted"], "SIGINT");
    assert_eq!(record["not_run"], 1);
    assert_eq!(record["cases"].as_array().expect("cases").len(), 1);
    assert!(
        fs::read_to_string(folder.path().join("reports/junit.xml")).expect("JUnit").contains("</testsuites>")
    );
}
