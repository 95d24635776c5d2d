//! Small models of seeded random weights, for tests: any family, any encoding, stored rows shuffled or not.

use crate::models::{Ffn, Model, ModelConfig, NormKind, Position, RopeScaling, RowOrder, Weight, Window};
use crate::quant;
use crate::stats::SplitMix;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use std::collections::BTreeMap;

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

/// A tensor of values within `center ± spread`, also in the encodings that the program only reads.
pub(crate) fn tensor(dtype: DType, dims: &[usize], center: f32, spread: f32, random: &mut Random) -> Tensor {
    let shape = Shape::from(dims);
    let mut values =
        || -> Vec<f32> { (0..shape.numel()).map(|_| center + spread * random.signed()).collect() };
    let bytes = match quant::from_f32(dtype, &shape, &values()) {
        Ok(bytes) => bytes,
        Err(_) if dtype == DType::F64 => values().iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
        Err(_) => {
            let n = dtype.nbytes(&shape).expect("whole blocks");
            let mut bytes: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
            let largest = half::f16::from_f32(spread / steps(dtype)).to_le_bytes();
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                for at in half_fields(dtype) {
                    block[*at..at + 2].copy_from_slice(&largest);
                }
                if dtype == DType::MXFP4 {
                    // The scale is a power of two, and levels are up to 6.
                    block[0] = (127.0 + (spread / 6.0).log2().floor()) as u8;
                }
                if dtype == DType::IQ1_M {
                    // The nibbles of the half lie on top of four words.
                    for (i, at) in [49, 51, 53, 55].into_iter().enumerate() {
                        let nibble = largest[i / 2] >> (i % 2 * 4) & 0x0f;
                        block[at] = (block[at] & 0x0f) | nibble << 4;
                    }
                }
            }
            bytes
        }
    };
    Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) }
}

/// What multiplies the f16 scale of a block at most, about: sub-scales times levels.
fn steps(dtype: DType) -> f32 {
    match dtype {
        DType::TQ1_0 | DType::TQ2_0 => 1.0,
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 | DType::AprQ4 => 16.0,
        DType::IQ1_S | DType::IQ1_M => 17.0,
        DType::IQ4_NL => 127.0,
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => 170.0,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => 500.0,
        DType::IQ3_XXS | DType::IQ3_S => 500.0,
        DType::IQ4_XS => 32.0 * 127.0,
        DType::MXFP4 | DType::AprQ8 => 1.0,
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => 1.0,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => 1.0,
    }
}

/// Where a block holds f16 numbers.
fn half_fields(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::AprQ4 => &[0],
        DType::IQ1_S | DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => &[0],
        DType::IQ3_XXS | DType::IQ3_S | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        DType::IQ1_M | DType::MXFP4 => &[],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 | DType::AprQ8 => &[],
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 => &[],
    }
}

/// Numbers and ids for random models: [`SplitMix`] by a seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        let mut random = SplitMix(self.0);
        let bits = random.bits();
        self.0 = random.0;
        bits
    }

    /// In `[-1, 1)`.
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` ids below `vocab`.
    pub(crate) fn ids(&mut self, n: usize, vocab: usize) -> Vec<u32> {
        (0..n).map(|_| (self.next() % vocab as u64) as u32).collect()
    }
}
