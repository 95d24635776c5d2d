//! The inside of quantised blocks: scales, nibbles, high bits, and the order of blocks.

use super::draft::Draft;
use super::rows::tensors;
use super::{Done, Plant};
use crate::Result;
use crate::stats::Dice;
use crate::tensor::DType;

/// Where a block keeps its f16 scale; `None` for encodings whose blocks have none.
pub(super) fn scale_at(dtype: DType) -> Option<usize> {
    match dtype {
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => Some(0),
        DType::Q4_K | DType::Q5_K | DType::AprQ4 => Some(0),
        DType::Q2_K => Some(80),
        DType::Q3_K => Some(108),
        DType::Q6_K => Some(208),
        _ => None,
    }
}

/// Where a block of 32 keeps its nibbles: element `i` in the low half of byte `i`, `16 + i` in its high half, except
/// for aprender's int4, which interleaves.
fn nibbles_at(dtype: DType) -> Option<std::ops::Range<usize>> {
    match dtype {
        DType::Q4_0 | DType::AprQ4 => Some(2..18),
        DType::Q4_1 => Some(4..20),
        DType::Q5_0 => Some(6..22),
        DType::Q5_1 => Some(8..24),
        DType::Q4_K => Some(16..144),
        DType::Q5_K => Some(48..176),
        _ => None,
    }
}

/// A high bit flipped in the scale of one block.
pub(super) const SCALE_BIT: Plant = |draft, dice| {
    let what = "the highest exponent bit of one block's scale is flipped";
    in_blocks(
        draft,
        dice,
        what,
        |dtype| scale_at(dtype).is_some(),
        |dtype, blocks, dice| {
            let block = dice.below(blocks.len() / dtype.block_bytes()) * dtype.block_bytes();
            if let Some(at) = scale_at(dtype) {
                blocks[block + at + 1] ^= 0x40;
            }
        },
    )
};

/// The sign of every scale flipped.
pub(super) const SCALE_SIGN: Plant = |draft, dice| {
    let what = "the sign of every block's scale is flipped";
    in_blocks(
        draft,
        dice,
        what,
        |dtype| scale_at(dtype).is_some(),
        |dtype, blocks, _| {
            for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
                if let Some(at) = scale_at(dtype) {
                    block[at + 1] ^= 0x80;
                }
            }
        },
    )
};

/// Low and high nibbles swapped.
pub(super) const NIBBLES_SWAPPED: Plant = |draft, dice| {
    let what = "low and high nibbles are swapped";
    in_blocks(
        draft,
        dice,
        what,
        |dtype| nibbles_at(dtype).is_some(),
        |dtype, blocks, _| {
            let Some(range) = nibbles_at(dtype) else { return };
            for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
                block[range.clone()].iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
            }
        },
    )
};

/// Nibbles written as neighbors where halves are due, or as halves where neighbors are.
pub(super) const NIBBLES_INTERLEAVED: Plant = |draft, dice| {
    let what = "nibbles are in the order of another format";
    let of_32 = |dtype: DType| nibbles_at(dtype).is_some_and(|range| range.len() == 16);
    in_blocks(draft, dice, what, of_32, |dtype, blocks, _| {
        let Some(range) = nibbles_at(dtype) else { return };
        for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
            let bytes = &mut block[range.clone()];
            let (low, high) = (|b: &u8| b & 15, |b: &u8| b >> 4);
            let elements: Vec<u8> = if dtype == DType::AprQ4 {
                bytes.iter().flat_map(|b| [low(b), high(b)]).collect()
            } else {
                bytes.iter().map(low).chain(bytes.iter().map(high)).collect()
            };
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = match dtype {
                    DType::AprQ4 => elements[i] | elements[i + 16] << 4,
                    _ => elements[2 * i] | elements[2 * i + 1] << 4,
                };
            }
        }
    })
};

/// The blocks of every row moved by one.
pub(super) const BLOCKS_ROTATED: Plant = |draft, dice| {
    let several = tensors(draft, |t| {
        let block = t.dtype.block_len();
        t.dtype.is_quantized() && block > 1 && t.shape.ndim() == 2 && t.shape.row_len() >= 2 * block
    });
    let Some(t) = dice.pick(&several).cloned() else { return Ok(None) };
    let Some(range) = draft.byte_range(&t)? else { return Ok(None) };
    let mut bytes = draft.stored(&t.stored)?.tensor.bytes.to_vec();
    let size = t.dtype.block_bytes();
    let row = t.shape.row_len() / t.dtype.block_len() * size;
    if !t.shape.row_len().is_multiple_of(t.dtype.block_len()) {
        return Ok(None);
    }
    bytes[range].chunks_exact_mut(row).for_each(|row| row.rotate_left(size));
    draft.replace(&t.stored, bytes)?;
    Done::of(&t.name, format!("{}: the blocks of every row are moved by one", t.name))
};

/// Minimums of blocks lost.
pub(super) const MINIMUM_LOST: Plant = |draft, dice| {
    let at = |dtype: DType| match dtype {
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => Some(2),
        DType::Q2_K => Some(82),
        _ => None,
    };
    in_blocks(
        draft,
        dice,
        "the minimum of every block is 0",
        |dtype| at(dtype).is_some(),
        |dtype, blocks, _| {
            for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
                if let Some(at) = at(dtype) {
                    block[at..at + 2].fill(0);
                }
            }
        },
    )
};

/// The fields beside nibbles and scale in another order: high bits of five-bit blocks, packed scales of K-quants.
pub(super) const FIELDS_SCRAMBLED: Plant = |draft, dice| {
    let field = |dtype: DType| match dtype {
        DType::Q5_0 => Some(2..6),
        DType::Q5_1 => Some(4..8),
        DType::Q4_K | DType::Q5_K => Some(4..16),
        DType::Q6_K => Some(192..208),
        DType::Q3_K => Some(96..108),
        DType::Q2_K => Some(0..16),
        _ => None,
    };
    let what = "high bits or packed scales are in reverse order";
    in_blocks(
        draft,
        dice,
        what,
        |dtype| field(dtype).is_some(),
        |dtype, blocks, _| {
            for block in blocks.chunks_exact_mut(dtype.block_bytes()) {
                if let Some(range) = field(dtype) {
                    block[range].reverse();
                }
            }
        },
    )
};

/// Changes the blocks of one tensor whose encoding `wanted` accepts.
fn in_blocks(
    draft: &mut Draft,
    dice: &mut Dice,
    what: &str,
    wanted: impl Fn(DType) -> bool,
    change: impl FnOnce(DType, &mut [u8], &mut Dice),
) -> Result<Option<Done>> {
    let Some(t) = dice.pick(&tensors(draft, |t| wanted(t.dtype))).cloned() else { return Ok(None) };
    let Some(range) = draft.byte_range(&t)? else { return Ok(None) };
    let mut bytes = draft.stored(&t.stored)?.tensor.bytes.to_vec();
    let size = t.dtype.block_bytes();
    let whole = range.start..range.start + range.len() / size * size;
    change(t.dtype, &mut bytes[whole], dice);
    draft.replace(&t.stored, bytes)?;
    Done::of(&t.name, format!("{}: {what}", t.name))
}
