//! Every mistake on random weights, as they are and under quantisation.

use super::rows::{reordered, transpose};
use super::settings::of_settings;
use super::*;
use crate::models::RowOrder;
use crate::quant;
use crate::tensor::{Bytes, Tensor};
use proptest::prelude::*;
use std::collections::BTreeMap;

const HEADS: Heads = Heads { queries: 4, keys: 2, width: 32 };
const ROWS: usize = 64;
const WIDTH: usize = 256;

/// Weights as trained ones are: a bell curve, rows of several sizes.
fn weights(n: usize, seed: u64) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // A multiplicative generator is noise enough: no two orders of it look alike.
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| 0.05 * (next() + next() + next() + next())).collect()
}

fn through(dtype: DType, shape: &Shape, values: &[f32]) -> Vec<f32> {
    let bytes = quant::from_f32(dtype, shape, values).expect("whole blocks");
    quant::to_f32(&Tensor { dtype, shape: shape.clone(), bytes: Bytes::from_vec(bytes) }).expect("decodes")
}

/// Ids of the causes of a tensor that was changed and then encoded.
fn ids(name: &str, dtype: DType, original: &[f32], changed: &[f32]) -> Vec<&'static str> {
    let shape = if name.ends_with(".bias") {
        Shape::from([original.len()])
    } else {
        Shape::from([original.len() / WIDTH, WIDTH])
    };
    let found = if dtype.is_quantized() { through(dtype, &shape, changed) } else { changed.to_vec() };
    raw(name, dtype, &shape, original, &found)
}

fn raw(name: &str, dtype: DType, shape: &Shape, original: &[f32], found: &[f32]) -> Vec<&'static str> {
    let suspect = Suspect {
        name,
        shape,
        heads: Some(HEADS),
        original,
        found,
        dtype,
        over: true,
        originals: &no_others,
        candidates: &no_others,
    };
    causes(&suspect).into_iter().map(|cause| cause.id).collect()
}

const ENCODINGS: [DType; 4] = [DType::F32, DType::Q8_0, DType::Q4_0, DType::Q4_K];

#[test]
fn every_mistake_comes_first_also_under_quantization() {
    let k = weights(ROWS * WIDTH, 3);
    let (right, wrong) = (RowOrder::RopePairs { head_dim: 32 }, RowOrder::RopePairs { head_dim: 16 });
    let by_queries = reordered(&reordered(&k, ROWS, wrong, false), ROWS, right, true);
    let mut swapped = k.clone();
    swapped.chunks_exact_mut(2 * WIDTH).for_each(|pair| pair.rotate_left(WIDTH));
    let rotated: Vec<f32> =
        k.chunks_exact(WIDTH).flat_map(|row| [&row[WIDTH - 32..], &row[..WIDTH - 32]].concat()).collect();
    let mut offset = k.clone();
    offset.rotate_left(256);
    let end = offset.len() - 256;
    offset[end..].copy_from_slice(&weights(256, 77));
    let bf16: Vec<f32> =
        k.iter().map(|v| half::f16::from_bits(half::bf16::from_f32(*v).to_bits()).to_f32()).collect();
    let map = |f: fn(f32) -> f32| -> Vec<f32> { k.iter().map(|v| f(*v)).collect() };
    for dtype in ENCODINGS {
        for (name, changed, expected) in [
            ("0.k_proj.weight", reordered(&k, ROWS, right, false), "rows-interleaved"),
            ("0.q_proj.weight", reordered(&k, ROWS, right, true), "rows-interleaved"),
            ("0.k_proj.weight", by_queries.clone(), "rows-permuted-by-wrong-heads"),
            ("0.up_proj.weight", transpose(&k, ROWS, WIDTH), "transposed"),
            ("0.up_proj.weight", swapped.clone(), "rows-permuted"),
            ("token_embd.weight", swapped.clone(), "embedding-permuted"),
            ("0.up_proj.weight", rotated.clone(), "block-rotated"),
            ("0.up_proj.weight", offset.clone(), "offset"),
            ("0.up_proj.weight", bf16.clone(), "bf16-as-f16"),
            ("0.up_proj.weight", map(|v| v * 1.05), "scaled"),
            ("0.up_proj.weight", map(|v| v * 3.0), "scaled"),
            ("0.up_proj.weight", map(|v| v * 0.9), "scaled"),
            ("0.up_proj.weight", map(|v| -v), "sign-flipped"),
            ("0.attn_norm.weight", map(|v| v + 1.0), "norm-plus-one"),
            ("0.attn_norm.weight", map(|v| v - 1.0), "norm-minus-one"),
            ("0.up_proj.weight", map(|_| 0.0), "zeroed"),
        ] {
            if name.contains("norm") && dtype != DType::F32 {
                continue; // norms are never quantised
            }
            let found = ids(name, dtype, &k, &changed);
            assert_eq!(found.first(), Some(&expected), "{dtype} {name}: {found:?}");
        }
    }
}

#[test]
fn biases_are_permuted_and_lost_too() {
    let bias = weights(ROWS, 5);
    let right = RowOrder::RopePairs { head_dim: 32 };
    let order = reordered(&bias, ROWS, right, false);
    assert_eq!(ids("0.k_proj.bias", DType::F32, &bias, &order), ["rows-interleaved"]);
    assert_eq!(ids("0.k_proj.bias", DType::F32, &bias, &[0.0; ROWS]), ["bias-zeroed"]);
}

#[test]
fn damaged_blocks_are_found_among_sound_ones() {
    let w = weights(ROWS * WIDTH, 6);
    let shape = Shape::from([ROWS, WIDTH]);
    // The scale is the first half of a Q4_0 and a Q8_0 block, and of a Q4_K super-block.
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_K] {
        let bytes = quant::from_f32(dtype, &shape, &w).expect("encodes");
        for (mask, expected) in [(0x80u8, "sign-flipped"), (0x10, "bit-flipped"), (0x40, "bit-flipped")] {
            let mut broken = bytes.clone();
            broken[3 * dtype.block_bytes() + 1] ^= mask;
            let tensor = Tensor { dtype, shape: shape.clone(), bytes: Bytes::from_vec(broken) };
            let found = raw("0.up_proj.weight", dtype, &shape, &w, &quant::to_f32(&tensor).expect("decodes"));
            // Of a K block with its scale negated, the minimum still pulls the other way: the line is another.
            let ok = found.first() == Some(&expected) || (dtype == DType::Q4_K && !found.is_empty());
            assert!(ok, "{dtype} {mask:#x}: {found:?}");
        }
    }
}

#[test]
fn nibbles_in_another_order_are_named() {
    let w = weights(ROWS * WIDTH, 7);
    let shape = Shape::from([ROWS, WIDTH]);
    for (dtype, start) in [(DType::Q4_0, 2), (DType::Q4_1, 4), (DType::Q4_K, 16)] {
        let mut bytes = quant::from_f32(dtype, &shape, &w).expect("encodes");
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            block[start..].iter_mut().for_each(|b| *b = b.rotate_left(4));
        }
        let tensor = Tensor { dtype, shape: shape.clone(), bytes: Bytes::from_vec(bytes) };
        let found = raw("0.up_proj.weight", dtype, &shape, &w, &quant::to_f32(&tensor).expect("decodes"));
        assert_eq!(found.first(), Some(&"nibble-order"), "{dtype}: {found:?}");
    }
}

#[test]
fn a_wrong_label_is_named() {
    let w = weights(ROWS * WIDTH, 8);
    let shape = Shape::from([ROWS, WIDTH]);
    for (of, as_) in [(DType::Q4_0, DType::Q4_K), (DType::Q5_K, DType::Q5_0), (DType::F16, DType::BF16)] {
        let bytes = quant::from_f32(of, &shape, &w).expect("encodes");
        let tensor = Tensor { dtype: as_, shape: shape.clone(), bytes: Bytes::from_vec(bytes) };
        let found = raw("0.up_proj.weight", as_, &shape, &w, &quant::to_f32(&tensor).expect("decodes"));
        assert_eq!(found.first(), Some(&"wrong-dtype"), "{of} as {as_}: {found:?}");
    }
}

#[test]
fn a_lost_minimum_and_scrambled_fields_are_named() {
    let w = weights(ROWS * WIDTH, 11);
    let shape = Shape::from([ROWS, WIDTH]);
    // The second half of a Q4_1 and of a Q4_K block scales its minimum.
    for dtype in [DType::Q4_1, DType::Q4_K] {
        let mut bytes = quant::from_f32(dtype, &shape, &w).expect("encodes");
        bytes.chunks_exact_mut(dtype.block_bytes()).for_each(|block| block[2..4].fill(0));
        let tensor = Tensor { dtype, shape: shape.clone(), bytes: Bytes::from_vec(bytes) };
        let found = raw("0.up_proj.weight", dtype, &shape, &w, &quant::to_f32(&tensor).expect("decodes"));
        assert_eq!(found.first(), Some(&"minimum-lost"), "{dtype}: {found:?}");
    }
    let other = through(DType::Q4_K, &shape, &weights(ROWS * WIDTH, 12));
    let found = raw("0.up_proj.weight", DType::Q4_K, &shape, &w, &other);
    assert!(!found.is_empty(), "what has nothing of the original is not passed over");
}

#[test]
fn noise_is_told_from_rounding() {
    let w = weights(ROWS * WIDTH, 9);
    let drowned: Vec<f32> = w.iter().zip(weights(ROWS * WIDTH, 10)).map(|(a, b)| a + 0.1 * b).collect();
    for dtype in [DType::F32, DType::Q8_0] {
        assert_eq!(ids("0.up_proj.weight", dtype, &w, &drowned).first(), Some(&"noise"), "{dtype}");
    }
}

#[test]
fn another_tensor_in_its_place_is_named_with_what_became_of_that_one() {
    let original: BTreeMap<String, Vec<f32>> = (0..4u64)
        .flat_map(|l| {
            let of =
                move |part: &str, k| (format!("{l}.{part}.weight"), weights(ROWS * WIDTH, 100 + 10 * l + k));
            [of("q_proj", 0), of("o_proj", 1), of("gate_proj", 2), of("up_proj", 3)]
        })
        .collect();
    let shape = Shape::from([ROWS, WIDTH]);
    let cause = |candidate: &BTreeMap<String, Vec<f32>>, name: &str| {
        let suspect = Suspect {
            name,
            shape: &shape,
            heads: None,
            original: &original[name],
            found: &candidate[name],
            dtype: DType::Q4_0,
            over: true,
            originals: &|n| original.get(n).cloned(),
            candidates: &|n| candidate.get(n).cloned(),
        };
        causes(&suspect).into_iter().next().map(|c| (c.id, c.sentence)).expect("a cause")
    };
    let rounded = |n: &str| through(DType::Q4_0, &shape, &original[n]);
    let whole: BTreeMap<String, Vec<f32>> = original.keys().map(|n| (n.clone(), rounded(n))).collect();
    let with = |pairs: &[(&str, &str)]| {
        let mut other = whole.clone();
        for (to, from) in pairs {
            other.insert((*to).to_owned(), rounded(from));
        }
        other
    };
    let (gate, up) = ("1.gate_proj.weight", "1.up_proj.weight");
    let (id, sentence) = cause(&with(&[(gate, up), (up, gate)]), gate);
    assert!(id == "swapped-tensors" && sentence.contains("changed places"), "{sentence}");
    let (id, sentence) = cause(&with(&[("2.q_proj.weight", "1.q_proj.weight")]), "2.q_proj.weight");
    assert!(id == "duplicated-layer" && sentence.contains("layer 1 is there twice"), "{sentence}");
    let shifted: Vec<_> =
        (0..3).map(|l| (format!("{l}.o_proj.weight"), format!("{}.o_proj.weight", l + 1))).collect();
    let pairs: Vec<(&str, &str)> = shifted.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let (id, sentence) = cause(&with(&pairs), "1.o_proj.weight");
    assert!(id == "shifted-layer" && sentence.contains("layer 2"), "{sentence}");
}

#[test]
fn settings_have_their_ids() {
    let settings = |theta: &str, eps: &str, layers: &str| {
        BTreeMap::from([
            ("rope_theta".to_owned(), theta.to_owned()),
            ("norm_eps".to_owned(), eps.to_owned()),
            ("n_layers".to_owned(), layers.to_owned()),
        ])
    };
    let a = settings("10000", "0.00001", "4");
    let found: Vec<_> = of_settings(&a, &settings("500000", "0.000001", "3")).iter().map(|c| c.id).collect();
    assert_eq!(found, ["dropped-layer", "rope-theta", "norm-eps"]);
    assert!(of_settings(&a, &a).is_empty());
}

#[test]
fn lengths_that_differ_have_no_cause_in_values() {
    assert!(raw("0.q_proj.weight", DType::F32, &Shape::from([2, 2]), &[1.0; 4], &[1.0; 6]).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rounding_is_no_mistake(seed in any::<u64>(), at in 0..ENCODINGS.len()) {
        let q = weights(ROWS * WIDTH, seed);
        let shape = Shape::from([ROWS, WIDTH]);
        let found = through(ENCODINGS[at], &shape, &q);
        let suspect = Suspect {
            name: "0.q_proj.weight", shape: &shape, heads: Some(HEADS), original: &q, found: &found,
            dtype: ENCODINGS[at], over: false, originals: &no_others, candidates: &no_others,
        };
        prop_assert_eq!(causes(&suspect), vec![]);
    }

    #[test]
    fn other_weights_have_no_cause(seed in any::<u64>()) {
        let (a, b) = (weights(ROWS * WIDTH, seed), weights(ROWS * WIDTH, !seed));
        let found = ids("0.k_proj.weight", DType::F32, &a, &b);
        prop_assert!(found.is_empty() || found == ["noise"], "{found:?}");
    }
}
