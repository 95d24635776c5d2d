//! Products of weights with activations, and what is fused with them, against the reference's of the same weights with
//! the activations that the product's law sees.

use super::{Call, Judge};
use crate::Result;
use crate::contract::kernels::Kernel;
use crate::engine::reference::{Reference, gelu_tanh, silu};
use crate::engine::{Activation, Backend, Linear, ProductRule};

/// A weight on the backend, the reference's, and its name.
pub(super) struct Pair<'a, B: Backend> {
    pub name: &'a str,
    pub found: &'a Linear<B>,
    pub expected: &'a Linear<Reference>,
}

impl<B: Backend> Clone for Pair<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Pair<'_, B> {}

impl<B: Backend> Pair<'_, B> {
    /// Outputs and inputs.
    fn sizes(&self) -> (usize, usize) {
        let shape = &self.expected.weight.tensor.shape;
        (shape.rows(), shape.row_len())
    }

    fn place(&self, n: usize) -> String {
        let tensor = &self.expected.weight.tensor;
        let s = if n == 1 { "" } else { "s" };
        format!("`{}` {} {}, {n} token{s}", self.name, tensor.shape, tensor.dtype)
    }
}

/// What a product should be, as f64, and how far it may be from that beside the tolerance: both `[n, columns]`.
struct Product(Vec<f64>, Vec<f64>);

impl<B: Backend> Judge<'_, B> {
    /// The product of `n` tokens with a weight, by the law that the backend names for it.
    fn product(&self, pair: Pair<'_, B>, x: &[f32], n: usize, columns: &[usize]) -> Result<Product> {
        let Linear { weight, bias } = pair.expected;
        let rule = self.backend.product_rule(&pair.found.weight, n);
        let (values, doubt) = rule.operand(pair.sizes().1, x).products(weight, bias.as_deref(), columns)?;
        Ok(Product(values, doubt))
    }

    fn contract(&self, pair: Pair<'_, B>, n: usize) -> &'static str {
        self.backend.product_rule(&pair.found.weight, n).contract()
    }

    /// By how much the law of this product is wider than `matmul`, of which the tolerance of what is fused with it is made.
    fn beyond_matmul(&self, pair: Pair<'_, B>, n: usize) -> Result<f64> {
        let of = |name| Kernel::load(name).map(|kernel| kernel.tolerance.max_error);
        Ok((of(self.contract(pair, n))? - of(ProductRule::Plain.contract())?).max(0.0))
    }

    /// `linear` of several weights of one input `x`, `[n, width]`.
    pub(super) fn linear<const N: usize>(&mut self, pairs: [Pair<'_, B>; N], x: &[f32]) -> Result<()> {
        let b = self.backend;
        let width = pairs[0].sizes().1;
        let n = x.len() / width;
        let input = b.upload(width, x)?;
        let mut outs = pairs.map(|pair| b.buffer(pair.sizes().0));
        b.linear(pairs.map(|pair| pair.found), &input, outs.each_mut())?;
        for (pair, out) in pairs.into_iter().zip(&outs) {
            let columns = self.sample(pair.sizes().0);
            let Product(values, doubt) = self.product(pair, x, n, &columns)?;
            let expected: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            let found = b.download(out)?;
            let (contract, place) = (self.contract(pair, n), pair.place(n));
            let (width, columns) = (pair.sizes().0, Some(&columns[..]));
            let call = Call { operation: "linear", contract, place: &place, width, columns };
            self.tally.hold(call, &expected, &doubt, &found)?;
        }
        Ok(())
    }

    /// `linear_add` to a residual of the size of the product.
    pub(super) fn linear_add(&mut self, pair: Pair<'_, B>, x: &[f32]) -> Result<()> {
        let b = self.backend;
        let (rows, width) = pair.sizes();
        let n = x.len() / width;
        let residual = self.activations(n * rows);
        let mut out = b.upload(rows, &residual)?;
        b.linear_add(pair.found, &b.upload(width, x)?, &mut out)?;
        let columns = self.sample(rows);
        let Product(values, doubt) = self.product(pair, x, n, &columns)?;
        let at = |i: usize| i / columns.len() * rows + columns[i % columns.len()];
        let expected: Vec<f32> =
            values.iter().enumerate().map(|(i, v)| residual[at(i)] + *v as f32).collect();
        let (contract, place) = (self.contract(pair, n), pair.place(n));
        let call =
            Call { operation: "linear_add", contract, place: &place, width: rows, columns: Some(&columns) };
        self.tally.hold(call, &expected, &doubt, &b.download(&out)?)
    }

    /// `gated` by both weights of a feed-forward.
    pub(super) fn gated(
        &mut self,
        activation: Activation,
        gate: Pair<'_, B>,
        up: Pair<'_, B>,
        x: &[f32],
    ) -> Result<()> {
        let b = self.backend;
        let (rows, width) = up.sizes();
        let n = x.len() / width;
        let mut out = b.buffer(rows);
        b.gated(activation, gate.found, up.found, &b.upload(width, x)?, &mut out)?;
        let columns = self.sample(rows);
        let gates = self.product(gate, x, n, &columns)?;
        let ups = self.product(up, x, n, &columns)?;
        let activate = match activation {
            Activation::Silu => silu,
            Activation::GeluTanh => gelu_tanh,
        };
        let both = |i: usize| {
            // The reference rounds what it activates; neither activation is steeper than 1.13.
            let (g, u) = (f64::from(gates.0[i] as f32), f64::from(ups.0[i] as f32));
            let (g_off, u_off) = (1.13 * gates.1[i], ups.1[i]);
            let off = g_off * u.abs() + activate(g).abs() * u_off + g_off * u_off;
            ((activate(g) * u) as f32, off)
        };
        let (expected, mut doubt): (Vec<f32>, Vec<f64>) = (0..gates.0.len()).map(both).unzip();
        let more = self.beyond_matmul(gate, n)? + self.beyond_matmul(up, n)?;
        widen(&mut doubt, more, &expected);
        let place = format!("{} by `{}`", up.place(n), gate.name);
        let call = Call {
            operation: "gated",
            contract: "swiglu",
            place: &place,
            width: rows,
            columns: Some(&columns),
        };
        self.tally.hold(call, &expected, &doubt, &b.download(&out)?)
    }

    /// `gelu` of a product.
    pub(super) fn gelu(&mut self, up: Pair<'_, B>, x: &[f32]) -> Result<()> {
        let b = self.backend;
        let (rows, width) = up.sizes();
        let n = x.len() / width;
        let mut out = b.buffer(rows);
        b.gelu(up.found, &b.upload(width, x)?, &mut out)?;
        let columns = self.sample(rows);
        let Product(values, doubt) = self.product(up, x, n, &columns)?;
        let expected: Vec<f32> = values.iter().map(|v| gelu_tanh(f64::from(*v as f32)) as f32).collect();
        let mut doubt: Vec<f64> = doubt.iter().map(|off| 1.13 * off).collect();
        widen(&mut doubt, self.beyond_matmul(up, n)?, &expected);
        let place = up.place(n);
        // The tolerance of one product and one activation, which is less than that of two.
        let call = Call {
            operation: "gelu",
            contract: "swiglu",
            place: &place,
            width: rows,
            columns: Some(&columns),
        };
        self.tally.hold(call, &expected, &doubt, &b.download(&out)?)
    }
}

/// Lets every element be off by a share of the largest of `expected` more.
fn widen(doubt: &mut [f64], share: f64, expected: &[f32]) {
    let finite = expected.iter().filter(|e| e.is_finite());
    let largest = finite.fold(0f32, |m, e| m.max(e.abs()));
    doubt.iter_mut().for_each(|off| *off += share * f64::from(largest));
}
