//! Golden bytes in files: the project's own in `oracle/vectors` (made by `oracle/gen_vectors.py`) and, where that folder
//! lies beside the repository, all of `../shared/vectors`.
//!
//! Every encoding on every instruction set of this processor: 0 differing bytes.

use super::lanes::on_every_isa;
use super::*;
use crate::tensor::{DType, Shape};
use serde_json::Value as Json;
use std::path::PathBuf;

fn own(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("oracle/vectors").join(file)
}

fn own_manifest() -> Json {
    serde_json::from_slice(&std::fs::read(own("vectors.json")).unwrap()).unwrap()
}

#[test]
fn own_rows_encode_as_ggml_quantize_chunk_does() {
    let manifest = own_manifest();
    let names: Vec<&str> = manifest["rows"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    let (values, importance) = (read_f32(own("rows.f32")), read_f32(own("importance.f32")));
    let shape = Shape::from([names.len(), importance.len()]);
    on_every_isa(|isa| {
        let mut compared = 0;
        for codec in CODECS {
            let dtype = codec.dtype();
            let plain = std::fs::read(own(&format!("{dtype}.bin"))).map(|expected| (None, expected));
            let weighted = std::fs::read(own(&format!("{dtype}.weighted.bin")))
                .map(|expected| (Some(&importance[..]), expected));
            for (importance, expected) in plain.into_iter().chain(weighted) {
                let found = from_f32_weighted(dtype, &shape, &values, importance).unwrap();
                let row_bytes = expected.len() / names.len();
                let pairs = found.chunks(row_bytes).zip(expected.chunks(row_bytes));
                for (name, (found, expected)) in names.iter().zip(pairs) {
                    let differing = found.iter().zip(expected).position(|(a, b)| a != b);
                    let weighted = importance.is_some();
                    assert!(
                        found == expected,
                        "{dtype} {name} weighted {weighted} {isa:?}: first differing byte {differing:?}"
                    );
                }
                compared += 1;
            }
        }
        assert_eq!(compared, 12 + 9);
        println!("oracle/vectors: {compared} encodings of {} rows are equal on {isa:?}", names.len());
    });
}

#[test]
fn own_random_blocks_decode_as_ggml_does() {
    let manifest = own_manifest();
    let blocks = manifest["blocks"].as_object().unwrap();
    assert_eq!(blocks.len(), 24);
    for (name, hashes) in blocks {
        let dtype = DType::from_name(name).unwrap();
        let bytes = std::fs::read(own(&format!("{name}.blocks.bin"))).unwrap();
        let mut out = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
        codec(dtype).unwrap().decode(&bytes, &mut out);
        for (n, (part, hash)) in out.chunks(out.len() / 8).zip(hashes.as_array().unwrap()).enumerate() {
            let bits = part.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits());
            let hash = u64::from_str_radix(hash.as_str().unwrap(), 16).unwrap();
            let found = bits
                .flat_map(u32::to_le_bytes)
                .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            assert_eq!(found, hash, "{name}, part {n}");
        }
    }
}

/// The folder of golden bytes beside the repository, where it is there.
fn vectors() -> Option<(PathBuf, Json)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let Ok(manifest) = std::fs::read(dir.join("manifest.json")) else {
        println!("../shared/vectors is not there");
        return None;
    };
    Some((dir, serde_json::from_slice(&manifest).expect("the manifest is JSON")))
}

fn read_f32(path: PathBuf) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn random_blocks_decode_bit_for_bit() {
    let Some((dir, manifest)) = vectors() else { return };
    let mut compared = 0;
    for (name, entry) in manifest["random"].as_object().unwrap() {
        let Some(codec) = DType::from_name(name).and_then(|d| codec(d).ok()) else { continue };
        let bytes = std::fs::read(dir.join(entry["input"].as_str().unwrap())).unwrap();
        let expected = read_f32(dir.join(entry["output"].as_str().unwrap()));
        let mut out = vec![0.0; expected.len()];
        codec.decode(&bytes, &mut out);
        for (i, (a, b)) in out.iter().zip(&expected).enumerate() {
            assert!(
                a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                "{name} element {i}: {a:e} is not {b:e}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, 24);
    println!("../shared/vectors: random blocks of {compared} encodings decode alike");
}

#[test]
fn quantisers_equal_ggml_quantize_chunk() {
    let Some((dir, manifest)) = vectors() else { return };
    on_every_isa(|isa| {
        let mut compared = 0;
        for (name, case) in manifest["cases"].as_object().unwrap() {
            let values = read_f32(dir.join(case["input"].as_str().unwrap()));
            let importance = case["imatrix"].as_str().map(|file| read_f32(dir.join(file)));
            let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
            for (key, entry) in case["quantized"].as_object().unwrap() {
                let (dtype, weighted) = match key.strip_suffix(".imatrix") {
                    Some(dtype) => (dtype, true),
                    None => (key.as_str(), false),
                };
                let dtype = DType::from_name(dtype).unwrap();
                let importance = importance.as_deref().filter(|_| weighted);
                let expected = std::fs::read(dir.join(entry["file"].as_str().unwrap())).unwrap();
                let found = from_f32_weighted(dtype, &Shape(shape.clone()), &values, importance).unwrap();
                let differing = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(found == expected, "{name} {key} {isa:?}: first differing byte {differing:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 188);
        println!("../shared/vectors: {compared} encodings are equal on {isa:?}");
    });
}
