//! gpt2: layer norms with bias, learned positions, GELU, a tied head.
//! HF stores its linear weights `[in, out]` (Conv1D) with q, k and v fused; GGUF fuses them `[out, in]`.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields, short_decimal};
use super::{Ffn, ModelConfig, NormKind, apr_keys, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;

/// The gpt2 family.
pub struct Gpt2;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/gpt2.yaml");
    FamilyContract::parse("contracts/families/gpt2.yaml", yaml).expect("the embedded contract is tested")
});

impl Family for Gpt2 {
    fn id(&self) -> &'static str {
        "gpt2"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, f: &JsonFields) -> Result<Settings> {
        let tanh = [json!("gelu_new"), json!("gelu_pytorch_tanh")];
        f.only("activation_function", &tanh, "the activation of this family is GELU by tanh")?;
        f.only("scale_attn_weights", &[json!(true)], "scores are scaled by 1/sqrt(head_dim)")?;
        f.only("scale_attn_by_inverse_layer_idx", &[json!(false)], "one scale serves all layers")?;
        f.only("add_cross_attention", &[json!(false)], "the decoder has no encoder beside it")?;
        let hidden_size = f.size(&["n_embd", "hidden_size"], Some(768))?;
        let n_heads = f.size(&["n_head", "num_attention_heads"], Some(12))?;
        let inner = hidden_size.saturating_mul(4);
        Ok(settings(ModelConfig {
            hidden_size,
            n_layers: f.size(&["n_layer", "num_hidden_layers"], Some(12))?,
            n_heads,
            intermediate_size: f.size(&["n_inner"], Some(inner))?,
            vocab_size: f.size(&["vocab_size"], Some(50257))?,
            max_positions: f.size(&["n_positions", "max_position_embeddings"], Some(1024))?,
            norm_eps: f.number(&["layer_norm_epsilon"], Some(1e-5))? as f32,
            tied_embeddings: f.flag("tie_word_embeddings", true)?,
            ..shell()
        }))
    }

    fn read_gguf(&self, f: &GgufFields) -> Result<Settings> {
        let n_heads = f.size("attention.head_count", None)?;
        f.refuse("attention.head_count_kv", &[n_heads as f64], "this family has one key per query head")?;
        Ok(settings(ModelConfig {
            hidden_size: f.size("embedding_length", None)?,
            n_layers: f.size("block_count", None)?,
            n_heads,
            intermediate_size: f.size("feed_forward_length", None)?,
            vocab_size: f.embedding_rows,
            max_positions: f.size("context_length", None)?,
            norm_eps: f.number("attention.layer_norm_epsilon", None)? as f32,
            tied_embeddings: !f.has_head,
            ..shell()
        }))
    }

    fn read_apr(&self, f: &JsonFields) -> Result<Settings> {
        let read = apr_keys::read(self.id(), f)?.config;
        Ok(settings(ModelConfig { norm: NormKind::Layer, ffn: Ffn::GeluTanh, ..read }))
    }

    fn write_hf(&self, config: &ModelConfig, _biases: Biases) -> Map<String, Json> {
        let mut map = Map::new();
        map.insert("activation_function".into(), "gelu_new".into());
        map.insert("attn_pdrop".into(), json!(0.0));
        map.insert("embd_pdrop".into(), json!(0.0));
        map.insert("layer_norm_epsilon".into(), short_decimal(config.norm_eps));
        map.insert("n_ctx".into(), config.max_positions.into());
        map.insert("n_embd".into(), config.hidden_size.into());
        map.insert("n_head".into(), config.n_heads.into());
        map.insert("n_inner".into(), config.intermediate_size.into());
        map.insert("n_layer".into(), config.n_layers.into());
        map.insert("n_positions".into(), config.max_positions.into());
        map.insert("resid_pdrop".into(), json!(0.0));
        map.insert("scale_attn_weights".into(), true.into());
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        vec![
            ("gpt2.block_count".to_owned(), size(config.n_layers)),
            ("gpt2.context_length".to_owned(), size(config.max_positions)),
            ("gpt2.embedding_length".to_owned(), size(config.hidden_size)),
            ("gpt2.feed_forward_length".to_owned(), size(config.intermediate_size)),
            ("gpt2.attention.head_count".to_owned(), size(config.n_heads)),
            ("gpt2.attention.layer_norm_epsilon".to_owned(), GgufValue::F32(config.norm_eps)),
        ]
    }
}

/// The switches of the family; every size still to be set.
fn shell() -> ModelConfig {
    ModelConfig { family: "gpt2".to_owned(), norm: NormKind::Layer, ffn: Ffn::GeluTanh, ..rotary::shell() }
}

/// One key-value head per query head, and heads that divide the width: GPT-2 has nothing else.
fn settings(config: ModelConfig) -> Settings {
    let head_dim = (config.hidden_size / config.n_heads).max(1);
    let config = ModelConfig {
        n_kv_heads: config.n_heads,
        head_dim,
        attn_scale: rotary::attn_scale(head_dim),
        ..config
    };
    Settings { config, attention_bias: Some(true), mlp_bias: Some(true), interleaved_rope: false }
}
