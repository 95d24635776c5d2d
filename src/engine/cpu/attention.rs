//! Causal attention by splits of the context: contract `contracts/kernels/attention.yaml`.
//!
//! A task computes some splits for the queries of some tokens that share a key head; what the splits leave is
//! combined in ascending order. So a result depends on the visible positions alone, not on who computed what.

use super::Cache;
use super::cache::{Kept, Segments, Sixteen};
use super::elementwise::exp;
use super::isa::{Isa, Kernel};
use super::lanes::{Lanes, WIDTH};
use super::lines::Lines;
use super::pool::Pool;
use super::rows::{Rows, SharedRows};
use super::split::{self, Queries, one_split, pack};
use crate::engine::{Heads, Part};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Queries of a task: many share a load of keys and values, few leave tasks for all threads.
const ROWS: usize = 24;

/// Multiplications of attention below which one thread does it all: some 10 µs.
const SMALL: usize = 128 << 10;

/// Tasks per thread from which on no block is divided.
const TASKS: usize = 8;

type Vector = [f32; WIDTH];

/// Attention of the rows of `parts` over their caches, into their rows of `out`.
pub(super) fn attend(
    (isa, pool): (Isa, &Pool),
    (heads, window): (&Heads, Option<usize>),
    q: &Rows,
    parts: &[Part<'_, Cache>],
    out: &mut Rows,
) {
    out.set_n(q.n());
    let out = out.shared();
    let blocks = blocks(heads, window, parts);
    let threads = match blocks.iter().map(Block::cost).sum::<usize>() < SMALL {
        true => 1,
        false => pool.threads(),
    };
    let few = threads > 1 && blocks.len() < TASKS * threads;
    let steps = |block: &Block| match (few, block.queries.splits().len()) {
        (true, splits) => (splits * blocks.len() / (TASKS * threads)).clamp(1, splits),
        (false, splits) => splits,
    };
    // What is left of the splits of divided blocks, [splits, rows, partial] each.
    let divided = |block: &&Block| steps(block) < block.queries.splits().len();
    let mut left = Lines::of([0.0; WIDTH], blocks.iter().filter(divided).map(Block::partials).sum());
    let mut tasks = Vec::with_capacity(blocks.len());
    let mut rest = &mut *left;
    for block in &blocks {
        let (splits, step) = (block.queries.splits(), steps(block));
        for first in splits.clone().step_by(step) {
            let splits = first..(first + step).min(splits.end);
            let len = if divided(&block) {
                splits.len() * block.queries.rows() * block.queries.partial()
            } else {
                0
            };
            let (own, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            tasks.push(Task { block, splits, left: Mutex::new(own) });
        }
    }
    let work = |task: usize| {
        // The last tokens see most: they come first.
        let Task { block, splits, left } = &tasks[tasks.len() - 1 - task];
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut own = std::mem::take(&mut scratch.left);
            let whole = left.is_empty();
            if whole {
                own.resize(own.len().max(block.partials()), [0.0; WIDTH]);
            }
            let left = if whole { &mut own[..block.partials()] } else { &mut **left };
            block.compute(isa, q, splits.clone(), scratch, left);
            if whole {
                // SAFETY: every block has its own rows and heads, hence its own columns, and one task here.
                unsafe { block.combine(isa, left, out) };
            }
            scratch.left = own;
        });
    };
    match threads {
        1 => (0..tasks.len()).for_each(work),
        _ => pool.run(tasks.len(), &work),
    }
    drop(tasks);
    let mut rest = &mut *left;
    for block in blocks.iter().filter(divided) {
        let (own, after) = rest.split_at_mut(block.partials());
        rest = after;
        // SAFETY: no task is left.
        unsafe { block.combine(isa, own, out) };
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    packed: Vec<f32>,    // queries, by strips
    left: Lines<Vector>, // [splits, rows, partial]
    split: split::Scratch,
}

/// Splits of a block that one thread computes.
struct Task<'a> {
    block: &'a Block<'a>,
    splits: Range<usize>,
    left: Mutex<&'a mut [Vector]>, // what they leave, [splits, rows, partial]; empty where they are all of the block
}

/// Some tokens of one sequence and the query heads of one key head.
struct Block<'a> {
    queries: Queries<'a>,
    cache: &'a Cache,
    row: usize, // of the pass, the first token's
}

/// All blocks of all parts, in order of their rows.
fn blocks<'a>(heads: &'a Heads, window: Option<usize>, parts: &'a [Part<'_, Cache>]) -> Vec<Block<'a>> {
    let tokens = (ROWS / (heads.n_heads / heads.n_kv_heads)).max(1);
    let mut blocks = Vec::new();
    for part in parts {
        for row in part.rows.clone().step_by(tokens) {
            let n_tokens = tokens.min(part.rows.end - row);
            let start = part.start + row - part.rows.start;
            blocks.extend((0..heads.n_kv_heads).map(|kv_head| Block {
                queries: Queries { heads, window, kv_head, start, n_tokens },
                cache: &*part.cache,
                row,
            }));
        }
    }
    blocks
}

impl Block<'_> {
    /// Vectors that all splits leave.
    fn partials(&self) -> usize {
        self.queries.splits().len() * self.queries.rows() * self.queries.partial()
    }

    /// Multiplications, about.
    fn cost(&self) -> usize {
        let last = self.queries.seen(self.queries.rows() - 1);
        self.queries.rows() * last.len() * 2 * self.queries.heads.head_dim
    }

    /// The query head of `row`, and its columns.
    fn columns(&self, row: usize) -> Range<usize> {
        let (dim, group) = (self.queries.heads.head_dim, self.queries.group());
        let head = self.queries.kv_head * group + row % group;
        head * dim..(head + 1) * dim
    }

    /// What `splits` leave, `[splits, rows, partial]`.
    fn compute(&self, isa: Isa, q: &Rows, splits: Range<usize>, scratch: &mut Scratch, left: &mut [Vector]) {
        let group = self.queries.group();
        let rows = (0..self.queries.rows()).map(|row| &q.values(self.row + row / group)[self.columns(row)]);
        let rows: Vec<&[f32]> = rows.collect();
        match &self.cache.0 {
            Kept::Single(cache) => {
                isa.run(Splits { queries: &self.queries, rows: &rows, cache, splits, scratch, left });
            }
            Kept::Half(cache) => {
                isa.run(Splits { queries: &self.queries, rows: &rows, cache, splits, scratch, left });
            }
        }
    }

    /// Combines what all splits left into the output.
    ///
    /// # Safety
    /// Nobody else may use the columns of this block at the same time.
    unsafe fn combine(&self, isa: Isa, left: &mut [Vector], out: SharedRows<'_>) {
        for row in 0..self.queries.rows() {
            let columns = self.columns(row);
            // SAFETY: the caller owns these columns.
            let out = unsafe { out.slice(self.row + row / self.queries.group(), columns.start, columns.end) };
            isa.run(Combine { queries: &self.queries, row, left: &mut *left, out });
        }
    }
}

struct Splits<'a, E> {
    queries: &'a Queries<'a>,
    rows: &'a [&'a [f32]],
    cache: &'a Segments<E>,
    splits: Range<usize>,
    scratch: &'a mut Scratch,
    left: &'a mut [Vector],
}

impl<E: Sixteen> Kernel for Splits<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Scratch { packed, split: scratch, .. } = self.scratch;
        pack::<L>(self.queries, self.rows, packed);
        let each = self.queries.rows() * self.queries.partial();
        for (split, left) in self.splits.zip(self.left.chunks_exact_mut(each)) {
            one_split::<L, E>(self.queries, packed, self.cache, split, scratch, left);
        }
    }
}

/// `M` = the largest maximum; `w[s] = exp(m[s] - M)`; the output is `sum_s w[s] o[s] / sum_s w[s] l[s]`.
struct Combine<'a, 'b> {
    queries: &'a Queries<'a>,
    row: usize,
    left: &'b mut [Vector],
    out: &'b mut [f32],
}

impl Kernel for Combine<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Combine { queries, row, left, out } = self;
        let (rows, partial, all) = (queries.rows(), queries.partial(), queries.splits());
        let mine = queries.splits_of(row);
        let splits = mine.start - all.start..mine.end - all.start;
        let stats = partial - 1;
        let mut max = f32::NEG_INFINITY;
        for s in splits.clone() {
            let m = left[(s * rows + row) * partial + stats][0];
            max = if max > m { max } else { m };
        }
        let mut sum = 0f32;
        for s in splits.clone() {
            let last = &mut left[(s * rows + row) * partial + stats];
            let (m, l) = (last[0], last[1]);
            // The weight takes the place of the maximum, in every lane.
            exp(L::splat(m - max)).store(last);
            sum = last[0].mul_add(l, sum);
        }
        let scale = L::splat(1.0 / sum);
        for (i, out) in out.chunks_mut(WIDTH).enumerate() {
            let mut acc = L::splat(0.0);
            for s in splits.clone() {
                let at = (s * rows + row) * partial;
                acc = L::load(&left[at + stats]).fma(L::load(&left[at + i]), acc);
            }
            let mut lanes = [0.0; WIDTH];
            acc.mul(scale).store(&mut lanes);
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}
