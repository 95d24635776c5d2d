//! Weights in tiles of sixteen canonical rows: made once from the blocks of a file, or used as they stand in it.

use super::integer::{Panel, Run, TileProduct};
use super::isa::Isa;
use super::matrix::Piece;
use super::pool::Pool;
use super::quantized::Quantized;
use super::sink::Sink;
use super::tiles::{self, Flat8, Tile, TileEncoding};
use crate::models::{RowOrder, Weight};
use crate::quant::{self, tiled};
use crate::tensor::{Bytes, DType, Pages};
use crate::{Error, Kind, Result};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// A weight `[rows, width]` in tiles.
pub(super) struct TileMatrix {
    /// Of the tiles; `None` for signed bytes under one scale.
    dtype: Option<DType>,
    tiles: Tiles,
    n_rows: usize,
    width: usize,
    tile_bytes: usize,
    /// The scale of the tensor, where blocks have none.
    factor: f32,
}

/// Where the tiles are.
enum Tiles {
    /// In private memory.
    Made(Pages),
    /// In the file: the bytes of a tensor that stands tiled there.
    Stored(Bytes),
}

impl Deref for Tiles {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Tiles::Made(pages) => pages,
            Tiles::Stored(bytes) => bytes.tiles().unwrap_or_default(),
        }
    }
}

impl TileMatrix {
    /// `None` for an encoding without integer kernels.
    ///
    /// # Errors
    /// [`Kind::Environment`] where there is no memory; [`Kind::Internal`] for bytes that are not the shape's.
    pub(super) fn new(weight: &Weight, pool: &Pool) -> Result<Option<TileMatrix>> {
        let (tensor, order) = (&weight.tensor, weight.rows);
        let (n_rows, width) = (tensor.shape.rows(), tensor.shape.row_len());
        let form = match tensor.dtype {
            DType::AprQ8 if width.is_multiple_of(32) => Form::Flat8,
            DType::AprQ4 if width.is_multiple_of(32) => Form::Interleaved,
            dtype if tiled::is_tiled(dtype) && width.is_multiple_of(dtype.block_len()) => Form::Blocks(dtype),
            _ => return Ok(None),
        };
        if tensor.dtype.nbytes(&tensor.shape) != Some(tensor.bytes.len()) {
            let what = "a tensor's bytes do not belong to its shape";
            return Err(Error::new(Kind::Internal, "engine::cpu", what));
        }
        if let (Form::Blocks(dtype), RowOrder::Canonical, Some(stored)) = (form, order, tensor.bytes.tiles())
        {
            let tile_bytes = stored.len() / n_rows.div_ceil(tiled::ROWS).max(1);
            let (dtype, tiles) = (Some(dtype), Tiles::Stored(tensor.bytes.clone()));
            return Ok(Some(TileMatrix { dtype, tiles, n_rows, width, tile_bytes, factor: 1.0 }));
        }
        let plain = tensor.bytes.plain();
        let (scale, blocks) = match form {
            Form::Flat8 => plain.split_at(4),
            Form::Blocks(_) | Form::Interleaved => (&[0, 0, 0x80, 0x3f][..], &plain[..]),
        };
        let factor = f32::from_le_bytes(scale.try_into().expect("four bytes"));
        let row_bytes = blocks.len() / n_rows.max(1);
        let tile_bytes = row_bytes * tiled::ROWS;
        let n_tiles = n_rows.div_ceil(tiled::ROWS);
        let mut tiles = Pages::zeroed(n_tiles * tile_bytes).map_err(|e| {
            Error::new(
                Kind::Environment,
                "memory",
                format!("no room for {} bytes: {e}", n_tiles * tile_bytes),
            )
            .hint("use a smaller model or the backend `cpu`, which reads weights where they are mapped")
        })?;
        let start = AtomicPtr::new(tiles.as_mut_ptr());
        pool.run(n_tiles, &|t| {
            // SAFETY: every task has its own tile, which lies inside the `n_tiles` of them.
            let out = unsafe {
                std::slice::from_raw_parts_mut(start.load(Relaxed).add(t * tile_bytes), tile_bytes)
            };
            pack(form, order, blocks, t, n_rows, out);
        });
        tensor.bytes.release();
        let dtype = match form {
            Form::Flat8 => None,
            Form::Interleaved => Some(DType::Q4_0),
            Form::Blocks(dtype) => Some(dtype),
        };
        let tiles = Tiles::Made(tiles);
        Ok(Some(TileMatrix { dtype, tiles, n_rows, width, tile_bytes, factor }))
    }

    pub(super) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(super) fn row_cost(&self) -> usize {
        self.tile_bytes / tiled::ROWS
    }

    /// Canonical row `r`, decoded.
    pub(super) fn read_row(&self, r: usize, out: &mut [f32]) -> Result<()> {
        let (tile, row) = (self.tile(r / tiled::ROWS), r % tiled::ROWS);
        match self.dtype {
            Some(dtype) => {
                let mut blocks = vec![0; self.tile_bytes / tiled::ROWS];
                tiled::unpack_row(dtype, tile, row, &mut blocks);
                quant::codec(dtype)?.decode(&blocks, out);
            }
            None => {
                for (k, y) in out.iter_mut().enumerate() {
                    *y = f32::from(tile[k / 4 * 64 + 4 * row + k % 4] as i8) * self.factor;
                }
            }
        }
        Ok(())
    }

    /// The products of the rows of `piece` with every token of `x`.
    pub(super) fn multiply(&self, isa: Isa, x: &Quantized, piece: &Piece<'_>, sink: Sink<'_>) {
        debug_assert!(piece.rows.start.is_multiple_of(tiled::ROWS) && x.width() == self.width);
        let tiles = piece.rows.start / tiled::ROWS..piece.rows.end.div_ceil(tiled::ROWS);
        PANEL.with_borrow_mut(|panel| {
            for t in tiles.clone() {
                let next = if t + 1 < tiles.end { self.tile(t + 1) } else { piece.next };
                let job = Job { matrix: self, isa, tile: t, next, x, panel, sink: &sink };
                match self.dtype {
                    Some(dtype) => job.dispatch(dtype),
                    None => job.run::<Flat8>(32),
                }
            }
        });
    }

    pub(super) fn tile(&self, t: usize) -> &[u8] {
        &self.tiles[t * self.tile_bytes..(t + 1) * self.tile_bytes]
    }
}

/// How the bytes of a row stand.
#[derive(Clone, Copy)]
enum Form {
    /// GGML blocks.
    Blocks(DType),
    /// Blocks of Q4_0, but for the order of their nibbles: 0 and 1, 2 and 3, .. share a byte.
    Interleaved,
    /// One signed byte per element.
    Flat8,
}

/// Tile `t` of the rows in `blocks`.
fn pack(form: Form, order: RowOrder, blocks: &[u8], t: usize, n_rows: usize, out: &mut [u8]) {
    let row_bytes = out.len() / tiled::ROWS;
    let row = |i: usize| {
        let r = t * tiled::ROWS + i;
        (r < n_rows).then(|| &blocks[order.stored_row(r) * row_bytes..][..row_bytes])
    };
    let rows: [Option<&[u8]>; tiled::ROWS] = std::array::from_fn(row);
    match form {
        Form::Blocks(dtype) => tiled::pack_tile(dtype, rows, out),
        Form::Interleaved => {
            let plain = rows.map(|row| row.map(by_halves));
            tiled::pack_tile(DType::Q4_0, std::array::from_fn(|i| plain[i].as_deref()), out);
        }
        Form::Flat8 => {
            for (i, row) in rows.into_iter().enumerate() {
                for (g, four) in row.into_iter().flat_map(|row| row.as_chunks::<4>().0).enumerate() {
                    out[64 * g + 4 * i..][..4].copy_from_slice(four);
                }
            }
        }
    }
}

/// Blocks of [`Form::Interleaved`] as those of Q4_0: elements `j` and `j + 16` share a byte.
fn by_halves(row: &[u8]) -> Vec<u8> {
    let mut out = row.to_vec();
    for block in out.as_chunks_mut::<18>().0 {
        let old = *block;
        let nibble = |k: usize| old[2 + k / 2] >> (k % 2 * 4) & 0x0f;
        for (j, byte) in block[2..].iter_mut().enumerate() {
            *byte = nibble(j) | nibble(j + 16) << 4;
        }
    }
    out
}

struct Job<'a> {
    matrix: &'a TileMatrix,
    isa: Isa,
    tile: usize,
    next: &'a [u8],
    x: &'a Quantized,
    panel: &'a mut Panel,
    sink: &'a Sink<'a>,
}

impl Job<'_> {
    fn dispatch(self, dtype: DType) {
        match dtype {
            DType::Q4_0 => self.run::<tiles::Q4_0>(32),
            DType::Q4_1 => self.run::<tiles::Q4_1>(32),
            DType::Q5_0 => self.run::<tiles::Q5_0>(32),
            DType::Q5_1 => self.run::<tiles::Q5_1>(32),
            DType::Q8_0 => self.run::<tiles::Q8_0>(32),
            DType::Q2_K => self.run::<tiles::Q2K>(256),
            DType::Q3_K => self.run::<tiles::Q3K>(256),
            DType::Q4_K => self.run::<tiles::Q4K>(256),
            DType::Q5_K => self.run::<tiles::Q5K>(256),
            DType::Q6_K => self.run::<tiles::Q6K>(256),
            other => unreachable!("`TileMatrix::new` makes no tiles of {other}"),
        }
    }

    fn run<E: TileEncoding>(self, block_len: usize) {
        let columns = self.matrix.width / block_len;
        self.isa.run(Run(
            TileProduct {
                tile: Tile::new(self.matrix.tile(self.tile), self.matrix.factor),
                next: self.next,
                columns,
                first_row: self.tile * tiled::ROWS,
                x: self.x,
                panel: self.panel,
                sink: self.sink,
            },
            PhantomData::<E>,
        ));
    }
}

thread_local! {
    /// The unpacked rows of a tile.
    static PANEL: RefCell<Panel> = RefCell::new(Panel::default());
}

#[cfg(test)]
mod tests {
    use super::super::rows::Rows;
    use super::super::sink::Store;
    use super::*;
    use crate::engine::ProductRule;
    use crate::engine::random_model::{Random, tensor};
    use crate::tensor::Tensor;
    use std::num::NonZeroUsize;

    const ENCODINGS: [DType; 12] = [
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
        DType::AprQ4,
        DType::AprQ8,
    ];

    fn pool() -> Pool {
        Pool::new(NonZeroUsize::MIN).expect("no thread is started")
    }

    fn tiles(weight: &Weight) -> TileMatrix {
        TileMatrix::new(weight, &pool()).expect("there is memory").expect("an encoding with integer kernels")
    }

    #[test]
    fn rows_of_tiles_are_the_rows_of_the_weight() {
        let mut random = Random(4);
        for dtype in ENCODINGS {
            for rows in [RowOrder::Canonical, RowOrder::RopePairs { head_dim: 8 }] {
                let weight = Weight { tensor: tensor(dtype, &[40, 512], 0.0, 1.0, &mut random), rows };
                let matrix = tiles(&weight);
                assert_eq!(matrix.n_rows(), 40);
                let (mut expected, mut found) = (vec![0.0; 512], vec![0.0; 512]);
                for r in 0..40 {
                    quant::row_to_f32(&weight.tensor, rows.stored_row(r), &mut expected).expect("a row");
                    matrix.read_row(r, &mut found).expect("a row");
                    assert_eq!(found, expected, "{dtype} {rows:?} row {r}");
                }
            }
        }
    }

    #[test]
    fn tiles_of_a_file_are_used_as_they_stand() {
        let mut random = Random(6);
        for dtype in ENCODINGS.into_iter().filter(|dtype| tiled::is_tiled(*dtype)) {
            let plain = tensor(dtype, &[40, 512], 0.0, 1.0, &mut random);
            let stored = Bytes::from_vec(tiled::pack(&plain, NonZeroUsize::MIN).expect("tiles"));
            let bytes =
                Bytes::from_tiles(stored, plain.bytes.len(), |_| panic!("the plain blocks are not needed"));
            let in_tiles = Tensor { bytes, ..plain.clone() };
            let made = tiles(&Weight { tensor: plain, rows: RowOrder::Canonical });
            let used = tiles(&Weight { tensor: in_tiles.clone(), rows: RowOrder::Canonical });
            assert_eq!(
                used.tiles.as_ptr(),
                in_tiles.bytes.tiles().expect("tiled").as_ptr(),
                "nothing is copied"
            );
            assert!(*used.tiles == *made.tiles && used.tile_bytes == made.tile_bytes, "{dtype}");
        }
    }

    #[test]
    fn products_are_those_of_the_decoded_numbers() {
        let (n_rows, width) = (37, 512);
        let mut random = Random(5);
        let tolerance =
            crate::contract::kernels::Kernel::load("matmul_fast").expect("a built-in contract").tolerance;
        for dtype in ENCODINGS {
            let weight = Weight {
                tensor: tensor(dtype, &[n_rows, width], 0.3, 1.0, &mut random),
                rows: RowOrder::Canonical,
            };
            let rows: Vec<usize> = (0..n_rows).collect();
            let matrix = tiles(&weight);
            for n in [1, 3, 14] {
                let mut x = Rows::new(width);
                x.set_n(n);
                x.values_mut(0).fill(0.0);
                (0..n).for_each(|t| x.values_mut(t).iter_mut().for_each(|x| *x = 0.5 + random.signed()));
                let mut quantized = Quantized::default();
                quantized.fill(Isa::available()[0], &pool(), &x);
                let values: Vec<f32> = (0..n).flat_map(|t| x.values(t)).copied().collect();
                let operand = ProductRule::Bytes.operand(width, &values);
                let (products, _) = operand.products(&weight, None, &rows).expect("a codec");
                let expected: Vec<f32> = products.iter().map(|p| *p as f32).collect();
                for isa in Isa::available() {
                    let mut out = Rows::new(n_rows);
                    out.set_n(n);
                    // SAFETY: nobody else has `out`.
                    let sink = unsafe { Sink::new(None, (Store::Set, out.shared()), 0..n_rows) };
                    matrix.multiply(isa, &quantized, &Piece { rows: 0..n_rows, next: &[] }, sink);
                    let bound = tolerance.bound(&expected);
                    for (i, e) in expected.iter().enumerate() {
                        let found = out.values(i / n_rows)[i % n_rows];
                        let error = (f64::from(*e) - f64::from(found)).abs();
                        assert!(error <= bound, "{dtype} {} x {n}, {i}: {found} for {e}", isa.name());
                    }
                }
            }
        }
    }
}
