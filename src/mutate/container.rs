//! What a container says of its tensors: types, sizes, places, shards, keys.

use super::draft::{Draft, Shards};
use super::rows::tensors;
use super::{Done, Plant};
use crate::Result;
use crate::formats::{FormatKind, IndexEntry, StoredType};
use crate::models::CanonicalTensor;
use crate::stats::Dice;
use crate::tensor::DType;

/// The type of one tensor set to another that the format knows.
pub(super) const MISLABELLED: Plant = |draft, dice| {
    let any = |_: &CanonicalTensor| true;
    // Q4_0 and IQ4_NL, F16 and BF16 have one size: nothing but the values can tell.
    let other = |dtype: DType, dice: &mut Dice| match (dtype, dice.below(2)) {
        (DType::Q4_0, 0) => DType::IQ4_NL,
        (DType::BF16, 0) => DType::F16,
        (DType::F16, 0) => DType::BF16,
        _ => {
            let known =
                [DType::F32, DType::F16, DType::BF16, DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Q6_K];
            let others: Vec<DType> = known.into_iter().filter(|d| *d != dtype).collect();
            others[dice.below(others.len())]
        }
    };
    relabel(draft, dice, any, other)
};

/// A quantised tensor called F32: the default of a reader that does not know the number.
pub(super) const AS_F32: Plant = |draft, dice| {
    let not_f32 = |t: &CanonicalTensor| t.dtype != DType::F32;
    relabel(draft, dice, not_f32, |_, _| DType::F32)
};

fn relabel(
    draft: &mut Draft,
    dice: &mut Dice,
    wanted: impl Fn(&CanonicalTensor) -> bool,
    other: impl Fn(DType, &mut Dice) -> DType,
) -> Result<Option<Done>> {
    let Some(t) = dice.pick(&tensors(draft, wanted)).cloned() else { return Ok(None) };
    let other = other(t.dtype, dice);
    let Some(label) = label(draft.kind(), other) else { return Ok(None) };
    let name = t.stored.clone();
    draft.patch = Some(Box::new(move |index| {
        for entry in index.entries.iter_mut().filter(|e| e.name == name) {
            entry.dtype = label.clone();
        }
    }));
    let names = tensors(draft, |s| s.stored == t.stored).into_iter().map(|s| s.name);
    Done::of_many(names, format!("`{}` is {} and is called {other}", t.stored, t.dtype))
}

fn label(kind: FormatKind, dtype: DType) -> Option<StoredType> {
    match kind {
        FormatKind::Gguf => dtype.ggml_id().map(StoredType::Number),
        FormatKind::Apr => {
            crate::formats::AprDialect::Contract.byte(dtype).map(|b| StoredType::Number(b.into()))
        }
        FormatKind::HfFolder => match dtype {
            DType::F32 | DType::F16 | DType::BF16 => Some(StoredType::Name(dtype.name().to_owned())),
            _ => None,
        },
    }
}

/// Every type by the numbers that one writer had of its own, where the reader has GGML's.
pub(super) const PRIVATE_NUMBERS: Plant = |draft, _| {
    let private = |number: u32| match DType::from_ggml_id(number)? {
        DType::Q4_K => Some(8),
        DType::Q6_K => Some(9),
        DType::Q8_0 => Some(10),
        DType::Q4_0 => Some(11),
        DType::Q5_K => Some(12),
        DType::BF16 => Some(2),
        _ => None,
    };
    let meant = tensors(draft, |t| t.dtype.ggml_id().and_then(private).is_some());
    if meant.is_empty() || draft.kind() == FormatKind::HfFolder {
        return Ok(None);
    }
    draft.patch = Some(Box::new(move |index| {
        for entry in &mut index.entries {
            if let StoredType::Number(number) = &mut entry.dtype
                && let Some(other) = private(*number)
            {
                *number = other;
            }
        }
    }));
    let what = format!("{} tensors are labelled by a numbering of the writer's own", meant.len());
    Done::of_many(meant.into_iter().map(|t| t.name), what)
};

/// The dimensions of one weight in the other order.
pub(super) const DIMS_REVERSED: Plant = |draft, dice| {
    let oblong = tensors(draft, |t| t.is_whole() && matches!(&t.shape.0[..], [a, b] if a != b));
    let Some(t) = dice.pick(&oblong).cloned() else { return Ok(None) };
    let name = t.stored.clone();
    draft.patch = Some(Box::new(move |index| {
        index.entries.iter_mut().filter(|e| e.name == name).for_each(|e| e.dims.reverse());
    }));
    Done::of(&t.name, format!("`{}`: its dimensions are in the other order", t.stored))
};

/// One tensor read from a block too late: its data moved up, the next one's first block at its end.
pub(super) const OFF_BY_A_BLOCK: Plant = |draft, dice| {
    let at = dice.below(draft.tensors.len().saturating_sub(1).max(1));
    let [one, next, ..] = &draft.tensors[at..] else { return Ok(None) };
    let step = if one.tensor.dtype.block_bytes() > 4 { one.tensor.dtype.block_bytes() } else { 32 };
    let flat = super::draft::is_flat(one.tensor.dtype);
    if flat || one.tensor.bytes.len() <= step || next.tensor.bytes.len() < step {
        return Ok(None);
    }
    let name = one.name.clone();
    let bytes = [&one.tensor.bytes[step..], &next.tensor.bytes[..step]].concat();
    draft.replace(&name, bytes)?;
    let names: Vec<String> = tensors(draft, |t| t.stored == name).into_iter().map(|t| t.name).collect();
    if names.is_empty() {
        return Ok(None);
    }
    Done::of_many(names, format!("`{name}`: its data begins {step} bytes late"))
};

/// Every place after one tensor moved by one alignment unit.
pub(super) const OFFSETS_SHIFTED: Plant = |draft, dice| {
    let first = dice.below(draft.tensors.len());
    let unit = match draft.kind() {
        FormatKind::Gguf => 32,
        FormatKind::Apr => 64,
        FormatKind::HfFolder => 8,
    };
    draft.patch = Some(Box::new(move |index| {
        index.entries.iter_mut().skip(first).for_each(|entry: &mut IndexEntry| entry.offset += unit);
    }));
    Done::of("file", format!("every place from tensor {first} of the index on is {unit} bytes too far"))
};

/// A key that stands twice.
pub(super) const KEY_TWICE: Plant = |draft, _| {
    let key = super::settings::layer_count_key(draft)?;
    let what = format!("`{key}` stands twice");
    draft.patch = Some(Box::new(move |index| index.repeated_key = Some(key.clone())));
    Done::of("n_layers", what)
};

/// The file ends early.
pub(super) const CUT_SHORT: Plant = |draft, dice| {
    draft.cut = Some(0.2 + 0.7 * dice.uniform());
    Done::of("file", "the file ends early")
};

/// The second of two shards is not there, whether the index knows of it or not.
pub(super) const SHARD_SKIPPED: Plant = |draft, dice| {
    if draft.kind() != FormatKind::HfFolder || draft.tensors.len() < 2 {
        return Ok(None);
    }
    draft.shards = Some(if dice.below(2) == 0 { Shards::Gone } else { Shards::Forgotten });
    let lost: Vec<String> = draft.tensors[draft.tensors.len() / 2..].iter().map(|t| t.name.clone()).collect();
    let names = tensors(draft, |t| lost.contains(&t.stored)).into_iter().map(|t| t.name);
    Done::of_many(names, format!("the shard with {} tensors is not in the folder", lost.len()))
};

/// The index of another set of shards.
pub(super) const SHARD_STALE: Plant = |draft, _| {
    if draft.kind() != FormatKind::HfFolder || draft.tensors.len() < 2 {
        return Ok(None);
    }
    draft.shards = Some(Shards::Stale);
    let moved = draft.tensors[draft.tensors.len() / 2].name.clone();
    let names = tensors(draft, |t| t.stored == moved).into_iter().map(|t| t.name);
    Done::of_many(names, format!("the index says that `{moved}` is in the first shard"))
};

/// The folder without its config.
pub(super) const CONFIG_LOST: Plant = |draft, _| {
    if draft.kind() != FormatKind::HfFolder {
        return Ok(None);
    }
    draft.left_out.push("config.json");
    Done::of("config.json", "the folder has no config.json")
};
