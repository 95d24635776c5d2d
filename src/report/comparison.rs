//! A comparison on one screen: one row for each candidate, then what failed, most telling first. The same as JSON.

use super::text::{number, one_line};
use super::verdict::{message, word};
use super::{outcome, terminal};
use crate::record::{CaseRecord, Finding, Measurement, RunRecord, Verdict};
use serde::Serialize;

/// A file that takes part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct File {
    /// Its name in the record.
    pub name: String,
    /// As it was given.
    pub path: String,
    /// Its size, or that of its folder's files.
    pub bytes: u64,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The word for the exit code: `pass`, `fail`, `inconclusive`, ….
    pub verdict: &'static str,
    /// The exit code.
    pub exit_code: u8,
    /// What the candidates were held against.
    pub reference: File,
    /// One for each candidate, in the order asked.
    pub candidates: Vec<Candidate>,
    /// What did not pass, most telling first.
    pub failures: Vec<Failure>,
    /// Wall time.
    pub seconds: f64,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The file.
    #[serde(flatten)]
    pub file: File,
    /// The worst verdict of its cases.
    pub verdict: &'static str,
    /// Its key figures, by metric, where they were measured.
    pub figures: Vec<Figure>,
}

/// A key figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The metric.
    pub metric: String,
    /// Its value; none where it is no number.
    pub value: Option<f64>,
    /// The lower bound of its interval.
    pub low: Option<f64>,
    /// The upper bound of its interval.
    pub high: Option<f64>,
}

/// One case that did not pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The candidate.
    pub candidate: String,
    /// The gate.
    pub gate: String,
    /// `fail`, `error` or `inconclusive`.
    pub verdict: &'static str,
    /// The tensor, setting or token at fault, where one was named.
    pub tensor: Option<String>,
    /// Its layer, where it is in one.
    pub layer: Option<usize>,
    /// The id of the likely cause, where one was established.
    pub cause: Option<String>,
    /// What was found wrong with it.
    pub detail: Option<String>,
    /// The deciding measurement.
    pub measured: Option<f64>,
    /// What it was held against.
    pub limit: Option<f64>,
    /// The whole verdict in one line.
    pub message: String,
    /// How to see it again.
    pub reproduce: String,
}

/// The figures of the table: metric and heading.
const FIGURES: &[(&str, &str)] =
    &[("kl_mean", "KL (nats)"), ("same_top", "same top-1"), ("perplexity_ratio", "PPL ratio")];

impl Summary {
    /// The summary of `record`, whose artifacts are `candidates`.
    pub fn of(record: &RunRecord, reference: File, candidates: Vec<File>) -> Summary {
        let candidate = |file: File| {
            let cases: Vec<&CaseRecord> = record.cases.iter().filter(|c| c.artifact == file.name).collect();
            Candidate { verdict: worst(&cases), figures: figures(&cases), file }
        };
        Summary {
            verdict: outcome(record),
            exit_code: record.exit_code,
            reference,
            candidates: candidates.into_iter().map(candidate).collect(),
            failures: failures(record),
            seconds: record.seconds,
        }
    }

    /// What a person sees: the table, the failures, the verdict. `record` is the one that this summarizes.
    pub fn screen(&self, record: &RunRecord, color: bool) -> String {
        let mut rows = vec![vec!["candidate".to_owned(), "size".to_owned()]];
        rows[0].extend(FIGURES.iter().map(|(_, heading)| (*heading).to_owned()));
        rows[0].push("verdict".to_owned());
        let none = || "–".to_owned();
        let mut line =
            vec![format!("{} (reference)", one_line(&self.reference.name)), size(self.reference.bytes)];
        line.extend(FIGURES.iter().map(|_| none()));
        line.push(none());
        rows.push(line);
        for candidate in &self.candidates {
            let mut line = vec![one_line(&candidate.file.name), size(candidate.file.bytes)];
            for (metric, _) in FIGURES {
                let known = candidate.figures.iter().find(|f| f.metric == *metric);
                line.push(known.map_or_else(none, Figure::shown));
            }
            line.push(candidate.verdict.to_uppercase());
            rows.push(line);
        }
        let mut text = table(&rows);
        if !self.failures.is_empty() {
            text.push_str("\nmost telling first:\n");
        }
        for failure in self.failures.iter().take(MOST_FAILURES) {
            text.push_str(&failure.shown());
        }
        if self.failures.len() > MOST_FAILURES {
            text.push_str(&format!("  and {} more in the reports\n", self.failures.len() - MOST_FAILURES));
        }
        text.push('\n');
        text.push_str(&terminal::last_line_of(record, color));
        text
    }
}

/// More failures do not fit on one screen.
const MOST_FAILURES: usize = 8;

impl Figure {
    fn shown(&self) -> String {
        let value = self.value.map_or_else(|| "NaN".to_owned(), short);
        match (self.low, self.high) {
            (Some(low), Some(high)) => format!("{value} [{}, {}]", short(low), short(high)),
            (Some(_) | None, Some(_) | None) => value,
        }
    }
}

impl Failure {
    fn shown(&self) -> String {
        let cause = self.cause.as_ref().map_or(String::new(), |cause| format!(" [{}]", one_line(cause)));
        let what = match (&self.tensor, &self.detail) {
            (Some(tensor), Some(detail)) => format!("{}: {}", one_line(tensor), one_line(detail)),
            (Some(_) | None, _) => one_line(&self.message),
        };
        format!(
            "  {} {} {}{cause}\n    {what}\n",
            self.verdict.to_uppercase(),
            one_line(&self.candidate),
            one_line(&self.gate)
        )
    }
}

/// The worst verdict of `cases` as a word; `skip` where all are skipped, `nothing` for none.
fn worst(cases: &[&CaseRecord]) -> &'static str {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Fail { .. } => 0,
        Verdict::Error { .. } => 1,
        Verdict::Inconclusive { .. } => 2,
        Verdict::Pass => 3,
        Verdict::Skip { .. } => 4,
    };
    cases.iter().min_by_key(|c| rank(&c.verdict)).map_or("nothing", |c| word(&c.verdict))
}

fn figures(cases: &[&CaseRecord]) -> Vec<Figure> {
    let finite = |value: f64| value.is_finite().then_some(value);
    let find = |metric: &str| -> Option<&Measurement> {
        cases.iter().flat_map(|c| &c.measurements).find(|m| m.metric == metric)
    };
    let figure = |m: &Measurement| Figure {
        metric: m.metric.clone(),
        value: finite(m.value),
        low: m.interval.as_ref().and_then(|i| finite(i.low)),
        high: m.interval.as_ref().and_then(|i| finite(i.high)),
    };
    FIGURES.iter().filter_map(|(metric, _)| find(metric)).map(figure).collect()
}

/// Everything that did not pass: refusals first, then what names a thing and its cause, then what names a thing.
fn failures(record: &RunRecord) -> Vec<Failure> {
    let mut cases = super::verdict::failures(record);
    let telling = |case: &CaseRecord| {
        let refused = matches!(&case.verdict, Verdict::Fail { kind, .. } if kind == "refused");
        match (&case.verdict, case.findings.first()) {
            _ if refused => 0,
            (Verdict::Fail { .. }, Some(finding)) if finding.cause.is_some() => 1,
            (Verdict::Fail { .. }, Some(_)) => 2,
            (Verdict::Fail { .. }, None) => 3,
            (Verdict::Error { .. }, _) => 4,
            (Verdict::Inconclusive { .. } | Verdict::Pass | Verdict::Skip { .. }, _) => 5,
        }
    };
    cases.sort_by_key(|case| telling(case));
    cases.into_iter().map(failure).collect()
}

fn failure(case: &CaseRecord) -> Failure {
    let finding: Option<&Finding> = case.findings.first();
    let deciding = case.measurements.first();
    Failure {
        candidate: case.artifact.clone(),
        gate: case.gate.clone(),
        verdict: word(&case.verdict),
        tensor: finding.map(|f| f.subject.clone()),
        layer: finding.and_then(Finding::layer),
        cause: finding.and_then(|f| f.cause.clone()),
        detail: finding.map(|f| f.detail.clone()),
        measured: deciding.map(|m| m.value).filter(|v| v.is_finite()),
        limit: deciding.and_then(|m| m.limit.as_ref()).map(|l| l.value).filter(|v| v.is_finite()),
        message: message(case).to_owned(),
        reproduce: case.reproduce.clone(),
    }
}

/// Columns in step, two spaces between them.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Three digits that count: more do not fit a screen.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !(1e-3..1e4).contains(&size) {
        return if value == 0.0 { "0".to_owned() } else { format!("{value:.2e}") };
    }
    // Size is at least 1e-3 and below 1e4, so this is in -1..=5.
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

fn size(bytes: u64) -> String {
    format!("{} MB", number((bytes as f64 / 1e4).round() / 1e2))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn file(name: &str) -> File {
        File { name: name.into(), path: format!("{name}.gguf"), bytes: 1_234_567 }
    }

    #[test]
    fn every_candidate_has_a_row_and_the_worst_of_its_verdicts() {
        let record = fixture::sample();
        let files = ["apr-int8", "apr-int4", "absent"].map(file).to_vec();
        let summary = Summary::of(&record, file("source"), files);
        let verdicts: Vec<&str> = summary.candidates.iter().map(|c| c.verdict).collect();
        assert_eq!(verdicts[1..], ["fail", "nothing"]);
        let screen = summary.screen(&record, false);
        assert!(screen.lines().next().is_some_and(|l| l.starts_with("candidate")), "{screen}");
        assert!(screen.contains("1.23 MB") && screen.contains("most telling first:"), "{screen}");
        assert!(screen.lines().count() < 40 && screen.chars().all(|c| c == '\n' || !c.is_control()));
    }

    #[test]
    fn a_refusal_is_most_telling_and_every_failure_has_its_fields() {
        let record = fixture::sample();
        let summary = Summary::of(&record, file("source"), vec![file("vendor")]);
        let count = super::super::verdict::failures(&record).len();
        assert_eq!(summary.failures.len(), count);
        assert_eq!(summary.failures[0].tensor.as_deref(), Some("blk.0.attn_q.weight"));
        let json = serde_json::to_value(&summary).expect("plain data");
        for field in ["gate", "tensor", "layer", "cause", "measured", "limit"] {
            assert!(json["failures"][0].get(field).is_some(), "{field}");
        }
        assert_eq!(json["verdict"], "fail");
    }

    #[test]
    fn figures_keep_their_intervals() {
        let mut record = fixture::sample();
        let interval = crate::record::Interval { low: 0.001, high: 0.25, level: 0.95, method: "m".into() };
        let mut m = record.cases[0].measurements[0].clone();
        (m.metric, m.value, m.interval) = ("kl_mean".into(), 0.0123456, Some(interval));
        record.cases[0].measurements.push(m);
        let name = record.cases[0].artifact.clone();
        let summary = Summary::of(&record, file("source"), vec![file(&name)]);
        assert_eq!(summary.candidates[0].figures[0].shown(), "0.01235 [0.001000, 0.2500]");
    }
}
