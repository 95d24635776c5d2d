//! Whether two files are one model: the same tensors, the same numbers within a tolerance, the same settings and
//! the same tokenizer.

use super::diff::{Others, Side, compare_values, heads};
use crate::formats::Checkpoint;
use crate::tokenizer::{Token, TokenKind, TokenizerSpec};
use crate::{Error, Kind, Result};
use serde::Serialize;
use std::collections::BTreeSet;

/// Judges whether `b` is equivalent to `a`: no value further away than `tolerance`.
///
/// # Errors
/// [`Kind::Contract`] where no tensor could be compared, for that is no equivalence; and where one cannot be read.
pub fn verify(a: &Side, b: &Side, tolerance: f64) -> Result<Verification> {
    let mut found = Verification { tolerance, ..Verification::default() };
    let names: BTreeSet<&str> = a.view.tensors.iter().chain(&b.view.tensors).map(|t| t.name()).collect();
    let heads = heads(a.hyperparameters);
    let others = Others::new(a.view, b.view);
    let (mut sum, mut values) = (0.0f64, 0u64);
    for name in names {
        let (Some(x), Some(y)) = (a.view.get(name), b.view.get(name)) else {
            found.fail(name, "is in one of the two only");
            continue;
        };
        if x.shape() != y.shape() {
            found.fail(name, format!("shape {} against {}", x.shape(), y.shape()));
            continue;
        }
        found.tensors_compared += 1;
        values += x.shape().numel() as u64;
        let Some(data) = compare_values(x, y, heads, &others)? else { continue };
        let Some(max) = data.max_abs_diff else {
            found.not_finite = true;
            found.fail(name, format!("a value is not finite, first difference at {}", data.first_index));
            continue;
        };
        found.max_diff = found.max_diff.max(max);
        sum += total_difference(&x.values()?, &y.values()?);
        if max > tolerance {
            let cause = data.cause.map(|cause| format!("; {cause}")).unwrap_or_default();
            let (first, n) = (data.first_index, data.differing);
            found.fail(name, format!("differs by {max:.3e}, {n} values from {first} on{cause}"));
        }
    }
    if found.tensors_compared == 0 {
        let subject = format!("{} and {}", a.checkpoint.path.display(), b.checkpoint.path.display());
        return Err(Error::new(Kind::Contract, subject, "no tensor is in both: nothing was compared"));
    }
    found.mean_diff = sum / values.max(1) as f64;
    let absent = || "absent".to_owned();
    for name in a.hyperparameters.keys().chain(b.hyperparameters.keys()).collect::<BTreeSet<_>>() {
        let of = |side: &Side| side.hyperparameters.get(name).cloned().unwrap_or_else(absent);
        if of(a) != of(b) {
            found.settings.push(format!("{name}: {} against {}", of(a), of(b)));
        }
    }
    found.tokenizer = compare_tokenizers(a.checkpoint, b.checkpoint);
    let alike = found.failures.is_empty() && found.settings.is_empty() && found.tokenizer.is_none();
    found.is_equivalent = alike;
    found.failed_tensors = found.failures.len();
    Ok(found)
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Verification {
    /// Whether nothing differs beyond the tolerance.
    pub is_equivalent: bool,
    /// Largest difference of two finite values.
    pub max_diff: f64,
    /// Mean difference over all compared values.
    pub mean_diff: f64,
    /// How far a value may be off.
    pub tolerance: f64,
    /// Tensors that are in both with one shape.
    pub tensors_compared: usize,
    /// Entries of `failures`.
    pub failed_tensors: usize,
    /// Whether a value that differs is no finite number; the differences above then leave it out.
    pub not_finite: bool,
    /// Each tensor at fault, and how.
    pub failures: Vec<TensorFailure>,
    /// Hyperparameters that differ.
    pub settings: Vec<String>,
    /// What differs between the tokenizers, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
}

/// A tensor at fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorFailure {
    /// Canonical name.
    pub tensor: String,
    /// How it differs.
    pub what: String,
}

impl Verification {
    fn fail(&mut self, tensor: &str, what: impl Into<String>) {
        self.failures.push(TensorFailure { tensor: tensor.to_owned(), what: what.into() });
    }
}

fn total_difference(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).abs()).sum()
}

/// The first thing in which two tokenizers differ. A file without one differs from a file with one.
fn compare_tokenizers(a: &Checkpoint, b: &Checkpoint) -> Option<String> {
    let (x, y) = match (TokenizerSpec::from_checkpoint(a), TokenizerSpec::from_checkpoint(b)) {
        (Ok(x), Ok(y)) => (x, y),
        (Err(_), Err(_)) => return None,
        (Ok(_), Err(error)) => return Some(format!("only the first has one: {error}")),
        (Err(error), Ok(_)) => return Some(format!("only the second has one: {error}")),
    };
    // Padding up to the embedding's rows is no token.
    let tokens = |spec: &'_ TokenizerSpec| -> Vec<Token> {
        let used = spec.tokens.iter().rposition(|t| t.kind != TokenKind::Unused).map_or(0, |last| last + 1);
        spec.tokens[..used].to_vec()
    };
    let (s, t) = (tokens(&x), tokens(&y));
    if let Some(id) = (0..s.len().max(t.len())).find(|&id| s.get(id) != t.get(id)) {
        return Some(format!("token {id} differs"));
    }
    if let Some(rank) = (0..x.merges.len().max(y.merges.len())).find(|&r| x.merges.get(r) != y.merges.get(r))
    {
        return Some(format!("merge {rank} differs"));
    }
    let (mut stop_x, mut stop_y) = (x.stop_ids(), y.stop_ids());
    stop_x.sort_unstable();
    stop_y.sort_unstable();
    let settings = [
        ("algorithm", x.model == y.model),
        ("begin token", x.bos == y.bos),
        ("end tokens", stop_x == stop_y),
        ("unknown token", x.unk == y.unk),
        ("padding token", x.pad == y.pad),
        ("add_bos", x.add_bos == y.add_bos),
        ("add_eos", x.add_eos == y.add_eos),
        ("add_space_prefix", x.add_space_prefix == y.add_space_prefix),
        ("chat template", x.chat_template == y.chat_template),
    ];
    settings.iter().find(|(_, same)| !same).map(|(name, _)| format!("{name} differs"))
}

#[cfg(test)]
mod tests {
    use super::super::view;
    use super::*;
    use crate::models::fixture::{Tiny, with_tensors};
    use crate::tensor::DType;
    use std::collections::BTreeMap;

    fn judge(a: &Checkpoint, b: &Checkpoint, tolerance: f64) -> Verification {
        let (x, y) = (view(a).expect("sound"), view(b).expect("sound"));
        let none = BTreeMap::new();
        let a = Side { checkpoint: a, view: &x, hyperparameters: &none };
        let b = Side { checkpoint: b, view: &y, hyperparameters: &none };
        verify(&a, &b, tolerance).expect("compared")
    }

    #[test]
    fn containers_of_one_model_are_equivalent_and_a_rounded_one_only_within_a_tolerance() {
        let tiny = Tiny::new("llama");
        let exact = judge(&tiny.hf(DType::F32), &tiny.gguf(DType::F32), 0.0);
        assert!(exact.is_equivalent && exact.max_diff == 0.0 && exact.tensors_compared > 10, "{exact:?}");
        let rounded = judge(&tiny.hf(DType::F32), &tiny.hf(DType::Q8_0), 0.0);
        assert!(!rounded.is_equivalent && rounded.failed_tensors > 0 && rounded.mean_diff > 0.0);
        assert!(judge(&tiny.hf(DType::F32), &tiny.hf(DType::Q8_0), rounded.max_diff).is_equivalent);
    }

    #[test]
    fn an_infinite_value_is_outside_every_tolerance() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let broken = with_tensors(&sound, |tensors| {
            let t = tensors.iter_mut().find(|t| t.name == "model.norm.weight").expect("a norm");
            let mut bytes = t.tensor.bytes.to_vec();
            bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
            t.tensor.bytes = crate::tensor::Bytes::from_vec(bytes);
        });
        let found = judge(&sound, &broken, f64::INFINITY);
        assert!(!found.is_equivalent && found.not_finite);
        assert_eq!(found.failures[0].tensor, "output_norm.weight");
    }

    #[test]
    fn other_settings_are_no_equivalence() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let v = view(&sound).expect("sound");
        let with = |theta: &str| BTreeMap::from([("rope_theta".to_owned(), theta.to_owned())]);
        let (a, b) = (with("10000"), with("500000"));
        let side = |h| Side { checkpoint: &sound, view: &v, hyperparameters: h };
        let found = verify(&side(&a), &side(&b), 0.0).expect("compared");
        assert!(!found.is_equivalent);
        assert_eq!(found.settings, ["rope_theta: 10000 against 500000"]);
    }
}
