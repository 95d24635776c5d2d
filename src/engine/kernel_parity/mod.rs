//! Kernel parity: every operation of a backend stays within the tolerance of its contract around the scalar reference, on
//! the weights and sizes of a model and on shapes and values that kernels stumble over.
//!
//! An operation is given what the backend itself made before it, so that each is judged alone. Of a large weight a sample
//! of rows is compared, as the reference is slow.

mod attention;
#[cfg(test)]
mod crooked;
mod edges;
mod head;
mod own;
mod products;
mod rounding;
mod tally;

#[cfg(test)]
pub(super) use attention::{Heard, Qkv, attended_weights};
pub use rounding::ProductRule;
pub use tally::{KernelFault, KernelResult};

use super::decoder::Decoder;
use super::random_tensor::Random;
use super::{Backend, ModelWeights, reference::Reference};
use crate::Result;
use crate::models::Model;
use std::collections::BTreeSet;
use tally::{Call, Tally};

/// Judges the backend of `decoder` on `model`, which it has loaded, and on made-up shapes in the model's encodings. Every
/// operation is told, also one that nothing was compared of.
///
/// # Errors
/// Those of the backend's operations and of [`ModelWeights::resolve`].
pub(super) fn judge<B: Backend>(decoder: &Decoder<B>, model: &Model) -> Result<Vec<KernelResult>> {
    let weights = ModelWeights::resolve(&Reference, model)?;
    let mut judge = Judge::new(&decoder.backend);
    judge.own_weights(decoder, &weights)?;
    let matrices = model.weights.values().filter(|w| w.tensor.shape.ndim() > 1);
    let encodings: BTreeSet<_> = matrices.map(|w| w.tensor.dtype).collect();
    judge.edges(&encodings.into_iter().collect::<Vec<_>>())?;
    Ok(judge.results())
}

/// Every operation of a backend that gives numbers, or an id.
const OPERATIONS: &[&str] = &[
    "embed",
    "embed_chosen",
    "add_positions",
    "scale",
    "add",
    "norm",
    "norm_heads",
    "linear",
    "linear_add",
    "rope_store",
    "attend",
    "gated",
    "gelu",
    "head",
    "choose",
    "best",
];

/// A backend, what it is judged with, and what came of it.
pub(super) struct Judge<'a, B: Backend> {
    backend: &'a B,
    tally: Tally,
    random: Random,
    /// Rows of a weight of which all are compared.
    most_rows: usize,
}

/// Rows that are compared of a larger weight, with the first and the last.
const STRETCHES: usize = 32;

impl<'a, B: Backend> Judge<'a, B> {
    /// Nothing compared yet. The numbers are the same at every run.
    pub(super) fn new(backend: &'a B) -> Self {
        let tally = Tally::new(backend.device().is_some());
        Judge { backend, tally, random: Random(1), most_rows: STRETCHES + 2 }
    }

    /// What was compared, and every operation that nothing was compared of.
    pub(super) fn results(self) -> Vec<KernelResult> {
        self.tally.results(OPERATIONS)
    }

    /// `n` values within `±spread`.
    fn values(&mut self, n: usize, spread: f32) -> Vec<f32> {
        (0..n).map(|_| spread * self.random.signed()).collect()
    }

    /// `n` values of many magnitudes, none above 4.
    fn activations(&mut self, n: usize) -> Vec<f32> {
        let magnitude = |random: &mut Random| f32::from((random.next() % 9) as u8) - 6.0;
        (0..n).map(|_| self.random.signed() * magnitude(&mut self.random).exp2()).collect()
    }

    /// Of `n` rows the first, the last and one of every stretch between, or all where they are few; ascending.
    fn sample(&mut self, n: usize) -> Vec<usize> {
        if n <= self.most_rows.max(STRETCHES + 2) {
            return (0..n).collect();
        }
        let start = |i: usize| 1 + i * (n - 2) / STRETCHES;
        let within = |i: usize, random: &mut Random| {
            start(i) + (random.next() % (start(i + 1) - start(i)) as u64) as usize
        };
        let between: Vec<usize> = (0..STRETCHES).map(|i| within(i, &mut self.random)).collect();
        [0].into_iter().chain(between).chain([n - 1]).collect()
    }

    /// Holds all of `found`, `width` columns, against `expected`, which is the sum of products of these sizes and something
    /// else. A compiler of shaders may fuse a product with the sum, which spares the rounding of the product.
    fn hold_fusible(
        &mut self,
        (operation, contract): (&'static str, &'static str),
        place: &str,
        expected: &[f32],
        products: impl Iterator<Item = f32>,
        (width, found): (usize, &[f32]),
    ) -> Result<()> {
        const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;
        let doubt: Vec<f64> = match self.backend.device() {
            // The result is rounded once by either, to neighbors at most.
            Some(_) => expected
                .iter()
                .zip(products)
                .map(|(e, p)| ROUNDING * f64::from(p.abs()) + 2.0 * ROUNDING * f64::from(e.abs()))
                .collect(),
            None => Vec::new(),
        };
        let call = Call { operation, contract, place, width, columns: None };
        self.tally.hold(call, expected, &doubt, found)
    }

    /// Holds all of `found`, `width` columns, against `expected`.
    fn hold(
        &mut self,
        (operation, contract): (&'static str, &'static str),
        place: &str,
        width: usize,
        expected: &[f32],
        found: &[f32],
    ) -> Result<()> {
        let call = Call { operation, contract, place, width, columns: None };
        self.tally.hold(call, expected, &[], found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::kernels::Kernel;

    #[test]
    fn every_operation_that_a_contract_names_is_judged() {
        let lawful: BTreeSet<String> = Kernel::names()
            .into_iter()
            .flat_map(|name| Kernel::load(name).expect("a built-in contract").operations)
            // What gives no numbers: they are judged by what is computed with their weights.
            .filter(|operation| !["matrix", "table"].contains(&operation.as_str()))
            .collect();
        assert_eq!(lawful, OPERATIONS.iter().map(|o| (*o).to_owned()).collect());
    }

    #[test]
    fn a_sample_has_both_ends_and_every_stretch_of_a_weight() {
        let mut judge = Judge::new(&Reference);
        for n in [1, 2, 33, 34] {
            assert_eq!(judge.sample(n), (0..n).collect::<Vec<_>>());
        }
        for n in [35, 36, 131, 151_936] {
            let rows = judge.sample(n);
            assert_eq!((rows.len(), rows[0], rows[33]), (34, 0, n - 1));
            assert!(rows.is_sorted() && rows.windows(2).all(|w| w[0] < w[1] && w[1] - w[0] <= n / 16 + 2));
        }
    }
}
