//! `contract-i4`: the statistics of every tensor survive, and so does its signal.

use super::evidence::{Bound, holds, number};
use super::trial::usage;
use super::{Evidence, Gate, Trial, suspects};
use crate::contract::{EncodingLaw, Scope, Tolerance};
use crate::inspect::cause::Cause;
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, LimitOp, Unable};
use crate::stats::{Noise, Statistics, largest_move};
use crate::subject::{Answer, TensorFacts};
use crate::tensor::DType;

/// Mean and standard deviation within the contract's tolerance; minimum and maximum within the larger of it and the
/// encoding's worst case; beside it what no absolute tolerance sees: signal to noise, and every element within its
/// encoding's proven worst case. Refuted by one tensor outside any of them.
pub struct ContractI4;

const PARAMS: &[Param] = &[Param {
    name: "encoding",
    doc: "the coarsest encoding on the way, where it is not the tensor's own",
    default: Some(ParamDefault::DerivedWord),
}];

const GATE_ID: &str = "F-CONTRACT-I4-001";

impl Gate for ContractI4 {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "contract-i4", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn contract_id(&self) -> Option<&'static str> {
        Some(GATE_ID)
    }

    fn claim(&self) -> &'static str {
        "Mean, standard deviation, minimum, maximum and signal of every tensor survive within its encoding's tolerance."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let (theirs, ours) = (original.tensors()?, trial.subject.tensors()?);
        let mut worst = Worst::default();
        let mut found: Vec<(f64, String, String)> = Vec::new();
        let mut explained: Vec<(String, Cause)> = Vec::new();
        let mut tried = 0;
        for tensor in ours.iter() {
            let Some(other) = theirs.iter().find(|t| t.name == tensor.name && t.shape == tensor.shape) else {
                continue;
            };
            let dtype = encoding_of(trial, other, tensor)?;
            let (before, after) = (original.values(&other.name)?, trial.subject.values(&tensor.name)?);
            let checked = check(trial, tensor, dtype, &before, &after)?;
            if !checked.wrong.is_empty() && tried < MOST_EXPLAINED {
                tried += 1;
                let cause = suspects::explain(tensor, (original, &before), (trial.subject, &after));
                explained.extend(cause.into_iter().next().map(|cause| (tensor.name.clone(), cause)));
            }
            worst.take(&checked);
            found.extend(
                checked.wrong.into_iter().map(|(how_bad, what)| (how_bad, tensor.name.clone(), what)),
            );
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut evidence = Evidence::new();
        // What to fix comes first: what explains most, then what was measured, then mere guesses.
        explained.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
        let (tested, guessed): (Vec<_>, Vec<_>) =
            explained.into_iter().partition(|(_, cause)| cause.score >= TESTED);
        let tell = |causes: Vec<(String, Cause)>, evidence: &mut Evidence| {
            for (tensor, cause) in causes {
                evidence.find_cause(tensor, format!("likely cause: {}", cause.sentence), cause.id);
            }
        };
        tell(tested, &mut evidence);
        found.into_iter().for_each(|(_, tensor, what)| evidence.find(tensor, what));
        tell(guessed, &mut evidence);
        worst.hold(trial, &mut evidence);
        if let Some(law) = trial.contract.invariant(GATE_ID).filter(|_| worst.outside > 0) {
            evidence.tell(&law.headline());
        }
        evidence.judge()
    }
}

/// A cause that explains half of the difference was tested rather than guessed.
const TESTED: f64 = 0.5;

/// So many wrong tensors are explained: where more are wrong, all of them share a cause.
const MOST_EXPLAINED: usize = 16;

/// What one tensor came to. Shares are of what is allowed: 1 is the limit.
struct TensorCheck {
    statistic: f64,
    element: Option<f64>,
    /// dB over the floor.
    margin: Option<f64>,
    sqnr: f64,
    wrong: Vec<(f64, String)>,
}

fn check(trial: &Trial, t: &TensorFacts, dtype: DType, before: &[f32], after: &[f32]) -> Answer<TensorCheck> {
    let extension = trial.contract.extension_source();
    let no_law = || usage(format!("{extension} gives no tolerance for {dtype}: I-4 has no bound"));
    let tolerance = trial.contract.tolerance(dtype).ok_or_else(no_law)?;
    let law = trial.contract.encoding(dtype).ok_or_else(no_law)?;
    let noise = Noise::between(before, after).ok_or_else(|| {
        Unable::Vacuous(format!("{}: {} values against {}", t.name, before.len(), after.len()))
    })?;
    let mut wrong = Vec::new();
    let label = if dtype == t.dtype { dtype.to_string() } else { format!("{} held as {dtype}", t.dtype) };
    let statistic = statistics(&tolerance, law, before, after, &label, &mut wrong);
    let element = law.proven.then(|| elements(law, t, (before, after), &label, &mut wrong));
    let sqnr = noise.sqnr_db();
    let margin = law.sqnr_floor_db.map(|floor| sqnr - floor);
    if let (Some(floor), Some(margin)) = (law.sqnr_floor_db, margin)
        && !holds(LimitOp::AtLeast, margin, 0.0)
    {
        let what = format!("{label}: signal to noise {} dB, floor {floor} dB", number(sqnr));
        wrong.push((f64::INFINITY, what));
    }
    Ok(TensorCheck { statistic, element, margin, sqnr, wrong })
}

/// The largest share of an allowed move that a statistic made.
fn statistics(
    tolerance: &Tolerance,
    law: &EncodingLaw,
    before: &[f32],
    after: &[f32],
    label: &str,
    wrong: &mut Vec<(f64, String)>,
) -> f64 {
    let (a, b) = (Statistics::of(before), Statistics::of(after));
    let largest = a.min.abs().max(a.max.abs());
    let worst_case = law.worst_error(largest);
    let rows = [
        ("mean", a.mean, b.mean, tolerance.around(a.mean)),
        ("std", a.std, b.std, tolerance.around(a.std)),
        ("min", a.min, b.min, tolerance.around(a.min).max(worst_case)),
        ("max", a.max, b.max, tolerance.around(a.max).max(worst_case)),
        ("non_finite", a.non_finite as f64, b.non_finite as f64, 0.0),
    ];
    rows.into_iter().fold(0.0, |worst, (name, old, new, allowed)| {
        let share = share_of((old - new).abs(), allowed);
        if share > 1.0 {
            let (old, new, allowed) = (number(old), number(new), number(allowed));
            wrong.push((share, format!("{label}: {name} {old} became {new}, allowed {allowed}")));
        }
        worst.max(share)
    })
}

/// The largest share of its proven worst case that an element is off by.
fn elements(
    law: &EncodingLaw,
    t: &TensorFacts,
    (before, after): (&[f32], &[f32]),
    label: &str,
    wrong: &mut Vec<(f64, String)>,
) -> f64 {
    let row_len = match law.scope {
        Scope::Row => t.shape.row_len().max(1),
        Scope::Tensor => before.len().max(1),
    };
    let mut worst = (0.0f64, 0usize);
    for (row, (x, y)) in before.chunks(row_len).zip(after.chunks(row_len)).enumerate() {
        let (largest, moved) = largest_move(x, y);
        // One part in 10^6 for the f32 arithmetic of the decoder itself.
        let allowed = law.worst_error(f64::from(largest)) * (1.0 + 1e-6);
        // No element's share is larger than that of the largest move, which is NaN where some element has none.
        if share_of(moved, allowed) <= worst.0 {
            continue;
        }
        for (column, (a, b)) in x.iter().zip(y).enumerate() {
            let share = share_of((f64::from(*a) - f64::from(*b)).abs(), allowed);
            if share > worst.0 {
                worst = (share, row * row_len + column);
            }
        }
    }
    if worst.0 > 1.0 {
        let (row, column) = (worst.1 / t.shape.row_len().max(1), worst.1 % t.shape.row_len().max(1));
        let (old, new) = (before[worst.1], after[worst.1]);
        let what =
            format!("{label}: element [{row}, {column}] {old} became {new}, further than the encoding can");
        wrong.push((worst.0, what));
    }
    worst.0
}

/// `moved / allowed`, where nothing moved by nothing allowed is 0 and a NaN is as bad as can be.
fn share_of(moved: f64, allowed: f64) -> f64 {
    if moved == 0.0 {
        0.0
    } else if moved.is_nan() || allowed == 0.0 {
        f64::INFINITY
    } else {
        moved / allowed
    }
}

/// The encoding that may have moved a tensor: the coarser one that the playbook says lies on the way (plain 1-D
/// tensors stay plain); none, which is what F32 does, where both files have the same; else the tensor's own.
fn encoding_of(trial: &Trial, original: &TensorFacts, tensor: &TensorFacts) -> Answer<DType> {
    match trial.settings.given_word("encoding") {
        Some(name) if tensor.shape.ndim() > 1 => {
            DType::from_name(name).ok_or_else(|| usage(format!("unknown encoding `{name}`")))
        }
        Some(_) | None if original.dtype == tensor.dtype => Ok(DType::F32),
        Some(_) | None => Ok(tensor.dtype),
    }
}

/// The worst of all tensors.
#[derive(Default)]
struct Worst {
    tensors: u64,
    outside: u64,
    statistic: f64,
    element: Option<f64>,
    elements_of: u64,
    margin: Option<f64>,
    margins_of: u64,
    sqnr: Option<f64>,
}

impl Worst {
    fn take(&mut self, t: &TensorCheck) {
        self.tensors += 1;
        self.outside += u64::from(!t.wrong.is_empty());
        self.statistic = self.statistic.max(t.statistic);
        self.sqnr = Some(self.sqnr.map_or(t.sqnr, |w| lower(w, t.sqnr)));
        if let Some(element) = t.element {
            self.elements_of += 1;
            self.element = Some(self.element.map_or(element, |w| w.max(element)));
        }
        if let Some(margin) = t.margin {
            self.margins_of += 1;
            self.margin = Some(self.margin.map_or(margin, |w| lower(w, margin)));
        }
    }

    fn hold(&self, trial: &Trial, evidence: &mut Evidence) {
        let extension = trial.contract.extension_source();
        let statistics = format!("{} tolerances, {extension} worst_case", trial.contract.format_source());
        evidence.hold(
            "tensors_outside",
            self.outside as f64,
            "tensors",
            self.tensors,
            Bound::zero(statistics.clone()),
        );
        evidence.hold(
            "statistic_share_of_tolerance",
            self.statistic,
            "",
            self.tensors,
            Bound::at_most(1.0, statistics),
        );
        if let Some(margin) = self.margin {
            let source = format!("{extension} sqnr_floor_db");
            evidence.hold("sqnr_over_floor", margin, "dB", self.margins_of, Bound::at_least(0.0, source));
        }
        if let Some(element) = self.element {
            let source = format!("{extension} worst_case of every element");
            evidence.hold(
                "element_share_of_worst_case",
                element,
                "",
                self.elements_of,
                Bound::at_most(1.0, source),
            );
        }
        if let Some(sqnr) = self.sqnr {
            evidence.note("lowest_sqnr", sqnr, "dB", self.tensors);
        }
    }
}

/// The lower of two, where a NaN is lowest.
fn lower(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    /// An artifact whose query weights are in `dtype` and went through `change`.
    fn converted(dtype: DType, change: impl Fn(f32) -> f32) -> FakeSubject {
        let mut artifact = FakeSubject::new("converted");
        artifact.weights[1].0.dtype = dtype;
        artifact.weights[1].1.iter_mut().for_each(|v| *v = change(*v));
        artifact
    }

    fn judge(artifact: &FakeSubject) -> Answer<Judgement> {
        Bench::default().compare(&ContractI4, artifact, &FakeSubject::new("source"))
    }

    #[test]
    fn rounding_within_the_encoding_passes() {
        passes(judge(&converted(DType::Q8_0, |v| (v * 512.0).round() / 512.0)));
        passes(judge(&converted(DType::F32, |v| v)));
    }

    #[test]
    fn a_zeroed_tensor_of_small_weights_passes_the_absolute_tolerance_and_fails_here() {
        let mut original = FakeSubject::new("source");
        original.weights[1].1.iter_mut().for_each(|v| *v *= 1e-3);
        let zeroed = converted(DType::Q8_0, |_| 0.0);
        let judged = fails(Bench::default().compare(&ContractI4, &zeroed, &original), "tensors_outside");
        let statistic =
            judged.measurements.iter().find(|m| m.metric == "statistic_share_of_tolerance").unwrap();
        assert!(statistic.value <= 1.0, "the contract's tolerance alone would have passed it: {statistic:?}");
        assert_eq!(judged.findings[0].subject, "0.q_proj.weight");
        assert!(
            judged.findings.iter().any(|f| f.detail.contains("0 dB, floor 33.1 dB")),
            "{:?}",
            judged.findings
        );
    }

    #[test]
    fn plain_floats_may_not_move_at_all() {
        let judged = fails(judge(&converted(DType::F32, |v| v * 1.000_001)), "tensors_outside");
        assert!(judged.findings.iter().any(|f| f.detail.contains("element [")), "{:?}", judged.findings);
    }

    #[test]
    fn a_tensor_that_kept_its_encoding_must_have_kept_its_numbers() {
        let mut original = FakeSubject::new("source");
        original.weights[1].0.dtype = DType::Q8_0;
        let mut artifact = converted(DType::Q8_0, |v| v);
        passes(Bench::default().compare(&ContractI4, &artifact, &original));
        artifact.weights[1].1[3] += 1e-5;
        let judged = fails(Bench::default().compare(&ContractI4, &artifact, &original), "tensors_outside");
        assert!(judged.findings[0].detail.starts_with("Q8_0 held as F32"), "{:?}", judged.findings);
        passes(Bench::default().word("encoding", "Q8_0").compare(&ContractI4, &artifact, &original));
    }

    #[test]
    fn one_element_further_than_the_encoding_can_put_it_is_named() {
        let mut artifact = converted(DType::Q8_0, |v| v);
        artifact.weights[1].1[37] += 0.006;
        let judged = fails(judge(&artifact), "tensors_outside");
        assert!(judged.findings[0].detail.contains("element [1, 5]"), "{:?}", judged.findings);
    }

    #[test]
    fn nan_and_reversed_weights_fail_and_nothing_is_vacuous() {
        fails(judge(&converted(DType::Q4_0, |v| if v > 0.5 { f32::NAN } else { v })), "tensors_outside");
        fails(judge(&converted(DType::Q4_0, |v| -v)), "tensors_outside");
        let mut empty = FakeSubject::new("empty");
        empty.weights.clear();
        assert!(matches!(judge(&empty), Err(Unable::Vacuous(_))));
    }

    #[test]
    fn a_maximum_may_move_as_far_as_the_encoding_moves_it() {
        // The extension's example: a clean Q4_0 file moves 1.861 to 1.688, outside atol = rtol = 0.05.
        let mut original = FakeSubject::new("source");
        let mut artifact = converted(DType::Q4_0, |v| v);
        (original.weights[1].1[9], artifact.weights[1].1[9]) = (1.861, 1.688);
        passes(Bench::default().compare(&ContractI4, &artifact, &original));
        artifact.weights[1].1[9] = 1.4;
        fails(Bench::default().compare(&ContractI4, &artifact, &original), "tensors_outside");
    }
}
