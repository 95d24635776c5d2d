//! `contracts/tensor-layout.yaml` against what readers, writers and families really do.

use apr_qa_runner::contract::families::Role;
use apr_qa_runner::contract::layout::{Dimensions, Layout};
use apr_qa_runner::convert::{ConvertOptions, convert};
use apr_qa_runner::formats::{self, AprDialect, FormatKind, TensorSource, apr, gguf, safetensors};
use apr_qa_runner::models::{FAMILIES, canonical_tensors};
use apr_qa_runner::tensor::{Bytes, DType, Shape, Tensor};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn every_format_has_its_row_and_no_other_is_listed() {
    let law = Layout::builtin();
    let kinds = [FormatKind::HfFolder, FormatKind::Gguf, FormatKind::Apr];
    assert_eq!(law.formats.len(), kinds.len());
    for kind in kinds {
        assert_eq!(law.format(kind.name()).name, kind.name());
    }
    assert!(!law.bytes_change && law.version == "1.0");
}

/// Families add tensors; what they share has the law's GGUF name and shape.
#[test]
fn families_obey_the_law() {
    let law = Layout::builtin();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for family in FAMILIES {
        let contract = family.contract();
        for row in &contract.tensors {
            let Some(lawful) = law.tensor(&row.name) else {
                let shared = matches!(row.role, Role::Embedding | Role::Head | Role::Linear);
                assert!(!shared || row.name.ends_with(".bias"), "{}: {} has no law", family.id(), row.name);
                continue;
            };
            *met.entry(&lawful.name).or_default() += 1;
            assert_eq!(row.shape, lawful.apr_shape, "{} {}", family.id(), row.name);
            let fused = contract.tensors.iter().filter(|other| other.gguf == row.gguf).count() > 1;
            assert!(fused || row.gguf == lawful.gguf, "{}: {} for {}", family.id(), row.gguf, lawful.gguf);
        }
    }
    for lawful in &law.tensors {
        assert!(met.contains_key(lawful.name.as_str()), "no family has {}", lawful.name);
    }
}

/// The sizes that stand behind `name` in the head of a file: a GGUF has a 32-bit count, an APR a byte of dtype and
/// one of count.
fn sizes_in_file(file: &[u8], name: &str, kind: FormatKind) -> Vec<u64> {
    let length: Vec<u8> = match kind {
        FormatKind::Gguf => (name.len() as u64).to_le_bytes().to_vec(),
        FormatKind::Apr | FormatKind::HfFolder => (name.len() as u16).to_le_bytes().to_vec(),
    };
    let needle = [length.as_slice(), name.as_bytes()].concat();
    let at =
        file.windows(needle.len()).position(|w| w == needle).expect("the name is in the head") + needle.len();
    let (count, mut at) = match kind {
        FormatKind::Gguf => {
            (u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize, at + 4)
        }
        FormatKind::Apr | FormatKind::HfFolder => (usize::from(file[at + 1]), at + 2),
    };
    let mut sizes = Vec::new();
    for _ in 0..count {
        sizes.push(u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes")));
        at += 8;
    }
    sizes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the shapes: sizes stand in the order of the law, data begin where it says, and no byte changes.
    #[test]
    fn writers_keep_the_law(shapes in proptest::collection::vec(proptest::collection::vec(1usize..9, 1..4), 1..5)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let law = Layout::builtin();
        let tensors: Vec<(String, Tensor)> = shapes.iter().enumerate().map(|(i, dims)| {
            let shape = Shape(dims.clone());
            let bytes: Vec<u8> = (0..shape.numel()).flat_map(|k| (k as f32 + 0.5 * i as f32).to_le_bytes()).collect();
            (format!("tensor.{i}"), Tensor { dtype: DType::F32, shape, bytes: Bytes::from_vec(bytes) })
        }).collect();
        let sources: Vec<TensorSource> = tensors.iter().map(|(name, t)| TensorSource::stored(name, t)).collect();
        for kind in [FormatKind::Gguf, FormatKind::Apr] {
            let path = folder.path().join(kind.name());
            match kind {
                FormatKind::Gguf => gguf::write(&path, &[], &sources),
                FormatKind::Apr | FormatKind::HfFolder => {
                    apr::write(&path, serde_json::Map::new(), &sources, AprDialect::Contract)
                }
            }.expect("written");
            let raw = fs::read(&path).expect("readable");
            let opened = formats::open(&path).expect("readable");
            let lawful = law.format(kind.name());
            for (name, t) in &tensors {
                let row_major: Vec<u64> = t.shape.0.iter().map(|d| *d as u64).collect();
                prop_assert_eq!(sizes_in_file(&raw, name, kind), lawful.dimensions.ordered(&row_major));
                let back = opened.get(name).expect("stored");
                prop_assert_eq!(&back.tensor.shape, &t.shape);
                prop_assert_eq!(&*back.tensor.bytes, &*t.bytes);
                prop_assert_eq!(back.offset % lawful.alignment, 0);
                let at = back.offset as usize;
                prop_assert_eq!(&raw[at..at + t.bytes.len()], &*t.bytes, "the payload stands in the file as it is");
            }
        }
    }

    #[test]
    fn an_order_of_sizes_is_its_own_inverse(shape in proptest::collection::vec(0u64..1000, 0..6)) {
        for order in [Dimensions::OutermostFirst, Dimensions::InnermostFirst] {
            prop_assert_eq!(order.ordered(&order.ordered(&shape)), shape.clone());
        }
    }
}

/// A conversion of a whole model: the payload of every tensor is the source's, whole rows of q and k apart.
#[test]
fn conversions_change_no_payload() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
    for slug in ["tiny-llama", "tiny-qwen2"] {
        let apr_file = folder.path().join(format!("{slug}.apr"));
        let gguf_file = folder.path().join(format!("{slug}.gguf"));
        let options = ConvertOptions { quantize: None, ..ConvertOptions::default() };
        convert(&models.join(slug), &apr_file, &options).expect("converts");
        convert(&apr_file, &gguf_file, &options).expect("converts");
        let (a, b) =
            (formats::open(&apr_file).expect("readable"), formats::open(&gguf_file).expect("readable"));
        let (x, y) = (canonical_tensors(&a).expect("sound"), canonical_tensors(&b).expect("sound"));
        assert_eq!(x.len(), y.len());
        let mut compared = 0;
        for from in &x {
            let to = y.iter().find(|t| t.name == from.name).expect("the same tensors");
            let (p, q) =
                (&a.get(&from.stored).expect("stored").tensor, &b.get(&to.stored).expect("stored").tensor);
            assert_eq!(p.shape, q.shape, "{}", from.name);
            if p.dtype == q.dtype && !from.name.contains("q_proj") && !from.name.contains("k_proj") {
                assert!(*p.bytes == *q.bytes, "{slug} {}", from.name);
                compared += 1;
            }
        }
        assert!(compared > 20, "only {compared} compared");
    }
}

#[test]
fn safetensors_written_here_begin_on_their_alignment() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/models");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("folder");
    convert(
        &models.join("tiny-gpt2"),
        &out,
        &ConvertOptions { to: Some(FormatKind::HfFolder), ..ConvertOptions::default() },
    )
    .expect("converts");
    let bytes = fs::read(out.join("model.safetensors")).expect("written");
    let alignment = Layout::builtin().format("safetensors").alignment;
    let parsed =
        safetensors::parse(Bytes::from_vec(bytes), Path::new("model.safetensors")).expect("readable");
    let first = parsed.tensors.iter().map(|t| t.offset).min().expect("tensors");
    assert_eq!(first % alignment, 0, "the data section begins on the alignment");
}
