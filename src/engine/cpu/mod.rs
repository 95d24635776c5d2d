//! The fast backend in `exact` numerics: SIMD, threads, weights decoded where they are multiplied.
//!
//! Its results are the same bits on every instruction set, with every number of threads and however the tokens
//! are batched, because every output element has one order of operations, written down in `contracts/kernels/`.

mod attention;
pub(super) mod elementwise;
mod encodings;
mod isa;
mod lanes;
mod limits;
mod matmul;
mod peaks;
mod pool;
mod rows;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::{Activation, Angles, Backend, Heads, Linear, Norm, usable_cpus, visible};
use crate::models::Weight;
use crate::{Error, Kind, Result};
use elementwise::{Gelu, GeluMul, NormRow, SiluMul};
use lanes::WIDTH;
use matmul::Store;
use pool::Pool;
use rows::SharedRows;
use std::num::NonZeroUsize;
use std::ops::Range;

pub use attention::Cache;
pub use isa::{Isa, VARIABLE as ISA_VARIABLE};
pub use limits::{LimitMeter, Limits};
pub use matmul::Matrix;
pub use rows::Rows;

/// The name in the backend table.
pub const NAME: &str = "cpu";

/// Bytes of weights, times tokens, that a task should hold: some 10 µs of work, ten times the cost of a claim.
const TASK_COST: usize = 64 << 10;

/// Products of attention below which one thread does it all.
const SMALL_ATTENTION: usize = 32 << 10;

/// An instruction set and its threads.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
}

/// f32 values, padded with zeros to whole vectors.
pub struct Vector {
    len: usize,
    data: Vec<[f32; WIDTH]>,
}

impl Cpu {
    /// The best instruction set of this processor, or the one that [`ISA_VARIABLE`] names, on so many threads but
    /// no more than there are usable processors: more would only take turns.
    ///
    /// # Errors
    /// Those of [`Isa::detect`]; [`Kind::Environment`] where threads cannot be started.
    pub fn new(threads: usize) -> Result<Cpu> {
        Cpu::with(Isa::detect()?, threads.min(usable_cpus()))
    }

    /// A given instruction set on exactly so many threads.
    ///
    /// # Errors
    /// [`Kind::Environment`] where threads cannot be started, [`Kind::Usage`] for none.
    pub fn with(isa: Isa, threads: usize) -> Result<Cpu> {
        let threads = NonZeroUsize::new(threads).ok_or_else(|| {
            Error::new(Kind::Usage, "threads", "0 threads cannot compute").hint("use 1 or more")
        })?;
        let pool = Pool::new(threads).map_err(|e| {
            Error::new(Kind::Environment, "threads", format!("cannot start {threads} threads: {e}"))
                .hint("use fewer threads")
        })?;
        Ok(Cpu { isa, pool })
    }

    /// Splits the rows of `matrix` into tasks of about [`TASK_COST`], in multiples of `WIDTH` rows.
    fn rows_per_task(&self, matrix: &Matrix, tokens: usize) -> usize {
        let fair = matrix.n_rows().div_ceil(self.pool.threads());
        let wanted = TASK_COST / (matrix.row_cost().max(1) * tokens) + 1;
        wanted.min(fair).next_multiple_of(WIDTH)
    }

    /// Calls `work(i, rows)` for pieces of the rows of every matrix `i`.
    fn over_rows(&self, matrices: &[&Matrix], tokens: usize, work: &(dyn Fn(usize, Range<usize>) + Sync)) {
        let mut pieces = Vec::new();
        for (i, matrix) in matrices.iter().enumerate() {
            let step = self.rows_per_task(matrix, tokens);
            let starts = (0..matrix.n_rows()).step_by(step);
            pieces.extend(starts.map(|start| (i, start..(start + step).min(matrix.n_rows()))));
        }
        self.pool.run(pieces.len(), &|task| {
            let (i, rows) = &pieces[task];
            work(*i, rows.clone());
        });
    }
}

impl Vector {
    fn values(&self) -> &[f32] {
        &self.data.as_flattened()[..self.len]
    }
}

impl Linear<Cpu> {
    fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Vector::values)
    }
}

impl Backend for Cpu {
    type Buffer = Rows;
    type Matrix = Matrix;
    type Vector = Vector;
    type Cache = Cache;

    fn name(&self) -> &'static str {
        NAME
    }

    fn matrix(&self, weight: &Weight) -> Result<Matrix> {
        Matrix::new(weight)
    }

    fn vector(&self, values: Vec<f32>) -> Vector {
        let mut data = vec![[0.0; WIDTH]; values.len().div_ceil(WIDTH)];
        data.as_flattened_mut()[..values.len()].copy_from_slice(&values);
        Vector { len: values.len(), data }
    }

    fn buffer(&self, width: usize) -> Rows {
        Rows::new(width)
    }

    fn upload(&self, width: usize, values: &[f32]) -> Rows {
        let mut rows = Rows::new(width);
        rows.set_n(values.len() / width);
        values.chunks_exact(width).enumerate().for_each(|(t, row)| rows.values_mut(t).copy_from_slice(row));
        rows
    }

    fn download(&self, buffer: &Rows) -> Vec<f32> {
        (0..buffer.n()).flat_map(|t| buffer.values(t).iter().copied()).collect()
    }

    fn cache(&self, heads: &Heads) -> Cache {
        Cache::new(heads)
    }

    fn embed(&self, table: &Matrix, ids: &[u32], x: &mut Rows) -> Result<()> {
        x.set_n(ids.len());
        ids.iter().enumerate().try_for_each(|(t, &id)| table.read_row(id as usize, x.values_mut(t)))
    }

    fn scale(&self, factor: f32, x: &mut Rows) {
        for t in 0..x.n() {
            x.values_mut(t).iter_mut().for_each(|x| *x *= factor);
        }
    }

    fn add(&self, x: &Rows, residual: &mut Rows) {
        for t in 0..x.n() {
            residual.values_mut(t).iter_mut().zip(x.values(t)).for_each(|(r, x)| *r += x);
        }
    }

    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Rows) {
        let vectors = head_dim.div_ceil(WIDTH);
        let (mut head, mut normed) = (vec![[0.0; WIDTH]; vectors], vec![[0.0; WIDTH]; vectors]);
        for t in 0..x.n() {
            for values in x.values_mut(t).chunks_exact_mut(head_dim) {
                head.as_flattened_mut()[..head_dim].copy_from_slice(values);
                self.isa.run(NormRow {
                    rule: norm.rule,
                    width: head_dim,
                    weight: &norm.weight.data,
                    bias: norm.bias.as_ref().map(|b| b.data.as_slice()),
                    x: &head,
                    out: &mut normed,
                });
                values.copy_from_slice(&normed.as_flattened()[..head_dim]);
            }
        }
    }

    fn add_positions(&self, table: &Matrix, start: usize, x: &mut Rows) -> Result<()> {
        let mut position = vec![0.0; x.width()];
        for t in 0..x.n() {
            table.read_row(start + t, &mut position)?;
            x.values_mut(t).iter_mut().zip(&position).for_each(|(x, p)| *x += p);
        }
        Ok(())
    }

    fn norm(&self, norm: &Norm<Self>, x: &Rows, out: &mut Rows) {
        out.set_n(x.n());
        for t in 0..x.n() {
            self.isa.run(NormRow {
                rule: norm.rule,
                width: x.width(),
                weight: &norm.weight.data,
                bias: norm.bias.as_ref().map(|b| b.data.as_slice()),
                x: x.row(t),
                out: out.row_mut(t),
            });
        }
    }

    fn linear<const N: usize>(
        &self,
        weights: [&Linear<Self>; N],
        x: &Rows,
        outs: [&mut Rows; N],
    ) -> Result<()> {
        let outs = outs.map(|out| {
            out.set_n(x.n());
            out.shared()
        });
        self.over_rows(&weights.map(|w| &w.weight), x.n(), &|i, rows| {
            // SAFETY: the pieces of one matrix do not overlap, and every matrix has its own output.
            unsafe {
                matmul::multiply(
                    self.isa,
                    &weights[i].weight,
                    weights[i].bias(),
                    x,
                    rows,
                    (Store::Set, outs[i]),
                );
            }
        });
        Ok(())
    }

    fn linear_add(&self, linear: &Linear<Self>, x: &Rows, residual: &mut Rows) -> Result<()> {
        let out = residual.shared();
        self.over_rows(&[&linear.weight], x.n(), &|_, rows| {
            // SAFETY: the pieces do not overlap.
            unsafe { matmul::multiply(self.isa, &linear.weight, linear.bias(), x, rows, (Store::Add, out)) };
        });
        Ok(())
    }

    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        start: usize,
        (q, k, v): (&mut Rows, &mut Rows, &Rows),
        cache: &mut Cache,
    ) {
        for t in 0..q.n() {
            if let Some(angles) = angles {
                let both = [q.values_mut(t), k.values_mut(t)];
                for head in both.into_iter().flat_map(|row| row.chunks_exact_mut(heads.head_dim)) {
                    angles.rotate(t, head);
                }
            }
            cache.store(start + t, k.values(t), v.values(t));
        }
    }

    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Rows,
        cache: &Cache,
        start: usize,
        out: &mut Rows,
    ) {
        out.set_n(q.n());
        let shared = out.shared();
        let work = |task: usize| {
            let (t, head) = (task / heads.n_heads, task % heads.n_heads);
            // SAFETY: every task has its own token and head, hence its own columns.
            unsafe {
                attention::attend(self.isa, (heads, cache), q, (t, head), visible(window, start + t), shared);
            };
        };
        let tasks = q.n() * heads.n_heads;
        if tasks * heads.head_dim * (start + q.n()) < SMALL_ATTENTION {
            (0..tasks).for_each(work);
        } else {
            self.pool.run(tasks, &work);
        }
    }

    fn gated(
        &self,
        activation: Activation,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        x: &Rows,
        out: &mut Rows,
    ) -> Result<()> {
        out.set_n(x.n());
        let out = out.shared();
        self.over_rows(&[&gate.weight], 2 * x.n(), &|_, rows| {
            let width = rows.len();
            let mut up_values = vec![0.0; x.n() * width];
            let ups = SharedRows::shifted(&mut up_values, rows.clone());
            // SAFETY: the pieces do not overlap; `ups` belongs to this task alone.
            unsafe {
                matmul::multiply(self.isa, &gate.weight, gate.bias(), x, rows.clone(), (Store::Set, out));
                matmul::multiply(self.isa, &up.weight, up.bias(), x, rows.clone(), (Store::Set, ups));
            }
            for (t, up) in up_values.chunks_exact(width).enumerate() {
                // SAFETY: as above.
                let gate = unsafe { out.slice(t, rows.start, rows.end) };
                match activation {
                    Activation::Silu => self.isa.run(SiluMul { gate, up }),
                    Activation::GeluTanh => self.isa.run(GeluMul { gate, up }),
                }
            }
        });
        Ok(())
    }

    fn gelu(&self, up: &Linear<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        out.set_n(x.n());
        let out = out.shared();
        self.over_rows(&[&up.weight], x.n(), &|_, rows| {
            // SAFETY: the pieces do not overlap.
            unsafe { matmul::multiply(self.isa, &up.weight, up.bias(), x, rows.clone(), (Store::Set, out)) };
            for t in 0..x.n() {
                // SAFETY: as above.
                self.isa.run(Gelu(unsafe { out.slice(t, rows.start, rows.end) }));
            }
        });
        Ok(())
    }

    fn head(&self, norm: &Norm<Self>, head: &Matrix, x: &Rows, rows: Range<usize>) -> Result<Vec<f32>> {
        let mut chosen = Rows::new(x.width());
        chosen.set_n(rows.len());
        rows.clone().enumerate().for_each(|(i, t)| chosen.row_mut(i).copy_from_slice(x.row(t)));
        let mut normed = Rows::new(x.width());
        self.norm(norm, &chosen, &mut normed);

        let vocab = head.n_rows();
        let mut logits = vec![0.0; rows.len() * vocab];
        let out = SharedRows::new(&mut logits, vocab, vocab);
        self.over_rows(&[head], rows.len(), &|_, rows| {
            // SAFETY: the pieces do not overlap.
            unsafe { matmul::multiply(self.isa, head, None, &normed, rows, (Store::Set, out)) };
        });
        Ok(logits)
    }
}
