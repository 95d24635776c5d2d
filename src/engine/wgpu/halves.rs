//! The cooperative kernels of fast numerics on a device, held against their contracts. Where the adapter has no cooperative
//! matrices these say so and test nothing.

use super::{Wgpu, for_tests, planes};
use crate::contract::kernels::Kernel;
use crate::engine::parity::bits;
use crate::engine::random_model::{Random, tensor};
use crate::engine::{Backend, Linear, Numerics};
use crate::models::{RowOrder, Weight};
use crate::quant::{self, CODECS};
use crate::tensor::{Bytes, DType};
use half::f16;

/// Tokens, rows and columns: fewer tokens than a matrix has and more than a tile, one row, a chain that is not whole, more
/// chains than a workgroup takes at once, rows of a tile that are partly empty.
const SIZES: [(usize, usize, usize); 4] = [(3, 1, 256), (5, 35, 768), (70, 67, 1280), (33, 3, 4352)];

fn backend() -> Option<Wgpu> {
    let backend = for_tests(Numerics::Fast)?;
    if backend.device.cooperative.is_none() {
        eprintln!("SKIPPED, NOT TESTED: the adapter has no cooperative matrices that kernels can use");
        return None;
    }
    Some(backend)
}

/// Every encoding that is multiplied so.
fn encodings() -> impl Iterator<Item = DType> {
    let half = |dtype| planes::layout(dtype).is_some_and(|l| l.levels || dtype == DType::F16);
    CODECS.iter().map(|codec| codec.dtype()).filter(move |dtype| half(*dtype))
}

/// `x weightᵀ + bias`, `n` tokens at once.
fn product(backend: &Wgpu, weight: &Weight, bias: &[f32], x: &[f32], n: usize) -> Vec<f32> {
    let [rows, columns] = weight.tensor.shape.0[..] else { unreachable!("a matrix") };
    let matrix = backend.matrix(weight).expect("memory");
    let linear = Linear { weight: matrix, bias: Some(backend.vector(bias.to_vec()).expect("memory")) };
    let mut out = Vec::new();
    for x in x.chunks(n * columns) {
        let (x, mut y) = (backend.upload(columns, x).expect("memory"), backend.buffer(rows));
        backend.linear([&linear], &x, [&mut y]).expect("valid");
        out.extend(backend.download(&y).expect("memory"));
    }
    out
}

/// The numbers that a token is multiplied with, by the contract: rounded to f16 at its own scale.
fn rounded(x: &[f32]) -> Vec<f64> {
    let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
    let exponent = (largest.to_bits() >> 23).max(30) as i32 - 127;
    let scale = if largest == 0.0 { 1.0 } else { 2f32.powi(exponent - 14) };
    x.iter().map(|v| f16::from_f32(v / scale).to_f64() * f64::from(scale)).collect()
}

fn random(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.signed()).collect()
}

#[test]
fn products_are_those_of_the_rounded_numbers() {
    let Some(backend) = backend() else { return };
    let tolerance = Kernel::load("matmul_half").expect("built in").tolerance;
    let mut source = Random(6);
    for (dtype, (n, rows, columns)) in encodings().flat_map(|d| SIZES.map(|size| (d, size))) {
        let tensor = tensor(dtype, &[rows, columns], 0.0, 1.0, &mut source);
        let weight = Weight { tensor, rows: RowOrder::Canonical };
        let x = random(&mut source, n * columns);
        let mut w = vec![0f32; rows * columns];
        for (r, row) in w.chunks_exact_mut(columns).enumerate() {
            quant::row_to_f32(&weight.tensor, r, row).expect("a codec");
        }
        let w: Vec<f64> = w.iter().map(|w| f16::from_f32(*w).to_f64()).collect();
        let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        let all = |x: &[f32]| {
            let x = rounded(x);
            w.chunks(columns).map(|w| dot(w, &x) as f32).collect::<Vec<f32>>()
        };
        let expected: Vec<f32> = x.chunks(columns).flat_map(all).collect();
        let bound = tolerance.bound(&expected);
        // Every token at a magnitude of its own, which its outputs have, too.
        let power = |t: usize| 2f32.powi(t as i32 % 40 - 20);
        let x: Vec<f32> =
            x.chunks(columns).enumerate().flat_map(|(t, x)| x.iter().map(move |x| x * power(t))).collect();
        let found = product(&backend, &weight, &vec![0.0; rows], &x, n);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let (t, r) = (i / rows, i % rows);
            let found = found / power(t);
            let error = (f64::from(found) - f64::from(*expected)).abs();
            assert!(
                error <= bound,
                "{dtype} {n} x {rows} x {columns}, token {t} row {r}: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn a_prompt_gives_the_bits_of_its_tokens() {
    let Some(backend) = backend() else { return };
    let mut source = Random(7);
    for (dtype, (n, rows, columns)) in
        [DType::F16, DType::Q4_K, DType::Q8_0].into_iter().flat_map(|d| SIZES.map(|size| (d, size)))
    {
        let tensor = tensor(dtype, &[rows, columns], 0.0, 1.0, &mut source);
        let weight = Weight { tensor, rows: RowOrder::Canonical };
        let (bias, x) = (random(&mut source, rows), random(&mut source, n * columns));
        let expected = bits(&product(&backend, &weight, &bias, &x, n));
        for few in [1, 7, 20] {
            assert!(
                bits(&product(&backend, &weight, &bias, &x, few)) == expected,
                "{dtype} {n} x {rows} x {columns}, {few} at once"
            );
        }
    }
}

/// A matrix of ones on the diagonal, 256 by 256.
fn unit() -> Weight {
    let one = |i: usize| if i.is_multiple_of(257) { f16::ONE } else { f16::ZERO };
    let bytes = (0..256 * 256).flat_map(|i| one(i).to_le_bytes()).collect();
    let mut tensor = tensor(DType::F16, &[256, 256], 0.0, 1.0, &mut Random(1));
    tensor.bytes = Bytes::from_vec(bytes);
    Weight { tensor, rows: RowOrder::Canonical }
}

#[test]
fn activations_of_any_magnitude_keep_eleven_bits() {
    let Some(backend) = backend() else { return };
    let (mut source, tolerance) =
        (Random(8), Kernel::load("round_activations_half").expect("built in").tolerance);
    for power in [-110, -97, -40, -3, 0, 9, 40, 120] {
        let x: Vec<f32> = random(&mut source, 256).iter().map(|v| v * 2f32.powi(power)).collect();
        let found = product(&backend, &unit(), &[0.0; 256], &x, 1);
        let bound = tolerance.bound(&x);
        for (found, x) in found.iter().zip(&x) {
            assert!((f64::from(*found) - f64::from(*x)).abs() <= bound, "2^{power}: {found:e} for {x:e}");
        }
    }
    assert!(product(&backend, &unit(), &[0.0; 256], &[0.0; 256], 1).iter().all(|v| *v == 0.0));
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    let Some(backend) = backend() else { return };
    for (broken, n) in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().flat_map(|b| [(b, 3), (b, 40)])
    {
        let mut x = vec![1f32; n * 256];
        x[256 + 17] = broken;
        let found = product(&backend, &unit(), &[0.0; 256], &x, n);
        for (t, found) in found.chunks(256).enumerate() {
            match t {
                1 => assert!(found.iter().all(|v| !v.is_finite()), "{broken} of {n}"),
                _ => assert_eq!(found, [1.0; 256], "{broken} of {n}, token {t}"),
            }
        }
    }
}
