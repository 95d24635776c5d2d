//! The forward pass, told once: embed; per layer attend and feed forward, each added to the residual; head.
//!
//! Families differ by the switches of [`ModelConfig`], backends by the operations of [`Backend`].

use super::sequences::{Sequence, Sequences};
use super::tap::Taps;
use super::{Activation, Angles, Backend, Heads, ModelWeights, Observer, Op, Part, Rope};
use crate::models::{Ffn, Model, ModelConfig, Position, RopeScaling};
use crate::{Error, Kind, Result};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A model on a backend.
pub struct Decoder<B: Backend> {
    pub(super) backend: B,
    pub(super) config: ModelConfig,
    pub(super) heads: Heads,
    pub(super) rope: Option<Rope>,
    pub(super) local_rope: Option<Rope>, // of layers with a window and a base of their own
    pub(super) weights: ModelWeights<B>,
    pub(super) sequences: Sequences<B>,
    /// Those that no pass is using.
    buffers: Mutex<Vec<Buffers<B>>>,
}

/// Tokens of one sequence in a pass.
pub(super) struct Span<'a, B: Backend> {
    pub tokens: Tokens<'a>,
    /// Those of them whose logits are wanted.
    pub wanted: Range<usize>,
    pub sequence: &'a mut Sequence<B>,
}

/// What is appended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tokens<'a> {
    Known(&'a [u32]),
    /// The one that was chosen last, of a pass that chooses.
    Chosen,
}

impl Tokens<'_> {
    fn len(self) -> usize {
        match self {
            Tokens::Known(ids) => ids.len(),
            Tokens::Chosen => 1,
        }
    }
}

/// What becomes of the last layer's output.
pub(super) enum Ending<'a, B: Backend> {
    /// The logits of the wanted tokens, `[wanted of all spans, vocab]`.
    Logits(&'a mut [f32]),
    /// The token after the last one is chosen.
    Choice(&'a mut B::Chosen),
    /// So many of the best tokens after the last one.
    Best(&'a mut Vec<(u32, f32)>, usize),
}

impl<B: Backend> Ending<'_, B> {
    /// Whether the last layer's output matters to the wanted tokens alone.
    fn is_logits(&self) -> bool {
        match self {
            Ending::Logits(_) => true,
            Ending::Choice(_) | Ending::Best(..) => false,
        }
    }
}

/// Activations of one pass of `n` tokens, those of one sequence after those of the other.
struct Buffers<B: Backend> {
    x: B::Buffer,         // [n, hidden], the residual stream
    normed: B::Buffer,    // [n, hidden]
    q: B::Buffer,         // [n, n_heads, head_dim], RoPE applied
    k: B::Buffer,         // [n, n_kv_heads, head_dim], RoPE applied
    v: B::Buffer,         // [n, n_kv_heads, head_dim]
    attended: B::Buffer,  // [n, n_heads, head_dim]
    projected: B::Buffer, // [n, hidden], what a norm waits for before it is added to x
    wide: B::Buffer,      // [n, intermediate], activated
}

impl<B: Backend> Buffers<B> {
    fn new(b: &B, c: &ModelConfig) -> Self {
        let (hidden, q, kv) = (c.hidden_size, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        Buffers {
            x: b.buffer(hidden),
            normed: b.buffer(hidden),
            q: b.buffer(q),
            k: b.buffer(kv),
            v: b.buffer(kv),
            attended: b.buffer(q),
            projected: b.buffer(hidden),
            wide: b.buffer(c.intermediate_size),
        }
    }
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
        let (sequences, buffers) = (Sequences::new(), Mutex::new(Vec::new()));
        Ok(Decoder { backend, heads, rope, local_rope, config, weights, sequences, buffers })
    }
}

impl<B: Backend> Decoder<B> {
    /// Appends the tokens of every span to its sequence and does what `ending` says. A sequence has one span; one that
    /// is observed is alone.
    pub(super) fn pass(&self, spans: &mut [Span<'_, B>], ending: Ending<'_, B>) -> Result<()> {
        let spare = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = spare.unwrap_or_else(|| Buffers::new(&self.backend, &self.config));
        let mut observer = match spans {
            [alone] => alone.sequence.observer.take(),
            _ => None,
        };
        let done = self.compute(spans, &mut buffers, observer.as_deref_mut().map(|o| o as _), ending);
        if let [alone] = spans {
            alone.sequence.observer = observer;
        }
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        done
    }

    fn compute(
        &self,
        spans: &mut [Span<'_, B>],
        s: &mut Buffers<B>,
        observer: Option<&mut dyn Observer>,
        ending: Ending<'_, B>,
    ) -> Result<()> {
        let Decoder { backend: b, config, heads, rope, local_rope, weights: w, .. } = self;
        let place = |s: &Span<'_, B>| s.sequence.position..s.sequence.position + s.tokens.len();
        let positions: Vec<usize> = spans.iter().flat_map(place).collect();
        let angles = |rope: &Option<Rope>| rope.as_ref().map(|r| r.angles(positions.iter().copied()));
        let (angles, local_angles): (Option<Angles>, Option<Angles>) = (angles(rope), angles(local_rope));
        let mut taps = Taps { observer, start: positions[0], n: positions.len() };

        match (known_ids(spans), &ending) {
            (Some(ids), _) => b.embed(&w.token_embd, &ids, &mut s.x)?,
            (None, Ending::Choice(chosen)) => b.embed_chosen(&w.token_embd, chosen, &mut s.x)?,
            (None, Ending::Logits(_) | Ending::Best(..)) => {
                return Err(Error::new(Kind::Internal, "forward pass", "nothing chose its token"));
            }
        }
        if config.embed_scale != 1.0 {
            b.scale(config.embed_scale, &mut s.x)?;
        }
        taps.show(b, None, Op::Embedding, &mut s.x)?;
        if let Some(table) = &w.position_embd {
            b.add_positions(table, &positions, &mut s.x)?;
            taps.show(b, None, Op::Positions, &mut s.x)?;
        }
        // Of the last layer only keys and values matter to later tokens.
        let ends_at_keys = wanted_rows(spans).is_empty() && taps.is_unobserved() && ending.is_logits();
        for (l, layer) in w.layers.iter().enumerate() {
            let window = config.window.filter(|_| config.is_local(l)).map(|w| w.size);
            let angles = local_angles.as_ref().filter(|_| window.is_some()).or(angles.as_ref());
            b.norm(&layer.attn_norm, &s.x, &mut s.normed)?;
            taps.show(b, l, Op::AttnNorm, &mut s.normed)?;
            let projections = [&layer.q_proj, &layer.k_proj, &layer.v_proj];
            b.linear(projections, &s.normed, [&mut s.q, &mut s.k, &mut s.v])?;
            taps.show(b, l, Op::QProj, &mut s.q)?;
            taps.show(b, l, Op::KProj, &mut s.k)?;
            taps.show(b, l, Op::VProj, &mut s.v)?;
            if let Some((q_norm, k_norm)) = &layer.qk_norm {
                b.norm_heads(q_norm, heads.head_dim, &mut s.q)?;
                b.norm_heads(k_norm, heads.head_dim, &mut s.k)?;
                taps.show(b, l, Op::QNorm, &mut s.q)?;
                taps.show(b, l, Op::KNorm, &mut s.k)?;
            }
            let mut parts = parts(spans, l);
            b.rope_store(heads, angles, (&mut s.q, &mut s.k, &s.v), &mut parts)?;
            taps.show(b, l, Op::QRotated, &mut s.q)?;
            if taps.show(b, l, Op::KRotated, &mut s.k)? {
                // The cache holds the other keys: stored once more, rotated already.
                b.rope_store(heads, None, (&mut s.q, &mut s.k, &s.v), &mut parts)?;
            }
            if l + 1 == w.layers.len() && ends_at_keys {
                break;
            }
            b.attend(heads, window, &s.q, &parts, &mut s.attended)?;
            taps.show(b, l, Op::Attention, &mut s.attended)?;
            match &layer.post_attn_norm {
                None if !taps.wanted(Op::OProj) => {
                    b.linear_add(&layer.o_proj, &s.attended, &mut s.x)?;
                }
                post => {
                    b.linear([&layer.o_proj], &s.attended, [&mut s.projected])?;
                    taps.show(b, l, Op::OProj, &mut s.projected)?;
                    if let Some(norm) = post {
                        b.norm(norm, &s.projected, &mut s.normed)?;
                        taps.show(b, l, Op::PostAttnNorm, &mut s.normed)?;
                        b.add(&s.normed, &mut s.x)?;
                    } else {
                        b.add(&s.projected, &mut s.x)?;
                    }
                }
            }
            taps.show(b, l, Op::AttnResidual, &mut s.x)?;

            b.norm(&layer.ffn_norm, &s.x, &mut s.normed)?;
            taps.show(b, l, Op::FfnNorm, &mut s.normed)?;
            if taps.wanted(Op::GateProj) || taps.wanted(Op::UpProj) {
                let mut apart = b.buffer(config.intermediate_size);
                for (op, weight) in
                    [(Op::GateProj, layer.gate_proj.as_ref()), (Op::UpProj, Some(&layer.up_proj))]
                {
                    let Some(weight) = weight else { continue };
                    b.linear([weight], &s.normed, [&mut apart])?;
                    taps.show(b, l, op, &mut apart)?;
                }
            }
            match (config.ffn, &layer.gate_proj) {
                (Ffn::SiluGated, Some(gate)) => {
                    b.gated(Activation::Silu, gate, &layer.up_proj, &s.normed, &mut s.wide)?;
                }
                (Ffn::GeluGated, Some(gate)) => {
                    b.gated(Activation::GeluTanh, gate, &layer.up_proj, &s.normed, &mut s.wide)?;
                }
                (Ffn::GeluTanh, None) => b.gelu(&layer.up_proj, &s.normed, &mut s.wide)?,
                (Ffn::SiluGated | Ffn::GeluGated, None) | (Ffn::GeluTanh, Some(_)) => {
                    unreachable!(
                        "`ModelWeights::resolve` gives a gate exactly where the feed-forward is gated"
                    )
                }
            }
            taps.show(b, l, Op::Activated, &mut s.wide)?;
            match &layer.post_ffn_norm {
                None if !taps.wanted(Op::DownProj) => {
                    b.linear_add(&layer.down_proj, &s.wide, &mut s.x)?;
                }
                post => {
                    b.linear([&layer.down_proj], &s.wide, [&mut s.projected])?;
                    taps.show(b, l, Op::DownProj, &mut s.projected)?;
                    if let Some(norm) = post {
                        b.norm(norm, &s.projected, &mut s.normed)?;
                        taps.show(b, l, Op::PostFfnNorm, &mut s.normed)?;
                        b.add(&s.normed, &mut s.x)?;
                    } else {
                        b.add(&s.projected, &mut s.x)?;
                    }
                }
            }
            taps.show(b, l, Op::LayerOutput, &mut s.x)?;
        }
        for span in &mut *spans {
            span.sequence.position += span.tokens.len();
        }

        if taps.wanted(Op::OutputNorm) {
            b.norm(&w.output_norm, &s.x, &mut s.normed)?;
            taps.show(b, None, Op::OutputNorm, &mut s.normed)?;
        }
        let head = w.output.as_ref().unwrap_or(&w.token_embd);
        let logits = match ending {
            Ending::Choice(chosen) => {
                return b.choose(&w.output_norm, head, &s.x, positions.len() - 1, chosen);
            }
            Ending::Best(best, k) => {
                *best = b.best(&w.output_norm, head, &s.x, positions.len() - 1, k)?;
                return Ok(());
            }
            Ending::Logits(logits) => logits,
        };
        let rows = wanted_rows(spans);
        if rows.is_empty() {
            return Ok(());
        }
        b.head(&w.output_norm, head, &s.x, &rows, logits)?;
        taps.show_values(None, Op::Logits, rows.len(), logits)?;
        Ok(())
    }
}

/// The ids of all spans, in order; none where one is not known yet.
fn known_ids<B: Backend>(spans: &[Span<'_, B>]) -> Option<Vec<u32>> {
    let known = |span: &Span<'_, B>| match span.tokens {
        Tokens::Known(ids) => Some(ids.to_vec()),
        Tokens::Chosen => None,
    };
    let ids: Option<Vec<Vec<u32>>> = spans.iter().map(known).collect();
    ids.map(|ids| ids.concat())
}

/// The rows of every span beside its cache of layer `l`.
fn parts<'a, B: Backend>(spans: &'a mut [Span<'_, B>], l: usize) -> Vec<Part<'a, B::Cache>> {
    let mut row = 0;
    let part = |span: &'a mut Span<'_, B>| {
        let rows = row..row + span.tokens.len();
        row = rows.end;
        Part { rows, start: span.sequence.position, cache: &mut span.sequence.caches[l] }
    };
    spans.iter_mut().map(part).collect()
}

/// The rows of a pass whose logits are wanted.
fn wanted_rows<B: Backend>(spans: &[Span<'_, B>]) -> Vec<usize> {
    let (mut rows, mut first) = (Vec::new(), 0);
    for span in spans {
        rows.extend(first + span.wanted.start..first + span.wanted.end);
        first += span.tokens.len();
    }
    rows
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
