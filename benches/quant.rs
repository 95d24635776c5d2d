//! Quantising on one thread: megabytes of f32 per second for each encoding, without and with importance.
//!
//! `oracle/gen_vectors.py LIBGGML_BASE_SO --bench` prints the same table for GGML's quantisers.

use apr_qa_runner::quant::CODECS;
use std::time::Instant;

const ROWS: usize = 256;
const COLUMNS: usize = 2048;
/// The best of so many runs counts: what disturbs only ever slows down.
const RUNS: usize = 5;

fn main() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of twelve uniform numbers is close to normal, as weights are.
    let values: Vec<f32> =
        (0..ROWS * COLUMNS).map(|_| 0.02 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0)).collect();
    let importance: Vec<f32> = (0..COLUMNS).map(|_| 0.1 + 3.9 * uniform()).collect();
    for codec in CODECS {
        let mut out = Vec::new();
        let mut rate = |importance: Option<&[f32]>| {
            let mut best = f64::INFINITY;
            for _ in 0..RUNS {
                out.clear();
                let start = Instant::now();
                codec.encode_rows(&values, COLUMNS, importance, &mut out).ok()?;
                best = best.min(start.elapsed().as_secs_f64());
            }
            Some((values.len() * 4) as f64 / best / 1e6)
        };
        // Those that are only read have no rate.
        if let (Some(plain), Some(weighted)) = (rate(None), rate(Some(&importance))) {
            println!("{:8} {plain:8.0} MB/s   {weighted:8.0} MB/s with importance", codec.dtype().name());
        }
    }
}
