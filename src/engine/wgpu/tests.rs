//! Laws over whole models on the GPU: close to exact arithmetic on the processor, the same bits however tokens are fed, and
//! an error for whatever a device may do. Where there is no adapter these say so and test nothing.

use super::device::Device;
use super::memory::{Memory, STORAGE};
use super::pipelines::Kernel;
use super::{Wgpu, adapter, for_tests};
use crate::Kind;
use crate::engine::cpu::Cpu;
use crate::engine::parity::{bits, cases, engine, logits};
use crate::engine::random_model::{Random, config, gemma_like, model};
use crate::engine::{Context, Numerics, Want};
use crate::models::{ModelConfig, Window};
use crate::tensor::DType;
use std::sync::Arc;

const BOTH: [Numerics; 2] = [Numerics::Exact, Numerics::Fast];

/// Largest difference of two rows of logits as a share of the largest logit.
fn apart(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0f32, |m, l| m.max(l.abs()));
    // NaN is no number's maximum, so it must be looked for.
    assert!(found.iter().all(|l| l.is_finite()));
    expected.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn every_encoding_and_family_gives_the_logits_of_the_processor() {
    for (config, dtype) in cases() {
        let (model, family) = (model(&config, dtype, 40), &config.family);
        let ids = Random(9).ids(17, 131);
        let cpu = engine(Cpu::new(2, Numerics::Exact).expect("threads"), &model);
        let expected = logits(&cpu, &ids, &[17]);
        for (numerics, limit) in [(Numerics::Exact, 2e-5), (Numerics::Fast, 5e-3)] {
            let Some(gpu) = for_tests(numerics) else { return };
            let found = logits(&engine(gpu, &model), &ids, &[17]);
            let worst = apart(&expected, &found);
            assert!(worst <= limit, "{family} {dtype} {numerics:?}: {worst:e}");
        }
    }
}

#[test]
fn a_prompt_gives_the_bits_of_its_tokens_and_a_second_run_those_of_the_first() {
    for (config, dtype) in cases().into_iter().filter(|(_, d)| *d != DType::F64) {
        for numerics in BOTH {
            let Some(gpu) = for_tests(numerics) else { return };
            let engine = engine(gpu, &model(&config, dtype, 40));
            let ids = Random(9).ids(41, 131);
            let expected = bits(&logits(&engine, &ids, &[41]));
            for pieces in [&[41][..], &[1], &[2, 7, 1, 9, 3, 13]] {
                let found = bits(&logits(&engine, &ids, pieces));
                assert!(found == expected, "{} {dtype} {numerics:?} {pieces:?}", config.family);
            }
        }
    }
}

#[test]
fn depths_of_several_splits_and_windows_across_them_are_those_of_the_processor() {
    let deep = |c: ModelConfig| ModelConfig { max_positions: 800, n_layers: 2, ..c };
    let window = gemma_like().window.map(|w| Window { size: 270, ..w });
    for config in [config("llama"), ModelConfig { window, ..gemma_like() }].map(deep) {
        let model = model(&config, DType::Q8_0, 3);
        let ids = Random(4).ids(600, 131);
        let expected = logits(&engine(Cpu::new(2, Numerics::Exact).expect("threads"), &model), &ids, &[600]);
        for (numerics, limit) in [(Numerics::Exact, 2e-5), (Numerics::Fast, 5e-3)] {
            let Some(gpu) = for_tests(numerics) else { return };
            let engine = engine(gpu, &model);
            let found = logits(&engine, &ids, &[600]);
            let worst = apart(&expected, &found);
            assert!(worst <= limit, "{} {numerics:?}: {worst:e}", config.family);
            let pieces = logits(&engine, &ids, &[250, 1, 5, 1, 300, 1]);
            assert!(bits(&found) == bits(&pieces), "{} {numerics:?}", config.family);
        }
    }
}

#[test]
fn odd_widths_work() {
    // No size is a multiple of a unit or of a vector of the cache.
    let odd = ModelConfig {
        hidden_size: 36,
        n_heads: 3,
        n_kv_heads: 1,
        head_dim: 10,
        intermediate_size: 50,
        vocab_size: 37,
        position: crate::models::Position::Rope { theta: 100.0, dim: 10 },
        ..config("llama")
    };
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::AprQ4, DType::AprQ8] {
        let model = model(&odd, dtype, 8);
        let ids = Random(3).ids(70, 37);
        let expected = logits(&engine(Cpu::new(2, Numerics::Exact).expect("threads"), &model), &ids, &[70]);
        for numerics in BOTH {
            let Some(gpu) = for_tests(numerics) else { return };
            let engine = engine(gpu, &model);
            let found = logits(&engine, &ids, &[70]);
            assert!(apart(&expected, &found) < 5e-3, "{dtype} {numerics:?}");
            assert!(bits(&found) == bits(&logits(&engine, &ids, &[1])), "{dtype} {numerics:?}");
        }
    }
}

#[test]
fn sequences_together_forked_and_on_other_threads_get_the_bits_that_each_gets_alone() {
    let Some(gpu) = for_tests(Numerics::Exact) else { return };
    let engine = engine(gpu, &model(&config("qwen2"), DType::Q4_K, 5));
    let texts: Vec<Vec<u32>> = (0..4).map(|i| Random(i).ids(3 + 11 * i as usize, 131)).collect();
    let alone: Vec<Vec<u32>> = texts.iter().map(|ids| bits(&logits(&engine, ids, &[ids.len()]))).collect();

    let mut contexts: Vec<Context> = texts.iter().map(|_| Arc::clone(&engine).context()).collect();
    let mut feeds: Vec<_> =
        contexts.iter_mut().zip(&texts).map(|(context, ids)| (context, ids.as_slice(), Want::All)).collect();
    let mut together = Vec::new();
    Context::forward_many(&mut feeds, &mut together).expect("valid");
    assert!(bits(&together) == alone.concat());

    std::thread::scope(|scope| {
        for (ids, expected) in texts.iter().zip(&alone) {
            let engine = &engine;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert!(bits(&logits(engine, ids, &[2, 5])) == *expected);
                }
            });
        }
    });

    let mut trunk = Arc::clone(&engine).context();
    let (first, rest) = texts[3].split_at(20);
    trunk.forward(first, Want::None).expect("valid");
    let mut fork = trunk.fork();
    trunk.forward(&texts[1], Want::Last).expect("valid");
    let found = fork.forward(rest, Want::All).expect("valid");
    assert!(bits(&found) == alone[3][20 * 131..]);
}

/// A device of its own, which may be broken.
fn own_device() -> Option<Arc<Device>> {
    let (adapter, info) = adapter::choose(None).ok()?;
    Some(Arc::new(Device::new(&adapter, info, None).expect("an adapter that is listed opens")))
}

#[test]
fn a_lost_device_is_an_error_and_the_next_model_gets_another() {
    let Some(device) = own_device() else { return };
    let model = model(&config("llama"), DType::Q8_0, 1);
    let lost = engine(Wgpu::on(Arc::clone(&device), Numerics::Exact), &model);
    let mut context = Arc::clone(&lost).context();
    context.forward(&[1, 2], Want::Last).expect("it answers");
    assert!(!lost.is_lost());
    device.raw.destroy();
    let error = context.forward(&[3], Want::Last).expect_err("it is gone");
    assert_eq!(error.kind, Kind::Environment);
    let text = error.to_string();
    assert!(text.contains(&device.info.name) && text.contains("lost"), "{text}");
    assert!(context.forward(&[3], Want::Last).is_err() && lost.is_lost(), "it stays gone");
    let again = engine(for_tests(Numerics::Exact).expect("there is an adapter"), &model);
    Arc::clone(&again).context().forward(&[1, 2], Want::Last).expect("another device answers");
    assert!(!again.is_lost());
}

#[test]
fn memory_that_is_not_there_is_an_error_that_says_how_much() {
    let Some(device) = own_device() else { return };
    let kept = Memory::new(&device, 3 << 20, STORAGE).expect("three MiB");
    let asked = device.limits.max_buffer_size + 4;
    let error = Memory::new(&device, asked, STORAGE).err().expect("too much");
    assert_eq!(error.kind, Kind::Environment);
    let text = error.to_string();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1048576.0);
    for part in [mib(asked), "3.0 MiB in use".to_owned(), mib(device.limits.max_buffer_size)] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    device.check().expect("the device is none the worse");
    drop(kept);
    assert_eq!(device.in_use.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error_in_the_adapters_words_and_others_go_on() {
    let Some(device) = own_device() else { return };
    let broken = Kernel::new(&["rms_norm"]).with("NONE", "no_such_name");
    let error = device.pipelines.get(&device, &broken).err().expect("it is no kernel");
    assert_eq!(error.kind, Kind::Environment);
    let text = error.to_string();
    assert!(text.contains("rms_norm") && text.contains("no_such_name"), "{text}");
    let whole = engine(Wgpu::on(device, Numerics::Exact), &model(&config("llama"), DType::F16, 1));
    assert_eq!(logits(&whole, &[1, 2, 3], &[3]).len(), 3 * 131);
}

#[test]
fn nan_weights_give_nan_logits() {
    let Some(gpu) = for_tests(Numerics::Exact) else { return };
    let mut broken = model(&config("llama"), DType::F32, 2);
    let weight = broken.weights.get_mut("1.q_proj.weight").expect("there");
    let mut bytes = weight.tensor.bytes.to_vec();
    bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    weight.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
    let found = logits(&engine(gpu, &broken), &[1, 2, 3], &[3]);
    assert!(found[2 * 131..].iter().all(|l| l.is_nan()));
}
