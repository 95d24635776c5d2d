//! Small models of seeded random weights, for tests: any family, any encoding, stored rows shuffled or not.

use crate::models::{Ffn, Model, ModelConfig, NormKind, Position, RopeScaling, RowOrder, Weight, Window};
use crate::tensor::{Bytes, DType};
use std::collections::BTreeMap;

pub(crate) use super::random_tensor::{Random, tensor};

/// A family with every row whole blocks of 256, an odd vocabulary, four query heads per key head.
pub(crate) fn config(family: &str) -> ModelConfig {
    let gpt2 = family == "gpt2";
    ModelConfig {
        family: family.to_owned(),
        hidden_size: 256,
        n_layers: 2,
        n_heads: 8,
        n_kv_heads: if gpt2 { 8 } else { 2 },
        head_dim: 32,
        intermediate_size: 512,
        vocab_size: 131,
        max_positions: 400,
        norm: if gpt2 { NormKind::Layer } else { NormKind::Rms },
        norm_eps: 1e-5,
        position: if gpt2 { Position::Learned } else { Position::Rope { theta: 10000.0, dim: 32 } },
        ffn: if gpt2 { Ffn::GeluTanh } else { Ffn::SiluGated },
        tied_embeddings: family != "llama",
        attn_scale: 1.0 / 32f32.sqrt(),
        rope_scaling: RopeScaling::None,
        window: None,
        qk_norm: false,
        post_norms: false,
        embed_scale: 1.0,
    }
}

/// Every switch that llama, qwen2 and gpt2 leave off: windows on every other layer with a base of their own, norms
/// on heads and outputs, a GELU gate, a scaled embedding, scaled frequencies.
pub(crate) fn gemma_like() -> ModelConfig {
    ModelConfig {
        window: Some(Window { size: 37, global_every: Some(2), local_theta: Some(100.0) }),
        rope_scaling: RopeScaling::Linear { factor: 4.0 },
        qk_norm: true,
        post_norms: true,
        embed_scale: 16.0,
        ffn: Ffn::GeluGated,
        ..config("qwen3")
    }
}

/// A model of `config` with matrices in `dtype` and everything else in F32.
pub(crate) fn model(config: &ModelConfig, dtype: DType, seed: u64) -> Model {
    let c = config;
    let (hidden, wide) = (c.hidden_size, c.intermediate_size);
    let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    let mut random = Random(seed);
    let mut weights = BTreeMap::new();
    let mut add = |name: String, dims: &[usize], center: f32, spread: f32| {
        let dtype = if dims.len() == 2 { dtype } else { DType::F32 };
        let tensor = tensor(dtype, dims, center, spread, &mut random);
        weights.insert(name, Weight { tensor, rows: RowOrder::Canonical });
    };
    add("token_embd.weight".into(), &[c.vocab_size, hidden], 0.0, 1.0);
    if c.position == Position::Learned {
        add("position_embd.weight".into(), &[c.max_positions, hidden], 0.0, 0.5);
    }
    if !c.tied_embeddings {
        add("output.weight".into(), &[c.vocab_size, hidden], 0.0, 0.3);
    }
    let layer_norm = c.norm == NormKind::Layer;
    let biased = layer_norm || c.family == "qwen2";
    type Add<'a> = &'a mut dyn FnMut(String, &[usize], f32, f32);
    let norm = |add: Add, name: String| {
        let width = if name.contains("q_norm") || name.contains("k_norm") { c.head_dim } else { hidden };
        add(format!("{name}.weight"), &[width], 1.0, 0.3);
        if layer_norm {
            add(format!("{name}.bias"), &[hidden], 0.0, 0.3);
        }
    };
    norm(&mut add, "output_norm".into());
    for l in 0..c.n_layers {
        norm(&mut add, format!("{l}.attn_norm"));
        norm(&mut add, format!("{l}.ffn_norm"));
        let heads = ["q_norm", "k_norm"].into_iter().filter(|_| c.qk_norm);
        let posts = ["post_attn_norm", "post_ffn_norm"].into_iter().filter(|_| c.post_norms);
        heads.chain(posts).for_each(|name| norm(&mut add, format!("{l}.{name}")));
        let projections = [
            ("q_proj", q, hidden, biased),
            ("k_proj", kv, hidden, biased),
            ("v_proj", kv, hidden, biased),
            ("o_proj", hidden, q, layer_norm),
            ("gate_proj", wide, hidden, false),
            ("up_proj", wide, hidden, layer_norm),
            ("down_proj", hidden, wide, layer_norm),
        ];
        for (part, rows, cols, biased) in projections {
            if part == "gate_proj" && c.ffn == Ffn::GeluTanh {
                continue;
            }
            add(format!("{l}.{part}.weight"), &[rows, cols], 0.0, 2.0 / (cols as f32).sqrt());
            if biased {
                add(format!("{l}.{part}.bias"), &[rows], 0.0, 0.5);
            }
        }
    }
    Model { path: "random".into(), config: c.clone(), weights }
}

/// The same model with `q` and `k` stored as llama-family GGUF stores them.
pub(crate) fn with_rope_pairs(model: &Model) -> Model {
    let mut paired = model.clone();
    let rows = RowOrder::RopePairs { head_dim: model.config.head_dim };
    for (name, weight) in &mut paired.weights {
        if !(name.contains(".q_proj.") || name.contains(".k_proj.")) {
            continue;
        }
        let canonical = weight.tensor.bytes.to_vec();
        // Rows of a matrix, elements of a bias.
        let n = weight.tensor.shape.0[0];
        let row_bytes = canonical.len() / n;
        let mut stored = vec![0; canonical.len()];
        for r in 0..n {
            let to = rows.stored_row(r) * row_bytes;
            stored[to..to + row_bytes].copy_from_slice(&canonical[r * row_bytes..(r + 1) * row_bytes]);
        }
        weight.tensor.bytes = Bytes::from_vec(stored);
        weight.rows = rows;
    }
    paired
}
