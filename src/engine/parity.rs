//! Laws over whole models: the `cpu` backend is one function, whatever computes it, and close to the reference.

use super::cpu::{Cpu, Isa, Numerics};
use super::decoder::Decoder;
use super::random_model::{Random, config, gemma_like, model, with_rope_pairs};
use super::reference::Reference;
use super::{Backend, Context, Engine, Feed, Observer, Op, Place, SequenceId, Tap, Want};
use crate::Result;
use crate::models::{Model, ModelConfig, RopeScaling, RowOrder, Window};
use crate::quant;
use crate::tensor::{Bytes, DType};
use std::sync::{Arc, Mutex};

pub(super) fn engine<B: Backend>(backend: B, model: &Model) -> Arc<dyn Engine> {
    Arc::new(Decoder::load(backend, model).expect("a whole model"))
}

fn cpu(model: &Model, isa: Isa, threads: usize) -> Arc<dyn Engine> {
    on(Numerics::Exact, model, isa, threads)
}

fn on(numerics: Numerics, model: &Model, isa: Isa, threads: usize) -> Arc<dyn Engine> {
    engine(Cpu::with(isa, threads, numerics).expect("threads can be made"), model)
}

fn best() -> Isa {
    *Isa::available().last().expect("scalar code runs everywhere")
}

/// All logits `[ids, vocab]`, fed in pieces of the given lengths (the last length repeats).
pub(super) fn logits(engine: &Arc<dyn Engine>, ids: &[u32], pieces: &[usize]) -> Vec<f32> {
    let mut context = Arc::clone(engine).context();
    let (mut all, mut rest, mut i) = (Vec::new(), ids, 0);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces[i.min(pieces.len() - 1)].min(rest.len()));
        all.extend(context.forward(piece, Want::All).expect("valid ids"));
        (rest, i) = (after, i + 1);
    }
    all
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Every encoding that has a codec for the first family, a plain and a quantised one for the others.
pub(super) fn cases() -> Vec<(ModelConfig, DType)> {
    let all = quant::CODECS.iter().map(|c| (config("llama"), c.dtype()));
    let others = [config("qwen2"), config("gpt2"), gemma_like()];
    let others = others.into_iter().flat_map(|c| [DType::BF16, DType::Q8_0].map(|d| (c.clone(), d)));
    all.chain(others).collect()
}

#[test]
fn instruction_sets_threads_and_batches_give_the_same_bits() {
    for (config, dtype) in cases() {
        let (model, family) = (model(&config, dtype, 40), &config.family);
        let ids = Random(9).ids(17, 131);
        for numerics in [Numerics::Exact, Numerics::Fast] {
            let expected = bits(&logits(&on(numerics, &model, best(), 1), &ids, &[1]));
            for isa in Isa::available() {
                for (threads, pieces) in [(2, &[1][..]), (1, &[17]), (3, &[2, 7, 1, 6])] {
                    let found = bits(&logits(&on(numerics, &model, isa, threads), &ids, pieces));
                    let case = format!("{family} {dtype} {} {threads} {pieces:?}", isa.name());
                    assert!(found == expected, "{numerics:?} {case}");
                }
            }
        }
    }
}

#[test]
fn fast_numerics_are_near_exact_ones_and_not_the_same() {
    for (config, dtype) in cases() {
        let (model, family) = (model(&config, dtype, 77), &config.family);
        let ids = Random(5).ids(19, 131);
        let exact = logits(&cpu(&model, best(), 2), &ids, &[19]);
        let fast = logits(&on(Numerics::Fast, &model, best(), 2), &ids, &[19]);
        let spread = exact.iter().fold(0f32, |m, l| m.max(l.abs()));
        let worst = exact.iter().zip(&fast).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 0.05 * spread, "{family} {dtype}: {worst} of {spread}");
    }
}

#[test]
fn long_contexts_cross_segments_and_pieces_with_the_same_bits() {
    let model = model(&config("llama"), DType::Q8_0, 3);
    let ids = Random(4).ids(300, 131);
    let batch = logits(&cpu(&model, best(), 2), &ids, &[300]);
    assert!(bits(&batch) == bits(&logits(&cpu(&model, best(), 1), &ids, &[255, 1, 1, 43])));
    let last = Arc::clone(&cpu(&model, best(), 2)).context().forward(&ids, Want::Last).expect("valid");
    assert!(bits(&last) == bits(&batch[299 * 131..]), "prefill is the last row of all logits");
}

#[test]
fn tokens_without_wanted_logits_leave_the_same_keys_and_values() {
    for (config, dtype) in cases() {
        let (model, family) = (model(&config, dtype, 40), &config.family);
        let ids = Random(9).ids(17, 131);
        let here = [Numerics::Exact, Numerics::Fast].map(|numerics| on(numerics, &model, best(), 2));
        for engine in here.into_iter().chain([engine(Reference, &model)]) {
            let expected = logits(&engine, &ids, &[17]);
            // Two sequences in one pass: of neither, then of one of them, is anything wanted.
            let mut contexts = [Arc::clone(&engine).context(), Arc::clone(&engine).context()];
            let mut all = Vec::new();
            for (range, want) in [(0..5, Want::None), (5..6, Want::None), (6..17, Want::All)] {
                let [a, b] = &mut contexts;
                let mut feeds = [(a, &ids[range.clone()], Want::None), (b, &ids[range], want)];
                Context::forward_many(&mut feeds, &mut all).expect("valid ids");
            }
            assert!(bits(&all) == bits(&expected[6 * 131..]), "{family} {dtype} {}", engine.backend_name());
            let next = contexts.map(|mut context| context.forward(&[3], Want::Last).expect("valid"));
            assert!(bits(&next[0]) == bits(&next[1]), "{family} {dtype} {}", engine.backend_name());
        }
    }
}

#[test]
fn depths_of_several_splits_and_windows_across_them_give_the_same_bits() {
    let deep = |c: ModelConfig| ModelConfig { max_positions: 800, n_layers: 2, ..c };
    let wide = |w: Window| Window { size: 270, ..w };
    let windowed = ModelConfig { window: gemma_like().window.map(wide), ..gemma_like() };
    for config in [config("llama"), windowed].map(deep) {
        let model = model(&config, DType::Q8_0, 3);
        let ids = Random(4).ids(700, 131);
        let [batch, halves] = [Numerics::Exact, Numerics::Fast].map(|numerics| {
            let batch = logits(&on(numerics, &model, best(), 2), &ids, &[700]);
            for isa in Isa::available().into_iter().filter(|isa| isa.name() != "scalar") {
                let engine = on(numerics, &model, isa, 3);
                let pieces = logits(&engine, &ids, &[250, 1, 5, 1, 300, 140, 1]);
                assert!(bits(&batch) == bits(&pieces), "{numerics:?} {}", isa.name());
            }
            batch
        });
        assert!(bits(&batch) != bits(&halves));
        let judge = logits(&engine(Reference, &model), &ids, &[700]);
        let spread = judge.iter().fold(0f32, |m, l| m.max(l.abs()));
        let worst = judge.iter().zip(&batch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4 * spread, "{worst} of {spread}");
    }
}

#[test]
fn cpu_is_close_to_the_reference() {
    for (config, dtype) in cases() {
        let (model, family) = (model(&config, dtype, 77), &config.family);
        let ids = Random(5).ids(19, 131);
        let judge = logits(&engine(Reference, &model), &ids, &[19]);
        let found = logits(&cpu(&model, best(), 2), &ids, &[19]);
        let spread = judge.iter().fold(0f32, |m, l| m.max(l.abs()));
        assert!(spread > 0.5, "{family} {dtype}: logits that say something, not {spread}");
        let worst = judge.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4 * spread, "{family} {dtype}: {worst} of {spread}");
    }
}

#[test]
fn windows_scaled_frequencies_and_further_norms_are_computed_alike_over_long_contexts() {
    let model = model(&gemma_like(), DType::Q8_0, 3);
    let ids = Random(4).ids(300, 131);
    let batch = logits(&cpu(&model, best(), 2), &ids, &[300]);
    for isa in Isa::available() {
        let pieces = logits(&cpu(&model, isa, 1), &ids, &[255, 1, 1, 43]);
        assert!(bits(&batch) == bits(&pieces), "{}", isa.name());
    }
    let judge = logits(&engine(Reference, &model), &ids, &[300]);
    let spread = judge.iter().fold(0f32, |m, l| m.max(l.abs()));
    let worst = judge.iter().zip(&batch).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4 * spread, "{worst} of {spread}");
    // Each switch says something: without it the logits are others.
    let without: [fn(&mut ModelConfig); 4] = [
        |c| c.window = None,
        |c| c.embed_scale = 1.0,
        |c| c.rope_scaling = RopeScaling::None,
        |c| {
            c.window = c.window.map(|w| Window { local_theta: None, ..w });
        },
    ];
    for (i, change) in without.into_iter().enumerate() {
        let mut other = model.clone();
        change(&mut other.config);
        let other = logits(&cpu(&other, best(), 2), &ids, &[300]);
        assert!(bits(&other[299 * 131..]) != bits(&batch[299 * 131..]), "switch {i}");
    }
}

#[test]
fn stored_row_order_changes_no_bit() {
    for (family, dtype) in [("llama", DType::Q8_0), ("llama", DType::Q6_K), ("qwen2", DType::BF16)] {
        let canonical = model(&config(family), dtype, 12);
        let paired = with_rope_pairs(&canonical);
        assert_ne!(
            canonical.weights["0.q_proj.weight"].tensor.bytes[..],
            paired.weights["0.q_proj.weight"].tensor.bytes[..]
        );
        let ids = Random(6).ids(11, 131);
        for make in [|m: &Model| cpu(m, best(), 2), |m: &Model| engine(Reference, m)] {
            let (a, b) = (logits(&make(&canonical), &ids, &[11]), logits(&make(&paired), &ids, &[11]));
            assert!(bits(&a) == bits(&b), "{family} {dtype}");
        }
    }
}

/// Wants everything, and puts everything back as it was.
struct Mirror(Arc<Mutex<Vec<Place>>>);

impl Observer for Mirror {
    fn wants(&self, _: Op) -> bool {
        true
    }

    fn see(&mut self, tap: Tap, values: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>> {
        self.0.lock().expect("one thread").push(tap.order().1);
        Ok(Some(Arc::new(values)))
    }
}

#[test]
fn looking_changes_no_bit_and_places_come_in_order() {
    for config in [config("llama"), config("qwen2"), config("gpt2"), gemma_like()] {
        let (model, family) = (model(&config, DType::Q8_0, 51), &config.family);
        let ids = Random(8).ids(50, 131);
        for engine in [cpu(&model, best(), 2), engine(Reference, &model)] {
            let alone = logits(&engine, &ids, &[50]);
            let places: Arc<Mutex<Vec<Place>>> = Arc::default();
            let mut context = Arc::clone(&engine).context();
            context.observe(Box::new(Mirror(Arc::clone(&places))));
            let seen = context.forward(&ids, Want::All).expect("valid ids");
            assert!(bits(&seen) == bits(&alone), "{family}");
            let places = places.lock().expect("one thread");
            assert!(places.is_sorted() && places.len() > 30, "{family}: {places:?}");
        }
    }
}

#[test]
fn sequences_in_one_pass_give_the_bits_of_each_alone() {
    for (config, dtype) in
        [(config("llama"), DType::Q4_K), (config("gpt2"), DType::BF16), (gemma_like(), DType::Q8_0)]
    {
        let (model, family) = (model(&config, dtype, 61), &config.family);
        // What each sequence has already and what it is fed: more than one pass in all, one token among them.
        let shapes = [
            (0, 100, Want::Last),
            (7, 1, Want::All),
            (0, 150, Want::From(140)),
            (33, 9, Want::None),
            (270, 60, Want::All),
        ];
        let texts: Vec<Vec<u32>> =
            shapes.iter().enumerate().map(|(i, s)| Random(i as u64).ids(s.0 + s.1, 131)).collect();
        let fast = on(Numerics::Fast, &model, best(), 2);
        for engine in [cpu(&model, best(), 2), fast, engine(Reference, &model)] {
            let begin = |i: usize| {
                let mut context = Arc::clone(&engine).context();
                if shapes[i].0 > 0 {
                    context.forward(&texts[i][..shapes[i].0], Want::None).expect("valid ids");
                }
                context
            };
            let mut together: Vec<Context> = (0..shapes.len()).map(begin).collect();
            let mut feeds: Vec<(&mut Context, &[u32], Want)> = together
                .iter_mut()
                .zip(&texts)
                .zip(shapes)
                .map(|((context, text), (before, _, want))| (context, &text[before..], want))
                .collect();
            // What an earlier pass left behind must not be seen.
            let mut found = vec![f32::NAN; 7 * 131];
            Context::forward_many(&mut feeds, &mut found).expect("valid ids");
            let mut found = found.as_slice();
            for (i, (before, n, want)) in shapes.into_iter().enumerate() {
                let mut alone = begin(i);
                let expected = alone.forward(&texts[i][before..], want).expect("valid ids");
                let rows = match want {
                    Want::None => 0,
                    Want::Last => 1,
                    Want::All => n,
                    Want::From(first) => n - first,
                };
                let (own, others) = found.split_at(rows * 131);
                found = others;
                assert_eq!(expected.len(), rows * 131, "{family} {want:?}");
                assert!(bits(own) == bits(&expected), "{family} {want:?}");
                assert_eq!(together[i].position(), before + n);
                let next =
                    [&mut together[i], &mut alone].map(|c| c.forward(&[5], Want::Last).expect("valid"));
                assert!(bits(&next[0]) == bits(&next[1]), "{family} {want:?}: the cache");
            }
            assert!(found.is_empty(), "{family}");
        }
    }
}

#[test]
fn a_fork_continues_as_the_original_would() {
    let model = model(&config("llama"), DType::Q8_0, 62);
    let fast = on(Numerics::Fast, &model, best(), 2);
    for engine in [cpu(&model, best(), 2), fast, engine(Reference, &model)] {
        // Within a segment, at its end, within its successor.
        for at in [1, 63, 64, 100] {
            let ids = Random(at as u64).ids(at + 40, 131);
            let (prefix, rest) = ids.split_at(at);
            let expected = logits(&engine, &ids, &[at, 40]);
            let expected = bits(&expected[at * 131..]);
            let mut original = Arc::clone(&engine).context();
            original.forward(prefix, Want::None).expect("valid ids");
            let (mut fork, mut other) = (original.fork(), original.fork());
            other.forward(&[9; 40], Want::None).expect("valid ids");
            drop(other);
            assert!(bits(&fork.forward(rest, Want::All).expect("valid ids")) == expected, "the fork at {at}");
            assert_eq!((fork.position(), original.position()), (at + 40, at));
            fork.reset();
            assert!(
                bits(&original.forward(rest, Want::All).expect("valid")) == expected,
                "the original at {at}"
            );
        }
    }
}

#[test]
fn a_refused_sequence_leaves_all_as_they_were() {
    let engine = engine(Reference, &model(&config("llama"), DType::F32, 63));
    let other = Arc::clone(&engine);
    let [mut a, mut b] = [1, 2].map(|_| Arc::clone(&engine).context());
    let mut logits = vec![1.0];
    let mut many = |feeds: &mut [(&mut Context, &[u32], Want)]| Context::forward_many(feeds, &mut logits);
    let error = many(&mut [(&mut a, &[1, 2], Want::Last), (&mut b, &[131], Want::Last)]);
    assert!(error.expect_err("no such token").to_string().contains("token id 131"));
    assert_eq!((a.position(), b.position()), (0, 0));
    let model = model(&config("llama"), DType::F32, 64);
    let mut foreign = self::engine(Reference, &model).context();
    let error = many(&mut [(&mut a, &[1], Want::Last), (&mut foreign, &[1], Want::Last)]);
    assert!(error.expect_err("two models").to_string().contains("several models"));
    let twice = [0, 1].map(|_| Feed { sequence: SequenceId(u64::MAX), ids: &[1], want: Want::Last });
    let refused = other.forward(&twice, &mut Vec::new()).expect_err("no such sequence");
    assert_eq!(refused.kind, crate::Kind::Internal);
    assert!(a.forward(&[1, 2], Want::Last).is_ok() && many(&mut []).is_ok() && logits.is_empty());
}

#[test]
fn a_later_token_changes_no_earlier_logit() {
    for family in ["llama", "qwen2", "gpt2"] {
        let model = model(&config(family), DType::Q4_K, 31);
        let mut ids = Random(7).ids(40, 131);
        for make in [|m: &Model| cpu(m, best(), 2), |m: &Model| engine(Reference, m)] {
            let before = logits(&make(&model), &ids, &[40]);
            ids[25] = (ids[25] + 1) % 131;
            let after = logits(&make(&model), &ids, &[40]);
            assert!(bits(&before[..25 * 131]) == bits(&after[..25 * 131]), "{family}");
            assert!(bits(&before[25 * 131..26 * 131]) != bits(&after[25 * 131..26 * 131]), "{family}");
        }
    }
}

#[test]
fn shared_key_heads_equal_copied_ones() {
    let grouped = model(&config("qwen2"), DType::F32, 21);
    let heads = grouped.config.n_heads;
    let mut expanded = grouped.clone();
    expanded.config = ModelConfig { n_kv_heads: heads, ..grouped.config.clone() };
    for (name, weight) in &mut expanded.weights {
        if !(name.contains(".k_proj.") || name.contains(".v_proj.")) {
            continue;
        }
        let (n_kv, group) = (grouped.config.n_kv_heads, heads / grouped.config.n_kv_heads);
        let per_head: Vec<&[u8]> = weight.tensor.bytes.chunks(weight.tensor.bytes.len() / n_kv).collect();
        let copied: Vec<u8> = per_head.iter().flat_map(|head| head.repeat(group)).collect();
        weight.tensor.shape.0[0] *= group;
        weight.tensor.bytes = Bytes::from_vec(copied);
        assert_eq!(weight.rows, RowOrder::Canonical);
    }
    let ids = Random(2).ids(30, 131);
    let make = |m: &Model| logits(&cpu(m, best(), 2), &ids, &[30]);
    assert!(bits(&make(&grouped)) == bits(&make(&expanded)));
}

#[test]
fn odd_widths_work() {
    // No size is a multiple of 16, so every row has a partial vector.
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
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let model = model(&odd, dtype, 8);
        let ids = Random(3).ids(70, 37);
        let expected = logits(&engine(Reference, &model), &ids, &[70]);
        let found = logits(&cpu(&model, best(), 2), &ids, &[70]);
        let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{dtype}: {worst}");
        for isa in Isa::available() {
            assert!(
                bits(&logits(&cpu(&model, isa, 1), &ids, &[1])) == bits(&found),
                "{dtype} {}",
                isa.name()
            );
        }
    }
}

#[test]
fn wrong_weights_are_refused_by_name() {
    let whole = model(&config("llama"), DType::F32, 1);
    let refused = |change: &dyn Fn(&mut Model), needles: [&str; 2]| {
        let mut broken = whole.clone();
        change(&mut broken);
        let error = Decoder::load(Reference, &broken).err().expect("refused").to_string();
        assert!(needles.iter().all(|needle| error.contains(needle)), "{error}");
    };
    refused(&|m| drop(m.weights.remove("1.k_proj.weight")), ["`1.k_proj.weight`", "is missing"]);
    refused(
        &|m| m.weights.get_mut("0.up_proj.weight").expect("there").tensor.shape.0.swap(0, 1),
        ["`0.up_proj.weight`", "expected shape [512, 256], found [256, 512]"],
    );
    refused(
        &|m| drop(m.weights.insert("1.q_norm.weight".into(), m.weights["0.attn_norm.weight"].clone())),
        ["`1.q_norm.weight`", "nothing uses it"],
    );
    // A bias in one layer only is either lost elsewhere or a stray.
    let bias = |m: &mut Model, l: usize| {
        let weight = m.weights["0.attn_norm.weight"].clone();
        m.weights.insert(format!("{l}.q_proj.bias"), weight);
    };
    refused(&|m| bias(m, 0), ["`1.q_proj.bias`", "is missing"]);
    refused(&|m| bias(m, 1), ["`1.q_proj.bias`", "nothing uses it"]);
    refused(&|m| m.config.n_kv_heads = 3, ["config", "8 query heads are no multiple of 3"]);
}
