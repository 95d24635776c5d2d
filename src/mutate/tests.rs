//! Tests of the whole catalogue, on the committed tiny models.

use super::*;
use crate::convert::{ConvertOptions, convert};
use crate::formats::{AprDialect, Checkpoint, FormatKind, Index, StoredType, patch_index};
use crate::playbook::{Dialect, Format};
use crate::quant::Quantize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

const MODELS: [(&str, &str); 8] = [
    ("tiny-llama", "llama"),
    ("tiny-qwen2", "qwen2"),
    ("tiny-gpt2", "gpt2"),
    ("tiny-llama3", "llama"),
    ("tiny-mistral", "mistral"),
    ("tiny-qwen3", "qwen3"),
    ("tiny-gemma3", "gemma3"),
    ("tiny-phi3", "phi3"),
];

const RECIPES: [(Format, Option<Quantize>, Option<Dialect>); 8] = [
    (Format::Safetensors, None, None),
    (Format::Gguf, None, None),
    (Format::Apr, None, None),
    (Format::Gguf, Some(Quantize::Int8), None),
    (Format::Apr, Some(Quantize::Int4), None),
    (Format::Gguf, Some(Quantize::Q5_1), None),
    (Format::Gguf, Some(Quantize::Q4_K_M), None),
    (Format::Apr, Some(Quantize::Int4), Some(Dialect::Aprender)),
];

/// An artifact of a tiny model, made once for all tests.
fn artifact(
    model: &str,
    (format, quantize, dialect): (Format, Option<Quantize>, Option<Dialect>),
) -> PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    static MAKING: Mutex<()> = Mutex::new(());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models").join(model);
    let to = match format {
        Format::Safetensors => return source,
        Format::Gguf => FormatKind::Gguf,
        Format::Apr => FormatKind::Apr,
    };
    let aprender = dialect.is_some();
    let path = FOLDER.path().join(format!("{model}-{to}-{quantize:?}-{aprender}"));
    let _making = MAKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !path.exists() {
        let dialect = if aprender { AprDialect::Aprender } else { AprDialect::Contract };
        let allow_lossy = aprender; // it does not run all of these families
        let options = ConvertOptions {
            quantize,
            to: Some(to),
            dialect,
            allow_lossy,
            threads: Some(1),
            ..Default::default()
        };
        convert(&source, &path, &options).unwrap_or_else(|e| panic!("{e}"));
    }
    path
}

/// Where `defect` can be, in an order that its id decides.
fn grounds(defect: &Defect) -> Vec<(&'static str, usize)> {
    let mut all = Vec::new();
    for (model, family) in MODELS {
        for (i, (format, quantize, dialect)) in RECIPES.into_iter().enumerate() {
            if (defect.applies)(&Ground { format, family: Some(family), quantize, dialect }) {
                all.push((model, i));
            }
        }
    }
    let mut dice = Dice::new(7, defect.id);
    for i in (1..all.len()).rev() {
        all.swap(i, dice.below(i + 1));
    }
    all
}

/// Everything that a reader sees of an artifact, or its refusal.
fn seen(path: &Path) -> String {
    let read = |path: &Path| -> Result<String> {
        let checkpoint: Checkpoint = open(path)?;
        let model = models::open(&checkpoint)?;
        let mut text = format!("{:?}", model.config);
        for (name, weight) in &model.weights {
            // FNV-1a over the values: two models that differ in one are told apart.
            let hash = weight.to_f32()?.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, v| {
                (h ^ u64::from(v.to_bits())).wrapping_mul(0x0100_0000_01b3)
            });
            text.push_str(&format!("{name} {} {hash:x}\n", weight.tensor.shape));
        }
        let mut names: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        let tokenizer = TokenizerSpec::from_checkpoint(&checkpoint).map(without_scores);
        Ok(format!("{text}{names:?}{tokenizer:?}"))
    };
    read(path).unwrap_or_else(|e| format!("refused: {}", e.kind == crate::Kind::Internal))
}

fn bytes(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: &Path| std::fs::read(path).expect("readable");
    if !path.is_dir() {
        return [(PathBuf::new(), read(path))].into();
    }
    let files = std::fs::read_dir(path).expect("readable").map(|e| e.expect("readable").path());
    files.map(|file| (PathBuf::from(file.file_name().expect("a name")), read(&file))).collect()
}

#[test]
fn ids_are_unique_and_lines_say_what_happens() {
    assert!(DEFECTS.len() >= 40);
    let ids: BTreeSet<_> = DEFECTS.iter().map(|d| d.id).collect();
    assert_eq!(ids.len(), DEFECTS.len());
    let kebab = |id: &str| id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    for defect in DEFECTS {
        assert!(kebab(defect.id) && defect.causes.iter().all(|c| kebab(c)) && !defect.causes.is_empty());
        assert!(!defect.what.contains('\n') && defect.what.len() > 15, "{}", defect.id);
        assert!(find(defect.id).is_some_and(|d| d.id == defect.id));
    }
}

/// On several artifacts that it applies to, every defect is planted, reads otherwise than the sound artifact, and comes
/// out byte for byte alike a second time.
#[test]
fn every_defect_applies_differs_and_is_repeated_by_its_seed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut faults = Vec::new();
    for defect in DEFECTS {
        let grounds = grounds(defect);
        assert!(!grounds.is_empty(), "{} applies nowhere", defect.id);
        for (n, (model, recipe)) in grounds.into_iter().take(PER_DEFECT).enumerate() {
            let source = artifact(model, RECIPES[recipe]);
            let name = format!("{} in {model} {:?}", defect.id, RECIPES[recipe]);
            let [a, b] = ["a", "b"].map(|half| folder.path().join(format!("{}-{n}-{half}", defect.id)));
            let planted = match apply(defect, &source, &a, n as u64) {
                Ok(planted) => planted,
                Err(error) => {
                    faults.push(format!("{name}: {error}"));
                    continue;
                }
            };
            let again = apply(defect, &source, &b, n as u64).expect("planted a moment ago");
            assert!(planted == again && bytes(&a) == bytes(&b), "{name}: not the same a second time");
            let found = seen(&a);
            if found == seen(&source) {
                faults.push(format!("{name}: {} changes nothing", planted.what));
            }
            if found == "refused: true" {
                faults.push(format!("{name}: {}: an internal error", planted.what));
            }
            for path in [a, b] {
                let gone =
                    if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                gone.expect("just written");
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// How many artifacts each defect is tried on.
const PER_DEFECT: usize = 2;

#[test]
fn seeds_reach_every_layer() {
    let source = artifact("tiny-llama", RECIPES[3]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let defect = find("tensor-zeroed").expect("in the catalogue");
    let mut layers = BTreeSet::new();
    for seed in 0..40 {
        let out = folder.path().join(seed.to_string());
        let planted = apply(defect, &source, &out, seed).unwrap_or_else(|e| panic!("{e}"));
        layers.insert(planted.targets[0].split('.').next().unwrap_or_default().to_owned());
    }
    let expected: BTreeSet<String> = ["0", "1", "2", "3", "token_embd", "output"].map(str::to_owned).into();
    assert!(layers.is_subset(&expected) && layers.len() >= 5, "{layers:?}");
}

#[test]
fn nothing_is_overwritten_and_what_does_not_apply_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = artifact("tiny-llama", RECIPES[0]);
    let zero = find("tensor-zeroed").expect("in the catalogue");
    assert_eq!(
        apply(zero, &source, folder.path(), 1).expect_err("a folder is there").kind,
        crate::Kind::Usage
    );
    let bias = find("bias-zeroed").expect("in the catalogue");
    let error = apply(bias, &source, &folder.path().join("x"), 1).expect_err("llama has no biases");
    assert_eq!(error.kind, crate::Kind::Unsupported);
    assert!(error.to_string().contains("`bias-zeroed` does not apply"), "{error}");
    assert!(!folder.path().join("x").exists());
}

fn patched(src: &Path, change: &mut dyn FnMut(&mut Index)) -> String {
    let dst = tempfile::tempdir().expect("a temporary folder");
    patch_index(src, &dst.path().join("broken"), change).unwrap_or_else(|e| panic!("{e}"));
    open(&dst.path().join("broken")).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn every_part_of_an_index_can_be_changed_and_the_rest_holds() {
    for (recipe, key) in [(0, "num_hidden_layers"), (1, "llama.block_count"), (2, "num_layers")] {
        let src = artifact("tiny-llama", RECIPES[recipe]);
        assert_eq!(patched(&src, &mut |index| assert!(index.entries.len() > 30)), "");
        let unknown = patched(&src, &mut |index| {
            index.entries[3].dtype = match &index.entries[3].dtype {
                StoredType::Number(_) => StoredType::Number(250),
                StoredType::Name(_) => StoredType::Name("Q9".into()),
            };
        });
        assert!(unknown.contains("unknown dtype"), "{unknown}");
        let far = patched(&src, &mut |index| index.entries[3].offset += 1 << 40);
        assert!(far.contains("out of bounds"), "{far}");
        let twice = patched(&src, &mut |index| index.repeated_key = Some(key.into()));
        assert!(twice.contains("duplicate"), "{twice}");
    }
}
