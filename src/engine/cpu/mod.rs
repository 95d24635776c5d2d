//! The CPU backend in both numerics: `exact` multiplies weights as they decode with f32 activations, `fast` multiplies
//! integers with integers.
//!
//! Its results are the same bits on every instruction set, with every number of threads and however the tokens
//! are batched, because every output element has one order of operations, written down in `contracts/kernels/`.

mod attention;
mod cache;
pub(super) mod elementwise;
mod encodings;
mod integer;
mod isa;
mod lanes;
mod limits;
mod lines;
mod matmul;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod peaks;
mod pieces;
mod pool;
mod quads;
#[cfg(target_arch = "aarch64")]
mod quads_neon;
#[cfg(target_arch = "x86_64")]
mod quads_x86;
mod quantized;
mod rows;
mod sink;
mod split;
mod tile_matrix;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::{Activation, Angles, Backend, Heads, Linear, Norm, Part, ProductRule, best_of, usable_cpus};
use crate::models::Weight;
use crate::stats::argmax;
use crate::{Error, Kind, Result};
use elementwise::{Gelu, GeluMul, NormRow, SiluMul};
use lanes::WIDTH;
use lines::Lines;
use matrix::Piece;
use pieces::Pieces;
use pool::Pool;
use quantized::Quantized;
use rows::SharedRows;
use sink::{Sink, Store};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

pub use cache::Cache;
pub use isa::{Isa, VARIABLE as ISA_VARIABLE};
pub use limits::{LimitMeter, Limits};
pub use matrix::Matrix;
pub use rows::Rows;

/// What products are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numerics {
    /// Weights as they decode, activations and keys and values in f32: what the weights do, and nothing else.
    Exact,
    /// Weights of blocks as integers, activations in blocks of 8 bits, keys and values in f16.
    Fast,
}

impl Numerics {
    /// The name in the backend table.
    pub const fn backend_name(self) -> &'static str {
        match self {
            Numerics::Exact => "cpu",
            Numerics::Fast => "cpu-fast",
        }
    }
}

/// Vectors of activations that a task of simple arithmetic should hold, some microseconds of work; fewer in all are
/// left to the caller.
const TASK_VECTORS: usize = 1 << 10;

/// An instruction set and its threads.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
    numerics: Numerics,
}

thread_local! {
    /// Activations of the operation that this thread is in.
    static QUANTIZED: RefCell<Quantized> = RefCell::new(Quantized::default());
}

/// f32 values, padded with zeros to whole vectors.
pub struct Vector {
    len: usize,
    data: Lines<[f32; WIDTH]>,
}

/// Multiplies a piece of matrix `i`, with the quantised activations where some matrix is tiled.
type Work<'a> = dyn Fn(usize, &Piece<'_>, Option<&Quantized>) + Sync + 'a;

impl Cpu {
    /// The best instruction set of this processor, or the one that [`ISA_VARIABLE`] names, on so many threads but
    /// no more than there are usable processors: more would only take turns.
    ///
    /// # Errors
    /// Those of [`Isa::detect`]; [`Kind::Environment`] where threads cannot be started.
    pub fn new(threads: usize, numerics: Numerics) -> Result<Cpu> {
        Cpu::with(Isa::detect()?, threads.min(usable_cpus()), numerics)
    }

    /// A given instruction set on exactly so many threads.
    ///
    /// # Errors
    /// [`Kind::Environment`] where threads cannot be started, [`Kind::Usage`] for none.
    pub fn with(isa: Isa, threads: usize, numerics: Numerics) -> Result<Cpu> {
        let threads = NonZeroUsize::new(threads).ok_or_else(|| {
            Error::new(Kind::Usage, "threads", "0 threads cannot compute").hint("use 1 or more")
        })?;
        let pool = Pool::new(threads).map_err(|e| {
            Error::new(Kind::Environment, "threads", format!("cannot start {threads} threads: {e}"))
                .hint("use fewer threads")
        })?;
        Ok(Cpu { isa, pool, numerics })
    }

    /// Calls `work(i, piece, quantized x)` for pieces of the rows of every matrix `i`; `partner` is multiplied
    /// together with the only one.
    fn over_rows(&self, matrices: &[&Matrix], partner: Option<&Matrix>, x: &Rows, work: &Work<'_>) {
        let costs = x.n() * (1 + usize::from(partner.is_some()));
        let pieces = Pieces::new(matrices, costs, self.pool.threads());
        QUANTIZED.with_borrow_mut(|quantized| {
            let tiled = matrices.iter().copied().chain(partner).any(Matrix::is_tiled);
            let quantized = tiled.then(|| {
                quantized.fill(self.isa, &self.pool, x);
                &*quantized
            });
            self.pool.run_shares(pieces.all.len(), |thread| pieces.first[thread], &|task| {
                let (i, rows) = &pieces.all[task];
                // One token reads every row once, in a stream that needs no asking ahead.
                let next = pieces.all.get(task + 1).filter(|_| x.n() > 1);
                let next = next.map_or(&[][..], |(i, rows)| matrices[*i].stored(rows.start));
                work(*i, &Piece { rows: rows.clone(), next }, quantized);
            });
        });
    }
}

impl Cpu {
    /// Calls `work(first, rows, vectors)` for pieces of the rows of `x`, of so many vectors each; one token is left
    /// to the caller.
    ///
    /// # Errors
    /// One of those of `work`.
    fn over_tokens(&self, x: &mut Rows, work: &OfTokens<'_>) -> Result<()> {
        let vectors = x.vectors();
        let step = (TASK_VECTORS / vectors).max(1);
        let rows = x.all_mut();
        if rows.len() <= step.max(2) * vectors {
            return work(0, rows, vectors);
        }
        let pieces: Vec<_> = rows.chunks_mut(step * vectors).map(|rows| Mutex::new((rows, Ok(())))).collect();
        self.pool.run(pieces.len(), &|i| {
            let mut piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (rows, result) = &mut *piece;
            *result = work(i * step, rows, vectors);
        });
        pieces.into_iter().try_for_each(|p| p.into_inner().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// One norm: `x` and `out` are whole vectors, of which `width` values count.
    fn norm_row(&self, norm: &Norm<Cpu>, width: usize, x: &[[f32; WIDTH]], out: &mut [[f32; WIDTH]]) {
        self.isa.run(NormRow {
            rule: norm.rule,
            width,
            weight: &norm.weight.data,
            bias: norm.bias.as_ref().map(|b| &*b.data),
            x,
            out,
        });
    }
}

/// Work on consecutive rows: the first one's number, the rows in vectors, vectors of a row.
type OfTokens<'a> = dyn Fn(usize, &mut [[f32; WIDTH]], usize) -> Result<()> + Sync + 'a;

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
    type Chosen = Vec<Option<u32>>;

    fn name(&self) -> &'static str {
        self.numerics.backend_name()
    }

    fn numerics(&self) -> Numerics {
        self.numerics
    }

    fn product_rule(&self, matrix: &Matrix, _tokens: usize) -> ProductRule {
        if matrix.is_tiled() { ProductRule::Bytes } else { ProductRule::Plain }
    }

    fn matrix(&self, weight: &Weight) -> Result<Matrix> {
        match self.numerics {
            Numerics::Exact => Matrix::rows(weight),
            Numerics::Fast => Matrix::tiles(weight, &self.pool),
        }
    }

    fn table(&self, weight: &Weight) -> Result<Matrix> {
        Matrix::rows(weight)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vector> {
        let mut data = Lines::of([0.0; WIDTH], values.len().div_ceil(WIDTH));
        data.as_flattened_mut()[..values.len()].copy_from_slice(&values);
        Ok(Vector { len: values.len(), data })
    }

    fn buffer(&self, width: usize) -> Rows {
        Rows::new(width)
    }

    fn upload(&self, width: usize, values: &[f32]) -> Result<Rows> {
        let mut rows = Rows::new(width);
        rows.set_n(values.len() / width);
        values.chunks_exact(width).enumerate().for_each(|(t, row)| rows.values_mut(t).copy_from_slice(row));
        Ok(rows)
    }

    fn download(&self, buffer: &Rows) -> Result<Vec<f32>> {
        Ok((0..buffer.n()).flat_map(|t| buffer.values(t).iter().copied()).collect())
    }

    fn cache(&self, heads: &Heads) -> Cache {
        match self.numerics {
            Numerics::Exact => Cache::singles(heads),
            Numerics::Fast => Cache::halves(heads),
        }
    }

    fn chosen(&self, most: usize) -> Result<Vec<Option<u32>>> {
        Ok(Vec::with_capacity(most))
    }

    fn read_chosen(&self, chosen: &Vec<Option<u32>>) -> Result<Vec<Option<u32>>> {
        Ok(chosen.clone())
    }

    fn embed(&self, table: &Matrix, ids: &[u32], x: &mut Rows) -> Result<()> {
        x.set_n(ids.len());
        let width = x.width();
        self.over_tokens(x, &|first, rows, vectors| {
            rows.chunks_exact_mut(vectors)
                .zip(&ids[first..])
                .try_for_each(|(row, &id)| table.read_row(id as usize, &mut row.as_flattened_mut()[..width]))
        })
    }

    fn embed_chosen(&self, table: &Matrix, chosen: &Vec<Option<u32>>, x: &mut Rows) -> Result<()> {
        self.embed(table, &[chosen.last().copied().flatten().unwrap_or(0)], x)
    }

    fn scale(&self, factor: f32, x: &mut Rows) -> Result<()> {
        self.over_tokens(x, &|_, rows, _| {
            rows.as_flattened_mut().iter_mut().for_each(|x| *x *= factor);
            Ok(())
        })
    }

    fn add(&self, x: &Rows, residual: &mut Rows) -> Result<()> {
        self.over_tokens(residual, &|first, rows, vectors| {
            for (t, row) in rows.chunks_exact_mut(vectors).enumerate() {
                let x = x.row(first + t).as_flattened();
                row.as_flattened_mut().iter_mut().zip(x).for_each(|(r, x)| *r += x);
            }
            Ok(())
        })
    }

    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Rows) -> Result<()> {
        let (wide, width) = (head_dim.div_ceil(WIDTH), x.width());
        self.over_tokens(x, &|_, rows, vectors| {
            let (mut head, mut normed) = (vec![[0.0; WIDTH]; wide], vec![[0.0; WIDTH]; wide]);
            for row in rows.chunks_exact_mut(vectors) {
                for values in row.as_flattened_mut()[..width].chunks_exact_mut(head_dim) {
                    head.as_flattened_mut()[..head_dim].copy_from_slice(values);
                    self.norm_row(norm, head_dim, &head, &mut normed);
                    values.copy_from_slice(&normed.as_flattened()[..head_dim]);
                }
            }
            Ok(())
        })
    }

    fn add_positions(&self, table: &Matrix, positions: &[usize], x: &mut Rows) -> Result<()> {
        let width = x.width();
        self.over_tokens(x, &|first, rows, vectors| {
            let mut position = vec![0.0; width];
            for (row, at) in rows.chunks_exact_mut(vectors).zip(&positions[first..]) {
                table.read_row(*at, &mut position)?;
                row.as_flattened_mut().iter_mut().zip(&position).for_each(|(x, p)| *x += p);
            }
            Ok(())
        })
    }

    fn norm(&self, norm: &Norm<Self>, x: &Rows, out: &mut Rows) -> Result<()> {
        out.set_n(x.n());
        self.over_tokens(out, &|first, rows, vectors| {
            for (t, row) in rows.chunks_exact_mut(vectors).enumerate() {
                self.norm_row(norm, x.width(), x.row(first + t), row);
            }
            Ok(())
        })
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
        self.over_rows(&weights.map(|w| &w.weight), None, x, &|i, piece, quantized| {
            // SAFETY: the pieces of one matrix do not overlap, and every matrix has its own output.
            let sink = unsafe { Sink::new(weights[i].bias(), (Store::Set, outs[i]), piece.rows.clone()) };
            weights[i].weight.multiply(self.isa, x, quantized, piece, sink);
        });
        Ok(())
    }

    fn linear_add(&self, linear: &Linear<Self>, x: &Rows, residual: &mut Rows) -> Result<()> {
        let out = residual.shared();
        self.over_rows(&[&linear.weight], None, x, &|_, piece, quantized| {
            // SAFETY: the pieces do not overlap.
            let sink = unsafe { Sink::new(linear.bias(), (Store::Add, out), piece.rows.clone()) };
            linear.weight.multiply(self.isa, x, quantized, piece, sink);
        });
        Ok(())
    }

    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        qkv: (&mut Rows, &mut Rows, &Rows),
        parts: &mut [Part<'_, Cache>],
    ) -> Result<()> {
        cache::rope_store((self.isa, &self.pool), heads, angles, qkv, parts);
        Ok(())
    }

    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Rows,
        parts: &[Part<'_, Cache>],
        out: &mut Rows,
    ) -> Result<()> {
        attention::attend((self.isa, &self.pool), (heads, window), q, parts, out);
        Ok(())
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
        // Both weights of a piece belong to one task, so that what it activates is still in the cache.
        self.over_rows(&[&gate.weight], Some(&up.weight), x, &|_, piece, quantized| {
            let rows = &piece.rows;
            let width = rows.len();
            let mut up_values = vec![0.0; x.n() * width];
            let ups = SharedRows::shifted(&mut up_values, rows.clone());
            // SAFETY: the pieces do not overlap; `ups` belongs to this task alone.
            let (gate_sink, up_sink) = unsafe {
                (
                    Sink::new(gate.bias(), (Store::Set, out), piece.rows.clone()),
                    Sink::new(up.bias(), (Store::Set, ups), piece.rows.clone()),
                )
            };
            let next = if x.n() > 1 { up.weight.stored(rows.start) } else { &[] };
            let first = Piece { rows: rows.clone(), next };
            gate.weight.multiply(self.isa, x, quantized, &first, gate_sink);
            up.weight.multiply(self.isa, x, quantized, piece, up_sink);
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
        self.over_rows(&[&up.weight], None, x, &|_, piece, quantized| {
            // SAFETY: the pieces do not overlap.
            let sink = unsafe { Sink::new(up.bias(), (Store::Set, out), piece.rows.clone()) };
            up.weight.multiply(self.isa, x, quantized, piece, sink);
            for t in 0..x.n() {
                // SAFETY: as above.
                self.isa.run(Gelu(unsafe { out.slice(t, piece.rows.start, piece.rows.end) }));
            }
        });
        Ok(())
    }

    fn head(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()> {
        let mut chosen = Rows::new(x.width());
        chosen.set_n(rows.len());
        rows.iter().enumerate().for_each(|(i, t)| chosen.row_mut(i).copy_from_slice(x.row(*t)));
        let mut normed = Rows::new(x.width());
        self.norm(norm, &chosen, &mut normed)?;

        let vocab = head.n_rows();
        let out = SharedRows::new(logits, vocab, vocab);
        self.over_rows(&[head], None, &normed, &|_, piece, quantized| {
            // SAFETY: the pieces do not overlap.
            let sink = unsafe { Sink::new(None, (Store::Set, out), piece.rows.clone()) };
            head.multiply(self.isa, &normed, quantized, piece, sink);
        });
        Ok(())
    }

    fn choose(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        chosen: &mut Vec<Option<u32>>,
    ) -> Result<()> {
        let mut logits = vec![0.0; head.n_rows()];
        self.head(norm, head, x, &[row], &mut logits)?;
        chosen.push(argmax(&logits));
        Ok(())
    }

    fn best(
        &self,
        norm: &Norm<Self>,
        head: &Matrix,
        x: &Rows,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>> {
        let mut logits = vec![0.0; head.n_rows()];
        self.head(norm, head, x, &[row], &mut logits)?;
        Ok(best_of(&logits, k))
    }
}
