//! Why two weights differ: each classic mistake of a converter is tried on the original, and the one that explains
//! the conversion is named.

use crate::models::RowOrder;
use crate::stats::Noise;
use crate::tensor::Shape;

/// Query and key-value heads of a model, as its config gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads.
    pub keys: usize,
    /// Width of one head.
    pub width: usize,
}

/// The mistake that turns `original` into `found`, in a sentence; `None` where none of the known ones does.
///
/// `name` and `shape` are canonical. A mistake counts as found where it explains the conversion to
/// [`EXPLAINED_DB`], and by as much better than no mistake at all.
pub fn likely_cause(
    name: &str,
    shape: &Shape,
    heads: Option<Heads>,
    original: &[f32],
    found: &[f32],
) -> Option<String> {
    let direct = Noise::between(original, found)?;
    if found.iter().all(|v| *v == 0.0) && original.iter().any(|v| *v != 0.0) {
        return Some("every value became zero".to_owned());
    }
    if direct.sqnr_db() >= ROUNDING_DB {
        return None;
    }
    let enough = EXPLAINED_DB.max(direct.sqnr_db() + EXPLAINED_DB);
    let explains =
        |candidate: &[f32]| Noise::between(candidate, found).is_some_and(|noise| noise.sqnr_db() >= enough);
    if let &[rows, columns] = &shape.0[..]
        && rows.checked_mul(columns) == Some(original.len())
        && explains(&transposed(original, rows, columns))
    {
        return Some("saved transposed".to_owned());
    }
    if let Some(cause) = heads.and_then(|heads| row_order(name, shape, heads, original, &explains)) {
        return Some(cause);
    }
    let (shift, factor) = (mean_difference(original, found), direct_factor(original, found));
    for (amount, what) in [(1.0, "1 was added to every value"), (-1.0, "1 was taken from every value")] {
        if (shift - amount).abs() < 0.01 && explains(&mapped(original, |v| v + amount as f32)) {
            return Some(format!("{what}: a norm stored as weight - 1 was read the other way"));
        }
    }
    let scaled = mapped(original, |v| (f64::from(v) * factor) as f32);
    if factor.is_finite() && factor != 0.0 && explains(&scaled) {
        return Some(format!("every value is multiplied by {factor:.6}"));
    }
    None
}

/// A mistake must explain the conversion to this signal-to-noise ratio: the coarsest encodings reach it.
pub const EXPLAINED_DB: f64 = 6.0;

/// From here on rounding explains the difference: what puts values in another place leaves about 0 dB.
const ROUNDING_DB: f64 = 12.0;

/// Rows of q and k in another order. Keys have fewer heads than queries, so a permutation by the queries' count
/// cuts them into heads of another width.
fn row_order(
    name: &str,
    shape: &Shape,
    heads: Heads,
    original: &[f32],
    explains: &dyn Fn(&[f32]) -> bool,
) -> Option<String> {
    let of_keys = name.contains("k_proj.");
    if !of_keys && !name.contains("q_proj.") {
        return None;
    }
    let rows = *shape.0.first()?;
    let right = pairs(heads.width)?;
    let reorder = |values: &[f32], order: RowOrder, back: bool| reordered(values, rows, order, back);
    let candidates = [
        (right, false, "rows are stored as interleaved pairs and were not put back into halves"),
        (right, true, "rows are stored as halves where interleaved pairs are due"),
    ];
    for (order, back, what) in candidates {
        if rows.is_multiple_of(heads.width) && explains(&reorder(original, order, back)) {
            return Some(what.to_owned());
        }
    }
    if !of_keys || heads.keys == heads.queries || !rows.is_multiple_of(heads.queries) {
        return None;
    }
    let wrong = pairs(rows / heads.queries)?;
    let permuted = reorder(original, wrong, false);
    let wrongly = [reorder(&permuted, right, true), permuted, reorder(original, wrong, true)];
    wrongly.iter().any(|candidate| explains(candidate)).then(|| {
        format!("K permuted with n_heads ({}) instead of n_kv_heads ({})", heads.queries, heads.keys)
    })
}

/// The order of interleaved pairs in heads of this width, which must be even.
fn pairs(head_dim: usize) -> Option<RowOrder> {
    (head_dim > 0 && head_dim.is_multiple_of(2)).then_some(RowOrder::RopePairs { head_dim })
}

/// `values` of `rows` rows put into `order`, or `back` out of it.
fn reordered(values: &[f32], rows: usize, order: RowOrder, back: bool) -> Vec<f32> {
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
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..values.len()).map(|i| values[i % rows * columns + i / rows]).collect()
}

fn mapped(values: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    values.iter().map(|v| f(*v)).collect()
}

fn mean_difference(original: &[f32], found: &[f32]) -> f64 {
    let sum: f64 = original.iter().zip(found).map(|(a, b)| f64::from(*b) - f64::from(*a)).sum();
    sum / original.len().max(1) as f64
}

/// The factor that brings the original closest to what was found.
fn direct_factor(original: &[f32], found: &[f32]) -> f64 {
    let (mut inner, mut square) = (0.0, 0.0);
    for (a, b) in original.iter().zip(found) {
        inner += f64::from(*a) * f64::from(*b);
        square += f64::from(*a) * f64::from(*a);
    }
    inner / square
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADS: Heads = Heads { queries: 4, keys: 2, width: 8 };

    fn weights(n: usize, seed: u64) -> Vec<f32> {
        // A multiplicative generator is noise enough: no two orders of it look alike.
        let mut x = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// What a coarse quantiser leaves of the values.
    fn coarse(values: &[f32]) -> Vec<f32> {
        values.iter().map(|v| (v * 8.0).round() / 8.0).collect()
    }

    fn cause(name: &str, shape: [usize; 2], original: &[f32], found: &[f32]) -> Option<String> {
        likely_cause(name, &Shape::from(shape), Some(HEADS), original, &coarse(found))
    }

    proptest! {
        #[test]
        fn every_mistake_is_named_even_under_quantization(seed in any::<u64>()) {
            let k = weights(16 * 24, seed);
            let (right, wrong) = (RowOrder::RopePairs { head_dim: 8 }, RowOrder::RopePairs { head_dim: 4 });
            let say = |found: &[f32]| cause("0.k_proj.weight", [16, 24], &k, found).unwrap_or_default();
            prop_assert!(say(&transposed(&k, 16, 24)).contains("transposed"));
            prop_assert!(say(&reordered(&k, 16, right, false)).contains("not put back"));
            prop_assert!(say(&reordered(&k, 16, right, true)).contains("halves where"));
            let by_queries = reordered(&k, 16, wrong, false);
            let text = say(&reordered(&by_queries, 16, right, true));
            prop_assert_eq!(text, "K permuted with n_heads (4) instead of n_kv_heads (2)");
            prop_assert!(say(&mapped(&k, |v| v * 2.0)).contains("multiplied by "));
            prop_assert!(say(&mapped(&k, |v| v + 1.0)).contains("1 was added"));
            prop_assert!(say(&vec![0.0; k.len()]).contains("zero"));
            prop_assert_eq!(cause("0.k_proj.weight", [16, 24], &k, &weights(16 * 24, !seed)), None);
        }

        #[test]
        fn rounding_is_no_mistake(seed in any::<u64>()) {
            let q = weights(32 * 24, seed);
            prop_assert_eq!(cause("0.q_proj.weight", [32, 24], &q, &q), None);
        }
    }

    #[test]
    fn lengths_that_differ_have_no_cause_in_values() {
        assert_eq!(cause("0.q_proj.weight", [2, 2], &[1.0; 4], &[1.0; 6]), None);
    }
}
