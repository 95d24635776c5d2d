//! No gate passes on nothing: every answer of a subject is replaced by an empty one in turn, and whichever gate asked
//! for it must not pass.

use super::trial::testing::Shelf;
use super::{Against, GATES, Gate, Settings, Trial};
use crate::contract::Contract;
use crate::oracle::{Oracle, OracleLogits, OracleStep, StoredReference};
use crate::playbook::{At, Located, ParamDefault, ParamValue};
use crate::record::{Judgement, Unable, Verdict};
use crate::subject::fake::FakeSubject;
use crate::subject::*;
use crate::tensor::DType;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What an answer is replaced by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nothing {
    /// As much as before, of nothing.
    Empty,
    /// As many numbers as before, none of them one.
    Nan,
}

/// A subject that answers one question with nothing, and remembers which it was asked.
struct Hollow {
    inner: FakeSubject,
    hollow: Option<(&'static str, Nothing)>,
    asked: Mutex<BTreeSet<&'static str>>,
}

impl Hollow {
    fn new(artifact: &str, hollow: Option<(&'static str, Nothing)>) -> Hollow {
        let mut inner = FakeSubject::new(artifact);
        inner.hyperparameters.insert("n_layers".into(), "1".into());
        Hollow { inner, hollow, asked: Mutex::default() }
    }

    /// Whether `question` is to be answered with nothing; notes that it was asked.
    fn is(&self, question: &'static str) -> Option<Nothing> {
        self.asked.lock().expect("never poisoned").insert(question);
        self.hollow.filter(|(of, _)| *of == question).map(|(_, nothing)| nothing)
    }
}

impl Subject for Hollow {
    fn info(&self) -> &SubjectInfo {
        self.inner.info()
    }

    fn under_contract(&self) -> Answer<bool> {
        self.inner.under_contract()
    }

    fn infers(&self) -> Answer<()> {
        self.inner.infers()
    }

    fn encode(&self, text: &str, add_special: bool) -> Answer<Vec<u32>> {
        if self.is("encode").is_some() {
            return Ok(Vec::new());
        }
        self.inner.encode(text, add_special)
    }

    fn decode(&self, ids: &[u32], skip_special: bool) -> Answer<String> {
        self.inner.decode(ids, skip_special)
    }

    fn generate(&self, prompt: &str, tokens: usize) -> Answer<Arc<Generated>> {
        let full = self.inner.generate(prompt, tokens)?;
        Ok(match self.is("generate") {
            None => full,
            Some(_) => Arc::new(Generated { tokens: Vec::new(), text: String::new(), ..(*full).clone() }),
        })
    }

    fn logits(&self, ids: &[u32]) -> Answer<Arc<LogitRows>> {
        let full = self.inner.logits(ids)?;
        Ok(match self.is("logits") {
            None => full,
            Some(Nothing::Empty) => Arc::new(LogitRows { data: Vec::new(), ..(*full).clone() }),
            Some(Nothing::Nan) => {
                Arc::new(LogitRows { data: vec![f32::NAN; full.data.len()], ..(*full).clone() })
            }
        })
    }

    fn perplexity(&self, text: &str, chunking: Chunking) -> Answer<Figure> {
        Ok(match self.is("perplexity") {
            None => self.inner.perplexity(text, chunking)?,
            Some(Nothing::Empty) => Figure { perplexity: 1.0, tokens_scored: 0 },
            Some(Nothing::Nan) => Figure { perplexity: f64::NAN, tokens_scored: 9 },
        })
    }

    fn hyperparameters(&self) -> Answer<BTreeMap<String, String>> {
        if self.is("hyperparameters").is_some() {
            return Ok(BTreeMap::new());
        }
        self.inner.hyperparameters()
    }

    fn tensors(&self) -> Answer<Arc<Vec<TensorFacts>>> {
        if self.is("tensors").is_some() {
            return Ok(Arc::default());
        }
        self.inner.tensors()
    }

    fn values(&self, canonical: &str) -> Answer<Vec<f32>> {
        let full = self.inner.values(canonical)?;
        Ok(match self.is("values") {
            None => full,
            Some(Nothing::Empty) => Vec::new(),
            Some(Nothing::Nan) => vec![f32::NAN; full.len()],
        })
    }

    fn problems(&self) -> Answer<Arc<Checked>> {
        if self.is("problems").is_some() {
            let (problems, stages) = (Vec::new(), Vec::new());
            return Ok(Arc::new(Checked { tensors: 0, problems, stages, unknown_family: None }));
        }
        self.inner.problems()
    }

    fn lint(&self) -> Answer<Arc<Linted>> {
        if self.is("lint").is_some() {
            return Ok(Arc::new(Linted { rules: 0, issues: Vec::new() }));
        }
        self.inner.lint()
    }

    fn identity(&self) -> Answer<[u8; 32]> {
        self.inner.identity()
    }

    fn importance(&self) -> Answer<Option<String>> {
        self.inner.importance()
    }

    fn requantized(&self, types: &BTreeMap<String, DType>) -> Answer<Arc<dyn Subject>> {
        self.inner.requantized(types)
    }

    fn distributions(&self, plan: &DistributionPlan) -> Answer<Arc<KeptReference>> {
        let full = self.inner.distributions(plan)?;
        if self.is("distributions").is_none() {
            return Ok(full);
        }
        let stored = StoredReference { ids: Vec::new(), rows: Vec::new(), ..full.stored.clone() };
        Ok(Arc::new(KeptReference { stored, provenance: full.provenance.clone() }))
    }

    fn divergence(&self, reference: &StoredReference) -> Answer<Arc<Divergences>> {
        let mut full = (*self.inner.divergence(reference)?).clone();
        match self.is("divergence") {
            None => {}
            Some(Nothing::Empty) => full.positions.clear(),
            Some(Nothing::Nan) => full.positions.iter_mut().for_each(|p| p.kl = f64::NAN),
        }
        Ok(Arc::new(full))
    }

    fn self_test(&self, own: &StoredReference) -> Answer<Arc<Vec<SelfTest>>> {
        if self.is("self_test").is_some() {
            return Ok(Arc::default());
        }
        self.inner.self_test(own)
    }

    fn speed(&self, prompt: &str, tokens: usize) -> Answer<Speed> {
        Ok(match self.is("speed") {
            None => self.inner.speed(prompt, tokens)?,
            Some(Nothing::Empty) => Speed { tokens: 0, seconds: 0.0 },
            Some(Nothing::Nan) => Speed { tokens: 8, seconds: f64::NAN },
        })
    }

    fn kernels(&self) -> Answer<Arc<Vec<KernelResult>>> {
        let mut full = (*self.inner.kernels()?).clone();
        match self.is("kernels") {
            None => {}
            Some(Nothing::Empty) => full.iter_mut().for_each(|result| result.compared = 0),
            Some(Nothing::Nan) => full.iter_mut().for_each(|result| result.worst = f64::NAN),
        }
        Ok(Arc::new(full))
    }

    fn tokenizer(&self) -> Answer<Arc<TokenizerFacts>> {
        if self.is("tokenizer").is_some() {
            return Ok(Arc::default());
        }
        self.inner.tokenizer()
    }

    fn single_tokens(&self) -> Answer<Arc<SingleTokens>> {
        if self.is("single_tokens").is_some() {
            return Ok(Arc::default());
        }
        self.inner.single_tokens()
    }

    fn faults(&self) -> Answer<Vec<FaultOffer>> {
        if self.is("faults").is_some() {
            return Ok(Vec::new());
        }
        self.inner.faults()
    }

    fn inject(&self, fault: Option<&FaultOffer>, folder: &Path) -> Answer<Injected> {
        self.inner.inject(fault, folder)
    }
}

/// Every question whose answer is a measurement, and what it can be emptied to.
const QUESTIONS: &[(&str, &[Nothing])] = &[
    ("encode", &[Nothing::Empty]),
    ("generate", &[Nothing::Empty]),
    ("logits", &[Nothing::Empty, Nothing::Nan]),
    ("perplexity", &[Nothing::Empty, Nothing::Nan]),
    ("hyperparameters", &[Nothing::Empty]),
    ("tensors", &[Nothing::Empty]),
    ("values", &[Nothing::Empty, Nothing::Nan]),
    ("problems", &[Nothing::Empty]),
    ("lint", &[Nothing::Empty]),
    ("distributions", &[Nothing::Empty]),
    ("divergence", &[Nothing::Empty, Nothing::Nan]),
    ("self_test", &[Nothing::Empty]),
    ("speed", &[Nothing::Empty, Nothing::Nan]),
    ("kernels", &[Nothing::Empty, Nothing::Nan]),
    ("tokenizer", &[Nothing::Empty]),
    ("single_tokens", &[Nothing::Empty]),
    ("faults", &[Nothing::Empty]),
];

/// What a gate asks for its words or its limits and not for its verdict: gate, question and why.
const NOT_MEASURED: &[(&str, &str, &str)] = &[
    ("contract-i1", "values", "they choose the limit; what is measured are logits"),
    (
        "kl-divergence",
        "tensors",
        "they choose the twin's types; without any it is the reference, the strictest limit",
    ),
    ("contract-i4", "hyperparameters", "only to name the heads in a likely cause"),
    ("tensor-fidelity", "hyperparameters", "only to name the heads in a likely cause"),
];

/// References that remember whether they were asked.
struct Watched {
    shelf: Shelf,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl super::References for Watched {
    fn oracle(&self, prompt: &str) -> Answer<(Arc<Oracle>, String)> {
        self.asked.borrow_mut().insert("oracle");
        self.shelf.oracle(prompt)
    }

    fn oracle_logits(&self, prompt: &str) -> Answer<(Arc<OracleLogits>, String)> {
        self.shelf.oracle_logits(prompt)
    }

    fn text(&self) -> Answer<(Arc<str>, String)> {
        self.asked.borrow_mut().insert("text");
        self.shelf.text()
    }

    fn perplexity_ceiling(&self) -> Option<(f64, String)> {
        self.shelf.perplexity_ceiling()
    }
}

fn shelf() -> Shelf {
    // Long enough for every gate that scores it in chunks.
    let mut shelf = Shelf { text: "abcd ".repeat(4000), ..Shelf::default() };
    // The fake's best of nine logits is 8 above the others, which are 0.
    let others = 8.0 * (-8.0f64).exp();
    let step = |best: u32| OracleStep { logsumexp: 8.0 + others.ln_1p(), top: vec![(best, -others.ln_1p())] };
    let tokens = vec![1, 2, 3, 8];
    shelf.logits = Some(OracleLogits {
        model_slug: "fake".into(),
        prompt_file: "a.txt".into(),
        prompt_ids: vec![0],
        steps: tokens.iter().map(|t| step(*t)).collect(),
        tokens,
        min_top1_gap: 8.0,
        weights_sha256: String::new(),
    });
    shelf
}

/// Limits that a gate must be given, and those that make a fake's numbers pass.
fn settings(gate: &dyn Gate) -> Settings {
    let value = |name: &str, default: Option<ParamDefault>| -> Option<ParamValue> {
        match (name, default) {
            ("chunks", _) => Some(ParamValue::Number(64.0)),
            ("ctx", _) => Some(ParamValue::Number(32.0)),
            ("num_heads", _) => Some(ParamValue::Number(4.0)),
            ("min_tokens_per_second", _) => Some(ParamValue::Number(0.1)),
            (_, Some(ParamDefault::Required)) => Some(ParamValue::Number(1000.0)),
            (_, _) => None,
        }
    };
    let info = gate.info();
    let located = |value| Located { value, at: At { line: 1, column: 1 } };
    let given =
        info.params.iter().filter_map(|p| Some((p.name.to_owned(), located(value(p.name, p.default)?))));
    Settings::new(info.params, given.collect(), "playbook.yaml")
}

struct Scene {
    subject: Hollow,
    other: Hollow,
    references: Watched,
    prompts: Vec<(String, String)>,
}

impl Scene {
    fn new(hollow: Option<(&'static str, Nothing)>, side: Side) -> Scene {
        let (here, there) = match side {
            Side::UnderTest => (hollow, None),
            Side::Reference => (None, hollow),
            Side::Both => (hollow, hollow),
        };
        let mut other = Hollow::new("reference", there);
        other.inner.info.backend = "another".into();
        Scene {
            subject: Hollow::new("candidate", here),
            other,
            references: Watched { shelf: shelf(), asked: RefCell::default() },
            prompts: vec![("a".into(), "a".into()), ("b".into(), "b".into())],
        }
    }

    fn judge(&self, gate: &dyn Gate) -> Answer<Judgement> {
        let settings = settings(gate);
        gate.judge(&Trial {
            subject: &self.subject,
            against: Some(Against::Subject(&self.other)),
            prompt: gate.info().per_prompt.then_some(("a", "a")),
            prompts: &self.prompts,
            tokens: 8,
            settings: &settings,
            references: &self.references,
            contract: Contract::builtin(),
            scratch: Path::new("unused"),
        })
    }

    fn asked(&self, question: &str) -> bool {
        [&self.subject, &self.other]
            .iter()
            .any(|s| s.asked.lock().expect("never poisoned").contains(question))
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    UnderTest,
    Reference,
    Both,
}

fn passed(answer: &Answer<Judgement>) -> bool {
    matches!(answer, Ok(Judgement { verdict: Verdict::Pass, .. }))
}

/// The control: without it, a gate that never passes would pass this test.
#[test]
fn every_gate_passes_on_a_sound_subject() {
    for gate in GATES {
        let answer = Scene::new(None, Side::Both).judge(*gate);
        assert!(passed(&answer), "{}: {answer:?}", gate.info().id);
    }
}

#[test]
fn no_gate_passes_on_an_empty_measurement() {
    let (mut tried, mut vacuous) = (0, Vec::new());
    for gate in GATES {
        let id = gate.info().id;
        for (question, kinds) in QUESTIONS {
            for nothing in *kinds {
                for side in [Side::UnderTest, Side::Reference, Side::Both] {
                    let scene = Scene::new(Some((question, *nothing)), side);
                    let answer = scene.judge(*gate);
                    if !scene.asked(question)
                        || NOT_MEASURED.iter().any(|(g, q, _)| g == &id && q == question)
                    {
                        continue;
                    }
                    // The side that was not asked is not emptied, and what it does not do cannot be judged.
                    let emptied =
                        |s: &Hollow| s.hollow.is_some() && s.asked.lock().expect("sound").contains(question);
                    if !emptied(&scene.subject) && !emptied(&scene.other) {
                        continue;
                    }
                    tried += 1;
                    if passed(&answer) {
                        vacuous.push(format!("{id} passes with {nothing:?} `{question}` of {side:?}"));
                    }
                }
            }
        }
    }
    assert!(vacuous.is_empty(), "{}", vacuous.join("\n"));
    assert!(tried > 60, "only {tried} combinations were asked for");
}

#[test]
fn no_gate_passes_on_an_empty_text_or_without_prompts() {
    for gate in GATES {
        let mut scene = Scene::new(None, Side::Both);
        scene.references.shelf.text.clear();
        let answer = scene.judge(*gate);
        if scene.references.asked.borrow().contains("text") {
            assert!(!passed(&answer), "{} passes on an empty text: {answer:?}", gate.info().id);
        }
        let mut scene = Scene::new(None, Side::Both);
        scene.prompts.clear();
        let answer = scene.judge(*gate);
        let generates = !gate.info().per_prompt && Scene::new(None, Side::Both).generates(*gate);
        assert!(!(generates && passed(&answer)), "{} passes without prompts", gate.info().id);
    }
}

impl Scene {
    fn generates(&self, gate: &dyn Gate) -> bool {
        // The answer itself is another test's matter.
        let _: Result<Judgement, Unable> = self.judge(gate);
        self.asked("generate")
    }
}

/// The types of a twin are asked for by name, so that a gate cannot lean on one that has none.
#[test]
fn a_twin_of_no_types_is_the_reference_itself() {
    let subject = FakeSubject::new("reference");
    let twin = subject.requantized(&BTreeMap::<String, DType>::new()).expect("a twin");
    assert_eq!(twin.tensors().expect("tensors"), subject.tensors().expect("tensors"));
}
