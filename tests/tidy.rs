//! The architecture as a test: every `crate::…` path points to its own layer or one below.

use std::fs;
use std::path::{Path, PathBuf};

/// Module to layer, as ARCHITECTURE.md draws them.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("record", 0),
    ("tensor", 0),
    ("contract", 1),
    ("oracle", 1),
    ("playbook", 1),
    ("quant", 1),
    ("report", 1),
    ("stats", 1),
    ("formats", 2),
    ("tokenizer", 2),
    ("models", 3),
    ("convert", 3),
    ("engine", 3),
    ("infer", 4),
    ("inspect", 4),
    ("mutate", 4),
    ("subject", 5),
    ("gates", 6),
    ("runner", 7),
    ("cli", 8),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "only {} source files found", files.len());
    let read = |p: PathBuf| {
        let text = fs::read_to_string(&p).expect("a source file is UTF-8");
        (p.strip_prefix(&src).expect("under src").to_path_buf(), text)
    };
    files.into_iter().map(read).collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(m, _)| *m == module).map(|(_, l)| *l)
}

fn module_of(path: &Path) -> String {
    let first =
        path.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("module `{module}` has no layer in tests/tidy.rs"));
        for (n, line) in text.lines().enumerate() {
            for found in line.split("crate::").skip(1) {
                let target: String = found.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if layer(&target).is_some_and(|l| l > own) {
                    wrong.push(format!("src/{}:{}: {module} reaches up to {target}", path.display(), n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_in_their_place() {
    let rules: &[(&str, &[&str])] = &[
        ("wgpu::", &["engine/wgpu"]),
        ("clap::", &["cli"]),
        ("serde_yaml::", &["playbook", "contract"]),
        ("memmap2::", &["formats", "tensor"]),
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let shown = path.to_string_lossy();
        // The backend's own folder has the crate's name.
        let ours = ["self::wgpu::", "super::wgpu::", "engine::wgpu::"];
        let text = ours.iter().fold(text, |text, path| text.replace(path, ""));
        for (needle, homes) in rules {
            if text.contains(needle) && !homes.iter().any(|home| shown.starts_with(home)) {
                wrong.push(format!("src/{shown}: `{needle}` belongs in {homes:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > 800)
        .map(|(p, text)| format!("src/{}: {} lines", p.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "over 800 lines: {}", long.join(", "));
}
