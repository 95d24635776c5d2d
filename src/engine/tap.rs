//! Taps: an observer sees what every operation of a forward pass gives, and may put something else in its place.
//!
//! Nobody looking costs nothing and changes no bit. Where somebody looks at an operation that backends fuse with the
//! next, it is computed apart: the same sums in the same order, so no bit changes there either.

use super::Backend;
use crate::{Error, Kind, Result};
use std::sync::Arc;

/// Looks at the outputs of operations.
pub trait Observer: Send {
    /// Whether it wants to see the outputs of `op`.
    fn wants(&self, op: Op) -> bool;

    /// Is shown `values`, `[tap.n, width]`, the output of the operation at `tap`. The values that it hands back take
    /// their place; for [`Op::GateProj`] and [`Op::UpProj`], which are seen beside the fused operation that follows,
    /// they take no place.
    ///
    /// # Errors
    /// Ends the forward pass with that error.
    fn see(&mut self, tap: Tap, values: Vec<f32>) -> Result<Option<Arc<Vec<f32>>>>;
}

/// Where in a forward pass something is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// Position of the first of its tokens: a long prompt is computed in pieces.
    pub start: usize,
    /// How many tokens.
    pub n: usize,
    /// The layer; none before the first and after the last.
    pub layer: Option<usize>,
    /// Which operation.
    pub op: Op,
}

impl Tap {
    /// What orders taps as a forward pass reaches them.
    pub fn order(&self) -> (usize, Place) {
        (self.start, Place { layer: self.layer, op: self.op })
    }
}

/// An operation of a layer, or outside of all layers. Places are ordered as a forward pass reaches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The layer; none before the first and after the last.
    pub layer: Option<usize>,
    /// Which operation.
    pub op: Op,
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> std::cmp::Ordering {
        let rank = |p: &Place| match p.layer {
            Some(layer) => (1, layer, p.op),
            None if p.op <= Op::Positions => (0, 0, p.op),
            None => (2, 0, p.op),
        };
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What can be seen, in the order of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Embedding, scaled: `[n, hidden]`.
    Embedding,
    /// With learned positions added.
    Positions,
    /// Norm before attention.
    AttnNorm,
    /// Queries, bias added: `[n, n_heads, head_dim]`.
    QProj,
    /// Keys, bias added: `[n, n_kv_heads, head_dim]`.
    KProj,
    /// Values, bias added: `[n, n_kv_heads, head_dim]`.
    VProj,
    /// Queries normalised by head.
    QNorm,
    /// Keys normalised by head.
    KNorm,
    /// Queries rotated.
    QRotated,
    /// Keys rotated.
    KRotated,
    /// What attention gives: `[n, n_heads, head_dim]`.
    Attention,
    /// Output projection of attention, before it is added: `[n, hidden]`.
    OProj,
    /// Norm on that.
    PostAttnNorm,
    /// The residual stream after attention.
    AttnResidual,
    /// Norm before the feed-forward.
    FfnNorm,
    /// Gate, before its activation: `[n, intermediate]`.
    GateProj,
    /// Up projection, before an activation.
    UpProj,
    /// What the down projection is multiplied with.
    Activated,
    /// Down projection, before it is added: `[n, hidden]`.
    DownProj,
    /// Norm on that.
    PostFfnNorm,
    /// The residual stream after the layer.
    LayerOutput,
    /// Norm before the head: `[n, hidden]`.
    OutputNorm,
    /// Logits, that norm and the head in one: `[rows, vocab]`.
    Logits,
}

impl Op {
    /// Its name beside `blk.7`: GGUF's word for the weight where it has one.
    pub fn name(self) -> &'static str {
        match self {
            Op::Embedding => "token_embd",
            Op::Positions => "position_embd",
            Op::AttnNorm => "attn_norm",
            Op::QProj => "attn_q",
            Op::KProj => "attn_k",
            Op::VProj => "attn_v",
            Op::QNorm => "attn_q_norm",
            Op::KNorm => "attn_k_norm",
            Op::QRotated => "rope_q",
            Op::KRotated => "rope_k",
            Op::Attention => "attention",
            Op::OProj => "attn_output",
            Op::PostAttnNorm => "post_attention_norm",
            Op::AttnResidual => "attn_residual",
            Op::FfnNorm => "ffn_norm",
            Op::GateProj => "ffn_gate",
            Op::UpProj => "ffn_up",
            Op::Activated => "ffn_act",
            Op::DownProj => "ffn_down",
            Op::PostFfnNorm => "post_ffw_norm",
            Op::LayerOutput => "layer_output",
            Op::OutputNorm => "output_norm",
            Op::Logits => "output",
        }
    }

    /// The canonical name, without layer and ending, of the tensor that it computes with; none where it computes
    /// with none or with several.
    pub fn part(self) -> Option<&'static str> {
        match self {
            Op::Embedding => Some("token_embd"),
            Op::Positions => Some("position_embd"),
            Op::AttnNorm => Some("attn_norm"),
            Op::QProj => Some("q_proj"),
            Op::KProj => Some("k_proj"),
            Op::VProj => Some("v_proj"),
            Op::QNorm => Some("q_norm"),
            Op::KNorm => Some("k_norm"),
            Op::OProj => Some("o_proj"),
            Op::PostAttnNorm => Some("post_attn_norm"),
            Op::FfnNorm => Some("ffn_norm"),
            Op::GateProj => Some("gate_proj"),
            Op::UpProj => Some("up_proj"),
            Op::DownProj => Some("down_proj"),
            Op::PostFfnNorm => Some("post_ffn_norm"),
            Op::OutputNorm => Some("output_norm"),
            Op::Logits => Some("output"),
            Op::QRotated
            | Op::KRotated
            | Op::Attention
            | Op::AttnResidual
            | Op::Activated
            | Op::LayerOutput => None,
        }
    }
}

/// Who looks at one piece of a forward pass, if anybody does.
pub(super) struct Taps<'a> {
    pub observer: Option<&'a mut dyn Observer>,
    pub start: usize,
    pub n: usize,
}

impl Taps<'_> {
    /// Whether somebody wants to see `op`.
    pub fn wanted(&self, op: Op) -> bool {
        self.observer.as_ref().is_some_and(|o| o.wants(op))
    }

    /// Whether nobody looks at this piece.
    pub fn is_unobserved(&self) -> bool {
        self.observer.is_none()
    }

    /// Shows `x`, `[n, width]`, where somebody looks; true where other values took its place.
    pub fn show<B: Backend>(
        &mut self,
        b: &B,
        layer: impl Into<Option<usize>>,
        op: Op,
        x: &mut B::Buffer,
    ) -> Result<bool> {
        if !self.wanted(op) {
            return Ok(false);
        }
        let mut values = b.download(x)?;
        let replaced = self.show_values(layer, op, self.n, &mut values)?;
        if replaced {
            *x = b.upload(values.len() / self.n, &values)?;
        }
        Ok(replaced)
    }

    /// As [`Taps::show`], of values that are no buffer: `[n, width]`.
    pub fn show_values(
        &mut self,
        layer: impl Into<Option<usize>>,
        op: Op,
        n: usize,
        values: &mut [f32],
    ) -> Result<bool> {
        let Some(observer) = self.observer.as_mut().filter(|o| o.wants(op)) else { return Ok(false) };
        let len = values.len();
        let tap = Tap { start: self.start, n, layer: layer.into(), op };
        match observer.see(tap, values.to_vec())? {
            None => Ok(false),
            Some(other) if other.len() == len => {
                values.copy_from_slice(&other);
                Ok(true)
            }
            Some(other) => {
                let what = format!("an observer gave {} values in place of {len}", other.len());
                Err(Error::new(Kind::Internal, "forward pass", what).at(op.name()))
            }
        }
    }
}
