//! Walks of small random models: sound ones, and ones with one thing broken.

use super::*;
use crate::engine::random_model::{Random, config, gemma_like, model, with_rope_pairs};
use crate::infer::EngineOptions;
use crate::models::{Model, ModelConfig, Position};
use crate::quant;
use crate::tensor::{Bytes, DType, Tensor};

fn load(model: &Model) -> LoadedModel {
    let options = EngineOptions { backend: "cpu".into(), threads: 1, adapter: None };
    LoadedModel::load(model, &options).expect("a whole model")
}

fn against(original: &Model, candidate: &Model, twin: Option<&Model>, tokens: usize) -> Result<Walk> {
    let (original, candidate) = (load(original), load(candidate));
    let twin = twin.map(load);
    let walkers = Walkers {
        original: &original,
        candidate: &candidate,
        twin: twin.as_ref(),
        floor: &|_| None,
        margin_db: MARGIN_DB,
        until: None,
    };
    walk(&walkers, &Random(3).ids(tokens, 131))
}

/// The matrices of `model` in another encoding, as our own quantiser rounds them.
fn encoded(model: &Model, dtype: DType) -> Model {
    let mut other = model.clone();
    for weight in other.weights.values_mut().filter(|w| w.tensor.shape.ndim() == 2) {
        let values = quant::to_f32(&weight.tensor).expect("F32");
        let shape = weight.tensor.shape.clone();
        let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &values).expect("whole blocks"));
        weight.tensor = Tensor { dtype, shape, bytes };
    }
    other
}

fn change(model: &Model, name: &str, change: impl Fn(&mut Vec<f32>)) -> Model {
    let mut other = model.clone();
    let weight = other.weights.get_mut(name).expect("the family has it");
    let (dtype, shape) = (weight.tensor.dtype, weight.tensor.shape.clone());
    let mut values = quant::to_f32(&weight.tensor).expect("decodes");
    change(&mut values);
    let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &values).expect("encodes"));
    weight.tensor = Tensor { dtype, shape, bytes };
    other
}

fn families() -> [ModelConfig; 4] {
    [config("llama"), config("qwen2"), config("gpt2"), gemma_like()]
}

/// `blk.1 ffn_down` and its tensor, of the first operation over its bound.
fn first(walk: &Walk) -> (String, Option<String>) {
    let tap = walk.first().unwrap_or_else(|| panic!("nothing is over: {walk:#?}"));
    (tap.name(), tap.tensor.clone())
}

#[test]
fn a_model_against_itself_has_no_error_anywhere() {
    for config in families() {
        let whole = model(&config, DType::Q8_0, 5);
        // 150 tokens are two pieces; the rows of q and k are stored in another order.
        let stored =
            if config.position == Position::Learned { whole.clone() } else { with_rope_pairs(&whole) };
        let walk = against(&whole, &stored, None, 150).expect("one model");
        assert!(walk.first_over.is_none() && walk.notes.is_empty() && walk.tokens == 150);
        assert!(walk.taps.len() > 2 * 12, "{}", walk.taps.len());
        for tap in &walk.taps {
            let db = (tap.local_db, tap.cumulative_db, tap.expected_db);
            assert_eq!(db, (f64::INFINITY, f64::INFINITY, f64::INFINITY), "{}", tap.name());
            assert_eq!(tap.by_position.len(), 150, "{}", tap.name());
        }
        assert_eq!(walk.taps[0].place.op, Op::Embedding);
        assert_eq!(walk.taps.last().map(|t| t.place.op), Some(Op::Logits));
    }
}

#[test]
fn a_sound_conversion_equals_its_twin_at_every_operation() {
    for config in families() {
        let whole = model(&config, DType::F32, 6);
        let rounded = encoded(&whole, DType::Q4_0);
        let walk = against(&whole, &rounded, Some(&rounded), 24).expect("one model");
        assert!(walk.first_over.is_none(), "{:?}", walk.first());
        let down = walk.taps.iter().find(|t| t.place.op == Op::DownProj).expect("there is one");
        // Rounding to 16 levels: some 20 dB, and the twin says so.
        assert!((15.0..30.0).contains(&down.local_db) && down.local_db == down.expected_db, "{down:?}");
        assert_eq!(Some(down.cumulative_db), down.expected_cumulative_db);
        assert!(down.cumulative_db < down.local_db, "errors come together: {down:?}");
    }
}

#[test]
fn the_first_wrong_operation_is_named_also_under_quantization() {
    let whole = model(&config("llama"), DType::F32, 7);
    let twin = encoded(&whole, DType::Q4_0);
    for (name, expected) in [
        ("1.down_proj.weight", "blk.1 ffn_down"),
        ("0.k_proj.weight", "blk.0 attn_k"),
        ("1.gate_proj.weight", "blk.1 ffn_gate"),
        ("0.o_proj.weight", "blk.0 attn_output"),
        ("output.weight", "output"),
        ("token_embd.weight", "token_embd"),
        ("1.ffn_norm.weight", "blk.1 ffn_norm"),
    ] {
        let broken = encoded(&change(&whole, name, |v| v.iter_mut().for_each(|x| *x *= 1.2)), DType::Q4_0);
        let walk = against(&whole, &broken, Some(&twin), 24).expect("one model");
        assert_eq!(first(&walk), (expected.to_owned(), Some(name.to_owned())));
    }
}

#[test]
fn settings_are_found_where_they_work() {
    type Change = fn(&mut ModelConfig);
    let cases: [(&str, Change, &str); 5] = [
        ("llama", |c| c.norm_eps = 1e-6, "blk.0 attn_norm"),
        ("llama", |c| c.position = Position::Rope { theta: 500_000.0, dim: 32 }, "blk.0 rope_q"),
        ("llama", |c| c.attn_scale *= 1.1, "blk.0 attention"),
        ("gemma", |c| c.embed_scale = 1.0, "token_embd"),
        ("gemma", |c| c.window = None, "blk.0 rope_q"),
    ];
    for (family, change, expected) in cases {
        let whole = match family {
            "gemma" => model(&gemma_like(), DType::Q8_0, 8),
            family => model(&config(family), DType::Q8_0, 8),
        };
        let mut other = whole.clone();
        change(&mut other.config);
        let walk = against(&whole, &other, Some(&whole), 60).expect("one model");
        assert_eq!(first(&walk).0, expected);
    }
}

#[test]
fn a_wrong_base_grows_with_position_and_spares_the_first() {
    let whole = model(&config("llama"), DType::F32, 9);
    let mut other = whole.clone();
    other.config.position = Position::Rope { theta: 100.0, dim: 32 };
    let walk = against(&whole, &other, None, 60).expect("one model");
    let by = &walk.first().expect("it is wrong").by_position;
    assert!(by[0] == f64::INFINITY && by[1] < 60.0 && by[50] < by[1], "{by:?}");
}

#[test]
fn models_of_other_shapes_are_walked_as_far_as_they_agree() {
    let whole = model(&config("llama"), DType::F32, 10);
    let fewer = model(&ModelConfig { n_layers: 1, ..config("llama") }, DType::F32, 10);
    for (a, b) in [(&whole, &fewer), (&fewer, &whole)] {
        let walk = against(a, b, None, 20).expect("they share a width");
        assert!(walk.notes.iter().any(|n| n.starts_with("blk.1")), "{:?}", walk.notes);
        assert!(walk.taps.iter().any(|t| t.place.op == Op::Logits));
    }
    let wider = model(&ModelConfig { intermediate_size: 768, ..config("llama") }, DType::F32, 10);
    let walk = against(&whole, &wider, None, 20).expect("they share a width");
    assert!(walk.notes.iter().any(|n| n.contains("512 wide in the original, 768 here")), "{:?}", walk.notes);
    let narrow = ModelConfig { hidden_size: 128, intermediate_size: 256, ..config("llama") };
    let padded = model(&ModelConfig { vocab_size: 160, ..narrow }, DType::F32, 10);
    assert!(against(&whole, &padded, None, 20).is_ok(), "the logits are compared by the common vocabulary");
}

#[test]
fn a_nan_is_named_and_does_not_spread_to_local_errors() {
    let whole = model(&config("llama"), DType::F32, 11);
    let mut broken = whole.clone();
    let weight = broken.weights.get_mut("0.v_proj.weight").expect("there");
    let mut bytes = weight.tensor.bytes.to_vec();
    bytes[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
    weight.tensor.bytes = Bytes::from_vec(bytes);
    let walk = against(&whole, &broken, None, 20).expect("one model");
    assert_eq!(first(&walk).0, "blk.0 attn_v");
    let over: Vec<_> = walk.taps.iter().filter(|t| t.is_over()).map(TapError::name).collect();
    assert_eq!(over, ["blk.0 attn_v"]);
}

#[test]
fn one_walk_that_ends_early_ends_all_and_its_reason_is_told() {
    let whole = load(&model(&config("llama"), DType::F32, 12));
    let short = load(&model(&ModelConfig { max_positions: 8, ..config("llama") }, DType::F32, 12));
    let parties = [(&whole, Mode::Free), (&short, Mode::Free), (&whole, Mode::Forced)];
    let error =
        together(&whole, &parties, &Random(1).ids(20, 131), None).err().expect("20 tokens do not fit in 8");
    assert!(error.to_string().contains("exceed the model's context of 8"), "{error}");
    let error =
        together(&short, &parties[..1], &Random(1).ids(20, 131), None).err().expect("nor in the original");
    assert!(error.to_string().contains("exceed the model's context of 8"), "{error}");
    let late =
        together(&whole, &parties[..1], &[1, 2, 3], Some(Instant::now())).err().expect("no time is left");
    assert!(late.to_string().contains("time for the walk is over"), "{late}");
    let panicked = guarded(|| -> Result<()> { panic!("by design") }).expect_err("a panic is an error");
    assert!(panicked.to_string().contains("by design"), "{panicked}");
}

#[test]
fn without_a_twin_the_encoding_says_what_is_expected() {
    let whole = model(&config("llama"), DType::F32, 13);
    let rounded = encoded(&whole, DType::Q8_0);
    let (original, candidate) = (load(&whole), load(&rounded));
    let floor = |name: &str| (!name.contains("norm")).then_some(33.0);
    let walkers = Walkers {
        original: &original,
        candidate: &candidate,
        twin: None,
        floor: &floor,
        margin_db: 3.0,
        until: None,
    };
    let found = walk(&walkers, &Random(3).ids(24, 131)).expect("one model");
    assert!(found.first_over.is_none(), "{:?}", found.first());
    let strict = Walkers { floor: &|_| Some(60.0), ..walkers };
    assert!(walk(&strict, &Random(3).ids(24, 131)).expect("one model").first_over.is_some());
}

#[test]
fn no_tokens_are_no_walk() {
    let whole = model(&config("llama"), DType::F32, 14);
    let error = against(&whole, &whole, None, 0).expect_err("nothing to compare");
    assert_eq!(error.kind, Kind::Usage);
}
