//! Bytes in the wrong place or read as something else: nibbles in another order, blocks moved, another encoding's
//! bytes.

use super::{Cause, Test, central_moments};
use crate::quant;
use crate::tensor::DType;

/// Where the value at `i` of a group stands when nibbles are put together the other way.
type Order = fn(usize) -> usize;

/// Low half first, or interleaved pairs: converters disagree about which four bits come first.
pub(super) fn nibbles(test: &Test) -> Option<Cause> {
    if !test.suspect.dtype.is_quantized() {
        return None;
    }
    // In blocks of 32 the low nibbles are the first 16 values; in the super-blocks of the K encodings, of every 64
    // values the first 32.
    let orders: [(usize, Order, &str); 4] = [
        (32, |i| (i + 16) % 32, "the halves of every block of 32 changed places"),
        (32, |i| if i < 16 { 2 * i } else { 2 * (i - 16) + 1 }, "nibbles of neighbors are read as of halves"),
        (32, |i| if i % 2 == 0 { i / 2 } else { 16 + i / 2 }, "nibbles of halves are read as of neighbors"),
        (64, |i| (i + 32) % 64, "the halves of every 64 values changed places"),
    ];
    let original = test.suspect.original;
    let sentence = |what: &str| format!("low and high nibbles in another order: {what}");
    let mut best: Option<Cause> = None;
    for (group, order, what) in orders {
        if !original.len().is_multiple_of(group) {
            continue;
        }
        let explanation: Vec<f32> =
            (0..original.len()).map(|i| original[i - i % group + order(i % group)]).collect();
        let exact = test.explained("nibble-order", &sentence(what), &explanation);
        // The nibbles changed places and the scales of their sub-blocks did not.
        let cause = exact.or_else(|| {
            let like = likeness(&explanation, test.suspect.found);
            (group == 64 && like > 0.7).then(|| Cause {
                id: "nibble-order",
                sentence: sentence(what),
                score: like,
            })
        });
        if cause.as_ref().map_or(0.0, |c| c.score) > best.as_ref().map_or(0.0, |c| c.score) {
            best = cause;
        }
    }
    best
}

/// Share of the found values that lies on a straight line of the explained ones, sub-block by sub-block.
fn likeness(explanation: &[f32], found: &[f32]) -> f64 {
    const SUB: usize = 32;
    let (mut on_line, mut all) = (0.0f64, 0.0f64);
    for (a, b) in explanation.chunks_exact(SUB).zip(found.chunks_exact(SUB)) {
        let (xx, xy, yy) = central_moments(a, b);
        if xx > 0.0 && xy > 0.0 {
            on_line += xy * xy / xx;
        }
        all += yy;
    }
    if all > 0.0 { on_line / all } else { 0.0 }
}

/// Blocks, or bytes of plain values, some places further: rotated within rows or the tensor, or read from an offset.
pub(super) fn moved_blocks(test: &Test) -> Option<Cause> {
    let (original, found) = (test.suspect.original, test.suspect.found);
    let (n, width) = (original.len(), test.suspect.shape.row_len());
    let mut steps: Vec<usize> = match test.suspect.dtype {
        dtype if dtype.is_quantized() => (1..=4).map(|k| k * dtype.block_len()).collect(),
        // Alignments of 32 and 64 bytes, in values; and blocks of a file that was a quantised one before.
        dtype => [32, 64, 256, 512].into_iter().map(|bytes| bytes / dtype.block_bytes().max(1)).collect(),
    };
    steps.extend([1, 16, 32, 256]);
    steps.sort_unstable();
    steps.dedup();
    let mut best: Option<Cause> = None;
    for step in steps {
        for forward in [true, false] {
            let side = if forward { "later" } else { "earlier" };
            for (span, where_) in [(width, "in every row"), (n, "in the tensor")] {
                if step == 0 || step >= span || span == 0 || !n.is_multiple_of(span) {
                    continue;
                }
                let from = |i: usize| {
                    let (base, at) = (i - i % span, i % span);
                    base + if forward { (at + span - step) % span } else { (at + step) % span }
                };
                // A few thousand values rule out nearly every step.
                let glance = n.min(GLANCE);
                let first: Vec<f32> = (0..glance).map(|i| original[from(i)]).collect();
                if test.explains(&first, &found[..glance]).is_none() {
                    continue;
                }
                let explanation: Vec<f32> = (0..n).map(|i| original[from(i)]).collect();
                let rotated = wraps(&explanation, found, span, step, forward);
                let (id, what) = match rotated {
                    true => ("block-rotated", format!("values stand {step} places {side} {where_}, rotated")),
                    false => (
                        "offset",
                        format!("values stand {step} places {side} {where_}: read from a wrong offset"),
                    ),
                };
                let cause = test.explained(id, &what, &explanation);
                if cause.as_ref().map_or(0.0, |c| c.score) > best.as_ref().map_or(0.0, |c| c.score) {
                    best = cause;
                }
            }
        }
    }
    best
}

const GLANCE: usize = 4096;

/// Whether what left at one end came in at the other.
fn wraps(explanation: &[f32], found: &[f32], span: usize, step: usize, forward: bool) -> bool {
    let at = if forward { 0..step } else { span - step..span };
    let (a, b) = (&explanation[at.clone()], &found[at]);
    let off: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    let all: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
    off < 0.5 * all
}

/// The bytes of one encoding read as those of another of the same size: the label is wrong.
pub(super) fn mislabelled(test: &Test) -> Option<Cause> {
    let (as_, shape) = (test.suspect.dtype, test.suspect.shape);
    let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
    if !finite(test.suspect.original) {
        return None;
    }
    let reread = |of: DType, as_: DType| -> Option<Vec<f32>> {
        let bytes = quant::from_f32(of, shape, test.suspect.original).ok()?;
        (as_.nbytes(shape)? == bytes.len()).then_some(())?;
        let tensor = crate::tensor::Tensor {
            dtype: as_,
            shape: shape.clone(),
            bytes: crate::tensor::Bytes::from_vec(bytes),
        };
        // Where such bytes are no numbers, neither is what was found; those count for nothing.
        let mut values = quant::to_f32(&tensor).ok()?;
        values.iter_mut().for_each(|v| *v = if v.is_finite() { *v } else { 0.0 });
        Some(values)
    };
    let found: Vec<f32> = test.suspect.found.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
    // Also where it was read wrongly first and encoded after.
    for (of, read_as, id) in
        [(DType::BF16, DType::F16, "bf16-as-f16"), (DType::F16, DType::BF16, "wrong-dtype")]
    {
        if let Some(explanation) = reread(of, read_as)
            && let Some(score) = test.explains(&explanation, &found)
        {
            return Some(Cause { id, sentence: format!("{of} was read as {read_as}"), score });
        }
    }
    if !as_.is_quantized() {
        return None;
    }
    let same_size = |of: &DType| {
        of.is_quantized()
            && *of != as_
            && of.block_bytes() * as_.block_len() == as_.block_bytes() * of.block_len()
    };
    DType::ALL.iter().filter(|of| same_size(of)).find_map(|of| {
        let score = test.explains(&reread(*of, as_)?, &found)?;
        Some(Cause { id: "wrong-dtype", sentence: format!("{of} blocks are labelled {as_}"), score })
    })
}
