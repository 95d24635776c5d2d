//! Rotation, keys and values, and attention: the rotated queries and keys against the reference's, and attention against
//! the reference over the keys and values as the backend keeps them.

use super::Judge;
use crate::Result;
use crate::engine::reference::Reference;
use crate::engine::{Backend, Heads, Numerics, Part, Rope};

/// Queries, keys and values `[n, heads, head_dim]` of one sequence.
pub(in crate::engine) type Qkv = [Vec<f32>; 3];

/// A sequence as it is fed: in pieces that end at `ends`, each rotated, kept and attended to.
pub(in crate::engine) struct Heard<'a> {
    pub heads: &'a Heads,
    pub rope: Option<&'a Rope>,
    pub window: Option<usize>,
    pub ends: &'a [usize],
}

/// What a backend made of a piece.
pub(in crate::engine) struct Piece {
    /// Position of its first token.
    pub start: usize,
    /// Rotated, `[n, n_heads, head_dim]`.
    pub q: Vec<f32>,
    /// Rotated, `[n, n_kv_heads, head_dim]`.
    pub k: Vec<f32>,
    /// `[n, n_heads, head_dim]`
    pub out: Vec<f32>,
}

impl Heard<'_> {
    /// Queries' and keys' values of a token.
    fn widths(&self) -> (usize, usize) {
        (self.heads.n_heads * self.heads.head_dim, self.heads.n_kv_heads * self.heads.head_dim)
    }

    /// Feeds `qkv` to `b`, into `cache`.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn feed<B: Backend>(&self, b: &B, mut cache: B::Cache, [q, k, v]: &Qkv) -> Result<Vec<Piece>> {
        let (wide, narrow) = self.widths();
        let (mut pieces, mut start) = (Vec::new(), 0);
        for &end in self.ends {
            let mut q = b.upload(wide, &q[start * wide..end * wide])?;
            let mut k = b.upload(narrow, &k[start * narrow..end * narrow])?;
            let v = b.upload(narrow, &v[start * narrow..end * narrow])?;
            let angles = self.rope.map(|r| r.angles(start..end));
            let mut parts = [Part { rows: 0..end - start, start, cache: &mut cache }];
            b.rope_store(self.heads, angles.as_ref(), (&mut q, &mut k, &v), &mut parts)?;
            let mut out = b.buffer(wide);
            b.attend(self.heads, self.window, &q, &parts, &mut out)?;
            pieces.push(Piece { start, q: b.download(&q)?, k: b.download(&k)?, out: b.download(&out)? });
            start = end;
        }
        Ok(pieces)
    }
}

/// Attention whose scores are given and whose values are the unit vectors gives the weights themselves.
///
/// # Errors
/// Those of the operations.
pub(in crate::engine) fn attended_weights<B: Backend>(b: &B, scores: &[f32]) -> Result<Vec<f32>> {
    let n = scores.len();
    let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim: n, scale: 1.0 };
    let (mut keys, mut units) = (vec![0.0; n * n], vec![0.0; n * n]);
    for (i, score) in scores.iter().enumerate() {
        keys[i * n] = *score;
        units[i * n + i] = 1.0;
    }
    let mut cache = b.cache(&heads);
    let (mut q, mut k, v) = (b.upload(n, &units)?, b.upload(n, &keys)?, b.upload(n, &units)?);
    let mut all = [Part { rows: 0..n, start: 0, cache: &mut cache }];
    b.rope_store(&heads, None, (&mut q, &mut k, &v), &mut all)?;
    let (q, mut out) = (b.upload(n, &units[..n])?, b.buffer(n));
    b.attend(&heads, None, &q, &[Part { rows: 0..1, start: n - 1, cache: &mut cache }], &mut out)?;
    b.download(&out)
}

impl<B: Backend> Judge<'_, B> {
    /// A sequence of random queries, keys and values, whose scores vary by about 1.
    pub(super) fn attention(&mut self, place: &str, heard: &Heard<'_>) -> Result<()> {
        let (b, heads) = (self.backend, heard.heads);
        let n = heard.ends.last().copied().unwrap_or(0);
        let (wide, narrow) = heard.widths();
        let query = 2.0 / (heads.scale.abs().max(f32::MIN_POSITIVE) * (heads.head_dim as f32).sqrt());
        let qkv: Qkv =
            [self.values(n * wide, query), self.values(n * narrow, 2.0), self.values(n * narrow, 2.0)];
        let found = heard.feed(b, b.cache(heads), &qkv)?;

        // What is rotated is told by the operation; what is kept, by attention to it.
        let rotated = heard.feed(&Reference, Reference.cache(heads), &qkv)?;
        let window = heard.window.map_or(String::new(), |w| format!(", window {w}"));
        let place = |piece: &Piece, n: usize| {
            format!("{place}, {heads} from position {}, {n} at once{window}", piece.start)
        };
        for (found, expected) in found.iter().zip(&rotated) {
            let place = place(found, found.q.len() / wide);
            let half = heard.rope.map_or(0, |rope| rope.angles([]).half());
            for (what, width, expected, found) in
                [("queries", wide, &expected.q, &found.q), ("keys", narrow, &expected.k, &found.k)]
            {
                let products = pair_sizes(expected, heads.head_dim, half);
                let (call, place) = (("rope_store", "rope"), format!("{what} of {place}"));
                self.hold_fusible(call, &place, expected, products, (width, found))?;
            }
        }

        let rounds = b.numerics() == Numerics::Fast;
        let kept = |values: Vec<f32>| match rounds {
            true => values.iter().map(|v| half::f16::from_f32(*v).to_f32()).collect(),
            false => values,
        };
        let q = found.iter().flat_map(|piece| &piece.q).copied().collect();
        let k = kept(found.iter().flat_map(|piece| &piece.k).copied().collect());
        let v = kept(qkv[2].clone());
        let unrotated = Heard { rope: None, ..*heard };
        let expected = unrotated.feed(&Reference, Reference.cache(heads), &[q, k, v])?;
        for (found, expected) in found.iter().zip(&expected) {
            let place = place(found, found.q.len() / wide);
            // One position has all the weight: attention gives what is kept.
            let contract = if heard.window == Some(1) { "kv_cache" } else { "attention" };
            let operation = if heard.window == Some(1) { "rope_store" } else { "attend" };
            self.hold((operation, contract), &place, wide, &expected.out, &found.out)?;
        }
        Ok(())
    }
}

/// The length of the pair that each rotated element belongs to, which no product of its rotation exceeds.
fn pair_sizes(rotated: &[f32], head_dim: usize, half: usize) -> impl Iterator<Item = f32> {
    rotated.chunks_exact(head_dim).flat_map(move |head| {
        let other = move |i: usize| if i < half { i + half } else { i - half };
        (0..head_dim).map(move |i| if i < 2 * half { head[i].hypot(head[other(i)]) } else { 0.0 })
    })
}

impl std::fmt::Display for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = self;
        write!(f, "{n_heads} heads on {n_kv_heads} of {head_dim}")
    }
}
