//! The plan: for every tensor of the target, which canonical tensors it is made of and how. Pure: it looks at
//! names, shapes and encodings, never at a value.

use super::{ConvertOptions, NameDialect};
use super::{recipe, rule};
use crate::contract::families::Role;
use crate::formats::{AprDialect, FormatKind};
use crate::models::{Bound, CanonicalTensor, Naming, RowOrder};
use crate::quant::Quantize;
use crate::tensor::{DType, Shape};
use crate::{Error, Kind, Result};

/// What becomes of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One step per tensor of the target, in model order.
    pub steps: Vec<Step>,
    /// What a reader of the result should know: fallbacks and their reasons.
    pub notes: Vec<String>,
    /// How the target stores its tensors.
    pub(super) target: Target,
}

/// How one tensor of the target is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Name in the target.
    pub name: String,
    /// Canonical names of its parts, concatenated along `out`.
    pub sources: Vec<String>,
    /// What happens to the payload.
    pub operation: Operation,
    /// Encoding in the target.
    pub dtype: DType,
    /// Shape in the target.
    pub shape: Shape,
    /// Row order in the target.
    pub order: RowOrder,
    /// Whether the target stores it `[in, out]`.
    pub transposed: bool,
    /// Whether the target stores `w` where `1 + w` is meant.
    pub unit_offset: bool,
    /// Why it is not encoded as asked, where it is not.
    pub note: Option<String>,
    /// Its name in a GGUF, under which an importance matrix knows it; fused tensors have one for all parts.
    pub(super) gguf_name: String,
    /// Indices of `sources` in the bound checkpoint.
    pub(super) parts: Vec<usize>,
}

/// What happens to a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The stored bytes as they are.
    Keep,
    /// The stored rows in another order or number; every block stays as it is.
    MoveRows,
    /// The stored elements turned between `[in, out]` and `[out, in]`, in their own encoding.
    Turn,
    /// Decoded to f32 and encoded anew.
    Encode,
}

/// How a target container stores its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Target {
    pub kind: FormatKind,
    pub naming: Naming,
    pub dialect: AprDialect,
    pub quantize: Option<Quantize>,
    /// What a recipe looks at beside the tensor.
    pub about: recipe::About,
    /// Rows marked `conv1d` are stored `[in, out]`.
    pub conv1d: bool,
    /// Rows marked `unit_offset` are stored without the 1.
    pub unit_offset: bool,
    /// Rows marked `rope` are stored as interleaved pairs.
    pub rope_pairs: bool,
    /// A tied head is stored as a copy of the embedding.
    pub head_copy: bool,
}

impl Target {
    fn new(bound: &Bound, kind: FormatKind, options: &ConvertOptions) -> Target {
        let rotates = bound.family.contract().gguf.rope_pairs;
        let aprender = kind == FormatKind::Apr && options.dialect == AprDialect::Aprender;
        let naming = match (kind, options.names) {
            (FormatKind::HfFolder, _) => Naming::Hf,
            (FormatKind::Gguf, _) => Naming::Gguf,
            (FormatKind::Apr, _) if aprender => Naming::AprHf,
            (FormatKind::Apr, NameDialect::Hf) => Naming::AprHf,
            (FormatKind::Apr, NameDialect::GgufShort) => Naming::Short,
        };
        Target {
            kind,
            naming,
            dialect: options.dialect,
            quantize: options.quantize,
            about: recipe::About::new(&bound.config, options.importance.is_some()),
            conv1d: kind == FormatKind::HfFolder || aprender,
            unit_offset: kind == FormatKind::HfFolder,
            // aprender derives the pairing of llama from its architecture: adjacent pairs, as GGUF.
            rope_pairs: rotates && (kind == FormatKind::Gguf || aprender),
            head_copy: aprender && bound.config.tied_embeddings,
        }
    }
}

/// Plans the conversion of a bound checkpoint into `kind`.
///
/// # Errors
/// [`Kind::Lossy`] for a second quantisation without `allow_lossy`; [`Kind::Usage`] for an encoding that the
/// target cannot hold; [`Kind::Unsupported`] for aprender's dialect of a family that aprender does not run, without
/// `allow_lossy`.
pub(crate) fn plan_bound(bound: &Bound, kind: FormatKind, options: &ConvertOptions) -> Result<Plan> {
    match kind {
        FormatKind::HfFolder => bound.family.writable_as_hf(&bound.config)?,
        FormatKind::Gguf => bound.family.writable_as_gguf(&bound.config)?,
        FormatKind::Apr => runs_there(bound, options)?,
    }
    let target = Target::new(bound, kind, options);
    let contract = bound.family.contract();
    let mut steps: Vec<Step> = Vec::with_capacity(bound.tensors.len());
    let mut rest: Vec<usize> = (0..bound.tensors.len()).collect();
    rest.reverse();
    while let Some(first) = rest.pop() {
        let name = |i: usize| bound.tensors[i].slot.stored_name(target.naming, contract);
        let mut parts = vec![first];
        while rest.last().is_some_and(|&next| name(next) == name(first)) {
            parts.extend(rest.pop());
        }
        steps.push(step(name(first), parts, bound, &target, options.allow_lossy)?);
    }
    if target.head_copy {
        steps.push(head_copy(bound, &target, options.allow_lossy)?);
    }
    let fallback = |s: &Step| s.note.as_ref().map(|note| format!("{}: {note}", s.name));
    let notes = steps.iter().filter_map(fallback).collect();
    Ok(Plan { steps, notes, target })
}

/// A file in aprender's dialect is there to be run by aprender.
fn runs_there(bound: &Bound, options: &ConvertOptions) -> Result<()> {
    match &bound.family.contract().aprender.lacks {
        Some(lacks) if options.dialect == AprDialect::Aprender && !options.allow_lossy => {
            let family = bound.family.id();
            let what = format!("aprender 0.72 has no {lacks}, so it does not run {family}");
            Err(Error::new(Kind::Unsupported, format!("aprender's dialect of {family}"), what).hint(
                "write the contract's dialect, or pass --allow-lossy for a file that it reads but cannot run",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn step(name: String, parts: Vec<usize>, bound: &Bound, target: &Target, allow_lossy: bool) -> Result<Step> {
    let tensors: Vec<&CanonicalTensor> = parts.iter().map(|&i| &bound.tensors[i]).collect();
    let row = tensors[0].slot.row;
    let mut shape = tensors[0].shape.clone();
    shape.0[0] = tensors.iter().map(|t| t.shape.0[0]).sum();
    let transposed = target.conv1d && row.conv1d;
    if transposed {
        shape.0.reverse();
    }
    let order = match row.rope && target.rope_pairs {
        true => RowOrder::RopePairs { head_dim: bound.config.head_dim },
        false => RowOrder::Canonical,
    };
    let unit_offset = target.unit_offset && row.unit_offset;
    let layout = rule::Layout {
        untouched: is_untouched(&tensors, transposed, unit_offset, order),
        row_wise: !transposed && !tensors.iter().any(|t| t.place.transposed),
        shifted: tensors.iter().any(|t| t.place.unit_offset != unit_offset),
    };
    let choice = rule::choose(target, &name, &shape, &tensors, layout)?;
    let requantized = tensors
        .iter()
        .find(|t| t.dtype.is_quantized() && choice.dtype.is_quantized() && t.dtype != choice.dtype);
    if let (Some(source), false) = (requantized, allow_lossy) {
        let what = format!("is {} already; {} on top of it loses twice", source.dtype, choice.dtype);
        let error = Error::new(Kind::Lossy, "convert", what).at(format!("tensor `{}`", source.stored));
        return Err(error.hint("convert from the unquantised model, or allow lossy conversion"));
    }
    let kept = !layout.shifted && tensors.iter().all(|t| t.dtype == choice.dtype);
    let operation = match (kept, layout.untouched, layout.row_wise) {
        (true, true, _) => Operation::Keep,
        (true, false, true) => Operation::MoveRows,
        (true, false, false) => Operation::Turn,
        (false, _, _) => Operation::Encode,
    };
    let sources = tensors.iter().map(|t| t.name.clone()).collect();
    let gguf_name = tensors[0].slot.stored_name(Naming::Gguf, bound.family.contract());
    Ok(Step {
        gguf_name,
        name,
        sources,
        operation,
        dtype: choice.dtype,
        shape,
        order,
        transposed,
        unit_offset,
        note: choice.note,
        parts,
    })
}

/// Whether the stored bytes are the target's: one whole tensor, in the same orientation and row order.
fn is_untouched(tensors: &[&CanonicalTensor], transposed: bool, unit_offset: bool, order: RowOrder) -> bool {
    match tensors {
        [one] => {
            let place = &one.place;
            let same = place.transposed == transposed && place.unit_offset == unit_offset;
            one.is_whole() && same && place.order == order
        }
        _ => false,
    }
}

/// aprender has no tied heads: it wants the embedding a second time.
fn head_copy(bound: &Bound, target: &Target, allow_lossy: bool) -> Result<Step> {
    let rows = &bound.family.contract().tensors;
    let embedding = bound.tensors.iter().position(|t| t.role == Role::Embedding);
    let head = rows.iter().find(|row| row.role == Role::Head);
    let (Some(embedding), Some(head)) = (embedding, head) else {
        return Err(Error::new(Kind::Internal, bound.family.id(), "the family has no embedding or no head"));
    };
    let name = target.naming.pattern(bound.family.contract(), head).to_owned();
    step(name, vec![embedding], bound, target, allow_lossy)
}
