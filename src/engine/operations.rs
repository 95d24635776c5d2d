//! Every operation of the `cpu` backend against the reference, within the tolerance of its contract, on every
//! instruction set of this processor.

use super::cpu::elementwise::{Gelu, GeluMul, SiluMul};
use super::cpu::{Cache, Cpu, Isa, Numerics};
use super::random_model::{Random, tensor};
use super::reference::{self, Reference};
use super::{Activation, Backend, Heads, Linear, Norm, NormRule, Part, Rope};
use crate::contract::kernels::Kernel;
use crate::models::{NormKind, Position, RopeScaling, RowOrder, Weight};
use crate::tensor::DType;
use std::collections::HashMap;

/// Sizes with partial vectors, partial tiles and several of both: tokens, rows, columns.
const SIZES: [(usize, usize, usize); 4] = [(1, 37, 32), (2, 5, 96), (13, 131, 544), (7, 64, 1536)];

/// What every operation of these tests is.
const SOUND: &str = "sound operands, and memory for them";

fn backends() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu::with(isa, 2, Numerics::Exact).expect("threads can be made"))
}

/// Runs a block for the `cpu` backend on every instruction set, and for the GPU where there is an adapter.
macro_rules! on_every_backend {
    ($b:ident => $body:block) => {
        for $b in backends() $body
        #[cfg(feature = "wgpu")]
        if let Some($b) = super::wgpu::for_tests(Numerics::Exact) $body
    };
}

fn values(random: &mut Random, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| spread * random.signed()).collect()
}

fn weight(random: &mut Random, dtype: DType, rows: usize, columns: usize) -> Weight {
    Weight { tensor: tensor(dtype, &[rows, columns], 0.0, 1.0, random), rows: RowOrder::Canonical }
}

fn linear<B: Backend>(backend: &B, weight: &Weight, bias: Option<&[f32]>) -> Linear<B> {
    let bias = bias.map(|b| backend.vector(b.to_vec()).expect("memory"));
    Linear { weight: backend.matrix(weight).expect("a float encoding"), bias }
}

/// Panics where `found` leaves the contract's tolerance around `expected`.
fn judge(kernel: &str, expected: &[f32], found: &[f32], case: &str) {
    let bound = Kernel::load(kernel).expect("a built-in contract").tolerance.bound(expected);
    assert_eq!(expected.len(), found.len(), "{kernel} {case}");
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        let error = (f64::from(*e) - f64::from(*f)).abs();
        assert!(error <= bound, "{kernel} {case} element {i}: {f} for {e}, {error:e} exceeds {bound:e}");
    }
}

#[test]
fn matmul_follows_its_contract() {
    fn run<B: Backend>(b: &B, w: &Weight, bias: &[f32], x: &[f32], residual: &[f32]) -> [Vec<f32>; 2] {
        let (rows, columns) = (w.tensor.shape.0[0], w.tensor.shape.0[1]);
        let x = b.upload(columns, x).expect(SOUND);
        let mut y = b.buffer(rows);
        b.linear([&linear(b, w, None)], &x, [&mut y]).expect("valid");
        let mut sum = b.upload(rows, residual).expect(SOUND);
        b.linear_add(&linear(b, w, Some(bias)), &x, &mut sum).expect("valid");
        [b.download(&y).expect(SOUND), b.download(&sum).expect(SOUND)]
    }
    let mut random = Random(1);
    for (n, rows, columns) in SIZES {
        let some = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q5_1];
        let read_only =
            DType::ALL.iter().copied().filter(|d| d.name().starts_with("IQ") || *d == DType::MXFP4);
        for dtype in some.into_iter().chain(read_only.filter(|d| columns.is_multiple_of(d.block_len()))) {
            let w = weight(&mut random, dtype, rows, columns);
            let (bias, x) = (values(&mut random, rows, 3.0), values(&mut random, n * columns, 2.0));
            let residual = values(&mut random, n * rows, 5.0);
            let expected = run(&Reference, &w, &bias, &x, &residual);
            on_every_backend!(b => {
                let found = run(&b, &w, &bias, &x, &residual);
                for (expected, found) in expected.iter().zip(&found) {
                    judge("matmul", expected, found, &format!("{dtype} {n} x {rows} x {columns}"));
                }
            });
        }
    }
}

#[test]
fn norms_follow_their_contracts() {
    fn run<B: Backend>(b: &B, rule: NormRule, w: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
        let x = b.upload(w.len(), x).expect(SOUND);
        let mut y = b.buffer(w.len());
        let bias = (rule.kind == NormKind::Layer).then(|| b.vector(bias.to_vec()).expect(SOUND));
        b.norm(&Norm { rule, weight: b.vector(w.to_vec()).expect(SOUND), bias }, &x, &mut y).expect(SOUND);
        b.download(&y).expect(SOUND)
    }
    let mut random = Random(2);
    for (kind, name) in [(NormKind::Rms, "rms_norm"), (NormKind::Layer, "layer_norm")] {
        for (n, _, width) in SIZES.into_iter().chain([(3, 0, 50)]) {
            // The epsilon weighs where the values are small; a mean of 4 makes the layer norm subtract.
            for (spread, center) in [(1e-3, 0.0), (1.0, 0.0), (1.0, 4.0)] {
                let rule = NormRule { kind, eps: 1e-5 };
                let (w, bias) = (values(&mut random, width, 2.0), values(&mut random, width, 1.0));
                let x: Vec<f32> = values(&mut random, n * width, spread).iter().map(|v| v + center).collect();
                let expected = run(&Reference, rule, &w, &bias, &x);
                on_every_backend!(b => {
                    judge(name, &expected, &run(&b, rule, &w, &bias, &x), &format!("{n} x {width}"));
                });
            }
        }
    }
}

#[test]
fn softmax_follows_its_contract() {
    let mut random = Random(3);
    for n in [1, 2, 15, 16, 17, 300, 600] {
        for spread in [0.1, 5.0, 80.0] {
            let scores = values(&mut random, n, spread);
            let exact: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
            let expected: Vec<f32> = reference::softmax(&exact).iter().map(|p| *p as f32).collect();
            on_every_backend!(b => {
                let found = softmax(&b, &scores);
                judge("softmax", &expected, &found, &format!("{n} scores within {spread}"));
                let sum: f64 = found.iter().map(|p| f64::from(*p)).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{n} scores sum to {sum}");
            });
        }
    }
}

#[test]
fn softmax_ignores_a_shift() {
    // Quarters below 16 stay exact when 64 is added; the scores fill more than one split.
    let scores: Vec<f32> = (0..300).map(|i| (i * 7 % 64) as f32 / 4.0).collect();
    let shifted: Vec<f32> = scores.iter().map(|s| s + 64.0).collect();
    on_every_backend!(b => {
        assert_eq!(softmax(&b, &scores), softmax(&b, &shifted));
    });
}

/// Attention whose scores are given and whose values are the unit vectors gives the weights themselves.
fn softmax<B: Backend>(b: &B, scores: &[f32]) -> Vec<f32> {
    let n = scores.len();
    let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim: n, scale: 1.0 };
    let (mut keys, mut units) = (vec![0.0; n * n], vec![0.0; n * n]);
    for (i, score) in scores.iter().enumerate() {
        keys[i * n] = *score;
        units[i * n + i] = 1.0;
    }
    let mut cache = b.cache(&heads);
    let (mut q, mut k, v) = (
        b.upload(n, &units).expect(SOUND),
        b.upload(n, &keys).expect(SOUND),
        b.upload(n, &units).expect(SOUND),
    );
    b.rope_store(&heads, None, (&mut q, &mut k, &v), &mut [Part { rows: 0..n, start: 0, cache: &mut cache }])
        .expect(SOUND);
    let (q, mut out) = (b.upload(n, &units[..n]).expect(SOUND), b.buffer(n));
    b.attend(&heads, None, &q, &[Part { rows: 0..1, start: n - 1, cache: &mut cache }], &mut out)
        .expect(SOUND);
    b.download(&out).expect(SOUND)
}

/// Queries, keys and values `[n, heads, head_dim]` of one sequence.
type Qkv = [Vec<f32>; 3];

/// Stores and attends to `qkv` in pieces that end at `ends`; the outputs of the last piece.
fn attention<B: Backend>(
    b: &B,
    heads: &Heads,
    rope: Option<&Rope>,
    [q, k, v]: &Qkv,
    (mut cache, window, ends): (B::Cache, Option<usize>, &[usize]),
) -> Vec<f32> {
    let (wide, narrow) = (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim);
    let (mut last, mut start) = (Vec::new(), 0);
    for &end in ends {
        let mut q = b.upload(wide, &q[start * wide..end * wide]).expect(SOUND);
        let mut k = b.upload(narrow, &k[start * narrow..end * narrow]).expect(SOUND);
        let v = b.upload(narrow, &v[start * narrow..end * narrow]).expect(SOUND);
        let angles = rope.map(|r| r.angles(start..end));
        let mut parts = [Part { rows: 0..end - start, start, cache: &mut cache }];
        b.rope_store(heads, angles.as_ref(), (&mut q, &mut k, &v), &mut parts).expect(SOUND);
        let mut out = b.buffer(wide);
        b.attend(heads, window, &q, &parts, &mut out).expect(SOUND);
        (last, start) = (b.download(&out).expect(SOUND), end);
    }
    last
}

fn heads_of(head_dim: usize, n_heads: usize, n_kv_heads: usize) -> Heads {
    Heads { n_heads, n_kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

#[test]
fn attention_follows_its_contract() {
    let mut random = Random(4);
    let plain = |dim| Rope::new(&Position::Rope { theta: 10000.0, dim }, &RopeScaling::None).expect("rotary");
    for (head_dim, n, first) in [(64, 600, 580), (80, 90, 1), (10, 300, 33), (16, 5, 4)] {
        let heads = heads_of(head_dim, 6, 2);
        let rope = plain(head_dim);
        let qkv = [6, 2, 2].map(|h| values(&mut random, n * h * head_dim, 2.0));
        let reference = |window| {
            attention(&Reference, &heads, Some(&rope), &qkv, (Reference.cache(&heads), window, &[first, n]))
        };
        let everything = reference(None);
        // Windows that end inside a tile, at one, inside a segment and a split, and beyond the start.
        for window in [None, Some(1), Some(3), Some(16), Some(17), Some(70), Some(330), Some(1000)] {
            let expected = reference(window);
            assert_eq!(
                expected == everything,
                window.is_none_or(|w| w >= n),
                "a window must be seen: {window:?}"
            );
            let mut bits = HashMap::new();
            on_every_backend!(b => {
                let case = format!("width {head_dim}, {n} positions, {window:?}");
                let whole = (b.cache(&heads), window, &[first, n][..]);
                let found = attention(&b, &heads, Some(&rope), &qkv, whole);
                judge("attention", &expected, &found, &case);
                let ends: Vec<usize> = [first].into_iter().chain(n - (n - first).min(20)..=n).collect();
                let one_by_one = (b.cache(&heads), window, ends.as_slice());
                let last = attention(&b, &heads, Some(&rope), &qkv, one_by_one);
                assert!(found.ends_with(&last), "{case}: one token alone");
                let of_this_device = bits.entry(b.device().map(|d| d.name)).or_insert_with(|| found.clone());
                assert!(*of_this_device == found, "{case}: another instruction set");
            });
        }
    }
}

#[test]
fn attention_over_halves_is_attention_over_rounded_keys_and_values() {
    let mut random = Random(9);
    for (head_dim, n, first) in [(64, 300, 250), (20, 70, 1)] {
        let heads = heads_of(head_dim, 4, 2);
        let qkv: Qkv = [4, 2, 2].map(|h| values(&mut random, n * h * head_dim, 2.0));
        let round = |v: &Vec<f32>| v.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect();
        let rounded: Qkv = [qkv[0].clone(), round(&qkv[1]), round(&qkv[2])];
        for window in [None, Some(17)] {
            let run = |qkv| {
                attention(&Reference, &heads, None, qkv, (Reference.cache(&heads), window, &[first, n]))
            };
            let (expected, exact) = (run(&rounded), run(&qkv));
            for cpu in backends() {
                let halves = (Cache::halves(&heads), window, &[first, n][..]);
                let found = attention(&cpu, &heads, None, &qkv, halves);
                judge("attention", &expected, &found, &format!("halves, width {head_dim}, {window:?}"));
                // A value rounds by 2^-11 of itself. So does a key, and a score by 2^-11 |q| |k| / sqrt(head_dim).
                let score = (2f64 / 3.0).sqrt() * 2.0 * 2.0 * (head_dim as f64).sqrt() / 2048.0;
                let bound = 2.0 * (1.0 / 2048.0 + (2.0 * score).exp_m1());
                let worst =
                    exact.iter().zip(&found).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                assert!((1e-6..=bound).contains(&worst), "{worst} of {bound}");
            }
        }
    }
}

#[test]
fn sequences_in_one_pass_attend_to_themselves() {
    let mut random = Random(10);
    let heads = heads_of(32, 4, 2);
    // Tokens that each sequence has already, and tokens of this pass.
    let sequences = [(0, 3), (70, 1), (300, 40), (5, 1), (255, 2)];
    let all: Vec<Qkv> = sequences
        .iter()
        .map(|(before, n)| [4, 2, 2].map(|h| values(&mut random, (before + n) * h * 32, 2.0)))
        .collect();
    for cpu in backends() {
        for make in [Cache::singles, Cache::halves] {
            let alone: Vec<Vec<f32>> = sequences
                .iter()
                .zip(&all)
                .map(|((before, n), qkv)| {
                    attention(&cpu, &heads, None, qkv, (make(&heads), Some(290), &[*before, before + n]))
                })
                .collect();
            let mut caches: Vec<Cache> = sequences.iter().map(|_| make(&heads)).collect();
            let (mut pass, mut parts, mut row) = ([vec![], vec![], vec![]], vec![], 0);
            for (((before, n), qkv), cache) in sequences.iter().zip(&all).zip(&mut caches) {
                let cut = |i: usize, width: usize| qkv[i].split_at(before * width);
                let [mut q, mut k] =
                    [(0, 128), (1, 64)].map(|(i, width)| cpu.upload(width, cut(i, width).0).expect(SOUND));
                let (v, first) =
                    (cpu.upload(64, cut(2, 64).0).expect(SOUND), Part { rows: 0..*before, start: 0, cache });
                let mut first = [first];
                cpu.rope_store(&heads, None, (&mut q, &mut k, &v), &mut first).expect(SOUND);
                let [first] = first;
                [128, 64, 64]
                    .into_iter()
                    .enumerate()
                    .for_each(|(i, w)| pass[i].extend_from_slice(cut(i, w).1));
                parts.push(Part { rows: row..row + n, start: *before, cache: first.cache });
                row += n;
            }
            let (mut q, mut k) =
                (cpu.upload(128, &pass[0]).expect(SOUND), cpu.upload(64, &pass[1]).expect(SOUND));
            cpu.rope_store(
                &heads,
                None,
                (&mut q, &mut k, &cpu.upload(64, &pass[2]).expect(SOUND)),
                &mut parts,
            )
            .expect(SOUND);
            let mut out = cpu.buffer(128);
            cpu.attend(&heads, Some(290), &q, &parts, &mut out).expect(SOUND);
            assert!(cpu.download(&out).expect(SOUND) == alone.concat());
        }
    }
}

#[test]
fn activations_follow_their_contracts() {
    let x: Vec<f32> = (-4000..4000).map(|i| i as f32 / 40.0).chain([0.0, -0.0, 1e-30, -1e-30]).collect();
    let silu: Vec<f32> = x.iter().map(|x| reference::silu(f64::from(*x)) as f32).collect();
    let gelu: Vec<f32> = x.iter().map(|x| reference::gelu_tanh(f64::from(*x)) as f32).collect();
    // Small inputs are judged by themselves, where large outputs do not widen the bound.
    let small =
        |v: &[f32]| -> Vec<f32> { x.iter().zip(v).filter(|(x, _)| x.abs() < 4.0).map(|(_, v)| *v).collect() };
    for isa in Isa::available() {
        let mut found = x.clone();
        isa.run(SiluMul { gate: &mut found, up: &vec![1.0; x.len()] });
        judge("silu", &silu, &found, isa.name());
        judge("silu", &small(&silu), &small(&found), isa.name());
        let mut found = x.clone();
        isa.run(Gelu(&mut found));
        judge("gelu", &gelu, &found, isa.name());
        let mut gated = x.clone();
        isa.run(GeluMul { gate: &mut gated, up: &vec![1.0; x.len()] });
        assert_eq!(gated, found, "a gate of 1 lets everything through: {}", isa.name());
        judge("gelu", &small(&gelu), &small(&found), isa.name());
    }
}

#[test]
fn feed_forwards_follow_their_contracts() {
    fn run<B: Backend>(b: &B, gate: &Weight, up: &Weight, x: &[f32]) -> [Vec<f32>; 3] {
        let x = b.upload(gate.tensor.shape.0[1], x).expect(SOUND);
        let mut out = b.buffer(gate.tensor.shape.0[0]);
        let mut gated = |activation: Activation| {
            b.gated(activation, &linear(b, gate, None), &linear(b, up, None), &x, &mut out).expect("valid");
            b.download(&out).expect(SOUND)
        };
        let (silu, gelu) = (gated(Activation::Silu), gated(Activation::GeluTanh));
        b.gelu(&linear(b, up, None), &x, &mut out).expect("valid");
        [silu, b.download(&out).expect(SOUND), gelu]
    }
    let mut random = Random(5);
    for (n, rows, columns) in SIZES {
        let (gate, up) =
            (weight(&mut random, DType::Q8_0, rows, columns), weight(&mut random, DType::F16, rows, columns));
        let x = values(&mut random, n * columns, 0.2);
        let expected = run(&Reference, &gate, &up, &x);
        on_every_backend!(b => {
            let found = run(&b, &gate, &up, &x);
            judge("swiglu", &expected[0], &found[0], &format!("{n} x {rows} x {columns}"));
            judge("swiglu", &expected[1], &found[1], &format!("{n} x {rows} x {columns}, ungated"));
            judge("swiglu", &expected[2], &found[2], &format!("{n} x {rows} x {columns}, GELU"));
        });
    }
}

#[test]
fn embedding_follows_its_contract() {
    fn run<B: Backend>(b: &B, table: &Weight, positions: &Weight) -> Vec<f32> {
        let mut x = b.buffer(96);
        b.embed(&b.matrix(table).expect("has a codec"), &[3, 0, 36, 3], &mut x).expect("valid");
        b.add_positions(&b.matrix(positions).expect("has a codec"), &[5, 6, 7, 8], &mut x).expect("valid");
        b.download(&x).expect(SOUND)
    }
    let mut random = Random(6);
    let (table, positions) =
        (weight(&mut random, DType::Q4_0, 37, 96), weight(&mut random, DType::F32, 9, 96));
    let expected = run(&Reference, &table, &positions);
    on_every_backend!(b => {
        judge("embedding", &expected, &run(&b, &table, &positions), "four tokens");
    });
}

#[test]
fn the_residual_follows_its_contract() {
    fn run<B: Backend>(b: &B, width: usize, x: &[f32], residual: &[f32]) -> Vec<f32> {
        let mut stream = b.upload(width, residual).expect(SOUND);
        b.scale(1.0 / 3.0, &mut stream).expect(SOUND);
        b.add(&b.upload(width, x).expect(SOUND), &mut stream).expect(SOUND);
        b.download(&stream).expect(SOUND)
    }
    let mut random = Random(7);
    for (n, _, columns) in SIZES {
        let width = columns + 5;
        let (x, residual) = (values(&mut random, n * width, 1.0), values(&mut random, n * width, 1.0));
        let expected: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| r * (1.0 / 3.0) + x).collect();
        judge("residual", &expected, &run(&Reference, width, &x, &residual), "the reference");
        on_every_backend!(b => {
            judge("residual", &expected, &run(&b, width, &x, &residual), &format!("{n} x {width}"));
        });
    }
}

#[test]
fn the_norm_of_heads_is_the_norm_of_each_head() {
    fn run<B: Backend>(b: &B, rows: usize, head_dim: usize, w: &[f32], x: &[f32]) -> [Vec<f32>; 2] {
        let rule = NormRule { kind: NormKind::Rms, eps: 1e-6 };
        let norm = Norm { rule, weight: b.vector(w.to_vec()).expect(SOUND), bias: None };
        let mut heads = b.upload(x.len() / rows, x).expect(SOUND);
        b.norm_heads(&norm, head_dim, &mut heads).expect(SOUND);
        let mut each = b.buffer(head_dim);
        b.norm(&norm, &b.upload(head_dim, x).expect(SOUND), &mut each).expect(SOUND);
        [b.download(&heads).expect(SOUND), b.download(&each).expect(SOUND)]
    }
    let mut random = Random(8);
    for (rows, heads, head_dim) in [(1, 2, 64), (3, 4, 16), (5, 3, 40)] {
        let w = values(&mut random, head_dim, 1.0);
        let x = values(&mut random, rows * heads * head_dim, 2.0);
        on_every_backend!(b => {
            let [found, expected] = run(&b, rows, head_dim, &w, &x);
            assert_eq!(found, expected, "{rows} x {heads} x {head_dim}");
        });
        let [found, expected] = run(&Reference, rows, head_dim, &w, &x);
        judge("rms_norm", &expected, &found, "the reference");
    }
}
