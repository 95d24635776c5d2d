//! Activations of the `fast` numerics: blocks of 32 elements of a token as i8, with a scale: contract
//! `contracts/kernels/quantize_activations.yaml`.
//!
//! Four tokens stand side by side, so that a kernel reads four bytes of each from one line.

use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use super::pool::Pool;
use super::rows::Rows;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Activations `[n, width]` in blocks.
#[derive(Default)]
pub(super) struct Quantized {
    n: usize,
    per_row: usize,
    /// `[groups of four tokens, width / 32]`
    pub blocks: Vec<Block>,
    /// As `blocks`.
    pub halves: Vec<Halves>,
}

/// Elements that share a scale.
pub(super) const LEN: usize = 32;
/// Tokens side by side.
pub(super) const SIDE: usize = 4;

/// 32 elements of four tokens; what is told of a token stands at its index.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Block {
    /// Four i8 each, for every group of four elements.
    pub quads: [[i32; SIDE]; LEN / 4],
    /// What one step of an element is worth.
    pub scale: [f32; SIDE],
    /// Scale times the sum of the elements.
    pub sum: [f32; SIDE],
    /// -128 times the sum of the elements.
    pub offset: [i32; SIDE],
}

/// The same of the two halves of a block, but for the offset.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Halves {
    pub sum: [[f32; SIDE]; 2],
    /// -32 times the sum of the elements.
    pub offset: [[i32; SIDE]; 2],
}

impl Quantized {
    /// Tokens.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Elements of a token.
    pub(super) fn width(&self) -> usize {
        self.per_row * LEN
    }

    /// Takes in `x`, whose width is a multiple of [`LEN`].
    pub(super) fn fill(&mut self, isa: Isa, pool: &Pool, x: &Rows) {
        (self.n, self.per_row) = (x.n(), x.width() / LEN);
        let groups = x.n().div_ceil(SIDE);
        // They only grow: whoever reads them asks `n` and `width`, and filling up what is written next takes time.
        self.blocks.resize(self.blocks.len().max(groups * self.per_row), Block::default());
        self.halves.resize(self.halves.len().max(groups * self.per_row), Halves::default());
        let (blocks, halves) =
            (AtomicPtr::new(self.blocks.as_mut_ptr()), AtomicPtr::new(self.halves.as_mut_ptr()));
        let per_row = self.per_row;
        pool.run(groups, &|group| {
            // SAFETY: every task has its own group of `per_row` blocks, which lies inside the `groups` of them.
            let (blocks, halves) = unsafe {
                (
                    std::slice::from_raw_parts_mut(blocks.load(Relaxed).add(group * per_row), per_row),
                    std::slice::from_raw_parts_mut(halves.load(Relaxed).add(group * per_row), per_row),
                )
            };
            for t in group * SIDE..((group + 1) * SIDE).min(x.n()) {
                isa.run(QuantizeRow { x: x.row(t), side: t % SIDE, blocks, halves });
            }
        });
    }
}

/// Quantises one token's row.
struct QuantizeRow<'a> {
    /// `[width / 16]`
    x: &'a [[f32; WIDTH]],
    /// Index of the token among the four.
    side: usize,
    /// `[width / 32]`
    blocks: &'a mut [Block],
    /// `[width / 32]`
    halves: &'a mut [Halves],
}

/// Below it a block is zero: its inverse would not be finite.
const SMALLEST: f32 = 1e-30;

impl Kernel for QuantizeRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let groups = self.blocks.chunks_mut(TOGETHER).zip(self.halves.chunks_mut(TOGETHER));
        for ((blocks, halves), x) in groups.zip(self.x.chunks(2 * TOGETHER)) {
            quantize::<L>(x, self.side, blocks, halves);
        }
    }
}

/// Blocks of a row that are quantised together, because [`Lanes::sums`] adds up four vectors at the price of two.
const TOGETHER: usize = 4;

/// At most [`TOGETHER`] blocks from their elements.
#[inline(always)]
fn quantize<L: Lanes>(x: &[[f32; WIDTH]], side: usize, blocks: &mut [Block], halves: &mut [Halves]) {
    let zero = L::splat(0.0);
    let mut elements = [[zero; 2]; TOGETHER];
    let mut largest = [0.0; TOGETHER];
    let mut check = [zero; TOGETHER];
    for (b, x) in x.as_chunks::<2>().0.iter().enumerate() {
        let [low, high] = [L::load(&x[0]), L::load(&x[1])];
        largest[b] = low.max(zero.sub(low)).max(high.max(zero.sub(high))).largest();
        check[b] = high.fma(zero, low.mul(zero));
        elements[b] = [low, high];
    }
    // 0, or NaN where an element is not finite: such a block makes every product NaN.
    let check = L::sums(check);
    let mut sums = [[zero; TOGETHER]; 2];
    let mut scale = [0.0; TOGETHER];
    for b in 0..blocks.len() {
        let (step, inverse) = match largest[b] < SMALLEST {
            true => (0.0, 0.0),
            false => (largest[b] / 127.0, 127.0 / largest[b]),
        };
        scale[b] = step + check[b];
        for half in 0..2 {
            let integers = elements[b][half].mul(L::splat(inverse)).round();
            sums[half][b] = L::from_ints(integers);
            let bytes = L::low_bytes(integers);
            for (g, four) in bytes.as_chunks::<4>().0.iter().enumerate() {
                blocks[b].quads[4 * half + g][side] = i32::from_le_bytes(*four);
            }
        }
    }
    // Sums of at most 32 bytes are exact as floats.
    let sums = [L::sums(sums[0]), L::sums(sums[1])];
    for (b, (block, halves)) in blocks.iter_mut().zip(halves).enumerate() {
        // What is not finite has no integer.
        let sums = if scale[b].is_nan() { [0.0; 2] } else { [sums[0][b], sums[1][b]] };
        let total = sums[0] + sums[1];
        block.scale[side] = scale[b];
        block.sum[side] = scale[b] * total;
        block.offset[side] = -128 * total as i32;
        for (half, sum) in sums.into_iter().enumerate() {
            halves.sum[half][side] = scale[b] * sum;
            halves.offset[half][side] = -32 * sum as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ProductRule;
    use crate::engine::random_model::Random;
    use std::num::NonZeroUsize;

    fn quantized(isa: Isa, n: usize, width: usize, values: &[f32]) -> Quantized {
        let pool = Pool::new(NonZeroUsize::MIN).expect("no thread is started");
        let mut rows = Rows::new(width);
        rows.set_n(n);
        (0..n).for_each(|t| rows.values_mut(t).copy_from_slice(&values[t * width..(t + 1) * width]));
        let mut quantized = Quantized::default();
        quantized.fill(isa, &pool, &rows);
        quantized
    }

    /// Element `k` of a block for the token at `side`.
    fn element(block: &Block, side: usize, k: usize) -> i32 {
        i32::from(block.quads[k / 4][side].to_le_bytes()[k % 4] as i8)
    }

    #[test]
    fn elements_are_within_half_a_step_and_sums_are_theirs() {
        let (n, width) = (7, 96);
        let mut random = Random(3);
        let values: Vec<f32> = (0..n * width).map(|_| 5.0 * random.signed()).collect();
        for isa in Isa::available() {
            let q = quantized(isa, n, width, &values);
            assert_eq!((q.n(), q.width()), (n, width));
            let defined = ProductRule::Bytes.operand(width, &values).values;
            for (at, x) in values.as_chunks::<LEN>().0.iter().enumerate() {
                let (t, b) = (at / 3, at % 3);
                let (block, halves, side) = (&q.blocks[t / 4 * 3 + b], &q.halves[t / 4 * 3 + b], t % 4);
                let d = block.scale[side];
                for (k, x) in x.iter().enumerate() {
                    let error = (element(block, side, k) as f32 * d - x).abs();
                    assert!(error <= d * 0.50001, "token {t} block {b} element {k}: off by {error} of {d}");
                    let found = f64::from(element(block, side, k)) * f64::from(d);
                    assert_eq!(found, defined[at * LEN + k], "token {t} block {b} element {k}");
                }
                let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
                assert_eq!(d, largest / 127.0);
                assert_eq!((0..LEN).map(|k| element(block, side, k).abs()).max(), Some(127));
                let sum = |range: std::ops::Range<usize>| range.map(|k| element(block, side, k)).sum::<i32>();
                let (low, high) = (sum(0..16), sum(16..32));
                assert_eq!(
                    (block.offset[side], block.sum[side]),
                    (-128 * (low + high), d * (low + high) as f32)
                );
                let offsets = [halves.offset[0][side], halves.offset[1][side]];
                assert_eq!(offsets, [-32 * low, -32 * high]);
                assert_eq!([halves.sum[0][side], halves.sum[1][side]], [d * low as f32, d * high as f32]);
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        let mut values = vec![0.5f32; 5 * LEN];
        values[3] = f32::NAN;
        values[LEN + 31] = f32::INFINITY;
        values[2 * LEN..3 * LEN].fill(0.0);
        values[3 * LEN..4 * LEN].fill(1e-38);
        for isa in Isa::available() {
            let q = quantized(isa, 1, 5 * LEN, &values);
            let scales: Vec<f32> = q.blocks.iter().map(|b| b.scale[0]).collect();
            assert!(scales[0].is_nan() && scales[1].is_nan(), "{scales:?}");
            assert_eq!(scales[2..], [0.0, 0.0, 0.5 / 127.0]);
            assert!((0..LEN).all(|k| element(&q.blocks[3], 0, k) == 0 && element(&q.blocks[4], 0, k) == 127));
        }
    }
}
