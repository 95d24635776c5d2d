//! Weights by name become typed structs once, at load: a missing, misshapen or unused tensor is an error here
//! and nowhere later.

use super::{Backend, NormRule};
use crate::models::{Ffn, Model, ModelConfig, NormKind, Position, Weight};
use crate::quant;
use crate::tensor::Shape;
use crate::{Error, Kind, Result};
use std::collections::BTreeSet;

/// Everything the decoder multiplies with.
pub struct ModelWeights<B: Backend> {
    /// `[vocab, hidden]`.
    pub token_embd: B::Matrix,
    /// `[max_positions, hidden]`, where positions are learned.
    pub position_embd: Option<B::Matrix>,
    /// In order of application.
    pub layers: Vec<LayerWeights<B>>,
    /// Before the head.
    pub output_norm: Norm<B>,
    /// `[vocab, hidden]`; `None` where the head is the embedding.
    pub output: Option<B::Matrix>,
}

/// One layer.
pub struct LayerWeights<B: Backend> {
    /// Before attention.
    pub attn_norm: Norm<B>,
    /// `[n_heads * head_dim, hidden]`.
    pub q_proj: Linear<B>,
    /// `[n_kv_heads * head_dim, hidden]`.
    pub k_proj: Linear<B>,
    /// `[n_kv_heads * head_dim, hidden]`.
    pub v_proj: Linear<B>,
    /// On every head of q and of k, `[head_dim]` each.
    pub qk_norm: Option<(Norm<B>, Norm<B>)>,
    /// `[hidden, n_heads * head_dim]`.
    pub o_proj: Linear<B>,
    /// On the output of attention.
    pub post_attn_norm: Option<Norm<B>>,
    /// Before the feed-forward.
    pub ffn_norm: Norm<B>,
    /// `[intermediate, hidden]`, where the feed-forward is gated.
    pub gate_proj: Option<Linear<B>>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
    /// On the output of the feed-forward.
    pub post_ffn_norm: Option<Norm<B>>,
}

/// A weight `[outputs, inputs]` and its bias `[outputs]`.
pub struct Linear<B: Backend> {
    /// In the encoding of its file.
    pub weight: B::Matrix,
    /// f32, canonical order.
    pub bias: Option<B::Vector>,
}

/// A norm over the width of the residual stream, or of a head.
pub struct Norm<B: Backend> {
    /// Kind and epsilon.
    pub rule: NormRule,
    /// `[width]`.
    pub weight: B::Vector,
    /// `[width]`, of a layer norm.
    pub bias: Option<B::Vector>,
}

impl<B: Backend> ModelWeights<B> {
    /// Resolves every weight of `model`.
    ///
    /// # Errors
    /// [`Kind::Contract`] naming the tensor, the expected and the found shape.
    pub fn resolve(backend: &B, model: &Model) -> Result<Self> {
        let c = &model.config;
        let mut r = Resolver { backend, model, used: BTreeSet::new() };
        let embedding = [c.vocab_size, c.hidden_size];
        let token_embd = match c.tied_embeddings {
            true => r.matrix("token_embd.weight", embedding)?,
            false => r.table("token_embd.weight", embedding)?,
        };
        let position_embd = match c.position {
            Position::Learned => Some(r.table("position_embd.weight", [c.max_positions, c.hidden_size])?),
            Position::Rope { .. } => None,
        };
        let layers = (0..c.n_layers).map(|l| r.layer(c, l)).collect::<Result<Vec<_>>>()?;
        let output_norm = r.norm(c, "output_norm", c.hidden_size)?;
        let output = match c.tied_embeddings {
            true => None,
            false => Some(r.matrix("output.weight", [c.vocab_size, c.hidden_size])?),
        };
        r.refuse_unused()?;
        Ok(ModelWeights { token_embd, position_embd, layers, output_norm, output })
    }
}

struct Resolver<'a, B> {
    backend: &'a B,
    model: &'a Model,
    used: BTreeSet<String>,
}

impl<'a, B: Backend> Resolver<'a, B> {
    fn layer(&mut self, c: &ModelConfig, l: usize) -> Result<LayerWeights<B>> {
        let (hidden, wide) = (c.hidden_size, c.intermediate_size);
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let at = |part: &str| format!("{l}.{part}");
        Ok(LayerWeights {
            attn_norm: self.norm(c, &at("attn_norm"), hidden)?,
            qk_norm: match c.qk_norm {
                true => {
                    Some((self.norm(c, &at("q_norm"), c.head_dim)?, self.norm(c, &at("k_norm"), c.head_dim)?))
                }
                false => None,
            },
            q_proj: self.linear(l, "q_proj", [q, hidden])?,
            k_proj: self.linear(l, "k_proj", [kv, hidden])?,
            v_proj: self.linear(l, "v_proj", [kv, hidden])?,
            o_proj: self.linear(l, "o_proj", [hidden, q])?,
            post_attn_norm: self.post_norm(c, &at("post_attn_norm"))?,
            ffn_norm: self.norm(c, &at("ffn_norm"), hidden)?,
            gate_proj: match c.ffn {
                Ffn::SiluGated | Ffn::GeluGated => Some(self.linear(l, "gate_proj", [wide, hidden])?),
                Ffn::GeluTanh => None,
            },
            up_proj: self.linear(l, "up_proj", [wide, hidden])?,
            down_proj: self.linear(l, "down_proj", [hidden, wide])?,
            post_ffn_norm: self.post_norm(c, &at("post_ffn_norm"))?,
        })
    }

    fn post_norm(&mut self, c: &ModelConfig, name: &str) -> Result<Option<Norm<B>>> {
        c.post_norms.then(|| self.norm(c, name, c.hidden_size)).transpose()
    }

    /// A projection; its bias is optional, but layers must agree: one lost bias would pass in silence.
    fn linear(&mut self, l: usize, part: &str, shape: [usize; 2]) -> Result<Linear<B>> {
        let weight = self.matrix(&format!("{l}.{part}.weight"), shape)?;
        let bias = format!("{l}.{part}.bias");
        let bias = match self.model.weights.contains_key(&format!("0.{part}.bias")) {
            true => Some(self.vector(&bias, shape[0])?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, c: &ModelConfig, name: &str, width: usize) -> Result<Norm<B>> {
        let bias = match c.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.vector(&format!("{name}.bias"), width)?),
        };
        let weight = self.vector(&format!("{name}.weight"), width)?;
        Ok(Norm { rule: NormRule { kind: c.norm, eps: c.norm_eps }, weight, bias })
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<B::Matrix> {
        let weight = self.find(name, &Shape::from(shape))?;
        self.backend.matrix(weight).map_err(|e| e.at(format!("tensor `{name}`")))
    }

    fn table(&mut self, name: &str, shape: [usize; 2]) -> Result<B::Matrix> {
        let weight = self.find(name, &Shape::from(shape))?;
        self.backend.table(weight).map_err(|e| e.at(format!("tensor `{name}`")))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector> {
        let weight = self.find(name, &Shape::from([len]))?;
        let stored = quant::to_f32(&weight.tensor)?;
        let canonical = (0..len).map(|r| stored[weight.rows.stored_row(r)]).collect();
        self.backend.vector(canonical).map_err(|e| e.at(format!("tensor `{name}`")))
    }

    fn find(&mut self, name: &str, expected: &Shape) -> Result<&'a Weight> {
        let weight = self.model.weights.get(name).ok_or_else(|| {
            self.fault(name, "is missing")
                .hint(format!("the family `{}` needs it with shape {expected}", self.model.config.family))
        })?;
        if weight.tensor.shape != *expected {
            return Err(self
                .fault(name, format!("expected shape {expected}, found {}", weight.tensor.shape))
                .hint("was it saved transposed, or does the config belong to another model?"));
        }
        if weight.tensor.dtype.nbytes(expected) != Some(weight.tensor.bytes.len()) {
            let what =
                format!("{} bytes are not {expected} in {}", weight.tensor.bytes.len(), weight.tensor.dtype);
            return Err(self.fault(name, what));
        }
        self.used.insert(name.to_owned());
        Ok(weight)
    }

    fn refuse_unused(&self) -> Result<()> {
        match self.model.weights.keys().find(|name| !self.used.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(self
                .fault(name, "nothing uses it")
                .hint(format!("the family `{}` has no such weight here", self.model.config.family))),
        }
    }

    fn fault(&self, name: &str, what: impl Into<String>) -> Error {
        Error::new(Kind::Contract, self.model.path.display().to_string(), what).at(format!("tensor `{name}`"))
    }
}
