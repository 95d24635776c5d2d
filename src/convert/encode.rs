//! Doing one step of the plan: bytes that stay, rows that move, or values decoded and encoded anew, row by
//! row where the encodings allow it. What was lost is measured by decoding what was written.

use super::ConvertOptions;
use super::plan::{Operation, Step};
use super::report::Exactness;
use super::threads::{earliest, on_threads};
use crate::formats::TensorSource;
use crate::models::{Bound, Weight, rows_of};
use crate::quant;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{Error, Kind, Result};
use std::sync::Mutex;

/// What a step did to the values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub exactness: Exactness,
    pub note: Option<String>,
}

/// How to encode.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub options: &'a ConvertOptions,
    /// At least 1.
    pub threads: usize,
}

/// Elements that one claim of a thread encodes: large beside the claim, small beside a tensor.
const PIECE: usize = 1 << 16;

/// The step as something a writer can store; its outcome is left in `outcome` when the bytes are made.
pub(super) fn source<'a>(
    step: &'a Step,
    bound: &'a Bound,
    outcome: &'a Mutex<Option<Outcome>>,
    how: How<'a>,
) -> TensorSource<'a> {
    let produce = move || {
        let (bytes, done) = run(step, bound, how)
            .map_err(|e| if e.at.is_some() { e } else { e.at(format!("tensor `{}`", step.name)) })?;
        // A poisoned lock means that another producer panicked; its value is still whole.
        *outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(done);
        Ok(bytes)
    };
    match step.operation {
        Operation::Keep => TensorSource::stored(&step.name, &bound.tensors[step.parts[0]].place.tensor),
        Operation::MoveRows | Operation::Turn | Operation::Encode => {
            TensorSource::produced(&step.name, step.dtype, step.shape.clone(), produce)
        }
    }
}

fn run(step: &Step, bound: &Bound, how: How) -> Result<(Vec<u8>, Outcome)> {
    let parts = step.parts.iter().map(|&i| bound.tensors[i].weight()).collect::<Result<Vec<_>>>()?;
    let exact = Outcome { exactness: Exactness::Exact, note: None };
    // Turned in its own encoding already, where that was possible.
    let kept = parts.iter().all(|p| p.tensor.dtype == step.dtype) && !step.transposed && !step.unit_offset;
    let flat = |dtype: DType| matches!(dtype, DType::AprQ4 | DType::AprQ8);
    if kept && !flat(step.dtype) {
        return Ok((move_rows(&parts, step)?, exact));
    }
    if step.transposed || flat(step.dtype) || step.shape.ndim() < 2 {
        encode_whole(&parts, step, how.options.allow_lossy)
    } else {
        encode_rows(&parts, step, how)
    }
}

/// The source of target row `r`: a part, and the stored row in it.
fn target_row<'a>(parts: &'a [Weight], step: &Step, mut r: usize) -> (&'a Weight, usize) {
    let mut rest = parts.iter();
    loop {
        let part = rest.next().expect("the rows of a step are the rows of its parts");
        let (rows, _) = rows_of(&part.tensor.shape);
        if r < rows {
            return (part, part.rows.stored_row(step.order.canonical_row(r)));
        }
        r -= rows;
    }
}

/// Whole rows of one encoding, moved; no value is looked at.
fn move_rows(parts: &[Weight], step: &Step) -> Result<Vec<u8>> {
    let (_, width) = rows_of(&step.shape);
    let row_bytes = step
        .dtype
        .nbytes(&Shape(vec![width]))
        .ok_or_else(|| Error::new(Kind::Internal, "convert", "a row is no whole number of blocks"))?;
    let mut out = Vec::with_capacity(parts.iter().map(|p| p.tensor.bytes.len()).sum());
    for r in 0..rows_of(&step.shape).0 {
        let (part, row) = target_row(parts, step, r);
        out.extend_from_slice(&part.tensor.bytes[row * row_bytes..(row + 1) * row_bytes]);
    }
    Ok(out)
}

/// Rows by the piece, shared among threads: a piece is in memory beside the result.
fn encode_rows(parts: &[Weight], step: &Step, how: How) -> Result<(Vec<u8>, Outcome)> {
    let (rows, width) = rows_of(&step.shape);
    let size = step.dtype.nbytes(&step.shape).and_then(|size| Some((size, size.checked_div(rows)?)));
    let (size, row_bytes) = size.ok_or_else(|| {
        Error::new(
            Kind::Internal,
            "convert",
            format!("{} is no whole number of {} blocks", step.shape, step.dtype),
        )
    })?;
    let importance = importance_of(step, width, how.options)?;
    let mut out = vec![0; size];
    let per_piece = (PIECE / width.max(1)).max(1);
    let pieces = Mutex::new(out.chunks_mut(per_piece * row_bytes).enumerate());
    let work = || {
        let mut loss = Loss::new(step, parts, how.options.allow_lossy);
        loop {
            // Taking the next piece cannot panic, so the lock is never poisoned.
            let Some((i, bytes)) = pieces.lock().expect("never poisoned").next() else { return (loss, None) };
            let done = encode_piece(parts, step, i * per_piece, importance.as_deref(), bytes, &mut loss);
            if let Err(error) = done {
                return (loss, Some((i, error)));
            }
        }
    };
    // One piece is not worth a second thread.
    let threads = if rows <= per_piece { 1 } else { how.threads };
    let (losses, faults): (Vec<Loss>, Vec<_>) = on_threads(threads, work).into_iter().unzip();
    earliest(faults.into_iter().flatten())?;
    let mut all = Loss::new(step, parts, how.options.allow_lossy);
    losses.into_iter().for_each(|loss| all.merge(loss));
    Ok((out, all.outcome()?))
}

/// Encodes the rows from `first` on that fill `bytes`, and measures what that does to them.
fn encode_piece(
    parts: &[Weight],
    step: &Step,
    first: usize,
    importance: Option<&[f32]>,
    bytes: &mut [u8],
    loss: &mut Loss,
) -> Result<()> {
    let codec = quant::codec(step.dtype)?;
    let width = step.shape.row_len();
    let row_bytes = step.dtype.nbytes(&Shape(vec![width])).unwrap_or(0);
    let mut values = vec![0.0; bytes.len() / row_bytes.max(1) * width];
    for (i, row) in values.chunks_exact_mut(width).enumerate() {
        let (part, stored) = target_row(parts, step, first + i);
        quant::row_to_f32(&part.tensor, stored, row)?;
    }
    loss.before(first * width, &mut values)?;
    let mut encoded = Vec::with_capacity(bytes.len());
    codec.encode_rows(&values, width, importance, &mut encoded)?;
    bytes.copy_from_slice(&encoded);
    let mut back = vec![0.0; values.len()];
    codec.decode(bytes, &mut back);
    loss.after(&values, &back);
    Ok(())
}

/// What an importance matrix says of the columns of this step. Like llama-quantize, a matrix that it does not know
/// is encoded without; one that it knows in another width is an error, except for the embedding.
fn importance_of(step: &Step, width: usize, options: &ConvertOptions) -> Result<Option<Vec<f32>>> {
    let Some((file, matrix)) = &options.importance else { return Ok(None) };
    match matrix.importance_of(&step.gguf_name) {
        None => Ok(None),
        Some(importance) if importance.len() == width => Ok(Some(importance)),
        Some(_) if step.gguf_name == "token_embd.weight" => Ok(None),
        Some(importance) => {
            let what = format!("{} columns for a weight of {width}", importance.len());
            let error = Error::new(Kind::Contract, file.clone(), what).at(format!("`{}`", step.gguf_name));
            Err(error.hint("the importance matrix belongs to another model"))
        }
    }
}

/// Vectors, transposed weights and aprender's flat encodings: the whole tensor at once.
fn encode_whole(parts: &[Weight], step: &Step, allow_lossy: bool) -> Result<(Vec<u8>, Outcome)> {
    let mut values = Vec::new();
    for part in parts {
        let canonical = part.to_f32()?;
        let (rows, width) = rows_of(&part.tensor.shape);
        for r in 0..rows {
            let from = step.order.canonical_row(r) * width;
            values.extend_from_slice(&canonical[from..from + width]);
        }
    }
    if step.transposed {
        // The target's shape is [in, out]; the values are [out, in].
        let (ins, outs) = (step.shape.0[0], step.shape.0[1]);
        values = (0..ins * outs).map(|k| values[(k % outs) * ins + k / outs]).collect();
    }
    let mut loss = Loss::new(step, parts, allow_lossy);
    if step.unit_offset {
        let without: Vec<f32> = values.iter().map(|x| x - 1.0).collect();
        let again: Vec<f32> = without.iter().map(|w| 1.0 + w).collect();
        loss.after(&values, &again);
        values = without;
    }
    loss.before(0, &mut values)?;
    let bytes = quant::from_f32(step.dtype, &step.shape, &values)?;
    let written =
        Tensor { dtype: step.dtype, shape: step.shape.clone(), bytes: Bytes::from_vec(bytes.clone()) };
    loss.after(&values, &quant::to_f32(&written)?);
    Ok((bytes, loss.outcome()?))
}

/// What encoding does to the values of one tensor.
struct Loss {
    dtype: DType,
    /// The source is BF16, whose range F16 does not have.
    from_bf16: bool,
    allow_lossy: bool,
    overflows: usize,
    first_overflow: Option<(usize, f32)>,
    vanished: usize,
    changed: usize,
    largest: f32,
}

/// The largest finite F16.
pub(super) const F16_MAX: f32 = 65504.0;

impl Loss {
    fn new(step: &Step, parts: &[Weight], allow_lossy: bool) -> Loss {
        Loss {
            dtype: step.dtype,
            from_bf16: parts.iter().any(|p| p.tensor.dtype == DType::BF16),
            allow_lossy,
            overflows: 0,
            first_overflow: None,
            vanished: 0,
            changed: 0,
            largest: 0.0,
        }
    }

    /// Counts what F16 cannot hold, and holds the nearest value that it can. A codec would refuse it.
    fn before(&mut self, start: usize, values: &mut [f32]) -> Result<()> {
        if self.dtype != DType::F16 {
            return Ok(());
        }
        for (i, value) in values.iter_mut().enumerate().filter(|(_, v)| v.abs() > F16_MAX) {
            self.overflows += 1;
            self.first_overflow.get_or_insert((start + i, *value));
            *value = value.clamp(-F16_MAX, F16_MAX);
        }
        Ok(())
    }

    fn after(&mut self, values: &[f32], back: &[f32]) {
        for (x, y) in values.iter().zip(back).filter(|(x, y)| x != y) {
            self.changed += 1;
            self.vanished += usize::from(*y == 0.0);
            self.largest = self.largest.max((x - y).abs());
        }
    }

    /// Adds what another thread saw.
    fn merge(&mut self, other: Loss) {
        self.overflows += other.overflows;
        let earlier = |(i, _): &(usize, f32)| *i;
        self.first_overflow = self.first_overflow.into_iter().chain(other.first_overflow).min_by_key(earlier);
        self.vanished += other.vanished;
        self.changed += other.changed;
        self.largest = self.largest.max(other.largest);
    }

    fn outcome(self) -> Result<Outcome> {
        let out_of_range = self.overflows > 0 || (self.vanished > 0 && self.from_bf16);
        if self.dtype == DType::F16 && out_of_range && !self.allow_lossy {
            let first =
                self.first_overflow.map(|(i, x)| format!(", first {x} at index {i}")).unwrap_or_default();
            let what = format!(
                "{} values are too large for F16{first}, and {} are too small and become zero",
                self.overflows, self.vanished
            );
            let hint = "keep BF16 or F32, or allow lossy conversion to clamp them";
            return Err(Error::new(Kind::Lossy, "convert", what).hint(hint));
        }
        if self.changed == 0 && self.overflows == 0 {
            return Ok(Outcome { exactness: Exactness::Exact, note: None });
        }
        let exactness = if self.dtype.is_quantized() { Exactness::Quantized } else { Exactness::Rounded };
        let mut note = format!("{} values changed, by at most {:e}", self.changed, self.largest);
        if self.overflows > 0 {
            note.push_str(&format!("; {} clamped to the range of F16", self.overflows));
        }
        if self.dtype == DType::F16 && self.vanished > 0 {
            note.push_str(&format!("; {} became zero", self.vanished));
        }
        Ok(Outcome { exactness, note: Some(note) })
    }
}
