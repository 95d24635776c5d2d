//! Products of weights: which kernel takes them, in what numbers, and where the results go.

use super::cooperative::Cooperative;
use super::matrix::Matrix;
use super::memory::{Memory, Rows};
use super::pipelines::Kernel;
use super::recorder::{Bound, Scratch, Session};
use super::{LANES, UNIT, Wgpu, plane};
use crate::Result;
use crate::engine::{Linear, Numerics, ProductRule};
use std::sync::Arc;

/// Tokens up to which a product is taken by `matvec`, so many at once.
const FEW: usize = 4;

/// Tokens that a product takes with `matvec` at most; above, `matmul` reads weights less often. The bits are the same.
const MATVEC: usize = 8;

/// Rows and tokens to a workgroup of `matmul` and of `matmul_wide`.
const TILE: usize = 64;
const TILE_WIDE: usize = 32;

/// Vectors of four words that a unit of activations takes in f32, as 16-bit integers, and in f16.
const SINGLE_UNIT: usize = 8;
const WIDE_UNIT: usize = 5;
const HALF_UNIT: usize = 4;

/// What becomes of a product: the numbers of `kernels/epilogue.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epilogue {
    Set = 0,
    Add = 1,
    SiluGate = 2,
    GeluGate = 3,
    Gelu = 4,
}

/// Where a product goes.
pub(super) struct Out<'a> {
    pub memory: &'a Arc<Memory>,
    pub stride: usize,
    pub epilogue: Epilogue,
}

/// The numbers that a product is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// f32 and f32: contract `matmul`.
    Single,
    /// Levels and 16-bit integers: contract `matmul_wide`.
    Wide,
    /// f16 and f16 in cooperative matrices: contract `matmul_half`.
    Half(Cooperative),
}

impl Form {
    /// The law of products in this form.
    pub(super) fn rule(self) -> ProductRule {
        match self {
            Form::Single => ProductRule::Plain,
            Form::Wide => ProductRule::Wide,
            Form::Half(_) => ProductRule::Half,
        }
    }
}

/// What weights are multiplied with: `n` rows of f32, and in the form that fast numerics want.
pub(super) struct Operand {
    n: usize,
    rows: Vectors,
    fast: Option<Vectors>,
}

/// Rows of activations, and how many vectors of four words it is from one to the next.
struct Vectors {
    memory: Arc<Memory>,
    stride: usize,
}

/// How many rows and tokens a workgroup of a kernel takes.
struct Tile {
    rows: usize,
    tokens: usize,
}

/// Lanes to a row of `units` for `matvec`: the most of which three quarters work, as neighbours read neighbouring bytes.
fn lanes(units: usize) -> usize {
    let chunks = units.div_ceil(2);
    let busy = |lanes: &usize| 4 * chunks >= 3 * chunks.next_multiple_of(*lanes);
    [16, 8, 4, 2].into_iter().find(busy).unwrap_or(1)
}

impl Wgpu {
    /// `n` rows, so far from each other, as the kernels of these weights read them.
    pub(super) fn operand<'a>(
        &self,
        session: &mut Session<'_>,
        (memory, n, stride): (Arc<Memory>, usize, usize),
        weights: impl IntoIterator<Item = &'a Matrix>,
    ) -> Result<Operand> {
        // All weights that are not multiplied in f32 are in the same form.
        let form = weights.into_iter().map(|weight| self.form(weight)).find(|form| *form != Form::Single);
        let fast = match form {
            Some(Form::Wide) => Some(self.wide(session, &memory, n, stride)?),
            Some(Form::Half(_)) => Some(self.half(session, &memory, n, stride)?),
            Some(Form::Single) | None => None,
        };
        Ok(Operand { n, rows: Vectors { memory, stride: stride / UNIT * SINGLE_UNIT }, fast })
    }

    /// The form in which this backend multiplies with `weight`.
    pub(super) fn form(&self, weight: &Matrix) -> Form {
        match (self.numerics, self.device.cooperative) {
            (Numerics::Fast, Some(cooperative)) if weight.fits_half() => Form::Half(cooperative),
            (Numerics::Fast, None) if weight.has_levels() => Form::Wide,
            (Numerics::Fast | Numerics::Exact, _) => Form::Single,
        }
    }

    /// All rows of `x`, and how far from each other they are.
    pub(super) fn whole(&self, x: &Rows) -> Result<(Arc<Memory>, usize, usize)> {
        Ok((x.memory(&self.device)?, x.n, x.stride()))
    }

    /// `n` rows in 16-bit integers.
    fn wide(&self, session: &mut Session<'_>, rows: &Arc<Memory>, n: usize, row: usize) -> Result<Vectors> {
        let units = row / UNIT;
        let stride = units * WIDE_UNIT;
        let memory = session.scratch(Scratch::Wide, n * stride * size_of::<[u32; 4]>())?;
        let immediates = [units, n, row].map(|n| n as u32);
        let bound = [Bound::Memory(rows), Bound::Memory(&memory)];
        let [across, down] = plane((n * units).div_ceil(LANES));
        let kernel = Kernel::new(&["quantize_activations_wide"]);
        session.dispatch(&kernel, &bound, &immediates, [across, down, 1])?;
        Ok(Vectors { memory, stride })
    }

    /// `n` rows in f16, each with its scale.
    fn half(&self, session: &mut Session<'_>, rows: &Arc<Memory>, n: usize, row: usize) -> Result<Vectors> {
        let units = row / UNIT;
        let stride = units * HALF_UNIT + 1;
        let memory = session.scratch(Scratch::Half, n * stride * size_of::<[u32; 4]>())?;
        let immediates = [units, units * SINGLE_UNIT].map(|n| n as u32);
        let bound = [Bound::Memory(rows), Bound::Memory(&memory)];
        session.dispatch(&Kernel::new(&["round_activations_half"]), &bound, &immediates, [n, 1, 1])?;
        Ok(Vectors { memory, stride })
    }

    /// The kernel that multiplies `weight` with `n` tokens, and what a workgroup of it takes.
    fn kernel(&self, weight: &Matrix, form: Form, n: usize, lanes: usize) -> (Kernel, Tile) {
        let few = |unit: &[&'static str]| {
            // Few kernels of many tokens: each takes a while to compile.
            let tokens = if n == 1 { 1 } else { FEW };
            let kernel = weight.product_kernel("matvec", unit).with("TOKENS: u32", tokens);
            (kernel, Tile { rows: LANES / lanes, tokens })
        };
        let tile = |op, parts: &[&'static str], side| {
            (weight.product_kernel(op, parts), Tile { rows: side, tokens: side })
        };
        match form {
            Form::Single if n <= MATVEC => few(&["unit_f32"]),
            Form::Single => tile("matmul", &[], TILE),
            Form::Wide if n <= MATVEC => few(&["unit_wide", "accumulate"]),
            Form::Wide => tile("matmul_wide", &["accumulate"], TILE_WIDE),
            Form::Half(matrices) => {
                let side = matrices.side as usize;
                let (op, tokens) = if n <= side { ("matvec_half", side) } else { ("matmul_half", TILE) };
                let (kernel, tile) = tile(op, &["cooperative"], tokens);
                (matrices.with(kernel), tile)
            }
        }
    }

    /// `out = epilogue(x weightᵀ + bias)`.
    pub(super) fn product(
        &self,
        session: &mut Session<'_>,
        (weight, bias): (&Matrix, Option<&Arc<Memory>>),
        x: &Operand,
        out: &Out<'_>,
    ) -> Result<()> {
        let form = self.form(weight);
        let lanes = lanes(weight.units());
        let (kernel, tile) = self.kernel(weight, form, x.n, lanes);
        let Vectors { memory: from, stride: x_stride } = match (form, &x.fast) {
            (Form::Wide | Form::Half(_), Some(fast)) => fast,
            (Form::Single, _) | (_, None) => &x.rows,
        };
        for shard in &weight.shards {
            let [quants, fields, grids] = weight.bound(shard);
            // A kernel without a bias reads none, but something must be bound.
            let bias_or_any = Bound::Memory(bias.unwrap_or(from));
            let bound = [quants, fields, grids, Bound::Memory(from), bias_or_any, Bound::Memory(out.memory)];
            let immediates = [
                weight.blocks(shard),
                weight.units(),
                shard.rows.len(),
                shard.rows.start,
                x.n,
                *x_stride,
                out.stride,
                usize::from(bias.is_some()),
                out.epilogue as usize,
                lanes,
            ];
            let [across, down] = plane(shard.rows.len().div_ceil(tile.rows));
            let layers = x.n.div_ceil(tile.tokens);
            session.dispatch(&kernel, &bound, &immediates.map(|n| n as u32), [across, down, layers])?;
        }
        Ok(())
    }

    /// As [`Wgpu::product`], into `out`, whose rows are set where nothing of them is needed.
    pub(super) fn rows_product(
        &self,
        session: &mut Session<'_>,
        linear: &Linear<Self>,
        x: &Operand,
        (out, epilogue): (&mut Rows, Epilogue),
    ) -> Result<()> {
        let stride = out.stride();
        let memory = match epilogue {
            Epilogue::Set | Epilogue::Gelu => Arc::clone(out.set_n(&self.device, x.n)?),
            Epilogue::Add | Epilogue::SiluGate | Epilogue::GeluGate => out.memory(&self.device)?,
        };
        let out = Out { memory: &memory, stride, epilogue };
        self.product(session, (&linear.weight, linear.bias.as_ref()), x, &out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_many_and_few_of_them_idle() {
        // Columns of tiny, small and large models.
        let expected =
            [(32, 1), (64, 1), (128, 2), (192, 4), (256, 4), (576, 4), (896, 16), (1536, 16), (14336, 16)];
        assert_eq!(expected.map(|(columns, _)| (columns, lanes(columns / UNIT))), expected);
    }
}
