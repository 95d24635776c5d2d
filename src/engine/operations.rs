//! Every operation of the `cpu` backend against the reference, within the tolerance of its contract, on every
//! instruction set of this processor.

use super::cpu::elementwise::{Gelu, GeluMul, SiluMul, Softmax};
use super::cpu::{Cpu, Isa, Numerics};
use super::random_model::{Random, tensor};
use super::reference::{self, Reference};
use super::{Activation, Backend, Heads, Linear, Norm, NormRule, Rope};
use crate::contract::kernels::Kernel;
use crate::models::{NormKind, Position, RopeScaling, RowOrder, Weight};
use crate::tensor::DType;

/// Sizes with partial vectors, partial tiles and several of both: tokens, rows, columns.
const SIZES: [(usize, usize, usize); 4] = [(1, 37, 32), (2, 5, 96), (13, 131, 544), (7, 64, 1536)];

fn backends() -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(|isa| Cpu::with(isa, 2, Numerics::Exact).expect("threads can be made"))
}

fn values(random: &mut Random, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| spread * random.signed()).collect()
}

fn weight(random: &mut Random, dtype: DType, rows: usize, columns: usize) -> Weight {
    Weight { tensor: tensor(dtype, &[rows, columns], 0.0, 1.0, random), rows: RowOrder::Canonical }
}

fn linear<B: Backend>(backend: &B, weight: &Weight, bias: Option<&[f32]>) -> Linear<B> {
    let bias = bias.map(|b| backend.vector(b.to_vec()));
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
        let x = b.upload(columns, x);
        let mut y = b.buffer(rows);
        b.linear([&linear(b, w, None)], &x, [&mut y]).expect("valid");
        let mut sum = b.upload(rows, residual);
        b.linear_add(&linear(b, w, Some(bias)), &x, &mut sum).expect("valid");
        [b.download(&y), b.download(&sum)]
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
            for cpu in backends() {
                let found = run(&cpu, &w, &bias, &x, &residual);
                for (expected, found) in expected.iter().zip(&found) {
                    judge("matmul", expected, found, &format!("{dtype} {n} x {rows} x {columns}"));
                }
            }
        }
    }
}

#[test]
fn norms_follow_their_contracts() {
    fn run<B: Backend>(b: &B, rule: NormRule, w: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
        let x = b.upload(w.len(), x);
        let mut y = b.buffer(w.len());
        let bias = (rule.kind == NormKind::Layer).then(|| b.vector(bias.to_vec()));
        b.norm(&Norm { rule, weight: b.vector(w.to_vec()), bias }, &x, &mut y);
        b.download(&y)
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
                for cpu in backends() {
                    judge(name, &expected, &run(&cpu, rule, &w, &bias, &x), &format!("{n} x {width}"));
                }
            }
        }
    }
}

#[test]
fn softmax_follows_its_contract() {
    let mut random = Random(3);
    for n in [1, 2, 15, 16, 17, 300] {
        for spread in [0.1, 5.0, 80.0] {
            let scores = values(&mut random, n, spread);
            let exact: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
            let expected: Vec<f32> = reference::softmax(&exact).iter().map(|p| *p as f32).collect();
            for isa in Isa::available() {
                let found = softmax(isa, &scores);
                judge("softmax", &expected, &found, &format!("{n} scores within {spread}"));
                let sum: f64 = found.iter().map(|p| f64::from(*p)).sum();
                assert!((sum - 1.0).abs() < 1e-6, "{n} scores sum to {sum}");
            }
        }
    }
}

#[test]
fn softmax_ignores_a_shift() {
    // Quarters below 16 stay exact when 64 is added.
    let scores: Vec<f32> = (0..40).map(|i| (i * 7 % 64) as f32 / 4.0).collect();
    let shifted: Vec<f32> = scores.iter().map(|s| s + 64.0).collect();
    for isa in Isa::available() {
        assert_eq!(softmax(isa, &scores), softmax(isa, &shifted), "{}", isa.name());
    }
}

fn softmax(isa: Isa, scores: &[f32]) -> Vec<f32> {
    // Stale values beyond the scores must not count.
    let mut lanes = vec![[1e9; 16]; scores.len().div_ceil(16)];
    lanes.as_flattened_mut()[..scores.len()].copy_from_slice(scores);
    isa.run(Softmax(&mut lanes, scores.len()));
    let (all, after) = lanes.as_flattened().split_at(scores.len());
    assert!(after.iter().all(|p| *p == 0.0));
    all.to_vec()
}

#[test]
fn attention_follows_its_contract() {
    fn run<B: Backend>(
        b: &B,
        heads: &Heads,
        rope: &Rope,
        [q, k, v]: &[Vec<f32>; 3],
        (window, first): (Option<usize>, usize),
    ) -> Vec<f32> {
        let (wide, narrow) = (heads.n_heads * heads.head_dim, heads.n_kv_heads * heads.head_dim);
        let (mut cache, mut last) = (b.cache(heads), Vec::new());
        let n = q.len() / wide;
        for (start, end) in [(0, first), (first, n)] {
            let mut q = b.upload(wide, &q[start * wide..end * wide]);
            let mut k = b.upload(narrow, &k[start * narrow..end * narrow]);
            let v = b.upload(narrow, &v[start * narrow..end * narrow]);
            let angles = rope.angles(start, end - start);
            b.rope_store(heads, Some(&angles), start, (&mut q, &mut k, &v), &mut cache);
            let mut out = b.buffer(wide);
            b.attend(heads, window, &q, &cache, start, &mut out);
            last = b.download(&out);
        }
        last
    }
    let mut random = Random(4);
    for (head_dim, n, first) in [(64, 300, 280), (80, 90, 1), (10, 40, 33), (16, 5, 4)] {
        let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim, scale: 1.0 / (head_dim as f32).sqrt() };
        let position = Position::Rope { theta: 10000.0, dim: head_dim };
        let rope = Rope::new(&position, &RopeScaling::None).expect("rotary");
        let qkv = [6, 2, 2].map(|h| values(&mut random, n * h * head_dim, 2.0));
        let everything = run(&Reference, &heads, &rope, &qkv, (None, first));
        // Windows that end inside a tile, at one, inside a segment and beyond the start.
        for window in [None, Some(1), Some(3), Some(16), Some(17), Some(70), Some(1000)] {
            let expected = run(&Reference, &heads, &rope, &qkv, (window, first));
            assert_eq!(
                expected == everything,
                window.is_none_or(|w| w >= n),
                "a window must be seen: {window:?}"
            );
            for cpu in backends() {
                let found = run(&cpu, &heads, &rope, &qkv, (window, first));
                judge(
                    "attention",
                    &expected,
                    &found,
                    &format!("width {head_dim}, {n} positions, {window:?}"),
                );
            }
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
        let x = b.upload(gate.tensor.shape.0[1], x);
        let mut out = b.buffer(gate.tensor.shape.0[0]);
        let mut gated = |activation: Activation| {
            b.gated(activation, &linear(b, gate, None), &linear(b, up, None), &x, &mut out).expect("valid");
            b.download(&out)
        };
        let (silu, gelu) = (gated(Activation::Silu), gated(Activation::GeluTanh));
        b.gelu(&linear(b, up, None), &x, &mut out).expect("valid");
        [silu, b.download(&out), gelu]
    }
    let mut random = Random(5);
    for (n, rows, columns) in SIZES {
        let (gate, up) =
            (weight(&mut random, DType::Q8_0, rows, columns), weight(&mut random, DType::F16, rows, columns));
        let x = values(&mut random, n * columns, 0.2);
        let expected = run(&Reference, &gate, &up, &x);
        for cpu in backends() {
            let found = run(&cpu, &gate, &up, &x);
            judge("swiglu", &expected[0], &found[0], &format!("{n} x {rows} x {columns}"));
            judge("swiglu", &expected[1], &found[1], &format!("{n} x {rows} x {columns}, ungated"));
            judge("swiglu", &expected[2], &found[2], &format!("{n} x {rows} x {columns}, GELU"));
        }
    }
}

#[test]
fn embedding_follows_its_contract() {
    fn run<B: Backend>(b: &B, table: &Weight, positions: &Weight) -> Vec<f32> {
        let mut x = b.buffer(96);
        b.embed(&b.matrix(table).expect("has a codec"), &[3, 0, 36, 3], &mut x).expect("valid");
        b.add_positions(&b.matrix(positions).expect("has a codec"), 5, &mut x).expect("valid");
        b.download(&x)
    }
    let mut random = Random(6);
    let (table, positions) =
        (weight(&mut random, DType::Q4_0, 37, 96), weight(&mut random, DType::F32, 9, 96));
    let expected = run(&Reference, &table, &positions);
    for cpu in backends() {
        judge("embedding", &expected, &run(&cpu, &table, &positions), "four tokens");
    }
}

#[test]
fn the_residual_follows_its_contract() {
    fn run<B: Backend>(b: &B, width: usize, x: &[f32], residual: &[f32]) -> Vec<f32> {
        let mut stream = b.upload(width, residual);
        b.scale(1.0 / 3.0, &mut stream);
        b.add(&b.upload(width, x), &mut stream);
        b.download(&stream)
    }
    let mut random = Random(7);
    for (n, _, columns) in SIZES {
        let width = columns + 5;
        let (x, residual) = (values(&mut random, n * width, 1.0), values(&mut random, n * width, 1.0));
        let expected: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| r * (1.0 / 3.0) + x).collect();
        judge("residual", &expected, &run(&Reference, width, &x, &residual), "the reference");
        for cpu in backends() {
            judge("residual", &expected, &run(&cpu, width, &x, &residual), &format!("{n} x {width}"));
        }
    }
}

#[test]
fn the_norm_of_heads_is_the_norm_of_each_head() {
    fn run<B: Backend>(b: &B, rows: usize, head_dim: usize, w: &[f32], x: &[f32]) -> [Vec<f32>; 2] {
        let rule = NormRule { kind: NormKind::Rms, eps: 1e-6 };
        let norm = Norm { rule, weight: b.vector(w.to_vec()), bias: None };
        let mut heads = b.upload(x.len() / rows, x);
        b.norm_heads(&norm, head_dim, &mut heads);
        let mut each = b.buffer(head_dim);
        b.norm(&norm, &b.upload(head_dim, x), &mut each);
        [b.download(&heads), b.download(&each)]
    }
    let mut random = Random(8);
    for (rows, heads, head_dim) in [(1, 2, 64), (3, 4, 16), (5, 3, 40)] {
        let w = values(&mut random, head_dim, 1.0);
        let x = values(&mut random, rows * heads * head_dim, 2.0);
        for cpu in backends() {
            let [found, expected] = run(&cpu, rows, head_dim, &w, &x);
            assert_eq!(found, expected, "{rows} x {heads} x {head_dim}");
        }
        let [found, expected] = run(&Reference, rows, head_dim, &w, &x);
        judge("rms_norm", &expected, &found, "the reference");
    }
}
