//! `kl-divergence`: over a text, the artifact's distributions diverge no further from its reference's than those of a
//! correct conversion do.

use super::evidence::{Bound, number};
use super::twin_types::{TwinTypes, pairs};
use super::{Evidence, Gate, Trial, kl_charts};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Interval, Judgement, Unable};
use crate::stats::{Cluster, FEWEST_CHUNKS, Position, Resampling, Summary, mcnemar};
use crate::subject::{Answer, DistributionPlan, Divergences, KeptReference, SelfTest, Subject};
use std::sync::Arc;
use std::time::Duration;

/// Mean `sum(p ln(p/q))` over the second halves of the text's chunks. What it is held against is the twin: the
/// reference, correctly encoded in the candidate's types. Refuted where the candidate costs more than `kl_factor` times
/// what its twin costs, plus the noise floor.
///
/// Both are measured on the same tokens, and a chunk that is hard for one is hard for the other; so the interval is
/// that of the differences `kl - kl_factor * kl of the twin` of whole chunks, set around the candidate's mean. It is
/// narrower than the two single intervals together, at the same level. Without a twin, or with `max_kl`, the
/// candidate's own interval is held against the fixed limit.
///
/// Flips of the most probable token and the cost in perplexity are far noisier: they refute where the whole of their
/// paired interval is beyond the limit, and do not make a case inconclusive that the divergence decides.
pub struct KlDivergence;

const PARAMS: &[Param] = &[
    Param {
        name: "kl_factor",
        doc: "how many times its correctly encoded twin an artifact may diverge, flip tokens and cost perplexity",
        default: Some(ParamDefault::Number(1.25)),
    },
    Param {
        name: "max_kl",
        doc: "a fixed limit for the mean divergence, nats; no twin is made",
        default: None,
    },
    Param {
        name: "min_same_top",
        doc: "a fixed limit for the share of equal most probable tokens",
        default: None,
    },
    Param {
        name: "max_perplexity_ratio",
        doc: "a fixed limit for the perplexity over that of the reference",
        default: None,
    },
    Param {
        name: "flip_margin",
        doc: "share of tokens that may flip beyond the twin's",
        default: Some(ParamDefault::Number(0.01)),
    },
    Param {
        name: "perplexity_margin",
        doc: "how much ln(perplexity) may exceed the twin's",
        default: Some(ParamDefault::Number(0.01)),
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
    Param {
        name: "encoding",
        doc: "the coarsest encoding on the way, where it is not the tensor's own",
        default: Some(ParamDefault::DerivedWord),
    },
];

/// Spacing of the f32 numbers around 1 that logits are: a divergence below it is rounding, whatever its sign. A plain
/// half-precision copy of a small model stays far below.
const RESOLUTION: f64 = 1.0 / (1u64 << 24) as f64;

/// Tokens that are kept exactly of a position.
const TOP: usize = 256;

/// Tokens that are drawn from the rest.
const SAMPLES: usize = 32;

impl Gate for KlDivergence {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "kl-divergence", per_prompt: false, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "Over a text, an artifact's distributions diverge from its reference's no further than a correct conversion's do."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let reference = trial.reference()?;
        let (text, text_source) = trial.references.text()?;
        let kept = reference.distributions(&plan(trial, text)?)?;
        let floor = reference.self_test(&kept.stored)?;
        if floor.iter().all(|test| test.positions == 0) {
            return Err(Unable::Vacuous(
                "the reference was not compared with itself: its noise is unknown".into(),
            ));
        }
        let twin = twin_of(trial, reference)?;
        let (found, of_twin, reused) = divergences(trial.subject, twin.as_deref(), &kept)?;
        let mut evidence = Evidence::new();
        let case = Judged {
            trial,
            resampling: Resampling { seed: trial.settings.number("seed")?.0 as u64, ..Resampling::default() },
            floor: floor.iter().map(|test| test.kl).fold(RESOLUTION, f64::max),
            found: &found,
            twin: of_twin.as_deref(),
        };
        case.hold(&mut evidence)?;
        case.note(&mut evidence);
        evidence.tell(&format!("text: {text_source}; distributions of the reference: {}", kept.provenance));
        evidence.tell(&floor_sentence(&floor));
        if reused {
            evidence.tell("settings and weights are its twin's bit for bit, so the twin's answer is its own");
        }
        kl_charts::draw(&found, of_twin.as_deref(), &kept.stored, &mut evidence);
        kl_charts::depart(reference, &found, &kept.stored, &mut evidence)?;
        evidence.judge()
    }
}

/// What is asked of the reference, from the settings `ctx`, `chunks`, `seed` and `budget`.
pub(super) fn plan(trial: &Trial, text: Arc<str>) -> Answer<DistributionPlan> {
    let settings = trial.settings;
    // Three models may have to run: the reference, the twin and the candidate.
    let share = |seconds: f64| Duration::try_from_secs_f64(seconds / 3.0).unwrap_or_default();
    Ok(DistributionPlan {
        text,
        ctx: settings.number("ctx")?.0 as usize,
        chunks: settings.number("chunks")?.0 as usize,
        top: TOP,
        samples: SAMPLES,
        seed: settings.number("seed")?.0 as u64,
        budget: settings.given_number("budget").map(|(seconds, _)| share(seconds)),
    })
}

/// The twin; `None` where a fixed limit takes its place.
fn twin_of(trial: &Trial, reference: &dyn Subject) -> Answer<Option<Arc<dyn Subject>>> {
    if trial.settings.given_number("max_kl").is_some() {
        return Ok(None);
    }
    let (theirs, ours) = (reference.tensors()?, trial.subject.tensors()?);
    let types = TwinTypes::of(trial, &pairs(&theirs, &ours))?;
    if let Some((name, dtype)) = types.unmade.first_key_value() {
        return Err(Unable::NotApplicable(format!(
            "{name} is {dtype}, which is only read here, so no twin says what it costs: give `max_kl`"
        )));
    }
    reference.requantized(&types.made).map(Some)
}

/// The candidate's divergences, its twin's, and whether they are one because the two compute the same.
fn divergences(
    subject: &dyn Subject,
    twin: Option<&dyn Subject>,
    kept: &KeptReference,
) -> Answer<(Arc<Divergences>, Option<Arc<Divergences>>, bool)> {
    let Some(twin) = twin else { return Ok((subject.divergence(&kept.stored)?, None, false)) };
    let of_twin = twin.divergence(&kept.stored)?;
    if subject.identity()? == twin.identity()? {
        return Ok((Arc::clone(&of_twin), Some(of_twin), true));
    }
    Ok((subject.divergence(&kept.stored)?, Some(of_twin), false))
}

fn floor_sentence(floor: &[SelfTest]) -> String {
    let of = |test: &SelfTest| {
        let same = number(100.0 * test.same_top);
        format!("{}: {} nats, same top {same} % over {}", test.what, number(test.kl), test.positions)
    };
    let all: Vec<String> = floor.iter().map(of).collect();
    format!("the reference against itself: {}", all.join("; "))
}

/// The mean of `f` over all positions with the interval over chunks; no interval where there can be none.
pub(super) fn mean_over_chunks(
    found: &Divergences,
    resampling: &Resampling,
    f: impl Fn(usize) -> f64,
) -> (f64, Option<Interval>) {
    let per_chunk = found.per_chunk;
    let clusters: Vec<Cluster> = (0..found.positions.len() / per_chunk.max(1))
        .map(|chunk| Cluster::of((0..per_chunk).map(|i| f(chunk * per_chunk + i))))
        .collect();
    let (sum, n) = clusters.iter().fold((0.0, 0.0), |(s, n), c| (s + c.sum, n + c.n));
    let interval = resampling.mean(&clusters).map(|b| Interval {
        low: b.low,
        high: b.high,
        level: resampling.level,
        method: resampling.method(clusters.len()),
    });
    (sum / n, interval)
}

/// Everything that is judged.
struct Judged<'a> {
    trial: &'a Trial<'a>,
    resampling: Resampling,
    floor: f64,
    found: &'a Divergences,
    twin: Option<&'a Divergences>,
}

impl Judged<'_> {
    fn n(&self) -> u64 {
        self.found.positions.len() as u64
    }

    fn chunks(&self) -> usize {
        self.found.positions.len() / self.found.per_chunk.max(1)
    }

    /// [`mean_over_chunks`] of the candidate.
    fn mean(&self, f: impl Fn(usize) -> f64) -> (f64, Option<Interval>) {
        mean_over_chunks(self.found, &self.resampling, f)
    }

    /// Share of positions with the reference's most probable token.
    fn same_top(&self) -> (f64, Option<Interval>) {
        self.mean(|i| f64::from(u8::from(self.found.positions[i].same_top())))
    }

    /// Perplexity over the reference's. BCa bounds keep their level under a monotone map.
    fn perplexity_ratio(&self) -> (f64, Option<Interval>) {
        let (value, interval) = self.mean(|i| self.found.positions[i].nll - self.found.positions[i].nll_base);
        (value.exp(), interval.map(|i| Interval { low: i.low.exp(), high: i.high.exp(), ..i }))
    }

    /// The mean of `f` with the interval of its excess over `factor` times the twin's, set around it, and the mean
    /// that the twin allows.
    fn over_twin(
        &self,
        twin: &Divergences,
        factor: f64,
        f: impl Fn(&Position) -> f64,
    ) -> (f64, Option<Interval>, f64) {
        let (ours, theirs) = (&self.found.positions, &twin.positions);
        let value = self.mean(|i| f(&ours[i])).0;
        let allowed = factor * self.mean(|i| f(&theirs[i])).0;
        let interval = self.mean(|i| f(&ours[i]) - factor * f(&theirs[i])).1.map(|d| Interval {
            low: allowed + d.low,
            high: allowed + d.high,
            method: format!("{}, paired with the twin", d.method),
            ..d
        });
        (value, interval, allowed)
    }

    fn hold(&self, evidence: &mut Evidence) -> Answer<()> {
        let chunks = self.chunks();
        if chunks < FEWEST_CHUNKS {
            evidence
                .too_few(format!("{chunks} chunks of text; an interval rests on at least {FEWEST_CHUNKS}"));
        }
        match self.twin {
            Some(twin) if twin.positions.len() == self.found.positions.len() => {
                self.hold_to(twin, evidence)?
            }
            Some(twin) => {
                let (a, b) = (self.found.positions.len(), twin.positions.len());
                return Err(Unable::Vacuous(format!("{a} positions against {b} of the twin")));
            }
            None => {}
        }
        let positions = &self.found.positions;
        let fixed = |name: &str| self.trial.settings.given_number(name);
        if let Some((limit, source)) = fixed("max_kl") {
            let found = self.mean(|i| positions[i].kl);
            self.push(evidence, "kl_mean", found, "nats", Bound::at_most(limit, source), Some(self.floor));
        }
        if let Some((limit, source)) = fixed("min_same_top") {
            self.push(evidence, "same_top", self.same_top(), "", Bound::at_least(limit, source), None);
        }
        if let Some((limit, source)) = fixed("max_perplexity_ratio") {
            let bound = Bound::at_most(limit, source);
            self.push(evidence, "perplexity_ratio", self.perplexity_ratio(), "", bound, None);
        }
        Ok(())
    }

    fn hold_to(&self, twin: &Divergences, evidence: &mut Evidence) -> Answer<()> {
        let (factor, source) = self.trial.settings.number("kl_factor")?;
        let (value, interval, allowed) = self.over_twin(twin, factor, |p| p.kl);
        let limit = allowed.max(0.0) + self.floor;
        let bound = Bound::at_most(limit, format!("{factor} x twin + floor, {source}"));
        self.push(evidence, "kl_mean", (value, interval), "nats", bound, Some(self.floor));
        // What is certain to be beyond the limit refutes; what is not, the divergence decides.
        let (margin, source) = self.trial.settings.number("flip_margin")?;
        let (_, interval, allowed) = self.over_twin(twin, factor, |p| f64::from(u8::from(!p.same_top())));
        if let Some(interval) = interval {
            let bound = Bound::at_most(allowed + margin, format!("{factor} x twin + {margin}, {source}"));
            evidence.hold("top_flips_at_least", interval.low, "", self.n(), bound);
        }
        let (margin, source) = self.trial.settings.number("perplexity_margin")?;
        let (_, interval, allowed) = self.over_twin(twin, factor, |p| p.nll - p.nll_base);
        if let Some(interval) = interval {
            let bound =
                Bound::at_most(allowed.max(0.0) + margin, format!("{factor} x twin + {margin}, {source}"));
            evidence.hold("ln_perplexity_ratio_at_least", interval.low, "", self.n(), bound);
        }
        Ok(())
    }

    /// Holds an interval; without one, for a divergence that is no number, the value itself.
    fn push(
        &self,
        evidence: &mut Evidence,
        metric: &str,
        (value, interval): (f64, Option<Interval>),
        unit: &str,
        bound: Bound,
        floor: Option<f64>,
    ) {
        match interval {
            Some(interval) => {
                evidence.hold_interval(metric, (value, interval), unit, self.n(), bound, floor);
            }
            None => evidence.hold(metric, value, unit, self.n(), bound),
        }
    }

    /// What is only reported.
    fn note(&self, evidence: &mut Evidence) {
        let (positions, n) = (&self.found.positions, self.n());
        let Some(s) = Summary::of(positions) else { return };
        let mut note = |metric: &str, found: (f64, Option<Interval>), unit: &str| match found.1 {
            Some(interval) => evidence.note_interval(metric, (found.0, interval), unit, n, None),
            None => evidence.note(metric, found.0, unit, n),
        };
        note("kl_alone", self.mean(|i| positions[i].kl), "nats");
        if let Some(twin) = self.twin {
            note("kl_of_twin", self.mean(|i| twin.positions[i].kl), "nats");
        }
        // What is held already is not said twice.
        let held = |name: &str| self.trial.settings.given_number(name).is_some();
        if !held("min_same_top") {
            note("same_top", self.same_top(), "");
        }
        if !held("max_perplexity_ratio") {
            note("perplexity_ratio", self.perplexity_ratio(), "");
        }
        note("delta_p_mean", self.mean(|i| positions[i].delta_p()), "");
        let [_, _, _, _, _, median, _, _, p99, p999, max] = s.kl_quantiles;
        for (metric, value, unit) in [
            ("perplexity", s.perplexity.value, ""),
            ("kl_median", median, "nats"),
            ("kl_99", p99, "nats"),
            ("kl_99_9", p999, "nats"),
            ("kl_max", max, "nats"),
            ("delta_p_rms", s.delta_p_rms.value, ""),
            ("top_10_shared", s.top_shared, ""),
        ] {
            evidence.note(metric, value, unit, n);
        }
        let right = |p: &&Position, top: fn(&Position) -> u32| top(p) == p.label;
        let lost =
            positions.iter().filter(|p| right(p, |p| p.top_base) && !right(p, |p| p.top)).count() as u64;
        let won =
            positions.iter().filter(|p| !right(p, |p| p.top_base) && right(p, |p| p.top)).count() as u64;
        evidence.note("mcnemar_mid_p", mcnemar(lost, won).mid, "", lost + won);
        evidence.tell(&format!("right tokens: {lost} lost, {won} won against the reference"));
        let width = positions.iter().map(|p| p.kl_high - p.kl_low).sum::<f64>() / n as f64;
        if width > 0.0 {
            evidence.note("kl_bound_of_stored_tail", width, "nats", n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Verdict;
    use crate::subject::fake::FakeSubject;

    /// Text of the fake's letters, in no order.
    fn text(n: usize) -> String {
        let mut random = crate::stats::SplitMix(4);
        (0..n).map(|_| ['a', 'b', 'c', 'd', ' ', 'x'][random.below(6)]).collect()
    }

    fn bench(tokens: usize) -> Bench {
        let mut bench = Bench::default().limit("ctx", 16.0);
        bench.shelf.text = text(tokens);
        bench
    }

    /// A reference whose twin has this noise.
    fn source(twin_noise: f32) -> FakeSubject {
        let mut source = FakeSubject::new("source");
        (source.gap, source.twin_noise) = (2.0, twin_noise);
        source
    }

    fn candidate(noise: f32) -> FakeSubject {
        let mut candidate = FakeSubject::new("candidate");
        (candidate.gap, candidate.noise) = (2.0, noise);
        candidate
    }

    #[test]
    fn what_a_correct_conversion_costs_passes_and_three_times_that_fails() {
        let judged = passes(bench(800).compare(&KlDivergence, &candidate(0.105), &source(0.1)));
        let m = &judged.measurements[0];
        let interval = m.interval.as_ref().expect("an interval");
        assert_eq!((m.metric.as_str(), m.n), ("kl_mean", 48 * 7));
        assert!(interval.low <= m.value && m.value <= interval.high && m.floor == Some(RESOLUTION), "{m:?}");
        assert!(interval.method.contains("48 chunks") && interval.method.contains("seed 1"), "{interval:?}");
        assert_eq!(judged.charts.len(), 2);
        assert!(!judged.departures.is_empty() && judged.departures.len() <= 10);
        // Noise enters the divergence squared.
        fails(bench(800).compare(&KlDivergence, &candidate(0.2), &source(0.1)), "kl_mean");
    }

    #[test]
    fn the_twins_own_blocks_are_not_run_twice() {
        let judged = passes(bench(800).compare(&KlDivergence, &candidate(0.1), &source(0.1)));
        assert!(judged.detail.contains("bit for bit"), "{}", judged.detail);
        let lossless = passes(bench(800).compare(&KlDivergence, &candidate(0.0), &source(0.0)));
        assert_eq!(lossless.measurements[0].value, 0.0);
    }

    #[test]
    fn rounding_of_the_logits_themselves_is_no_divergence() {
        let judged = passes(bench(800).compare(&KlDivergence, &candidate(1e-4), &source(0.0)));
        let value = judged.measurements[0].value;
        assert!(value > 0.0 && value < RESOLUTION, "{value}");
        fails(bench(800).compare(&KlDivergence, &candidate(0.01), &source(0.0)), "kl_mean");
    }

    #[test]
    fn few_chunks_and_close_calls_are_inconclusive() {
        let short = bench(16 * 20).compare(&KlDivergence, &candidate(0.1), &source(0.1)).expect("measured");
        let Verdict::Inconclusive { message } = &short.verdict else { panic!("{short:?}") };
        assert!(message.contains("20 chunks"), "{message}");
        // The mean of these is 0.001266, known to 0.000006.
        let close = bench(800).limit("max_kl", 0.001_266);
        let close = close.compare(&KlDivergence, &candidate(0.1118), &source(0.1)).expect("measured");
        let Verdict::Inconclusive { message } = &close.verdict else { panic!("{close:?}") };
        assert!(message.contains("inside the interval"), "{message}");
        // A harm that no sample of chunks hides is a failure, however few there are.
        fails(bench(16 * 20).compare(&KlDivergence, &candidate(2.0), &source(0.1)), "kl_mean");
    }

    #[test]
    fn a_limit_under_the_noise_floor_decides_nothing() {
        let mut noisy = source(0.1);
        noisy.floor = 1e-3;
        let fine = bench(800).limit("max_kl", 1e-4);
        let judged = fine.compare(&KlDivergence, &candidate(0.1), &noisy).expect("measured");
        let Verdict::Inconclusive { message } = &judged.verdict else { panic!("{judged:?}") };
        assert!(message.contains("noise"), "{message}");
        let coarse = bench(800).limit("max_kl", 0.01);
        let judged = passes(coarse.compare(&KlDivergence, &candidate(0.1), &noisy));
        assert_eq!(judged.measurements[0].floor, Some(1e-3));
        fails(coarse.compare(&KlDivergence, &candidate(1.0), &noisy), "kl_mean");
    }

    #[test]
    fn fixed_limits_of_a_playbook_are_held_beside_the_twin() {
        let strict = bench(800).limit("min_same_top", 0.999_9).limit("max_perplexity_ratio", 3.0);
        passes(strict.compare(&KlDivergence, &candidate(0.1), &source(0.1)));
        fails(strict.compare(&KlDivergence, &candidate(2.5), &source(2.5)), "same_top");
    }

    #[test]
    fn broken_numbers_and_empty_texts_never_pass() {
        let nan = bench(800).compare(&KlDivergence, &candidate(f32::NAN), &source(0.1));
        assert!(matches!(nan, Err(Unable::Refused(_))), "{nan:?}");
        let infinite = bench(800).compare(&KlDivergence, &candidate(f32::NEG_INFINITY), &source(0.1));
        fails(infinite, "kl_mean");
        let empty = bench(3).compare(&KlDivergence, &candidate(0.1), &source(0.1));
        assert!(!matches!(empty, Ok(Judgement { verdict: Verdict::Pass, .. })), "{empty:?}");
    }
}
