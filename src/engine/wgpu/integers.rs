//! The integer kernels of fast numerics on a device, held against their contracts.

use super::decoding::{decoded, grids, planes, random_bytes};
use super::planes::{Layout, layout};
use super::sources::source;
use super::test_device::{Bound, TestDevice, test_device};
use crate::contract::kernels::Kernel;
use crate::engine::ProductRule;
use crate::quant::CODECS;
use crate::tensor::DType;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The largest magnitude of a quantised activation.
const LARGEST: i32 = 127 * 256;

/// One product by both kernels, `[n, rows]`.
struct Products {
    what: String,
    /// With many lanes to a row, and with few.
    matvec: [Vec<f32>; 2],
    matmul: Vec<f32>,
    /// The f64 sum over the decoded numbers.
    exact: Vec<f64>,
}

/// Every encoding whose kernel gives levels.
fn encodings() -> impl Iterator<Item = (DType, &'static Layout)> {
    CODECS
        .iter()
        .filter_map(|codec| layout(codec.dtype()).map(|l| (codec.dtype(), l)))
        .filter(|(_, l)| l.levels)
}

fn composed(op: &[&str], layout: &Layout, tokens: usize) -> String {
    let constants = format!("const TOKENS: u32 = {tokens};\n");
    let parts = [op, &["products", "activation", "epilogue", "accumulate", "levels", layout.kernel]].concat();
    parts.iter().fold(constants, |text, part| text + source(part))
}

/// Activations `[n, units * 32]` as the kernel quantises them: their bytes on the device.
fn quantized(device: &TestDevice, x: &[f32], n: usize) -> Vec<u8> {
    let units = x.len() / n / 32;
    let bound = [Bound::Read(bytemuck::cast_slice(x)), Bound::Write(&vec![0xff; n * units * BLOCK])];
    let sizes = [units, n, units * 32].map(|size| size as u32);
    let groups = [(n * units).div_ceil(64) as u32, 1, 1];
    device.run(source("quantize_activations_wide"), &bound, &sizes, groups)
}

/// Bytes of 32 quantised activations.
const BLOCK: usize = 80;

/// The integers of a block, and its words of f32: the scale, and the scaled sums of its first 16, its last 16 and all.
fn unpacked(block: &[u8]) -> ([i32; 32], [f32; 4]) {
    let (high, low) = (&block[..32], &block[32..64]);
    let q = std::array::from_fn(|i| 256 * i32::from(high[i] as i8) + i32::from(low[i] as i8));
    let word = |i: usize| f32::from_le_bytes(std::array::from_fn(|b| block[64 + 4 * i + b]));
    (q, std::array::from_fn(word))
}

/// Activations of many magnitudes.
fn activations(len: usize, seed: u64) -> Vec<f32> {
    let bytes = random_bytes(4 * len, seed);
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&[a, b, c, d]| {
            let magnitude = f32::from(d % 13) - 8.0;
            (f32::from(i16::from_le_bytes([a, b])) + f32::from(c) / 256.0) / 32768.0 * magnitude.exp2()
        })
        .collect()
}

/// Random blocks whose values are numbers of reasonable size.
fn blocks(dtype: DType, layout: &Layout, n_blocks: usize, seed: u64) -> Vec<u8> {
    let mut all = Vec::with_capacity(n_blocks * layout.block_bytes);
    let mut seed = seed << 32;
    while all.len() < n_blocks * layout.block_bytes {
        let block = random_bytes(layout.block_bytes, seed);
        if decoded(dtype, layout, &block).iter().all(|value| value.abs() < 1e4) {
            all.extend(block);
        }
        seed += 1;
    }
    all
}

/// Every encoding in every size, computed once for all tests; none without a device.
fn all() -> &'static [Products] {
    static ALL: OnceLock<Vec<Products>> = OnceLock::new();
    ALL.get_or_init(|| {
        let Some(device) = test_device() else { return Vec::new() };
        let each =
            |(dtype, layout)| SIZES.map(|(rows, units, n)| products(device, dtype, layout, rows, units, n));
        encodings().flat_map(each).collect()
    })
}

/// Rows, units of 32 columns and tokens: one row and more than a tile, more chunks than are kept at once, tokens and
/// rows that leave a tile partly empty.
const SIZES: [(usize, usize, usize); 3] = [(1, 8, 3), (35, 24, 5), (3, 136, 34)];

fn products(
    device: &TestDevice,
    dtype: DType,
    layout: &Layout,
    rows: usize,
    units: usize,
    n: usize,
) -> Products {
    let n_blocks = rows * units * 32 / layout.block_len;
    let blocks = blocks(dtype, layout, n_blocks, 1 + dtype as u64);
    let x = quantized(device, &activations(n * units * 32, 7), n);
    let (shard, grids) = (planes(layout, &blocks), grids(layout));
    let bias = [0; 4];
    let run = |op: &[&str], lanes: usize, across: usize, down: usize| {
        let bound = [
            Bound::Read(&shard),
            Bound::Read(&shard),
            Bound::Read(bytemuck::cast_slice(&grids)),
            Bound::Read(&x),
            Bound::Read(&bias),
            Bound::Write(&vec![0xff; 4 * n * rows]),
        ];
        let sizes = [n_blocks, units, rows, 0, n, 5 * units, rows, 0, 0, lanes].map(|size| size as u32);
        let groups = [rows.div_ceil(across) as u32, 1, n.div_ceil(down) as u32];
        let found = device.run(&composed(op, layout, down), &bound, &sizes, groups);
        bytemuck::pod_collect_to_vec::<u8, f32>(&found)
    };
    let tokens = n.min(4);
    let w = decoded(dtype, layout, &blocks);
    let x: Vec<f64> = x
        .chunks(BLOCK)
        .flat_map(|block| {
            let (q, [d, ..]) = unpacked(block);
            q.map(|q| f64::from(q) * f64::from(d))
        })
        .collect();
    let dot = |x: &[f64], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * f64::from(*w)).sum::<f64>();
    let exact =
        x.chunks(units * 32).flat_map(|x| w.chunks(units * 32).map(move |w| dot(x, w))).collect::<Vec<f64>>();
    let what = format!("{dtype}, {rows} rows, {units} units, {n} tokens");
    Products {
        what,
        matvec: [16, 2].map(|lanes| run(&["matvec", "unit_wide"], lanes, 64 / lanes, tokens)),
        matmul: run(&["matmul_wide"], 0, 32, 32),
        exact,
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn activations_are_within_half_a_step_and_sums_are_theirs() {
    let Some(device) = test_device() else { return };
    let tolerance = Kernel::load("quantize_activations_wide").unwrap().tolerance;
    let x = activations(5 * 7 * 32, 3);
    let defined = ProductRule::Wide.operand(x.len(), &x);
    let doubtful: HashMap<usize, f64> = defined.doubts.iter().copied().collect();
    for (at, (block, x)) in quantized(device, &x, 5).chunks(BLOCK).zip(x.chunks(32)).enumerate() {
        let (q, [d, first, last, all]) = unpacked(block);
        let bound = tolerance.bound(x);
        for (k, q) in q.iter().enumerate() {
            let i = 32 * at + k;
            // The step itself is a quotient, too.
            let off = (f64::from(*q) * f64::from(d) - defined.values[i]).abs();
            let may = doubtful.get(&i).copied().unwrap_or(0.0) + defined.values[i].abs() * 3.0 / 8_388_608.0;
            assert!(off <= may, "{x:?}: element {k} is {q} times {d}, {off} from its definition");
        }
        for (q, x) in q.iter().zip(x) {
            let error = (f64::from(*q) * f64::from(d) - f64::from(*x)).abs();
            assert!(error <= bound, "{x} became {q} times {d}, {error} off; {bound} is allowed");
        }
        assert!(q.iter().any(|q| q.abs() == LARGEST), "the largest one is not hit: {q:?}");
        let sum = |q: &[i32]| d * q.iter().sum::<i32>() as f32;
        assert_eq!([first, last, all], [sum(&q[..16]), sum(&q[16..]), sum(&q)]);
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    let Some(device) = test_device() else { return };
    let mut x = activations(6 * 32, 5);
    (x[3], x[40], x[70]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    x[96..128].fill(0.0);
    x[128..160].fill(1e-31);
    let found = quantized(device, &x, 1);
    let blocks: Vec<_> = found.chunks(BLOCK).map(unpacked).collect();
    assert!(
        blocks[..3].iter().all(|(_, words)| words.iter().all(|word| word.is_nan())),
        "{:?}",
        &blocks[..3]
    );
    for (q, words) in &blocks[3..5] {
        assert_eq!((*q, *words), ([0; 32], [0.0; 4]));
    }
    assert!(blocks[5].1[0] > 0.0);
}

#[test]
fn products_are_those_of_the_decoded_numbers() {
    let tolerance = Kernel::load("matmul_wide").unwrap().tolerance;
    for Products { what, matvec, matmul, exact } in all() {
        let bound = tolerance.bound(&exact.iter().map(|e| *e as f32).collect::<Vec<f32>>());
        for (kernel, found) in [("matvec", &matvec[0]), ("matmul", matmul)] {
            assert_eq!(found.len(), exact.len());
            for (i, (found, exact)) in found.iter().zip(exact).enumerate() {
                let error = (f64::from(*found) - exact).abs();
                assert!(error <= bound, "{what}, {kernel}: output {i} is {found}, not {exact}");
            }
        }
    }
}

#[test]
fn a_prompt_gives_the_bits_of_its_tokens() {
    for Products { what, matvec, matmul, .. } in all() {
        for matvec in matvec {
            assert_eq!(bits(matvec), bits(matmul), "{what}");
        }
    }
}
