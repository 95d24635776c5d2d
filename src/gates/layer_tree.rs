//! `layer-tree`: the layers in the file are those that it says it has, and each is whole.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, LimitOp, Unable};
use crate::subject::Answer;
use std::collections::{BTreeMap, BTreeSet};

/// Layers counted by name against the declared number, and held against each other. Refuted by a missing or an
/// added layer, by a gap, and by a layer that holds other tensors or shapes than most.
pub struct LayerTree;

const PARAMS: &[Param] = &[Param {
    name: "uniform",
    doc: "whether all layers hold the same tensors; `no` for a model that mixes kinds of layers",
    default: Some(ParamDefault::Choice(&["yes", "no"])),
}];

/// Tensors of a layer: name without the layer, and shape.
type Layer<'a> = BTreeSet<(String, &'a [usize])>;

impl Gate for LayerTree {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "layer-tree", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "The file holds as many layers as it declares, numbered from 0 without a gap, and all alike."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let tensors = trial.subject.tensors()?;
        let settings = trial.subject.hyperparameters()?;
        let declared = settings.get("n_layers").and_then(|n| n.parse::<usize>().ok()).ok_or_else(|| {
            Unable::Refused(crate::Error::malformed(
                &trial.subject.info().path,
                "it declares no number of layers",
            ))
        })?;
        let mut layers: BTreeMap<usize, Layer> = BTreeMap::new();
        for facts in tensors.iter() {
            if let Some((layer, rest)) = layer_of(&facts.name) {
                layers.entry(layer).or_default().insert((rest, &facts.shape.0));
            }
        }
        let n = tensors.len() as u64;
        let mut evidence = Evidence::new();
        for gap in (0..declared).filter(|layer| !layers.contains_key(layer)) {
            evidence.find(format!("layer {gap}"), "has no tensor");
        }
        let beyond: Vec<&usize> = layers.keys().filter(|layer| **layer >= declared).collect();
        beyond.iter().for_each(|l| evidence.find(format!("layer {l}"), format!("of {declared} declared")));
        let bound =
            Bound { op: LimitOp::Equal, value: declared as f64, source: "the file's own config".into() };
        evidence.hold("layers", layers.len() as f64, "", n, bound);
        evidence.hold("layers_beyond", beyond.len() as f64, "", n, Bound::zero("the file's own config"));
        if trial.settings.word("uniform")? == "yes" {
            let unlike = unlike(&layers, &mut evidence);
            evidence.hold(
                "layers_unlike",
                unlike as f64,
                "",
                layers.len() as u64,
                Bound::zero("gate default"),
            );
        }
        evidence.judge()
    }
}

/// Counts the layers that are not like most, and says what each lacks or has too much.
fn unlike(layers: &BTreeMap<usize, Layer>, evidence: &mut Evidence) -> usize {
    let mut kinds: Vec<(&Layer, usize)> = Vec::new();
    for layer in layers.values() {
        match kinds.iter_mut().find(|(kind, _)| *kind == layer) {
            Some((_, count)) => *count += 1,
            None => kinds.push((layer, 1)),
        }
    }
    // The first of the most frequent kinds.
    let Some(most) = kinds.iter().map(|(_, count)| *count).max() else { return 0 };
    let Some((usual, _)) = kinds.iter().find(|(_, count)| *count == most) else { return 0 };
    let mut odd = 0;
    for (number, layer) in layers.iter().filter(|(_, layer)| *layer != *usual) {
        odd += 1;
        let lacks: Vec<_> =
            usual.difference(layer).map(|(name, shape)| format!("{name} {shape:?}")).collect();
        let has: Vec<_> = layer.difference(usual).map(|(name, shape)| format!("{name} {shape:?}")).collect();
        let said = format!("lacks {}; has {} instead", list(&lacks), list(&has));
        evidence.find(format!("layer {number}"), said);
    }
    odd
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// The layer and the rest of a name: the first part that is a number, as in `0.q_proj.weight` and `blk.0.ssm_a`.
fn layer_of(name: &str) -> Option<(usize, String)> {
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|part| part.parse::<usize>().is_ok())?;
    let layer = parts[at].parse().ok()?;
    let rest: Vec<&str> = parts.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, part)| *part).collect();
    Some((layer, rest.join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::TensorFacts;
    use crate::subject::fake::FakeSubject;

    /// Two tensors in each of these layers; the config declares `declared`.
    fn subject(layers: &[usize], declared: &str) -> FakeSubject {
        let mut subject = FakeSubject::new("apr");
        let template = subject.weights.clone();
        subject.weights.clear();
        for layer in layers {
            for (facts, values) in &template {
                let name = facts.name.replacen('0', &layer.to_string(), 1);
                subject.weights.push((TensorFacts { name, ..facts.clone() }, values.clone()));
            }
        }
        subject.hyperparameters.insert("n_layers".into(), declared.into());
        subject
    }

    fn judge(subject: &FakeSubject) -> Answer<Judgement> {
        Bench::default().judge(&LayerTree, subject, None)
    }

    #[test]
    fn as_many_layers_as_declared_pass() {
        let judged = passes(judge(&subject(&[0, 1, 2], "3")));
        assert_eq!(judged.measurements[0].value, 3.0);
    }

    #[test]
    fn a_gap_and_a_layer_too_many_fail() {
        assert_eq!(fails(judge(&subject(&[0, 2], "3")), "layers").findings[0].subject, "layer 1");
        fails(judge(&subject(&[0, 1, 2], "2")), "layers");
        // The number is right, and yet one is missing and one too many.
        fails(judge(&subject(&[0, 2], "2")), "layers_beyond");
    }

    #[test]
    fn a_layer_that_lacks_a_tensor_is_named_with_it() {
        let mut broken = subject(&[0, 1, 2], "3");
        broken.weights.retain(|(facts, _)| facts.name != "1.q_proj.weight");
        let judged = fails(judge(&broken), "layers_unlike");
        assert_eq!(judged.findings[0].subject, "layer 1");
        assert!(judged.findings[0].detail.contains("lacks q_proj.weight"), "{:?}", judged.findings);
        passes(Bench::default().word("uniform", "no").judge(&LayerTree, &broken, None));
    }

    #[test]
    fn a_file_that_declares_no_layers_is_refused() {
        assert!(matches!(judge(&FakeSubject::new("apr")), Err(Unable::Refused(_))));
        assert!(matches!(judge(&subject(&[], "0")), Err(Unable::Vacuous(_))));
    }
}
