//! qwen3: qwen2's decoder without biases, every head of q and k normalised before it is rotated, and a head width
//! of its own.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;

/// The qwen3 family.
pub struct Qwen3;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/qwen3.yaml");
    FamilyContract::parse("contracts/families/qwen3.yaml", yaml).expect("the embedded contract is tested")
});

/// `Qwen3Config` of transformers.
const HF: rotary::HfDefaults = rotary::HfDefaults {
    vocab_size: 151936,
    intermediate_size: 22016,
    max_positions: 32768,
    n_kv_heads: Some(32),
    head_dim: Some(128),
    theta: 10_000.0,
};

impl Family for Qwen3 {
    fn id(&self) -> &'static str {
        "qwen3"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, config: &JsonFields) -> Result<Settings> {
        config.only(
            "use_sliding_window",
            &[json!(false)],
            "attention windows of this family are not computed",
        )?;
        rotary::silu_only(config)?;
        let mut settings = rotary::read_hf(self.id(), config, &HF)?;
        settings.attention_bias = Some(config.flag("attention_bias", false)?);
        Ok(normed(settings))
    }

    fn read_gguf(&self, metadata: &GgufFields) -> Result<Settings> {
        metadata.refuse("attention.sliding_window", &[0.0], "its window is not computed")?;
        rotary::read_gguf(self.id(), metadata).map(normed)
    }

    fn read_apr(&self, metadata: &JsonFields) -> Result<Settings> {
        rotary::read_apr(self.id(), metadata).map(normed)
    }

    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json> {
        let mut map = rotary::write_hf(config, biases);
        map.remove("mlp_bias");
        map.insert("use_sliding_window".into(), false.into());
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        rotary::write_gguf(self.id(), config)
    }
}

fn normed(mut settings: Settings) -> Settings {
    settings.config.qk_norm = true;
    settings
}
