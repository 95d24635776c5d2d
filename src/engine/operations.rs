//! Every operation of the backends against the reference, within the tolerance of its contract, on every instruction set
//! of this processor and on the GPU: what kernel parity judges, and laws that only hold here.

use super::cpu::elementwise::{Gelu, GeluMul, SiluMul};
use super::cpu::{Cache, Cpu, Isa, Numerics};
use super::kernel_parity::{Heard, Judge, KernelResult, Qkv, attended_weights};
use super::random_model::Random;
use super::reference::{self, Reference};
use super::{Backend, Heads, Norm, NormRule, Part, Rope};
use crate::Result;
use crate::contract::kernels::Kernel;
use crate::models::{NormKind, Position, RopeScaling};
use crate::tensor::DType;
use std::collections::{BTreeSet, HashMap};

/// What every operation of these tests is.
const SOUND: &str = "sound operands, and memory for them";

fn backends() -> impl Iterator<Item = Cpu> {
    of(Numerics::Exact)
}

fn of(numerics: Numerics) -> impl Iterator<Item = Cpu> {
    Isa::available().into_iter().map(move |isa| Cpu::with(isa, 2, numerics).expect("threads can be made"))
}

/// Runs a block for the backends of the processor on every instruction set, and for those of the GPU where there is an
/// adapter, in the numerics named or in both.
macro_rules! on_every_backend {
    ($b:ident => $body:block) => {
        on_every_backend!(Numerics::Exact, $b => $body);
        on_every_backend!(Numerics::Fast, $b => $body);
    };
    ($numerics:expr, $b:ident => $body:block) => {
        for $b in of($numerics) $body
        #[cfg(feature = "wgpu")]
        if let Some($b) = super::wgpu::for_tests($numerics) $body
    };
}

fn judged<B: Backend>(b: &B, what: impl Fn(&mut Judge<'_, B>) -> Result<()>) -> Vec<KernelResult> {
    let mut judge = Judge::new(b);
    what(&mut judge).expect(SOUND);
    judge.results()
}

/// Panics where something left its contract, or nothing was compared of one of `operations`.
#[track_caller]
fn assert_sound(results: &[KernelResult], operations: &[&str], case: &str) {
    let mut compared: BTreeSet<&str> = BTreeSet::new();
    for KernelResult { operation, contract, compared: n, worst, faults } in results {
        assert!(*worst <= 1.0 && faults.is_empty(), "{case}: {operation} under {contract}: {faults:#?}");
        compared.extend((*n > 0).then_some(operation));
    }
    assert!(operations.iter().all(|o| compared.contains(o)), "{case}: {compared:?}");
}

fn values(random: &mut Random, n: usize, spread: f32) -> Vec<f32> {
    (0..n).map(|_| spread * random.signed()).collect()
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
    let some = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q5_1, DType::Q4_K];
    let apr = [DType::AprQ4, DType::AprQ8];
    let read_only = DType::ALL.iter().copied().filter(|d| d.name().starts_with("IQ") || *d == DType::MXFP4);
    for dtype in some.into_iter().chain(apr).chain(read_only) {
        on_every_backend!(b => {
            let results = judged(&b, |judge| judge.edge_products(dtype));
            assert_sound(&results, &["linear", "linear_add"], &format!("{dtype}"));
        });
    }
}

#[test]
fn norms_follow_their_contracts() {
    on_every_backend!(b => {
        assert_sound(&judged(&b, |judge| judge.edge_norms()), &["norm", "norm_heads"], "norms");
    });
}

#[test]
fn softmax_follows_its_contract() {
    let mut random = Random(3);
    for n in [1, 2, 15, 16, 17, 300, 600] {
        for spread in [0.1, 5.0, 80.0] {
            let scores = values(&mut random, n, spread);
            let exact: Vec<f64> = scores.iter().map(|s| f64::from(*s)).collect();
            let expected: Vec<f32> = reference::softmax(&exact).iter().map(|p| *p as f32).collect();
            on_every_backend!(Numerics::Exact, b => {
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
    on_every_backend!(Numerics::Exact, b => {
        assert_eq!(softmax(&b, &scores), softmax(&b, &shifted));
    });
}

fn softmax<B: Backend>(b: &B, scores: &[f32]) -> Vec<f32> {
    attended_weights(b, scores).expect(SOUND)
}

/// Stores and attends to `qkv` in pieces that end at `ends`; the outputs of the last piece.
fn attention<B: Backend>(
    b: &B,
    heads: &Heads,
    rope: Option<&Rope>,
    qkv: &Qkv,
    (cache, window, ends): (B::Cache, Option<usize>, &[usize]),
) -> Vec<f32> {
    let pieces = Heard { heads, rope, window, ends }.feed(b, cache, qkv).expect(SOUND);
    pieces.into_iter().last().map(|piece| piece.out).unwrap_or_default()
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
            on_every_backend!(Numerics::Exact, b => {
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
    for (gate, up) in [(DType::Q8_0, DType::F16), (DType::BF16, DType::BF16), (DType::Q4_K, DType::Q6_K)] {
        on_every_backend!(b => {
            let results = judged(&b, |judge| judge.edge_feed_forwards(gate, up));
            assert_sound(&results, &["gated", "gelu"], &format!("{gate} and {up}"));
        });
    }
}

#[test]
fn embedding_follows_its_contract() {
    for dtype in [DType::F32, DType::BF16, DType::Q4_0, DType::Q6_K, DType::AprQ8, DType::AprQ4] {
        on_every_backend!(b => {
            let results = judged(&b, |judge| judge.edge_tables(dtype));
            let operations = ["embed", "embed_chosen", "add_positions", "head", "choose"];
            assert_sound(&results, &operations, &format!("{dtype}"));
        });
    }
}

#[test]
fn the_residual_follows_its_contract() {
    on_every_backend!(b => {
        assert_sound(&judged(&b, |judge| judge.edge_residuals()), &["add", "scale"], "residuals");
    });
    assert_sound(&judged(&Reference, |judge| judge.edge_residuals()), &["add", "scale"], "the reference");
}

#[test]
fn attention_of_odd_heads_follows_its_contract() {
    on_every_backend!(b => {
        let results = judged(&b, |judge| judge.edge_attention());
        assert_sound(&results, &["rope_store", "attend"], "attention");
        let rotated = results.iter().find(|r| r.contract == "rope").expect("compared");
        assert!(b.device().is_some() || rotated.worst == 0.0, "the processor rotates to the bit: {rotated:?}");
    });
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
        on_every_backend!(Numerics::Exact, b => {
            let [found, expected] = run(&b, rows, head_dim, &w, &x);
            assert_eq!(found, expected, "{rows} x {heads} x {head_dim}");
        });
        let [found, expected] = run(&Reference, rows, head_dim, &w, &x);
        judge("rms_norm", &expected, &found, "the reference");
    }
}
