//! Tensors and layers in each other's place, lost, doubled, or fused.

use super::draft::Draft;
use super::edit::Contents;
use super::rows::{layer_of, part, tensors};
use super::{Done, Plant};
use crate::Result;
use crate::contract::families::Role;
use crate::models::CanonicalTensor;
use crate::stats::Dice;
use crate::tensor::{Bytes, DType, Shape, Tensor};
use crate::{formats::NamedTensor, quant};
use std::collections::BTreeSet;

/// k and v of one layer in each other's place; q and k where they have one shape.
pub(super) const ATTENTION_SWAPPED: Plant = |draft, dice| {
    let pairs = [("k_proj", "v_proj"), ("q_proj", "o_proj"), ("q_proj", "k_proj"), ("v_proj", "o_proj")];
    swapped(draft, dice, &pairs, Role::Linear)
};

/// Gate and up of one layer in each other's place.
pub(super) const GATE_UP_SWAPPED: Plant =
    |draft, dice| swapped(draft, dice, &[("gate_proj", "up_proj")], Role::Linear);

/// Two norms of one layer in each other's place.
pub(super) const NORMS_SWAPPED: Plant = |draft, dice| {
    let pairs = [("attn_norm", "ffn_norm"), ("q_norm", "k_norm"), ("post_attn_norm", "post_ffn_norm")];
    swapped(draft, dice, &pairs, Role::Norm)
};

fn swapped(draft: &mut Draft, dice: &mut Dice, pairs: &[(&str, &str)], role: Role) -> Result<Option<Done>> {
    let of_role = tensors(draft, |t| t.role == role && layer_of(&t.name).is_some());
    let mut candidates: Vec<(CanonicalTensor, CanonicalTensor)> = Vec::new();
    for a in &of_role {
        for b in &of_role {
            let parts = (part(&a.name), part(&b.name));
            if pairs.contains(&parts) && layer_of(&a.name) == layer_of(&b.name) && a.shape == b.shape {
                candidates.push((a.clone(), b.clone()));
            }
        }
    }
    let Some((a, b)) = dice.pick(&candidates).cloned() else { return Ok(None) };
    draft.swap(&a, &b)?;
    let what = format!("{} and {} are in each other's place", a.name, b.name);
    Done::of_many([a.name, b.name], what)
}

/// The parts of one fused tensor in another order: k, v, q.
pub(super) const FUSED_ORDER: Plant = |draft, dice| {
    let queries = tensors(draft, |t| t.role == Role::Linear && part(&t.name) == "q_proj" && !t.is_whole());
    let Some(q) = dice.pick(&queries).cloned() else { return Ok(None) };
    let parts = tensors(draft, |t| t.stored == q.stored);
    let [q, k, v] = parts.as_slice() else { return Ok(None) };
    if q.shape == k.shape && k.shape == v.shape {
        let contents = [q, k, v].map(|t| draft.blocks_or_values(t));
        let [of_q, of_k, of_v] = contents;
        draft.put(q, of_k?)?;
        draft.put(k, of_v?)?;
        draft.put(v, of_q?)?;
    } else {
        let (Some(a), Some(b), Some(c)) = (draft.byte_range(q)?, draft.byte_range(k)?, draft.byte_range(v)?)
        else {
            return Ok(None);
        };
        let bytes = draft.stored(&q.stored)?.tensor.bytes.clone();
        draft.replace(&q.stored, [&bytes[b], &bytes[c], &bytes[a]].concat())?;
    }
    let what = format!("`{}` holds k, v and q in this order", q.stored);
    Done::of_many([q, k, v].map(|t| t.name.clone()), what)
};

/// From one layer on, every layer holds the next one's weights.
pub(super) const SHIFTED: Plant = |draft, dice| {
    let n = draft.config().n_layers;
    if n < 2 {
        return Ok(None);
    }
    let first = dice.below(n - 1);
    rearrange(draft, |l| {
        if l < first {
            l
        } else if l + 1 < n {
            l + 1
        } else {
            first
        }
    })?;
    let what = format!("from layer {first} on every layer holds the next one's weights");
    Done::of_many((first..n).map(|l| format!("layer {l}")), what)
};

/// One layer twice, another lost.
pub(super) const DUPLICATED: Plant = |draft, dice| {
    let n = draft.config().n_layers;
    if n < 2 {
        return Ok(None);
    }
    let target = dice.below(n);
    let source = (target + 1 + dice.below(n - 1)) % n;
    rearrange(draft, |l| if l == target { source } else { l })?;
    Done::of(&format!("layer {target}"), format!("layer {target} holds the weights of layer {source}"))
};

/// Gives layer `l` the weights of layer `from(l)`.
fn rearrange(draft: &mut Draft, from: impl Fn(usize) -> usize) -> Result<()> {
    let layered = tensors(draft, |t| layer_of(&t.name).is_some_and(|l| from(l) != l));
    let mut moves: Vec<(CanonicalTensor, Contents)> = Vec::new();
    for target in layered {
        let layer = layer_of(&target.name).unwrap_or(0);
        let name = target.name.replacen(&layer.to_string(), &from(layer).to_string(), 1);
        if let Some(source) = draft.canonical(&name) {
            let contents = draft.blocks_or_values(source)?;
            moves.push((target, contents));
        }
    }
    moves.into_iter().try_for_each(|(target, contents)| draft.put(&target, contents))
}

/// One layer's tensors are not there, though it is declared.
pub(super) const MISSING: Plant = |draft, dice| {
    let layer = dice.below(draft.config().n_layers);
    let gone = stored_of(draft, layer);
    draft.tensors.retain(|t| !gone.contains(&t.name));
    Done::of(
        &format!("layer {layer}"),
        format!("the {} tensors of layer {layer} are not in the file", gone.len()),
    )
};

/// One layer taken out, those above it renumbered, and the count with them.
pub(super) const DROPPED: Plant = |draft, dice| {
    let n = draft.config().n_layers;
    if n < 2 {
        return Ok(None);
    }
    let layer = dice.below(n);
    let gone = stored_of(draft, layer);
    draft.tensors.retain(|t| !gone.contains(&t.name));
    for above in layer + 1..n {
        for name in stored_of(draft, above) {
            let renamed = renumbered(&name, above - 1);
            draft.stored(&name)?.name = renamed;
        }
    }
    super::settings::change(draft, |config| config.n_layers -= 1)?;
    let what = format!("layer {layer} is left out, the others moved up, {} layers declared", n - 1);
    Done::of("n_layers", what)
};

fn stored_of(draft: &Draft, layer: usize) -> BTreeSet<String> {
    tensors(draft, |t| layer_of(&t.name) == Some(layer)).into_iter().map(|t| t.stored).collect()
}

/// A stored name with another layer: its first part that is a number.
fn renumbered(name: &str, layer: usize) -> String {
    let mut done = false;
    let parts = name.split('.').map(|part| {
        if !done && part.parse::<usize>().is_ok() {
            done = true;
            return layer.to_string();
        }
        part.to_owned()
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Half of the layers' tensors are not there.
pub(super) const TENSORS_LOST: Plant = |draft, dice| {
    let layered = tensors(draft, |t| layer_of(&t.name).is_some());
    let stored: BTreeSet<String> =
        layered.iter().filter(|_| dice.below(2) == 0).map(|t| t.stored.clone()).collect();
    if stored.is_empty() {
        return Ok(None);
    }
    draft.tensors.retain(|t| !stored.contains(&t.name));
    let names = layered.into_iter().filter(|t| stored.contains(&t.stored)).map(|t| t.name);
    Done::of_many(names, format!("{} tensors are not in the file", stored.len()))
};

/// q, k and v of one layer written as one tensor, in a file that has them apart.
pub(super) const QKV_FUSED: Plant = |draft, dice| {
    let queries = tensors(draft, |t| t.role == Role::Linear && part(&t.name) == "q_proj" && t.is_whole());
    let Some(q) = dice.pick(&queries).cloned() else { return Ok(None) };
    let layer = layer_of(&q.name);
    let parts = tensors(draft, |t| {
        t.role == Role::Linear
            && layer_of(&t.name) == layer
            && matches!(part(&t.name), "q_proj" | "k_proj" | "v_proj")
    });
    let [q, k, v] = parts.as_slice() else { return Ok(None) };
    let mut values = draft.values(q)?;
    values.extend(draft.values(k)?);
    values.extend(draft.values(v)?);
    let shape = Shape::from([[q, k, v].map(|t| t.shape.rows()).iter().sum(), q.shape.row_len()]);
    let dtype = if q.dtype.nbytes(&shape).is_some() { q.dtype } else { DType::F32 };
    let bytes = Bytes::from_vec(quant::from_f32(dtype, &shape, &values)?);
    let name = q.stored.replace("q_proj", "qkv_proj").replace("attn_q.", "attn_qkv.");
    let gone = [&q.stored, &k.stored, &v.stored];
    draft.tensors.retain(|t| !gone.contains(&&t.name));
    draft.tensors.push(NamedTensor {
        name: name.clone(),
        tensor: Tensor { dtype, shape, bytes },
        offset: 0,
        file: 0,
    });
    Done::of_many([q, k, v].map(|t| t.name.clone()), format!("q, k and v are fused in `{name}`"))
};
