//! Rows of one weight in another order, and weights written the other way round.

use super::draft::Draft;
use super::{Done, Plant};
use crate::Result;
use crate::contract::families::Role;
use crate::models::{CanonicalTensor, RowOrder, rows_of};
use crate::stats::Dice;

/// The canonical tensors of the draft that `wanted` accepts.
pub(super) fn tensors(draft: &Draft, wanted: impl Fn(&CanonicalTensor) -> bool) -> Vec<CanonicalTensor> {
    draft.bound.tensors.iter().filter(|t| wanted(t)).cloned().collect()
}

/// `q_proj` of `3.q_proj.weight`, `output_norm` of `output_norm.weight`.
pub(super) fn part(name: &str) -> &str {
    name.rsplit('.').nth(1).unwrap_or(name)
}

/// The layer of a canonical name.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    name.split('.').next()?.parse().ok()
}

fn is_query_or_key(t: &CanonicalTensor) -> bool {
    t.role == Role::Linear && matches!(part(&t.name), "q_proj" | "k_proj")
}

/// Rows of q or k left as Hugging Face has them, where interleaved pairs are due.
pub(super) const ROPE_MISSING: Plant = |draft, dice| {
    permute(
        draft,
        dice,
        is_query_or_key,
        |order, r| order.stored_row(r),
        "are stored as halves, not as pairs",
    )
};

/// Rows of q or k put into pairs twice.
pub(super) const ROPE_DOUBLED: Plant = |draft, dice| {
    permute(draft, dice, is_query_or_key, |order, r| order.canonical_row(r), "were put into pairs twice")
};

/// Rows of q or k put into pairs where halves are due.
pub(super) const ROPE_UNWANTED: Plant = |draft, dice| {
    permute(
        draft,
        dice,
        is_query_or_key,
        |order, r| order.canonical_row(r),
        "were put into pairs, and halves are due",
    )
};

/// The bias put into pairs, its weight not.
pub(super) const ROPE_BIAS: Plant = |draft, dice| {
    let of_bias = |t: &CanonicalTensor| t.role == Role::Bias && matches!(part(&t.name), "q_proj" | "k_proj");
    permute(draft, dice, of_bias, |order, r| order.canonical_row(r), "are in another order than its weight's")
};

/// Rows of k put into pairs as if it had as many heads as q.
pub(super) const ROPE_HEADS: Plant = |draft, dice| {
    let config = draft.config().clone();
    let keys = tensors(draft, |t| t.role == Role::Linear && part(&t.name) == "k_proj");
    let Some(t) = dice.pick(&keys).cloned() else { return Ok(None) };
    let rows = t.shape.rows();
    let wrong_width = rows.checked_div(config.n_heads).unwrap_or(0);
    if config.n_heads == config.n_kv_heads || wrong_width < 2 || !rows.is_multiple_of(config.n_heads * 2) {
        return Ok(None);
    }
    let right = RowOrder::RopePairs { head_dim: config.head_dim };
    let wrong = RowOrder::RopePairs { head_dim: wrong_width };
    draft.move_rows(&t, |r| wrong.canonical_row(right.stored_row(r)))?;
    let what = format!(
        "{}: rows put into pairs with {} heads, it has {}",
        t.name, config.n_heads, config.n_kv_heads
    );
    Done::of(&t.name, what)
};

fn permute(
    draft: &mut Draft,
    dice: &mut Dice,
    wanted: impl Fn(&CanonicalTensor) -> bool,
    from: impl Fn(RowOrder, usize) -> usize,
    what: &str,
) -> Result<Option<Done>> {
    let order = RowOrder::RopePairs { head_dim: draft.config().head_dim };
    let Some(t) = dice.pick(&tensors(draft, wanted)).cloned() else { return Ok(None) };
    draft.move_rows(&t, |r| from(order, r))?;
    Done::of(&t.name, format!("{}: its rows {what}", t.name))
}

/// A square weight transposed: no shape tells.
pub(super) const SQUARE_TRANSPOSED: Plant = |draft, dice| {
    let square =
        tensors(draft, |t| t.role == Role::Linear && t.shape.ndim() == 2 && t.shape.0[0] == t.shape.0[1]);
    let Some(t) = dice.pick(&square).cloned() else { return Ok(None) };
    transpose(draft, &t)
};

/// Data of a weight written column by column beneath its right shape.
pub(super) const TRANSPOSED: Plant = |draft, dice| {
    let linear = tensors(draft, |t| t.role == Role::Linear);
    let Some(t) = dice.pick(&linear).cloned() else { return Ok(None) };
    transpose(draft, &t)
};

/// Embedding or head written column by column beneath its right shape.
pub(super) const EMBEDDING_TRANSPOSED: Plant = |draft, dice| {
    let wide = tensors(draft, |t| matches!(t.role, Role::Embedding | Role::Head));
    let Some(t) = dice.pick(&wide).cloned() else { return Ok(None) };
    transpose(draft, &t)
};

fn transpose(draft: &mut Draft, t: &CanonicalTensor) -> Result<Option<Done>> {
    let (rows, width) = rows_of(&t.shape);
    draft.change_values(t, |values| {
        let old = values.clone();
        for (i, value) in values.iter_mut().enumerate() {
            *value = old[i % rows * width + i / rows];
        }
    })?;
    Done::of(&t.name, format!("{}: written column by column, its shape kept", t.name))
}

/// The rows of the learned positions moved by one.
pub(super) const POSITIONS_SHIFTED: Plant = |draft, _| {
    let found = tensors(draft, |t| t.role == Role::Positions);
    let Some(t) = found.first().cloned() else { return Ok(None) };
    let rows = t.shape.rows();
    draft.move_rows(&t, |r| (r + 1).min(rows - 1))?;
    Done::of(&t.name, format!("{}: every position has the row of the next", t.name))
};

/// A range of embedding or head rows moved by one.
pub(super) const EMBEDDING_PERMUTED: Plant = |draft, dice| {
    let wide = tensors(draft, |t| matches!(t.role, Role::Embedding | Role::Head));
    let Some(t) = dice.pick(&wide).cloned() else { return Ok(None) };
    let rows = t.shape.rows();
    if rows < 32 {
        return Ok(None);
    }
    let length = 16 + dice.below(rows - 16);
    let first = dice.below(rows - length + 1);
    draft.move_rows(&t, |r| match r.checked_sub(first) {
        Some(k) if k < length => first + (k + 1) % length,
        Some(_) | None => r,
    })?;
    Done::of(&t.name, format!("{}: rows {first} to {} moved by one", t.name, first + length - 1))
};
