//! Embedding and head: tied, untied, scaled, cut; and tensors that are none of the model's.

use super::draft::Draft;
use super::rows::{layer_of, tensors};
use super::{Done, Plant};
use crate::contract::families::Role;
use crate::formats::{Container, FormatKind, NamedTensor};
use crate::models::{CanonicalTensor, Naming};
use crate::quant;
use crate::tensor::{Bytes, DType, Shape, Tensor};

/// A tied model gains a head of its own that is no copy; an untied one loses its head.
pub(super) const TIE_BROKEN: Plant = |draft, _| {
    if let Some(head) = draft.canonical("output.weight").cloned() {
        draft.tensors.retain(|t| t.name != head.stored);
        return Done::of_many(["output.weight", "tied_embeddings"], "the head is not in the file");
    }
    let Some(embedding) = draft.canonical("token_embd.weight").cloned() else { return Ok(None) };
    let Some(name) = head_name(draft, &embedding) else { return Ok(None) };
    let mut values = draft.values(&embedding)?;
    let width = embedding.shape.row_len();
    values.rotate_left(width);
    let bytes = Bytes::from_vec(quant::from_f32(embedding.dtype, &embedding.shape, &values)?);
    let tensor = Tensor { dtype: embedding.dtype, shape: embedding.shape.clone(), bytes };
    draft.tensors.push(NamedTensor { name: name.clone(), tensor, offset: 0, file: 0 });
    let what = format!("`{name}` stands beside the embedding that is the head, and differs from it");
    Done::of_many(["output.weight", "tied_embeddings"], what)
};

/// What this container calls the head.
fn head_name(draft: &Draft, embedding: &CanonicalTensor) -> Option<String> {
    let contract = draft.bound.family.contract();
    let row = |role: Role| contract.tensors.iter().find(|row| row.role == role);
    let (of_embedding, of_head) = (row(Role::Embedding)?, row(Role::Head)?);
    let naming = Naming::of(draft.kind())
        .iter()
        .find(|naming| naming.pattern(contract, of_embedding) == embedding.stored)?;
    Some(naming.pattern(contract, of_head).to_owned())
}

/// The embedding, and the head where there is one, lose their last rows; the sizes that are said stay.
pub(super) const PADDING_LOST: Plant = |draft, dice| {
    let tables = tensors(draft, |t| matches!(t.role, Role::Embedding | Role::Head));
    let Some(rows) = tables.iter().map(|t| t.shape.rows()).min().filter(|rows| *rows > 32) else {
        return Ok(None);
    };
    let cut = 1 + dice.below(16);
    for t in &tables {
        let mut values = draft.values(t)?;
        let shape = Shape::from([rows - cut, t.shape.row_len()]);
        values.truncate(shape.numel());
        let bytes = quant::from_f32(t.dtype, &shape, &values)?;
        let stored = draft.stored(&t.stored)?;
        stored.tensor = Tensor { dtype: t.dtype, shape, bytes: Bytes::from_vec(bytes) };
    }
    let names = tables.into_iter().map(|t| t.name).chain(["vocab_size".to_owned()]);
    Done::of_many(names, format!("the last {cut} of {rows} rows of the vocabulary are cut off"))
};

/// The factor of the embedding folded into its weights, which the decoder applies once more.
pub(super) const EMBED_SCALE: Plant = |draft, _| {
    let scale = draft.config().embed_scale;
    let Some(t) = draft.canonical("token_embd.weight").cloned().filter(|_| scale != 1.0) else {
        return Ok(None);
    };
    draft.change_values(&t, |values| values.iter_mut().for_each(|v| *v *= scale))?;
    Done::of(&t.name, format!("{}: multiplied by {scale}, which the decoder does again", t.name))
};

/// A Conv1D weight written `[in, out]`, as the source has it.
pub(super) const CONV1D: Plant = |draft, dice| {
    let linear = tensors(draft, |t| t.role == Role::Linear && !t.place.transposed && t.shape.ndim() == 2);
    let Some(t) = dice.pick(&linear).cloned() else { return Ok(None) };
    let stored = draft.stored(&t.stored)?.tensor.clone();
    let values = quant::to_f32(&stored)?;
    let &[rows, width] = &stored.shape.0[..] else { return Ok(None) };
    let turned: Vec<f32> = (0..values.len()).map(|i| values[i % rows * width + i / rows]).collect();
    let shape = Shape::from([width, rows]);
    let dtype = if stored.dtype.nbytes(&shape).is_some() { stored.dtype } else { DType::F32 };
    let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &turned)?);
    draft.stored(&t.stored)?.tensor = Tensor { dtype, shape, bytes };
    let names = tensors(draft, |other| other.stored == t.stored).into_iter().map(|t| t.name);
    Done::of_many(names, format!("`{}` is written [in, out], as Conv1D has it", t.stored))
};

/// The causal masks of GPT-2 checkpoints, exported as if they were weights.
pub(super) const MASKS: Plant = |draft, dice| {
    let layer = dice.below(draft.config().n_layers);
    let name = match draft.kind() {
        FormatKind::Gguf => format!("blk.{layer}.attn.bias"),
        FormatKind::Apr => format!("{layer}.attn.bias"),
        FormatKind::HfFolder => return Ok(None),
    };
    let mask = (0..64).map(|i| if i % 8 <= i / 8 { 1.0f32 } else { 0.0 });
    let bytes = Bytes::from_vec(mask.flat_map(f32::to_le_bytes).collect());
    let tensor = Tensor { dtype: DType::F32, shape: Shape::from([1, 1, 8, 8]), bytes };
    draft.tensors.push(NamedTensor { name: name.clone(), tensor, offset: 0, file: 0 });
    Done::of_many([name.clone(), format!("layer {layer}")], format!("the causal mask is a weight, `{name}`"))
};

/// The scales of a quantised source exported beside its raw numbers.
pub(super) const RAW_SCALES: Plant = |draft, dice| {
    let linear = tensors(draft, |t| t.role == Role::Linear);
    let Some(t) = dice.pick(&linear).cloned() else { return Ok(None) };
    let name = format!("{}_scale_inv", t.stored);
    let bytes = Bytes::from_vec(0.0125f32.to_le_bytes().to_vec());
    let tensor = Tensor { dtype: DType::F32, shape: Shape::from([1]), bytes };
    draft.tensors.push(NamedTensor { name: name.clone(), tensor, offset: 0, file: 0 });
    Done::of_many([t.name.clone(), name.clone()], format!("`{name}` is left over from a quantised source"))
};

/// Names of another dialect: all of them, or those of one layer.
pub(super) const OTHER_NAMES: Plant = |draft, dice| {
    let contract = draft.bound.family.contract();
    let declared = match &draft.side {
        Container::Apr(header) => header.declares_contract(),
        Container::Gguf(_) => true,
        Container::Hf(_) => false,
    };
    if !declared {
        return Ok(None);
    }
    let everywhere = dice.below(2) == 0;
    let layer = dice.below(draft.config().n_layers);
    let in_hand = tensors(draft, |t| everywhere || layer_of(&t.name) == Some(layer));
    let mut renamed = 0;
    for t in in_hand {
        let found = layer_of(&t.name).unwrap_or(0);
        let Some(row) =
            contract.tensors.iter().find(|row| row.name.replace("{n}", &found.to_string()) == t.name)
        else {
            continue;
        };
        let name = row.apr_hf().replace("{n}", &found.to_string());
        // Several canonical tensors may share a stored one, which then is renamed once.
        if let Some(stored) = draft.tensors.iter_mut().find(|s| s.name == t.stored && s.name != name) {
            stored.name = name;
            renamed += 1;
        }
    }
    if renamed == 0 {
        return Ok(None);
    }
    let whose = if everywhere { "all".to_owned() } else { format!("layer {layer}'s") };
    let what = format!("{whose} {renamed} tensors have the names of Hugging Face");
    let targets = if everywhere { Vec::new() } else { vec![format!("layer {layer}")] };
    Done::of_many(targets, what)
};
