//! Q4_0: 32 elements in 18 bytes. `y = d * (q - 8)`.
//!
//! Block: `d` f16, then 16 bytes; byte `j` holds element `j` in its low nibble and `j + 16` in its high one.
//! The scale takes the sign of the largest element, `d = max / -8`, so that element is held exactly.

use super::extremes::{halves, largest_magnitude};
use super::lanes::Lanes;
use super::rounding::stored_half;
use super::rows::{self, Encoder, Rows};
use super::signed_search::{codes, search};
use super::weighted_blocks::Batches;
use super::{Codec, assert_blocks, half_at};
use crate::Result;
use crate::tensor::DType;

pub(super) struct Q4_0;

const LEN: usize = 32;
const BYTES: usize = 18;

impl Codec for Q4_0 {
    fn dtype(&self) -> DType {
        DType::Q4_0
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        assert_blocks(self.dtype(), bytes, out.len());
        for (b, y) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
            let d = half_at(b, 0);
            let (low, high) = y.split_at_mut(LEN / 2);
            for ((q, l), h) in b[2..].iter().zip(low).zip(high) {
                *l = (i32::from(q & 0x0f) - 8) as f32 * d;
                *h = (i32::from(q >> 4) - 8) as f32 * d;
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
        rows::encode::<Q4_0>(values, row_len, importance, out)
    }
}

/// Levels are `-HALF..HALF`.
const HALF: i32 = 8;

impl Encoder for Q4_0 {
    const DTYPE: DType = DType::Q4_0;

    #[inline(always)]
    fn encode<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
        match rows.importance {
            None => plain::<L>(rows, out),
            Some(importance) => weighted::<L>(rows, importance, out),
        }
    }
}

/// The element of the largest magnitude becomes `-HALF`; the others are scaled by the inverse of the unrounded `d`.
#[inline(always)]
fn plain<L: Lanes>(rows: &Rows<'_>, out: &mut Vec<u8>) -> Result<()> {
    for (n, x) in rows.values.as_chunks::<LEN>().0.iter().enumerate() {
        let d = largest_magnitude::<L>(x) / -HALF as f32;
        let inverse = L::splat(if d != 0.0 { 1.0 / d } else { 0.0 });
        let Some((d, _)) = stored_half(d) else { return Err(rows.overflow(n * LEN)) };
        let (low, high) = halves::<L>(x);
        let middle = L::splat(HALF as f32 + 0.5);
        // The largest one gives 0.5; its negative would give one too many and is cut. Where `inverse` overflowed,
        // the truncation yields 0.
        let code = |v: i32| (v as i8).min(2 * HALF as i8 - 1) as u8;
        let low = low.mul(inverse).add(middle).truncated().map(code);
        let high = high.mul(inverse).add(middle).truncated().map(code);
        out.extend(block(d, &low, &high));
    }
    Ok(())
}

/// The scale of the least weighted error, as [`search`] finds it.
#[inline(always)]
fn weighted<L: Lanes>(rows: &Rows<'_>, importance: &[f32], out: &mut Vec<u8>) -> Result<()> {
    let mut batches = Batches::new(rows, importance);
    while let Some(batch) = batches.next::<L>() {
        let found = search(&batch.x, &batch.w, HALF);
        let (scales, inverses) = (found.scale.to_array(), found.inverse.to_array());
        for (b, x) in batch.blocks(rows).iter().enumerate() {
            let Some((d, _)) = stored_half(scales[b]) else {
                return Err(rows.overflow(batch.index + b * LEN));
            };
            let mut all = [0; LEN];
            if found.live >> b & 1 == 1 {
                codes::<L>(x, inverses[b], HALF, &mut all);
            }
            let (low, high) = all.split_at(LEN / 2);
            out.extend(block(d, low, high));
        }
    }
    Ok(())
}

/// `d` and the codes of the lower and the upper half of a block.
#[inline(always)]
fn block(d: [u8; 2], low: &[u8], high: &[u8]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    block[..2].copy_from_slice(&d);
    for ((q, low), high) in block[2..].iter_mut().zip(low).zip(high) {
        *q = low | high << 4;
    }
    block
}
