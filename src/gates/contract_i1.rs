//! `contract-i1`: inference from the converted model is inference from the original.

use super::divergence::of_tokens;
use super::evidence::{Bound, number};
use super::runtime_parity::largest_difference;
use super::trial::usage;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::{argmax, count_mismatches, kl_divergence, top_two_gap};
use crate::subject::{Answer, Subject};
use crate::tensor::DType;

/// Teacher-forced logits on the original's own greedy path, over several prompts.
///
/// Where every weight is the same number, refuted by one logit that differs at all. Otherwise refuted by a mean KL
/// divergence over the encoding's limit, or by one flipped token where the original's top-two gap is wider than the
/// noise of an artifact at that limit (extension, `mean_kl` and `clear_gap_sigmas`).
pub struct ContractI1;

const PARAMS: &[Param] = &[
    Param {
        name: "max_mean_kl",
        doc: "nats; default: the contract extension's for the coarsest encoding",
        default: None,
    },
    Param {
        name: "encoding",
        doc: "the coarsest encoding on the way, where it is not the artifact's own",
        default: Some(ParamDefault::DerivedWord),
    },
];

const GATE_ID: &str = "F-CONTRACT-I1-001";

impl Gate for ContractI1 {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "contract-i1", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn contract_id(&self) -> Option<&'static str> {
        Some(GATE_ID)
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "The converted model's next-token distributions are the original's, exactly or to the bound of the encoding."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let paths = compare_paths(trial, original)?;
        let mut evidence = Evidence::new();
        match coarsest_difference(trial, original)? {
            None => exact(trial, &paths, &mut evidence)?,
            Some(dtype) => within_bound(trial, &paths, dtype, &mut evidence)?,
        }
        if let (Some(first), Some(law)) = (paths.first_difference, trial.contract.invariant(GATE_ID)) {
            evidence.tell(&first);
            evidence.tell(&law.headline());
        }
        evidence.judge()
    }
}

/// What the original's greedy paths came to on both sides.
struct Paths {
    positions: u64,
    max_diff: f64,
    sum_kl: f64,
    /// Of every position where the best token differs: the original's top-two gap.
    flips: Vec<f64>,
    /// Top-two gap of every position.
    gaps: Vec<f64>,
    generated: u64,
    mismatches: u64,
    prompt_mismatches: u64,
    first_difference: Option<String>,
}

fn compare_paths(trial: &Trial, original: &dyn Subject) -> Answer<Paths> {
    let mut paths = Paths {
        positions: 0,
        max_diff: 0.0,
        sum_kl: 0.0,
        flips: Vec::new(),
        gaps: Vec::new(),
        generated: 0,
        mismatches: 0,
        prompt_mismatches: 0,
        first_difference: None,
    };
    let (theirs, ours) = (trial.generate_all(original)?, trial.generate_all(trial.subject)?);
    for ((name, _), (expected, found)) in trial.all_prompts()?.iter().zip(theirs.into_iter().zip(ours)) {
        let (expected, found) = (expected?, found?);
        if expected.tokens.is_empty() || found.tokens.is_empty() {
            return Err(Unable::Vacuous(format!("prompt `{name}`: an empty generation")));
        }
        paths.generated += expected.tokens.len() as u64;
        paths.mismatches += count_mismatches(&expected.tokens, &found.tokens) as u64;
        paths.prompt_mismatches += count_mismatches(&expected.prompt_ids, &found.prompt_ids) as u64;
        let fed: Vec<u32> = expected.prompt_ids.iter().chain(&expected.tokens).copied().collect();
        let (there, here) = (original.logits(&fed)?, trial.subject.logits(&fed)?);
        paths.max_diff = paths.max_diff.max(largest_difference(&there.data, &here.data));
        for i in 0..there.len() {
            let (Some(p), Some(q)) = (there.row(i), here.row(i)) else { break };
            paths.positions += 1;
            paths.sum_kl += kl_divergence(p, q).unwrap_or(f64::INFINITY);
            let gap = top_two_gap(p);
            paths.gaps.push(gap);
            if argmax(p) != argmax(q) {
                paths.flips.push(gap);
            }
        }
        if paths.first_difference.is_none() && expected.tokens != found.tokens {
            let told = of_tokens(original, &expected.tokens, &found.tokens)?;
            paths.first_difference = Some(format!("prompt `{name}`: {told}"));
        }
    }
    Ok(paths)
}

fn exact(trial: &Trial, paths: &Paths, evidence: &mut Evidence) -> Answer<()> {
    let source = || format!("{} I-1; every weight is the same number", trial.contract.format_source());
    evidence.hold("max_logit_diff", paths.max_diff, "", paths.positions, Bound::zero(source()));
    evidence.hold("mismatches", paths.mismatches as f64, "tokens", paths.generated, Bound::zero(source()));
    hold_prompts(paths, evidence, source());
    Ok(())
}

fn within_bound(trial: &Trial, paths: &Paths, dtype: DType, evidence: &mut Evidence) -> Answer<()> {
    let extension = trial.contract.extension_source();
    let law = trial
        .contract
        .encoding(dtype)
        .ok_or_else(|| usage(format!("{extension} gives no law for {dtype}: I-1 has no bound")))?;
    let own = (law.mean_kl, format!("{extension} encodings.{dtype}.mean_kl"));
    let (limit, source) = trial.settings.given_number("max_mean_kl").unwrap_or(own);
    let mean_kl = paths.sum_kl / paths.positions.max(1) as f64;
    evidence.hold("mean_kl", mean_kl, "nats", paths.positions, Bound::at_most(limit, source));
    let gap = trial.contract.extension.clear_gap(limit);
    let clear = paths.gaps.iter().filter(|g| **g > gap).count();
    let flips = paths.flips.iter().filter(|g| **g > gap).count();
    if clear > 0 {
        let source = format!("{extension} clear_gap_sigmas; a gap over {} nats is clear", number(gap));
        evidence.hold("clear_top1_flips", flips as f64, "tokens", clear as u64, Bound::zero(source));
    }
    hold_prompts(paths, evidence, format!("{} I-5", trial.contract.format_source()));
    evidence.note("top1_flips", paths.flips.len() as f64, "tokens", paths.positions);
    evidence.note("max_logit_diff", paths.max_diff, "", paths.positions);
    evidence.note("mismatches", paths.mismatches as f64, "tokens", paths.generated);
    Ok(())
}

/// Both sides must have been asked the same: other prompt ids make every other number meaningless.
fn hold_prompts(paths: &Paths, evidence: &mut Evidence, source: String) {
    let n = paths.positions.saturating_sub(paths.generated);
    evidence.hold("prompt_mismatches", paths.prompt_mismatches as f64, "tokens", n, Bound::zero(source));
}

/// The coarsest encoding, by its KL limit, among the weights that are not the same numbers; `None` where all are.
fn coarsest_difference(trial: &Trial, original: &dyn Subject) -> Answer<Option<DType>> {
    let (theirs, ours) = (original.tensors()?, trial.subject.tensors()?);
    let (mut coarsest, mut compared): (Option<(f64, DType)>, u64) = (None, 0);
    for tensor in ours.iter() {
        let Some(other) = theirs.iter().find(|t| t.name == tensor.name) else { continue };
        let (before, after) = (original.values(&other.name)?, trial.subject.values(&tensor.name)?);
        compared += u64::from(!before.is_empty() && !after.is_empty());
        if before == after {
            continue;
        }
        // The original's own encoding is no excuse: its numbers are the truth here. A tensor that kept its encoding
        // was not encoded at all: like F32, that explains no difference.
        let dtype = if tensor.dtype == other.dtype { DType::F32 } else { tensor.dtype };
        let kl = trial.contract.encoding(dtype).map_or(0.0, |law| law.mean_kl);
        if coarsest.is_none_or(|(worst, _)| kl > worst) {
            coarsest = Some((kl, dtype));
        }
    }
    if compared == 0 {
        return Err(Unable::Vacuous("no weight of the two models could be compared".into()));
    }
    match trial.settings.given_word("encoding") {
        Some(name) if coarsest.is_some() => {
            DType::from_name(name).map(Some).ok_or_else(|| usage(format!("unknown encoding `{name}`")))
        }
        Some(_) | None => Ok(coarsest.map(|(_, dtype)| dtype)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    /// An artifact whose query weights went through `dtype`.
    fn through(dtype: DType, noise: f32) -> FakeSubject {
        let mut artifact = FakeSubject::new("converted");
        artifact.weights[1].0.dtype = dtype;
        artifact.weights[1].1[5] += 0.001;
        artifact.noise = noise;
        artifact
    }

    #[test]
    fn the_same_numbers_must_give_the_same_logits_to_the_last_bit() {
        let original = FakeSubject::new("source");
        let judged = passes(Bench::default().compare(&ContractI1, &FakeSubject::new("f32"), &original));
        assert_eq!((judged.measurements[0].metric.as_str(), judged.measurements[0].n), ("max_logit_diff", 9));
        let mut off = FakeSubject::new("f32");
        off.noise = 1e-6;
        fails(Bench::default().compare(&ContractI1, &off, &original), "max_logit_diff");
    }

    #[test]
    fn an_encoding_may_move_logits_to_its_bound() {
        let original = FakeSubject::new("source");
        passes(Bench::default().compare(&ContractI1, &through(DType::Q8_0, 0.1), &original));
        let judged = Bench::default().compare(&ContractI1, &through(DType::Q8_0, 9.0), &original);
        let judged = fails(judged, "mean_kl");
        assert!(judged.measurements[0].limit.as_ref().unwrap().source.ends_with("encodings.Q8_0.mean_kl"));
    }

    #[test]
    fn a_coarse_original_does_not_widen_the_bound() {
        let mut original = FakeSubject::new("source");
        original.weights[1].0.dtype = DType::Q4_1;
        let judged = Bench::default().compare(&ContractI1, &through(DType::Q8_0, 9.0), &original);
        let judged = fails(judged, "mean_kl");
        assert_eq!(judged.measurements[0].limit.as_ref().unwrap().value, 0.003);
    }

    #[test]
    fn a_flip_at_a_clear_gap_fails_whatever_the_mean_says() {
        let mut artifact = through(DType::Q8_0, 0.0);
        artifact.next.insert(2, 6);
        let bench = Bench::default().limit("max_mean_kl", 0.2);
        let judged = bench.compare(&ContractI1, &artifact, &FakeSubject::new("source")).unwrap();
        let flips = judged.measurements.iter().find(|m| m.metric == "clear_top1_flips").unwrap();
        assert!(flips.value >= 1.0 && flips.n >= 1, "{flips:?}");
        assert!(judged.detail.contains("prompt `a`: first differing token"), "{}", judged.detail);
    }

    #[test]
    fn a_tensor_that_kept_its_encoding_explains_no_difference() {
        let mut original = FakeSubject::new("source");
        original.weights[1].0.dtype = DType::Q4_0;
        let judged = Bench::default().compare(&ContractI1, &through(DType::Q4_0, 0.1), &original);
        fails(judged, "mean_kl");
        let bench = Bench::default().word("encoding", "Q4_0");
        passes(bench.compare(&ContractI1, &through(DType::Q4_0, 0.1), &original));
    }

    #[test]
    fn a_plain_float_that_differs_has_no_bound_to_hide_in() {
        let judged =
            Bench::default().compare(&ContractI1, &through(DType::F32, 0.01), &FakeSubject::new("source"));
        fails(judged, "mean_kl");
    }
}
