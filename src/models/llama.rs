//! llama: LLaMA 1 to 3 and what shares its decoder (SmolLM, TinyLlama). Llama 3 scales its rotary frequencies.
//! Its GGUF stores the rows of q and k as interleaved rotary pairs; every other container as halves.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;

/// The llama family.
pub struct Llama;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/llama.yaml");
    FamilyContract::parse("contracts/families/llama.yaml", yaml).expect("the embedded contract is tested")
});

/// `LlamaConfig` of transformers.
const HF: rotary::HfDefaults = rotary::HfDefaults {
    vocab_size: 32000,
    intermediate_size: 11008,
    max_positions: 2048,
    n_kv_heads: None,
    head_dim: None,
    theta: 10_000.0,
};

impl Family for Llama {
    fn id(&self) -> &'static str {
        "llama"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, config: &JsonFields) -> Result<Settings> {
        rotary::silu_only(config)?;
        let mut settings = rotary::read_hf(self.id(), config, &HF)?;
        settings.attention_bias = Some(config.flag("attention_bias", false)?);
        settings.mlp_bias = Some(config.flag("mlp_bias", false)?);
        Ok(settings)
    }

    fn read_gguf(&self, metadata: &GgufFields) -> Result<Settings> {
        metadata.refuse("attention.sliding_window", &[0.0], "this family has no attention window")?;
        rotary::read_gguf(self.id(), metadata)
    }

    fn read_apr(&self, metadata: &JsonFields) -> Result<Settings> {
        rotary::read_apr(self.id(), metadata)
    }

    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json> {
        rotary::write_hf(config, biases)
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut keys = rotary::write_gguf(self.id(), config);
        keys.push(("llama.vocab_size".to_owned(), size(config.vocab_size)));
        keys.push(("llama.rope.dimension_count".to_owned(), size(config.head_dim)));
        keys
    }
}
