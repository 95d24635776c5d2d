//! phi3: llama's decoder with q, k and v stored as one tensor, gate and up as another, and an attention window.

use super::family::{Biases, Family, Settings};
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, rotary};
use crate::Result;
use crate::contract::families::FamilyContract;
use crate::formats::GgufValue;
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;

/// The phi3 family.
pub struct Phi3;

static CONTRACT: LazyLock<FamilyContract> = LazyLock::new(|| {
    let yaml = include_str!("../../contracts/families/phi3.yaml");
    FamilyContract::parse("contracts/families/phi3.yaml", yaml).expect("the embedded contract is tested")
});

/// `Phi3Config` of transformers.
const HF: rotary::HfDefaults = rotary::HfDefaults {
    vocab_size: 32064,
    intermediate_size: 8192,
    max_positions: 4096,
    n_kv_heads: None,
    head_dim: None,
    theta: 10_000.0,
};

impl Family for Phi3 {
    fn id(&self) -> &'static str {
        "phi3"
    }

    fn contract(&self) -> &'static FamilyContract {
        &CONTRACT
    }

    fn read_hf(&self, config: &JsonFields) -> Result<Settings> {
        rotary::silu_only(config)?;
        let mut settings = rotary::read_hf(self.id(), config, &HF)?;
        // The base class norm epsilon of this family is 1e-5, where others have 1e-6.
        settings.config.norm_eps = config.number(&["rms_norm_eps"], Some(1e-5))? as f32;
        settings.config.window = rotary::hf_window(config, None)?;
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
        // transformers 4 derives the head width, and asks for this key beside `max_position_embeddings`.
        map.insert("original_max_position_embeddings".into(), config.max_positions.into());
        // Left out, it is 32000, which transformers refuses in a smaller vocabulary.
        map.insert("pad_token_id".into(), Json::Null);
        map.insert("sliding_window".into(), config.window.map_or(Json::Null, |w| w.size.into()));
        map
    }

    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)> {
        let size = |n: usize| GgufValue::U32(u32::try_from(n).unwrap_or(u32::MAX));
        let mut keys = rotary::write_gguf(self.id(), config);
        keys.push(("phi3.rope.dimension_count".to_owned(), size(config.head_dim)));
        keys.push(("phi3.rope.scaling.original_context_length".to_owned(), size(config.max_positions)));
        // llama.cpp wants the key even where there is no window.
        if config.window.is_none() {
            keys.push(("phi3.attention.sliding_window".to_owned(), GgufValue::U32(0)));
        }
        keys
    }
}
