//! Values that changed: lost, scaled, noisy, cut, flipped.

use super::edit::row_bytes;
use super::rows::tensors;
use super::{Done, Plant, blocks};
use crate::contract::families::Role;
use crate::models::CanonicalTensor;
use crate::tensor::DType;

fn is_weight(t: &CanonicalTensor) -> bool {
    match t.role {
        Role::Linear | Role::Embedding | Role::Head | Role::Positions => true,
        Role::Norm | Role::Bias => false,
    }
}

/// One weight all zero.
pub(super) const ZEROED: Plant = |draft, dice| {
    let Some(t) = dice.pick(&tensors(draft, is_weight)).cloned() else { return Ok(None) };
    draft.change_values(&t, |values| values.fill(0.0))?;
    Done::of(&t.name, format!("{}: every value is 0", t.name))
};

/// Some rows of one weight all zero.
pub(super) const ROWS_ZEROED: Plant = |draft, dice| {
    let Some(t) = dice.pick(&tensors(draft, is_weight)).cloned() else { return Ok(None) };
    let (rows, width) = crate::models::rows_of(&t.shape);
    let count = (rows / 16).max(1);
    let first = dice.below(rows - count + 1);
    draft.change_values(&t, |values| values[first * width..(first + count) * width].fill(0.0))?;
    Done::of(&t.name, format!("{}: rows {first} to {} are 0", t.name, first + count - 1))
};

/// One tensor five per cent too large.
pub(super) const SCALED: Plant = |draft, dice| {
    let Some(t) = dice.pick(&tensors(draft, is_weight)).cloned() else { return Ok(None) };
    draft.change_values(&t, |values| values.iter_mut().for_each(|v| *v *= 1.05))?;
    Done::of(&t.name, format!("{}: every value is multiplied by 1.05", t.name))
};

/// Noise of a tenth of one tensor's size.
pub(super) const NOISE: Plant = |draft, dice| {
    let Some(t) = dice.pick(&tensors(draft, is_weight)).cloned() else { return Ok(None) };
    draft.change_values(&t, |values| {
        let power = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len().max(1) as f64;
        let deviation = power.sqrt() / 10.0;
        values.iter_mut().for_each(|v| *v += (dice.normal() * deviation) as f32);
    })?;
    Done::of(&t.name, format!("{}: noise of 20 dB", t.name))
};

/// Two-byte floats of one kind labelled as the other.
pub(super) const HALVES_CONFUSED: Plant = |draft, dice| {
    let halves = tensors(draft, |t| matches!(t.dtype, DType::BF16 | DType::F16));
    let Some(t) = dice.pick(&halves).cloned() else { return Ok(None) };
    let stored = draft.stored(&t.stored)?;
    let (from, to) = match stored.tensor.dtype {
        DType::BF16 => (DType::BF16, DType::F16),
        _ => (DType::F16, DType::BF16),
    };
    stored.tensor.dtype = to;
    let names = tensors(draft, |other| other.stored == t.stored).into_iter().map(|t| t.name);
    Done::of_many(names, format!("{}: {from} bytes are called {to}", t.name))
};

/// One weight, or the scale of one block, that is no number.
pub(super) const NON_FINITE: Plant = |draft, dice| {
    let candidates = tensors(draft, |t| t.dtype.is_plain_float() || blocks::scale_at(t.dtype).is_some());
    let Some(t) = dice.pick(&candidates).cloned() else { return Ok(None) };
    let Some(range) = draft.byte_range(&t)? else { return Ok(None) };
    let mut bytes = draft.stored(&t.stored)?.tensor.bytes.to_vec();
    let size = t.dtype.block_bytes();
    let block = range.start + dice.below(range.len() / size) * size;
    let infinite = dice.below(2) == 0;
    let half: [u8; 2] = if infinite { 0x7c00u16 } else { 0x7e00u16 }.to_le_bytes();
    let single = if infinite { f32::INFINITY } else { f32::NAN }.to_le_bytes();
    match t.dtype {
        DType::F32 => bytes[block..block + 4].copy_from_slice(&single),
        DType::BF16 => bytes[block..block + 2].copy_from_slice(&single[2..]),
        DType::F16 => bytes[block..block + 2].copy_from_slice(&half),
        dtype => match blocks::scale_at(dtype) {
            Some(at) => bytes[block + at..block + at + 2].copy_from_slice(&half),
            None => return Ok(None),
        },
    }
    draft.replace(&t.stored, bytes)?;
    let what = if infinite { "infinite" } else { "no number" };
    Done::of(&t.name, format!("{}: a value at byte {} is {what}", t.name, block - range.start))
};

/// The highest exponent bit of one plain weight flipped.
pub(super) const WEIGHT_BIT: Plant = |draft, dice| {
    let plain = tensors(draft, |t| matches!(t.dtype, DType::F32 | DType::F16 | DType::BF16));
    let Some(t) = dice.pick(&plain).cloned() else { return Ok(None) };
    let Some(range) = draft.byte_range(&t)? else { return Ok(None) };
    let mut bytes = draft.stored(&t.stored)?.tensor.bytes.to_vec();
    let size = row_bytes(t.dtype, 1)?;
    let element = dice.below(range.len() / size);
    bytes[range.start + (element + 1) * size - 1] ^= 0x40;
    draft.replace(&t.stored, bytes)?;
    Done::of(&t.name, format!("{}: the highest exponent bit of element {element} is flipped", t.name))
};

/// Eight-bit quants cut towards zero instead of rounded.
pub(super) const TRUNCATED: Plant = |draft, dice| {
    let eight = tensors(draft, |t| t.dtype == DType::Q8_0);
    let Some(t) = dice.pick(&eight).cloned() else { return Ok(None) };
    let Some(range) = draft.byte_range(&t)? else { return Ok(None) };
    let mut bytes = draft.stored(&t.stored)?.tensor.bytes.to_vec();
    for block in bytes[range].chunks_exact_mut(34) {
        for byte in &mut block[2..] {
            // What was rounded up is half of all: cut, it lies one step nearer to zero.
            if dice.below(2) == 0 {
                let q = i8::from_le_bytes([*byte]);
                *byte = (q - q.signum()).to_le_bytes()[0];
            }
        }
    }
    draft.replace(&t.stored, bytes)?;
    Done::of(&t.name, format!("{}: quants cut towards zero instead of rounded", t.name))
};
