//! A family is data: how it is recognised, what its settings are called, and its tensor table.
//! The table is `contracts/families/<id>.yaml`; a family file adds only the names and defaults of settings.

use super::RopeScaling;
use super::fields::{GgufFields, JsonFields};
use super::{ModelConfig, Position, gemma3, gpt2, llama, mistral, phi3, qwen2, qwen3};
use crate::contract::families::{Dims, FamilyContract};
use crate::formats::{Checkpoint, Container, GgufValue};
use crate::{Error, Kind, Result};
use serde_json::{Map, Value as Json};

/// Every family, in the order they are documented.
pub const FAMILIES: &[&dyn Family] = &[
    &llama::Llama,
    &mistral::Mistral,
    &qwen2::Qwen2,
    &qwen3::Qwen3,
    &gemma3::Gemma3,
    &phi3::Phi3,
    &gpt2::Gpt2,
];

/// The GGUF key in which our files keep the `model_type` of a family that shares its architecture with another.
pub(crate) const SOURCE_MODEL_TYPE: &str = "general.source_model_type";

/// One decoder family.
pub trait Family: Sync {
    /// `llama`, `qwen2`, `gpt2`.
    fn id(&self) -> &'static str;

    /// The tensor table with its names and shapes.
    fn contract(&self) -> &'static FamilyContract;

    /// Reads `config.json`, with the defaults of the model's own HF config class.
    ///
    /// # Errors
    /// [`Kind::Malformed`] for a value of the wrong kind, [`Kind::Unsupported`] for a switch that the
    /// decoder does not have, both naming the key.
    fn read_hf(&self, config: &JsonFields) -> Result<Settings>;

    /// Reads GGUF metadata as llama.cpp's converter writes it.
    ///
    /// # Errors
    /// As [`Family::read_hf`], and for a required key that is absent.
    fn read_gguf(&self, metadata: &GgufFields) -> Result<Settings>;

    /// Reads APR metadata (reference A.6, aliases accepted).
    ///
    /// # Errors
    /// As [`Family::read_gguf`].
    fn read_apr(&self, metadata: &JsonFields) -> Result<Settings>;

    /// The `config.json` that HF transformers loads, without the keys every model has.
    fn write_hf(&self, config: &ModelConfig, biases: Biases) -> Map<String, Json>;

    /// The `{arch}.*` keys, in the order llama.cpp's converter writes them.
    fn write_gguf(&self, config: &ModelConfig) -> Vec<(String, GgufValue)>;

    /// Whether `config` can be written as this family's `config.json`; what it cannot say is refused by name.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] naming the setting.
    fn writable_as_hf(&self, config: &ModelConfig) -> Result<()> {
        match config.rope_scaling {
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3(_) => Ok(()),
            RopeScaling::Factors(_) => {
                let what =
                    "its RoPE divisors are those of no released model, and config.json has no place for them";
                Err(Error::unsupported(self.id(), what).at("rope_freqs.weight"))
            }
        }
    }

    /// Whether `config` can be written as this architecture's GGUF.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] naming the setting.
    fn writable_as_gguf(&self, config: &ModelConfig) -> Result<()> {
        match config.rope_scaling {
            RopeScaling::None | RopeScaling::Linear { .. } => Ok(()),
            RopeScaling::Llama3(_) | RopeScaling::Factors(_) if self.contract().gguf.rope_freqs.is_some() => {
                Ok(())
            }
            RopeScaling::Llama3(_) | RopeScaling::Factors(_) => {
                let what = "a GGUF of this family has no place for RoPE divisors";
                Err(Error::unsupported(self.id(), what).at("rope_scaling"))
            }
        }
    }
}

/// What a checkpoint says about itself: the decoder's config, and which optional tensors to expect.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Sizes and switches.
    pub config: ModelConfig,
    /// Biases on the attention projections; `None` where the container has no such key and the stored
    /// tensors decide.
    pub attention_bias: Option<bool>,
    /// Biases in the feed-forward; `None` as above.
    pub mlp_bias: Option<bool>,
    /// APR only: `rope_type` 0, rows of q and k stored as interleaved pairs.
    pub interleaved_rope: bool,
}

/// Which optional biases a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    /// On q, k, v and o.
    pub attention: bool,
    /// On gate, up and down.
    pub mlp: bool,
}

/// The family of a checkpoint, by what its container says.
///
/// # Errors
/// [`Kind::Unsupported`] naming the architecture that no family has, [`Kind::Malformed`] where the container
/// names none.
pub fn family_of(checkpoint: &Checkpoint) -> Result<&'static dyn Family> {
    let said = architecture_names(checkpoint);
    let known = |name: &String| FAMILIES.iter().copied().find(|f| answers_to(*f, name));
    if let Some(family) = said.iter().find_map(known) {
        return Ok(family);
    }
    let subject = checkpoint.path.display().to_string();
    let ids: Vec<_> = FAMILIES.iter().map(|f| f.id()).collect();
    let hint = format!("families: {}", ids.join(", "));
    Err(match said.first() {
        Some(name) => Error::unsupported(subject, format!("no family answers to `{name}`")).hint(hint),
        None => Error::new(Kind::Malformed, subject, "names no architecture").hint(hint),
    })
}

/// What a checkpoint calls its architecture, where it says so and no family answers to it.
pub fn unknown_family(checkpoint: &Checkpoint) -> Option<String> {
    let said = architecture_names(checkpoint);
    let known = |name: &String| FAMILIES.iter().any(|family| answers_to(*family, name));
    if said.iter().any(known) { None } else { said.into_iter().next() }
}

/// What the container calls its architecture, most telling first.
fn architecture_names(checkpoint: &Checkpoint) -> Vec<String> {
    let text = |map: &Map<String, Json>, key: &str| map.get(key).and_then(Json::as_str).map(str::to_owned);
    match &checkpoint.container {
        Container::Hf(folder) => {
            let classes = folder.config.get("architectures").and_then(Json::as_array);
            let classes = classes.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned);
            text(&folder.config, "model_type").into_iter().chain(classes).collect()
        }
        Container::Gguf(header) => {
            let said = |key: &str| header.get(key).and_then(GgufValue::as_str);
            let windowed = said("general.architecture") == Some("llama")
                && header.get("llama.attention.sliding_window").and_then(GgufValue::as_u64).unwrap_or(0) > 0;
            // llama.cpp has one architecture for both; only mistral has a window.
            let mistral = windowed.then_some("mistral");
            let names = [said(SOURCE_MODEL_TYPE), mistral, said("general.architecture")];
            names.into_iter().flatten().map(str::to_owned).collect()
        }
        Container::Apr(header) => ["architecture", "hf_model_type", "hf_architecture", "model_type"]
            .iter()
            .filter_map(|key| text(&header.metadata, key))
            .collect(),
    }
}

fn answers_to(family: &dyn Family, name: &str) -> bool {
    let contract = family.contract();
    let mut names = contract.hf.model_types.iter().chain(&contract.hf.architectures);
    contract.gguf.architecture == name || names.any(|n| n == name)
}

impl ModelConfig {
    /// The sizes that the family contract's shape expressions speak of.
    pub fn dims(&self) -> Dims {
        Dims {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            max_positions: self.max_positions,
        }
    }

    /// What contradicts itself or cannot be computed with, one sentence each; empty for a sound config.
    pub fn contradictions(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut require = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let positive = |x: f32| x > 0.0 && x.is_finite();
        require(
            positive(self.norm_eps),
            format!("norm epsilon {} is not positive and finite", self.norm_eps),
        );
        require(
            positive(self.attn_scale),
            format!("attention scale {} is not positive and finite", self.attn_scale),
        );
        require(
            self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads),
            format!("{} query heads cannot share {} key-value heads", self.n_heads, self.n_kv_heads),
        );
        match self.position {
            Position::Rope { theta, dim } => {
                require(positive(theta), format!("rope_theta {theta} is not positive and finite"));
                require(dim > 0 && dim.is_multiple_of(2), format!("rotated width {dim} is not even"));
                require(
                    dim == self.head_dim,
                    format!("rotated width {dim} is not the head width {}", self.head_dim),
                );
            }
            Position::Learned => {}
        }
        if let Err(what) = self.rope_scaling.check() {
            require(false, format!("RoPE scaling: {what}"));
        }
        if let (RopeScaling::Factors(factors), Position::Rope { dim, .. }) =
            (&self.rope_scaling, &self.position)
        {
            let what = format!("{} frequency divisors for {} frequencies", factors.len(), dim / 2);
            require(factors.len() == dim / 2, what);
        }
        if let Some(window) = self.window {
            require(window.size > 0, "an attention window of 0 sees nothing".to_owned());
            require(window.global_every != Some(0), "every 0th layer is no layer".to_owned());
            require(
                window.local_theta.is_none_or(positive),
                format!("the local rotary base {:?} is not positive and finite", window.local_theta),
            );
        }
        require(
            positive(self.embed_scale),
            format!("embedding scale {} is not positive and finite", self.embed_scale),
        );
        wrong
    }
}
