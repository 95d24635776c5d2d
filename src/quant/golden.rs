//! Golden bytes: GGML's own blocks and what GGML makes of them, a few inline and all of `../shared/vectors`.

use super::lanes::on_every_isa;
use super::*;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use serde_json::Value as Json;
use std::path::PathBuf;

/// One random block of each blocked encoding, with the FNV-1a hash of the f32 bytes that GGML decodes it to.
const BLOCKS: &[(DType, &str, u64)] = &[
    (DType::Q4_0, "788f95b3d2d0635e4ac578b7a498447d5ce2", 0xdab4_8711_a6ae_4fb2),
    (DType::Q4_1, "da446e34784ae8d2353cbdebaa6cacb3eb44aa8f", 0x8b79_8eea_289f_9eab),
    (DType::Q5_0, "7aa93f3a3b6921666a2ffeaa800d538b8a7a93d0fe58", 0x89d6_2dba_872a_c0f1),
    (DType::Q5_1, "49afb13c9158bff1bc3435f3f2932e4a730f3b4f91e8bb6c", 0x2fef_cf76_1089_06af),
    (
        DType::Q8_0,
        "56b8fa7daaf843f1bccb30123526596a4bf60cf1eee067e984a025d7d9de5fcfe546",
        0x3ef0_85c5_4f30_2fb9,
    ),
    (
        DType::Q2_K,
        "f7aebc5b3a83539dc44253ed458b17726fef3859fd94d13c2617795755f1669f98a35c1327b1357a721718c1f72b584763e2a22f1a4fad77912fe64048458082ba57c396b6e86690dcf7c7b7e18fe0490201700f",
        0xd258_cd44_4141_a3ab,
    ),
    (
        DType::Q3_K,
        "a876b1faedfb9d252d7db02d5b853d539907c6d57ced3f4a3ded13f78bc1e191c7c552cd5a32a78a4cfd96228144c72f30e0d2d9e73a718130592bcddfa3fcfe2116b726ea1d8e776979b033e9f9a7751fccd6f07e44c0e6152e9259036dc32b926f86ffe265ea90710a61758da9",
        0x36f4_3e27_10c6_ee96,
    ),
    (
        DType::Q4_K,
        "3e87c72261bc9711e34f5fdabf73cea5087f3d083db490bdf14eb71774549570c99110488749a3579660034000e4d9cd80042cdcf850c0f83a68f7fd4e102dd26bffb90b51e17a829efbce870bf31bac4a797c98fa2a4459d9feb26586e27f91263d1f5ef6191b37c1ef3c82d947fc2318a03bcf6b91d535a116c67169a185a7b022d2e2bfc9666ede44ef07c33b473c",
        0x82b1_9a08_42bb_87bd,
    ),
    (
        DType::Q5_K,
        "9a1cd4028fbb292e1fb698ba4c3954f895e72b0d4437e5e58c362b1ace9044a1255160f65f9e455ba185a56775185905b4909a0673969499b18a72228b26b2476b5ba1ab00109cc7e56f00aa47e3bb336733ba21aa5dbc29231a2a79c7ca298027d030df154cd7df7b33de61244630840247384323b4f2b25e0f7d1e7551ae6d8180b6392d3a6bebfa919495e281010dc4ceeec99bcee8a29dc23013e6c0439e2b1e3b00247c2350a3f7f16da7d04147",
        0x0739_3b25_aadb_01c2,
    ),
    (
        DType::Q6_K,
        "d60f86486b2ff12a1851162d9c519005fdecffb4e40f3b4b8cf783bcbe27932bb7f61701d4b0c68cd7c919285e3efd36bffb2195498d04f5bcee6db99fc3ec1faaa1b34cbd718cce7524deb7969991f5cfcba80640459657e969eea3764d895cddfa607f56d769cf0f5dea3d3b3b15cf88632e01ac918074e550505f4ec072abb82c6d2a754858f9544b9ab5c0d538d6bf5cc64198d1fed8103563b2a1734c9ce2aef4812dedff18324b307c40aa941ddda5961fa9dd734a24727d502b01238ea82bb65889b566616fed49b9c37e11a85f0f",
        0x8dbb_edfc_d56a_7699,
    ),
];

/// Two blocks of [`ramp`], as GGML's reference quantisers encode them.
const ENCODED: &[(DType, &str)] = &[
    (DType::Q4_0, "00b4cf379d047be248bf269df36ad148ae15f69848bf158cf35ac037ae047be259cf269d"),
    (
        DType::Q8_0,
        "08248518ad40d467fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f0009\
         04952dbe56e77f10a239cb62f4851dae46d76f009129ba52e37b0c9e35c75ef0",
    ),
];

/// [`ramp`] as one flat tensor, as `apr convert` of aprender 0.72.3 encodes it.
const APRENDER: &[(DType, &str)] = &[
    (DType::AprQ4, "923491b3e6284a6c8eb3d5f7395b8da2c4e6ab19284a7d9fb3d5173a6c8ea2d4f6395b7d"),
    (
        DType::AprQ8,
        "0402813c8518ad40d467fc9124b94be073089d30c457ec7f14a93cd063f88d20b547dc6f\
         00ff00ff01000100ff01ff0100ff00ff01000100ff00ff01000100ff01ff0100",
    ),
];

/// 64 values from -1.94 to 2.0 in mixed order, the second half a hundred times smaller.
fn ramp() -> Vec<f32> {
    (0..64)
        .map(|i| ((f64::from(i * 37 % 64) - 31.0) / 16.0 * if i < 32 { 1.0 } else { 0.01 }) as f32)
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn fnv1a(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn the_table_is_in_order_and_whole() {
    let expected = DType::ALL
        .iter()
        .filter(|d| !matches!(d, DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8));
    assert!(CODECS.iter().map(|c| c.dtype()).eq(expected.copied()));
}

#[test]
fn inline_blocks_decode_as_ggml_does() {
    for (dtype, block, hash) in BLOCKS {
        let mut out = vec![0.0; dtype.block_len()];
        codec(*dtype).unwrap().decode(&unhex(block), &mut out);
        assert_eq!(fnv1a(&out), *hash, "{dtype}: {out:?}");
    }
}

#[test]
fn inline_rows_encode_as_ggml_and_aprender_do() {
    for (dtype, expected) in ENCODED.iter().chain(APRENDER) {
        assert_eq!(from_f32(*dtype, &[2, 32].into(), &ramp()).unwrap(), unhex(expected), "{dtype}");
    }
}

/// Half a step where a step fits both signs, a whole one where the larger side has one more, plus the
/// rounding of the stored scale (2^-11 of the value).
#[test]
fn what_comes_back_is_within_a_step() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    for round in 0..200 {
        let scale = 10f32.powi(round % 9 - 4);
        let values: Vec<f32> = (0..32).map(|_| random() * scale).collect();
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (dtype, steps) in [
            (DType::Q8_0, 0.5 / 127.0),
            (DType::Q4_0, 1.0 / 8.0),
            (DType::AprQ4, 0.5 / 7.0),
            (DType::AprQ8, 0.5 / 127.0),
        ] {
            let bytes = Bytes::from_vec(from_f32(dtype, &[32].into(), &values).unwrap());
            let back = to_f32(&Tensor { dtype, shape: [32].into(), bytes }).unwrap();
            // The last term is the coarser step of a scale below the smallest normal half.
            let bound = largest * (steps + 1.0 / 2048.0 + 1e-6) + 128.0 * 2f32.powi(-25);
            for (x, y) in values.iter().zip(&back) {
                assert!((x - y).abs() <= bound, "{dtype}: {x} came back as {y}, bound {bound}");
            }
        }
    }
}

#[test]
fn rows_are_the_rows_of_the_whole() {
    let shape = Shape::from([3, 64]);
    let values: Vec<f32> = [ramp(), ramp().iter().map(|v| v * -3.0).collect(), ramp()].concat();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::AprQ4, DType::AprQ8] {
        let bytes = Bytes::from_vec(from_f32(dtype, &shape, &values).unwrap());
        let tensor = Tensor { dtype, shape: shape.clone(), bytes };
        let whole = to_f32(&tensor).unwrap();
        let mut row = vec![0.0; 64];
        for (r, expected) in whole.chunks(64).enumerate() {
            row_to_f32(&tensor, r, &mut row).unwrap();
            assert_eq!(row, expected, "{dtype} row {r}");
        }
        assert!(row_to_f32(&tensor, 3, &mut row).is_err());
        assert!(row_to_f32(&tensor, 0, &mut row[..63]).is_err());
    }
}

#[test]
fn rows_that_straddle_flat_blocks_are_read_whole() {
    let shape = Shape::from([5, 10]);
    let values: Vec<f32> = ramp()[..50].to_vec();
    for dtype in [DType::AprQ4, DType::AprQ8] {
        let bytes = Bytes::from_vec(from_f32(dtype, &shape, &values).unwrap());
        let tensor = Tensor { dtype, shape: shape.clone(), bytes };
        let whole = to_f32(&tensor).unwrap();
        let mut row = [0.0; 10];
        for (r, expected) in whole.chunks(10).enumerate() {
            row_to_f32(&tensor, r, &mut row).unwrap();
            assert_eq!(row, expected, "{dtype} row {r}");
        }
    }
}

#[test]
fn what_cannot_be_encoded_is_refused_by_index() {
    let shape = Shape::from([2, 32]);
    let mut values = ramp();
    values[40] = f32::NAN;
    for dtype in CODECS.iter().map(|c| c.dtype()) {
        if let Err(error) = from_f32(dtype, &[2, 32].into(), &ramp()) {
            let expected = if dtype.nbytes(&shape).is_some() { Kind::Unsupported } else { Kind::Lossy };
            assert_eq!(error.kind, expected, "{dtype}");
            continue;
        }
        let error = from_f32(dtype, &shape, &values).unwrap_err();
        assert_eq!((error.kind, error.at.as_deref()), (Kind::NonFinite, Some("index 40")), "{dtype}");
    }
    values[40] = 1e9;
    for dtype in [DType::F16, DType::Q8_0, DType::Q4_0, DType::AprQ4] {
        let error = from_f32(dtype, &shape, &values).unwrap_err();
        assert_eq!((error.kind, error.at.as_deref()), (Kind::Lossy, Some("index 40")), "{dtype}");
    }
    assert_eq!(from_f32(DType::Q8_0, &[2, 33].into(), &[0.0; 66]).unwrap_err().kind, Kind::Lossy);
    assert_eq!(from_f32(DType::I8, &[1].into(), &[0.0]).unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn a_tensor_whose_bytes_do_not_fit_its_shape_is_refused() {
    for (dtype, shape, len) in [
        (DType::F32, vec![2usize, 3], 23),
        (DType::Q8_0, vec![2, 31], 66),
        (DType::F32, vec![usize::MAX, 2], 8),
        (DType::AprQ8, vec![3], 3),
    ] {
        let tensor = Tensor { dtype, shape: Shape(shape), bytes: Bytes::from_vec(vec![0; len]) };
        assert_eq!(to_f32(&tensor).unwrap_err().kind, Kind::Malformed);
        assert_eq!(row_to_f32(&tensor, 0, &mut [0.0; 3]).unwrap_err().kind, Kind::Malformed);
    }
}

/// The folder of golden bytes beside the repository, where it is there.
fn vectors() -> Option<(PathBuf, Json)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let manifest = std::fs::read(dir.join("manifest.json")).ok()?;
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
    assert_eq!(compared, 12);
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
    });
}
