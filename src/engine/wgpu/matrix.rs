//! Weights on the device: rows in the encoding of their file, in shards that a binding can hold.

use super::UNIT;
use super::device::Device;
use super::memory::{Memory, STORAGE};
use super::pipelines::Kernel;
use super::planes::{self, Layout};
use super::recorder::Bound;
use super::upload::Upload;
use crate::Result;
use crate::models::Weight;
use crate::quant;
use crate::tensor::DType;
use std::ops::Range;
use std::sync::Arc;

/// A weight `[rows, columns]`.
pub struct Matrix {
    pub(super) rows: usize,
    columns: usize,
    layout: &'static Layout,
    grids: Option<Arc<Memory>>,
    pub(super) shards: Vec<Shard>,
}

/// Some rows of a weight, in one buffer.
pub(super) struct Shard {
    pub rows: Range<usize>,
    pub memory: Arc<Memory>,
}

/// Rows that are copied together are multiples of this, so that the pieces of every plane are whole words.
const ROWS: usize = 16;

/// Bytes of rows that are copied together, about.
const PIECE: usize = 4 << 20;

/// No shard is larger: drivers find no room for much larger ones.
const LARGEST_SHARD: u64 = 1 << 30;

impl Matrix {
    /// Copies `weight`, row by row in canonical order, to the device.
    ///
    /// # Errors
    /// [`crate::Kind::Unsupported`] for an encoding without a codec; [`crate::Kind::Environment`] where there is no
    /// memory for it.
    pub(super) fn new(device: &Arc<Device>, upload: &mut Upload, weight: &Weight) -> Result<Matrix> {
        let source = Source::new(weight)?;
        let layout = source.layout;
        let (rows, columns) = (weight.tensor.shape.rows(), weight.tensor.shape.row_len());
        let most = device.limits.max_storage_buffer_binding_size.min(device.limits.max_buffer_size);
        // The planes begin at multiples of 16 bytes, which takes a little more than the rows do.
        let most = (most.min(LARGEST_SHARD) as usize).saturating_sub(16 * (layout.fields.len() + 1));
        let fit = (most / (source.row_blocks * layout.block_bytes) / ROWS).max(1) * ROWS;
        let grids = layout.grids.map(|words| upload.words(&words())).transpose()?;
        let mut shards = Vec::new();
        for first in (0..rows).step_by(fit) {
            let rows = first..(first + fit).min(rows);
            let memory = source.shard(upload, device, rows.clone())?;
            shards.push(Shard { rows, memory });
        }
        weight.tensor.bytes.release();
        Ok(Matrix { rows, columns, layout, grids, shards })
    }

    /// Whether its kernels give levels and scales, so that it can be multiplied in integers.
    pub(super) fn has_levels(&self) -> bool {
        self.layout.levels
    }

    /// Whether f16 holds its numbers about as well as its encoding does, so that it can be multiplied in cooperative
    /// matrices.
    pub(super) fn fits_half(&self) -> bool {
        self.layout.levels || std::ptr::eq(self.layout, &planes::F16)
    }

    /// Units of 32 columns in a row.
    pub(super) fn units(&self) -> usize {
        self.columns.div_ceil(UNIT)
    }

    /// Blocks of a shard.
    pub(super) fn blocks(&self, shard: &Shard) -> usize {
        shard.rows.len() * self.units() * UNIT / self.layout.block_len
    }

    /// The kernel of these parts and of what decodes this weight.
    pub(super) fn kernel(&self, parts: &[&'static str]) -> Kernel {
        let levels = self.layout.levels.then_some("levels");
        let parts: Vec<&str> = parts.iter().copied().chain(levels).chain([self.layout.kernel]).collect();
        Kernel::new(&parts)
    }

    /// The kernel `op` of a product with this weight: of these parts and those of every product.
    pub(super) fn product_kernel(&self, op: &'static str, parts: &[&'static str]) -> Kernel {
        self.kernel(&[&[op], parts, &["products", "activation", "epilogue"]].concat())
    }

    /// The first bindings of every kernel that reads a shard: quants, fields, grids.
    pub(super) fn bound<'a>(&'a self, shard: &'a Shard) -> [Bound<'a>; 3] {
        let grids = self.grids.as_ref().unwrap_or(&shard.memory);
        [Bound::Memory(&shard.memory), Bound::Memory(&shard.memory), Bound::Memory(grids)]
    }
}

/// Where rows come from, and how they stand on the device.
struct Source<'a> {
    weight: &'a Weight,
    layout: &'static Layout,
    row_blocks: usize,
    /// Rows are decoded: a row of the device cannot be made of the blocks of their encoding.
    decoded: bool,
}

impl<'a> Source<'a> {
    fn new(weight: &'a Weight) -> Result<Self> {
        let (dtype, columns) = (weight.tensor.dtype, weight.tensor.shape.row_len());
        quant::codec(dtype)?;
        // The blocks of APR_Q4 ignore rows.
        let across_rows = dtype == DType::AprQ4 && !columns.is_multiple_of(UNIT);
        let own = planes::layout(dtype).filter(|_| !across_rows);
        let layout = own.unwrap_or(&planes::F32);
        // Every row is whole units, and whole blocks are whole units where they are larger.
        let row_blocks = columns.next_multiple_of(UNIT.max(layout.block_len)) / layout.block_len;
        Ok(Source { weight, layout, row_blocks, decoded: own.is_none() })
    }

    /// A buffer with the rows `rows`, plane after plane.
    fn shard(&self, upload: &mut Upload, device: &Arc<Device>, rows: Range<usize>) -> Result<Arc<Memory>> {
        let (layout, n_blocks) = (self.layout, rows.len() * self.row_blocks);
        let memory = Memory::new(device, layout.device_len(n_blocks) as u64, STORAGE)?;
        let row_bytes = self.row_blocks * layout.block_bytes;
        let step = (PIECE / row_bytes / ROWS).max(1) * ROWS;
        let mut piece = Vec::new();
        for first in rows.clone().step_by(step) {
            let end = (first + step).min(rows.end);
            piece.clear();
            piece.resize((end - first) * row_bytes, 0);
            for (r, out) in (first..end).zip(piece.chunks_exact_mut(row_bytes)) {
                self.row(r, out)?;
            }
            let before = (first - rows.start) * self.row_blocks;
            for (i, field) in layout.fields.iter().enumerate() {
                let at = layout.plane_offset(i, n_blocks) + before * field.len;
                let len = piece.len() / layout.block_bytes * field.len;
                upload.write(&memory, at as u64, len, |out| layout.gather(i, &piece, out))?;
            }
        }
        Ok(memory)
    }

    /// The blocks of canonical row `r`; `out` is as long as a row of the device, of zeros.
    fn row(&self, r: usize, out: &mut [u8]) -> Result<()> {
        let tensor = &self.weight.tensor;
        let stored = self.weight.rows.stored_row(r);
        let columns = tensor.shape.row_len();
        if self.decoded {
            let mut values = vec![0.0; columns];
            quant::row_to_f32(tensor, stored, &mut values)?;
            out[..columns * size_of::<f32>()].copy_from_slice(bytemuck::cast_slice(&values));
            return Ok(());
        }
        if tensor.dtype == DType::AprQ8 {
            // One scale for the tensor stands before the levels; here every block has it.
            let (scale, levels) = tensor.bytes.split_at(size_of::<f32>());
            let levels = &levels[stored * columns..(stored + 1) * columns];
            for (block, levels) in out.chunks_exact_mut(self.layout.block_bytes).zip(levels.chunks(UNIT)) {
                block[..levels.len()].copy_from_slice(levels);
                block[UNIT..].copy_from_slice(scale);
            }
            return Ok(());
        }
        let len = columns / tensor.dtype.block_len() * tensor.dtype.block_bytes();
        out[..len].copy_from_slice(&tensor.bytes[stored * len..(stored + 1) * len]);
        Ok(())
    }
}
