//! Settings that every family but gpt2 shares: RMS norm, rotary positions, grouped queries, gated feed-forward.
//! HF keys are those of transformers 4 and 5, GGUF keys those of llama.cpp's converter.

use super::family::{Biases, Settings};
use super::fields::{GgufFields, JsonFields, short_decimal};
use super::{Ffn, Llama3, ModelConfig, NormKind, Position, RopeScaling, Window};
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
    /// `None`: `hidden_size / n_heads`.
    pub head_dim: Option<usize>,
    /// The rotary base.
    pub theta: f64,
}

/// Reads `config.json`. The caller has refused what only its own family can say.
pub(super) fn read_hf(family: &str, f: &JsonFields, defaults: &HfDefaults) -> Result<Settings> {
    f.only("partial_rotary_factor", &[json!(1), json!(1.0)], "only whole heads are rotated")?;
    let hidden_size = f.size(&["hidden_size"], Some(4096))?;
    let n_heads = f.size(&["num_attention_heads"], Some(32))?;
    let head_dim =
        f.size(&["head_dim"], Some(defaults.head_dim.unwrap_or((hidden_size / n_heads).max(1))))?;
    let (theta, rope_scaling) = hf_rope(f, defaults.theta)?;
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
        position: Position::Rope { theta: theta as f32, dim: head_dim },
        ffn: Ffn::SiluGated,
        tied_embeddings: f.flag("tie_word_embeddings", false)?,
        attn_scale: attn_scale(head_dim),
        rope_scaling,
        ..shell()
    };
    Ok(Settings { config, attention_bias: Some(false), mlp_bias: Some(false), interleaved_rope: false })
}

/// The gate of most families; gemma's is GELU.
pub(super) fn silu_only(f: &JsonFields) -> Result<()> {
    f.only("hidden_act", &[json!("silu"), json!("swish")], "the gate of this family is SiLU")
}

/// Base and scaling. `rope_theta` stood at the top, and the scaling in `rope_scaling`, until transformers 5 moved
/// both into `rope_parameters`.
fn hf_rope(f: &JsonFields, default_theta: f64) -> Result<(f64, RopeScaling)> {
    let mut nested = None;
    let mut scaling: Option<RopeScaling> = None;
    for place in ["rope_parameters", "rope_scaling"] {
        let Some(rope) = f.object(place)? else { continue };
        let here = RopeScaling::read(&rope)?;
        if let Some(other) = scaling.as_ref().filter(|other| **other != here) {
            let what =
                format!("{} contradicts rope_parameters, which says {}", here.describe(), other.describe());
            return Err(f.wrong(place, what));
        }
        scaling = Some(here);
        nested = nested.or(rope.find(&["rope_theta"])?.and_then(Json::as_f64));
    }
    let theta = match (nested, f.find(&["rope_theta"])?) {
        (Some(nested), Some(top)) if top.as_f64() != Some(nested) => {
            let what = format!("{top} contradicts rope_parameters, which says {nested}");
            return Err(f.wrong("rope_theta", what));
        }
        (Some(nested), _) => nested,
        (None, _) => f.number(&["rope_theta"], Some(default_theta))?,
    };
    Ok((theta, scaling.unwrap_or_default()))
}

/// Reads GGUF metadata.
pub(super) fn read_gguf(family: &str, f: &GgufFields) -> Result<Settings> {
    f.refuse("rope.scale_linear", &[0.0, 1.0], "this old key is not read; `rope.scaling.factor` is")?;
    f.refuse("expert_count", &[0.0], "mixtures of experts are another family")?;
    for scale in ["attention.scale", "logit_scale", "embedding_scale", "residual_scale"] {
        f.refuse(scale, &[], "this family has no such scale")?;
    }
    let hidden_size = f.size("embedding_length", None)?;
    let n_heads = f.size("attention.head_count", None)?;
    let head_dim = f.size("attention.key_length", Some((hidden_size / n_heads).max(1)))?;
    f.refuse("attention.value_length", &[head_dim as f64], "keys and values must be of one width")?;
    let theta = f.number("rope.freq_base", Some(10_000.0))? as f32;
    let dim = f.size("rope.dimension_count", Some(head_dim))?;
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
        position: Position::Rope { theta, dim },
        ffn: Ffn::SiluGated,
        tied_embeddings: !f.has_head,
        attn_scale: attn_scale(head_dim),
        rope_scaling: gguf_scaling(f, theta, dim)?,
        ..shell()
    };
    Ok(Settings { config, attention_bias: None, mlp_bias: None, interleaved_rope: false })
}

/// Scaling by key (linear) or by tensor (llama-3's divisors).
fn gguf_scaling(f: &GgufFields, theta: f32, dim: usize) -> Result<RopeScaling> {
    let factor = f.number("rope.scaling.factor", Some(0.0))? as f32;
    let by_key = match f.text("rope.scaling.type") {
        None | Some("none") if factor == 0.0 || factor == 1.0 => RopeScaling::None,
        None | Some("linear") => RopeScaling::Linear { factor },
        Some("none") => return Err(f.wrong("rope.scaling.factor", "contradicts the type `none`")),
        Some(other) => {
            let why = format!("`{other}`: computed are none, linear and `rope_freqs.weight`");
            return Err(f.unsupported("rope.scaling.type", &why));
        }
    };
    match (&f.rope_freqs, by_key) {
        (None, by_key) => Ok(by_key),
        (Some(factors), RopeScaling::None) => {
            Ok(RopeScaling::of_factors(factors.clone(), theta, dim, gguf_llama3(f)?))
        }
        (Some(_), _) => Err(f.wrong("rope.scaling.type", "scales a second time beside `rope_freqs.weight`")),
    }
}

/// The parameters behind the divisors, which our files say beside them: llama.cpp reads the divisors alone.
fn gguf_llama3(f: &GgufFields) -> Result<Option<Llama3>> {
    let Some(original) = f.optional_size("rope.scaling.llama3.original_context_length")? else {
        return Ok(None);
    };
    let number = |name: &str| f.number(&format!("rope.scaling.llama3.{name}"), None).map(|x| x as f32);
    Ok(Some(Llama3 {
        factor: number("factor")?,
        low_freq: number("low_freq_factor")?,
        high_freq: number("high_freq_factor")?,
        original,
    }))
}

/// A window over every layer.
pub(super) fn window(size: Option<usize>) -> Option<Window> {
    size.map(|size| Window { size, global_every: None, local_theta: None })
}

/// `sliding_window` of `config.json`, over every layer.
pub(super) fn hf_window(f: &JsonFields, default: Option<usize>) -> Result<Option<Window>> {
    // Absent means the default of the config class, null means none.
    if f.is_null("sliding_window") {
        return Ok(None);
    }
    Ok(window(match f.find(&["sliding_window"])? {
        None => default,
        Some(_) => Some(f.size(&["sliding_window"], None)?),
    }))
}

/// The switches that most families leave off; every size still to be set.
pub(super) fn shell() -> ModelConfig {
    ModelConfig {
        family: String::new(),
        hidden_size: 0,
        n_layers: 0,
        n_heads: 0,
        n_kv_heads: 0,
        head_dim: 0,
        intermediate_size: 0,
        vocab_size: 0,
        max_positions: 0,
        norm: NormKind::Rms,
        norm_eps: 0.0,
        position: Position::Learned,
        rope_scaling: RopeScaling::None,
        window: None,
        qk_norm: false,
        post_norms: false,
        embed_scale: 1.0,
        ffn: Ffn::SiluGated,
        tied_embeddings: true,
        attn_scale: 0.0,
    }
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
        let mut rope = config.rope_scaling.write();
        if config.rope_scaling != RopeScaling::None {
            map.insert("rope_scaling".into(), rope.clone());
        }
        rope["rope_theta"] = short_decimal(theta);
        map.insert("rope_parameters".into(), rope);
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
    if let RopeScaling::Linear { factor } = config.rope_scaling {
        put("rope.scaling.type", GgufValue::String("linear".to_owned()));
        put("rope.scaling.factor", GgufValue::F32(factor));
    }
    if let RopeScaling::Llama3(l) = config.rope_scaling {
        put("rope.scaling.llama3.factor", GgufValue::F32(l.factor));
        put("rope.scaling.llama3.low_freq_factor", GgufValue::F32(l.low_freq));
        put("rope.scaling.llama3.high_freq_factor", GgufValue::F32(l.high_freq));
        put("rope.scaling.llama3.original_context_length", size(l.original));
    }
    if let Some(window) = config.window {
        put("attention.sliding_window", size(window.size));
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
