//! One split of attention: scores, their exponentials and the weighted sum of values of at most [`SPLIT`] positions,
//! for several queries that share every load of keys and values.
//!
//! Every query has its own chains, so what shares a load changes no bit.

use super::cache::{SEGMENT, Segments, Sixteen, TILES};
use super::elementwise::weigh;
use super::lanes::{Lanes, WIDTH};
use super::lines::Lines;
use crate::engine::{Heads, visible};
use std::array::from_fn;
use std::ops::Range;

/// Positions of a split: those from one multiple of it to the next.
pub(super) const SPLIT: usize = 256;

type Vector = [f32; WIDTH];

/// Queries of one sequence that read the same keys: those of a group of heads, of consecutive tokens.
#[derive(Clone)]
pub(super) struct Queries<'a> {
    pub heads: &'a Heads,
    pub window: Option<usize>,
    pub kv_head: usize,
    /// Position of the first token.
    pub start: usize,
    pub n_tokens: usize,
}

impl Queries<'_> {
    /// Query heads per key head.
    #[inline(always)]
    pub(super) fn group(&self) -> usize {
        self.heads.n_heads / self.heads.n_kv_heads
    }

    /// Queries: token by token, its heads in ascending order.
    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.n_tokens * self.group()
    }

    /// The positions that row `row` sees.
    #[inline(always)]
    pub(super) fn seen(&self, row: usize) -> Range<usize> {
        visible(self.window, self.start + row / self.group())
    }

    /// The splits that row `row` sees something of.
    #[inline(always)]
    pub(super) fn splits_of(&self, row: usize) -> Range<usize> {
        let seen = self.seen(row);
        seen.start / SPLIT..seen.end.div_ceil(SPLIT)
    }

    /// The splits that some row sees something of.
    pub(super) fn splits(&self) -> Range<usize> {
        self.splits_of(0).start..self.splits_of(self.rows() - 1).end
    }

    /// Vectors that a row leaves of a split: the weighted sum of values, then maximum and sum of the weights.
    pub(super) fn partial(&self) -> usize {
        self.heads.head_dim.div_ceil(WIDTH) + 1
    }

    /// Rows that are computed side by side, evenly shared out.
    #[inline(always)]
    fn strip<L: Lanes>(&self) -> usize {
        let most = if L::LARGE_TILES { 6 } else { 2 };
        self.rows().div_ceil(self.rows().div_ceil(most))
    }
}

/// Calls a function of a constant number of rows. A macro, because a closure would be compiled without the
/// instruction set of the kernel.
macro_rules! with_rows {
    ($rows:expr, $R:ident => $call:expr) => {
        match $rows {
            1 => {
                const $R: usize = 1;
                $call
            }
            2 => {
                const $R: usize = 2;
                $call
            }
            3 if L::LARGE_TILES => {
                const $R: usize = 3;
                $call
            }
            4 if L::LARGE_TILES => {
                const $R: usize = 4;
                $call
            }
            5 if L::LARGE_TILES => {
                const $R: usize = 5;
                $call
            }
            6 if L::LARGE_TILES => {
                const $R: usize = 6;
                $call
            }
            n => unreachable!("strips have 1 to 6 rows, 1 or 2 in few registers, not {n}"),
        }
    };
}

/// Lays out the queries `[rows]` of `head_dim` for [`one_split`]: strip by strip, `[head_dim, rows of the strip]`.
#[inline(always)]
pub(super) fn pack<L: Lanes>(queries: &Queries<'_>, q: &[&[f32]], packed: &mut Vec<f32>) {
    let dim = queries.heads.head_dim;
    packed.resize(packed.len().max(q.len() * dim), 0.0);
    let step = queries.strip::<L>();
    for (strip, packed) in q.chunks(step).zip(packed.chunks_mut(step * dim)) {
        for (r, row) in strip.iter().enumerate() {
            packed[r..].iter_mut().step_by(strip.len()).zip(&row[..dim]).for_each(|(to, from)| *to = *from);
        }
    }
}

/// What a thread keeps between splits.
#[derive(Default)]
pub(super) struct Scratch {
    scores: Lines<[f32; SPLIT]>, // [rows]
    seen: Vec<(usize, usize)>,   // [rows]: first position of the split, and the one behind the last
}

/// What the rows of `queries` leave of split `split`: `out` is `[rows, partial]`.
#[inline(always)]
pub(super) fn one_split<L: Lanes, E: Sixteen>(
    queries: &Queries<'_>,
    packed: &[f32],
    cache: &Segments<E>,
    split: usize,
    scratch: &mut Scratch,
    out: &mut [Vector],
) {
    let (rows, step, base) = (queries.rows(), queries.strip::<L>(), split * SPLIT);
    let Scratch { scores, seen } = scratch;
    seen.clear();
    seen.extend((0..rows).map(|row| {
        let seen = queries.seen(row);
        let place = |position: usize| position.clamp(base, base + SPLIT) - base;
        (place(seen.start), place(seen.end))
    }));
    let within = |row: usize| seen[row].0..seen[row].1;
    let all = within(0).start..within(rows - 1).end;
    let segments = all.start / SEGMENT..all.end.div_ceil(SEGMENT);
    scores.resize(rows.max(scores.len()), [0.0; SPLIT]);
    let dim = queries.heads.head_dim;
    for s in segments.clone() {
        let keys = cache.keys(base / SEGMENT + s, queries.kv_head);
        let next = match s + 1 < segments.end {
            true => cache.keys(base / SEGMENT + s + 1, queries.kv_head),
            false => cache.values(base / SEGMENT + segments.start, queries.kv_head),
        };
        for first in (0..rows).step_by(step) {
            let n = step.min(rows - first);
            let seen = cut(within(first).start..within(first + n - 1).end, s);
            if !seen.is_empty() {
                let packed = &packed[first * dim..(first + n) * dim];
                let scores = &mut scores[first..first + n];
                let tiles = seen.start / WIDTH..seen.end.div_ceil(WIDTH);
                let scale = queries.heads.scale;
                with_rows!(n, R => score_tiles::<L, E, R>(packed, [keys, next], scale, tiles, s * SEGMENT, scores));
            }
        }
    }
    let (partial, vectors) = (queries.partial(), cache.vectors());
    out.fill([0.0; WIDTH]);
    for row in 0..rows {
        let seen = within(row);
        if !seen.is_empty() {
            let tiles = seen.start / WIDTH..seen.end.div_ceil(WIDTH);
            let from = tiles.start * WIDTH;
            let scores = &mut scores[row].as_chunks_mut().0[tiles];
            let (max, sum) = weigh::<L>(scores, seen.start - from..seen.end - from);
            let last = &mut out[row * partial + vectors];
            (last[0], last[1]) = (max, sum);
        }
    }
    for s in segments.clone() {
        let values = cache.values(base / SEGMENT + s, queries.kv_head);
        let next = cache.values(base / SEGMENT + (s + 1).min(segments.end - 1), queries.kv_head);
        let values = [values, next];
        for first in (0..rows).step_by(step) {
            let n = step.min(rows - first);
            // Positions that all rows of the strip see; before and after them each row goes alone.
            let (low, high) = (within(first), within(first + n - 1));
            let shared = high.start.min(low.end)..low.end;
            for row in first..first + n {
                let own = cut(within(row).start..shared.start.min(within(row).end), s);
                let out = &mut out[row * partial..];
                mix_all::<L, E, 1>(values, vectors, own, s * SEGMENT, &scores[row..row + 1], out);
            }
            let both = cut(shared.clone(), s);
            let strip = &mut out[first * partial..];
            let weights = &scores[first..first + n];
            with_rows!(n, R => {
                mix_all::<L, E, R>(values, vectors, both, s * SEGMENT, weights, strip)
            });
            for row in first..first + n {
                let own = cut(shared.end.max(within(row).start)..within(row).end, s);
                let out = &mut out[row * partial..];
                mix_all::<L, E, 1>(values, vectors, own, s * SEGMENT, &scores[row..row + 1], out);
            }
        }
    }
}

/// The part of `positions` in segment `s` of their split, counted from its start.
#[inline(always)]
fn cut(positions: Range<usize>, s: usize) -> Range<usize> {
    let (from, to) = (s * SEGMENT, (s + 1) * SEGMENT);
    positions.start.clamp(from, to) - from..positions.end.clamp(from, to) - from
}

/// Scores of `R` rows against some tiles of a segment, whose first position is the row's score `at`. At depth the
/// cache is read from memory: what comes `next` is asked for, because segments do not follow one another there.
#[inline(always)]
fn score_tiles<L: Lanes, E: Sixteen, const R: usize>(
    packed: &[f32],
    [keys, next]: [&[E]; 2],
    scale: f32,
    tiles: Range<usize>,
    at: usize,
    scores: &mut [[f32; SPLIT]],
) {
    let dim = keys.len() / TILES;
    let mut first = tiles.start;
    while first < tiles.end {
        let left = tiles.end - first;
        let (keys, at) = ([&keys[first * dim..], &next[first * dim..]], at + first * WIDTH);
        if L::LARGE_TILES && left >= 4 {
            score::<L, E, R, 4>(packed, keys, scale, at, scores);
            first += 4;
        } else if left >= 2 {
            score::<L, E, R, 2>(packed, keys, scale, at, scores);
            first += 2;
        } else {
            score::<L, E, R, 1>(packed, keys, scale, at, scores);
            first += 1;
        }
    }
}

/// `scale * (q · k)` of `R` rows and `T` tiles: one chain over the head's width each.
#[inline(always)]
fn score<L: Lanes, E: Sixteen, const R: usize, const T: usize>(
    packed: &[f32],
    [keys, next]: [&[E]; 2],
    scale: f32,
    at: usize,
    scores: &mut [[f32; SPLIT]],
) {
    let q = packed.as_chunks::<R>().0;
    let dim = q.len();
    let tiles: [&[E]; T] = from_fn(|t| &keys[t * dim..(t + 1) * dim]);
    let after: [&[E]; T] = from_fn(|t| &next[t * dim..(t + 1) * dim]);
    let mut acc = [[L::splat(0.0); T]; R];
    for d in 0..dim {
        let mut k = [L::splat(0.0); T];
        for t in 0..T {
            k[t] = tiles[t][d].load::<L>();
            L::prefetch_at(&after[t][d]);
        }
        for r in 0..R {
            let q = L::splat(q[d][r]);
            for t in 0..T {
                acc[r][t] = q.fma(k[t], acc[r][t]);
            }
        }
    }
    let scale = L::splat(scale);
    for r in 0..R {
        let scores = &mut scores[r].as_chunks_mut().0[at / WIDTH..at / WIDTH + T];
        for t in 0..T {
            acc[r][t].mul(scale).store(&mut scores[t]);
        }
    }
}

/// Continues the outputs of `R` rows, `[R, partial]`, by `positions` of a segment.
#[inline(always)]
fn mix_all<L: Lanes, E: Sixteen, const R: usize>(
    [values, next]: [&[E]; 2],
    vectors: usize,
    positions: Range<usize>,
    at: usize,
    weights: &[[f32; SPLIT]],
    out: &mut [Vector],
) {
    if positions.is_empty() {
        return;
    }
    let mut first = 0;
    while first < vectors {
        let (left, positions) = (vectors - first, positions.clone());
        if L::LARGE_TILES && left >= 4 {
            mix::<L, E, R, 4>([values, next], vectors, first, positions, at, weights, out);
            first += 4;
        } else if left >= 2 {
            mix::<L, E, R, 2>([values, next], vectors, first, positions, at, weights, out);
            first += 2;
        } else {
            mix::<L, E, R, 1>([values, next], vectors, first, positions, at, weights, out);
            first += 1;
        }
    }
}

/// Vectors `first..first + N` of [`mix_all`]: one chain over positions each.
#[inline(always)]
fn mix<L: Lanes, E: Sixteen, const R: usize, const N: usize>(
    [values, next]: [&[E]; 2],
    vectors: usize,
    first: usize,
    positions: Range<usize>,
    at: usize,
    weights: &[[f32; SPLIT]],
    out: &mut [Vector],
) {
    let partial = vectors + 1;
    let n = positions.len();
    let weights: [&[f32]; R] = from_fn(|r| &weights[r][at + positions.start..][..n]);
    let mut acc = [[L::splat(0.0); N]; R];
    for r in 0..R {
        for i in 0..N {
            acc[r][i] = L::load(&out[r * partial + first + i]);
        }
    }
    let values = &values[positions.start * vectors + first..];
    let next = &next[positions.start * vectors + first..];
    for j in 0..n {
        let (row, after) = (&values[j * vectors..][..N], &next[j * vectors..][..N]);
        let mut v = [L::splat(0.0); N];
        for i in 0..N {
            v[i] = row[i].load::<L>();
            L::prefetch_at(&after[i]);
        }
        for r in 0..R {
            let weight = L::splat(weights[r][j]);
            for i in 0..N {
                acc[r][i] = weight.fma(v[i], acc[r][i]);
            }
        }
    }
    for r in 0..R {
        for i in 0..N {
            acc[r][i].store(&mut out[r * partial + first + i]);
        }
    }
}
