//! The summary that ends a run on stdout: what failed, where, by how much, and how to see it again.

use super::chart;
use super::text::{cut, found, measured, one_line, plain, seconds};
use super::verdict::{Counts, failures, message, outcome, word};
use crate::record::{CaseRecord, RunRecord, Verdict};

/// The whole summary. With `color` the words of the verdicts are colored; the text is the same.
pub fn summary(record: &RunRecord, color: bool) -> String {
    let paint = Paint(color);
    let mut text = String::new();
    for case in failures(record) {
        text.push_str(&failure(case, paint));
        text.push('\n');
    }
    for case in record.cases.iter().filter(|c| c.verdict == Verdict::Pass) {
        if let Some(reason) = &case.expected_failure {
            let mark = paint.mark(&case.verdict, "EXPECTED FAILURE");
            text.push_str(&format!("{mark} {}\n    {}\n", one_line(&case.id), one_line(reason)));
        }
    }
    for (reason, cases) in skips(record) {
        let noun = if cases.len() == 1 { "case" } else { "cases" };
        let mark = paint.mark(&cases[0].verdict, "SKIP");
        text.push_str(&format!("{mark} {} {noun}: {}\n", cases.len(), one_line(reason)));
        for case in cases.iter().take(3) {
            text.push_str(&format!("    {}\n", one_line(&case.id)));
        }
        if cases.len() > 3 {
            text.push_str(&format!("    and {} more\n", cases.len() - 3));
        }
    }
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    if let Some(score) = super::detection::line(record) {
        text.push_str(&one_line(&score));
        text.push('\n');
    }
    text.push_str(&last_line(record, paint));
    text
}

/// The line that ends every summary: verdict, counts, time, exit code.
pub fn last_line_of(record: &RunRecord, color: bool) -> String {
    last_line(record, Paint(color))
}

/// One line for a finished case, for logs: `PASS  suite/gate/… 0.120 s`.
pub fn case_line(case: &CaseRecord, color: bool) -> String {
    let mark = Paint(color).mark(&case.verdict, &word(&case.verdict).to_uppercase());
    let mut line = format!("{mark} {} {}", one_line(&case.id), seconds(case.seconds));
    if !message(case).is_empty() {
        line.push_str(&format!(": {}", cut(&one_line(message(case)), 400)));
    }
    line
}

/// The longest detail that is shown; the reports have it whole.
const LONGEST_DETAIL: usize = 4000;
/// Findings that are shown of one case.
const MOST_FINDINGS: usize = 10;

/// Charts that are shown of one case, as rows of blocks this wide.
const MOST_STRIPS: usize = 2;
const STRIP: usize = 72;

fn failure(case: &CaseRecord, paint: Paint) -> String {
    let mark = paint.mark(&case.verdict, &word(&case.verdict).to_uppercase());
    let mut text = format!("{mark} {}\n", one_line(&case.id));
    let mut lines: Vec<String> = vec![one_line(message(case))];
    lines.extend(case.measurements.iter().map(measured));
    let findings = case.findings.iter().take(MOST_FINDINGS);
    lines.extend(findings.map(found));
    if case.findings.len() > MOST_FINDINGS {
        lines.push(format!("and {} more findings", case.findings.len() - MOST_FINDINGS));
    }
    lines.extend(
        case.charts.iter().filter_map(|chart| chart::lines(chart, STRIP)).take(MOST_STRIPS).flatten(),
    );
    lines.extend(cut(&plain(&case.detail), LONGEST_DETAIL).lines().map(str::to_owned));
    lines.push(format!("at {}:{}", one_line(&case.file), case.line));
    lines.push(format!("reproduce: {}", one_line(&case.reproduce)));
    for line in lines {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// Skipped cases by their reason, in the order of the reasons.
fn skips(record: &RunRecord) -> Vec<(&str, Vec<&CaseRecord>)> {
    let mut by_reason: Vec<(&str, Vec<&CaseRecord>)> = Vec::new();
    for case in &record.cases {
        let Verdict::Skip { reason } = &case.verdict else { continue };
        match by_reason.iter_mut().find(|(known, _)| known == reason) {
            Some((_, cases)) => cases.push(case),
            None => by_reason.push((reason, vec![case])),
        }
    }
    by_reason
}

fn last_line(record: &RunRecord, paint: Paint) -> String {
    let counts = Counts::of(&record.cases);
    let word = outcome(record);
    let verdict = paint.color(if word == "pass" { GREEN } else { RED }, &word.to_uppercase());
    let mut line = format!("{verdict} {}: {}", one_line(&record.playbook), counts.in_words());
    if let Some(signal) = &record.interrupted {
        line.push_str(&format!("; interrupted: {}", one_line(signal)));
    }
    if record.not_run > 0 {
        line.push_str(&format!("; {} not run", record.not_run));
    }
    let noun = if counts.total() == 1 { "case" } else { "cases" };
    format!(
        "{line}; {} {noun} in {}, exit code {}\n",
        counts.total(),
        seconds(record.seconds),
        record.exit_code
    )
}

#[derive(Clone, Copy)]
struct Paint(bool);

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const MAGENTA: u8 = 35;

impl Paint {
    fn mark(self, verdict: &Verdict, word: &str) -> String {
        let color = match verdict {
            Verdict::Pass => GREEN,
            Verdict::Fail { .. } => RED,
            Verdict::Error { .. } => MAGENTA,
            Verdict::Inconclusive { .. } | Verdict::Skip { .. } => YELLOW,
        };
        self.color(color, word)
    }

    fn color(self, code: u8, word: &str) -> String {
        if self.0 { format!("\u{1b}[{code};1m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn color_changes_nothing_but_color() {
        let record = fixture::sample();
        let colored = summary(&record, true);
        assert!(colored.contains("\u{1b}[31;1mFAIL"));
        assert_eq!(plain(&colored), summary(&record, false));
    }

    #[test]
    fn every_failure_has_its_command_and_its_line() {
        let record = fixture::sample();
        let text = summary(&record, false);
        for case in failures(&record) {
            assert!(text.contains(&format!("reproduce: {}", one_line(&case.reproduce))), "{}", case.id);
            assert!(text.contains(&format!("at {}:{}", case.file, case.line)));
        }
        let counts = Counts::of(&record.cases).in_words();
        assert!(text.lines().last().expect("a last line").contains(&counts));
    }

    #[test]
    fn what_a_model_wrote_cannot_steer_the_terminal() {
        let mut record = fixture::sample();
        for case in &mut record.cases {
            case.detail = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{8}text".into();
            case.id.push_str("\u{1b}[1A");
        }
        let text = summary(&record, false) + &case_line(&record.cases[0], false);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
