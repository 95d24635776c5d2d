//! Causal attention over a cache laid out for it: contract `contracts/kernels/attention.yaml`.
//!
//! Keys stand in tiles of 16 positions, so a score is one fma chain over the head's width and 16 positions are 16
//! lanes. Values stand by position, so an output is one fma chain over positions.

use super::elementwise::softmax;
use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use super::rows::{Rows, SharedRows};
use crate::engine::Heads;
use std::array::from_fn;
use std::ops::Range;

/// Positions that are allocated at once.
const SEGMENT: usize = 256;
/// Tiles whose chains run side by side.
const GROUP: usize = 4;

/// Keys and values of one layer; grows by segments and never moves.
pub struct Cache {
    n_kv_heads: usize,
    head_dim: usize,
    segments: Vec<Segment>,
}

struct Segment {
    keys: Vec<[f32; WIDTH]>,   // [n_kv_heads, SEGMENT / 16, head_dim] of 16 positions
    values: Vec<[f32; WIDTH]>, // [n_kv_heads, SEGMENT, head_dim in vectors]
}

impl Cache {
    pub(super) fn new(heads: &Heads) -> Cache {
        Cache { n_kv_heads: heads.n_kv_heads, head_dim: heads.head_dim, segments: Vec::new() }
    }

    /// Vectors of a value.
    fn vectors(&self) -> usize {
        self.head_dim.div_ceil(WIDTH)
    }

    /// Keeps key and value (`[n_kv_heads, head_dim]` each) of `position`.
    pub(super) fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let (dim, vectors, heads) = (self.head_dim, self.vectors(), self.n_kv_heads);
        while self.segments.len() * SEGMENT <= position {
            self.segments.push(Segment {
                keys: vec![[0.0; WIDTH]; heads * SEGMENT / WIDTH * dim],
                values: vec![[0.0; WIDTH]; heads * SEGMENT * vectors],
            });
        }
        let (segment, at) = (&mut self.segments[position / SEGMENT], position % SEGMENT);
        for (h, (key, value)) in key.chunks_exact(dim).zip(value.chunks_exact(dim)).enumerate() {
            let tile = (h * SEGMENT / WIDTH + at / WIDTH) * dim;
            key.iter().zip(&mut segment.keys[tile..]).for_each(|(k, lanes)| lanes[at % WIDTH] = *k);
            let row = (h * SEGMENT + at) * vectors;
            segment.values[row..row + vectors].as_flattened_mut()[..dim].copy_from_slice(value);
        }
    }
}

impl Segment {
    /// The tiles of one head from tile `first` on, `[tiles, head_dim]`.
    #[inline(always)]
    fn tiles(&self, head: usize, first: usize, dim: usize) -> &[[f32; WIDTH]] {
        &self.keys[(head * SEGMENT / WIDTH + first) * dim..][..GROUP * dim]
    }

    /// The values of one head, `[SEGMENT, vectors]`.
    #[inline(always)]
    fn values(&self, head: usize, vectors: usize) -> &[[f32; WIDTH]] {
        &self.values[head * SEGMENT * vectors..][..SEGMENT * vectors]
    }
}

/// Attention of query head `head` of token `t` over the positions `visible`, into its columns of `out`.
///
/// # Safety
/// No other task may use the columns of that head in row `t` of `out` at the same time.
pub(super) unsafe fn attend(
    isa: Isa,
    (heads, cache): (&Heads, &Cache),
    q: &Rows,
    (t, head): (usize, usize),
    visible: Range<usize>,
    out: SharedRows<'_>,
) {
    let columns = head * heads.head_dim..(head + 1) * heads.head_dim;
    // SAFETY: the caller owns these columns.
    let out = unsafe { out.slice(t, columns.start, columns.end) };
    let kv_head = heads.kv_head(head);
    isa.run(OneHead { cache, kv_head, scale: heads.scale, query: &q.values(t)[columns], visible, out });
}

struct OneHead<'a> {
    cache: &'a Cache,
    kv_head: usize,
    scale: f32,
    query: &'a [f32],
    visible: Range<usize>,
    out: &'a mut [f32],
}

impl Kernel for OneHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        // Whole groups from the start of the cache on: where a position stands does not depend on the window.
        let skipped = self.visible.start / (GROUP * WIDTH) * GROUP;
        let tiles = self.visible.end.div_ceil(WIDTH) - skipped;
        let seen = self.visible.start - skipped * WIDTH..self.visible.end - skipped * WIDTH;
        let mut scores = vec![[0.0; WIDTH]; tiles.next_multiple_of(GROUP)];
        for (i, group) in scores.chunks_exact_mut(GROUP).enumerate() {
            let g = skipped / GROUP + i;
            let (segment, first) = (g * GROUP * WIDTH / SEGMENT, g * GROUP % (SEGMENT / WIDTH));
            let keys = self.cache.segments[segment].tiles(self.kv_head, first, self.query.len());
            score::<L>(self.query, keys, self.scale, group);
        }
        scores.truncate(tiles);
        softmax::<L>(&mut scores, seen.clone());
        let weights = &scores.as_flattened()[seen];
        let mut first = 0;
        while first < self.cache.vectors() {
            if first + GROUP <= self.cache.vectors() {
                self.mix::<L, GROUP>(weights, first);
                first += GROUP;
            } else {
                self.mix::<L, 1>(weights, first);
                first += 1;
            }
        }
    }
}

impl OneHead<'_> {
    /// Vectors `first..first + N` of the output: the sum of the values, weighted by the scores.
    #[inline(always)]
    fn mix<L: Lanes, const N: usize>(&mut self, weights: &[f32], first: usize) {
        let vectors = self.cache.vectors();
        let mut acc = [L::splat(0.0); N];
        let mut weights = weights.iter();
        let (segment, mut skip) = (self.visible.start / SEGMENT, self.visible.start % SEGMENT);
        for segment in &self.cache.segments[segment..] {
            let rows = segment.values(self.kv_head, vectors).chunks_exact(vectors).skip(skip);
            skip = 0;
            // Rows first: a `zip` that ends by its first iterator takes nothing from the second.
            for (row, weight) in rows.zip(weights.by_ref()) {
                let weight = L::splat(*weight);
                let row = &row[first..first + N];
                for (acc, v) in acc.iter_mut().zip(row) {
                    *acc = weight.fma(L::load(v), *acc);
                }
            }
        }
        for (i, acc) in acc.into_iter().enumerate() {
            let mut lanes = [0.0; WIDTH];
            acc.store(&mut lanes);
            let out = &mut self.out[(first + i) * WIDTH..];
            let n = out.len().min(WIDTH);
            out[..n].copy_from_slice(&lanes[..n]);
        }
    }
}

/// Scores of 64 positions, `scale * (q · k)`.
#[inline(always)]
fn score<L: Lanes>(query: &[f32], keys: &[[f32; WIDTH]], scale: f32, out: &mut [[f32; WIDTH]]) {
    let dim = query.len();
    let tiles: [&[[f32; WIDTH]]; GROUP] = from_fn(|c| &keys[c * dim..(c + 1) * dim]);
    let mut acc = [L::splat(0.0); GROUP];
    for (d, q) in query.iter().enumerate() {
        let q = L::splat(*q);
        for (acc, tile) in acc.iter_mut().zip(tiles) {
            *acc = q.fma(L::load(&tile[d]), *acc);
        }
    }
    for (acc, out) in acc.iter().zip(out) {
        acc.mul(L::splat(scale)).store(out);
    }
}
