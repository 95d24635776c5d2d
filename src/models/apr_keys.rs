//! APR metadata keys of the decoder's settings (reference A.6): one spelling written, every alias read.

use super::family::Settings;
use super::fields::{JsonFields, short_decimal};
use super::{ModelConfig, Position, RopeScaling, Window, rotary};
use crate::Result;
use serde_json::{Map, Value as Json};

/// What every family says alike. Norm, feed-forward and position are the family's to set.
pub(super) fn read(family: &str, f: &JsonFields) -> Result<Settings> {
    let hidden_size = f.size(&["hidden_size", "hidden_dim", "d_model", "n_embd"], None)?;
    let n_heads = f.size(&["num_heads", "n_heads", "num_attention_heads", "n_head"], None)?;
    let head_dim = f.size(&["head_dim"], Some((hidden_size / n_heads).max(1)))?;
    let config = ModelConfig {
        family: family.to_owned(),
        hidden_size,
        n_layers: f.size(&["num_layers", "n_layers", "num_hidden_layers", "n_layer"], None)?,
        n_heads,
        n_kv_heads: f.size(&["num_kv_heads", "n_kv_heads", "num_key_value_heads"], Some(n_heads))?,
        head_dim,
        intermediate_size: f.size(&["intermediate_size", "ffn_dim", "intermediate_dim", "n_inner"], None)?,
        vocab_size: f.size(&["vocab_size", "n_vocab"], f.embedding_rows)?,
        max_positions: f
            .size(&["max_position_embeddings", "max_seq_len", "context_length", "n_ctx"], None)?,
        norm_eps: f.number(&["rms_norm_eps", "layer_norm_eps", "norm_eps"], None)? as f32,
        tied_embeddings: f.flag("tied_embeddings", false)?,
        attn_scale: f.number(&["attention_scale"], Some(f64::from(rotary::attn_scale(head_dim))))? as f32,
        rope_scaling: match f.object("rope_scaling")? {
            Some(scaling) => RopeScaling::read(&scaling)?,
            None => RopeScaling::None,
        },
        window: window(f)?,
        ..rotary::shell()
    };
    Ok(Settings { config, attention_bias: None, mlp_bias: None, interleaved_rope: false })
}

fn window(f: &JsonFields) -> Result<Option<Window>> {
    let Some(_) = f.find(&["sliding_window"])? else { return Ok(None) };
    let optional = |name: &str| match f.find(&[name])? {
        None => Ok(None),
        Some(_) => f.size(&[name], None).map(Some),
    };
    let local_theta = match f.find(&["rope_local_theta"])? {
        None => None,
        Some(_) => Some(f.number(&["rope_local_theta"], None)? as f32),
    };
    let size = f.size(&["sliding_window"], None)?;
    Ok(Some(Window { size, global_every: optional("sliding_window_pattern")?, local_theta }))
}

/// The same settings as metadata, one spelling each. `rope_type` is 2 (rows as halves) or 0 (as pairs).
pub fn write(config: &ModelConfig, architecture: &str, rope_type: u64) -> Map<String, Json> {
    let mut map = Map::new();
    map.insert("architecture".into(), architecture.into());
    if config.attn_scale != rotary::attn_scale(config.head_dim) {
        map.insert("attention_scale".into(), short_decimal(config.attn_scale));
    }
    map.insert("head_dim".into(), config.head_dim.into());
    map.insert("hidden_size".into(), config.hidden_size.into());
    map.insert("intermediate_size".into(), config.intermediate_size.into());
    map.insert("max_position_embeddings".into(), config.max_positions.into());
    map.insert("num_heads".into(), config.n_heads.into());
    map.insert("num_kv_heads".into(), config.n_kv_heads.into());
    map.insert("num_layers".into(), config.n_layers.into());
    map.insert("rms_norm_eps".into(), short_decimal(config.norm_eps));
    if let Some(Window { local_theta: Some(theta), .. }) = config.window {
        map.insert("rope_local_theta".into(), short_decimal(theta));
    }
    if config.rope_scaling != RopeScaling::None {
        map.insert("rope_scaling".into(), config.rope_scaling.write());
    }
    if let Position::Rope { theta, .. } = config.position {
        map.insert("rope_theta".into(), short_decimal(theta));
        map.insert("rope_type".into(), rope_type.into());
    }
    if let Some(window) = config.window {
        map.insert("sliding_window".into(), window.size.into());
        if let Some(every) = window.global_every {
            map.insert("sliding_window_pattern".into(), every.into());
        }
    }
    map.insert("tied_embeddings".into(), config.tied_embeddings.into());
    map.insert("vocab_size".into(), config.vocab_size.into());
    map
}
