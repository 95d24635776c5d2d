//! Families as data: what a checkpoint's tensors and settings mean to the one decoder.
//!
//! A family maps `config.json`, GGUF keys and APR metadata to a [`ModelConfig`], and its three tensor-name
//! dialects to one canonical name (the contract's gguf-short, `0.q_proj.weight`). [`Model`] is a checkpoint
//! seen through its family: canonical names, canonical orientation `[out, in]`, HF row order, nothing copied
//! that need not be.

mod apr_keys;
mod bind;
mod canonical;
mod cause;
mod check;
mod family;
mod fields;
#[cfg(test)]
pub(crate) mod fixture;
mod gemma3;
mod gpt2;
mod llama;
mod mistral;
mod names;
mod phi3;
mod qwen2;
mod qwen3;
mod rotary;
mod scaling;
mod scan;
mod stages;

pub use apr_keys::write as apr_metadata;
pub use bind::Problem;
pub(crate) use bind::{Bound, bind_sound};
pub use canonical::CanonicalTensor;
pub(crate) use canonical::rows_of;
pub use check::{CheckReport, check};
pub use family::{Biases, FAMILIES, Family, Settings, family_of, unknown_family};
pub use fields::{GgufFields, JsonFields};
pub use names::{Naming, gguf_name};
pub use scaling::{Llama3, RopeScaling};
pub(crate) use scan::scan;
pub use stages::{Stage, StageStatus};

use crate::Result;
use crate::formats::Checkpoint;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The checkpoint as its family sees it: every weight under its canonical name, in canonical orientation.
/// Weights stay views of the mapped file, except those stored transposed, which are turned once here.
///
/// # Errors
/// [`crate::Kind::Unsupported`] for a family or switch that the decoder does not have, and
/// [`crate::Kind::Contract`] for a missing, unknown or misshapen tensor, each by name.
pub fn open(checkpoint: &Checkpoint) -> Result<Model> {
    let bound = bind_sound(checkpoint)?;
    let weights = bound.tensors.iter().map(|t| Ok((t.name.clone(), t.weight()?))).collect::<Result<_>>()?;
    Ok(Model { path: checkpoint.path.clone(), config: bound.config, weights })
}

/// The checkpoint's tensors under their canonical names, in table order, each with the stored tensor it
/// comes from; values are read when asked for.
///
/// # Errors
/// As [`open`].
pub fn canonical_tensors(checkpoint: &Checkpoint) -> Result<Vec<CanonicalTensor>> {
    Ok(bind_sound(checkpoint)?.tensors)
}

/// The switches of a checkpoint whose family is known; its tensors need not be sound.
///
/// # Errors
/// As [`family_of`], and where a setting cannot be read.
pub fn config(checkpoint: &Checkpoint) -> Result<ModelConfig> {
    Ok(bind::bind(checkpoint)?.0.config)
}

/// The switches in which decoders differ, and their sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family id: `llama`, `qwen2`, `gpt2`.
    pub family: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; query head `h` reads `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest context.
    pub max_positions: usize,
    /// Norm kind.
    pub norm: NormKind,
    /// Epsilon of every norm.
    pub norm_eps: f32,
    /// Position encoding.
    pub position: Position,
    /// What divides the rotary frequencies of the layers that see everything.
    pub rope_scaling: RopeScaling,
    /// Layers that see only the last positions.
    pub window: Option<Window>,
    /// Whether every head of q and k is normalised before it is rotated, by a weight of `[head_dim]`.
    pub qk_norm: bool,
    /// Whether the outputs of attention and feed-forward are normalised before they are added.
    pub post_norms: bool,
    /// What the embedding is multiplied by; 1 in most families.
    pub embed_scale: f32,
    /// Feed-forward kind.
    pub ffn: Ffn,
    /// Whether the head is the embedding.
    pub tied_embeddings: bool,
    /// Score scale; `1 / sqrt(head_dim)` in most families.
    pub attn_scale: f32,
}

impl ModelConfig {
    /// Whether layer `l` sees only [`ModelConfig::window`].
    pub fn is_local(&self, l: usize) -> bool {
        self.window.is_some_and(|w| w.global_every.is_none_or(|n| !(l + 1).is_multiple_of(n)))
    }
}

/// Attention over the last positions only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// How many positions a token sees, itself among them.
    pub size: usize,
    /// Every so many layers one sees everything; `None`: no layer does.
    pub global_every: Option<usize>,
    /// The rotary base of the local layers, where it is another than that of the others. It is never scaled.
    pub local_theta: Option<f32>,
}

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `w * x / sqrt(mean(x²) + eps)`.
    Rms,
    /// `w * (x - mean) / sqrt(var + eps) + b`.
    Layer,
}

/// How a position enters.
#[derive(Debug, Clone, PartialEq)]
pub enum Position {
    /// Rotary, half-split pairs `(i, i + dim/2)` on canonical rows. `freqs[i] = theta^(-2i/dim)`.
    Rope {
        /// Base.
        theta: f32,
        /// Rotated width; the head width in these families.
        dim: usize,
    },
    /// A learned table, added to the embedding.
    Learned,
}

/// Which feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ffn {
    /// `down(silu(gate(x)) * up(x))`.
    SiluGated,
    /// `down(gelu_tanh(up(x)))`, GPT-2's `gelu_new`.
    GeluTanh,
    /// `down(gelu_tanh(gate(x)) * up(x))`.
    GeluGated,
}

/// A weight as the decoder sees it.
#[derive(Debug, Clone)]
pub struct Weight {
    /// 2-D weights are `[out, in]`.
    pub tensor: Tensor,
    /// Where canonical row `r` is stored.
    pub rows: RowOrder,
}

/// How canonical (HF) row order relates to the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As stored.
    Canonical,
    /// llama-family GGUF: rows of each head are interleaved pairs. Canonical row `h*d + j*d/2 + i`
    /// (`j` in 0..2) is stored at `h*d + 2*i + j`.
    RopePairs {
        /// `d`: rows of one head.
        head_dim: usize,
    },
}

impl RowOrder {
    /// The stored row of canonical row `r`.
    pub fn stored_row(self, r: usize) -> usize {
        match self {
            RowOrder::Canonical => r,
            RowOrder::RopePairs { head_dim } => {
                let (head, within) = (r / head_dim, r % head_dim);
                let (j, i) = (within / (head_dim / 2), within % (head_dim / 2));
                head * head_dim + 2 * i + j
            }
        }
    }

    /// The canonical row that is stored as row `s`; the inverse of [`RowOrder::stored_row`].
    pub fn canonical_row(self, s: usize) -> usize {
        match self {
            RowOrder::Canonical => s,
            RowOrder::RopePairs { head_dim } => {
                let (head, within) = (s / head_dim, s % head_dim);
                let (i, j) = (within / 2, within % 2);
                head * head_dim + j * (head_dim / 2) + i
            }
        }
    }
}

/// A checkpoint seen through its family.
#[derive(Debug, Clone)]
pub struct Model {
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// Sizes and switches.
    pub config: ModelConfig,
    /// Canonical name (`token_embd.weight`, `0.q_proj.bias`) to weight. A tied head has no entry.
    pub weights: BTreeMap<String, Weight>,
}
