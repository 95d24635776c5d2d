//! One case from its cast to its record: judged, held to the laws of a verdict, and `expect: fail` applied.

use super::localise;
use super::stage::{Cast, Opponent};
use crate::Kind;
use crate::contract::Contract;
use crate::gates::{self, Against, References, Settings, Trial};
use crate::playbook::Case;
use crate::record::{CaseRecord, Detected, Judgement, Measurement, Unable, Verdict};
use crate::subject::Answer;
use std::path::{MAIN_SEPARATOR, Path};
use std::sync::Arc;
use std::time::Instant;

/// A case with everything that its thread needs.
pub struct Job {
    /// The case.
    pub case: Case,
    /// The prompts of the case, or those of the cases that differ from it in the prompt alone, its own among them.
    pub prompts: Vec<(String, String)>,
    /// Who takes part.
    pub cast: Cast,
    /// What is known about the model.
    pub references: Arc<dyn References + Send + Sync>,
    /// The playbook's path, for the sources of limits.
    pub file: String,
}

impl Job {
    /// Measures and judges.
    ///
    /// # Errors
    /// Why it could not be measured.
    pub fn judge(&self) -> Answer<Judgement> {
        let (case, started) = (&self.case, Instant::now());
        let gate = gates::find(&case.gate).ok_or_else(|| Unable::Failed {
            kind: "usage".into(),
            message: format!("there is no gate `{}`", case.gate),
        })?;
        if gate.info().needs_backend {
            self.cast.subject.infers()?;
        }
        let scratch = tempfile::tempdir().map_err(|error| Unable::Failed {
            kind: "io".into(),
            message: format!("no temporary folder: {error}"),
        })?;
        let settings = Settings::new(gate.info().params, case.limits.clone(), &self.file);
        let mut judged = gate.judge(&Trial {
            subject: &*self.cast.subject,
            against: self.cast.against.as_ref().map(|other| match other {
                Opponent::Subject(subject) => Against::Subject(&**subject),
                Opponent::Runtime(runtime) => Against::Runtime(&**runtime),
            }),
            prompt: case.prompt.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            prompts: &self.prompts,
            tokens: case.tokens,
            settings: &settings,
            references: &*self.references,
            contract: Contract::builtin(),
            scratch: scratch.path(),
        })?;
        forget(&mut judged, scratch.path());
        if let Some(sides) = &self.cast.sides {
            localise::explain(&mut judged, case, sides.clone(), started);
        }
        Ok(judged)
    }
}

/// Takes the name of the scratch folder, another one in every run, out of what a gate says.
fn forget(judged: &mut Judgement, scratch: &Path) {
    let name = format!("{}{MAIN_SEPARATOR}", scratch.display());
    let clean = |text: &mut String| *text = text.replace(&name, "");
    clean(&mut judged.detail);
    for finding in &mut judged.findings {
        clean(&mut finding.subject);
        clean(&mut finding.detail);
    }
    match &mut judged.verdict {
        Verdict::Pass => {}
        Verdict::Skip { reason: text }
        | Verdict::Fail { message: text, .. }
        | Verdict::Inconclusive { message: text }
        | Verdict::Error { message: text, .. } => clean(text),
    }
}

/// The record of a detection case: the score follows from what is added to it.
pub fn detection_record(
    case: &Case,
    file: &str,
    answer: Answer<(Judgement, Detected)>,
    seconds: f64,
) -> CaseRecord {
    let (answer, detected) = match answer {
        Ok((judgement, detected)) => (Ok(judgement), Some(Box::new(detected))),
        // The planner cannot know all: what turns out not to apply is no instance.
        Err(Unable::NotApplicable(why)) => (Err(Unable::Missing(why)), None),
        Err(unable) => (Err(unable), None),
    };
    CaseRecord { detection: detected, ..record(case, file, answer, seconds) }
}

/// The record of `case` that ended with `answer` after `seconds`.
pub fn record(case: &Case, file: &str, answer: Answer<Judgement>, seconds: f64) -> CaseRecord {
    let judged = settle(answer, case.optional);
    let mut record = CaseRecord {
        id: case.id.clone(),
        suite: case.suite.clone(),
        gate: case.gate.clone(),
        contract_id: gates::find(&case.gate).and_then(|gate| gate.contract_id()).map(str::to_owned),
        model: case.model.clone(),
        artifact: case.artifact.clone(),
        backend: case.backend.clone(),
        adapter: None,
        prompt: case.prompt.as_ref().map(|(name, _)| name.clone()),
        file: file.to_owned(),
        line: case.at.line,
        verdict: judged.verdict,
        expected_failure: None,
        optional: case.optional || !case.optional_backends.is_empty(),
        measurements: judged.measurements,
        findings: judged.findings,
        detail: judged.detail,
        charts: judged.charts,
        departures: judged.departures,
        detection: None,
        reproduce: format!("apr-qa-runner run {} --case {}", quoted(file), quoted(&case.id)),
        seconds,
    };
    if let Some(reason) = &case.expect_fail {
        expect_failure(&mut record, reason);
    }
    record
}

/// A judgement that keeps the laws, or the verdict of a case that could not be measured.
fn settle(answer: Answer<Judgement>, optional: bool) -> Judgement {
    let verdict = match answer {
        Ok(judged) => match broken_law(&judged) {
            None => return judged,
            Some(verdict) => return Judgement { verdict, ..judged },
        },
        Err(Unable::Missing(reason) | Unable::UnknownFamily(reason)) => Verdict::Skip { reason },
        Err(Unable::NotApplicable(reason)) if optional => Verdict::Skip { reason },
        Err(Unable::NotApplicable(message)) => Verdict::Error { kind: "not-applicable".into(), message },
        Err(Unable::Refused(error)) => Verdict::Fail { kind: "refused".into(), message: error.to_string() },
        Err(Unable::Reference(error)) if optional && error.kind == Kind::Io => {
            Verdict::Skip { reason: error.to_string() }
        }
        Err(Unable::Reference(error)) => {
            Verdict::Error { kind: "reference".into(), message: error.to_string() }
        }
        Err(Unable::Vacuous(message)) => Verdict::Error { kind: "vacuous".into(), message },
        Err(Unable::Failed { kind, message: reason }) if optional && kind == "missing" => {
            Verdict::Skip { reason }
        }
        Err(Unable::Failed { kind, message }) => Verdict::Error { kind, message },
    };
    Judgement::bare(verdict)
}

/// A pass without a measurement of at least one thing against a limit is no pass, whatever its gate says.
fn broken_law(judged: &Judgement) -> Option<Verdict> {
    let error =
        |kind: &str, message: &str| Some(Verdict::Error { kind: kind.into(), message: message.into() });
    let measured = |m: &Measurement| m.n > 0 && m.limit.is_some();
    match &judged.verdict {
        Verdict::Pass if !judged.measurements.first().is_some_and(measured) => {
            error("vacuous", "the gate passed without measuring anything against a limit")
        }
        Verdict::Skip { .. } | Verdict::Error { .. } => {
            error("internal", "a gate may not skip or err by judgement")
        }
        Verdict::Pass | Verdict::Fail { .. } | Verdict::Inconclusive { .. } => None,
    }
}

/// `expect: fail`: a measured failure passes, a pass fails; what was not measured, a refused artifact among it,
/// stays what it is.
fn expect_failure(record: &mut CaseRecord, reason: &str) {
    let detail = match &record.verdict {
        Verdict::Fail { kind, .. } if kind == "refused" => None,
        Verdict::Fail { message, .. } => {
            let measured = format!("failed as expected: {message}");
            let detail =
                if record.detail.is_empty() { measured } else { format!("{measured}\n{}", record.detail) };
            Some((Verdict::Pass, detail))
        }
        Verdict::Pass => {
            let message =
                format!("it passed though it is expected to fail ({reason}); remove `expect: fail`");
            Some((Verdict::Fail { kind: "unexpected-pass".into(), message }, record.detail.clone()))
        }
        Verdict::Inconclusive { .. } | Verdict::Skip { .. } | Verdict::Error { .. } => None,
    };
    if let Some((verdict, detail)) = detail {
        (record.verdict, record.detail) = (verdict, detail);
        record.expected_failure = Some(reason.to_owned());
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+=:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The answer of a case whose thread did not answer.
pub fn unanswered<T>(kind: &str, message: String) -> Answer<T> {
    Err(Unable::Failed { kind: kind.into(), message })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::playbook::At;
    use crate::record::{Limit, LimitOp};
    use std::collections::BTreeMap;

    fn case(expect_fail: Option<&str>, optional: bool) -> Case {
        Case {
            id: "suite/canary/m/a/cpu/two words".into(),
            suite: "suite".into(),
            gate: "canary".into(),
            model: "m".into(),
            artifact: "a".into(),
            backend: "cpu".into(),
            prompt: None,
            prompts: Vec::new(),
            against: None,
            tokens: 32,
            limits: BTreeMap::new(),
            expect_fail: expect_fail.map(str::to_owned),
            optional,
            optional_backends: Vec::new(),
            timeout_s: 10,
            at: At { line: 9, column: 1 },
            probe: None,
        }
    }

    fn judged(verdict: Verdict, n: u64) -> Answer<Judgement> {
        let limit = Some(Limit { op: LimitOp::AtMost, value: 1.0, source: "test".into() });
        let measurements = vec![Measurement {
            metric: "m".into(),
            value: 0.0,
            unit: String::new(),
            n,
            limit,
            interval: None,
            floor: None,
        }];
        Ok(Judgement { measurements, ..Judgement::bare(verdict) })
    }

    fn fail() -> Verdict {
        Verdict::Fail { kind: "m".into(), message: "measured 2 limit 1 (source test)".into() }
    }

    fn verdict_of(case: &Case, answer: Answer<Judgement>) -> Verdict {
        record(case, "p.yaml", answer, 0.5).verdict
    }

    fn kind_of(verdict: Verdict) -> String {
        match verdict {
            Verdict::Error { kind, .. } | Verdict::Fail { kind, .. } => kind,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_pass_that_measured_nothing_is_an_error() {
        assert_eq!(verdict_of(&case(None, false), judged(Verdict::Pass, 1)), Verdict::Pass);
        assert_eq!(kind_of(verdict_of(&case(None, false), judged(Verdict::Pass, 0))), "vacuous");
        let skip = Verdict::Skip { reason: "tired".into() };
        assert_eq!(kind_of(verdict_of(&case(None, false), judged(skip, 1))), "internal");
    }

    #[test]
    fn only_what_the_playbook_calls_optional_is_skipped() {
        let gone = || Unable::Failed { kind: "missing".into(), message: "no program".into() };
        assert_eq!(kind_of(verdict_of(&case(None, false), Err(gone()))), "missing");
        assert!(matches!(verdict_of(&case(None, true), Err(gone())), Verdict::Skip { .. }));
        let broken = || Unable::Reference(Error::malformed("x", "broken"));
        assert_eq!(kind_of(verdict_of(&case(None, true), Err(broken()))), "reference");
        let elsewhere = || Unable::NotApplicable("no such family".into());
        assert_eq!(kind_of(verdict_of(&case(None, false), Err(elsewhere()))), "not-applicable");
    }

    #[test]
    fn an_expected_failure_passes_and_an_unexpected_pass_fails() {
        let expected = record(&case(Some("known"), false), "p.yaml", judged(fail(), 1), 0.5);
        assert_eq!(expected.verdict, Verdict::Pass);
        assert_eq!(expected.expected_failure.as_deref(), Some("known"));
        assert!(expected.detail.contains("measured 2 limit 1"), "{}", expected.detail);
        assert_eq!(
            kind_of(verdict_of(&case(Some("known"), false), judged(Verdict::Pass, 1))),
            "unexpected-pass"
        );
        let refused = Err(Unable::Refused(Error::malformed("x.gguf", "cut short")));
        assert_eq!(kind_of(verdict_of(&case(Some("known"), false), refused)), "refused");
        let late = || unanswered("timeout", "10 s".into());
        assert_eq!(kind_of(verdict_of(&case(Some("known"), false), late())), "timeout");
    }

    #[test]
    fn a_refused_artifact_is_a_failure_with_a_command_that_repeats_it() {
        let record = record(
            &case(None, false),
            "p.yaml",
            Err(Unable::Refused(Error::malformed("x.gguf", "cut short"))),
            0.5,
        );
        assert_eq!(kind_of(record.verdict), "refused");
        assert_eq!(record.reproduce, "apr-qa-runner run p.yaml --case 'suite/canary/m/a/cpu/two words'");
    }
}
