//! `tensor-fidelity`: no tensor lost more than its encoding costs.

use super::evidence::{Bound, number};
use super::trial::usage;
use super::twin_types::{Pairs, TwinTypes, pairs};
use super::{Evidence, Gate, Trial, suspects};
use crate::contract::Contract;
use crate::engine;
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Chart, ChartKind, Judgement, Unable};
use crate::stats::{Noise, spared_columns};
use crate::subject::{Answer, Subject, TensorFacts};
use crate::tensor::DType;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What each tensor is held against is its twin: the reference's tensor, encoded in the candidate's type by our own
/// exact quantiser. Refuted by one tensor whose signal-to-noise ratio is more than the margin below its twin's, by one
/// that differs where the twin does not, and by one that only one side has.
///
/// An importance matrix spends precision where the activations are, so such files sit below a plain twin in SQNR and
/// above it in function: they get a wider margin here and `kl-divergence` judges them. A file counts as made with one
/// where it says so, or where its weights show it: most tensors of the encodings that heed a matrix fall below their
/// twins, and spare some columns at the cost of others ([`spared_columns`]), which no mistake of a converter does.
pub struct TensorFidelity;

const PARAMS: &[Param] = &[
    Param {
        name: "sqnr_margin_db",
        doc: "how far a tensor may fall below its correctly encoded twin, dB",
        default: Some(ParamDefault::Number(0.5)),
    },
    Param {
        name: "imatrix_margin_db",
        doc: "the same for a file that was quantised with an importance matrix, dB",
        default: Some(ParamDefault::Number(3.0)),
    },
    Param { name: "min_sqnr_db", doc: "a fixed limit for every tensor that is not exact, dB", default: None },
    Param {
        name: "encoding",
        doc: "the coarsest encoding on the way, where it is not the tensor's own",
        default: Some(ParamDefault::DerivedWord),
    },
];

impl Gate for TensorFidelity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "tensor-fidelity", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "No tensor has a lower signal-to-noise ratio than its reference correctly encoded in the same type, less a margin."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let (theirs, ours) = (original.tensors()?, trial.subject.tensors()?);
        let pairs = pairs(&theirs, &ours);
        let types = TwinTypes::of(trial, &pairs)?;
        let twin = original.requantized(&types.made)?;
        let sides =
            Sides { original, twin: &*twin, candidate: trial.subject, contract: trial.contract, types };
        let compared = sides.compare_all(&pairs)?;
        let mut evidence = Evidence::new();
        let (margin, source) = margin(trial, &compared, &mut evidence)?;
        let strays = strays(&theirs, &ours);
        for (name, what) in &strays {
            evidence.find(name.clone(), what.clone());
        }
        findings(trial, original, &compared, margin, &mut evidence);
        let n = compared.len() as u64;
        let worst = compared.iter().map(Compared::shortfall).fold(f64::NEG_INFINITY, higher);
        // Of nothing there is no worst; the count says so.
        let worst = if n == 0 { 0.0 } else { worst };
        evidence.hold("sqnr_shortfall", worst, "dB", n, Bound::at_most(margin, source));
        let looked_at = (theirs.len() + ours.len()) as u64;
        let bound = Bound::zero("every tensor has its counterpart");
        evidence.hold("stray_tensors", strays.len() as f64, "tensors", looked_at, bound);
        fixed_limit(trial, &compared, &mut evidence);
        overview(&compared, &mut evidence);
        evidence.judge()
    }
}

/// Tensors without a counterpart of their shape, and what is wrong.
fn strays(theirs: &[TensorFacts], ours: &[TensorFacts]) -> Vec<(String, String)> {
    let of = |all: &[TensorFacts], name: &str| all.iter().find(|t| t.name == name).map(|t| t.shape.clone());
    let mut strays = Vec::new();
    for t in theirs {
        match of(ours, &t.name) {
            None => strays.push((t.name.clone(), format!("{} is missing", t.shape))),
            Some(shape) if shape != t.shape => {
                strays.push((t.name.clone(), format!("its shape is {shape}, the reference's {}", t.shape)));
            }
            Some(_) => {}
        }
    }
    let extra = ours.iter().filter(|t| of(theirs, &t.name).is_none());
    strays.extend(extra.map(|t| (t.name.clone(), format!("{}, which the reference does not have", t.shape))));
    strays
}

/// What one tensor came to.
struct Compared {
    facts: TensorFacts,
    noise: Noise,
    /// What the encoding costs, dB.
    expected: f64,
    /// Error in the columns that are best off, as a share of the twin's there.
    spared: Option<f64>,
    /// Whether the encoding heeds an importance matrix.
    heeds: bool,
}

impl Compared {
    /// How far below its twin it is, dB; NaN for values that are no numbers.
    fn shortfall(&self) -> f64 {
        let measured = self.noise.sqnr_db();
        match (self.expected == f64::INFINITY, measured == f64::INFINITY) {
            (true, true) => 0.0,
            (true, false) if measured.is_nan() => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, _) => self.expected - measured,
        }
    }
}

/// Who is compared, and by which encodings.
struct Sides<'a> {
    original: &'a dyn Subject,
    twin: &'a dyn Subject,
    candidate: &'a dyn Subject,
    contract: &'a Contract,
    types: TwinTypes,
}

impl Sides<'_> {
    /// Compares all pairs; threads share them. The order is that of the pairs.
    fn compare_all(&self, pairs: &Pairs) -> Answer<Vec<Compared>> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some((theirs, ours)) = pairs.get(i) else { return done };
                done.push((i, self.compare(theirs, ours)));
            }
        };
        // Three tensors are in memory for each thread.
        let threads = engine::usable_cpus().min(MOST_THREADS);
        let mut all: Vec<(usize, Answer<Compared>)> = thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for worker in workers {
                all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        all.sort_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, compared)| compared).collect()
    }

    fn compare(&self, theirs: &TensorFacts, ours: &TensorFacts) -> Answer<Compared> {
        let lengths = |a: usize, b: usize| Unable::Vacuous(format!("{}: {a} values against {b}", ours.name));
        let before = self.original.values(&theirs.name)?;
        let after = self.candidate.values(&ours.name)?;
        let noise = Noise::between(&before, &after).ok_or_else(|| lengths(before.len(), after.len()))?;
        let facts = ours.clone();
        if let Some(dtype) = self.types.unmade.get(&ours.name) {
            let law = self.contract.encoding(*dtype).and_then(|law| law.sqnr_floor_db);
            let source = self.contract.extension_source();
            let expected = law.ok_or_else(|| {
                usage(format!("no quantiser and no floor of {source} says what {dtype} costs"))
            })?;
            return Ok(Compared { facts, noise, expected, spared: None, heeds: false });
        }
        let made = self.twin.values(&ours.name)?;
        let plain = Noise::between(&before, &made).ok_or_else(|| lengths(before.len(), made.len()))?;
        let heeds = heeds_importance(ours.dtype);
        let spared = if heeds && made != after {
            spared_columns(&before, &made, &after, ours.shape.row_len())
        } else {
            None
        };
        Ok(Compared { facts, noise, expected: plain.sqnr_db(), spared, heeds })
    }
}

/// The largest tensors of an 8 B model take 2 GB as f32.
const MOST_THREADS: usize = 4;

/// Encodings that search for their scales; the others are the same with and without a matrix.
fn heeds_importance(dtype: DType) -> bool {
    let unheeding = [DType::Q8_0, DType::AprQ4, DType::AprQ8];
    dtype.is_quantized() && !unheeding.contains(&dtype)
}

/// The margin that this file gets, and where it is written.
fn margin(trial: &Trial, compared: &[Compared], evidence: &mut Evidence) -> Answer<(f64, String)> {
    let (plain, wide) =
        (trial.settings.number("sqnr_margin_db")?, trial.settings.number("imatrix_margin_db")?);
    if let Some(said) = trial.subject.importance()? {
        evidence.tell(&format!("made with an importance matrix: the file says {said}"));
        return Ok((wide.0, format!("twin, {} for importance matrices", wide.1)));
    }
    let heeding = compared.iter().filter(|c| c.heeds).count();
    let sparing =
        compared.iter().filter(|c| c.spared.is_some_and(|s| s < SPARED) && c.shortfall() > 0.0).count();
    if heeding > 0 && sparing as f64 >= MOST_OF_THEM * heeding as f64 {
        evidence.tell(&format!(
            "made with an importance matrix: {sparing} of {heeding} tensors spare columns at the cost of others"
        ));
        return Ok((wide.0, format!("twin, {} for importance matrices", wide.1)));
    }
    Ok((plain.0, format!("twin, {}", plain.1)))
}

/// A tenth of the columns with at most this share of the twin's error was spared.
const SPARED: f64 = 0.97;

/// The share of tensors that must show it: llama-quantize applies a matrix to all but the embedding.
const MOST_OF_THEM: f64 = 0.6;

/// Names every tensor that is further off than the margin, worst first, and why where that shows.
fn findings(
    trial: &Trial,
    original: &dyn Subject,
    compared: &[Compared],
    margin: f64,
    evidence: &mut Evidence,
) {
    let mut wrong: Vec<&Compared> =
        compared.iter().filter(|c| c.shortfall() > margin || c.shortfall().is_nan()).collect();
    // What is not worth a number first, then by decibels.
    wrong.sort_by(|a, b| b.shortfall().abs().total_cmp(&a.shortfall().abs()));
    for (i, c) in wrong.into_iter().enumerate() {
        let facts = &c.facts;
        let mut detail = format!(
            "{}: SQNR {} dB, expected {}",
            facts.dtype,
            number(c.noise.sqnr_db()),
            if c.expected.is_infinite() {
                "equal values".to_owned()
            } else {
                format!("{} dB", number(c.expected))
            },
        );
        let why = || {
            let (before, after) =
                (original.values(&facts.name).ok()?, trial.subject.values(&facts.name).ok()?);
            suspects::explain(facts, (original, &before), (trial.subject, &after)).into_iter().next()
        };
        match (i < MOST_EXPLAINED).then(why).flatten() {
            Some(cause) => {
                detail.push_str(&format!("; {}", cause.sentence));
                evidence.find_cause(facts.name.clone(), detail, cause.id);
            }
            None => evidence.find(facts.name.clone(), detail),
        }
    }
}

/// Causes are looked for in the worst tensors; a mistake that hits more is the same in all.
const MOST_EXPLAINED: usize = 8;

/// The fixed limit of a playbook, where it gives one.
fn fixed_limit(trial: &Trial, compared: &[Compared], evidence: &mut Evidence) {
    let Some((limit, source)) = trial.settings.given_number("min_sqnr_db") else { return };
    let inexact = compared.iter().map(|c| c.noise.sqnr_db()).filter(|db| *db != f64::INFINITY);
    let lowest = inexact.fold(f64::INFINITY, lower);
    evidence.hold("lowest_sqnr", lowest, "dB", compared.len() as u64, Bound::at_least(limit, source));
}

/// The numbers of all tensors in short, and the strip of layers.
fn overview(compared: &[Compared], evidence: &mut Evidence) {
    let n = compared.len() as u64;
    if n == 0 {
        return;
    }
    let all = |f: fn(&Compared) -> f64| compared.iter().map(f);
    evidence.note("lowest_sqnr_of_all", all(|c| c.noise.sqnr_db()).fold(f64::INFINITY, lower), "dB", n);
    evidence.note("lowest_cosine", all(|c| c.noise.cosine).fold(f64::INFINITY, lower), "", n);
    evidence.note("highest_nmse", all(|c| c.noise.nmse()).fold(f64::NEG_INFINITY, higher), "", n);
    let exact = compared.iter().filter(|c| c.noise.noise == 0.0).count();
    evidence.note("exact_tensors", exact as f64, "tensors", n);
    if let Some(chart) = strip(compared) {
        evidence.draw(chart);
    }
}

/// Noise of every layer against what its encodings cost; tensors outside of layers by their names. Exact ones have
/// no decibels and are left out.
fn strip(compared: &[Compared]) -> Option<Chart> {
    // Energies add up; decibels do not.
    let mut places: BTreeMap<(usize, String), (f64, f64, f64)> = BTreeMap::new();
    for c in compared.iter().filter(|c| c.noise.noise != 0.0) {
        let layer = c.facts.name.split_once('.').and_then(|(layer, _)| layer.parse::<usize>().ok());
        let place = match layer {
            Some(layer) => (layer, layer.to_string()),
            None => (usize::MAX, c.facts.name.clone()),
        };
        let sums = places.entry(place).or_insert((0.0, 0.0, 0.0));
        sums.0 += c.noise.signal;
        sums.1 += c.noise.noise;
        sums.2 += c.noise.signal * 10f64.powf(-c.expected / 10.0);
    }
    if places.is_empty() {
        return None;
    }
    let db = |signal: f64, noise: f64| 10.0 * (signal / noise).log10();
    Some(Chart {
        title: "SQNR by layer".into(),
        kind: ChartKind::Strip,
        unit: "dB".into(),
        labels: places.keys().map(|(_, label)| label.clone()).collect(),
        values: places.values().map(|(signal, noise, _)| db(*signal, *noise)).collect(),
        expected: places.values().map(|(signal, _, expected)| db(*signal, *expected)).collect(),
    })
}

/// The higher of two, where a NaN is highest.
fn higher(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
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
    use crate::tensor::Shape;

    /// A correct conversion of the query weights to Q8_0, then `change`.
    fn converted(change: impl Fn(&mut Vec<f32>)) -> FakeSubject {
        let source = FakeSubject::new("source");
        let types = BTreeMap::from([("0.q_proj.weight".to_owned(), DType::Q8_0)]);
        let twin = source.requantized(&types).expect("encodes");
        let mut artifact = FakeSubject::new("converted");
        artifact.weights[1].0.dtype = DType::Q8_0;
        artifact.weights[1].1 = twin.values("0.q_proj.weight").expect("there");
        change(&mut artifact.weights[1].1);
        artifact
    }

    fn judge(artifact: &FakeSubject) -> Answer<Judgement> {
        Bench::default().compare(&TensorFidelity, artifact, &FakeSubject::new("source"))
    }

    #[test]
    fn a_correct_conversion_is_at_its_twin() {
        let judged = passes(judge(&converted(|_| {})));
        assert_eq!((judged.measurements[0].value, judged.measurements[0].n), (0.0, 2));
        let strip = &judged.charts[0];
        assert_eq!((strip.labels.as_slice(), strip.kind), (["0".to_owned()].as_slice(), ChartKind::Strip));
        // The norm is exact, so the layer's noise is that of the query weights.
        assert!((strip.values[0] - strip.expected[0]).abs() < 1e-9 && strip.values[0] > 30.0, "{strip:?}");
    }

    #[test]
    fn a_decibel_below_the_twin_fails_by_name_and_a_wider_margin_lets_it_pass() {
        let noisy = converted(|values| values.iter_mut().step_by(5).for_each(|v| *v += 0.004));
        let judged = fails(judge(&noisy), "sqnr_shortfall");
        assert_eq!(judged.findings[0].subject, "0.q_proj.weight");
        assert!(judged.findings[0].detail.starts_with("Q8_0: SQNR "), "{:?}", judged.findings);
        let wide = Bench::default().limit("sqnr_margin_db", 20.0);
        passes(wide.compare(&TensorFidelity, &noisy, &FakeSubject::new("source")));
    }

    #[test]
    fn what_its_encoding_does_not_touch_must_be_equal() {
        let mut artifact = FakeSubject::new("f32");
        artifact.weights[0].1[3] += 1e-6;
        let judged = fails(judge(&artifact), "sqnr_shortfall");
        assert!(judged.findings[0].detail.contains("expected equal values"), "{:?}", judged.findings);
        passes(judge(&FakeSubject::new("f32")));
    }

    #[test]
    fn zeros_are_judged_by_equality_and_zeroed_and_nan_tensors_fail() {
        let mut source = FakeSubject::new("source");
        source.weights[1].1.fill(0.0);
        passes(Bench::default().compare(&TensorFidelity, &source, &source));
        let mut artifact = FakeSubject::new("f32");
        artifact.weights[1].1.fill(0.0);
        artifact.weights[1].1[7] = 1e-30;
        fails(Bench::default().compare(&TensorFidelity, &artifact, &source), "sqnr_shortfall");
        fails(judge(&converted(|values| values.fill(0.0))), "sqnr_shortfall");
        fails(judge(&converted(|values| values[0] = f32::NAN)), "sqnr_shortfall");
    }

    #[test]
    fn missing_extra_and_misshapen_tensors_are_found_and_nothing_is_no_pass() {
        let mut artifact = FakeSubject::new("f32");
        let mut extra = artifact.weights[0].clone();
        extra.0.name = "1.attn_norm.weight".into();
        artifact.weights[0] = extra;
        let judged = fails(judge(&artifact), "stray_tensors");
        assert_eq!(judged.measurements[0].value, 2.0);
        let mut turned = FakeSubject::new("f32");
        turned.weights[1].0.shape = Shape::from([32, 2]);
        let judged = fails(judge(&turned), "stray_tensors");
        assert!(judged.findings[0].detail.contains("[32, 2]"), "{:?}", judged.findings);
        let mut empty = FakeSubject::new("empty");
        empty.weights.clear();
        let nothing = Bench::default().compare(&TensorFidelity, &empty, &empty);
        assert!(matches!(nothing, Err(Unable::Vacuous(_))), "{nothing:?}");
        assert!(!matches!(judge(&empty), Ok(Judgement { verdict: crate::record::Verdict::Pass, .. })));
    }

    #[test]
    fn a_file_that_names_its_importance_matrix_gets_the_wide_margin() {
        let mut artifact = converted(|values| values.iter_mut().step_by(9).for_each(|v| *v += 0.0025));
        fails(judge(&artifact), "sqnr_shortfall");
        artifact.importance = Some("quantize.imatrix.file = x.gguf".into());
        let judged = passes(judge(&artifact));
        assert!(
            judged.detail.contains("x.gguf") && judged.measurements[0].limit.as_ref().unwrap().value == 3.0
        );
    }

    #[test]
    fn a_fixed_limit_of_the_playbook_holds_as_well() {
        let bench = Bench::default().limit("min_sqnr_db", 90.0);
        let source = FakeSubject::new("source");
        fails(bench.compare(&TensorFidelity, &converted(|_| {}), &source), "lowest_sqnr");
        passes(bench.compare(&TensorFidelity, &FakeSubject::new("f32"), &source));
    }
}
