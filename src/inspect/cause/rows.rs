//! Rows and columns in another order: transposed, permuted for rotary pairs, permuted any way.

use super::{Cause, Heads, Test};
use crate::models::RowOrder;

/// Saved column by column; square weights show it by nothing else.
pub(super) fn transposed(test: &Test) -> Option<Cause> {
    let &[rows, columns] = &test.suspect.shape.0[..] else { return None };
    let original = test.suspect.original;
    if rows.checked_mul(columns) != Some(original.len()) || rows == 1 || columns == 1 {
        return None;
    }
    test.explained("transposed", "saved transposed", &transpose(original, rows, columns))
}

/// Rows of q and k, weights and biases, permuted for interleaved pairs where they must not be, not where they must,
/// twice, or by the wrong number of heads. Keys have fewer heads than queries, so a permutation by the queries' count
/// cuts them into heads of another width.
pub(super) fn reordered_for_rope(test: &Test) -> Option<Cause> {
    let name = test.suspect.name;
    let of_keys = name.contains("k_proj.");
    let heads = test.suspect.heads.filter(|_| of_keys || name.contains("q_proj."))?;
    let (rows, _) = test.rows()?;
    let right = pairs(rows, heads.width)?;
    let original = test.suspect.original;
    let mut best: Option<Cause> = None;
    let mut offer = |cause: Option<Cause>| {
        if cause.as_ref().map_or(0.0, |c| c.score) > best.as_ref().map_or(0.0, |c| c.score) {
            best = cause;
        }
    };
    let simple = [
        (false, "rows are stored as interleaved pairs and were not put back into halves"),
        (true, "rows are stored as halves where interleaved pairs are due"),
    ];
    for (back, what) in simple {
        offer(test.explained("rows-interleaved", what, &reordered(original, rows, right, back)));
    }
    let (count, sentence) = wrong_heads(of_keys, heads);
    if let Some(wrong) = rows.checked_div(count).and_then(|width| pairs(rows, width)).filter(|w| *w != right)
    {
        let permuted = reordered(original, rows, wrong, false);
        let put_back = reordered(original, rows, wrong, true);
        let wrongly = [
            reordered(&permuted, rows, right, true),
            reordered(&put_back, rows, right, false),
            permuted,
            put_back,
        ];
        for explanation in &wrongly {
            offer(test.explained("rows-permuted-by-wrong-heads", &sentence, explanation));
        }
    }
    best
}

fn wrong_heads(of_keys: bool, heads: Heads) -> (usize, String) {
    let (q, k) = (heads.queries, heads.keys);
    match of_keys {
        true => (q, format!("K permuted with n_heads ({q}) instead of n_kv_heads ({k})")),
        false => (k, format!("Q permuted with n_kv_heads ({k}) instead of n_heads ({q})")),
    }
}

/// Rows that are another row of the original: a few of those that are wrong are looked for among all.
pub(super) fn matched(test: &Test) -> Option<Cause> {
    let (rows, width) = test.rows()?;
    if width < 8 || rows < 2 {
        return None;
    }
    let (original, found) = (test.suspect.original, test.suspect.found);
    let row = |values: &'_ [f32], r: usize| -> Vec<f32> { values[r * width..(r + 1) * width].to_vec() };
    let wrong: Vec<usize> = (0..rows)
        .filter(|r| {
            let at = r * width..(r + 1) * width;
            // A row that points elsewhere, not one that is merely scaled or rounded.
            cosine(&original[at.clone()], &found[at]) < ELSEWHERE
        })
        .collect();
    if wrong.is_empty() {
        return None;
    }
    let looked_for: Vec<usize> = wrong.iter().copied().step_by(wrong.len().div_ceil(SAMPLE)).collect();
    let mut matches = Vec::new();
    for r in &looked_for {
        let wanted = row(found, *r);
        let best = (0..rows)
            .map(|other| (other, cosine(&original[other * width..(other + 1) * width], &wanted)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        if best.0 != *r && best.1 > SAME {
            matches.push((*r, best.0));
        }
    }
    if matches.len() * 4 < looked_for.len() * 3 {
        return None;
    }
    let (from, to) = matches[0];
    let moved = to as i64 - from as i64;
    let shifted = matches.len() > 2 && matches.iter().all(|(r, other)| *other as i64 - *r as i64 == moved);
    let what = match (shifted, wrong.len()) {
        (true, n) => format!("{n} rows are those that stand {} rows {}", moved.abs(), side(moved)),
        (false, n) => format!("{n} rows are in another order: row {from} is the original's row {to}"),
    };
    let table = test.suspect.name.starts_with("token_embd.") || test.suspect.name.starts_with("output.");
    let id = if table { "embedding-permuted" } else { "rows-permuted" };
    Some(Cause { id, sentence: what, score: 0.95 * matches.len() as f64 / looked_for.len() as f64 })
}

fn side(moved: i64) -> &'static str {
    if moved < 0 { "before" } else { "after" }
}

/// So many wrong rows are looked for.
const SAMPLE: usize = 12;

/// Below this cosine a row points elsewhere: 2-bit rounding leaves 0.93.
const ELSEWHERE: f64 = 0.5;

/// Above this it is the same row, rounded. Rows of trained embeddings reach 0.7 between different tokens.
const SAME: f64 = 0.85;

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut inner, mut x, mut y) = (0.0f32, 0.0f32, 0.0f32);
    for (p, q) in a.iter().zip(b) {
        inner += p * q;
        x += p * p;
        y += q * q;
    }
    // Two rows of zeros are the same row.
    if x == 0.0 && y == 0.0 {
        return 1.0;
    }
    let lengths = (f64::from(x) * f64::from(y)).sqrt();
    if lengths > 0.0 { f64::from(inner) / lengths } else { 0.0 }
}

/// The order of interleaved pairs in heads of this width, which must be even and divide the rows.
fn pairs(rows: usize, head_dim: usize) -> Option<RowOrder> {
    (head_dim > 1 && head_dim.is_multiple_of(2) && rows.is_multiple_of(head_dim))
        .then_some(RowOrder::RopePairs { head_dim })
}

/// `values` of `rows` rows put into `order`, or `back` out of it.
pub(super) fn reordered(values: &[f32], rows: usize, order: RowOrder, back: bool) -> Vec<f32> {
    let width = values.len().checked_div(rows).unwrap_or(0);
    let mut out = vec![0.0; values.len()];
    for canonical in 0..rows {
        let stored = order.stored_row(canonical);
        let (from, to) = if back { (stored, canonical) } else { (canonical, stored) };
        let (Some(source), Some(target)) =
            (values.get(from * width..(from + 1) * width), out.get_mut(to * width..(to + 1) * width))
        else {
            continue;
        };
        target.copy_from_slice(source);
    }
    out
}

/// `[rows, columns]` written column by column.
pub(super) fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
}
