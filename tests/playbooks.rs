//! Bad playbooks as files: each `tests/playbooks/<name>.yaml` gets exactly the complaint in `<name>.txt`.
//! `UPDATE_GOLDENS=1` writes what is said now. Also: the JSON Schema in `playbooks/` is the generated one, and the
//! playbooks of the project obey it.

use apr_qa_runner::playbook::{self, AgainstRule, Catalog, GateInfo, Param, ParamDefault};
use std::fs;
use std::path::{Path, PathBuf};

/// A catalog that does not change with the gates of the program, so that the expected texts do not either.
struct TwoGates;

const PARAMS: &[Param] = &[Param {
    name: "max_mismatches",
    doc: "most differing tokens",
    default: Some(ParamDefault::Number(0.0)),
}];

impl Catalog for TwoGates {
    fn gate(&self, id: &str) -> Option<GateInfo> {
        let id = self.gate_ids().into_iter().find(|known| *known == id)?;
        let per_prompt = id == "token-parity";
        Some(GateInfo { id, per_prompt, needs_backend: true, against: AgainstRule::None, params: PARAMS })
    }

    fn gate_ids(&self) -> Vec<&'static str> {
        vec!["token-parity", "canary"]
    }

    fn backend_names(&self) -> Vec<&'static str> {
        vec!["reference", "cpu"]
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("a readable folder").path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    found
}

/// The text under test against the golden file, or the golden file rewritten.
pub fn golden(path: &Path, actual: &[u8]) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        return fs::write(path, actual).expect("the golden file is writable");
    }
    let expected =
        fs::read(path).unwrap_or_else(|e| panic!("{}: {e}; run with UPDATE_GOLDENS=1", path.display()));
    if expected != actual {
        let (expected, actual) = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(actual));
        let diff = similar::TextDiff::from_lines(expected.as_ref(), actual.as_ref());
        panic!("{} differs; run with UPDATE_GOLDENS=1\n{}", path.display(), diff.unified_diff());
    }
}

#[test]
fn bad_playbooks_get_these_complaints() {
    let bad = files("tests/playbooks", "yaml");
    assert!(bad.len() >= 15, "only {} bad playbooks found", bad.len());
    for path in bad {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a readable file");
        let error = playbook::parse_bytes(&name, &bytes)
            .and_then(|p| playbook::plan(&p, &TwoGates))
            .expect_err(&format!("{name} is a bad playbook"));
        golden(&path.with_extension("txt"), format!("{error}\n").as_bytes());
    }
}

#[test]
fn the_json_schema_is_the_generated_one() {
    golden(&root().join("playbooks/playbook.schema.json"), playbook::json_schema().as_bytes());
}

/// Each playbook of the project names the schema on its first line, obeys it, and expands into cases.
#[test]
fn the_projects_playbooks_are_valid() {
    let schema: serde_json::Value = serde_json::from_str(&playbook::json_schema()).expect("a JSON text");
    let validator = jsonschema::validator_for(&schema).expect("a valid JSON Schema");
    let all = files("playbooks", "yaml");
    assert!(!all.is_empty(), "no playbook found");
    for path in all {
        let shown = path.display().to_string();
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        let first = text.lines().next().unwrap_or("");
        assert_eq!(first, "# yaml-language-server: $schema=playbook.schema.json", "{shown}");
        let json: serde_json::Value = serde_yaml::from_str(&text).expect("a YAML text");
        let faults: Vec<String> =
            validator.iter_errors(&json).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{shown}: {faults:?}");
        let read = |p: &Path| fs::read_to_string(p).map_err(|e| apr_qa_runner::Error::io(p, &e));
        let planned = playbook::parse(&shown, &text).and_then(|mut playbook| {
            playbook.read_prompts(&mut |p| read(p))?;
            playbook::plan(&playbook, &apr_qa_runner::runner::Catalog)
        });
        match planned {
            Ok(cases) => assert!(!cases.is_empty(), "{shown}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The JSON Schema refuses what the program refuses, as far as form goes: editors and `validate` agree.
#[test]
fn the_json_schema_agrees_with_the_program() {
    let schema: serde_json::Value = serde_json::from_str(&playbook::json_schema()).expect("a JSON text");
    let validator = jsonschema::validator_for(&schema).expect("a valid JSON Schema");
    let mut compared = 0;
    for path in files("tests/playbooks", "yaml") {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(json) = serde_yaml::from_str::<serde_json::Value>(&text) else { continue };
        let ours = playbook::parse("p.yaml", &text).is_ok();
        assert_eq!(ours, validator.is_valid(&json), "{}", path.display());
        compared += 1;
    }
    assert!(compared >= 6, "only {compared} compared");
}
