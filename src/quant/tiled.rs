//! Row tiles: sixteen rows of a block-quantised matrix with equal fields side by side, byte for byte the same blocks.
//!
//! A tile is 16 consecutive rows of a tensor `[rows, row_len]`; the last one is padded with rows of zero bytes. It
//! holds block after block of those rows, field after field of a block, each `[len / unit][16 rows][unit bytes]`. Quants
//! have units of 4 bytes, so that 64 bytes hold four neighbors of each of 16 rows. Nothing is computed: a tile
//! is a permutation of its rows' bytes (for the fifth bits of Q5_0 and Q5_1 and the quants of Q6_K, of their bits).
//!
//! Fields come in the order in which a product needs them, so that it reads one stream of memory from start to end:
//! a processor foresees one stream well, and several hardly.

use super::Codec;
use crate::tensor::{DType, Shape, Tensor};
use crate::{Error, Kind, Result};
use std::num::NonZeroUsize;
use std::thread;

/// Rows in a tile.
pub const ROWS: usize = 16;

/// Whether tensors of `dtype` can stand in tiles.
pub fn is_tiled(dtype: DType) -> bool {
    !fields(dtype).is_empty()
}

/// The bytes of a tensor's tiles: those of its blocks with the rows filled up to a multiple of [`ROWS`]. `None` for
/// an encoding without tiles, where there are not two dimensions, where a row is no whole number of blocks, and where
/// the size overflows.
pub fn tiled_len(dtype: DType, shape: &Shape) -> Option<usize> {
    let &[rows, row_len] = shape.0.as_slice() else { return None };
    if !is_tiled(dtype) {
        return None;
    }
    dtype.nbytes(&[rows.checked_next_multiple_of(ROWS)?, row_len].into())
}

/// The tiles of a whole tensor, made by `threads` threads.
///
/// # Errors
/// [`Kind::Unsupported`] where the tensor cannot be tiled; [`Kind::Malformed`] where bytes and shape disagree.
pub fn pack(tensor: &Tensor, threads: NonZeroUsize) -> Result<Vec<u8>> {
    let size = checked_len(tensor.dtype, &tensor.shape)?;
    super::check_size(tensor)?;
    // The rows that are really there bound the size but for fifteen of them.
    let mut out = vec![0; size];
    let tile = size / tensor.shape.rows().div_ceil(ROWS).max(1);
    if tile == 0 {
        return Ok(out);
    }
    shared(threads, tile, &tensor.bytes.plain(), &mut out, |rows, out| {
        let mut rows = rows.chunks_exact(tile / ROWS);
        pack_tile(tensor.dtype, std::array::from_fn(|_| rows.next()), out);
    });
    Ok(out)
}

/// The plain blocks of a tensor from its tiles, by `threads` threads. The padding is left out, whatever it holds.
///
/// # Errors
/// [`Kind::Unsupported`] where such a tensor cannot be tiled; [`Kind::Malformed`] where `tiles` has another length than
/// [`tiled_len`].
pub fn unpack(dtype: DType, shape: &Shape, tiles: &[u8], threads: NonZeroUsize) -> Result<Vec<u8>> {
    let size = checked_len(dtype, shape)?;
    if tiles.len() != size {
        let what = format!("{} bytes of tiles found, {size} needed", tiles.len());
        return Err(Error::new(Kind::Malformed, format!("{dtype} tensor of shape {shape}"), what));
    }
    let tile = size / shape.rows().div_ceil(ROWS).max(1);
    if tile == 0 {
        return Ok(Vec::new());
    }
    let mut out = vec![0; tile / ROWS * shape.rows()];
    shared(threads, tile, tiles, &mut out, |tile, rows| {
        for (r, row) in rows.chunks_exact_mut(tile.len() / ROWS).enumerate() {
            unpack_row(dtype, tile, r, row);
        }
    });
    Ok(out)
}

/// One tile from the blocks of its rows, `out.len() / ROWS` bytes each; an absent row is one of zero bytes.
///
/// # Panics
/// Where a row has another length, or that length is no whole number of blocks.
pub fn pack_tile(dtype: DType, rows: [Option<&[u8]>; ROWS], out: &mut [u8]) {
    check_tile(dtype, out.len());
    let row_bytes = out.len() / ROWS;
    assert!(rows.iter().flatten().all(|row| row.len() == row_bytes), "rows of {row_bytes} bytes");
    if rows.iter().any(Option::is_none) {
        out.fill(0);
    }
    for (column, mut rest) in out.chunks_exact_mut(ROWS * dtype.block_bytes()).enumerate() {
        for field in fields(dtype) {
            let (cell, behind) = rest.split_at_mut(field.len * ROWS);
            let start = column * dtype.block_bytes() + field.offset;
            for (r, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                let bytes = &row[start..start + field.len];
                match field.unit {
                    Unit::One => spread::<1>(bytes, r, cell),
                    Unit::Two => spread::<2>(bytes, r, cell),
                    Unit::Four => spread::<4>(bytes, r, cell),
                    Unit::HighBits => cell.as_chunks_mut().0[r] = by_four(word(bytes)),
                    Unit::Sixes => spread::<4>(by_step(bytes).as_flattened(), r, cell),
                }
            }
            rest = behind;
        }
    }
}

/// The plain blocks of row `row` of a tile: `tile.len() / ROWS` bytes.
///
/// # Panics
/// Where `out` has another length, that length is no whole number of blocks, or `row` is not below [`ROWS`].
pub fn unpack_row(dtype: DType, tile: &[u8], row: usize, out: &mut [u8]) {
    check_tile(dtype, tile.len());
    assert!(row < ROWS && out.len() == tile.len() / ROWS, "one row of a tile");
    for (column, mut rest) in tile.chunks_exact(ROWS * dtype.block_bytes()).enumerate() {
        for field in fields(dtype) {
            let (cell, behind) = rest.split_at(field.len * ROWS);
            let start = column * dtype.block_bytes() + field.offset;
            let bytes = &mut out[start..start + field.len];
            match field.unit {
                Unit::One => collect::<1>(cell, row, bytes),
                Unit::Two => collect::<2>(cell, row, bytes),
                Unit::Four => collect::<4>(cell, row, bytes),
                Unit::HighBits => bytes.copy_from_slice(&in_order(cell.as_chunks().0[row])),
                Unit::Sixes => {
                    let mut steps = [[0; SIXES]; STEPS];
                    collect::<4>(cell, row, steps.as_flattened_mut());
                    by_nibbles(&steps, bytes);
                }
            }
            rest = behind;
        }
    }
}

/// Decodes the elements `start .. start + out.len()` of a tensor that stands in `tiles`; both ends are block
/// boundaries. One row of plain blocks is made at a time.
///
/// # Panics
/// Where the range does not lie inside, or is no whole number of blocks.
pub(super) fn decode_range(
    codec: &dyn Codec,
    shape: &Shape,
    tiles: &[u8],
    mut start: usize,
    mut out: &mut [f32],
) {
    let width = shape.row_len();
    let tile = tiles.len() / shape.rows().div_ceil(ROWS).max(1);
    let mut blocks = vec![0; tile / ROWS];
    while !out.is_empty() {
        let (row, column) = (start / width, start % width);
        let (values, rest) = out.split_at_mut(out.len().min(width - column));
        unpack_row(codec.dtype(), &tiles[row / ROWS * tile..][..tile], row % ROWS, &mut blocks);
        codec.decode_range(&blocks, column, values);
        start += values.len();
        out = rest;
    }
}

/// A field of a block, and how many of its bytes stay together in a tile.
struct Field {
    /// In the GGML block.
    offset: usize,
    /// Bytes, a multiple of the unit.
    len: usize,
    unit: Unit,
}

enum Unit {
    One,
    Two,
    Four,
    /// The word with the fifth bits of 32 elements, as [`by_four`] has it.
    HighBits,
    /// The quants of a block of Q6_K as [`by_step`] has them, in units of four.
    Sixes,
}

const fn bytes(offset: usize, len: usize) -> Field {
    Field { offset, len, unit: Unit::One }
}

const fn half(offset: usize) -> Field {
    Field { offset, len: 2, unit: Unit::Two }
}

const fn quants(offset: usize, len: usize) -> Field {
    Field { offset, len, unit: Unit::Four }
}

const fn high_bits(offset: usize) -> Field {
    Field { offset, len: 4, unit: Unit::HighBits }
}

const fn sixes(offset: usize) -> Field {
    Field { offset, len: STEPS * SIXES, unit: Unit::Sixes }
}

/// The fields of an encoding's blocks in tiles, in their order; none where it has no tiles.
fn fields(dtype: DType) -> &'static [Field] {
    use DType::*;
    match dtype {
        Q4_0 => const { &[half(0), quants(2, 16)] },
        Q4_1 => const { &[half(0), half(2), quants(4, 16)] },
        Q5_0 => const { &[half(0), high_bits(2), quants(6, 16)] },
        Q5_1 => const { &[half(0), half(2), high_bits(4), quants(8, 16)] },
        Q8_0 => const { &[half(0), quants(2, 32)] },
        Q2_K => const { &[half(80), half(82), bytes(0, 16), quants(16, 64)] },
        Q3_K => const { &[half(108), bytes(96, 12), quants(0, 32), quants(32, 64)] },
        Q4_K => const { &[half(0), half(2), bytes(4, 12), quants(16, 128)] },
        Q5_K => const { &[half(0), half(2), bytes(4, 12), quants(16, 32), quants(48, 128)] },
        Q6_K => const { &[half(208), bytes(192, 16), sixes(0)] },
        F32 | F16 | BF16 | F64 | I8 | I16 | I32 | I64 | U8 => &[],
        IQ2_XXS | IQ2_XS | IQ3_XXS | IQ1_S | IQ4_NL | IQ3_S | IQ2_S | IQ4_XS | IQ1_M | TQ1_0 | TQ2_0
        | MXFP4 => &[],
        // Their blocks ignore rows.
        AprQ4 | AprQ8 => &[],
    }
}

/// Panics where `len` bytes are not whole blocks of a tile.
fn check_tile(dtype: DType, len: usize) {
    let whole = is_tiled(dtype) && len.is_multiple_of(ROWS * dtype.block_bytes());
    assert!(whole, "{len} bytes are no tile of {dtype}");
}

/// Copies the units of a field of row `row` to their places among those of 16 rows.
#[inline(always)]
fn spread<const UNIT: usize>(field: &[u8], row: usize, cell: &mut [u8]) {
    let slots = cell.as_chunks_mut::<UNIT>().0.as_chunks_mut::<ROWS>().0;
    for (slot, unit) in slots.iter_mut().zip(field.as_chunks::<UNIT>().0) {
        slot[row] = *unit;
    }
}

/// The inverse of [`spread`].
#[inline(always)]
fn collect<const UNIT: usize>(cell: &[u8], row: usize, field: &mut [u8]) {
    let slots = cell.as_chunks::<UNIT>().0.as_chunks::<ROWS>().0;
    for (unit, slot) in field.as_chunks_mut::<UNIT>().0.iter_mut().zip(slots) {
        *unit = slot[row];
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// Bit `4 g + j` of the word becomes bit `g` of byte `j`: group `g` of four elements finds its high bits in bit `g`
/// of every byte.
fn by_four(word: u32) -> [u8; 4] {
    std::array::from_fn(|j| {
        let every_fourth = word >> j & 0x1111_1111;
        let pairs = (every_fourth | every_fourth >> 3) & 0x0303_0303;
        let fours = (pairs | pairs >> 6) & 0x000f_000f;
        (fours | fours >> 12) as u8
    })
}

/// The inverse of [`by_four`], as the block's bytes.
fn in_order(bytes: [u8; 4]) -> [u8; 4] {
    let mut word = 0;
    for (j, byte) in bytes.iter().enumerate() {
        let fours = (u32::from(*byte) | u32::from(*byte) << 12) & 0x000f_000f;
        let pairs = (fours | fours << 6) & 0x0303_0303;
        word |= ((pairs | pairs << 3) & 0x1111_1111) << j;
    }
    word.to_le_bytes()
}

/// Sub-blocks of Q6_K: 16 elements each.
const STEPS: usize = 16;

/// Bytes of their quants.
const SIXES: usize = 12;

/// Where sub-block `step` has its quants in a block of Q6_K: its sixteen bytes of nibbles, whether they are the high
/// ones, its sixteen bytes of pairs, and the first bit of its pair in each.
const fn places(step: usize) -> (usize, u32, usize, u32) {
    let (half, quarter, side) = (step / 8, step / 2 % 4, step % 2 * 16);
    let nibbles = half * 64 + quarter % 2 * 32 + side;
    (nibbles, quarter as u32 / 2 * 4, 128 + half * 32 + side, 2 * quarter as u32)
}

/// The quants of a block of Q6_K, whose four low and two high bits stand apart, sub-block by sub-block: bytes 0 to 11 hold
/// elements 0 to 11, and above them the pairs of elements 12 to 15, the lowest above 8 to 11, the highest above 0 to
/// 3. So one stream of memory has all of a sub-block, and three of four groups take one operation.
fn by_step(block: &[u8]) -> [[u8; SIXES]; STEPS] {
    std::array::from_fn(|step| {
        let (nibbles, low, pairs, high) = places(step);
        let (nibbles, pairs) = (&block[nibbles..nibbles + 16], &block[pairs..pairs + 16]);
        let element = |l: usize| nibbles[l] >> low & 0x0f | (pairs[l] >> high & 3) << 4;
        std::array::from_fn(|l| {
            let last = element(12 + l % 4);
            element(l) | (last >> (4 - l / 4 * 2) & 3) << 6
        })
    })
}

/// The inverse of [`by_step`].
fn by_nibbles(steps: &[[u8; SIXES]; STEPS], block: &mut [u8]) {
    block.fill(0);
    for (step, bytes) in steps.iter().enumerate() {
        let (nibbles, low, pairs, high) = places(step);
        for l in 0..16usize {
            let element = match l.checked_sub(SIXES) {
                None => bytes[l] & 0x3f,
                Some(j) => bytes[8 + j] >> 6 | bytes[4 + j] >> 6 << 2 | bytes[j] >> 6 << 4,
            };
            block[nibbles + l] |= (element & 0x0f) << low;
            block[pairs + l] |= element >> 4 << high;
        }
    }
}

/// The size of the tiles of such a tensor.
fn checked_len(dtype: DType, shape: &Shape) -> Result<usize> {
    tiled_len(dtype, shape).ok_or_else(|| {
        Error::unsupported(format!("{dtype} tensor of shape {shape}"), "such a tensor has no row tiles")
    })
}

/// Runs `work` on the pieces of `tile` bytes of `from` and `to` pairwise (the last ones may be shorter), consecutive
/// ones on one thread.
fn shared(
    threads: NonZeroUsize,
    tile: usize,
    from: &[u8],
    to: &mut [u8],
    work: impl Fn(&[u8], &mut [u8]) + Sync,
) {
    let share = from.len().div_ceil(tile).div_ceil(threads.get()).max(1) * tile;
    let run = |from: &[u8], to: &mut [u8]| {
        from.chunks(tile).zip(to.chunks_mut(tile)).for_each(|(from, to)| work(from, to));
    };
    let mut shares = from.chunks(share).zip(to.chunks_mut(share));
    let Some((first_from, first_to)) = shares.next() else { return };
    thread::scope(|scope| {
        for (from, to) in shares {
            let run = &run;
            scope.spawn(move || run(from, to));
        }
        run(first_from, first_to);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix;
    use crate::tensor::Bytes;
    use DType::*;

    const TILED: [DType; 10] = [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K];

    fn threads(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    fn random(dtype: DType, rows: usize, columns: usize, seed: u64) -> Tensor {
        let mut random = SplitMix(seed);
        let bytes = (0..rows * columns * dtype.block_bytes()).map(|_| random.bits() as u8).collect();
        let shape = [rows, columns * dtype.block_len()].into();
        Tensor { dtype, shape, bytes: Bytes::from_vec(bytes) }
    }

    #[test]
    fn tiles_unpack_to_the_bytes_they_were_packed_from() {
        for dtype in TILED {
            for (rows, columns) in [(1, 1), (15, 2), (16, 1), (17, 3), (48, 2), (61, 1)] {
                let tensor = random(dtype, rows, columns, rows as u64);
                let tiles = pack(&tensor, threads(1)).unwrap();
                assert_eq!(tiles.len(), tiled_len(dtype, &tensor.shape).unwrap());
                assert_eq!(pack(&tensor, threads(3)).unwrap(), tiles, "{dtype}, {rows} rows");
                for n in [1, 2, 7] {
                    let plain = unpack(dtype, &tensor.shape, &tiles, threads(n)).unwrap();
                    assert!(plain == *tensor.bytes, "{dtype}, {rows} rows, {n} threads");
                }
            }
        }
    }

    #[test]
    fn every_byte_of_a_tile_is_one_byte_of_a_row_and_padding_is_zero() {
        for dtype in TILED {
            let mut covered = vec![0; dtype.block_bytes()];
            for field in fields(dtype) {
                covered[field.offset..field.offset + field.len].iter_mut().for_each(|n| *n += 1);
            }
            assert!(covered.iter().all(|n| *n == 1), "{dtype} {covered:?}");
            // One set bit goes to one bit, and no two to the same.
            let (columns, size) = (2, 2 * dtype.block_bytes());
            let mut seen = vec![0u8; ROWS * size];
            for row in 0..ROWS {
                for bit in 0..size * 8 {
                    let mut bytes = vec![0; size];
                    bytes[bit / 8] = 1 << (bit % 8);
                    let mut rows = [None; ROWS];
                    rows[row] = Some(bytes.as_slice());
                    let mut tile = vec![0xff; ROWS * columns * dtype.block_bytes()];
                    pack_tile(dtype, rows, &mut tile);
                    assert_eq!(tile.iter().map(|b| b.count_ones()).sum::<u32>(), 1, "{dtype}");
                    for (seen, b) in seen.iter_mut().zip(&tile) {
                        assert_eq!(*seen & b, 0, "{dtype}");
                        *seen |= b;
                    }
                }
            }
            assert!(seen.iter().all(|b| *b == 0xff), "{dtype}");
        }
    }

    #[test]
    fn known_bytes_stand_where_the_layout_says() {
        // Row, byte of the row (two blocks a row), byte of the tile.
        for (dtype, known) in [
            // Per block of 288: scales, quants from 32.
            (Q4_0, &[(0, 2, 32), (1, 3, 37), (15, 6, 156), (2, 20, 328), (3, 1, 7), (4, 18, 296)][..]),
            // Per block of 352: scales, high bits from 32, quants from 96.
            (Q5_0, &[(0, 6, 96), (5, 22 + 6 + 15, 352 + 96 + 192 + 23), (0, 0, 0), (7, 23, 352 + 15)]),
            // Per block of 2304: d, dmin from 32, scales from 64, quants from 256.
            (
                Q4_K,
                &[
                    (0, 16, 256),
                    (9, 144 + 143, 2304 + 256 + 2023),
                    (2, 4 + 11, 64 + 178),
                    (1, 1, 3),
                    (0, 2, 32),
                ],
            ),
            // Per block of 3360: d, scales from 32; the quants from 288 are no bytes of a row.
            (Q6_K, &[(3, 208, 6), (0, 192, 32), (4, 192, 36), (4, 210 + 193, 3412), (15, 209, 31)]),
        ] {
            let tensor = random(dtype, ROWS, 2, 9);
            let tiles = pack(&tensor, threads(1)).unwrap();
            for (row, from, to) in known {
                let byte = tensor.bytes[row * 2 * dtype.block_bytes() + from];
                assert_eq!(tiles[*to], byte, "{dtype} row {row} byte {from}");
            }
        }
    }

    #[test]
    fn the_high_bits_of_four_elements_share_a_bit_number() {
        let element = |i: usize| by_four(1 << i);
        assert_eq!(element(0), [1, 0, 0, 0]);
        assert_eq!(element(3), [0, 0, 0, 1]);
        assert_eq!(element(4), [2, 0, 0, 0]);
        assert_eq!(element(30), [0, 0, 128, 0]);
        // In a tile of Q5_1: scales and minima 64 bytes, then row 6's four bytes.
        let mut rows = vec![0; 16 * 24];
        rows[6 * 24 + 4..6 * 24 + 8].copy_from_slice(&(1u32 << 30 | 1 << 3).to_le_bytes());
        let tensor = Tensor { dtype: Q5_1, shape: [16, 32].into(), bytes: Bytes::from_vec(rows) };
        let tiles = pack(&tensor, threads(1)).unwrap();
        assert_eq!(tiles[64 + 24..64 + 28], [0, 0, 128, 1]);
    }

    #[test]
    fn six_bits_stand_by_sub_block_with_the_last_four_above_the_others() {
        // Element 5 of sub-block 0 (half 0, quarter 0), 13 of sub-block 7 (quarter 3, side 1), 1 of 8 (half 1).
        let mut block = [0; 192];
        block[5] = 0x0b;
        block[128 + 5] = 0x02;
        block[32 + 16 + 13] = 0xd0;
        block[128 + 16 + 13] = 0x40;
        block[64 + 1] = 0x01;
        let steps = by_step(&block);
        let mut expected = [[0; 12]; 16];
        expected[0][5] = 0x2b;
        // 0x1d = 01 11 01: above elements 1, 5 and 9.
        (expected[7][1], expected[7][5], expected[7][9]) = (0x40, 0xc0, 0x40);
        expected[8][1] = 1;
        assert_eq!(steps, expected);
        let mut again = [0xff; 192];
        by_nibbles(&steps, &mut again);
        assert_eq!(again, block);
        // In a tile: row 3's byte 5 of sub-block 0 is in its second line.
        let mut rows = vec![0; 16 * 210];
        rows[3 * 210..][..192].copy_from_slice(&block);
        let tensor = Tensor { dtype: Q6_K, shape: [16, 256].into(), bytes: Bytes::from_vec(rows) };
        let tiles = pack(&tensor, threads(1)).unwrap();
        assert_eq!(tiles[288 + 64 + 4 * 3 + 1], 0x2b);
        assert_eq!(tiles[288 + 7 * 192 + 2 * 64 + 4 * 3 + 1], 0x40);
    }

    #[test]
    fn what_has_no_tiles_and_lengths_that_lie_are_refused() {
        let one = threads(1);
        let len = |dtype, dims: &[usize]| tiled_len(dtype, &dims.into());
        assert_eq!(len(Q8_0, &[17, 64]), Some(32 * 68));
        assert_eq!(len(Q8_0, &[0, 64]), Some(0));
        for (dtype, dims) in [
            (F16, &[16, 32][..]),
            (AprQ4, &[16, 32]),
            (IQ4_NL, &[16, 32]),
            (Q8_0, &[16, 33]),
            (Q8_0, &[512]),
            (Q8_0, &[2, 16, 32]),
            (Q8_0, &[usize::MAX, 32]),
            (Q8_0, &[usize::MAX - 15, 32]),
            (Q4_K, &[16, usize::MAX - 255]),
        ] {
            assert_eq!(len(dtype, dims), None, "{dtype} {dims:?}");
            let error = unpack(dtype, &dims.into(), &[], one).unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
        }
        // A shape far beyond its bytes allocates nothing.
        let huge: Shape = [1 << 40, 1 << 10].into();
        assert_eq!(unpack(Q8_0, &huge, &[0; 544], one).unwrap_err().kind, Kind::Malformed);
        let lies = Tensor { dtype: Q8_0, shape: huge, bytes: Bytes::from_vec(vec![0; 34]) };
        assert_eq!(pack(&lies, one).unwrap_err().kind, Kind::Malformed);
        assert!(unpack(Q8_0, &[17, 32].into(), &[0; 17 * 34], one).is_err());
        assert!(unpack(Q8_0, &[0, 32].into(), &[], one).unwrap().is_empty());
    }
}
