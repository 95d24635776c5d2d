//! Norm weights and biases.

use super::draft::Draft;
use super::rows::{layer_of, tensors};
use super::{Done, Plant};
use crate::Result;
use crate::contract::families::Role;
use crate::stats::Dice;
use std::collections::BTreeSet;

/// One norm a whole unit too large: 1 was folded in twice, or where no family does.
pub(super) const PLUS_ONE: Plant = |draft, dice| norm(draft, dice, "1 was added", |v| v + 1.0);

/// One norm a whole unit too small: the 1 of `1 + w` was taken out, or never put in.
pub(super) const MINUS_ONE: Plant = |draft, dice| norm(draft, dice, "1 was taken", |v| v - 1.0);

/// One norm all zero.
pub(super) const ZEROED: Plant = |draft, dice| norm(draft, dice, "every value is 0", |_| 0.0);

fn norm(draft: &mut Draft, dice: &mut Dice, what: &str, change: impl Fn(f32) -> f32) -> Result<Option<Done>> {
    let Some(t) = dice.pick(&tensors(draft, |t| t.role == Role::Norm)).cloned() else { return Ok(None) };
    draft.change_values(&t, |values| values.iter_mut().for_each(|v| *v = change(*v)))?;
    Done::of(&t.name, format!("{}: {what}", t.name))
}

/// Biases that are not there: those of one layer, or those of all.
pub(super) const BIAS_DROPPED: Plant = |draft, dice| {
    let biases = tensors(draft, |t| t.role == Role::Bias && layer_of(&t.name).is_some());
    let Some(t) = dice.pick(&biases).cloned() else { return Ok(None) };
    let everywhere = dice.below(3) == 0;
    let gone: Vec<_> =
        biases.into_iter().filter(|b| everywhere || layer_of(&b.name) == layer_of(&t.name)).collect();
    let stored: BTreeSet<&str> = gone.iter().map(|b| b.stored.as_str()).collect();
    draft.tensors.retain(|t| !stored.contains(t.name.as_str()));
    let whose = if everywhere {
        "every layer".to_owned()
    } else {
        format!("layer {}", layer_of(&t.name).unwrap_or(0))
    };
    let what = format!("the {} biases of {whose} are not in the file", gone.len());
    Done::of_many(gone.into_iter().map(|b| b.name), what)
};

/// One bias all zero.
pub(super) const BIAS_ZEROED: Plant = |draft, dice| {
    let Some(t) = dice.pick(&tensors(draft, |t| t.role == Role::Bias)).cloned() else { return Ok(None) };
    draft.change_values(&t, |values| values.fill(0.0))?;
    Done::of(&t.name, format!("{}: every value is 0", t.name))
};
