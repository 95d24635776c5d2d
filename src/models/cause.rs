//! What looks like this: the classic mistake of a converter behind a missing, strange or misshapen tensor.
//!
//! Names and shapes alone decide here; a mistake that keeps them (rows in another order) shows only against the
//! original, in `inspect::cause`.

use super::ModelConfig;
use super::bind::Problem;
use super::family::FAMILIES;
use super::names::{Naming, generalize};
use crate::contract::families::{FamilyContract, Role, TensorRow};
use crate::formats::{Checkpoint, FormatKind};
use crate::tensor::{DType, Shape, Tensor};
use std::collections::HashSet;

/// Names the likely cause of every missing and every strange tensor.
pub(super) fn explain(
    problems: &mut [Problem],
    contract: &FamilyContract,
    config: &ModelConfig,
    checkpoint: &Checkpoint,
) {
    let layers: Vec<usize> = checkpoint.tensors().iter().filter_map(|t| generalize(&t.name).1).collect();
    let stored_layers = layers.iter().max().map_or(0, |last| last + 1);
    let names: HashSet<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
    for problem in problems.iter_mut().filter(|p| p.cause.is_none()) {
        let Some(tensor) = problem.tensor.clone() else { continue };
        let row =
            problem.canonical.as_ref().and_then(|name| contract.tensors.iter().find(|r| r.name == *name));
        let layer = generalize(&tensor).1;
        problem.cause = match (problem.found.as_deref(), row) {
            (Some("nothing"), Some(row)) => missing(row, layer, stored_layers, &names, contract),
            (None, Some(_)) if layer.is_some_and(|n| n >= config.n_layers) => {
                Some("the config's layer count is wrong, or two models were merged".to_owned())
            }
            (None, Some(row)) if row.role == Role::Bias => {
                Some("the config denies biases that the weights have".to_owned())
            }
            (None, None) => stranger(&tensor, contract),
            _ => None,
        };
    }
}

fn missing(
    row: &TensorRow,
    layer: Option<usize>,
    stored_layers: usize,
    names: &HashSet<&str>,
    contract: &FamilyContract,
) -> Option<String> {
    let at = |pattern: &str| pattern.replace("{n}", &layer.unwrap_or(0).to_string());
    if layer.is_some_and(|n| n >= stored_layers) {
        return Some(format!(
            "the file ends after {stored_layers} layers: cut short, or the layer count is wrong"
        ));
    }
    let kinds = [FormatKind::HfFolder, FormatKind::Gguf, FormatKind::Apr];
    let dialects = kinds.iter().flat_map(|kind| Naming::of(*kind));
    if let Some(other) =
        dialects.map(|d| at(d.pattern(contract, row))).find(|name| names.contains(name.as_str()))
    {
        return Some(format!("it is there as `{other}`, a name of another dialect"));
    }
    let part = row.name.rsplit('.').nth(1).unwrap_or_default();
    if matches!(part, "q_proj" | "k_proj" | "v_proj") {
        let fused = |name: &&&str| {
            ["qkv", "c_attn"].iter().any(|word| name.contains(word)) && generalize(name).1 == layer
        };
        if let Some(name) = names.iter().find(fused) {
            return Some(format!("q, k and v are still fused in `{name}`"));
        }
    }
    match row.role {
        Role::Bias => Some("biases missing: the converter dropped them".to_owned()),
        Role::Head => {
            Some("the head was dropped as if it were tied, or the config lost that it is".to_owned())
        }
        Role::Embedding | Role::Positions | Role::Linear | Role::Norm => None,
    }
}

/// A name that this family does not have may be another's, or a bias that it has none of.
fn stranger(tensor: &str, contract: &FamilyContract) -> Option<String> {
    let (pattern, _) = generalize(tensor);
    let has = |contract: &FamilyContract| {
        contract
            .tensors
            .iter()
            .any(|row| [&*row.name, &*row.hf, &*row.gguf, row.apr_hf()].iter().any(|name| *name == pattern))
    };
    if has(contract) {
        return Some("a name of another dialect of this family".to_owned());
    }
    let other = FAMILIES.iter().map(|f| f.contract()).find(|other| has(other))?;
    Some(format!("it is a tensor of family {}: the architecture may be named wrongly", other.family))
}

/// The likely cause of a wrong shape.
pub(super) fn of_shape(
    row: &TensorRow,
    expected: &Shape,
    found: &Shape,
    config: &ModelConfig,
) -> Option<String> {
    let turned: Vec<usize> = expected.0.iter().rev().copied().collect();
    if found.ndim() > 1 && found.0 == turned {
        let conv1d = if row.conv1d { " (its Conv1D order was kept or made)" } else { "" };
        return Some(format!("saved transposed{conv1d}"));
    }
    if found.ndim() != expected.ndim() && found.checked_numel() == expected.checked_numel() {
        return Some("its dimensions were flattened or split".to_owned());
    }
    let (&[rows, width], &[found_rows, found_width]) = (&expected.0[..], &found.0[..]) else { return None };
    let part = row.name.rsplit('.').nth(1).unwrap_or_default();
    let (all, shared) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let derived = config.hidden_size.checked_div(config.n_heads).unwrap_or(0);
    let by_derived_width = |heads: usize| derived != config.head_dim && heads * derived > 0;
    match part {
        "token_embd" | "output" if found_width == width && found_rows < rows => {
            Some("the vocabulary's padding was cut off, or vocab_size is too large".to_owned())
        }
        "token_embd" | "output" if found_width == width => {
            Some("rows were added, and vocab_size does not say so".to_owned())
        }
        "k_proj" | "v_proj" if found_width == width && found_rows == all && shared != all => {
            Some("key and value heads were repeated up to the query heads".to_owned())
        }
        "q_proj" | "k_proj" | "v_proj" if found_width == width && found_rows == all + 2 * shared => {
            Some("q, k and v are still fused".to_owned())
        }
        "q_proj" if by_derived_width(config.n_heads) && found_rows == config.n_heads * derived => {
            Some("head_dim was taken as hidden_size / n_heads".to_owned())
        }
        "k_proj" | "v_proj"
            if by_derived_width(config.n_kv_heads) && found_rows == config.n_kv_heads * derived =>
        {
            Some("head_dim was taken as hidden_size / n_heads".to_owned())
        }
        "k_proj" | "v_proj"
            if found_width == width && config.head_dim > 0 && found_rows % config.head_dim == 0 =>
        {
            let heads = found_rows / config.head_dim;
            Some(format!("n_kv_heads is {heads} in the weights and {} in the config", config.n_kv_heads))
        }
        "gate_proj" | "up_proj" if found_width == width && found_rows == 2 * rows => {
            Some("gate and up are still fused".to_owned())
        }
        _ => None,
    }
}

/// Why a stored value is no finite number.
pub(super) fn of_non_finite(tensor: &Tensor, index: usize, value: f32) -> Option<String> {
    match tensor.dtype {
        DType::F16 if value.is_infinite() => {
            Some("it was beyond the range of F16 when it was rounded; BF16 or F32 holds it".to_owned())
        }
        DType::AprQ8 => Some("the tensor's scale is not finite".to_owned()),
        dtype if dtype.is_quantized() => {
            Some(format!("the scale of block {} is not finite", index / dtype.block_len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::super::fixture::{Tiny, tensor, with_tensors};
    use super::*;
    use crate::formats::NamedTensor;

    /// The causes that `check` tells after a change of a sound file.
    fn causes(sound: &Checkpoint, change: impl FnOnce(&mut Vec<NamedTensor>)) -> String {
        let report = check(&with_tensors(sound, change));
        report.problems.iter().filter_map(|p| p.cause.clone()).collect::<Vec<_>>().join(" | ")
    }

    fn reshape(tensors: &mut [NamedTensor], ending: &str, shape: &[usize]) {
        let t = tensors.iter_mut().find(|t| t.name.ends_with(ending)).expect("a tensor of the family");
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| 0.1 + i as f32).collect();
        *t = tensor(&t.name, DType::F32, Shape::from(shape), &values);
    }

    #[test]
    fn a_wrong_shape_has_its_cause() {
        // hidden 64, 4 query and 2 key heads of width 16, feed-forward 96, vocabulary 40.
        let cases: [(&str, &[usize], &str); 8] = [
            ("0.mlp.up_proj.weight", &[64, 96], "saved transposed"),
            ("0.self_attn.k_proj.weight", &[64, 64], "repeated up to the query heads"),
            ("0.self_attn.q_proj.weight", &[128, 64], "still fused"),
            ("0.self_attn.v_proj.weight", &[16, 64], "n_kv_heads is 1 in the weights and 2"),
            ("0.mlp.gate_proj.weight", &[192, 64], "gate and up are still fused"),
            ("embed_tokens.weight", &[39, 64], "padding was cut off"),
            ("embed_tokens.weight", &[48, 64], "rows were added"),
            ("0.mlp.down_proj.weight", &[6144], "flattened"),
        ];
        let sound = Tiny::new("llama").hf(DType::F32);
        for (name, shape, cause) in cases {
            let found = causes(&sound, |tensors| reshape(tensors, name, shape));
            assert!(found.contains(cause), "{name} {shape:?}: {found}");
        }
    }

    #[test]
    fn a_conv1d_in_the_wrong_order_is_named_as_such() {
        let sound = Tiny::new("gpt2").gguf(DType::F32);
        let found = causes(&sound, |tensors| reshape(tensors, "0.ffn_up.weight", &[64, 96]));
        assert!(found.contains("Conv1D order"), "{found}");
    }

    #[test]
    fn missing_biases_are_one_cause() {
        for family in ["qwen2", "gpt2"] {
            let found = causes(&Tiny::new(family).gguf(DType::F32), |tensors| {
                tensors.retain(|t| !t.name.ends_with(".bias"));
            });
            assert!(found.starts_with("biases missing"), "{family}: {found}");
        }
    }

    #[test]
    fn a_missing_tensor_is_looked_for_under_other_names() {
        let rename = |from: &'static str, to: &'static str| {
            causes(&Tiny::new("llama").gguf(DType::F32), |tensors| {
                tensors.iter_mut().find(|t| t.name == from).expect("it is there").name = to.to_owned();
            })
        };
        let dialect = rename("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight");
        assert!(dialect.contains("there as `model.layers.0.self_attn.q_proj.weight`"), "{dialect}");
        assert!(dialect.contains("another dialect of this family"), "{dialect}");
        let fused = rename("blk.0.attn_q.weight", "blk.0.attn_qkv.weight");
        assert!(fused.contains("still fused in `blk.0.attn_qkv.weight`"), "{fused}");
        assert!(fused.contains("it is a tensor of family"), "{fused}");
    }

    #[test]
    fn a_file_that_ends_early_and_a_lost_head_are_told_apart() {
        let sound = Tiny::new("llama").gguf(DType::F32);
        let early = causes(&sound, |tensors| tensors.retain(|t| !t.name.starts_with("blk.1.")));
        assert!(early.contains("ends after 1 layers"), "{early}");
        let untied = Tiny { tied: false, ..Tiny::new("qwen2") }.hf(DType::F32);
        let headless = causes(&untied, |tensors| tensors.retain(|t| t.name != "lm_head.weight"));
        assert!(headless.contains("dropped as if it were tied"), "{headless}");
    }

    #[test]
    fn a_value_that_is_not_finite_has_its_cause() {
        let poisoned = |dtype: DType, at: usize, bytes: [u8; 2]| {
            causes(&Tiny::new("llama").gguf(dtype), |tensors| {
                let t = tensors.iter_mut().find(|t| t.name.ends_with("0.attn_q.weight")).expect("a query");
                let mut data = t.tensor.bytes.to_vec();
                data[at..at + 2].copy_from_slice(&bytes);
                t.tensor.bytes = crate::tensor::Bytes::from_vec(data);
            })
        };
        assert!(poisoned(DType::F16, 8, 0x7c00u16.to_le_bytes()).contains("range of F16"));
        assert!(poisoned(DType::Q8_0, 68, 0x7e00u16.to_le_bytes()).contains("scale of block 2"));
    }
}
