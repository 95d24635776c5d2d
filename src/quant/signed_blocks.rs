//! Blocks of 32 with one scale and signed codes, `y = d * (q - half)`: Q4_0 and Q5_0, which differ in their levels and
//! in how a block is packed.

use super::extremes::{halves, largest_magnitude};
use super::lanes::Lanes;
use super::rounding::stored_half;
use super::rows::Rows;
use super::signed_search::{codes, search};
use super::weighted_blocks::Batches;
use crate::Result;

/// Elements of a block.
const LEN: usize = 32;

/// Encodes whole rows with levels `-half..half`. `block` packs `d` and the codes of the lower and the upper half.
#[inline(always)]
pub(super) fn encode<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    half: i32,
    block: impl Fn([u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    match rows.importance {
        None => plain::<L, BYTES>(rows, half, block, out),
        Some(importance) => weighted::<L, BYTES>(rows, importance, half, block, out),
    }
}

/// The element of the largest magnitude becomes `-half`; the others are scaled by the inverse of the unrounded `d`.
#[inline(always)]
fn plain<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    half: i32,
    block: impl Fn([u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    for (n, x) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
        let d = largest_magnitude::<L>(x) / -half as f32;
        let inverse = L::splat(if d != 0.0 { 1.0 / d } else { 0.0 });
        let Some((d, _)) = stored_half(d) else { return Err(rows.overflow(n * LEN)) };
        let (low, high) = halves::<L>(x);
        let middle = L::splat(half as f32 + 0.5);
        // The largest one gives 0.5; its negative would give one too many and is cut. Where `inverse` overflowed,
        // the truncation yields 0.
        let code = |v: i32| (v as i8).min((2 * half - 1) as i8) as u8;
        let low = low.mul(inverse).add(middle).truncated().map(code);
        let high = high.mul(inverse).add(middle).truncated().map(code);
        out.extend(block(d, &low, &high));
    }
    Ok(())
}

/// The scale of the least weighted error, as [`search`] finds it.
#[inline(always)]
fn weighted<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    importance: &[f32],
    half: i32,
    block: impl Fn([u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut batches = Batches::new(rows, importance);
    while let Some(batch) = batches.next::<L>() {
        let found = search(&batch.x, &batch.w, half);
        let (scales, inverses) = (found.scale.to_array(), found.inverse.to_array());
        for (b, x) in batch.blocks(rows).iter().enumerate() {
            let Some((d, _)) = stored_half(scales[b]) else {
                return Err(rows.overflow(batch.index + b * LEN));
            };
            let mut all = [0; LEN];
            if found.live >> b & 1 == 1 {
                codes::<L>(x, inverses[b], half, &mut all);
            }
            let (low, high) = all.split_at(LEN / 2);
            out.extend(block(d, low, high));
        }
    }
    Ok(())
}
