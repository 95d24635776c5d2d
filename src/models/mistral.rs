//! mistral: llama's decoder, in its first version with an attention window over every layer.
//! In GGUF it is llama: the same architecture, the same interleaved rotary rows.

use super::family::{Biases, Family, SOURCE_MODEL_TYPE, Settings};
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;

/// The mistral family.
pub struct Mistral;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/mistral.yaml");
    FamilyContract::parse("contracts/families/mistral.yaml", yaml).expect("the embedded contract is tested")
});

/// `MistralConfig` of transformers.
const HF: rotary::HfDefaults = rotary::HfDefaults {
    vocab_size: 32000,
    intermediate_size: 14336,
    max_positions: 131_072,
    n_kv_heads: Some(8),
    head_dim: None,
    theta: 10_000.0,
};

/// `MistralConfig.sliding_window`.
const HF_WINDOW: usize = 4096;

impl Family for Mistral {
    fn id(&self) -> &'static str {
        "mistral"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, config: &JsonFields) -> Result<Settings> {
        rotary::silu_only(config)?;
        let mut settings = rotary::read_hf(self.id(), config, &HF)?;
        settings.config.window = rotary::hf_window(config, Some(HF_WINDOW))?;
        Ok(settings)
    }

    fn read_gguf(&self, metadata: &GgufFields) -> Result<Settings> {
        let mut settings = rotary::read_gguf(self.id(), metadata)?;
        settings.config.window = rotary::window(metadata.optional_size("attention.sliding_window")?);
        Ok(settings)
    }

    fn read_apr(&self, metadata: &JsonFields) -> Result<Settings> {
        rotary::read_apr(self.id(), metadata)
    }

    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json> {
        let mut map = rotary::write_hf(config, biases);
        map.remove("attention_bias");
        map.remove("mlp_bias");
        map.insert("sliding_window".into(), config.window.map_or(Json::Null, |w| w.size.into()));
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut keys = rotary::write_gguf("llama", config);
        keys.push(("llama.vocab_size".to_owned(), size(config.vocab_size)));
        keys.push(("llama.rope.dimension_count".to_owned(), size(config.head_dim)));
        keys.push((SOURCE_MODEL_TYPE.to_owned(), GgufValue::String(self.id().to_owned())));
        keys
    }
}
