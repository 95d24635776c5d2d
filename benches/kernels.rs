//! One backend operation at a time, on random numbers in the shapes of a model of 230 million weights: products by
//! encoding for one token and for 128, attention with its softmax at two depths, the norm.
//!
//! `cargo bench --bench kernels -- FILTER`; `APR_QA_ISA` forces an instruction set. One thread, so that figures are
//! those of the kernels; `apr-qa-runner bench` measures models.

use apr_qa_runner::engine::cpu::Cpu;
use apr_qa_runner::engine::{Backend, Heads, Linear, Norm, NormRule, Numerics, Part};
use apr_qa_runner::models::{NormKind, RowOrder, Weight};
use apr_qa_runner::quant;
use apr_qa_runner::stats::SplitMix;
use apr_qa_runner::tensor::{Bytes, DType, Shape, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;

/// What every operation of these benches is.
const SOUND: &str = "sound operands";

const WIDTH: usize = 1024;
const WIDE: usize = 2816;
const HEADS: Heads = Heads { n_heads: 16, n_kv_heads: 4, head_dim: 64, scale: 0.125 };

const ENCODINGS: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];

fn values(n: usize) -> Vec<f32> {
    let mut random = SplitMix(n as u64);
    (0..n).map(|_| (random.unit() - 0.5) as f32).collect()
}

const NUMERICS: [Numerics; 2] = [Numerics::Exact, Numerics::Fast];

fn cpu(numerics: Numerics) -> Cpu {
    Cpu::new(1, numerics).expect("one thread starts")
}

fn linear(cpu: &Cpu, dtype: DType, rows: usize, columns: usize) -> Linear<Cpu> {
    let shape = Shape::from([rows, columns]);
    let bytes = quant::from_f32(dtype, &shape, &values(rows * columns)).expect("encodings that are written");
    let tensor = Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) };
    let weight = cpu.matrix(&Weight { tensor, rows: RowOrder::Canonical }).expect("a readable encoding");
    Linear { weight, bias: None }
}

/// `[2816, 1024]` times so many tokens; the throughput is that of the weights' bytes, or of multiply-adds.
fn products(c: &mut Criterion) {
    for (numerics, tokens) in NUMERICS.into_iter().flat_map(|n| [(n, 1), (n, 128)]) {
        let cpu = cpu(numerics);
        let mut group = c.benchmark_group(format!("matmul-{numerics:?}-{tokens}"));
        for &dtype in ENCODINGS {
            let weight = linear(&cpu, dtype, WIDE, WIDTH);
            let x = cpu.upload(WIDTH, &values(tokens * WIDTH)).expect(SOUND);
            let mut out = cpu.buffer(WIDE);
            group.throughput(match tokens {
                1 => Throughput::Bytes((WIDE * WIDTH / dtype.block_len() * dtype.block_bytes()) as u64),
                _ => Throughput::Elements((tokens * WIDE * WIDTH) as u64),
            });
            group.bench_function(BenchmarkId::from_parameter(dtype.name()), |b| {
                b.iter(|| cpu.linear([&weight], black_box(&x), [&mut out]).expect("shapes fit"));
            });
        }
        group.finish();
    }
}

/// One token, and 128 of them, over a cache of some depth.
fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    let (q_width, kv_width) = (HEADS.n_heads * HEADS.head_dim, HEADS.n_kv_heads * HEADS.head_dim);
    let sizes = [(1, 256), (1, 2048), (128, 0), (128, 1024)];
    for (numerics, (tokens, depth)) in NUMERICS.into_iter().flat_map(|n| sizes.map(|s| (n, s))) {
        let cpu = cpu(numerics);
        let mut cache = cpu.cache(&HEADS);
        let n = depth + tokens;
        let mut q = cpu.upload(q_width, &values(n * q_width)).expect(SOUND);
        let mut k = cpu.upload(kv_width, &values(n * kv_width)).expect(SOUND);
        let v = cpu.upload(kv_width, &values(n * kv_width)).expect(SOUND);
        let all = Part { rows: 0..n, start: 0, cache: &mut cache };
        cpu.rope_store(&HEADS, None, (&mut q, &mut k, &v), &mut [all]).expect(SOUND);
        let last = cpu.upload(q_width, &values(tokens * q_width)).expect(SOUND);
        let mut out = cpu.buffer(q_width);
        let parts = [Part { rows: 0..tokens, start: depth, cache: &mut cache }];
        group.bench_function(format!("{numerics:?}-{tokens}-after-{depth}"), |b| {
            b.iter(|| cpu.attend(&HEADS, None, black_box(&last), &parts, &mut out).expect(SOUND));
        });
    }
    group.finish();
}

fn norm(c: &mut Criterion) {
    let cpu = cpu(Numerics::Exact);
    let mut group = c.benchmark_group("norm");
    for kind in [NormKind::Rms, NormKind::Layer] {
        let bias = (kind == NormKind::Layer).then(|| cpu.vector(values(WIDTH)).expect(SOUND));
        let norm = Norm {
            rule: NormRule { kind, eps: 1e-5 },
            weight: cpu.vector(values(WIDTH)).expect(SOUND),
            bias,
        };
        let x = cpu.upload(WIDTH, &values(WIDTH)).expect(SOUND);
        let mut out = cpu.buffer(WIDTH);
        group.bench_function(format!("{kind:?}"), |b| {
            b.iter(|| cpu.norm(&norm, black_box(&x), &mut out).expect(SOUND))
        });
    }
    group.finish();
}

fn main() {
    let second = Duration::from_secs(1);
    let short = Criterion::default().sample_size(20).warm_up_time(second / 5).measurement_time(second);
    let mut criterion = short.configure_from_args();
    products(&mut criterion);
    attention(&mut criterion);
    norm(&mut criterion);
    criterion.final_summary();
}
