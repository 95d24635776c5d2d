//! Blocks of 32 with a scale and a minimum, `y = d * q + m`: Q4_1 and Q5_1, which differ in their levels and in how a
//! block is packed.

use super::affine_search::{Trials, levels, search};
use super::extremes::{halves, range};
use super::lanes::Lanes;
use super::rounding::stored_half;
use super::rows::Rows;
use super::weighted_blocks::Batches;
use crate::Result;

/// Elements of a block.
const LEN: usize = 32;

/// Encodes whole rows with levels `0..=high`; `cut` makes a level of a rounded value. `block` packs `d`, `m` and the
/// levels of the lower and the upper half.
#[inline(always)]
pub(super) fn encode<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    high: i32,
    cut: impl Fn(i32) -> u8,
    block: impl Fn([u8; 2], [u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    match rows.importance {
        None => plain::<L, BYTES>(rows, high, cut, block, out),
        Some(importance) => weighted::<L, BYTES>(rows, importance, high, block, out),
    }
}

/// The range of the block is divided evenly; elements are scaled by the inverse of the unrounded `d`.
#[inline(always)]
fn plain<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    highest: i32,
    cut: impl Fn(i32) -> u8,
    block: impl Fn([u8; 2], [u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    for (n, x) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
        let (min, max) = range::<L>(x);
        let d = (max - min) / highest as f32;
        let inverse = L::splat(if d != 0.0 { 1.0 / d } else { 0.0 });
        let (Some((d, _)), Some((m, _))) = (stored_half(d), stored_half(min)) else {
            return Err(rows.overflow(n * LEN));
        };
        let (low, high) = halves::<L>(x);
        let (min, half) = (L::splat(min), L::splat(0.5));
        let low = low.sub(min).mul(inverse).add(half).truncated().map(&cut);
        let high = high.sub(min).mul(inverse).add(half).truncated().map(&cut);
        out.extend(block(d, m, &low, &high));
    }
    Ok(())
}

/// The scale and minimum of the least weighted error, as [`search`] finds them.
#[inline(always)]
fn weighted<L: Lanes, const BYTES: usize>(
    rows: &Rows<'_>,
    importance: &[f32],
    high: i32,
    block: impl Fn([u8; 2], [u8; 2], &[u8], &[u8]) -> [u8; BYTES],
    out: &mut Vec<u8>,
) -> Result<()> {
    let trials = Trials { high, first: -0.9, step: 0.05, more: 36, absolute: false };
    let mut batches = Batches::new(rows, importance);
    while let Some(batch) = batches.next::<L>() {
        let found = search(&batch.x, &batch.w, &trials);
        let (scales, mins) = (found.scale.to_array(), found.min.to_array());
        let (inverses, bases) = (found.inverse.to_array(), found.base.to_array());
        for (b, x) in batch.blocks(rows).iter().enumerate() {
            let (Some((d, _)), Some((m, _))) = (stored_half(scales[b]), stored_half(-mins[b])) else {
                return Err(rows.overflow(batch.index + b * LEN));
            };
            let mut all = [0; LEN];
            levels::<L>(x, inverses[b], bases[b], high, &mut all);
            let (low, high) = all.split_at(LEN / 2);
            out.extend(block(d, m, low, high));
        }
    }
    Ok(())
}
