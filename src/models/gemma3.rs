//! gemma3: four norms a layer and one per head of q and k, a GELU gate, a scaled embedding, and attention windows
//! with a rotary base of their own on five layers of six.
//!
//! Its norms multiply by `1 + w`. HF folders store `w`; GGUF, and the canonical form, hold `1 + w` in F32.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields, short_decimal};
use super::{Ffn, ModelConfig, Position, RopeScaling, Window, rotary};
use crate::Error;
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;

/// The gemma3 family, text models.
pub struct Gemma3;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/gemma3.yaml");
    FamilyContract::parse("contracts/families/gemma3.yaml", yaml).expect("the embedded contract is tested")
});

/// Every so many layers one sees everything, where nothing else is said.
const GLOBAL_EVERY: usize = 6;
/// Rotary bases of `Gemma3TextConfig`: of the layers that see everything, and of the others.
const THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;

impl Family for Gemma3 {
    fn id(&self) -> &'static str {
        "gemma3"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, f: &JsonFields) -> Result<Settings> {
        let gelu = [json!("gelu_pytorch_tanh")];
        f.only("hidden_activation", &gelu, "the gate of this family is GELU by tanh")?;
        f.only("hidden_act", &gelu, "the gate of this family is GELU by tanh")?;
        f.only("final_logit_softcapping", &[], "soft caps belong to gemma2")?;
        f.only("attn_logit_softcapping", &[], "soft caps belong to gemma2")?;
        f.only("use_bidirectional_attention", &[json!(false)], "this family is causal here")?;
        f.only("attention_bias", &[json!(false)], "this family has no biases")?;
        let n_layers = f.size(&["num_hidden_layers"], Some(26))?;
        let hidden_size = f.size(&["hidden_size"], Some(2304))?;
        let head_dim = f.size(&["head_dim"], Some(256))?;
        let (global, local) = hf_ropes(f)?;
        let scalar = f.number(&["query_pre_attn_scalar"], Some(256.0))?;
        let config = ModelConfig {
            hidden_size,
            n_layers,
            n_heads: f.size(&["num_attention_heads"], Some(8))?,
            n_kv_heads: f.size(&["num_key_value_heads"], Some(4))?,
            head_dim,
            intermediate_size: f.size(&["intermediate_size"], Some(9216))?,
            vocab_size: f.size(&["vocab_size"], Some(262_208))?,
            max_positions: f.size(&["max_position_embeddings"], Some(131_072))?,
            norm_eps: f.number(&["rms_norm_eps"], Some(1e-6))? as f32,
            position: Position::Rope { theta: global.0, dim: head_dim },
            rope_scaling: global.1,
            tied_embeddings: f.flag("tie_word_embeddings", true)?,
            attn_scale: scalar.sqrt().recip() as f32,
            window: Some(Window {
                size: f.size(&["sliding_window"], Some(4096))?,
                global_every: Some(hf_pattern(f, n_layers)?),
                local_theta: Some(local),
            }),
            ..shell()
        };
        Ok(settings(config))
    }

    fn read_gguf(&self, f: &GgufFields) -> Result<Settings> {
        for cap in ["attn_logit_softcapping", "final_logit_softcapping"] {
            f.refuse(cap, &[0.0], "soft caps belong to gemma2")?;
        }
        let read = rotary::read_gguf(self.id(), f)?.config;
        let (theta, dim) = match read.position {
            Position::Rope { dim, .. } => (f.number("rope.freq_base", Some(THETA))? as f32, dim),
            Position::Learned => return Err(f.wrong("rope.freq_base", "this family is rotary")),
        };
        let local = f.number("rope.freq_base_swa", Some(LOCAL_THETA))? as f32;
        let every = f.size("attention.sliding_window_pattern", Some(GLOBAL_EVERY))?;
        let window = f.optional_size("attention.sliding_window")?.map(|size| Window {
            size,
            global_every: Some(every),
            local_theta: Some(local),
        });
        let attn_scale = gguf_scale(&read);
        Ok(settings(ModelConfig { position: Position::Rope { theta, dim }, window, attn_scale, ..read }))
    }

    fn read_apr(&self, f: &JsonFields) -> Result<Settings> {
        let read = rotary::read_apr(self.id(), f)?;
        Ok(Settings { interleaved_rope: read.interleaved_rope, ..settings(read.config) })
    }

    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json> {
        let mut map = rotary::write_hf(config, biases);
        for key in ["hidden_act", "mlp_bias", "rope_scaling", "rope_theta"] {
            map.remove(key);
        }
        map.insert("hidden_activation".into(), "gelu_pytorch_tanh".into());
        // One over the square of the scale; the scale came from an integer, whose nearest it is.
        let scalar = f64::from(config.attn_scale).powi(-2).round();
        map.insert("query_pre_attn_scalar".into(), json!(scalar as u64));
        map.insert("final_logit_softcapping".into(), Json::Null);
        map.insert("attn_logit_softcapping".into(), Json::Null);
        let types: Vec<&str> = (0..config.n_layers)
            .map(|l| if config.is_local(l) { "sliding_attention" } else { "full_attention" })
            .collect();
        map.insert("layer_types".into(), json!(types));
        let Some(window) = config.window else { return map };
        map.insert("sliding_window".into(), window.size.into());
        map.insert("sliding_window_pattern".into(), window.global_every.unwrap_or(GLOBAL_EVERY).into());
        let theta = match config.position {
            Position::Rope { theta, .. } => theta,
            Position::Learned => return map,
        };
        let local = window.local_theta.unwrap_or(theta);
        // transformers 4 reads these two and `rope_scaling`, transformers 5 one object per kind of layer.
        map.insert("rope_theta".into(), short_decimal(theta));
        map.insert("rope_local_base_freq".into(), short_decimal(local));
        let mut global = config.rope_scaling.write();
        if config.rope_scaling != RopeScaling::None {
            map.insert("rope_scaling".into(), global.clone());
        }
        global["rope_theta"] = short_decimal(theta);
        let local = json!({ "rope_type": "default", "rope_theta": short_decimal(local) });
        map.insert("rope_parameters".into(), json!({ "full_attention": global, "sliding_attention": local }));
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        let mut keys = rotary::write_gguf(self.id(), config);
        let width = GgufValue::U32(u32::try_from(config.head_dim).unwrap_or(u32::MAX));
        // The program that reads it has a default of its own for these two, so they are always said.
        for name in ["gemma3.attention.key_length", "gemma3.attention.value_length"] {
            if !keys.iter().any(|(key, _)| key == name) {
                keys.push((name.to_owned(), width.clone()));
            }
        }
        if let Some(every) = config.window.and_then(|w| w.global_every).filter(|n| *n != GLOBAL_EVERY) {
            let every = GgufValue::U32(u32::try_from(every).unwrap_or(u32::MAX));
            keys.push(("gemma3.attention.sliding_window_pattern".to_owned(), every));
        }
        let local = config.window.and_then(|w| w.local_theta).unwrap_or(LOCAL_THETA as f32);
        if local != LOCAL_THETA as f32 {
            keys.push(("gemma3.rope.freq_base_swa".to_owned(), GgufValue::F32(local)));
        }
        keys
    }

    fn writable_as_gguf(&self, config: &ModelConfig) -> Result<()> {
        if matches!(config.rope_scaling, RopeScaling::Llama3(_) | RopeScaling::Factors(_)) {
            return Err(Error::unsupported(
                self.id(),
                "a GGUF of this family has no place for RoPE divisors",
            ));
        }
        if config.attn_scale == gguf_scale(config) {
            return Ok(());
        }
        let what = format!("readers derive the attention scale, and not as {}", config.attn_scale);
        Err(Error::unsupported(self.id(), what).at("GGUF"))
    }
}

/// llama.cpp knows the 27 B model by its layers; there the scale is of the whole width.
fn gguf_scale(config: &ModelConfig) -> f32 {
    match config.n_layers {
        62 => rotary::attn_scale(config.hidden_size / config.n_heads),
        _ => rotary::attn_scale(config.head_dim),
    }
}

/// (base, scaling) of the full layers, and the base of the local ones.
fn hf_ropes(f: &JsonFields) -> Result<((f32, RopeScaling), f32)> {
    if let Some(both) = f.object("rope_parameters")? {
        let kind = |name: &str| both.object(name);
        if let (Some(global), Some(local)) = (kind("full_attention")?, kind("sliding_attention")?) {
            if RopeScaling::read(&local)? != RopeScaling::None {
                return Err(local.refusal("rope_type", "local layers are never scaled".to_owned()));
            }
            let theta = global.number(&["rope_theta"], Some(THETA))? as f32;
            let local_theta = local.number(&["rope_theta"], Some(LOCAL_THETA))? as f32;
            return Ok(((theta, RopeScaling::read(&global)?), local_theta));
        }
    }
    let scaling = match f.object("rope_scaling")? {
        Some(scaling) => RopeScaling::read(&scaling)?,
        None => RopeScaling::None,
    };
    let theta = f.number(&["rope_theta"], Some(THETA))? as f32;
    let local = f.number(&["rope_local_base_freq"], Some(LOCAL_THETA))? as f32;
    Ok(((theta, scaling), local))
}

/// Every so many layers one is full: by number, or by the list that must follow it.
fn hf_pattern(f: &JsonFields, n_layers: usize) -> Result<usize> {
    let every = f.size(&["sliding_window_pattern", "_sliding_window_pattern"], Some(GLOBAL_EVERY))?;
    let Some(types) = f.find(&["layer_types"])?.and_then(Json::as_array) else { return Ok(every) };
    let full: Vec<bool> = types.iter().map(|t| t.as_str() == Some("full_attention")).collect();
    // The list rules: a config may keep a number that no longer says anything.
    let every = full.iter().position(|full| *full).map_or(every, |first| first + 1);
    if full.len() != n_layers || full.iter().enumerate().any(|(l, full)| *full != ((l + 1) % every == 0)) {
        let what = format!("is no pattern of one full layer in every {every} over {n_layers} layers");
        return Err(f.refusal("layer_types", what));
    }
    Ok(every)
}

/// The switches of the family; every size still to be set.
fn shell() -> ModelConfig {
    ModelConfig { family: "gemma3".to_owned(), ..rotary::shell() }
}

/// What no container says, because the family is it.
fn settings(config: ModelConfig) -> Settings {
    let config = ModelConfig {
        qk_norm: true,
        post_norms: true,
        ffn: Ffn::GeluGated,
        embed_scale: (config.hidden_size as f32).sqrt(),
        ..config
    };
    Settings { config, attention_bias: Some(false), mlp_bias: Some(false), interleaved_rope: false }
}
