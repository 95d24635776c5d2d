//! `y[t, r] = sum_k w[r, k] x[t, k]` in `fast` numerics: contract `contracts/kernels/matmul_fast.yaml`. A lane is a row;
//! products of integers are exact, and every step of 16 or 32 elements adds one f32 to its row, in ascending order.
//!
//! One to four tokens multiply weights as they are unpacked in registers; more share a panel of unpacked rows.

use super::isa::Kernel;
use super::lanes::{Lanes, WIDTH, ask_for};
use super::lines::Lines;
use super::quantized::{self, Halves, Quantized, SIDE};
use super::sink::Sink;
use super::tiles::{self, StepKind, Tile, TileEncoding};
use std::marker::PhantomData;

/// The rows of a tile times every token.
pub(super) struct TileProduct<'a> {
    pub tile: Tile<'a>,
    /// What is likely to be unpacked after it.
    pub next: &'a [u8],
    /// Blocks per row.
    pub columns: usize,
    /// Of the tile's rows.
    pub first_row: usize,
    pub x: &'a Quantized,
    pub panel: &'a mut Panel,
    pub sink: &'a Sink<'a>,
}

/// Sixteen rows, unpacked.
#[derive(Default)]
pub(super) struct Panel {
    weights: Lines<[u8; 64]>,    // [steps, groups]
    scales: Lines<[f32; WIDTH]>, // [steps]
    minima: Lines<[f32; WIDTH]>, // [steps] or none
}

/// Repeats what stands for a step once for each of them, at most sixteen, so that its number is a constant: shifts by
/// it are one instruction, and nothing branches. A macro, because a closure would be compiled without the instruction
/// set of the kernel.
macro_rules! each_step {
    ($steps:expr, $s:ident => $body:block) => {
        each_step!($steps, $s, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($steps:expr, $s:ident, $body:block, $($step:literal)*) => {
        $(if $step < $steps {
            let $s: usize = $step;
            $body
        })*
    };
}

#[expect(clippy::needless_range_loop, reason = "constant counts over registers: an index says it plainly")]
impl TileProduct<'_> {
    #[inline(always)]
    fn run<L: Lanes, E: TileEncoding>(mut self) {
        if self.x.n() == 1 {
            return self.direct::<L, E, 1>();
        }
        if L::LARGE_TILES && self.x.n() <= SIDE {
            return self.direct::<L, E, SIDE>();
        }
        self.unpack::<L, E>();
        let steps = self.columns * E::STEPS;
        let groups = self.x.n().div_ceil(SIDE);
        let mut group = 0;
        let share = self.next.len().div_ceil(groups.div_ceil(3)).max(1);
        while group < groups {
            // The next tile is asked for while this one is multiplied, since a tile is too short a stream for the
            // processor to foresee.
            let next = self.next.chunks(share).nth(group / 3).unwrap_or_default();
            ask_for::<L>(next);
            if L::LARGE_TILES {
                match groups - group {
                    1 => self.strip::<L, E::Step, 1, SIDE>(steps, E::OFFSET, &mut group),
                    2 => self.strip::<L, E::Step, 2, SIDE>(steps, E::OFFSET, &mut group),
                    _ => self.strip::<L, E::Step, 3, SIDE>(steps, E::OFFSET, &mut group),
                }
            } else {
                self.strip::<L, E::Step, 1, 2>(steps, E::OFFSET, &mut group);
            }
        }
    }

    /// At most `T` tokens; what is computed beyond them is dropped.
    #[inline(always)]
    fn direct<L: Lanes, E: TileEncoding, const T: usize>(&mut self) {
        let mut acc = [[L::splat(0.0); T]];
        for column in 0..self.columns {
            let block = self.tile.block::<E>(column);
            block.prefetch_high::<L>();
            each_step!(E::STEPS, s => {
                let at = (column * E::STEPS + s) * E::Step::GROUPS / 8;
                let x = [Activations::of(self.x, at, 0)];
                // Whole blocks have an even number of half steps.
                let weights = Packed::<E>(&block, s, PhantomData);
                step::<L, E::Step, _, 1, T>(weights, E::OFFSET, x, s % 2, &mut acc);
            });
        }
        for t in 0..T.min(self.x.n()) {
            self.keep(t, acc[0][t]);
        }
    }

    #[inline(always)]
    fn unpack<L: Lanes, E: TileEncoding>(&mut self) {
        let Panel { weights, scales, minima } = &mut *self.panel;
        let steps = self.columns * E::STEPS;
        weights.resize(steps * E::Step::GROUPS, [0; 64]);
        scales.resize(steps, [0.0; WIDTH]);
        minima.resize(if E::Step::MIN { steps } else { 0 }, [0.0; WIDTH]);
        for column in 0..self.columns {
            let block = self.tile.block::<E>(column);
            block.prefetch_high::<L>();
            each_step!(E::STEPS, s => {
                let at = column * E::STEPS + s;
                for (g, out) in weights[at * E::Step::GROUPS..][..E::Step::GROUPS].iter_mut().enumerate() {
                    L::store_bytes(E::group::<L>(&block, s, g), out);
                }
                E::scale::<L>(&block, s).store(&mut scales[at]);
                if E::Step::MIN {
                    E::min::<L>(&block, s).store(&mut minima[at]);
                }
            });
        }
    }

    /// `N` groups of four tokens, `T` of each at a time.
    #[inline(always)]
    fn strip<L: Lanes, K: StepKind, const N: usize, const T: usize>(
        &mut self,
        steps: usize,
        offset: i32,
        group: &mut usize,
    ) {
        let per_row = steps * K::GROUPS / 8;
        for first in (0..SIDE).step_by(T) {
            let mut acc = [[L::splat(0.0); T]; N];
            for s in 0..steps {
                let mut x = [Activations::of(self.x, 0, first); N];
                for n in 0..N {
                    x[n] = Activations::of(self.x, (*group + n) * per_row + s * K::GROUPS / 8, first);
                }
                let weights = Unpacked {
                    weights: &self.panel.weights[s * K::GROUPS..][..K::GROUPS],
                    scale: &self.panel.scales[s],
                    min: if K::MIN { &self.panel.minima[s] } else { &[0.0; WIDTH] },
                };
                step::<L, K, _, N, T>(weights, offset, x, s % 2, &mut acc);
            }
            for n in 0..N {
                for t in 0..T {
                    let token = (*group + n) * SIDE + first + t;
                    if token < self.x.n() {
                        self.keep(token, acc[n][t]);
                    }
                }
            }
        }
        *group += N;
    }

    #[inline(always)]
    fn keep<L: Lanes>(&mut self, token: usize, acc: L) {
        let mut rows = [0.0; WIDTH];
        acc.store(&mut rows);
        self.sink.put_rows(token, self.first_row, &rows);
    }
}

/// The weights of one step.
trait Weights {
    fn group<L: Lanes>(&self, g: usize) -> L::Bytes;
    fn scale<L: Lanes>(&self) -> L;
    fn min<L: Lanes>(&self) -> L;
}

struct Packed<'a, E>(&'a tiles::Block<'a>, usize, PhantomData<E>);

impl<E: TileEncoding> Weights for Packed<'_, E> {
    #[inline(always)]
    fn group<L: Lanes>(&self, g: usize) -> L::Bytes {
        E::group::<L>(self.0, self.1, g)
    }
    #[inline(always)]
    fn scale<L: Lanes>(&self) -> L {
        E::scale::<L>(self.0, self.1)
    }
    #[inline(always)]
    fn min<L: Lanes>(&self) -> L {
        E::min::<L>(self.0, self.1)
    }
}

struct Unpacked<'a> {
    weights: &'a [[u8; 64]],
    scale: &'a [f32; WIDTH],
    min: &'a [f32; WIDTH],
}

impl Weights for Unpacked<'_> {
    #[inline(always)]
    fn group<L: Lanes>(&self, g: usize) -> L::Bytes {
        L::bytes(&self.weights[g])
    }
    #[inline(always)]
    fn scale<L: Lanes>(&self) -> L {
        L::load(self.scale)
    }
    #[inline(always)]
    fn min<L: Lanes>(&self) -> L {
        L::load(self.min)
    }
}

/// A block of four tokens, of which those from `first` on are meant.
#[derive(Clone, Copy)]
struct Activations<'a> {
    block: &'a quantized::Block,
    halves: &'a Halves,
    first: usize,
}

impl<'a> Activations<'a> {
    #[inline(always)]
    fn of(x: &'a Quantized, at: usize, first: usize) -> Self {
        Activations { block: &x.blocks[at], halves: &x.halves[at], first }
    }
}

/// Adds one step to every accumulator: the definition of the arithmetic.
#[expect(clippy::needless_range_loop, reason = "constant counts over registers: an index says it plainly")]
#[inline(always)]
fn step<L: Lanes, K: StepKind, W: Weights, const N: usize, const T: usize>(
    weights: W,
    offset: i32,
    x: [Activations<'_>; N],
    half: usize,
    acc: &mut [[L; T]; N],
) {
    let whole = K::GROUPS == 8;
    let mut sums = [[L::splat_int(0); T]; N];
    if K::OFFSET && (L::RAISES || !K::WIDE) {
        for n in 0..N {
            for t in 0..T {
                let at = x[n].first + t;
                let sum = if whole { x[n].block.offset[at] } else { x[n].halves.offset[half][at] };
                sums[n][t] = L::splat_int(sum);
                if !K::WIDE && offset > 0 {
                    sums[n][t] = L::shift_ints(sums[n][t], offset);
                }
            }
        }
    }
    for g in 0..K::GROUPS {
        let w = weights.group::<L>(g);
        for n in 0..N {
            let quads = if whole { &x[n].block.quads[g] } else { &x[n].block.quads[4 * half + g] };
            for t in 0..T {
                let four = quads[x[n].first + t];
                sums[n][t] =
                    if K::WIDE { L::dot_wide(sums[n][t], w, four) } else { L::dot(sums[n][t], w, four) };
            }
        }
    }
    let scale = weights.scale::<L>();
    let min = weights.min::<L>();
    for n in 0..N {
        for t in 0..T {
            let at = x[n].first + t;
            let scale = scale.mul(L::splat(x[n].block.scale[at]));
            acc[n][t] = L::from_ints(sums[n][t]).fma(scale, acc[n][t]);
            if K::MIN {
                let sum = if whole { x[n].block.sum[at] } else { x[n].halves.sum[half][at] };
                acc[n][t] = min.fma(L::splat(sum), acc[n][t]);
            }
        }
    }
}

/// A product for weights in the encoding `E`.
pub(super) struct Run<'a, E>(pub TileProduct<'a>, pub PhantomData<E>);

impl<E: TileEncoding> Kernel for Run<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        self.0.run::<L, E>();
    }
}
