//! What differs between two models: format, settings, metadata, and every tensor by its canonical name.

use super::cause::{Heads, Suspect, causes};
use super::view::{View, Viewed};
use super::{metadata, shorten};
use crate::formats::Checkpoint;
use crate::stats::Noise;
use crate::{Error, Kind, Result};
use serde::Serialize;
use serde_json::Value as Json;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Compares two models. Equal blocks are equal without being decoded.
///
/// # Errors
/// [`Kind::Contract`] where neither has a tensor: nothing was compared; and where a tensor cannot be decoded.
pub fn diff(a: &Side, b: &Side) -> Result<Differences> {
    if a.view.tensors.is_empty() && b.view.tensors.is_empty() {
        let subject = format!("{} and {}", a.checkpoint.path.display(), b.checkpoint.path.display());
        return Err(Error::new(Kind::Contract, subject, "no tensors on either side: nothing was compared"));
    }
    let mut found = Vec::new();
    compare_containers(a, b, &mut found);
    let compared = compare_tensors(a, b, &mut found)?;
    let mut counts: BTreeMap<Category, usize> = BTreeMap::new();
    for difference in &found {
        *counts.entry(difference.category).or_default() += 1;
    }
    Ok(Differences {
        identical: found.is_empty(),
        difference_count: found.len(),
        structural_diffs: found.iter().filter(|d| d.structural).count(),
        tensors_compared: compared,
        category_counts: Category::ALL.iter().map(|c| (*c, counts.get(c).copied().unwrap_or(0))).collect(),
        differences: found,
    })
}

/// One of the two models.
pub struct Side<'a> {
    /// As opened.
    pub checkpoint: &'a Checkpoint,
    /// Its weights.
    pub view: &'a View,
    /// Its hyperparameters by name; empty for an unknown family.
    pub hyperparameters: &'a BTreeMap<String, String>,
}

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differences {
    /// Whether nothing differs.
    pub identical: bool,
    /// Entries of `differences`.
    pub difference_count: usize,
    /// Those that another encoding of the same model does not explain.
    pub structural_diffs: usize,
    /// Tensors that both have under one name and shape.
    pub tensors_compared: usize,
    /// How many of each category.
    pub category_counts: BTreeMap<Category, usize>,
    /// Containers first, then tensors by name.
    pub differences: Vec<Difference>,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// Container or its version.
    Format,
    /// A hyperparameter or another metadata key.
    Metadata,
    /// A tensor: there or not, its shape, its values.
    Tensor,
    /// A tensor's encoding.
    Quantization,
    /// Bytes on disk.
    Size,
}

impl Category {
    /// Every category, in order.
    pub const ALL: &'static [Category] =
        &[Category::Format, Category::Metadata, Category::Tensor, Category::Quantization, Category::Size];
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// A tensor's canonical name, a metadata key, `format`, `size_bytes`.
    pub field: String,
    /// What the first file has.
    pub file1_value: String,
    /// What the second has.
    pub file2_value: String,
    /// What it is about.
    pub category: Category,
    /// `format`, `metadata`, `name`, `shape`, `data`, `dtype`, `size`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether another encoding of the same model does not explain it.
    pub structural: bool,
    /// How the values differ, where they do.
    #[serde(flatten)]
    pub data: Option<DataDifference>,
}

/// How the values of a tensor differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataDifference {
    /// Flat index, row-major in canonical order, of the first value that differs.
    pub first_index: usize,
    /// Values that differ.
    pub differing: u64,
    /// Values compared.
    pub compared: u64,
    /// Signal to noise of the second against the first, in dB; none where it is not finite.
    pub sqnr_db: Option<f64>,
    /// Largest difference; none where a value is not finite.
    pub max_abs_diff: Option<f64>,
    /// The mistake that explains it, where a known one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The id of that mistake: `rows-interleaved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_id: Option<&'static str>,
}

fn compare_containers(a: &Side, b: &Side, found: &mut Vec<Difference>) {
    let (kind_a, kind_b) = (a.checkpoint.kind(), b.checkpoint.kind());
    if kind_a != kind_b {
        found.push(plain("format", kind_a.name(), kind_b.name(), Category::Format, "format", false));
    }
    let absent = || "absent".to_owned();
    for name in keys(a.hyperparameters, b.hyperparameters) {
        let of = |side: &Side| side.hyperparameters.get(name).cloned().unwrap_or_else(absent);
        if of(a) != of(b) {
            found.push(plain(name, of(a), of(b), Category::Metadata, "metadata", true));
        }
    }
    if kind_a == kind_b {
        let (left, right) = (metadata(&a.checkpoint.container), metadata(&b.checkpoint.container));
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        for name in names {
            let (in_a, in_b) = (left.get(name), right.get(name));
            if in_a != in_b {
                let (x, y) = (shown(in_a), shown(in_b));
                found.push(plain(name, x, y, Category::Metadata, "metadata", false));
            }
        }
    }
    let size =
        |side: &Side| side.checkpoint.tensors().iter().map(|t| t.tensor.bytes.stored_len()).sum::<usize>();
    if size(a) != size(b) {
        let (x, y) = (size(a).to_string(), size(b).to_string());
        found.push(plain("size_bytes", x, y, Category::Size, "size", false));
    }
}

fn compare_tensors(a: &Side, b: &Side, found: &mut Vec<Difference>) -> Result<usize> {
    let by_name = |view: &'_ View| -> BTreeMap<String, usize> {
        view.tensors.iter().enumerate().map(|(i, t)| (t.name().to_owned(), i)).collect()
    };
    let (left, right) = (by_name(a.view), by_name(b.view));
    let heads = heads(a.hyperparameters);
    let others = Others::new(a.view, b.view);
    let mut compared = 0;
    for name in keys(&left, &right) {
        let (in_a, in_b) =
            (left.get(name).map(|i| &a.view.tensors[*i]), right.get(name).map(|i| &b.view.tensors[*i]));
        let (Some(x), Some(y)) = (in_a, in_b) else {
            let say = |t: Option<&Viewed>| t.map_or("missing".to_owned(), |t| format!("`{}`", t.stored()));
            found.push(plain(name, say(in_a), say(in_b), Category::Tensor, "name", true));
            continue;
        };
        if x.shape() != y.shape() {
            let (s, t) = (x.shape().to_string(), y.shape().to_string());
            found.push(plain(name, s, t, Category::Tensor, "shape", true));
            continue;
        }
        compared += 1;
        if x.dtype() != y.dtype() {
            let (s, t) = (x.dtype().name(), y.dtype().name());
            found.push(plain(name, s, t, Category::Quantization, "dtype", false));
        }
        if let Some(data) = compare_values(x, y, heads, &others)? {
            let values = |at: usize, t: &Viewed| Ok::<_, Error>(t.values()?.get(at).copied());
            let (s, t) = (values(data.first_index, x)?, values(data.first_index, y)?);
            let say = |v: Option<f32>| v.map_or("none".to_owned(), |v| v.to_string());
            let mut difference = plain(name, say(s), say(t), Category::Tensor, "data", data.cause.is_some());
            difference.data = Some(data);
            found.push(difference);
        }
    }
    Ok(compared)
}

/// The other tensors of both, to look for one that was put in another's place. Where nearly all differ there is no
/// use in looking on and on.
pub(super) struct Others<'a> {
    a: &'a View,
    b: &'a View,
    left: Cell<usize>,
}

impl<'a> Others<'a> {
    pub(super) fn new(a: &'a View, b: &'a View) -> Others<'a> {
        const MOST_LOOKUPS: usize = 600;
        Others { a, b, left: Cell::new(MOST_LOOKUPS) }
    }

    fn values(&self, of: &View, name: &str) -> Option<Vec<f32>> {
        self.left.set(self.left.get().checked_sub(1)?);
        of.get(name)?.values().ok()
    }
}

/// How the values of two tensors of one shape differ; `None` where they do not.
pub(super) fn compare_values(
    a: &Viewed,
    b: &Viewed,
    heads: Option<Heads>,
    others: &Others,
) -> Result<Option<DataDifference>> {
    if a.dtype() == b.dtype()
        && let (Some(x), Some(y)) = (a.blocks()?, b.blocks()?)
        && x == y
    {
        return Ok(None);
    }
    let (x, y) = (a.values()?, b.values()?);
    let same = |(p, q): (&f32, &f32)| p == q || (p.is_nan() && q.is_nan());
    let Some(first_index) = x.iter().zip(&y).position(|pair| !same(pair)) else { return Ok(None) };
    let differing = x.iter().zip(&y).filter(|pair| !same(*pair)).count() as u64;
    let noise = Noise::between(&x, &y);
    let cause = causes(&Suspect {
        name: a.name(),
        shape: a.shape(),
        heads,
        original: &x,
        found: &y,
        dtype: b.dtype(),
        // Plain values of one kind have nothing to be rounded to.
        over: a.dtype() == b.dtype() && a.dtype().is_plain_float(),
        originals: &|name| others.values(others.a, name),
        candidates: &|name| others.values(others.b, name),
    })
    .into_iter()
    .next();
    Ok(Some(DataDifference {
        first_index,
        differing,
        compared: x.len() as u64,
        sqnr_db: noise.map(|n| n.sqnr_db()).filter(|db| db.is_finite()),
        max_abs_diff: noise.map(|n| n.max_abs).filter(|d| d.is_finite()),
        cause_id: cause.as_ref().map(|c| c.id),
        cause: cause.map(|c| c.sentence),
    }))
}

/// Heads as the hyperparameters give them.
pub(super) fn heads(hyperparameters: &BTreeMap<String, String>) -> Option<Heads> {
    let number = |name: &str| hyperparameters.get(name)?.parse::<usize>().ok();
    Some(Heads { queries: number("n_heads")?, keys: number("n_kv_heads")?, width: number("head_dim")? })
}

fn keys<'a, V>(a: &'a BTreeMap<String, V>, b: &'a BTreeMap<String, V>) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

fn shown(value: Option<&Json>) -> String {
    value.map_or("absent".to_owned(), |value| {
        let mut value = value.clone();
        shorten(&mut value);
        value.to_string()
    })
}

fn plain(
    field: impl Into<String>,
    a: impl Into<String>,
    b: impl Into<String>,
    category: Category,
    kind: &'static str,
    structural: bool,
) -> Difference {
    Difference {
        field: field.into(),
        file1_value: a.into(),
        file2_value: b.into(),
        category,
        kind,
        structural,
        data: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;
    use crate::models::fixture::{Tiny, tensor, with_tensors};
    use crate::tensor::DType;

    fn between(a: &Checkpoint, b: &Checkpoint) -> Differences {
        let (x, y) = (view(a).expect("sound"), view(b).expect("sound"));
        let settings = BTreeMap::from([
            ("n_heads".to_owned(), "4".to_owned()),
            ("n_kv_heads".to_owned(), "2".to_owned()),
            ("head_dim".to_owned(), "16".to_owned()),
        ]);
        let a = Side { checkpoint: a, view: &x, hyperparameters: &settings };
        let b = Side { checkpoint: b, view: &y, hyperparameters: &settings };
        diff(&a, &b).expect("compared")
    }

    #[test]
    fn a_model_is_identical_to_itself_and_another_container_differs_in_nothing_else() {
        let tiny = Tiny::new("llama");
        let same = between(&tiny.hf(DType::F32), &tiny.hf(DType::F32));
        assert!(same.identical && same.difference_count == 0 && same.tensors_compared > 10);
        let other = between(&tiny.hf(DType::F32), &tiny.gguf(DType::F32));
        let fields: Vec<_> = other.differences.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(fields, ["format"], "permuted rows are no difference");
        assert_eq!(other.structural_diffs, 0);
    }

    #[test]
    fn the_first_changed_value_is_named_and_an_encoding_is_not_structural() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let changed = with_tensors(&sound, |tensors| {
            let t = tensors.iter_mut().find(|t| t.name == "model.norm.weight").expect("a norm");
            let mut values = crate::quant::to_f32(&t.tensor).expect("F32");
            values[5] *= 2.0;
            *t = tensor(&t.name, DType::F32, t.tensor.shape.clone(), &values);
            let mut bytes = t.tensor.bytes.to_vec();
            bytes[36..40].copy_from_slice(&f32::NAN.to_le_bytes());
            t.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
            tensors.retain(|t| !t.name.ends_with("1.mlp.up_proj.weight"));
        });
        // A file with a missing tensor has no canonical form, so it is looked at as stored.
        assert!(view(&changed).is_err());
        let whole = with_tensors(&changed, |tensors| {
            let lost = sound.tensors().iter().find(|t| t.name.ends_with("1.mlp.up_proj.weight"));
            tensors.push(lost.expect("it is in the sound one").clone());
        });
        let found = between(&sound, &whole);
        assert_eq!(found.difference_count, 1);
        let data = found.differences[0].data.as_ref().expect("values differ");
        assert_eq!((data.first_index, data.differing, data.compared), (5, 2, 64));
        let rounded = between(&sound, &Tiny::new("llama").hf(DType::Q8_0));
        assert_eq!(rounded.structural_diffs, 0, "{:?}", rounded.differences);
        assert!(rounded.category_counts[&Category::Quantization] > 10);
        let mut data = rounded.differences.iter().filter_map(|d| d.data.as_ref()).peekable();
        assert!(data.peek().is_some() && data.all(|d| d.sqnr_db > Some(30.0)));
    }

    #[test]
    fn a_permuted_key_projection_is_structural_and_named() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let broken = with_tensors(&sound, |tensors| {
            let t = tensors.iter_mut().find(|t| t.name.contains("0.self_attn.k_proj")).expect("a key");
            let values = crate::quant::to_f32(&t.tensor).expect("F32");
            let (rows, width) = (t.tensor.shape.0[0], t.tensor.shape.0[1]);
            let order = crate::models::RowOrder::RopePairs { head_dim: rows / 4 };
            let mut out = vec![0.0; values.len()];
            for r in 0..rows {
                let s = order.stored_row(r);
                out[s * width..(s + 1) * width].copy_from_slice(&values[r * width..(r + 1) * width]);
            }
            *t = tensor(&t.name, DType::F32, t.tensor.shape.clone(), &out);
        });
        let found = between(&sound, &broken);
        assert_eq!(found.structural_diffs, 1);
        let cause = found.differences[0].data.as_ref().and_then(|d| d.cause.clone());
        assert!(cause.is_some_and(|c| c.starts_with("K permuted with n_heads (4)")), "{found:?}");
    }
}
