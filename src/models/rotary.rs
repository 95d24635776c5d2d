//! Settings that llama and qwen2 share: RMS norm, rotary positions, grouped queries, gated feed-forward.
//! HF keys are those of transformers 4 and 5, GGUF keys those of llama.cpp's converter.

use super::family::{Biases, Settings};
use super::fields::{GgufFields, JsonFields, short_decimal};
use super::{Ffn, ModelConfig, NormKind, Position};
use crate::Result;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json, json};

/// Defaults of the HF config class, for keys that `config.json` leaves out.
pub(super) struct HfDefaults {
    pub vocab_size: usize,
    pub intermediate_size: usize,
    pub max_positions: usize,
    /// `None`: as many as query heads.
    pub n_kv_heads: Option<usize>,
}

/// Reads `config.json`. The caller has refused what only its own family can say.
pub(super) fn read_hf(family: &str, f: &JsonFields, defaults: &HfDefaults) -> Result<Settings> {
    f.only("hidden_act", &[json!("silu"), json!("swish")], "the gate of this family is SiLU")?;
    f.only("partial_rotary_factor", &[json!(1), json!(1.0)], "only whole heads are rotated")?;
    let hidden_size = f.size(&["hidden_size"], Some(4096))?;
    let n_heads = f.size(&["num_attention_heads"], Some(32))?;
    let head_dim = f.size(&["head_dim"], Some((hidden_size / n_heads).max(1)))?;
    let config = ModelConfig {
        family: family.to_owned(),
        hidden_size,
        n_layers: f.size(&["num_hidden_layers"], Some(32))?,
        n_heads,
        // An explicit null means one key-value head per query head in both config classes.
        n_kv_heads: f.size(&["num_key_value_heads"], Some(defaults.n_kv_heads.unwrap_or(n_heads)))?,
        head_dim,
        intermediate_size: f.size(&["intermediate_size"], Some(defaults.intermediate_size))?,
        vocab_size: f.size(&["vocab_size"], Some(defaults.vocab_size))?,
        max_positions: f.size(&["max_position_embeddings"], Some(defaults.max_positions))?,
        norm: NormKind::Rms,
        norm_eps: f.number(&["rms_norm_eps"], Some(1e-6))? as f32,
        position: Position::Rope { theta: hf_theta(f)? as f32, dim: head_dim },
        ffn: Ffn::SiluGated,
        tied_embeddings: f.flag("tie_word_embeddings", false)?,
        attn_scale: attn_scale(head_dim),
    };
    Ok(Settings { config, attention_bias: Some(false), mlp_bias: Some(false), interleaved_rope: false })
}

/// `rope_theta` stood at the top until transformers 5 moved it into `rope_parameters`.
fn hf_theta(f: &JsonFields) -> Result<f64> {
    const PLAIN: &str = "only plain RoPE is computed";
    let plain = [json!("default")];
    let mut theta = None;
    for place in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = f.object(place)? else { continue };
        rope.only("rope_type", &plain, PLAIN)?;
        rope.only("type", &plain, PLAIN)?;
        rope.only("partial_rotary_factor", &[json!(1), json!(1.0)], "only whole heads are rotated")?;
        rope.only("factor", &[json!(1), json!(1.0)], PLAIN)?;
        theta = theta.or(rope.find(&["rope_theta"])?.and_then(Json::as_f64));
    }
    match (theta, f.find(&["rope_theta"])?) {
        (Some(nested), Some(top)) if top.as_f64() != Some(nested) => {
            Err(f.wrong("rope_theta", format!("{top} contradicts rope_parameters, which says {nested}")))
        }
        (Some(nested), _) => Ok(nested),
        (None, _) => f.number(&["rope_theta"], Some(10_000.0)),
    }
}

/// Reads GGUF metadata.
pub(super) fn read_gguf(family: &str, f: &GgufFields) -> Result<Settings> {
    f.refuse_text("rope.scaling.type", "none", "only plain RoPE is computed")?;
    f.refuse("rope.scaling.factor", &[0.0, 1.0], "only plain RoPE is computed")?;
    f.refuse("rope.scale_linear", &[0.0, 1.0], "only plain RoPE is computed")?;
    f.refuse("attention.sliding_window", &[0.0], "attention windows are not computed")?;
    f.refuse("expert_count", &[0.0], "mixtures of experts are another family")?;
    for scale in ["attention.scale", "logit_scale", "embedding_scale", "residual_scale"] {
        f.refuse(scale, &[], "this family has no such scale")?;
    }
    let hidden_size = f.size("embedding_length", None)?;
    let n_heads = f.size("attention.head_count", None)?;
    let head_dim = f.size("attention.key_length", Some((hidden_size / n_heads).max(1)))?;
    f.refuse("attention.value_length", &[head_dim as f64], "keys and values must be of one width")?;
    let config = ModelConfig {
        family: family.to_owned(),
        hidden_size,
        n_layers: f.size("block_count", None)?,
        n_heads,
        n_kv_heads: f.size("attention.head_count_kv", Some(n_heads))?,
        head_dim,
        intermediate_size: f.size("feed_forward_length", None)?,
        vocab_size: f.embedding_rows,
        max_positions: f.size("context_length", None)?,
        norm: NormKind::Rms,
        norm_eps: f.number("attention.layer_norm_rms_epsilon", None)? as f32,
        position: Position::Rope {
            theta: f.number("rope.freq_base", Some(10_000.0))? as f32,
            dim: f.size("rope.dimension_count", Some(head_dim))?,
        },
        ffn: Ffn::SiluGated,
        tied_embeddings: !f.has_head,
        attn_scale: attn_scale(head_dim),
    };
    Ok(Settings { config, attention_bias: None, mlp_bias: None, interleaved_rope: false })
}

/// Reads APR metadata.
pub(super) fn read_apr(family: &str, f: &JsonFields) -> Result<Settings> {
    let mut settings = super::apr_keys::read(family, f)?;
    let rope_type = f.find(&["rope_type"])?.and_then(Json::as_u64);
    settings.interleaved_rope = match rope_type {
        Some(0) => true,
        Some(2) => false,
        Some(_) | None => {
            let what = "must be 0 (rows as adjacent pairs) or 2 (rows as halves)";
            return Err(f.wrong("rope_type", what.to_owned()));
        }
    };
    let head_dim = settings.config.head_dim;
    let theta = f.number(&["rope_theta"], None)? as f32;
    settings.config.position = Position::Rope { theta, dim: head_dim };
    settings.config.norm = NormKind::Rms;
    settings.config.ffn = Ffn::SiluGated;
    Ok(settings)
}

/// `config.json` fields, as transformers writes them.
pub(super) fn write_hf(config: &ModelConfig, biases: Biases) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("attention_bias".into(), biases.attention.into());
    map.insert("head_dim".into(), config.head_dim.into());
    map.insert("hidden_act".into(), "silu".into());
    map.insert("hidden_size".into(), config.hidden_size.into());
    map.insert("intermediate_size".into(), config.intermediate_size.into());
    map.insert("max_position_embeddings".into(), config.max_positions.into());
    map.insert("mlp_bias".into(), biases.mlp.into());
    map.insert("num_attention_heads".into(), config.n_heads.into());
    map.insert("num_hidden_layers".into(), config.n_layers.into());
    map.insert("num_key_value_heads".into(), config.n_kv_heads.into());
    map.insert("rms_norm_eps".into(), short_decimal(config.norm_eps));
    if let Position::Rope { theta, .. } = config.position {
        // Both spellings: transformers 4 reads the first, transformers 5 the second.
        map.insert("rope_theta".into(), short_decimal(theta));
        map.insert(
            "rope_parameters".into(),
            json!({"rope_theta": short_decimal(theta), "rope_type": "default"}),
        );
    }
    map
}

/// `{arch}.*` keys, as llama.cpp's converter writes them.
pub(super) fn write_gguf(arch: &str, config: &ModelConfig) -> Vec<(String, GgufValue)> {
    let mut keys = Vec::new();
    let mut put = |name: &str, value: GgufValue| keys.push((format!("{arch}.{name}"), value));
    let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
    put("block_count", size(config.n_layers));
    put("context_length", size(config.max_positions));
    put("embedding_length", size(config.hidden_size));
    put("feed_forward_length", size(config.intermediate_size));
    put("attention.head_count", size(config.n_heads));
    put("attention.head_count_kv", size(config.n_kv_heads));
    if let Position::Rope { theta, .. } = config.position {
        put("rope.freq_base", GgufValue::F32(theta));
    }
    put("attention.layer_norm_rms_epsilon", GgufValue::F32(config.norm_eps));
    // Where they follow from the other sizes, readers derive them.
    if config.head_dim * config.n_heads != config.hidden_size {
        put("attention.key_length", size(config.head_dim));
        put("attention.value_length", size(config.head_dim));
    }
    keys
}

pub(super) fn attn_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}
