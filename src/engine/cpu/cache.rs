//! Keys and values of one layer, kept for attention: contract `contracts/kernels/kv_cache.yaml`.
//!
//! Keys stand in tiles of 16 positions, so a score is one chain over the head's width and 16 positions are 16 lanes.
//! Values stand by position, so an output is one chain over positions. Segments are shared by the forks of a
//! sequence; one that is written while it is shared is copied first.

use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use super::pool::Pool;
use super::rows::Rows;
use crate::engine::{Angles, Heads, Part};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Positions that are allocated at once, and that stand in the first-level cache while they are read.
pub(super) const SEGMENT: usize = 64;
/// Tiles of keys in a segment.
pub(super) const TILES: usize = SEGMENT / WIDTH;

/// Vectors of queries, keys and values below which one thread rotates and stores them.
const SMALL: usize = 1 << 10;

/// Keys and values of one layer for positions `0..n`; grows by segments, which never move.
#[derive(Clone)]
pub struct Cache(pub(super) Kept);

/// By the element that numbers are kept in.
#[derive(Clone)]
pub(super) enum Kept {
    Single(Segments<Singles>),
    Half(Segments<Halves>),
}

#[derive(Clone)]
pub(super) struct Segments<E> {
    n_kv_heads: usize,
    head_dim: usize,
    all: Vec<Arc<Segment<E>>>,
}

#[derive(Clone)]
pub(super) struct Segment<E> {
    keys: Vec<E>,   // [n_kv_heads, TILES, head_dim] of 16 positions
    values: Vec<E>, // [n_kv_heads, SEGMENT, head_dim in vectors]
}

/// Sixteen numbers as they are kept.
pub(super) trait Sixteen: Copy + Send + Sync {
    const ZERO: Self;
    fn load<L: Lanes>(&self) -> L;
    /// Rounded to the nearest, ties to even.
    fn of<L: Lanes>(lanes: L) -> Self;
    /// Takes lane `from` of `other` as lane `to`.
    fn set(&mut self, to: usize, other: &Self, from: usize);
}

/// f32. Aligned, because a load across two cache lines takes twice the time.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Singles([f32; WIDTH]);

/// f16, little-endian.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(super) struct Halves([u8; 2 * WIDTH]);

impl Sixteen for Singles {
    const ZERO: Self = Singles([0.0; WIDTH]);

    #[inline(always)]
    fn load<L: Lanes>(&self) -> L {
        L::load(&self.0)
    }

    #[inline(always)]
    fn of<L: Lanes>(lanes: L) -> Self {
        let mut kept = Self::ZERO;
        lanes.store(&mut kept.0);
        kept
    }

    #[inline(always)]
    fn set(&mut self, to: usize, other: &Self, from: usize) {
        self.0[to] = other.0[from];
    }
}

impl Sixteen for Halves {
    const ZERO: Self = Halves([0; 2 * WIDTH]);

    #[inline(always)]
    fn load<L: Lanes>(&self) -> L {
        L::from_f16(&self.0)
    }

    #[inline(always)]
    fn of<L: Lanes>(lanes: L) -> Self {
        Halves(lanes.to_f16())
    }

    #[inline(always)]
    fn set(&mut self, to: usize, other: &Self, from: usize) {
        self.0[2 * to..2 * to + 2].copy_from_slice(&other.0[2 * from..2 * from + 2]);
    }
}

impl Cache {
    /// Keeps numbers unrounded.
    pub(in crate::engine) fn singles(heads: &Heads) -> Cache {
        Cache(Kept::Single(Segments::new(heads)))
    }

    /// Keeps numbers as IEEE halves.
    pub(in crate::engine) fn halves(heads: &Heads) -> Cache {
        Cache(Kept::Half(Segments::new(heads)))
    }
}

impl<E: Sixteen> Segments<E> {
    fn new(heads: &Heads) -> Self {
        Segments { n_kv_heads: heads.n_kv_heads, head_dim: heads.head_dim, all: Vec::new() }
    }

    /// Vectors of a value.
    #[inline(always)]
    pub(super) fn vectors(&self) -> usize {
        self.head_dim.div_ceil(WIDTH)
    }

    /// The keys of one head in segment `i`, `[TILES, head_dim]`.
    #[inline(always)]
    pub(super) fn keys(&self, i: usize, head: usize) -> &[E] {
        &self.all[i].keys[head * TILES * self.head_dim..][..TILES * self.head_dim]
    }

    /// The values of one head in segment `i`, `[SEGMENT, vectors]`.
    #[inline(always)]
    pub(super) fn values(&self, i: usize, head: usize) -> &[E] {
        let len = SEGMENT * self.vectors();
        &self.all[i].values[head * len..][..len]
    }

    /// Makes place for `positions` and hands out the segments that hold them, each with its positions.
    fn writable(&mut self, positions: Range<usize>) -> impl Iterator<Item = (Range<usize>, &mut Segment<E>)> {
        let (heads, dim, vectors) = (self.n_kv_heads, self.head_dim, self.vectors());
        while self.all.len() * SEGMENT < positions.end {
            self.all.push(Arc::new(Segment {
                keys: vec![E::ZERO; heads * TILES * dim],
                values: vec![E::ZERO; heads * SEGMENT * vectors],
            }));
        }
        let first = positions.start / SEGMENT;
        self.all[first..positions.end.div_ceil(SEGMENT)].iter_mut().enumerate().map(move |(i, segment)| {
            let from = (first + i) * SEGMENT;
            let held = positions.start.max(from)..positions.end.min(from + SEGMENT);
            (held, Arc::make_mut(segment))
        })
    }
}

/// Rotates and stores the rows of every part, segment by segment.
pub(super) fn rope_store(
    (isa, pool): (Isa, &Pool),
    heads: &Heads,
    angles: Option<&Angles>,
    (q, k, v): (&mut Rows, &mut Rows, &Rows),
    parts: &mut [Part<'_, Cache>],
) {
    let (n, wide, narrow) = (q.n(), q.vectors(), k.vectors());
    let mut rest = (q.all_mut(), k.all_mut(), v.all());
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        let mut row = part.rows.start;
        let positions = part.start..part.start + part.rows.len();
        let targets: &mut dyn Iterator<Item = (Range<usize>, Target<'_>)> = match &mut part.cache.0 {
            Kept::Single(all) => &mut all.writable(positions).map(|(held, s)| (held, Target::Single(s))),
            Kept::Half(all) => &mut all.writable(positions).map(|(held, s)| (held, Target::Half(s))),
        };
        for (positions, segment) in targets {
            let n = positions.len();
            let (q, k, v);
            (q, rest.0) = rest.0.split_at_mut(n * wide);
            (k, rest.1) = rest.1.split_at_mut(n * narrow);
            (v, rest.2) = rest.2.split_at(n * narrow);
            pieces.push(Mutex::new(Some(Piece { heads, angles, row, q, k, v, positions, segment })));
            row += n;
        }
    }
    let work = |i: usize| {
        // Every piece is taken once.
        let piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner).take();
        piece.into_iter().for_each(|piece| piece.store(isa));
    };
    match n * (wide + 2 * narrow) < SMALL {
        true => (0..pieces.len()).for_each(work),
        false => pool.run(pieces.len(), &work),
    }
}

/// Consecutive tokens of one sequence that are rotated and stored in one segment.
struct Piece<'a> {
    heads: &'a Heads,
    /// Of the rows of the pass, of which `row` is the first here.
    angles: Option<&'a Angles>,
    row: usize,
    /// `[n, n_heads * head_dim in vectors]`.
    q: &'a mut [[f32; WIDTH]],
    /// `[n, n_kv_heads * head_dim in vectors]`.
    k: &'a mut [[f32; WIDTH]],
    /// `[n, n_kv_heads * head_dim in vectors]`.
    v: &'a [[f32; WIDTH]],
    /// Where they stand.
    positions: Range<usize>,
    segment: Target<'a>,
}

/// The segment that a [`Piece`] goes to.
enum Target<'a> {
    Single(&'a mut Segment<Singles>),
    Half(&'a mut Segment<Halves>),
}

impl Piece<'_> {
    /// Rotates the queries and keys of this piece and stores its keys and values.
    fn store(self, isa: Isa) {
        isa.run(self);
    }
}

impl Kernel for Piece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Piece { heads, angles, row, q, k, v, positions, segment } = self;
        if let Some(angles) = angles {
            rotate(heads.n_heads, heads.head_dim, angles, row, positions.len(), q);
            rotate(heads.n_kv_heads, heads.head_dim, angles, row, positions.len(), k);
        }
        match segment {
            Target::Single(segment) => segment.store::<L>(heads, positions, k, v),
            Target::Half(segment) => segment.store::<L>(heads, positions, k, v),
        }
    }
}

/// Rotates every head of `n` rows.
#[inline(always)]
fn rotate(heads: usize, dim: usize, angles: &Angles, row: usize, n: usize, x: &mut [[f32; WIDTH]]) {
    for (t, x) in x.chunks_exact_mut((heads * dim).div_ceil(WIDTH)).take(n).enumerate() {
        for head in x.as_flattened_mut()[..heads * dim].chunks_exact_mut(dim) {
            angles.rotate(row + t, head);
        }
    }
}

impl<E: Sixteen> Segment<E> {
    #[inline(always)]
    fn store<L: Lanes>(
        &mut self,
        heads: &Heads,
        positions: Range<usize>,
        k: &[[f32; WIDTH]],
        v: &[[f32; WIDTH]],
    ) {
        let (dim, vectors) = (heads.head_dim, heads.head_dim.div_ceil(WIDTH));
        let stride = (heads.n_kv_heads * dim).div_ceil(WIDTH);
        for ((k, v), position) in k.chunks_exact(stride).zip(v.chunks_exact(stride)).zip(positions) {
            let at = position % SEGMENT;
            let (k, v) = (&k.as_flattened()[..heads.n_kv_heads * dim], v.as_flattened());
            for (h, k) in k.chunks_exact(dim).enumerate() {
                let tile = &mut self.keys[(h * TILES + at / WIDTH) * dim..][..dim];
                for (tile, k) in tile.chunks_mut(WIDTH).zip(k.chunks(WIDTH)) {
                    let kept = E::of(L::load(&padded(k)));
                    for (d, lanes) in tile.iter_mut().enumerate() {
                        lanes.set(at % WIDTH, &kept, d);
                    }
                }
                let values = &mut self.values[(h * SEGMENT + at) * vectors..][..vectors];
                for (kept, v) in values.iter_mut().zip(v[h * dim..(h + 1) * dim].chunks(WIDTH)) {
                    *kept = E::of(L::load(&padded(v)));
                }
            }
        }
    }
}

/// `values`, at most 16, followed by zeros.
#[inline(always)]
fn padded(values: &[f32]) -> [f32; WIDTH] {
    let mut vector = [0.0; WIDTH];
    vector[..values.len()].copy_from_slice(values);
    vector
}
