//! Rows of matrices in tasks: every thread gets consecutive rows that cost the same, in tasks that are long.

use super::lanes::WIDTH;
use super::matrix::Matrix;
use std::ops::Range;

/// Bytes of weights, times tokens, that a task should hold. A token reads weights at the speed of memory only in long
/// streams: tasks of an eighth of this cost an eighth of that speed.
const TASK_COST: usize = 1 << 18;

/// Pieces of the rows of some matrices, in order.
pub(super) struct Pieces {
    /// Which matrix, which rows; they start at multiples of [`WIDTH`].
    pub all: Vec<(usize, Range<usize>)>,
    /// The first piece of every thread, and behind them the number of pieces.
    pub first: Vec<usize>,
}

impl Pieces {
    /// `times` is how often a row is multiplied.
    pub(super) fn new(matrices: &[&Matrix], times: usize, threads: usize) -> Pieces {
        let sizes = matrices.iter().map(|m| (m.n_rows(), m.row_cost().max(1) * times));
        Pieces::of(&sizes.collect::<Vec<_>>(), threads)
    }

    /// Of matrices of so many rows, each of which costs so much.
    fn of(sizes: &[(usize, usize)], threads: usize) -> Pieces {
        let total: usize = sizes.iter().map(|(rows, cost)| rows * cost).sum();
        let (mut all, mut first) = (Vec::new(), Vec::with_capacity(threads + 1));
        // The first row of the matrix at hand that no piece has, and what all rows before it cost.
        let (mut matrix, mut row, mut before) = (0, 0, 0);
        for thread in 1..=threads {
            first.push(all.len());
            let end = total / threads * thread;
            while let Some(&(rows, cost)) = sizes.get(matrix) {
                let share = match thread == threads {
                    true => rows - row,
                    // To the nearest multiple: whoever gets less of one matrix gets more of the next.
                    false => ((end.saturating_sub(before) + cost * WIDTH / 2) / cost / WIDTH * WIDTH)
                        .min(rows - row),
                };
                let tiles = share.div_ceil(WIDTH);
                let n = (share * cost / TASK_COST).clamp(1, tiles.max(1));
                let start = |i: usize| row + i * tiles / n * WIDTH;
                all.extend((0..n).map(|i| (matrix, start(i)..start(i + 1).min(row + share))));
                if share == 0 {
                    all.pop();
                }
                before += share * cost;
                row += share;
                if row < rows {
                    break;
                }
                (matrix, row) = (matrix + 1, 0);
            }
        }
        first.push(all.len());
        Pieces { all, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of every matrix and their cost, threads.
    const CASES: [(&[(usize, usize)], usize); 8] = [
        (&[(1024, 576), (256, 576), (256, 840)], 2),
        (&[(32000, 840)], 2),
        (&[(2816, 152_064), (2816, 152_064)], 3),
        (&[(37, 10), (5, 1), (16, 10_000_000)], 4),
        (&[(16, 1)], 8),
        (&[(0, 7), (40, 7)], 2),
        (&[], 2),
        (&[(1000, 1 << 20)], 1),
    ];

    #[test]
    fn every_row_is_in_one_piece_in_order() {
        for (sizes, threads) in CASES {
            let pieces = Pieces::of(sizes, threads);
            let expected: Vec<(usize, usize)> =
                sizes.iter().enumerate().flat_map(|(m, (rows, _))| (0..*rows).map(move |r| (m, r))).collect();
            let found: Vec<(usize, usize)> =
                pieces.all.iter().flat_map(|(m, rows)| rows.clone().map(|r| (*m, r))).collect();
            assert_eq!(found, expected, "{sizes:?} {threads}");
            assert!(pieces.all.iter().all(|(_, rows)| rows.start % WIDTH == 0 && !rows.is_empty()));
            assert_eq!(pieces.first.len(), threads + 1);
            assert!(pieces.first.is_sorted() && pieces.first[threads] == pieces.all.len());
        }
    }

    #[test]
    fn shares_cost_the_same_but_for_a_tile_and_tasks_are_long() {
        for (sizes, threads) in CASES {
            let pieces = Pieces::of(sizes, threads);
            let cost = |(m, rows): &(usize, Range<usize>)| rows.len() * sizes[*m].1;
            let total: usize = pieces.all.iter().map(cost).sum();
            let largest = sizes.iter().map(|(_, cost)| cost * WIDTH).max().unwrap_or(0);
            for share in pieces.first.windows(2) {
                let share: usize = pieces.all[share[0]..share[1]].iter().map(cost).sum();
                assert!(
                    share.abs_diff(total / threads) <= largest + threads,
                    "{sizes:?} {threads}: {share} of {total}"
                );
            }
            let tile = |p: &(usize, Range<usize>)| sizes[p.0].1 * WIDTH;
            let short = |p: &&(usize, Range<usize>)| cost(p) + tile(p) < TASK_COST;
            // What is short is the only piece of a thread in its matrix.
            assert!(pieces.all.iter().filter(short).count() < sizes.len() + threads, "{sizes:?} {threads}");
            assert!(pieces.all.iter().all(|p| cost(p) < 2 * TASK_COST + tile(p)), "{sizes:?}");
        }
    }
}
