//! Which encoding a tensor gets. The rules are those of the canonical form: weights as asked, embeddings and
//! head never below eight bits, vectors and learned positions F32, a row that does not fit its blocks F16.

use super::plan::Target;
use super::recipe;
use crate::contract::families::Role;
use crate::formats::{AprDialect, FormatKind};
use crate::models::CanonicalTensor;
use crate::quant::Quantize;
use crate::tensor::{DType, Shape};
use crate::{Error, Kind, Result};

/// An encoding, and why it is not the one asked for.
pub(super) struct Choice {
    pub dtype: DType,
    pub note: Option<String>,
}

/// What has to happen to the payload besides its encoding.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Nothing: the bytes may stay where they are.
    pub untouched: bool,
    /// Whole rows move; blocks stay whole.
    pub row_wise: bool,
    /// One side stores `w` where the other stores `1 + w`.
    pub shifted: bool,
}

/// The encoding of the target tensor `name`, of stored shape `shape`, made of `parts`.
pub(super) fn choose(
    target: &Target,
    name: &str,
    shape: &Shape,
    parts: &[&CanonicalTensor],
    layout: Layout,
) -> Result<Choice> {
    let Some(quantize) = target.quantize else { return Ok(keep(target, shape, parts, layout)) };
    if target.kind == FormatKind::HfFolder && quantize.main().is_quantized() {
        let what = format!("an HF folder holds plain floats, not {}", quantize.name());
        return Err(
            Error::new(Kind::Usage, "convert", what).hint("ask for f32, f16 or bf16, or write APR or GGUF")
        );
    }
    if target.kind == FormatKind::Apr && target.dialect == AprDialect::Aprender {
        let Some(dtype) = aprender(quantize, parts[0].role, name, shape) else {
            let what = format!("aprender's dialect has no {}", quantize.name());
            return Err(Error::new(Kind::Usage, "convert", what).hint("it has f32, f16, bf16, int8 and int4"));
        };
        return Ok(Choice { dtype, note: None });
    }
    let role = parts[0].role;
    if is_vector(role, shape) {
        return Ok(Choice { dtype: DType::F32, note: None });
    }
    let wanted = match plain(quantize, role) {
        Some(wanted) if shape.row_len().is_multiple_of(wanted.block_len()) => {
            Choice { dtype: wanted, note: None }
        }
        Some(wanted) => {
            let row = shape.row_len();
            let note = format!("rows of {row} are no whole number of {wanted} blocks, so it is F16");
            Choice { dtype: DType::F16, note: Some(note) }
        }
        None => {
            let slot = &parts[0].slot;
            let subject = recipe::Subject {
                about: target.about,
                gguf: &slot.row.gguf,
                layer: slot.layer,
                row_len: shape.row_len(),
            };
            let mixed = recipe::mix(quantize, &subject);
            let note = mixed.why.map(|why| format!("{why}, so it is {}", mixed.dtype));
            Choice { dtype: mixed.dtype, note }
        }
    };
    if target.kind == FormatKind::Apr && target.dialect.byte(wanted.dtype).is_none() {
        let what = format!("the contract has no dtype byte for {}", wanted.dtype);
        return Err(Error::new(Kind::Usage, "convert", what).at(format!("tensor `{name}`")));
    }
    Ok(wanted)
}

/// The stored encoding where the target can hold it in its layout; otherwise F32, which holds every value.
fn keep(target: &Target, shape: &Shape, parts: &[&CanonicalTensor], layout: Layout) -> Choice {
    let stored = parts[0].dtype;
    let exact = |note: Option<String>| Choice { dtype: DType::F32, note };
    // llama.cpp computes norms, biases and positions in F32 and refuses other encodings of them.
    if target.kind == FormatKind::Gguf && is_vector(parts[0].role, shape) {
        return exact(None);
    }
    if layout.shifted {
        // Narrow floats have no room for the 1.
        return exact(None);
    }
    if let Some(other) = parts.iter().find(|p| p.dtype != stored) {
        return exact(Some(format!("its parts are {stored} and {}, so it is F32", other.dtype)));
    }
    let storable = match target.kind {
        FormatKind::HfFolder => stored.is_plain_float(),
        FormatKind::Gguf => stored.ggml_id().is_some(),
        FormatKind::Apr => target.dialect.byte(stored).is_some(),
    };
    let for_aprender = target.kind == FormatKind::Apr && target.dialect == AprDialect::Aprender;
    if for_aprender && stored == DType::BF16 {
        // aprender 0.72 runs BF16, but its `check` does not compute with it.
        return exact(Some("aprender computes BF16 only in part, so it is F32".to_owned()));
    }
    if !storable {
        let note = format!("{} cannot hold {stored}, so it is F32", target.kind.name());
        return exact((target.kind != FormatKind::HfFolder).then_some(note));
    }
    // A plain float can be put anywhere; blocks only stay whole while rows do, and flat ones not even then.
    let flat = matches!(stored, DType::AprQ4 | DType::AprQ8);
    if stored.is_plain_float() || layout.untouched || (layout.row_wise && !flat) {
        return Choice { dtype: stored, note: None };
    }
    exact(Some(format!("its {stored} blocks cannot be turned, so it is F32")))
}

/// Norms, biases and learned positions: small, and read directly by the arithmetic.
fn is_vector(role: Role, shape: &Shape) -> bool {
    shape.ndim() < 2 || role == Role::Positions
}

/// The encoding where one rule serves every matrix; `None` where a recipe mixes.
pub(super) fn plain(quantize: Quantize, role: Role) -> Option<DType> {
    match (quantize, role) {
        (Quantize::F32 | Quantize::F16 | Quantize::Bf16 | Quantize::Int8, _) => Some(quantize.main()),
        (Quantize::Int4, Role::Embedding | Role::Head) => Some(DType::Q8_0),
        (Quantize::Int4, Role::Positions | Role::Linear | Role::Norm | Role::Bias) => Some(DType::Q4_0),
        _ => None,
    }
}

/// aprender's own rule (reference A.4): fp16 takes everything, the integers what is neither named like a norm
/// or bias nor small. Its engine reads learned positions as plain floats only, whatever its importer writes.
fn aprender(quantize: Quantize, role: Role, name: &str, shape: &Shape) -> Option<DType> {
    let kept = ["bias", "layernorm", "layer_norm", "norm.weight"].iter().any(|part| name.contains(part));
    let small = kept || role == Role::Positions || shape.numel() < 1024;
    match quantize {
        Quantize::F32 => Some(DType::F32),
        Quantize::F16 => Some(DType::F16),
        Quantize::Bf16 if small => Some(DType::F32),
        Quantize::Bf16 => Some(DType::BF16),
        Quantize::Int8 | Quantize::Int4 | Quantize::Q8_0 | Quantize::Q4_0 if small => Some(DType::F32),
        Quantize::Int8 | Quantize::Q8_0 => Some(DType::AprQ8),
        Quantize::Int4 | Quantize::Q4_0 => Some(DType::AprQ4),
        _ => None,
    }
}
