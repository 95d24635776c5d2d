//! `contract-i2`: the converted file holds exactly the original's tensors, under the contract's names.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::subject::{Answer, TensorFacts};
use crate::tensor::DType;
use std::collections::{BTreeMap, BTreeSet};

/// Names after the family's map, both ways; shapes; encodings; the contract's pattern. Refuted by one tensor that is
/// missing, added, misshapen, in an encoding that the contract has no byte for, or under a forbidden name.
pub struct ContractI2;

const GATE_ID: &str = "F-CONTRACT-I2-001";

impl Gate for ContractI2 {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "contract-i2", per_prompt: false, needs_backend: false, against, params: &[] }
    }

    fn contract_id(&self) -> Option<&'static str> {
        Some(GATE_ID)
    }

    fn claim(&self) -> &'static str {
        "After the family's name map both files hold the same tensors with the same shapes, and every name is allowed."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let (theirs, ours) = (original.tensors()?, trial.subject.tensors()?);
        let (theirs, ours) = (by_name(&theirs), by_name(&ours));
        let bound = trial.subject.under_contract()?;
        let mut evidence = Evidence::new();
        let source = format!("{} I-2", trial.contract.format_source());
        let compared = theirs.keys().filter(|name| ours.contains_key(*name)).count() as u64;

        let missing: Vec<_> = theirs.values().filter(|t| !ours.contains_key(t.name.as_str())).collect();
        let added: Vec<_> = ours.values().filter(|t| !theirs.contains_key(t.name.as_str())).collect();
        missing.iter().for_each(|t| {
            evidence.find(&t.name, format!("missing: {} has it as {}", original.info().artifact, stored(t)))
        });
        added.iter().for_each(|t| {
            evidence.find(&t.name, format!("added: stored as {}, the original has none", stored(t)))
        });
        let unmatched = (missing.len() + added.len()) as f64;
        evidence.hold("names_unmatched", unmatched, "tensors", compared, Bound::zero(source.clone()));

        let mut misshapen = 0;
        let mut changes: BTreeMap<(DType, DType), u64> = BTreeMap::new();
        for (name, t) in &ours {
            let Some(o) = theirs.get(name) else { continue };
            *changes.entry((o.dtype, t.dtype)).or_default() += 1;
            if o.shape != t.shape {
                misshapen += 1;
                let hint =
                    if o.shape.0.iter().rev().eq(&t.shape.0) { "; was it saved transposed?" } else { "" };
                evidence.find(*name, format!("shape {} expected, {} found{hint}", o.shape, t.shape));
            }
        }
        evidence.hold(
            "shapes_different",
            f64::from(misshapen),
            "tensors",
            compared,
            Bound::zero(source.clone()),
        );
        let bad = hold_encodings(trial, bound, &ours, &mut evidence);
        evidence.hold("encodings_refused", bad as f64, "tensors", ours.len() as u64, Bound::zero(source));
        hold_names(trial, bound, &ours, &mut evidence);
        let listed = changes.iter().map(|((from, to), n)| format!("{from} -> {to}: {n}"));
        evidence.tell(&format!("{compared} tensors compared; {}", listed.collect::<Vec<_>>().join(", ")));
        if let Some(law) = trial.contract.invariant(GATE_ID).filter(|_| unmatched > 0.0) {
            evidence.tell(&law.headline());
        }
        evidence.judge()
    }
}

fn by_name(tensors: &[TensorFacts]) -> BTreeMap<&str, &TensorFacts> {
    tensors.iter().map(|t| (t.name.as_str(), t)).collect()
}

fn stored(t: &TensorFacts) -> String {
    t.stored.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" + ")
}

/// Counts encodings without a byte, where the contract binds, and 1-D tensors in blocks.
fn hold_encodings(
    trial: &Trial,
    bound: bool,
    ours: &BTreeMap<&str, &TensorFacts>,
    evidence: &mut Evidence,
) -> usize {
    let mut bad = 0;
    for (name, t) in ours {
        let (byte, layout) = match t.tiled {
            true => (trial.contract.tiled_byte(t.dtype), " in row tiles"),
            false => (trial.contract.dtype_byte(t.dtype), ""),
        };
        if bound && byte.is_none() {
            bad += 1;
            evidence.find(*name, format!("encoding {}{layout}: the contract has no byte for it", t.dtype));
        }
        if t.shape.ndim() == 1 && t.dtype.is_quantized() {
            bad += 1;
            evidence.find(*name, format!("encoding {}: a norm or bias must be plain floats", t.dtype));
        }
    }
    bad
}

/// Holds stored names to the pattern, where the contract binds them; a name stored for several weights counts once.
fn hold_names(trial: &Trial, bound: bool, ours: &BTreeMap<&str, &TensorFacts>, evidence: &mut Evidence) {
    if !bound {
        return;
    }
    let names: BTreeSet<&String> = ours.values().flat_map(|t| &t.stored).collect();
    let forbidden: Vec<_> = names.iter().filter(|name| !trial.contract.allows_name(name)).collect();
    forbidden
        .iter()
        .for_each(|name| evidence.find(name.as_str(), "the name does not match tensor_naming.pattern"));
    let source = format!("{} tensor_naming.pattern", trial.contract.format_source());
    evidence.hold(
        "names_forbidden",
        forbidden.len() as f64,
        "names",
        names.len() as u64,
        Bound::zero(source),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::fake::FakeSubject;
    use crate::tensor::Shape;

    fn judge(converted: &FakeSubject) -> Answer<Judgement> {
        Bench::default().compare(&ContractI2, converted, &FakeSubject::new("source"))
    }

    #[test]
    fn the_same_tensors_pass_and_the_count_is_in_the_evidence() {
        let judged = passes(judge(&FakeSubject::new("apr")));
        assert_eq!((judged.measurements[0].n, judged.measurements.len()), (2, 4));
        assert!(judged.detail.starts_with("2 tensors compared"), "{}", judged.detail);
    }

    #[test]
    fn a_missing_an_added_and_a_transposed_tensor_are_named() {
        let mut converted = FakeSubject::new("apr");
        converted.weights.remove(0);
        assert_eq!(fails(judge(&converted), "names_unmatched").findings[0].subject, "0.attn_norm.weight");
        let mut converted = FakeSubject::new("apr");
        let mut twin = converted.weights[1].clone();
        twin.0.name = "0.x_proj.weight".into();
        converted.weights.push(twin);
        assert!(fails(judge(&converted), "names_unmatched").findings[0].detail.starts_with("added"));
        let mut converted = FakeSubject::new("apr");
        converted.weights[1].0.shape = Shape::from([32, 2]);
        assert!(fails(judge(&converted), "shapes_different").findings[0].detail.contains("transposed"));
    }

    #[test]
    fn a_forbidden_name_fails_only_where_the_contract_binds() {
        let mut converted = FakeSubject::new("apr");
        converted.weights[1].0.stored = vec!["model.layers.0.self_attn.q_proj.weight".into()];
        fails(judge(&converted), "names_forbidden");
        converted.under_contract = false;
        passes(judge(&converted));
    }

    #[test]
    fn an_encoding_without_a_byte_and_a_norm_in_blocks_fail() {
        for (index, dtype) in [(1, DType::AprQ8), (0, DType::Q8_0)] {
            let mut converted = FakeSubject::new("apr");
            converted.weights[index].0.dtype = dtype;
            fails(judge(&converted), "encodings_refused");
        }
    }

    #[test]
    fn row_tiles_have_bytes_of_their_own() {
        let mut converted = FakeSubject::new("apr");
        (converted.weights[1].0.dtype, converted.weights[1].0.tiled) = (DType::Q4_0, true);
        passes(judge(&converted));
        converted.weights[1].0.dtype = DType::F16;
        let found = fails(judge(&converted), "encodings_refused");
        assert_eq!(found.findings[0].detail, "encoding F16 in row tiles: the contract has no byte for it");
    }

    #[test]
    fn nothing_against_nothing_is_no_pass() {
        let (mut a, mut b) = (FakeSubject::new("apr"), FakeSubject::new("source"));
        a.weights.clear();
        b.weights.clear();
        assert!(matches!(Bench::default().compare(&ContractI2, &a, &b), Err(Unable::Vacuous(_))));
    }
}
