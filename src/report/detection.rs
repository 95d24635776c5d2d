//! The score of a detection run: how many planted defects the gates caught, whether they named them, and how often they
//! spoke against an unbroken artifact. `detection.md` for readers, `detection.json` for programs.

mod page;

use super::{RenderOptions, Report};
use crate::record::{Answered, CaseRecord, Detected, RunRecord};
use crate::stats::clopper_pearson;
use serde::Serialize;
use std::collections::BTreeMap;

/// `detection.md`.
pub(super) struct DetectionPage;

/// `detection.json`.
pub(super) struct DetectionJson;

impl Report for DetectionPage {
    fn id(&self) -> &'static str {
        "detection"
    }

    fn file_name(&self) -> &'static str {
        "detection.md"
    }

    fn applies(&self, record: &RunRecord) -> bool {
        score(record).is_some()
    }

    fn render(&self, record: &RunRecord, _: &RenderOptions) -> Vec<u8> {
        score(record).map_or_else(Vec::new, |score| page::render(record, &score).into_bytes())
    }
}

impl Report for DetectionJson {
    fn id(&self) -> &'static str {
        "detection-json"
    }

    fn file_name(&self) -> &'static str {
        "detection.json"
    }

    fn applies(&self, record: &RunRecord) -> bool {
        score(record).is_some()
    }

    fn render(&self, record: &RunRecord, _: &RenderOptions) -> Vec<u8> {
        // Counts and texts only.
        let mut bytes = serde_json::to_vec_pretty(&score(record)).expect("a score serializes");
        bytes.push(b'\n');
        bytes
    }
}

/// The score in a line, where the record has one.
pub(super) fn line(record: &RunRecord) -> Option<String> {
    let score = score(record)?;
    let mut parts = Vec::new();
    if score.caught.n > 0 {
        parts.push(format!("caught {}", score.caught.in_words()));
    }
    if score.named.n > 0 {
        parts.push(format!("named {}", score.named.in_words()));
    }
    if score.false_alarms.n > 0 {
        parts.push(format!("false alarms {}", score.false_alarms.in_words()));
    }
    Some(format!("detection: {}", parts.join("; ")))
}

/// The level of every interval.
const LEVEL: f64 = 0.95;

/// The score; `None` for a record without a detection case.
fn score(record: &RunRecord) -> Option<Score<'_>> {
    let all: Vec<Instance> = record
        .cases
        .iter()
        .filter_map(|case| Some(Instance { case, found: case.detection.as_deref()? }))
        .collect();
    if all.is_empty() {
        return None;
    }
    let (planted, clean): (Vec<Instance>, Vec<Instance>) =
        all.into_iter().partition(|instance| instance.found.defect.is_some());
    let caught: Vec<&Instance> = planted.iter().filter(|i| i.found.caught).collect();
    let in_weights: Vec<&&Instance> = caught.iter().filter(|i| i.found.in_weights).collect();
    let share = |hits: usize, n: usize| Share::of(hits as u64, n as u64);
    let group = |key: &dyn Fn(&Instance) -> String| Group::by(&planted, key);
    Some(Score {
        playbook: &record.playbook,
        caught: share(caught.len(), planted.len()),
        named: share(in_weights.iter().filter(|i| i.found.named).count(), in_weights.len()),
        cause_named: share(caught.iter().filter(|i| i.found.cause_named).count(), caught.len()),
        false_alarms: share(clean.iter().filter(|i| i.found.caught).count(), clean.len()),
        by_class: group(&|i| i.found.class.clone()),
        by_model: group(&|i| i.case.model.clone()),
        by_artifact: group(&|i| i.case.artifact.clone()),
        by_defect: group(&|i| i.found.defect.clone().unwrap_or_default()),
        first_gate: first_gates(&caught),
        by_gate: gates(&planted),
        missed: planted.iter().filter(|i| !i.found.caught).map(Instance::row).collect(),
        unnamed: in_weights.iter().filter(|i| !i.found.named).map(|i| i.row()).collect(),
        alarms: clean.iter().filter(|i| i.found.caught).map(Instance::row).collect(),
        without_answer: record
            .cases
            .iter()
            .filter(|case| case.detection.is_none() && SUITES.contains(&case.suite.as_str()))
            .map(|case| case.id.as_str())
            .collect(),
    })
}

/// The suites of detection cases: one that could not be measured has no outcome, only its suite.
const SUITES: [&str; 2] = ["detection", "clean"];

/// Everything that the reports say.
#[derive(Serialize)]
struct Score<'a> {
    playbook: &'a str,
    /// Of the instances with a defect.
    caught: Share,
    /// Of those caught that sit in a tensor or a layer.
    named: Share,
    /// Of those caught.
    cause_named: Share,
    /// Of the unbroken instances.
    false_alarms: Share,
    by_class: Vec<Group>,
    by_model: Vec<Group>,
    by_artifact: Vec<Group>,
    by_defect: Vec<Group>,
    /// How often each gate was the first to speak.
    first_gate: Vec<(String, u64)>,
    /// How often each gate spoke of how many asked: only those asked are counted.
    by_gate: Vec<Group>,
    missed: Vec<Row>,
    unnamed: Vec<Row>,
    alarms: Vec<Row>,
    /// Cases that gave no outcome.
    without_answer: Vec<&'a str>,
}

/// A share with its exact interval.
#[derive(Serialize, Clone, Copy)]
struct Share {
    hits: u64,
    n: u64,
    low: f64,
    high: f64,
}

impl Share {
    fn of(hits: u64, n: u64) -> Share {
        let (low, high) = clopper_pearson(hits, n, LEVEL);
        Share { hits, n, low, high }
    }

    fn in_words(&self) -> String {
        if self.n == 0 {
            return "0 of 0".to_owned();
        }
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        let value = percent(self.hits as f64 / self.n as f64);
        let (low, high) = (percent(self.low), percent(self.high));
        format!("{} of {} ({value} %, 95 % interval {low} to {high})", self.hits, self.n)
    }
}

/// Instances with something in common.
#[derive(Serialize)]
struct Group {
    name: String,
    caught: Share,
}

impl Group {
    /// Groups in the order of their names.
    fn by(instances: &[Instance], key: &dyn Fn(&Instance) -> String) -> Vec<Group> {
        let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for instance in instances {
            let (hits, n) = groups.entry(key(instance)).or_default();
            *hits += u64::from(instance.found.caught);
            *n += 1;
        }
        groups.into_iter().map(|(name, (hits, n))| Group { name, caught: Share::of(hits, n) }).collect()
    }
}

/// How often each gate spoke first, most often first.
fn first_gates(caught: &[&Instance]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for gate in caught.iter().filter_map(|i| i.found.first_gate.clone()) {
        *counts.entry(gate).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// How often each gate spoke, of the instances that it could measure.
fn gates(planted: &[Instance]) -> Vec<Group> {
    let mut counts: Vec<(String, u64, u64)> = Vec::new();
    for said in planted.iter().flat_map(|i| &i.found.gates).filter(|g| g.answer != Answered::Silent) {
        let at = counts.iter().position(|(gate, ..)| *gate == said.gate).unwrap_or_else(|| {
            counts.push((said.gate.clone(), 0, 0));
            counts.len() - 1
        });
        counts[at].1 += u64::from(said.answer.is_against());
        counts[at].2 += 1;
    }
    counts.into_iter().map(|(name, hits, n)| Group { name, caught: Share::of(hits, n) }).collect()
}

/// A case with its outcome.
struct Instance<'a> {
    case: &'a CaseRecord,
    found: &'a Detected,
}

/// One instance that did not come out as it should.
#[derive(Serialize)]
struct Row {
    case: String,
    planted: String,
    /// Why: what every gate said, or what was named instead.
    why: String,
    /// Where the playbook declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<String>,
    reproduce: String,
}

impl Instance<'_> {
    fn row(&self) -> Row {
        let said = |answer: Answered| {
            let gates = self.found.gates.iter().filter(|g| g.answer == answer);
            gates.map(|g| g.gate.as_str()).collect::<Vec<_>>().join(", ")
        };
        let why = match (&self.found.first_gate, &self.found.first_finding) {
            (Some(gate), Some(found)) => format!("{gate} names {}: {}", found.subject, found.detail),
            (Some(gate), None) => format!("{gate} names nothing"),
            (None, _) => [Answered::Passed, Answered::Inconclusive, Answered::Silent]
                .into_iter()
                .filter(|answer| !said(*answer).is_empty())
                .map(|answer| format!("{}: {}", answer.word(), said(answer)))
                .collect::<Vec<_>>()
                .join("; "),
        };
        Row {
            case: self.case.id.clone(),
            planted: self.found.planted.clone(),
            why,
            known: self.case.expected_failure.clone(),
            reproduce: self.case.reproduce.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn a_record_without_detection_has_no_score() {
        let record = fixture::sample();
        assert!(
            !DetectionPage.applies(&record) && !DetectionJson.applies(&record) && line(&record).is_none()
        );
    }

    #[test]
    fn shares_count_what_was_tried() {
        let record = fixture::detection();
        let score = score(&record).expect("detection cases");
        let pair = |share: Share| (share.hits, share.n);
        assert_eq!((pair(score.caught), pair(score.named)), ((3, 4), (1, 2)));
        assert_eq!((pair(score.cause_named), pair(score.false_alarms)), ((1, 3), (0, 2)));
        assert_eq!(score.first_gate, [("tensor-fidelity".to_owned(), 2), ("config-parity".to_owned(), 1)]);
        assert_eq!((score.missed.len(), score.unnamed.len(), score.alarms.len()), (1, 1, 0));
        assert_eq!(score.without_answer.len(), 1);
        assert!(score.caught.low < 0.75 && score.caught.high > 0.75);
        assert!(
            line(&record)
                .expect("a line")
                .starts_with("detection: caught 3 of 4 (75.0 %, 95 % interval 19.4")
        );
    }

    #[test]
    fn a_miss_says_which_gates_passed() {
        let record = fixture::detection();
        let score = score(&record).expect("detection cases");
        assert_eq!(score.missed[0].why, "passed: weights-check; inconclusive: tensor-fidelity");
        assert_eq!(score.missed[0].known.as_deref(), Some("under the margin"));
    }
}
