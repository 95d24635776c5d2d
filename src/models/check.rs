//! Checking a checkpoint: everything that is wrong with it at once, sorted into the stages of a decoder.
//! Names, shapes, settings, the tokenizer, and every single weight: finite, and like a trained one
//! (`contracts/tensor-layout.yaml`). Nothing is inferred.

use super::bind::{Problem, bind};
use super::cause;
use super::family::{Family, family_of, unknown_family};
use super::names::generalize;
use super::scan::{Scan, scan};
use super::stages::{Facts, Findings, Stage, StageName};
use super::{ModelConfig, canonical_tensors};
use crate::Kind;
use crate::contract::families::{FamilyContract, Role, TensorRow};
use crate::contract::layout::{LAYOUT_FILE, Layout};
use crate::formats::{Checkpoint, FormatKind};
use crate::tensor::Shape;
use crate::tokenizer::{Tokenizer, TokenizerSpec};
use serde::Serialize;

/// Every problem of `checkpoint`; a checkpoint without any is one that `open` accepts and whose weights are
/// all finite. Reads every weight once, in a fixed amount of memory.
pub fn check(checkpoint: &Checkpoint) -> CheckReport {
    let mut findings = Findings::default();
    let unknown = unknown_family(checkpoint);
    let family = match &unknown {
        Some(_) => None,
        None => family_of(checkpoint).map_err(|e| findings.add(StageName::DataQuality, problem_of(&e))).ok(),
    };
    let config = family.and_then(|family| check_structure(checkpoint, family, &mut findings));
    let weights = check_weights(checkpoint, family, &mut findings);
    let tokens = check_tokenizer(checkpoint, config.as_ref(), &mut findings);
    let stages = findings.stages(&Facts { config: config.as_ref(), tokens });
    let mut problems: Vec<Problem> = findings.0.into_iter().map(|(_, problem)| problem).collect();
    // A stable sort: what is critical first, each group in the order found.
    problems.sort_by_key(|problem| !problem.critical);
    CheckReport {
        family: family.map_or_else(|| "unknown".to_owned(), |f| f.id().to_owned()),
        unknown_family: unknown,
        weights,
        tensors: checkpoint.tensors().len(),
        stages,
        problems,
    }
}

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// Family id, or `unknown`.
    pub family: String,
    /// What the file calls its family, where no family answers to it: names, shapes and stages could not be judged.
    pub unknown_family: Option<String>,
    /// Weights looked at, each one of them.
    pub weights: usize,
    /// Tensors of the file.
    pub tensors: usize,
    /// The stages of a decoder, in order; an eleventh holds what belongs to none of them.
    pub stages: Vec<Stage>,
    /// Every problem: the critical ones first, then in the order found.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// Whether everything was judged and nothing is wrong.
    pub fn all_passed(&self) -> bool {
        self.problems.is_empty() && self.unknown_family.is_none()
    }
}

fn check_structure(
    checkpoint: &Checkpoint,
    family: &'static dyn Family,
    findings: &mut Findings,
) -> Option<ModelConfig> {
    match bind(checkpoint) {
        Err(error) => {
            findings.add(StageName::DataQuality, problem_of(&error));
            None
        }
        Ok((bound, problems)) => {
            debug_assert_eq!(bound.family.id(), family.id());
            for problem in problems {
                let stage = match problem.tensor {
                    Some(_) => StageName::of_tensor(problem.canonical.as_deref()),
                    None => StageName::of_contradiction(&problem.what),
                };
                findings.add(stage, problem);
            }
            Some(bound.config)
        }
    }
}

/// Looks at every stored float; returns how many there are.
fn check_weights(
    checkpoint: &Checkpoint,
    family: Option<&'static dyn Family>,
    findings: &mut Findings,
) -> usize {
    let contract = family.map(Family::contract);
    let mut weights = 0;
    for stored in checkpoint.tensors() {
        let tensor = &stored.tensor;
        if !tensor.dtype.is_plain_float() && !tensor.dtype.is_quantized() {
            continue;
        }
        weights += tensor.shape.numel();
        let row = contract.and_then(|contract| row_of(&stored.name, contract));
        let mut say = |index: Option<usize>, what: String, expected: String, cause: Option<String>| {
            let found = index.is_none().then(|| what.clone());
            let problem = Problem {
                index,
                cause,
                expected: Some(expected),
                found,
                kind: Kind::NonFinite,
                ..Problem::of_tensor(&stored.name, row, what)
            };
            findings.add(StageName::of_tensor(row.map(|row| row.name.as_str())), problem);
        };
        let found = match scan(tensor) {
            Ok(found) => found,
            Err(error) => {
                say(None, error.what, "a readable tensor".to_owned(), None);
                continue;
            }
        };
        if let Some((index, value)) = found.non_finite {
            let cause = cause::of_non_finite(tensor, index, value);
            say(Some(index), format!("the weight is {value}"), "a finite number".to_owned(), cause);
        } else if row.is_some_and(|row| row.unit_offset) && checkpoint.kind() == FormatKind::HfFolder {
            // What is stored there is the distance from 1, and no distance is a wrong one.
        } else if let Some((what, expected)) = implausible(&stored.name, row, contract, &tensor.shape, &found)
        {
            let cause = "the values were lost on the way: a copy or a decoder that wrote nothing".to_owned();
            say(None, what, expected, Some(cause));
        }
    }
    weights
}

/// How a tensor's values break the limits of its role, and what is due. A tensor without a role (of an unknown
/// family) may only not vanish, unless it is a bias; one that the family ignores may hold anything.
fn implausible(
    name: &str,
    row: Option<&TensorRow>,
    contract: Option<&FamilyContract>,
    shape: &Shape,
    found: &Scan,
) -> Option<(String, String)> {
    let (pattern, _) = generalize(name);
    if contract.is_some_and(|c| c.hf.ignored.iter().any(|ignored| ignored.ends_with(&pattern))) {
        return None;
    }
    let role = row.map(|row| row.role);
    let may_vanish = role == Some(Role::Bias) || (role.is_none() && name.ends_with("bias"));
    if found.all_zero && !may_vanish {
        return Some(("every weight is zero".to_owned(), "weights".to_owned()));
    }
    let limits = Layout::builtin().limits(role?);
    let share = found.zeros as f64 / shape.numel().max(1) as f64;
    if let Some(most) = limits.zeros_below.filter(|most| share >= *most) {
        let (is, due) = (100.0 * share, 100.0 * most);
        let what = format!("{is:.1} % of the weights are zero");
        return Some((what, format!("below {due} % zeros ({LAYOUT_FILE})")));
    }
    let norm = found.squares.sqrt();
    let least = limits.l2_above.filter(|least| norm <= *least && shape.numel() > 0)?;
    Some((format!("its Euclidean norm is {norm:.1e}"), format!("a norm above {least:e} ({LAYOUT_FILE})")))
}

/// The row of the family's table that a stored name belongs to, whatever its dialect.
fn row_of<'a>(stored: &str, contract: &'a FamilyContract) -> Option<&'a TensorRow> {
    let (pattern, _) = generalize(stored);
    let prefix = contract.hf.optional_prefix.as_deref().unwrap_or("");
    contract.tensors.iter().find(|row| {
        let bare = row.hf.strip_prefix(prefix).unwrap_or(&row.hf);
        [&*row.name, &*row.hf, &*row.gguf, row.apr_hf(), bare].contains(&pattern.as_str())
    })
}

/// Reads the tokenizer, holds it against the embedding and decodes every token once. Returns its size.
fn check_tokenizer(
    checkpoint: &Checkpoint,
    config: Option<&ModelConfig>,
    findings: &mut Findings,
) -> Option<usize> {
    let spec = match TokenizerSpec::from_checkpoint(checkpoint) {
        Ok(spec) => spec,
        Err(error) => {
            findings.add(StageName::Tokenizer, problem_of(&error));
            return None;
        }
    };
    let tokens = spec.tokens.len();
    let rows = config.map_or(usize::MAX, |c| c.vocab_size);
    if tokens > rows {
        let what = format!("{tokens} tokens, but only {rows} rows of the embedding");
        let tensor = config
            .and_then(|_| canonical_tensors(checkpoint).ok())
            .and_then(|tensors| tensors.into_iter().find(|t| t.role == Role::Embedding).map(|t| t.stored));
        findings.add(StageName::Probabilities, Problem { tensor, ..Problem::of_model(Kind::Contract, what) });
    }
    let ends = spec.stop_ids();
    if ends.is_empty() {
        let what = "no token ends a generation".to_owned();
        findings.add(StageName::Sampler, Problem::of_model(Kind::Contract, what));
    }
    for id in ends.into_iter().chain(spec.bos).filter(|&id| id as usize >= tokens) {
        let what = format!("special token {id} lies outside the {tokens} tokens");
        findings.add(StageName::Sampler, Problem::of_model(Kind::Contract, what));
    }
    match Tokenizer::new(spec) {
        Err(error) => findings.add(StageName::Tokenizer, problem_of(&error)),
        Ok(tokenizer) => {
            let dumb = (0..tokens as u32).find(|&id| tokenizer.piece(id).is_none());
            if let Some(id) = dumb {
                findings.add(
                    StageName::Sampler,
                    Problem::of_model(Kind::Contract, format!("token {id} has no text")),
                );
            }
        }
    }
    Some(tokens)
}

fn problem_of(error: &crate::Error) -> Problem {
    let at = error.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
    let hint = error.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    Problem::of_model(error.kind, format!("{at}{}{hint}", error.what))
}

#[cfg(test)]
mod tests {
    use super::super::StageStatus;
    use super::super::fixture::{Tiny, tensor, with_tensors};
    use super::*;
    use crate::tensor::{Bytes, DType};

    fn failed(report: &CheckReport) -> Vec<&str> {
        report.stages.iter().filter(|s| s.status == StageStatus::Fail).map(|s| s.name.as_str()).collect()
    }

    /// The fixture has no tokenizer, which is the one thing to be wrong with it; what rests on it is not judged.
    const NO_TOKENIZER: [&str; 3] = ["Tokenizer", "Logits \u{2192} Probs", "Sampler/Decode"];

    #[test]
    fn the_stages_are_those_of_the_reference_and_a_sound_decoder_passes_its_own() {
        for family in super::super::FAMILIES {
            let report = check(&Tiny::new(family.id()).hf(DType::F32));
            assert_eq!(report.family, family.id());
            assert_eq!(report.stages.len(), 10);
            assert_eq!(report.stages[8].name, "Logits → Probs");
            assert_eq!(failed(&report), NO_TOKENIZER, "{report:?}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_each_in_its_stage() {
        let sick = with_tensors(&Tiny::new("llama").hf(DType::F32), |tensors| {
            tensors.retain(|t| t.name != "model.layers.1.self_attn.k_proj.weight");
            tensors.push(tensor("spare.weight", DType::F32, [2].into(), &[1.0, 2.0]));
            let mut poison = |name: &str, index: usize, value: f32| {
                let t = tensors.iter_mut().find(|t| t.name == name).expect("a tensor of the family");
                let mut bytes = t.tensor.bytes.to_vec();
                bytes[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
                t.tensor.bytes = Bytes::from_vec(bytes);
            };
            poison("model.norm.weight", 7, f32::NAN);
            poison("model.layers.0.mlp.up_proj.weight", 4099, f32::INFINITY);
            let zero = tensors.iter_mut().find(|t| t.name.ends_with("0.self_attn.v_proj.weight"));
            let zero = zero.expect("a tensor of the family");
            zero.tensor.bytes = Bytes::from_vec(vec![0; zero.tensor.bytes.len()]);
        });
        let report = check(&sick);
        let told =
            |name: &str| report.problems.iter().find(|p| p.tensor.as_deref() == Some(name)).expect(name);
        assert_eq!(told("model.layers.1.self_attn.k_proj.weight").what, "is missing");
        assert!(told("spare.weight").what.contains("no tensor of family llama"));
        assert_eq!(told("model.norm.weight").index, Some(7));
        assert_eq!(told("model.layers.0.mlp.up_proj.weight").index, Some(4099));
        assert_eq!(told("model.layers.0.self_attn.v_proj.weight").what, "every weight is zero");
        let stages = [
            "Tokenizer",
            "Q/K/V Projection",
            "Feed-Forward (MLP)",
            "Layer Norm",
            "Logits \u{2192} Probs",
            "Sampler/Decode",
            "Data Quality",
        ];
        assert_eq!(failed(&report), stages);
        // The final norm is critical, so its problem comes first.
        assert_eq!(report.problems[0].tensor.as_deref(), Some("model.norm.weight"));
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["stages"][3]["status"], "FAIL");
        assert!(!report.all_passed());
    }

    #[test]
    fn implausible_settings_fail_their_stage() {
        let sick = |key: &str, value: serde_json::Value| {
            let mut sound = Tiny::new("llama").hf(DType::F32);
            let crate::formats::Container::Hf(folder) = &mut sound.container else { panic!("an HF folder") };
            folder.config.insert(key.into(), value);
            check(&sound)
        };
        assert!(failed(&sick("rms_norm_eps", (-1e-5).into())).contains(&"Layer Norm"));
        let theta = sick("rope_parameters", serde_json::json!({"rope_theta": 0.0, "rope_type": "default"}));
        assert!(failed(&theta).contains(&"Positional Encoding"));
        let unknown = sick("model_type", "mamba".into());
        assert_eq!(unknown.family, "unknown");
        assert_eq!(unknown.unknown_family.as_deref(), Some("mamba"));
        assert!(unknown.stages.iter().all(|s| s.status == StageStatus::Fail), "nothing unchecked passes");
        assert!(!unknown.all_passed() && unknown.weights > 10_000, "its weights were looked at all the same");
    }

    #[test]
    fn a_bias_may_be_zero_but_a_weight_may_not() {
        let report = check(&with_tensors(&Tiny::new("qwen2").hf(DType::F32), |tensors| {
            for t in tensors.iter_mut().filter(|t| t.name.ends_with("k_proj.bias")) {
                t.tensor.bytes = Bytes::from_vec(vec![0; t.tensor.bytes.len()]);
            }
        }));
        assert_eq!(failed(&report), NO_TOKENIZER);
    }

    #[test]
    fn weights_that_are_mostly_zero_are_not_trained_ones() {
        let sound = Tiny::new("llama").hf(DType::F32);
        let zeroed = |name: &str, share: f64| {
            let report = check(&with_tensors(&sound, |tensors| {
                let t = tensors.iter_mut().find(|t| t.name.ends_with(name)).expect("a tensor of the family");
                let mut bytes = t.tensor.bytes.to_vec();
                let n = (bytes.len() as f64 / 4.0 * share) as usize;
                bytes[..4 * n].fill(0);
                t.tensor.bytes = Bytes::from_vec(bytes);
            }));
            report
                .problems
                .iter()
                .filter(|p| p.tensor.is_some())
                .map(|p| p.to_string())
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert!(zeroed("embed_tokens.weight", 0.6).contains("60."));
        assert_eq!(zeroed("embed_tokens.weight", 0.4), "");
        assert!(zeroed("1.mlp.up_proj.weight", 0.85).contains("85."));
        assert_eq!(zeroed("1.mlp.up_proj.weight", 0.6), "");
        let tiny = check(&with_tensors(&sound, |tensors| {
            let t = tensors.iter_mut().find(|t| t.name == "model.norm.weight").expect("a norm");
            *t = tensor(&t.name, DType::F32, t.tensor.shape.clone(), &[1e-9; 64]);
        }));
        let norm = tiny.problems.iter().find(|p| p.tensor.is_some()).expect("found");
        assert!(norm.what.contains("Euclidean norm is 8.0e-9") && norm.critical, "{norm:?}");
    }
}
