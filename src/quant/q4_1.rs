//! Q4_1: 32 elements in 20 bytes. `y = d * q + m`.
//!
//! Block: `d` f16, `m` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its
//! high one.

use super::affine_search::{Trials, levels, search};
use super::extremes::{halves, range};
use super::lanes::Lanes;
use super::rounding::stored_half;
use super::rows::{self, Encoder, Rows};
use super::weighted_blocks::Batches;
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_1;

const LEN: usize = 32;
const BYTES: usize = 20;

impl Codec for Q4_1 {
    fn dtype(&self) -> DType {
        DType::Q4_1
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[4..].iter().zip(low).zip(high) {
                *l = f32::from(q & 0x0f) * d + m;
                *h = f32::from(q >> 4) * d + m;
            }
        }
    }

    fn encode_rows(
        &self,
        values: &[f32],
        row_len: usize,
        importance: Option<&[f32]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        rows::encode::<Q4_1>(values, row_len, importance, out)
    }
}

/// The largest level.
const HIGH: i32 = 15;

impl Encoder for Q4_1 {
    const DTYPE: DType = DType::Q4_1;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        match rows.importance {
            None => plain::<L>(rows, out),
            Some(importance) => weighted::<L>(rows, importance, out),
        }
    }
}

/// The range of the block is divided evenly; elements are scaled by the inverse of the unrounded `d`.
#[inline(always)]
fn plain<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
    for (n, x) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
        let (min, max) = range::<L>(x);
        let d = (max - min) / HIGH as f32;
        let inverse = L::splat(if d != 0.0 { 1.0 / d } else { 0.0 });
        let (Some((d, _)), Some((m, _))) = (stored_half(d), stored_half(min)) else {
            return Err(rows.overflow(n * LEN));
        };
        let (low, high) = halves::<L>(x);
        let (min, half) = (L::splat(min), L::splat(0.5));
        // The largest element may come to lie above `HIGH + 0.5` and is cut.
        let code = |v: i32| (v as i8).min(HIGH as i8) as u8;
        let low = low.sub(min).mul(inverse).add(half).truncated().map(code);
        let high = high.sub(min).mul(inverse).add(half).truncated().map(code);
        out.extend(block(d, m, &low, &high));
    }
    Ok(())
}

/// The scale and minimum of the least weighted error, as [`search`] finds them.
#[inline(always)]
fn weighted<L: Lanes>(rows: &Rows<'_>, importance: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let trials = Trials { high: HIGH, first: -0.9, step: 0.05, more: 36, absolute: false };
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
            levels::<L>(x, inverses[b], bases[b], HIGH, &mut all);
            let (low, high) = all.split_at(LEN / 2);
            out.extend(block(d, m, low, high));
        }
    }
    Ok(())
}

/// `d`, `m` and the levels of the lower and the upper half of a block.
#[inline(always)]
fn block(d: [u8; 2], m: [u8; 2], low: &[u8], high: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&d);
    block[2..4].copy_from_slice(&m);
    for ((q, low), high) in block[4..].iter_mut().zip(low).zip(high) {
        *q = (low & 0x0f) | high << 4;
    }
    block
}
