//! What GitHub reads: the step summary, annotations, step outputs, and logs in which model text stays text.
//!
//! Workflow commands are lines that begin with `::`; ten errors a step are shown and a summary holds 1 MiB
//! (docs.github.com, "Workflow commands for GitHub Actions"). The caller knows the environment; this only writes.

use super::markdown::markdown_within;
use super::text::{cut, measured, one_line, plain};
use super::verdict::{failures, message, outcome, word};
use crate::record::RunRecord;
use sha2::{Digest, Sha256};

/// Bytes of all summaries of a step together; GitHub refuses more than 1 MiB.
const LARGEST_SUMMARY: usize = 900 * 1024;
/// GitHub shows ten errors a step; the tenth counts the rest.
const MOST_ANNOTATIONS: usize = 9;

/// What to append to the file of `GITHUB_STEP_SUMMARY`, which holds `already` bytes; empty if nothing fits.
pub fn step_summary(record: &RunRecord, already: usize) -> String {
    let room = LARGEST_SUMMARY.saturating_sub(already);
    let text = markdown_within(record, room);
    if text.len() <= room { text } else { String::new() }
}

/// What to print to stdout: an annotation for each of the nine worst cases, and one that counts the rest.
pub fn annotations(record: &RunRecord) -> String {
    let failed = failures(record);
    let mut text = String::new();
    for case in failed.iter().take(MOST_ANNOTATIONS) {
        let deciding = case.measurements.first().filter(|m| m.limit.is_some()).map(measured);
        let mut lines = vec![one_line(message(case))];
        lines.extend(deciding);
        lines.push(format!("reproduce: {}", one_line(&case.reproduce)));
        text.push_str(&format!(
            "::error file={},line={},title={}::{}\n",
            property(&case.file),
            case.line,
            property(&format!("{}: {}", word(&case.verdict), case.id)),
            data(&cut(&lines.join("\n"), 4000)),
        ));
    }
    if failed.len() > MOST_ANNOTATIONS {
        let more = failed.len() - MOST_ANNOTATIONS;
        text.push_str(&format!(
            "::error title={}::and {more} more; see the report\n",
            property(&record.playbook)
        ));
    }
    text
}

/// What to append to the file of `GITHUB_OUTPUT`: `verdict` and `report-path`.
pub fn outputs(record: &RunRecord, report_path: &str) -> String {
    // A line end in a value would begin an output of its own.
    let path: String = report_path.chars().filter(|c| !c.is_control()).collect();
    format!("verdict={}\nreport-path={path}\n", outcome(record))
}

/// `text` for a log, with all workflow commands in it stopped. The token is the text's own digest, which the
/// text cannot contain.
pub fn without_commands(text: &str) -> String {
    let token: String = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("::stop-commands::{token}\n{text}{end}::{token}::\n")
}

/// Escapes the message of a command.
fn data(text: &str) -> String {
    plain(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    data(&one_line(text)).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::record::{CaseRecord, Verdict};

    fn failing(count: usize) -> RunRecord {
        let mut record = fixture::sample();
        let failed =
            record.cases.iter().find(|c| matches!(c.verdict, Verdict::Fail { .. })).expect("one").clone();
        record.cases = (0..count).map(|n| CaseRecord { id: format!("case/{n}"), ..failed.clone() }).collect();
        record
    }

    #[test]
    fn nine_annotations_at_most_and_one_that_counts() {
        for (count, lines) in [(0, 0), (1, 1), (9, 9), (10, 10), (500, 10)] {
            let text = annotations(&failing(count));
            assert_eq!(text.lines().count(), lines, "{count} failures");
            assert!(text.lines().all(|l| l.starts_with("::error ")));
        }
        assert!(annotations(&failing(500)).ends_with("::and 491 more; see the report\n"));
    }

    #[test]
    fn nothing_in_a_message_begins_a_command() {
        let mut record = failing(1);
        let hostile = "100%\n::set-output name=x::y\r::error::z, a:b";
        record.cases[0].id = hostile.into();
        record.cases[0].verdict = Verdict::Fail { kind: "k".into(), message: hostile.into() };
        let text = annotations(&record);
        assert_eq!(text.lines().count(), 1, "{text}");
        let title = text.split("title=").nth(1).expect("a title").split("::").next().expect("an end");
        assert!(!title.contains([',', ':']) && title.contains("100%25"), "{title}");
    }

    #[test]
    fn outputs_are_two_lines() {
        let record = fixture::sample();
        assert_eq!(
            outputs(&record, "reports/ci/re\nport.md"),
            "verdict=fail\nreport-path=reports/ci/report.md\n"
        );
    }

    #[test]
    fn model_text_stands_between_stop_commands() {
        let model = "::error::from the model";
        let text = without_commands(model);
        let lines: Vec<&str> = text.lines().collect();
        let token = lines[0].strip_prefix("::stop-commands::").expect("the first line stops");
        assert_eq!(lines[1..], [model, &format!("::{token}::")]);
        assert!(token.len() == 64 && !model.contains(token));
    }

    #[test]
    fn a_summary_fits_what_is_left() {
        let record = failing(5000);
        for already in [0, 100_000, 890_000, LARGEST_SUMMARY, usize::MAX] {
            let text = step_summary(&record, already);
            assert!(text.len() <= LARGEST_SUMMARY.saturating_sub(already), "{already}: {}", text.len());
        }
        assert!(step_summary(&record, 0).contains("omitted"));
        assert_eq!(step_summary(&record, usize::MAX), "");
    }
}
