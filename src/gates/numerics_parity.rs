//! `numerics-parity`: fast arithmetic takes an artifact no further from exact arithmetic than its encodings may cost.

use super::evidence::{Bound, number};
use super::kl_divergence::{mean_over_chunks, plan};
use super::trial::usage;
use super::{Evidence, Gate, Trial};
use crate::contract::numerics::{self, Numerics};
use crate::oracle::CompactRow;
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::{FEWEST_CHUNKS, Position, Resampling, Summary};
use crate::subject::Answer;

/// Mean `sum(p ln(p/q))` over the second halves of the text's chunks, `p` of the same file on the backend that it is held
/// against. Refuted by a mean beyond the limit of the coarsest encoding among its matrices, or by a flip of the most
/// probable token where the two best were further apart than noise at that limit brings them. A limit inside the
/// interval of the mean is inconclusive.
pub struct NumericsParity;

const PARAMS: &[Param] = &[
    Param {
        name: "max_kl",
        doc: "the mean divergence, nats; default: contracts/numerics.yaml for the artifact's encodings",
        default: None,
    },
    Param {
        name: "max_clear_flips",
        doc: "share of flips among positions whose two best tokens are clearly apart",
        default: Some(ParamDefault::Number(0.0)),
    },
    Param {
        name: "ctx",
        doc: "tokens per chunk, of which the second half is scored",
        default: Some(ParamDefault::Number(128.0)),
    },
    Param { name: "chunks", doc: "chunks of the text, at most", default: Some(ParamDefault::Number(48.0)) },
    Param {
        name: "seed",
        doc: "of the bootstrap and of the sample of rare tokens",
        default: Some(ParamDefault::Number(1.0)),
    },
    Param {
        name: "budget",
        doc: "seconds after which no chunk is begun: fewer chunks, wider intervals",
        default: None,
    },
];

impl Gate for NumericsParity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::BackendOrRuntime;
        GateInfo { id: "numerics-parity", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "On the same weights, one backend's distributions diverge from another's no further than fast arithmetic may."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let exact = trial.reference()?;
        let (here, there) = (&trial.subject.info().backend, &exact.info().backend);
        if here == there {
            return Err(usage(format!("backend `{here}` is held against itself: give another as `against`")));
        }
        let (limit, source) = limit(trial)?;
        let (text, text_source) = trial.references.text()?;
        let kept = exact.distributions(&plan(trial, text)?)?;
        let found = trial.subject.divergence(&kept.stored)?;
        let positions = &found.positions;
        let n = positions.len() as u64;
        let mut evidence = Evidence::new();
        let chunks = positions.len() / found.per_chunk.max(1);
        if chunks < FEWEST_CHUNKS {
            evidence
                .too_few(format!("{chunks} chunks of text; an interval rests on at least {FEWEST_CHUNKS}"));
        }
        let resampling =
            Resampling { seed: trial.settings.number("seed")?.0 as u64, ..Resampling::default() };
        let bound = Bound::at_most(limit, source);
        match mean_over_chunks(&found, &resampling, |i| positions[i].kl) {
            (mean, Some(interval)) => {
                evidence.hold_interval("kl_mean", (mean, interval), "nats", n, bound, None);
            }
            (mean, None) => evidence.hold("kl_mean", mean, "nats", n, bound),
        }
        hold_flips(trial, limit, positions, &kept.stored.rows, &mut evidence)?;
        if let Some(summary) = Summary::of(positions) {
            evidence.note("same_top", summary.same_top.value, "", n);
            evidence.note("perplexity_ratio", summary.ratio.value, "", n);
            evidence.note("kl_99", summary.kl_quantiles[8], "nats", n);
            evidence.note("kl_max", summary.kl_quantiles[10], "nats", n);
        }
        evidence.tell(&format!("`{here}` against `{there}`; text: {text_source}"));
        evidence.judge()
    }
}

/// The limit of the mean divergence, and where it is written.
fn limit(trial: &Trial) -> Answer<(f64, String)> {
    if let Some(given) = trial.settings.given_number("max_kl") {
        return Ok(given);
    }
    let law = Numerics::builtin();
    let mut coarsest: Option<(f64, String)> = None;
    for tensor in trial.subject.tensors()?.iter().filter(|tensor| tensor.shape.ndim() > 1) {
        let found = law.law(tensor.dtype).ok_or_else(|| {
            let (name, dtype) = (&tensor.name, tensor.dtype);
            Unable::NotApplicable(format!(
                "{name} is {dtype}, which {} has no limit for: give `max_kl`",
                numerics::FILE
            ))
        })?;
        if coarsest.as_ref().is_none_or(|(limit, _)| found.mean_kl > *limit) {
            coarsest = Some((found.mean_kl, format!("{} encodings.{}", numerics::FILE, found.dtype)));
        }
    }
    coarsest.ok_or_else(|| Unable::Vacuous("the artifact has no matrix".into()))
}

/// Holds the share of flips where the two best tokens are clearly apart; nothing where they nowhere are.
fn hold_flips(
    trial: &Trial,
    limit: f64,
    positions: &[Position],
    rows: &[CompactRow],
    evidence: &mut Evidence,
) -> Answer<()> {
    let gap = Numerics::builtin().clear_gap(limit);
    let is_clear = |row: &CompactRow| match row.top[..] {
        [(_, best), (_, second), ..] => f64::from(best) - f64::from(second) > gap,
        [] | [_] => false,
    };
    let clear: Vec<&Position> =
        positions.iter().zip(rows).filter(|(_, row)| is_clear(row)).map(|(position, _)| position).collect();
    let flips = clear.iter().filter(|position| !position.same_top()).count();
    evidence.tell(&format!(
        "{flips} of {} flip where the two best tokens are more than {} nats apart",
        clear.len(),
        number(gap)
    ));
    if clear.is_empty() {
        return Ok(());
    }
    let (most, source) = trial.settings.number("max_clear_flips")?;
    let share = flips as f64 / clear.len() as f64;
    evidence.hold("clear_flips", share, "", clear.len() as u64, Bound::at_most(most, source));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Verdict;
    use crate::subject::fake::FakeSubject;
    use crate::tensor::DType;

    fn bench(tokens: usize) -> Bench {
        let mut random = crate::stats::SplitMix(4);
        let mut bench = Bench::default().limit("ctx", 16.0);
        bench.shelf.text = (0..tokens).map(|_| ['a', 'b', 'c', 'd', ' ', 'x'][random.below(6)]).collect();
        bench
    }

    /// A file whose matrices are `dtype`, on a backend that computes with this noise.
    fn on(backend: &str, dtype: DType, gap: f32, noise: f32) -> FakeSubject {
        let mut subject = FakeSubject::new("int8");
        (subject.gap, subject.noise) = (gap, noise);
        subject.info.backend = backend.into();
        for (facts, _) in &mut subject.weights {
            facts.dtype = if facts.shape.ndim() > 1 { dtype } else { DType::F32 };
        }
        subject
    }

    fn judge(bench: &Bench, dtype: DType, gap: f32, noise: f32) -> Answer<Judgement> {
        bench.compare(&NumericsParity, &on("fast", dtype, gap, noise), &on("exact", dtype, gap, 0.0))
    }

    #[test]
    fn what_an_encoding_may_cost_passes_and_more_fails() {
        let judged = passes(judge(&bench(800), DType::Q8_0, 2.0, 0.01));
        let m = &judged.measurements[0];
        let limit = m.limit.as_ref().expect("a limit");
        assert_eq!((m.metric.as_str(), m.n), ("kl_mean", 48 * 7));
        assert!(limit.source.ends_with("numerics.yaml encodings.Q8_0") && m.interval.is_some(), "{m:?}");
        fails(judge(&bench(800), DType::Q8_0, 2.0, 0.5), "kl_mean");
        // Plain weights leave no room for rounded activations.
        fails(judge(&bench(800), DType::F32, 2.0, 0.05), "kl_mean");
    }

    #[test]
    fn one_flip_of_a_clear_choice_fails_whatever_the_mean_says() {
        let lenient = bench(800).limit("max_kl", 0.01);
        passes(judge(&lenient, DType::Q8_0, 2.0, 0.01));
        let exact = on("exact", DType::Q8_0, 2.0, 0.0);
        let mut flips = on("fast", DType::Q8_0, 2.0, 0.0);
        // After `c` comes another letter.
        flips.next.insert(2, 5);
        let judged = lenient.limit("max_kl", 9.0).limit("max_clear_flips", 0.0);
        let gap = Numerics::builtin().clear_gap(9.0);
        assert!(gap > 2.0, "at such a limit no choice is clear");
        passes(judged.compare(&NumericsParity, &flips, &exact));
        let strict =
            bench(800).limit("max_kl", 0.002).compare(&NumericsParity, &flips, &exact).expect("measured");
        let flipped = strict.measurements.iter().find(|m| m.metric == "clear_flips").expect("held");
        assert!(flipped.value > 0.0 && matches!(strict.verdict, Verdict::Fail { .. }), "{strict:?}");
    }

    #[test]
    fn few_chunks_and_close_calls_are_inconclusive() {
        let short = judge(&bench(16 * 20), DType::Q8_0, 2.0, 0.01).expect("measured");
        assert!(
            matches!(&short.verdict, Verdict::Inconclusive { message } if message.contains("20 chunks")),
            "{short:?}"
        );
        let close = judge(&bench(800), DType::Q8_0, 2.0, 0.1).expect("measured");
        let mean = close.measurements.iter().find(|m| m.metric == "kl_mean").expect("held").value;
        let at_the_mean = judge(&bench(800).limit("max_kl", mean), DType::Q8_0, 2.0, 0.1).expect("measured");
        assert!(matches!(at_the_mean.verdict, Verdict::Inconclusive { .. }), "{at_the_mean:?}");
    }

    #[test]
    fn a_backend_is_not_held_against_itself_and_an_encoding_without_a_limit_not_at_all() {
        let same = bench(800).compare(
            &NumericsParity,
            &on("cpu", DType::Q8_0, 2.0, 0.0),
            &on("cpu", DType::Q8_0, 2.0, 0.0),
        );
        assert!(matches!(&same, Err(Unable::Failed { kind, .. }) if kind == "usage"), "{same:?}");
        let unknown = judge(&bench(800), DType::F64, 2.0, 0.0);
        assert!(matches!(&unknown, Err(Unable::NotApplicable(why)) if why.contains("max_kl")), "{unknown:?}");
    }
}
