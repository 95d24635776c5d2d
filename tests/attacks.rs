//! The corpus of attacks: every file is refused with an error that says where, in little memory and without a hang.
//!
//! `tests/attacks/make.py` writes the files and `manifest.json`, which says whose they are and what the refusal must
//! say; the seeds they were made from are accepted, so it is the attack that is refused.

use crate::heap;
use crate::parsers;
use apr_qa_runner::formats::{self, Checkpoint, GgufArray, GgufHeader, GgufValue};
use apr_qa_runner::tokenizer::{Tokenizer, TokenizerSpec};
use apr_qa_runner::{Error, Kind, Result, models};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A row of the manifest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    file: String,
    /// One of [`parsers::PARSERS`]; with `-weights`, what a check of the model says; or `folder`.
    parser: String,
    /// Words of the error; absent for a seed, which is accepted.
    says: Option<String>,
    /// Words of its location.
    at: Option<String>,
}

/// No attack may take more heap than this.
const MOST_HEAP: usize = 64 << 20;

/// A guard against hangs: a refusal takes milliseconds. Time on the processor, so that a busy machine hangs nothing.
const LONGEST: Duration = Duration::from_secs(2);

#[test]
fn every_attack_is_refused_with_its_place_and_every_seed_is_accepted() {
    let rows = manifest();
    let mut wrong = Vec::new();
    for row in &rows {
        if let Err(why) = judge(row) {
            wrong.push(format!("{}: {why}", row.file));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn the_corpus_is_whole_and_small() {
    let rows = manifest();
    let attacks = rows.iter().filter(|row| row.says.is_some());
    let mut by_parser: BTreeMap<&str, usize> = BTreeMap::new();
    for row in attacks {
        *by_parser.entry(row.parser.trim_end_matches("-weights")).or_default() += 1;
    }
    for parser in parsers::PARSERS.iter().map(|p| p.name).chain(["folder"]) {
        assert!(by_parser.get(parser).is_some_and(|n| *n >= 10), "few attacks on {parser}: {by_parser:?}");
    }
    let mut listed: Vec<PathBuf> = rows.iter().flat_map(|row| files_of(&folder().join(&row.file))).collect();
    let mut found: Vec<PathBuf> =
        ["seeds", "files"].iter().flat_map(|part| files_of(&folder().join(part))).collect();
    let size: u64 = found.iter().map(|f| fs::metadata(f).expect("readable").len()).sum();
    assert!(size < 400 << 10, "{size} bytes");
    listed.sort();
    found.sort();
    assert_eq!(listed, found, "the manifest names every file once");
}

#[test]
fn the_corpus_is_what_its_script_writes() {
    let python = std::process::Command::new("python3").arg(folder().join("make.py")).arg("--check").output();
    // Without Python the files are still judged as they are.
    let Ok(output) = python else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What Git cannot hold as plain files: links out of the folder, and what is no regular file.
#[cfg(unix)]
#[test]
fn links_that_lead_out_of_a_model_folder_are_refused() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret.json");
    fs::write(&secret, r#"{"key":"value"}"#).unwrap();
    let shard = folder().join("seeds").join("model.safetensors");
    for (name, target) in [
        ("config.json", secret.clone()),
        ("tokenizer.json", secret.clone()),
        ("model.safetensors", shard.clone()),
        ("chat_template.jinja", PathBuf::from("../secret.json")),
    ] {
        let model = dir.path().join(format!("model-{name}"));
        fs::create_dir(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::copy(&shard, model.join("model.safetensors")).unwrap();
        formats::open(&model).expect("the control is sound");
        let _ = fs::remove_file(model.join(name));
        symlink(&target, model.join(name)).unwrap();
        let error = refusal(|| formats::open(&model)).unwrap().to_string();
        assert!(error.contains("link out of the folder") && error.contains(name), "{error}");
    }
    let sharded = dir.path().join("sharded");
    fs::create_dir(&sharded).unwrap();
    fs::write(sharded.join("config.json"), "{}").unwrap();
    symlink(&shard, sharded.join("one.safetensors")).unwrap();
    let index = r#"{"weight_map":{"a":"one.safetensors","b":"one.safetensors"}}"#;
    fs::write(sharded.join("model.safetensors.index.json"), index).unwrap();
    let error = refusal(|| formats::open(&sharded)).unwrap();
    assert!(error.to_string().contains("link out of the folder"), "{error}");
    // A device gives bytes for ever.
    let endless = dir.path().join("endless");
    fs::create_dir(&endless).unwrap();
    symlink("/dev/zero", endless.join("config.json")).unwrap();
    assert!(refusal(|| formats::open(&endless)).is_ok());
    fs::remove_file(endless.join("config.json")).unwrap();
    fs::write(endless.join("config.json"), "{}").unwrap();
    fs::File::create(endless.join("tokenizer.json")).unwrap().set_len(1 << 40).unwrap();
    fs::copy(&shard, endless.join("model.safetensors")).unwrap();
    let error = refusal(|| formats::open(&endless)).unwrap().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("1099511627776 bytes"), "{error}");
}

/// Files too large to commit whose parts refer to each other: what costs the square of their number hangs on them.
#[test]
fn many_parts_that_refer_to_each_other_are_settled_in_time() {
    let book = |artifacts: &str| {
        format!(
            "version: 1\nname: p\nmodels: {{m: {{source: a}}}}\nprompts: {{h: {{text: x}}}}\nartifacts:\n{artifacts}suites:\n  s: [{{gate: gate}}]\n"
        )
    };
    let from = |name: &str, other: &str| format!("  {name}: {{from: {other}, format: apr}}\n");
    let circle =
        |n: usize| (0..n).map(|i| from(&format!("a{i}"), &format!("a{}", (i + 1) % n))).collect::<String>();
    let strangers = |n: usize| {
        (0..n).map(|i| from(&format!("{}{i:04}", "q".repeat(50)), &format!("{}{i:04}", "r".repeat(50))))
    };
    for (what, artifacts, says) in [
        ("a circle", circle(1000), "by more than 32 conversions"),
        ("a long circle", circle(8000), "has 8000 entries, more than 1024"),
        ("unknown names", strangers(1000).collect(), "unknown artifact"),
        ("very many unknown names", strangers(6000).collect(), "has 6000 entries"),
    ] {
        let parser = parsers::named("playbook").expect("a parser");
        let error = refusal(|| (parser.parse)(book(&artifacts).as_bytes()))
            .unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(error.to_string().contains(says), "{what}: expected `{says}` in: {error}");
    }
    // A vocabulary of end marks, and a list of them.
    let marks = vec!["</s>".to_owned(); 100_000];
    let metadata = [
        ("tokenizer.ggml.model", GgufValue::from("gpt2")),
        ("tokenizer.ggml.tokens", GgufValue::Array(GgufArray::String(marks))),
        ("tokenizer.ggml.merges", GgufValue::Array(GgufArray::String(vec![]))),
        ("tokenizer.ggml.eos_token_ids", GgufValue::Array(GgufArray::U32((0..100_000).collect()))),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    for metadata in [&metadata[..], &metadata[..3]] {
        let header = GgufHeader { version: 3, alignment: 32, metadata: metadata.to_vec() };
        let error = refusal(|| {
            let spec = TokenizerSpec::from_gguf(&header)?;
            assert_eq!(spec.stop_ids().len(), 100_000);
            Tokenizer::new(spec)
        });
        let error = error.unwrap();
        assert!(error.to_string().contains("share the text"), "{error}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("attacks")
}

fn manifest() -> Vec<Row> {
    let text = fs::read_to_string(folder().join("manifest.json")).expect("the manifest is committed");
    serde_json::from_str(&text).expect("the manifest is a list of rows")
}

fn files_of(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    entries.flat_map(|e| files_of(&e.expect("readable").path())).collect()
}

/// Runs the parser of a row and says what is wrong with its answer.
fn judge(row: &Row) -> Result<(), String> {
    let path = folder().join(&row.file);
    let Some(says) = &row.says else { return accept(row, &path) };
    let error = match row.parser.strip_suffix("-weights") {
        Some(parser) => refusal(|| check_weights(parser, &read(&path)))?,
        None if row.parser == "folder" => refusal(|| formats::open(&path).map(drop))?,
        None => {
            let parser = parsers::named(&row.parser).ok_or("no such parser")?;
            // The bytes are held by the file or the caller, not by the parser: they are counted all the same.
            refusal(|| (parser.parse)(&read(&path)))?
        }
    };
    let place = match (&error.at, &row.at) {
        (None, _) => return Err(format!("no place in: {error}")),
        (Some(at), Some(word)) if !format!("{}: {at}", error.subject).contains(word) => {
            return Err(format!("expected the place `{word}` in: {error}"));
        }
        (Some(at), _) => at,
    };
    match error.to_string().contains(says) && !says.is_empty() && !place.is_empty() {
        true => Ok(()),
        false => Err(format!("expected `{says}` in: {error}")),
    }
}

fn accept(row: &Row, path: &Path) -> Result<(), String> {
    let parser = parsers::named(&row.parser).ok_or("no such parser")?;
    (parser.parse)(&read(path)).map_err(|error| format!("the seed is refused: {error}"))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("the manifest lists files that are there")
}

/// The first weight that is no number, as a check of the model names it.
fn check_weights(parser: &str, data: &[u8]) -> Result<()> {
    let checkpoint: Checkpoint = parsers::checkpoint(parser, data)?;
    let problems = models::check(&checkpoint).problems;
    match problems.into_iter().find(|p| p.what.starts_with("the weight is")) {
        None => Ok(()),
        Some(found) => {
            let at = format!(
                "tensor `{}`[{}]",
                found.tensor.unwrap_or_default(),
                found.index.unwrap_or(usize::MAX)
            );
            Err(Error::new(Kind::NonFinite, "hostile.bin", found.what).at(at))
        }
    }
}

/// The error of `work`, which must come without a panic, soon, and from little memory.
fn refusal<T>(work: impl FnOnce() -> Result<T>) -> Result<Error, String> {
    let start = time_used();
    let (result, heap) = heap::measure(|| catch_unwind(AssertUnwindSafe(work)));
    let error = match result {
        Err(_) => return Err("the parser panicked".into()),
        Ok(Ok(_)) => return Err("accepted".into()),
        Ok(Err(error)) => error,
    };
    if heap.peak > MOST_HEAP {
        return Err(format!("{} bytes of heap for: {error}", heap.peak));
    }
    let took = time_used().saturating_sub(start);
    if took > LONGEST {
        return Err(format!("{took:?} for: {error}"));
    }
    Ok(error)
}

/// The processor's time of this thread where the system tells it, else the clock's.
fn time_used() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let start = *START;
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}
