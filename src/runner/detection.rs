//! One instance of a defect: planted into a copy, put before the gates, and what they said written down.
//!
//! Caught is a failure or a refusal by any gate; a pass, an inconclusive answer and silence are a miss.

use super::artifacts;
use super::stage::Bench;
use crate::contract::Contract;
use crate::gates::{self, Against, Gate, References, Settings, Trial};
use crate::mutate::{self, Planted};
use crate::playbook::{AgainstRule, Case, Probe};
use crate::record::{
    Answered, Detected, Finding, GateAnswer, Judgement, Limit, LimitOp, Measurement, Unable, Verdict,
};
use crate::subject::{Answer, Opened, Place, Role, Subject};
use crate::{Error, Kind, convert};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A detection case with everything that its thread needs.
pub struct DetectionJob {
    /// The case.
    pub case: Case,
    /// The artifact to break, and its reference.
    pub bench: Bench,
    /// What is known about the model.
    pub references: Arc<dyn References + Send + Sync>,
    /// The playbook's path.
    pub file: String,
    /// What is put before the gates, once it is made.
    pub broken: Arc<OnceLock<Arc<dyn Subject>>>,
}

impl DetectionJob {
    /// Plants, asks the gates, and judges what they said.
    ///
    /// # Errors
    /// Why there is no instance to judge: a defect that is not in this artifact, a conversion that failed.
    pub fn judge(&self, probe: &Probe) -> Answer<(Judgement, Detected)> {
        let scratch = tempfile::tempdir().map_err(|error| io(&error))?;
        let (path, planted) = self.instance(probe, scratch.path())?;
        let case = &self.case;
        let subject = Opened::new(Place {
            model: case.model.clone(),
            artifact: case.artifact.clone(),
            // The scratch folder has another name in every run.
            shown: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path,
            backend: case.backend.clone(),
            threads: self.bench.threads,
            adapter: self.bench.adapter.clone(),
            role: Role::UnderTest,
            // No later run sees this file again.
            kept: None,
        })
        .in_role(Role::UnderTest);
        // A job judges once.
        let _ = self.broken.set(Arc::clone(&subject));
        let mut said = Vec::new();
        for id in &probe.gates {
            let heard = self.ask(id, &*subject, scratch.path())?;
            let spoke = heard.answer.is_against();
            said.push((id.as_str(), heard));
            if spoke && !probe.every_gate {
                break;
            }
        }
        let detected = detected(probe, planted.as_ref(), said);
        Ok((judgement(&detected), detected))
    }

    /// The artifact with the defect, or an unbroken one.
    fn instance(&self, probe: &Probe, scratch: &Path) -> Answer<(PathBuf, Option<Planted>)> {
        let failed =
            |kind: &str, error: &Error| Unable::Failed { kind: kind.into(), message: error.to_string() };
        if let Some(id) = &probe.defect {
            let unknown = || Error::new(Kind::Usage, id, "there is no such defect");
            let defect = mutate::find(id).ok_or_else(|| failed("usage", &unknown()))?;
            let path = scratch.join("planted");
            return match mutate::apply(defect, &self.bench.artifact, &path, probe.seed) {
                Ok(planted) => Ok((path, Some(planted))),
                Err(error) if error.kind == Kind::Unsupported => {
                    Err(Unable::NotApplicable(error.to_string()))
                }
                Err(error) => Err(failed("plant", &error)),
            };
        }
        let Some((recipe, (artifact, format))) = probe.recipe.zip(self.bench.conversion.as_ref()) else {
            return Ok((self.bench.artifact.clone(), None));
        };
        let path = scratch.join("converted");
        let mut options = artifacts::options(artifact, *format);
        options.quantize = Some(recipe);
        options.allow_lossy = true;
        options.threads = Some(1 + probe.seed as usize % 4);
        convert::convert(&self.bench.source, &path, &options)
            .map_err(|error| failed("conversion", &error))?;
        Ok((path, None))
    }

    /// What the gate says of the subject.
    fn ask(&self, id: &str, subject: &dyn Subject, scratch: &Path) -> Answer<Heard> {
        let gate = gates::find(id).ok_or_else(|| Unable::Failed {
            kind: "usage".into(),
            message: format!("there is no gate `{id}`"),
        })?;
        let folder = tempfile::tempdir_in(scratch).map_err(|error| io(&error))?;
        Ok(heard(self.answer(gate, subject, folder.path())))
    }

    fn answer(&self, gate: &dyn Gate, subject: &dyn Subject, scratch: &Path) -> Answer<Judgement> {
        let info = gate.info();
        if info.needs_backend {
            subject.infers()?;
        }
        let against = match info.against {
            AgainstRule::None => None,
            AgainstRule::ArtifactOrSource | AgainstRule::Artifact | AgainstRule::BackendOrRuntime => {
                Some(Against::Subject(&*self.bench.reference))
            }
        };
        gate.judge(&Trial {
            subject,
            against,
            prompt: None,
            prompts: &self.case.prompts,
            tokens: self.case.tokens,
            settings: &Settings::new(info.params, BTreeMap::new(), &self.file),
            references: &*self.references,
            contract: Contract::builtin(),
            scratch,
        })
    }
}

fn io(error: &std::io::Error) -> Unable {
    Unable::Failed { kind: "io".into(), message: format!("no temporary folder: {error}") }
}

/// A gate's answer with what it named.
struct Heard {
    answer: Answered,
    message: String,
    findings: Vec<Finding>,
}

fn heard(answer: Answer<Judgement>) -> Heard {
    let silent = |message: String| Heard { answer: Answered::Silent, message, findings: Vec::new() };
    match answer {
        Ok(judged) => {
            let (answer, message) = match judged.verdict {
                Verdict::Pass => (Answered::Passed, String::new()),
                Verdict::Fail { message, .. } => (Answered::Failed, message),
                Verdict::Inconclusive { message } => (Answered::Inconclusive, message),
                Verdict::Skip { reason } => (Answered::Silent, reason),
                Verdict::Error { message, .. } => (Answered::Silent, message),
            };
            Heard { answer, message, findings: judged.findings }
        }
        Err(Unable::Refused(error)) => {
            let subject = error.at.clone().unwrap_or_else(|| error.subject.clone());
            let finding = Finding { subject, detail: error.what.clone(), cause: None };
            Heard { answer: Answered::Refused, message: error.to_string(), findings: vec![finding] }
        }
        Err(Unable::NotApplicable(message) | Unable::UnknownFamily(message) | Unable::Missing(message)) => {
            silent(message)
        }
        Err(Unable::Reference(error)) => silent(error.to_string()),
        Err(Unable::Vacuous(message) | Unable::Failed { message, .. }) => silent(message),
    }
}

/// The outcome, from what every gate said in its order.
fn detected(probe: &Probe, planted: Option<&Planted>, said: Vec<(&str, Heard)>) -> Detected {
    let defect = planted.and_then(|p| mutate::find(p.defect));
    let first = said.iter().find(|(_, heard)| heard.answer.is_against());
    let targets = planted.map_or_else(Vec::new, |p| p.targets.clone());
    let causes: Vec<String> =
        defect.map_or_else(Vec::new, |d| d.causes.iter().map(|c| (*c).to_owned()).collect());
    let first_finding = first.and_then(|(_, heard)| heard.findings.first().cloned());
    let named = first.is_some_and(|(_, heard)| {
        let told = match heard.findings.first() {
            Some(finding) => format!("{} {}", finding.subject, finding.detail),
            None => heard.message.clone(),
        };
        names(&told, &targets)
    });
    let gives = |f: &Finding| f.cause.as_ref().is_some_and(|cause| causes.contains(cause));
    let recipe = probe.recipe.map_or_else(|| "as it is".to_owned(), |recipe| recipe.name().to_owned());
    Detected {
        defect: probe.defect.clone(),
        class: defect.map_or_else(String::new, |d| d.class.name().to_owned()),
        in_weights: defect.is_some_and(|d| d.site.is_in_weights()),
        planted: planted.map_or_else(|| format!("unbroken, {recipe}"), |p| p.what.clone()),
        caught: first.is_some(),
        named,
        cause_named: first.is_some_and(|(_, heard)| heard.findings.iter().any(gives)),
        first_gate: first.map(|(gate, _)| (*gate).to_owned()),
        first_finding,
        gates: said
            .into_iter()
            .map(|(gate, heard)| GateAnswer {
                gate: gate.to_owned(),
                answer: heard.answer,
                message: heard.message,
            })
            .collect(),
        targets,
        causes,
    }
}

/// Whether a text names one of the targets: a setting by its name, a tensor by a name of it, or by one of its layer.
fn names(text: &str, targets: &[String]) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let words: Vec<&str> = text.split(|c| !is_part(c)).map(|w| w.trim_matches('.')).collect();
    let mut layers: Vec<usize> = words.iter().filter_map(|word| layer_of(word)).collect();
    for pair in words.windows(2) {
        if pair[0] == "layer" {
            layers.extend(pair[1].parse::<usize>().ok());
        }
    }
    targets.iter().any(|target| {
        let layer = match target.strip_prefix("layer ") {
            Some(number) => number.parse().ok(),
            None => layer_of(target),
        };
        match layer {
            Some(layer) => layers.contains(&layer),
            // A setting or a tensor of no layer; some have several words.
            None => {
                words.contains(&target.as_str()) || (target.contains(' ') && text.contains(target.as_str()))
            }
        }
    })
}

/// The layer in a dotted name: its first part that is a number, where another part is a word.
fn layer_of(name: &str) -> Option<usize> {
    let parts: Vec<&str> = name.split('.').collect();
    let is_word = |part: &&str| part.chars().any(|c| c.is_ascii_alphabetic());
    if parts.len() < 2 || !parts.iter().any(is_word) {
        return None;
    }
    parts.iter().find_map(|part| part.parse().ok())
}

fn judgement(detected: &Detected) -> Judgement {
    let asked = detected.gates.len() as u64;
    let limit = |value: f64| Some(Limit { op: LimitOp::Equal, value, source: "detection".into() });
    let measured = |metric: &str, yes: bool, n: u64, limit: Option<Limit>| Measurement {
        metric: metric.into(),
        value: f64::from(u8::from(yes)),
        unit: String::new(),
        n,
        limit,
        interval: None,
        floor: None,
    };
    let answered = detected.gates.iter().any(|g| g.answer != Answered::Silent);
    let is_defect = detected.defect.is_some();
    let mut measurements =
        vec![measured("caught", detected.caught, asked, limit(f64::from(u8::from(is_defect))))];
    if is_defect {
        let must = detected.in_weights && detected.caught;
        measurements.push(measured("named", detected.named, 1, limit(1.0).filter(|_| must)));
        measurements.push(measured("cause_named", detected.cause_named, 1, None));
    }
    let verdict = if !answered {
        // Measured over nothing; the runner makes an error of it.
        measurements[0].n = 0;
        Verdict::Pass
    } else {
        verdict(detected)
    };
    let mut findings: Vec<Finding> = detected.first_finding.iter().cloned().collect();
    if is_defect {
        let subject = detected.targets.first().cloned().unwrap_or_else(|| "planted".to_owned());
        let cause = detected.causes.first().cloned();
        findings.push(Finding { subject, detail: format!("planted: {}", detected.planted), cause });
    }
    let detail: Vec<String> = detected
        .gates
        .iter()
        .map(|g| {
            format!(
                "{}: {}{}{}",
                g.gate,
                g.answer.word(),
                if g.message.is_empty() { "" } else { ": " },
                g.message
            )
        })
        .collect();
    Judgement {
        verdict,
        measurements,
        findings,
        detail: detail.join("\n"),
        charts: Vec::new(),
        departures: Vec::new(),
    }
}

fn verdict(detected: &Detected) -> Verdict {
    let gate = detected.first_gate.as_deref().unwrap_or("no gate");
    let fail = |kind: &str, message: String| Verdict::Fail { kind: kind.into(), message };
    match (&detected.defect, detected.caught) {
        (None, false) => Verdict::Pass,
        (None, true) => {
            fail("false-alarm", format!("{gate} speaks against an unbroken artifact ({})", detected.planted))
        }
        (Some(_), false) => fail("missed", format!("no gate speaks: {}", detected.planted)),
        (Some(_), true) if detected.in_weights && !detected.named => {
            let found = detected.first_finding.as_ref().map_or("nothing", |f| f.subject.as_str());
            fail("unnamed", format!("{gate} names {found}: {}", detected.planted))
        }
        (Some(_), true) => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_tensor_or_one_of_its_layer_is_right() {
        let tensor = ["3.q_proj.weight".to_owned(), "blk.3.attn_q.weight".to_owned()];
        for right in
            ["3.q_proj.weight", "tensor `blk.3.attn_k.weight`: off", "layer 3 lacks", "model.layers.3.mlp.x"]
        {
            assert!(names(right, &tensor), "{right}");
        }
        for wrong in ["2.q_proj.weight", "layer 13", "0.3 of 3", "q_proj", "3.5", ""] {
            assert!(!names(wrong, &tensor), "{wrong}");
        }
        assert!(names("tied_embeddings expected true", &["output.weight".into(), "tied_embeddings".into()]));
        assert!(names("tensor `output.weight`", &["output.weight".into()]));
        assert!(!names("tensor `output_norm.weight`", &["output.weight".into()]));
        assert!(names("vocabulary entry 7", &["vocabulary entry".into()]));
    }

    fn heard_as(answer: Answered, subject: &str, cause: Option<&str>) -> Heard {
        let finding =
            Finding { subject: subject.into(), detail: "off".into(), cause: cause.map(str::to_owned) };
        Heard { answer, message: "measured".into(), findings: vec![finding] }
    }

    fn probe(defect: Option<&str>) -> Probe {
        Probe {
            defect: defect.map(str::to_owned),
            seed: 1,
            recipe: None,
            gates: Vec::new(),
            every_gate: false,
        }
    }

    fn kind(judged: &Judgement) -> &str {
        match &judged.verdict {
            Verdict::Fail { kind, .. } => kind,
            Verdict::Pass => "pass",
            Verdict::Inconclusive { .. } | Verdict::Skip { .. } | Verdict::Error { .. } => "other",
        }
    }

    #[test]
    fn the_first_gate_that_speaks_is_scored() {
        let planted =
            Planted { defect: "tensor-zeroed", targets: vec!["1.q_proj.weight".into()], what: "x".into() };
        let outcome = |said: Vec<(&str, Heard)>| {
            let detected = detected(&probe(Some("tensor-zeroed")), Some(&planted), said);
            let judged = judgement(&detected);
            (detected, judged)
        };
        let (caught, judged) = outcome(vec![
            ("a", heard_as(Answered::Passed, "x", None)),
            ("b", heard_as(Answered::Failed, "1.q_proj.weight", Some("zeroed"))),
        ]);
        assert!(caught.caught && caught.named && caught.cause_named && kind(&judged) == "pass");
        assert_eq!(caught.first_gate.as_deref(), Some("b"));
        let (elsewhere, judged) =
            outcome(vec![("b", heard_as(Answered::Failed, "2.q_proj.weight", Some("scaled")))]);
        assert!(elsewhere.caught && !elsewhere.named && !elsewhere.cause_named);
        assert_eq!(kind(&judged), "unnamed");
        let (missed, judged) =
            outcome(vec![("a", heard_as(Answered::Inconclusive, "1.q_proj.weight", None))]);
        assert!(!missed.caught && !missed.named);
        assert_eq!(kind(&judged), "missed");
        // Where no gate could measure, nothing was tried: no pass and no miss.
        let (_, judged) = outcome(vec![("a", heard_as(Answered::Silent, "", None))]);
        assert_eq!(judged.measurements[0].n, 0);
    }

    #[test]
    fn an_unbroken_artifact_must_be_left_alone() {
        let outcome =
            |answer| judgement(&detected(&probe(None), None, vec![("a", heard_as(answer, "x", None))]));
        assert_eq!(kind(&outcome(Answered::Passed)), "pass");
        assert_eq!(kind(&outcome(Answered::Inconclusive)), "pass");
        assert_eq!(kind(&outcome(Answered::Refused)), "false-alarm");
    }
}
