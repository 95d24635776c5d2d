//! What holds for every encoding, on a few blocks of GGML's and aprender's own and on arbitrary bytes and values.

use super::lanes::on_every_isa;
use super::*;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use proptest::prelude::*;

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

/// A few blocks of any encoding, of any bytes.
fn any_blocks() -> impl Strategy<Value = (DType, Vec<u8>)> {
    (0..CODECS.len(), 1..4usize).prop_flat_map(|(i, blocks)| {
        let dtype = CODECS[i].dtype();
        // `AprQ8` has its scale once, before the elements.
        let scale = if dtype == DType::AprQ8 { 4 } else { 0 };
        let size = blocks * dtype.block_bytes() + scale;
        (Just(dtype), proptest::collection::vec(any::<u8>(), size))
    })
}

/// Rows of 256 columns, of magnitudes below `largest` down to `2^-halvings` of it.
fn any_rows(largest: f32, halvings: i32) -> impl Strategy<Value = Vec<f32>> {
    let value = (-largest..largest, -halvings..1).prop_map(|(v, e)| v * 2f32.powi(e));
    let sparse = prop_oneof![3 => value, 1 => Just(0.0f32), 1 => Just(-0.0f32), 1 => Just(0.5f32)];
    (1..4usize).prop_flat_map(move |rows| proptest::collection::vec(sparse.clone(), rows * 256))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_decode_and_what_is_finite_encodes_to_as_many(blocks in any_blocks()) {
        let (dtype, bytes) = blocks;
        let codec = codec(dtype).unwrap();
        let scale = if dtype == DType::AprQ8 { 4 } else { 0 };
        let elements = (bytes.len() - scale) / dtype.block_bytes() * dtype.block_len();
        let mut values = vec![0.0; elements];
        codec.decode(&bytes, &mut values);
        let mut back = Vec::new();
        if codec.encode(&values, &mut back).is_ok() {
            prop_assert_eq!(back.len(), bytes.len(), "{}", dtype);
        }
    }

    /// So threads may share a tensor by ranges of rows, on any instruction set.
    #[test]
    fn rows_encode_alone_as_among_others(values in any_rows(3e4, 24), weigh in any::<bool>()) {
        let importance: Vec<f32> = (0..256).map(|i| (i * 37 % 64) as f32 / 16.0).collect();
        let importance = weigh.then_some(&importance[..]);
        for codec in CODECS.iter().filter(|c| c.dtype() != DType::AprQ8) {
            let mut first: Option<Vec<u8>> = None;
            on_every_isa(|_| {
                let (mut whole, mut single) = (Vec::new(), Vec::new());
                if codec.encode_rows(&values, 256, importance, &mut whole).is_err() {
                    return;
                }
                for row in values.chunks(256) {
                    codec.encode_rows(row, 256, importance, &mut single).unwrap();
                }
                assert!(whole == single, "{} rows", codec.dtype());
                let first = first.get_or_insert_with(|| whole.clone());
                assert!(*first == whole, "{} on two instruction sets", codec.dtype());
            });
        }
    }

    /// Only ratios of importances matter: a power of two scales every sum exactly, where none overflows.
    #[test]
    fn importance_has_no_unit(values in any_rows(1.0, 6), exponent in -6..6i32) {
        let one: Vec<f32> = (0..256).map(|i| 0.25 + (i * 37 % 64) as f32 / 16.0).collect();
        let other: Vec<f32> = one.iter().map(|w| w * 2f32.powi(exponent)).collect();
        let shape = Shape::from([values.len() / 256, 256]);
        for codec in CODECS {
            let of = |w: &[f32]| from_f32_weighted(codec.dtype(), &shape, &values, Some(w)).ok();
            prop_assert!(of(&one) == of(&other), "{}", codec.dtype());
        }
    }
}

#[test]
fn an_importance_that_does_not_fit_is_refused() {
    let shape = Shape::from([2, 32]);
    let of = |w: &[f32]| from_f32_weighted(DType::Q4_0, &shape, &ramp(), Some(w)).map_err(|e| (e.kind, e.at));
    assert!(of(&[1.0; 32]).is_ok());
    assert_eq!(of(&[1.0; 64]), Err((Kind::Contract, None)));
    let mut one_bad = [1.0; 32];
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        one_bad[5] = bad;
        assert_eq!(of(&one_bad), Err((Kind::NonFinite, Some("column 5".to_owned()))), "{bad}");
    }
}

/// The half of a scale or minimum would be infinite in every one of these.
#[test]
fn rows_beyond_every_scale_are_refused_by_their_largest_element() {
    let mut values = vec![0.5; 512];
    values[300] = -3e38;
    for dtype in CODECS.iter().map(|c| c.dtype()).filter(|d| d.is_quantized() && *d != DType::AprQ8) {
        for importance in [None, Some(&[1.0; 256][..])] {
            match from_f32_weighted(dtype, &[2, 256].into(), &values, importance) {
                Err(error) if error.kind == Kind::Unsupported => {}
                Err(error) => {
                    assert_eq!(
                        (error.kind, error.at.as_deref()),
                        (Kind::Lossy, Some("index 300")),
                        "{dtype}"
                    );
                }
                Ok(_) => panic!("{dtype} holds -3e38"),
            }
        }
    }
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
