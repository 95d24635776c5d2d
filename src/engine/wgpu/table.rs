//! Rows of a table by ids: embeddings, and learned positions added to them.

use super::Wgpu;
use super::matrix::Matrix;
use super::memory::Rows;
use super::recorder::{Bound, Session};
use crate::Result;
use std::sync::Arc;

impl Wgpu {
    /// Rows of `table` to `x`, or added to it: of the `n` ids from word `ids_at` of `ids` on.
    pub(super) fn read_table(
        &self,
        mut session: Session<'_>,
        table: &Matrix,
        (ids, ids_at, n): (Bound<'_>, u32, usize),
        x: &mut Rows,
        accumulate: bool,
    ) -> Result<()> {
        let (width, stride) = (x.width, x.stride());
        let memory = match accumulate {
            true => x.memory(&self.device)?,
            false => Arc::clone(x.set_n(&self.device, n)?),
        };
        let kernel = table.kernel(&["embed"]).with("ACCUMULATE", accumulate);
        for shard in &table.shards {
            let [quants, fields, grids] = table.bound(shard);
            let bound = [quants, fields, grids, ids, Bound::Memory(&memory)];
            let immediates = [
                table.blocks(shard) as u32,
                table.units() as u32,
                stride as u32,
                width as u32,
                ids_at,
                shard.rows.start as u32,
                shard.rows.len() as u32,
            ];
            session.dispatch(&kernel, &bound, &immediates, [n, 1, 1])?;
        }
        session.end()
    }
}
