//! Shapes and values that kernels stumble over: one row, partial vectors and tiles, rows that are no whole vectors, zeros,
//! magnitudes far apart, and what is no number.

use super::Judge;
use super::attention::{Heard, attended_weights};
use super::head::Table;
use super::products::Pair;
use crate::Result;
use crate::engine::random_tensor::tensor;
use crate::engine::reference::{self, Reference};
use crate::engine::{Activation, Backend, Heads, Linear, Norm, NormRule, Numerics, Rope};
use crate::models::{NormKind, Position, RopeScaling, RowOrder, Weight};
use crate::tensor::DType;

/// Tokens and rows, and which of [`widths`] a row has. One row has many tokens: a tolerance is a share of the largest
/// output, which says nothing of three.
const SIZES: [(usize, usize, usize); 5] = [(1, 37, 0), (2, 5, 1), (66, 67, 2), (7, 64, 3), (66, 1, 3)];

/// Columns of rows in `dtype`: one block and several where a row is whole blocks, else no multiple of anything.
fn widths(dtype: DType) -> [usize; 4] {
    match dtype.block_len() {
        1 => [5, 37, 545, 1536],
        // The blocks of this one do not end with a row.
        _ if dtype == DType::AprQ4 => [37, 96, 545, 1536],
        block @ ..64 => [1, 3, 17, 48].map(|blocks| blocks * block),
        block => [1, 2, 3, 6].map(|blocks| blocks * block),
    }
}

/// Rows of a weight of this file that are compared, all of them.
const ALL: usize = 160;

/// A weight and a bias on both sides.
struct Both<B: Backend> {
    found: Linear<B>,
    expected: Linear<Reference>,
}

impl<B: Backend> Both<B> {
    fn pair(&self) -> Pair<'_, B> {
        Pair { name: "random", found: &self.found, expected: &self.expected }
    }
}

impl<B: Backend> Judge<'_, B> {
    /// Everything of this file, in these encodings.
    pub(super) fn edges(&mut self, encodings: &[DType]) -> Result<()> {
        for dtype in encodings {
            self.edge_products(*dtype)?;
            self.edge_feed_forwards(*dtype, *dtype)?;
            self.edge_tables(*dtype)?;
        }
        self.edge_norms()?;
        self.edge_residuals()?;
        self.edge_attention()
    }

    /// Products of odd sizes and extreme activations with weights in `dtype`.
    pub(in crate::engine) fn edge_products(&mut self, dtype: DType) -> Result<()> {
        self.most_rows = ALL;
        for (n, rows, width) in SIZES {
            let columns = widths(dtype)[width];
            let [plain, biased] =
                [self.weight(dtype, rows, columns, false)?, self.weight(dtype, rows, columns, true)?];
            let x = self.values(n * columns, 2.0);
            self.linear([plain.pair(), biased.pair()], &x)?;
            self.linear_add(biased.pair(), &x)?;
        }
        let columns = widths(dtype)[2];
        let weight = self.weight(dtype, 37, columns, false)?;
        for n in [1, 9] {
            for x in self.extremes(n * columns) {
                self.linear([weight.pair()], &x)?;
            }
        }
        Ok(())
    }

    /// Activations that are each one kind of extreme.
    fn extremes(&mut self, n: usize) -> [Vec<f32>; 6] {
        let mut spike = self.values(n, 1e-3);
        let [mut nan, mut infinite] = [self.values(n, 1.0), self.values(n, 1.0)];
        (spike[n / 3], nan[n / 2], infinite[n - 1]) = (1e4, f32::NAN, f32::NEG_INFINITY);
        [vec![0.0; n], self.values(n, 1e-15), self.values(n, 1e15), spike, nan, infinite]
    }

    /// Feed-forwards whose gates are nearly linear, and whose gates are shut or open.
    pub(in crate::engine) fn edge_feed_forwards(&mut self, gate: DType, up: DType) -> Result<()> {
        self.most_rows = ALL;
        for (n, rows, width) in SIZES {
            let columns = widths(if gate.block_len() > up.block_len() { gate } else { up })[width];
            let (gate, up) =
                (self.weight(gate, rows, columns, false)?, self.weight(up, rows, columns, false)?);
            for spread in [0.2, 10.0] {
                let x = self.values(n * columns, spread);
                self.gated(Activation::Silu, gate.pair(), up.pair(), &x)?;
                self.gated(Activation::GeluTanh, gate.pair(), up.pair(), &x)?;
                self.gelu(up.pair(), &x)?;
            }
        }
        Ok(())
    }

    /// Embeddings, positions and a head in `dtype`, of odd sizes.
    pub(in crate::engine) fn edge_tables(&mut self, dtype: DType) -> Result<()> {
        self.most_rows = ALL;
        for (rows, width) in [(37, 1), (131, 2), (1, 0)] {
            let columns = widths(dtype)[width];
            let Both { found, expected } = self.weight(dtype, rows, columns, false)?;
            let head = Table { name: "random", found: &found.weight, expected: &expected.weight };
            let rows_only = self.backend.table(&expected.weight)?;
            let table = Table { found: &rows_only, ..head };
            self.embed(head)?;
            self.embed(table)?;
            self.add_positions(table)?;
            let norm = self.random_norm(NormKind::Rms, columns)?.0;
            self.head(&norm, head, table)?;
        }
        Ok(())
    }

    /// Norms of odd widths, of small and large values and of values far from zero.
    pub(in crate::engine) fn edge_norms(&mut self) -> Result<()> {
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (n, width) in [(1, 32), (2, 7), (3, 50), (13, 544), (70, 96), (7, 1536)] {
                let (found, expected) = self.random_norm(kind, width)?;
                // The epsilon weighs where the values are small; a mean of 4 makes the layer norm subtract.
                for (spread, center) in [(0.0, 0.0), (1e-3, 0.0), (1.0, 0.0), (1.0, 4.0), (1e12, 0.0)] {
                    let x: Vec<f32> =
                        self.values(n * width, spread).into_iter().map(|x| x + center).collect();
                    self.norm_rows("random", &found, &expected, &x)?;
                }
            }
        }
        for (heads, head_dim) in [(1, 64), (4, 16), (3, 40), (5, 10)] {
            let (found, expected) = self.random_norm(NormKind::Rms, head_dim)?;
            self.norm_heads("random", &found, &expected, heads)?;
        }
        Ok(())
    }

    /// Sums and multiples of odd widths.
    pub(in crate::engine) fn edge_residuals(&mut self) -> Result<()> {
        for (n, width) in [(1, 37), (2, 101), (13, 549), (7, 1541)] {
            let (x, residual) = (self.activations(n * width), self.values(n * width, 1.0));
            self.scale(1.0 / 3.0, width, &x)?;
            let mut sum = self.backend.upload(width, &residual)?;
            self.backend.add(&self.backend.upload(width, &x)?, &mut sum)?;
            let expected: Vec<f32> = x.iter().zip(&residual).map(|(x, r)| r + x).collect();
            let found = self.backend.download(&sum)?;
            self.hold(("add", "residual"), &format!("{n} tokens of {width}"), width, &expected, &found)?;
        }
        Ok(())
    }

    /// Attention with heads of odd widths, windows of every kind, and scores that leave one position all the weight.
    pub(in crate::engine) fn edge_attention(&mut self) -> Result<()> {
        for (head_dim, ends) in [(10, &[33, 300, 301][..]), (80, &[1, 20, 21]), (16, &[5])] {
            let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim, scale: 1.0 / (head_dim as f32).sqrt() };
            let rope = Rope::new(&Position::Rope { theta: 10000.0, dim: head_dim }, &RopeScaling::None);
            for (rope, window) in [(rope.as_ref(), None), (None, Some(1)), (rope.as_ref(), Some(17))] {
                self.attention("random", &Heard { heads: &heads, rope, window, ends })?;
            }
        }
        for n in [1, 17, 300] {
            for spread in [0.1, 5.0, 80.0] {
                let scores = self.values(n, spread);
                self.softmax(&scores)?;
            }
        }
        Ok(())
    }

    /// The weights that attention gives positions of these scores.
    pub(in crate::engine) fn softmax(&mut self, scores: &[f32]) -> Result<()> {
        let kept = |s: &f32| match self.backend.numerics() {
            Numerics::Exact => f64::from(*s),
            Numerics::Fast => half::f16::from_f32(*s).to_f64(),
        };
        let exact: Vec<f64> = scores.iter().map(kept).collect();
        let expected: Vec<f32> = reference::softmax(&exact).iter().map(|p| *p as f32).collect();
        let found = attended_weights(self.backend, scores)?;
        let place = format!("{} scores", scores.len());
        self.hold(("attend", "softmax"), &place, scores.len(), &expected, &found)
    }

    /// A weight of values within ±1, and a bias where one is wanted.
    fn weight(&mut self, dtype: DType, rows: usize, columns: usize, biased: bool) -> Result<Both<B>> {
        let tensor = tensor(dtype, &[rows, columns], 0.0, 1.0, &mut self.random);
        let weight = Weight { tensor, rows: RowOrder::Canonical };
        let bias = biased.then(|| self.values(rows, 3.0));
        let found = Linear {
            weight: self.backend.matrix(&weight)?,
            bias: bias.clone().map(|bias| self.backend.vector(bias)).transpose()?,
        };
        Ok(Both { found, expected: Linear { weight, bias } })
    }

    fn random_norm(&mut self, kind: NormKind, width: usize) -> Result<(Norm<B>, Norm<Reference>)> {
        let rule = NormRule { kind, eps: 1e-5 };
        let (weight, bias) = (self.values(width, 2.0), self.values(width, 1.0));
        let bias = (kind == NormKind::Layer).then_some(bias);
        let found = Norm {
            rule,
            weight: self.backend.vector(weight.clone())?,
            bias: bias.clone().map(|bias| self.backend.vector(bias)).transpose()?,
        };
        Ok((found, Norm { rule, weight, bias }))
    }
}
