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
    /// `[hidden, n_heads * head_dim]`.
    pub o_proj: Linear<B>,
    /// Before the feed-forward.
    pub ffn_norm: Norm<B>,
    /// `[intermediate, hidden]`, where the feed-forward is gated.
    pub gate_proj: Option<Linear<B>>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<B>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<B>,
}

/// A weight `[outputs, inputs]` and its bias `[outputs]`.
pub struct Linear<B: Backend> {
    /// In the encoding of its file.
    pub weight: B::Matrix,
    /// f32, canonical order.
    pub bias: Option<B::Vector>,
}

/// A norm over the width of the residual stream.
pub struct Norm<B: Backend> {
    /// Kind and epsilon.
    pub rule: NormRule,
    /// `[hidden]`.
    pub weight: B::Vector,
    /// `[hidden]`, of a layer norm.
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
        let token_embd = r.matrix("token_embd.weight", [c.vocab_size, c.hidden_size])?;
        let position_embd = match c.position {
            Position::Learned => Some(r.matrix("position_embd.weight", [c.max_positions, c.hidden_size])?),
            Position::Rope { .. } => None,
        };
        let layers = (0..c.n_layers).map(|l| r.layer(c, l)).collect::<Result<Vec<_>>>()?;
        let output_norm = r.norm(c, "output_norm")?;
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
            attn_norm: self.norm(c, &at("attn_norm"))?,
            q_proj: self.linear(l, "q_proj", [q, hidden])?,
            k_proj: self.linear(l, "k_proj", [kv, hidden])?,
            v_proj: self.linear(l, "v_proj", [kv, hidden])?,
            o_proj: self.linear(l, "o_proj", [hidden, q])?,
            ffn_norm: self.norm(c, &at("ffn_norm"))?,
            gate_proj: match c.ffn {
                Ffn::SiluGated => Some(self.linear(l, "gate_proj", [wide, hidden])?),
                Ffn::GeluTanh => None,
            },
            up_proj: self.linear(l, "up_proj", [wide, hidden])?,
            down_proj: self.linear(l, "down_proj", [hidden, wide])?,
        })
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

    fn norm(&mut self, c: &ModelConfig, name: &str) -> Result<Norm<B>> {
        let bias = match c.norm {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.vector(&format!("{name}.bias"), c.hidden_size)?),
        };
        let weight = self.vector(&format!("{name}.weight"), c.hidden_size)?;
        Ok(Norm { rule: NormRule { kind: c.norm, eps: c.norm_eps }, weight, bias })
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<B::Matrix> {
        let weight = self.find(name, &Shape::from(shape))?;
        self.backend.matrix(weight).map_err(|e| e.at(format!("tensor `{name}`")))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector> {
        let weight = self.find(name, &Shape::from([len]))?;
        let stored = quant::to_f32(&weight.tensor)?;
        let canonical = (0..len).map(|r| stored[weight.rows.stored_row(r)]).collect();
        Ok(self.backend.vector(canonical))
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
