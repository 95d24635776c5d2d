//! qwen2: Qwen2 and Qwen2.5. llama's decoder with biases on q, k and v; half-split rotary rows everywhere.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json, json};
use std::sync::LazyLock;

/// The qwen2 family.
pub struct Qwen2;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/qwen2.yaml");
    FamilyContract::parse("contracts/families/qwen2.yaml", yaml).expect("the embedded contract is tested")
});

/// `Qwen2Config` of transformers.
const HF: rotary::HfDefaults = rotary::HfDefaults {
    vocab_size: 151936,
    intermediate_size: 22016,
    max_positions: 32768,
    n_kv_heads: Some(32),
    head_dim: None,
    theta: 10_000.0,
};

impl Family for Qwen2 {
    fn id(&self) -> &'static str {
        "qwen2"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, config: &JsonFields) -> Result<Settings> {
        // `sliding_window` itself is always written; it counts only where this flag is set.
        config.only("use_sliding_window", &[json!(false)], "attention windows are not computed")?;
        rotary::silu_only(config)?;
        rotary::read_hf(self.id(), config, &HF)
    }

    fn read_gguf(&self, metadata: &GgufFields) -> Result<Settings> {
        metadata.refuse("attention.sliding_window", &[0.0], "its window is not computed")?;
        rotary::read_gguf(self.id(), metadata)
    }

    fn read_apr(&self, metadata: &JsonFields) -> Result<Settings> {
        rotary::read_apr(self.id(), metadata)
    }

    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json> {
        let mut map = rotary::write_hf(config, biases);
        // The biases of this family are its definition, not switches of its config class.
        map.remove("attention_bias");
        map.remove("mlp_bias");
        map.insert("use_sliding_window".into(), false.into());
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        rotary::write_gguf(self.id(), config)
    }
}
