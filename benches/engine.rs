//! Speed of the engine on a model of yours: `cargo bench --bench engine -- MODEL [BACKEND [THREADS]]`.
//!
//! Prints tokens per second of a 512-token prefill and of 128 generated tokens, best of three.

use apr_qa_runner::infer::{EngineOptions, LoadedModel, argmax};
use apr_qa_runner::{Result, formats, models};
use std::path::Path;
use std::time::Instant;

fn main() -> Result<()> {
    // Cargo passes `--bench`; without a model there is nothing to measure.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(path) = args.first() else {
        println!("usage: cargo bench --bench engine -- MODEL [BACKEND [THREADS]]");
        return Ok(());
    };
    let backend = args.get(1).cloned().unwrap_or_else(|| "cpu".to_owned());
    let threads = args.get(2).and_then(|t| t.parse().ok()).unwrap_or(2);
    let model = models::open(&formats::open(Path::new(path))?)?;
    let model = LoadedModel::load(&model, &EngineOptions { backend, threads })?;

    let vocab = model.config().vocab_size as u32;
    let longest = model.config().max_positions;
    let prompt: Vec<u32> =
        (0..512.min(longest / 2) as u32).map(|i| (i * 7919 + 13) % vocab.min(20_000)).collect();
    let (mut prefill, mut steps) = (0f64, 0f64);
    for _ in 0..3 {
        let mut session = model.session();
        let start = Instant::now();
        session.prefill(&prompt)?;
        prefill = prefill.max(prompt.len() as f64 / start.elapsed().as_secs_f64());

        session.reset();
        let mut logits = session.prefill(&prompt[..8])?;
        let n = 128.min(longest - 8);
        let start = Instant::now();
        for _ in 0..n {
            logits = session.step(argmax(&logits).unwrap_or(0))?;
        }
        steps = steps.max(n as f64 / start.elapsed().as_secs_f64());
    }
    println!(
        "{} {} threads={threads}: prefill {prefill:.1} tok/s, generation {steps:.1} tok/s",
        path,
        model.backend_name()
    );
    Ok(())
}
