//! What a writer wrote, its reader reads: names, shapes, encodings, bytes and metadata, in all three formats.

use crate::samples;
use apr_qa_runner::formats::{
    self, AprDialect, Checkpoint, Container, GgufArray, GgufValue, Payload, TensorSource, apr, gguf,
    safetensors,
};
use apr_qa_runner::quant;
use apr_qa_runner::tensor::{Bytes, DType, Shape, Tensor};
use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;

/// A tensor as drawn: its name, its encoding, its shape and its bytes.
type Drawn = (String, DType, Shape, Vec<u8>);

fn drawn(dtypes: &'static [DType]) -> impl Strategy<Value = Vec<Drawn>> {
    let tensor =
        (prop::sample::select(dtypes), prop::collection::vec(1..4usize, 0..3), 0..4usize, any::<u64>());
    let names = prop::collection::btree_set("[a-z0-9._é]{1,12}", 0..6);
    (names, prop::collection::vec(tensor, 6)).prop_map(|(names, tensors)| {
        let make = |(name, (dtype, mut dims, blocks, seed)): (String, (DType, Vec<usize>, usize, u64))| {
            // Whole blocks in a row, and now and then an empty tensor.
            dims.push(blocks * dtype.block_len());
            let shape = Shape(dims);
            let len = dtype.nbytes(&shape).expect("rows are whole blocks");
            let bytes = (0..len as u64).map(|i| (seed.wrapping_mul(i * 2 + 1) >> 32) as u8).collect();
            (name, dtype, shape, bytes)
        };
        names.into_iter().zip(tensors).map(make).collect()
    })
}

fn sources(drawn: &[Drawn]) -> Vec<TensorSource<'static>> {
    let source = |(name, dtype, shape, bytes): &Drawn| TensorSource {
        name: name.clone(),
        dtype: *dtype,
        shape: shape.clone(),
        payload: Payload::Bytes(Bytes::from_vec(bytes.clone())),
    };
    drawn.iter().map(source).collect()
}

fn same(checkpoint: &Checkpoint, drawn: &[Drawn]) -> Result<(), TestCaseError> {
    prop_assert_eq!(checkpoint.tensors().len(), drawn.len());
    for (name, dtype, shape, bytes) in drawn {
        let tensor = &checkpoint.get(name).expect("every tensor is there").tensor;
        prop_assert_eq!((tensor.dtype, &tensor.shape), (*dtype, shape), "{}", name);
        prop_assert!(*tensor.bytes == **bytes, "{}", name);
    }
    Ok(())
}

fn gguf_value() -> impl Strategy<Value = GgufValue> {
    prop_oneof![
        any::<u8>().prop_map(GgufValue::U8),
        any::<i8>().prop_map(GgufValue::I8),
        any::<u16>().prop_map(GgufValue::U16),
        any::<i16>().prop_map(GgufValue::I16),
        any::<u32>().prop_map(GgufValue::U32),
        any::<i32>().prop_map(GgufValue::I32),
        (-1e30f32..1e30).prop_map(GgufValue::F32),
        any::<bool>().prop_map(GgufValue::Bool),
        any::<String>().prop_map(GgufValue::String),
        any::<u64>().prop_map(GgufValue::U64),
        any::<i64>().prop_map(GgufValue::I64),
        (-1e300f64..1e300).prop_map(GgufValue::F64),
        prop::collection::vec(any::<String>(), 0..4).prop_map(|v| GgufValue::Array(GgufArray::String(v))),
        prop::collection::vec(any::<i32>(), 0..4).prop_map(|v| GgufValue::Array(GgufArray::I32(v))),
        prop::collection::vec(
            prop::collection::vec(any::<f64>().prop_filter("NaN", |v| !v.is_nan()), 0..3),
            0..3
        )
        .prop_map(|v| GgufValue::Array(GgufArray::Array(v.into_iter().map(GgufArray::F64).collect()))),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1e300f64..1e300).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

const GGUF_TYPES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I8,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q5_1,
    DType::Q2_K,
    DType::Q6_K,
    DType::IQ1_M,
    DType::IQ2_XS,
    DType::IQ3_S,
    DType::IQ4_NL,
    DType::TQ1_0,
    DType::MXFP4,
];
const CONTRACT_TYPES: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q4_K,
    DType::Q3_K,
];
const APRENDER_TYPES: &[DType] =
    &[DType::F32, DType::F16, DType::BF16, DType::AprQ4, DType::AprQ8, DType::Q4_K, DType::Q6_K];
const TILED_TYPES: &[DType] = &[
    DType::F16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];
const SAFETENSORS_TYPES: &[DType] = &[
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U8,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gguf(
        tensors in drawn(GGUF_TYPES),
        values in prop::collection::btree_map("[a-z._]{1,10}", gguf_value(), 0..6),
        alignment in prop::sample::select(&[None, Some(8u32), Some(32), Some(4096)]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.gguf");
        let mut metadata: Vec<_> = values.into_iter().collect();
        metadata.extend(alignment.map(|n| ("general.alignment".to_owned(), GgufValue::U32(n))));
        gguf::write(&path, &metadata, &sources(&tensors)).unwrap();
        let checkpoint = formats::open(&path).unwrap();
        same(&checkpoint, &tensors)?;
        let Container::Gguf(header) = &checkpoint.container else { panic!("a GGUF file") };
        prop_assert_eq!(&header.metadata, &metadata);
        prop_assert!(checkpoint.tensors().iter().map(|t| &t.name).eq(tensors.iter().map(|t| &t.0)), "file order");
    }

    #[test]
    fn apr(
        contract in drawn(CONTRACT_TYPES),
        aprender in drawn(APRENDER_TYPES),
        metadata in prop::collection::btree_map("[a-z._]{1,10}", json(), 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let metadata: Map<String, Json> = metadata.into_iter().collect();
        for (dialect, tensors) in [(AprDialect::Contract, &contract), (AprDialect::Aprender, &aprender)] {
            let path = dir.path().join(dialect.name());
            apr::write(&path, metadata.clone(), &sources(tensors), dialect).unwrap();
            let checkpoint = formats::open(&path).unwrap();
            same(&checkpoint, tensors)?;
            let Container::Apr(header) = &checkpoint.container else { panic!("an APR file") };
            prop_assert_eq!(header.declares_contract(), dialect == AprDialect::Contract);
            let mut found = header.metadata.clone();
            found.remove(apr::dialect::DIALECT_KEY);
            prop_assert_eq!(&found, &metadata);
            prop_assert!(fs::read(&path).unwrap().len() % 64 == 4, "padded to 64, and a footer");
        }
    }

    #[test]
    fn tiled_apr(tensors in drawn(TILED_TYPES), threads in 1..4usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.apr");
        let threads = NonZeroUsize::new(threads).expect("at least 1");
        apr::write_tiled(&path, Map::new(), &sources(&tensors), threads).unwrap();
        let checkpoint = formats::open(&path).unwrap();
        for t in checkpoint.tensors() {
            let t = &t.tensor;
            let wanted = t.shape.ndim() == 2 && t.shape.numel() > 0 && t.dtype != DType::F16;
            prop_assert_eq!(t.layout().is_some(), wanted, "{} {}", t.dtype, &t.shape);
            // Decoded from tiles, before the plain blocks are asked for.
            let decoded = quant::to_f32(t).expect("a weight");
            let plain = Tensor { bytes: Bytes::from_vec(t.bytes.to_vec()), ..t.clone() };
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            prop_assert!(decoded.iter().zip(&quant::to_f32(&plain).unwrap()).all(same));
        }
        same(&checkpoint, &tensors)?;
    }

    #[test]
    fn safetensors(
        tensors in drawn(SAFETENSORS_TYPES),
        metadata in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let path = dir.path().join("model.safetensors");
        safetensors::write(&path, &metadata, &sources(&tensors)).unwrap();
        // By the folder and by the file in it.
        for opened in [dir.path(), &path] {
            let checkpoint = formats::open(opened).unwrap();
            same(&checkpoint, &tensors)?;
            let Container::Hf(folder) = &checkpoint.container else { panic!("an HF folder") };
            prop_assert_eq!(&folder.weights_metadata, &metadata);
            for t in checkpoint.tensors() {
                prop_assert_eq!(t.offset % t.tensor.dtype.block_bytes() as u64, 0, "{} is aligned", t.name);
            }
        }
    }
}

#[test]
fn the_order_of_tensors_changes_no_byte_of_apr_and_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = || {
        [("b", DType::F16), ("a", DType::F32), ("c", DType::F16)].map(|(n, d)| samples::values(n, d, &[3, 5]))
    };
    let mut files = BTreeSet::new();
    for (i, turn) in [[0, 1, 2], [2, 0, 1], [1, 2, 0]].iter().enumerate() {
        let mut drawn = tensors().map(Some);
        let turned: Vec<_> = turn.iter().map(|&t| drawn[t].take().unwrap()).collect();
        let [st, ap] = ["safetensors", "apr"].map(|ext| dir.path().join(format!("{i}.{ext}")));
        safetensors::write(&st, &BTreeMap::new(), &turned).unwrap();
        apr::write(&ap, Map::new(), &turned, AprDialect::Contract).unwrap();
        files.extend([fs::read(st).unwrap(), fs::read(ap).unwrap()]);
    }
    assert_eq!(files.len(), 2);
}

#[test]
fn gguf_dimensions_are_stored_innermost_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    gguf::write(&path, &[], &[samples::values("w", DType::F32, &[2, 3])]).unwrap();
    let bytes = fs::read(path).unwrap();
    // Magic, version, counts, name length, name; then two dimensions, 3 before 2.
    let dims =
        [2u32.to_le_bytes().to_vec(), 3u64.to_le_bytes().to_vec(), 2u64.to_le_bytes().to_vec()].concat();
    assert_eq!(bytes[24 + 8 + 1..][..20], dims);
}

#[test]
fn what_gguf_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let write = |metadata: &[(String, GgufValue)], tensor| {
        gguf::write(&path, metadata, &[tensor]).unwrap_err().to_string()
    };
    assert!(write(&[], samples::values("w", DType::AprQ8, &[32])).contains("GGUF has no APR_Q8"));
    assert!(write(&[], samples::values(&"w".repeat(64), DType::F32, &[1])).contains("63 bytes"));
    assert!(write(&[], samples::values("w", DType::F32, &[1; 5])).contains("more than 4"));
    let twice = [("k".to_owned(), GgufValue::U8(1)), ("k".to_owned(), GgufValue::U8(2))];
    assert!(write(&twice, samples::values("w", DType::F32, &[1])).contains("`k` is given twice"));
    let odd = [("general.alignment".to_owned(), GgufValue::U32(24))];
    assert!(write(&odd, samples::values("w", DType::F32, &[1])).contains("power of two"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
