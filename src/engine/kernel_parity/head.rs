//! Tables and the head: rows by id, logits, and the id of the largest logit.

use super::{Call, Judge};
use crate::Result;
use crate::engine::reference::Reference;
use crate::engine::{Backend, Norm, best_of};
use crate::models::Weight;
use crate::stats::argmax;

/// A weight of which rows are read, on the backend and as the reference has it.
pub(super) struct Table<'a, B: Backend> {
    pub name: &'a str,
    pub found: &'a B::Matrix,
    pub expected: &'a Weight,
}

impl<B: Backend> Clone for Table<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Table<'_, B> {}

impl<B: Backend> Table<'_, B> {
    /// Rows and columns.
    fn sizes(&self) -> (usize, usize) {
        let shape = &self.expected.tensor.shape;
        (shape.rows(), shape.row_len())
    }

    fn place(&self) -> String {
        format!("`{}` {} {}", self.name, self.expected.tensor.shape, self.expected.tensor.dtype)
    }
}

/// Tokens whose logits are asked for in one call: some of a pass, and more than any kernel of few tokens takes.
const WANTED: [&[usize]; 2] = [&[11, 0, 5], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]];

/// Logits that are picked.
const MOST_PICKED: usize = 40;

/// Tokens of that pass.
const PASS: usize = 12;

impl<B: Backend> Judge<'_, B> {
    /// `embed` of rows of all the table.
    pub(super) fn embed(&mut self, table: Table<'_, B>) -> Result<()> {
        let (rows, width) = table.sizes();
        let ids: Vec<u32> = self.sample(rows).into_iter().rev().map(|r| r as u32).collect();
        let (mut found, mut expected) = (self.backend.buffer(width), Reference.buffer(width));
        self.backend.embed(table.found, &ids, &mut found)?;
        Reference.embed(table.expected, &ids, &mut expected)?;
        let (found, expected) = (self.backend.download(&found)?, Reference.download(&expected)?);
        self.hold(("embed", "embedding"), &table.place(), width, &expected, &found)
    }

    /// `add_positions` of rows of all the table.
    pub(super) fn add_positions(&mut self, table: Table<'_, B>) -> Result<()> {
        let (rows, width) = table.sizes();
        let positions = self.sample(rows);
        let x = self.activations(positions.len() * width);
        let (mut found, mut expected) = (self.backend.upload(width, &x)?, Reference.upload(width, &x)?);
        self.backend.add_positions(table.found, &positions, &mut found)?;
        Reference.add_positions(table.expected, &positions, &mut expected)?;
        let (found, expected) = (self.backend.download(&found)?, Reference.download(&expected)?);
        let products = expected.iter().zip(&x).map(|(sum, x)| sum - x);
        let call = ("add_positions", "embedding");
        self.hold_fusible(call, &table.place(), &expected, products, (width, &found))
    }

    /// `head` on what the backend's own norm gives, `choose` by the logits of that, and `embed_chosen` of the id.
    pub(super) fn head(&mut self, norm: &Norm<B>, head: Table<'_, B>, table: Table<'_, B>) -> Result<()> {
        let (b, place) = (self.backend, head.place());
        let (vocab, width) = head.sizes();
        let values = self.activations(PASS * width);
        let x = b.upload(width, &values)?;
        let mut normed = b.buffer(width);
        b.norm(norm, &x, &mut normed)?;
        let normed = b.download(&normed)?;
        for wanted in WANTED {
            let mut logits = vec![0.0; wanted.len() * vocab];
            b.head(norm, head.found, &x, wanted, &mut logits)?;
            let input: Vec<f32> =
                wanted.iter().flat_map(|t| &normed[t * width..(t + 1) * width]).copied().collect();
            let columns = self.sample(vocab);
            let rule = b.product_rule(head.found, wanted.len());
            let (products, doubt) = rule.operand(width, &input).products(head.expected, None, &columns)?;
            let expected: Vec<f32> = products.iter().map(|p| *p as f32).collect();
            let place = format!("{place}, {} of {PASS} tokens", wanted.len());
            let (contract, columns) = (rule.contract(), Some(&columns[..]));
            let call = Call { operation: "head", contract, place: &place, width: vocab, columns };
            self.tally.hold(call, &expected, &doubt, &logits)?;
        }
        for row in [PASS - 1, 3] {
            let mut logits = vec![0.0; vocab];
            b.head(norm, head.found, &x, &[row], &mut logits)?;
            let mut chosen = b.chosen(1)?;
            b.choose(norm, head.found, &x, row, &mut chosen)?;
            let found: Option<u32> = b.read_chosen(&chosen)?.first().copied().flatten();
            // Ids are below 2^24; none is no number.
            let id = |id: Option<u32>| id.map_or(f32::NAN, |id| id as f32);
            let both = ("choose", "sampling");
            self.hold(both, &format!("{place}, token {row}"), 1, &[id(argmax(&logits))], &[id(found)])?;
            let k = MOST_PICKED.min(vocab);
            let ids = |picked: Vec<(u32, f32)>| {
                let given = picked.into_iter().map(|(best, _)| id(Some(best)));
                given.chain(std::iter::repeat(f32::NAN)).take(k).collect::<Vec<f32>>()
            };
            let (expected, picked) = (ids(best_of(&logits, k)), ids(b.best(norm, head.found, &x, row, k)?));
            let call = ("best", "sampling");
            self.hold(call, &format!("{place}, {k} of token {row}"), k, &expected, &picked)?;
            if let Some(id) = found.filter(|id| (*id as usize) < table.sizes().0) {
                let width = table.sizes().1;
                let (mut found, mut expected) = (b.buffer(width), Reference.buffer(width));
                b.embed_chosen(table.found, &chosen, &mut found)?;
                Reference.embed(table.expected, &[id], &mut expected)?;
                let (found, expected) = (b.download(&found)?, Reference.download(&expected)?);
                self.hold(("embed_chosen", "embedding"), &table.place(), width, &expected, &found)?;
            }
        }
        Ok(())
    }
}
