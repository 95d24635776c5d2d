//! The forward pass, told once: embed; per layer attend and feed forward, each added to the residual; head.
//!
//! Families differ by the switches of [`ModelConfig`], backends by the operations of [`Backend`].

use super::tap::Taps;
use super::{
    Activation, Angles, Backend, Context, Engine, Heads, ModelWeights, Observer, Op, Part, Rope, Want,
};
use crate::models::{Ffn, Model, ModelConfig, Position, RopeScaling};
use crate::{Error, Kind, Result};
use std::sync::Arc;

/// A long prompt is computed in pieces of so many tokens: few enough that a piece of activations stays in the
/// second-level cache, many enough that decoding the weights costs little. No result depends on it.
const PIECE: usize = 128;

/// A model on a backend.
pub struct Decoder<B: Backend> {
    backend: B,
    config: ModelConfig,
    heads: Heads,
    rope: Option<Rope>,
    local_rope: Option<Rope>, // of layers with a window and a base of their own
    weights: ModelWeights<B>,
}

/// One sequence on a decoder.
struct Sequence<B: Backend> {
    decoder: Arc<Decoder<B>>,
    position: usize,
    caches: Vec<B::Cache>, // one per layer
    x: B::Buffer,          // [n, hidden], the residual stream
    normed: B::Buffer,     // [n, hidden]
    q: B::Buffer,          // [n, n_heads, head_dim], RoPE applied
    k: B::Buffer,          // [n, n_kv_heads, head_dim], RoPE applied
    v: B::Buffer,          // [n, n_kv_heads, head_dim]
    attended: B::Buffer,   // [n, n_heads, head_dim]
    projected: B::Buffer,  // [n, hidden], what a norm waits for before it is added to x
    wide: B::Buffer,       // [n, intermediate], activated
    observer: Option<Box<dyn Observer>>,
}

impl<B: Backend> Decoder<B> {
    /// Resolves the weights of `model` on `backend`.
    ///
    /// # Errors
    /// [`Kind::Contract`] for sizes that contradict each other and for missing, misshapen or unused weights.
    pub fn load(backend: B, model: &Model) -> Result<Self> {
        let config = model.config.clone();
        check_sizes(&config).map_err(|what| {
            Error::new(Kind::Contract, model.path.display().to_string(), what).at("config")
        })?;
        let weights = ModelWeights::resolve(&backend, model)?;
        let heads = Heads {
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            scale: config.attn_scale,
        };
        let rope = Rope::new(&config.position, &config.rope_scaling);
        let local_rope = local_position(&config).and_then(|p| Rope::new(&p, &RopeScaling::None));
        Ok(Decoder { backend, heads, rope, local_rope, config, weights })
    }
}

impl<B: Backend> Engine for Decoder<B> {
    fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn context(self: Arc<Self>) -> Box<dyn Context> {
        let (b, c) = (&self.backend, &self.config);
        let (hidden, q, kv) = (c.hidden_size, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        Box::new(Sequence::<B> {
            position: 0,
            caches: (0..c.n_layers).map(|_| b.cache(&self.heads)).collect(),
            x: b.buffer(hidden),
            normed: b.buffer(hidden),
            q: b.buffer(q),
            k: b.buffer(kv),
            v: b.buffer(kv),
            attended: b.buffer(q),
            projected: b.buffer(hidden),
            wide: b.buffer(c.intermediate_size),
            observer: None,
            decoder: self,
        })
    }
}

impl<B: Backend> Sequence<B> {
    /// Appends `ids` and returns the logits asked for; `None` skips the head.
    fn append(&mut self, ids: &[u32], want: Option<Want>) -> Result<Vec<f32>> {
        let Decoder { backend: b, config, heads, rope, local_rope, weights: w } = &*self.decoder;
        let (start, n) = (self.position, ids.len());
        let positions: Vec<usize> = (start..start + n).collect();
        let angles = |rope: &Option<Rope>| rope.as_ref().map(|r| r.angles(positions.iter().copied()));
        let (angles, local_angles): (Option<Angles>, Option<Angles>) = (angles(rope), angles(local_rope));
        let mut taps = Taps { observer: self.observer.as_deref_mut().map(|o| o as _), start, n };

        b.embed(&w.token_embd, ids, &mut self.x)?;
        if config.embed_scale != 1.0 {
            b.scale(config.embed_scale, &mut self.x);
        }
        taps.show(b, None, Op::Embedding, &mut self.x)?;
        if let Some(table) = &w.position_embd {
            b.add_positions(table, &positions, &mut self.x)?;
            taps.show(b, None, Op::Positions, &mut self.x)?;
        }
        for (l, (layer, cache)) in w.layers.iter().zip(&mut self.caches).enumerate() {
            let window = config.window.filter(|_| config.is_local(l)).map(|w| w.size);
            let angles = local_angles.as_ref().filter(|_| window.is_some()).or(angles.as_ref());
            b.norm(&layer.attn_norm, &self.x, &mut self.normed);
            taps.show(b, l, Op::AttnNorm, &mut self.normed)?;
            let projections = [&layer.q_proj, &layer.k_proj, &layer.v_proj];
            b.linear(projections, &self.normed, [&mut self.q, &mut self.k, &mut self.v])?;
            taps.show(b, l, Op::QProj, &mut self.q)?;
            taps.show(b, l, Op::KProj, &mut self.k)?;
            taps.show(b, l, Op::VProj, &mut self.v)?;
            if let Some((q_norm, k_norm)) = &layer.qk_norm {
                b.norm_heads(q_norm, heads.head_dim, &mut self.q);
                b.norm_heads(k_norm, heads.head_dim, &mut self.k);
                taps.show(b, l, Op::QNorm, &mut self.q)?;
                taps.show(b, l, Op::KNorm, &mut self.k)?;
            }
            let mut parts = [Part { rows: 0..n, start, cache }];
            b.rope_store(heads, angles, (&mut self.q, &mut self.k, &self.v), &mut parts);
            taps.show(b, l, Op::QRotated, &mut self.q)?;
            if taps.show(b, l, Op::KRotated, &mut self.k)? {
                // The cache holds the other keys: stored once more, rotated already.
                b.rope_store(heads, None, (&mut self.q, &mut self.k, &self.v), &mut parts);
            }
            b.attend(heads, window, &self.q, &parts, &mut self.attended);
            taps.show(b, l, Op::Attention, &mut self.attended)?;
            match &layer.post_attn_norm {
                None if !taps.wanted(Op::OProj) => {
                    b.linear_add(&layer.o_proj, &self.attended, &mut self.x)?;
                }
                post => {
                    b.linear([&layer.o_proj], &self.attended, [&mut self.projected])?;
                    taps.show(b, l, Op::OProj, &mut self.projected)?;
                    if let Some(norm) = post {
                        b.norm(norm, &self.projected, &mut self.normed);
                        taps.show(b, l, Op::PostAttnNorm, &mut self.normed)?;
                        b.add(&self.normed, &mut self.x);
                    } else {
                        b.add(&self.projected, &mut self.x);
                    }
                }
            }
            taps.show(b, l, Op::AttnResidual, &mut self.x)?;

            b.norm(&layer.ffn_norm, &self.x, &mut self.normed);
            taps.show(b, l, Op::FfnNorm, &mut self.normed)?;
            if taps.wanted(Op::GateProj) || taps.wanted(Op::UpProj) {
                let mut apart = b.buffer(config.intermediate_size);
                for (op, weight) in
                    [(Op::GateProj, layer.gate_proj.as_ref()), (Op::UpProj, Some(&layer.up_proj))]
                {
                    let Some(weight) = weight else { continue };
                    b.linear([weight], &self.normed, [&mut apart])?;
                    taps.show(b, l, op, &mut apart)?;
                }
            }
            match (config.ffn, &layer.gate_proj) {
                (Ffn::SiluGated, Some(gate)) => {
                    b.gated(Activation::Silu, gate, &layer.up_proj, &self.normed, &mut self.wide)?;
                }
                (Ffn::GeluGated, Some(gate)) => {
                    b.gated(Activation::GeluTanh, gate, &layer.up_proj, &self.normed, &mut self.wide)?;
                }
                (Ffn::GeluTanh, None) => b.gelu(&layer.up_proj, &self.normed, &mut self.wide)?,
                (Ffn::SiluGated | Ffn::GeluGated, None) | (Ffn::GeluTanh, Some(_)) => {
                    unreachable!(
                        "`ModelWeights::resolve` gives a gate exactly where the feed-forward is gated"
                    )
                }
            }
            taps.show(b, l, Op::Activated, &mut self.wide)?;
            match &layer.post_ffn_norm {
                None if !taps.wanted(Op::DownProj) => {
                    b.linear_add(&layer.down_proj, &self.wide, &mut self.x)?;
                }
                post => {
                    b.linear([&layer.down_proj], &self.wide, [&mut self.projected])?;
                    taps.show(b, l, Op::DownProj, &mut self.projected)?;
                    if let Some(norm) = post {
                        b.norm(norm, &self.projected, &mut self.normed);
                        taps.show(b, l, Op::PostFfnNorm, &mut self.normed)?;
                        b.add(&self.normed, &mut self.x);
                    } else {
                        b.add(&self.projected, &mut self.x);
                    }
                }
            }
            taps.show(b, l, Op::LayerOutput, &mut self.x)?;
        }
        self.position += n;

        if taps.wanted(Op::OutputNorm) {
            b.norm(&w.output_norm, &self.x, &mut self.normed);
            taps.show(b, None, Op::OutputNorm, &mut self.normed)?;
        }
        let rows = match want {
            None => return Ok(Vec::new()),
            Some(Want::Last) => n - 1..n,
            Some(Want::All) => 0..n,
        };
        let shown = rows.len();
        let head = w.output.as_ref().unwrap_or(&w.token_embd);
        let mut logits = b.head(&w.output_norm, head, &self.x, rows)?;
        taps.show_values(None, Op::Logits, shown, &mut logits)?;
        Ok(logits)
    }

    fn admit(&self, ids: &[u32]) -> Result<()> {
        let config = &self.decoder.config;
        if ids.is_empty() {
            return Err(Error::new(Kind::Usage, "prompt", "there are no tokens to compute")
                .hint("an empty text without a begin token has none"));
        }
        if let Some((i, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= config.vocab_size) {
            let what = format!("token id {id} is not below the vocabulary of {}", config.vocab_size);
            return Err(Error::new(Kind::Usage, "prompt", what).at(format!("token {i}")));
        }
        if ids.len() > config.max_positions.saturating_sub(self.position) {
            let what = format!(
                "{} tokens after {} exceed the model's context of {}",
                ids.len(),
                self.position,
                config.max_positions
            );
            return Err(Error::new(Kind::Usage, "context", what).hint("shorten the text"));
        }
        Ok(())
    }
}

impl<B: Backend> Context for Sequence<B> {
    fn forward(&mut self, ids: &[u32], want: Want) -> Result<Vec<f32>> {
        self.admit(ids)?;
        let mut logits = Vec::new();
        let mut pieces = ids.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let needed = (want == Want::All || pieces.peek().is_none()).then_some(want);
            let mut rows = self.append(piece, needed)?;
            if logits.is_empty() {
                logits = rows;
            } else {
                logits.append(&mut rows);
            }
        }
        Ok(logits)
    }

    fn position(&self) -> usize {
        self.position
    }

    fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    fn reset(&mut self) {
        self.position = 0;
        self.caches = self.caches.iter().map(|_| self.decoder.backend.cache(&self.decoder.heads)).collect();
    }
}

/// How the layers with a window rotate, where that is not how the others do.
fn local_position(c: &ModelConfig) -> Option<Position> {
    let theta = c.window?.local_theta?;
    match c.position {
        Position::Rope { dim, .. } => Some(Position::Rope { theta, dim }),
        Position::Learned => None,
    }
}

/// Sizes that a weight's shape cannot vouch for.
fn check_sizes(c: &ModelConfig) -> Result<(), String> {
    let sizes = [
        ("hidden_size", c.hidden_size),
        ("n_layers", c.n_layers),
        ("n_heads", c.n_heads),
        ("n_kv_heads", c.n_kv_heads),
        ("head_dim", c.head_dim),
        ("intermediate_size", c.intermediate_size),
        ("vocab_size", c.vocab_size),
        ("max_positions", c.max_positions),
    ];
    if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
        return Err(format!("{name} is 0"));
    }
    if !c.n_heads.is_multiple_of(c.n_kv_heads) {
        return Err(format!("{} query heads are no multiple of {} key heads", c.n_heads, c.n_kv_heads));
    }
    if c.n_heads.checked_mul(c.head_dim).is_none() {
        return Err(format!("{} heads of {} overflow", c.n_heads, c.head_dim));
    }
    if !(c.norm_eps.is_finite() && c.norm_eps >= 0.0 && c.attn_scale.is_finite()) {
        return Err(format!("norm_eps {} or attn_scale {} is no number to use", c.norm_eps, c.attn_scale));
    }
    match c.position {
        Position::Learned => Ok(()),
        Position::Rope { theta, dim } if theta > 0.0 && dim % 2 == 0 && dim <= c.head_dim => Ok(()),
        Position::Rope { theta, dim } => Err(format!(
            "rope theta {theta} must be positive and its width {dim} even and at most {}",
            c.head_dim
        )),
    }
}
