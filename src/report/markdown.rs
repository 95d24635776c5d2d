//! The gate report that a reviewer reads: the verdict and the failures on the first screen, then a table per
//! suite, then how to see each failure again, then what was run on what.
//!
//! Model text stands in code blocks only, whose fence is longer than any in the text: there is no Markdown, HTML,
//! mention or command in it. A report fits into a GitHub step summary; what is left out is counted.

pub(super) mod escape;
mod sections;

use super::{RenderOptions, Report};
use crate::record::RunRecord;

/// `report.md`.
pub(super) struct Markdown;

/// Bytes of a report; a GitHub step summary holds 1 MiB.
const LARGEST: usize = 900 * 1024;

impl Report for Markdown {
    fn id(&self) -> &'static str {
        "markdown"
    }

    fn file_name(&self) -> &'static str {
        "report.md"
    }

    fn render(&self, record: &RunRecord, _: &RenderOptions) -> Vec<u8> {
        markdown_within(record, LARGEST).into_bytes()
    }
}

/// The report in at most `limit` bytes, as full as it can be. Below about 8 KiB only the verdict may be left, and
/// the caller must look whether even that fits.
pub fn markdown_within(record: &RunRecord, limit: usize) -> String {
    let mut text = String::new();
    for room in ROOMS {
        text = sections::render(record, room);
        if text.len() <= limit {
            break;
        }
    }
    text
}

/// How much of each thing is shown; the rest is counted.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Rows of all suite tables together; failures come first.
    rows: usize,
    /// Suites that have a table.
    suites: usize,
    /// Failures that are described.
    failures: usize,
    /// Bytes of the free text of one failure.
    detail: usize,
    /// Bytes of any other text that others wrote.
    text: usize,
    /// Expected failures, reasons of skips, rows of provenance.
    listed: usize,
}

/// Tried in turn.
const ROOMS: [Room; 6] = [
    Room { rows: 100_000, suites: 1_000, failures: 1_000, detail: 16_000, text: 2_000, listed: 1_000 },
    Room { rows: 3_000, suites: 300, failures: 200, detail: 4_000, text: 1_000, listed: 300 },
    Room { rows: 1_000, suites: 100, failures: 100, detail: 1_000, text: 400, listed: 100 },
    Room { rows: 200, suites: 40, failures: 40, detail: 400, text: 200, listed: 40 },
    Room { rows: 20, suites: 10, failures: 10, detail: 200, text: 120, listed: 10 },
    Room { rows: 0, suites: 0, failures: 0, detail: 0, text: 80, listed: 0 },
];

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::record::{Adapter, CaseRecord, Finding, Verdict};

    fn failed(record: &RunRecord) -> CaseRecord {
        record.cases.iter().find(|c| matches!(c.verdict, Verdict::Fail { .. })).expect("one").clone()
    }

    #[test]
    fn the_first_screen_holds_verdict_counts_and_failures() {
        let text = markdown_within(&fixture::sample(), LARGEST);
        let screen: String = text.lines().take(24).collect::<Vec<_>>().join("\n");
        assert!(screen.starts_with("# ❌ FAIL: ci"), "{screen}");
        assert!(screen.contains("| passed | failed |"));
        assert!(screen.contains("parity/token-parity/tiny-llama/apr-int4/cpu/code"), "{screen}");
        assert!(screen.contains("| 7 tokens | ≤ 5 | -2 (-40 %) | playbooks/ci.yaml:41 |"), "{screen}");
    }

    #[test]
    fn every_case_and_every_command_is_there() {
        let record = fixture::sample();
        let text = markdown_within(&record, LARGEST);
        for case in super::super::verdict::failures(&record) {
            assert!(text.contains(&case.reproduce), "{}", case.id);
        }
        for case in &record.cases {
            let place: Vec<&str> = case.id.splitn(3, '/').collect();
            assert!(text.contains(place[2]), "{}", case.id);
        }
        for (key, value) in &record.provenance {
            assert!(text.contains(key.as_str()) && text.contains(value.as_str()), "{key}");
        }
        assert!(!text.contains("omitted"));
    }

    #[test]
    fn the_adapter_stands_with_its_suite_and_with_its_failure() {
        let text = markdown_within(&fixture::sample(), LARGEST);
        let suite = text.split("## Suite speed\n").nth(1).expect("the suite");
        let suite = suite.split("\n| gate |").next().expect("a table");
        assert!(suite.contains("GPU backends on NVIDIA L4 (discrete, Vulkan, NVIDIA 570.86.15)."), "{suite}");
        assert_eq!(text.matches("GPU backends on").count(), 1, "the others ran on the processor");
        assert_eq!(text.matches("\nAdapter: NVIDIA L4 (discrete").count(), 1);
    }

    #[test]
    fn a_failure_has_its_strip_its_interval_its_cause_and_its_tokens() {
        let text = markdown_within(&fixture::sample(), LARGEST);
        let strip = text
            .split("SQNR of every tensor against the twin; worst: 7.down_proj.weight")
            .nth(1)
            .expect("a strip");
        let lines: Vec<&str> = strip.lines().skip(1).take(2).collect();
        assert!(
            lines[0].chars().count() == 72 && lines[0].contains('▅') && !lines[0].contains('▁'),
            "{strip}"
        );
        assert_eq!(
            lines[0].chars().position(|c| c == '▅'),
            lines[1].find('^'),
            "the mark is under the worst"
        );
        for needed in [
            "| 0.0412 nats &#91;0.0377, 0.0451&#93; | ≤ 0.0277 (floor 7.200e-5) | -0.0174 (-63 %) |",
            "; likely cause: `rows-permuted`",
            "- at 402, KL 6.02 nats, after `The capital of France is`: expected ` Paris`, found `⏎⏎`",
        ] {
            assert!(text.contains(needed), "{needed} in {text}");
        }
    }

    #[test]
    fn any_number_of_failures_fits_and_is_counted() {
        let mut record = fixture::sample();
        let mut template = failed(&record);
        template.detail = "`".repeat(50_000);
        template.findings =
            vec![Finding { subject: "|".repeat(500), detail: "<b>".repeat(500), cause: None }; 50];
        for n in 0..1500 {
            record.cases.push(CaseRecord {
                id: format!("s{n}/case/m/a"),
                suite: format!("s{n}"),
                ..template.clone()
            });
        }
        for limit in [LARGEST, 100_000, 20_000, 4_000] {
            let text = markdown_within(&record, limit);
            assert!(text.len() <= limit, "{limit}: {}", text.len());
            assert!(text.contains("omitted") && text.contains("❌ FAIL"), "{limit}");
        }
    }

    /// Whatever a model writes, it stays inside its code block: seen as a reader of CommonMark sees it.
    #[test]
    fn hostile_text_stays_in_its_block() {
        let mut record = fixture::sample();
        let hostile = "```\n# owned\n<script>x</script> @everyone | x |\n````\n~~~\n::error::y\u{1b}[31m\u{0}\r\n</details>";
        let mut case = failed(&record);
        case.detail = hostile.into();
        case.verdict = Verdict::Fail { kind: "k".into(), message: hostile.into() };
        case.findings =
            vec![Finding { subject: hostile.into(), detail: hostile.into(), cause: Some(hostile.into()) }];
        case.expected_failure = Some(hostile.into());
        let features = vec![hostile.into()];
        let text = || hostile.to_owned();
        case.adapter = Some(Adapter { name: text(), kind: text(), driver: text(), api: text(), features });
        let skipped = CaseRecord { verdict: Verdict::Skip { reason: hostile.into() }, ..case.clone() };
        let passed = CaseRecord { verdict: Verdict::Pass, ..case.clone() };
        record.cases.extend([case, skipped, passed]);
        record.provenance.insert("cpu|x".into(), hostile.into());
        let text = markdown_within(&record, LARGEST);
        let mut fence: Option<String> = None;
        for line in text.lines() {
            let ticks: String = line.chars().take_while(|c| *c == '`').collect();
            match &fence {
                Some(open) if line == open => fence = None,
                Some(_) => continue,
                // What follows an opening fence holds no backtick (CommonMark 4.5), or it is a code span.
                None if ticks.len() >= 3 && !line[ticks.len()..].contains('`') => fence = Some(ticks),
                None => {
                    assert!(!line.starts_with("::"), "{line}");
                    let outside = without_code_spans(line);
                    for needle in ["<script", "@everyone", "# owned", "~~~", "</details"] {
                        assert!(!outside.contains(needle), "{needle} in {line}");
                    }
                }
            }
        }
        assert!(fence.is_none(), "a block is not closed");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }

    /// The line without its code spans, by the rule of CommonMark 6.1: a span ends at a run as long as its own.
    fn without_code_spans(line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = rest.find('`') {
            out.push_str(&rest[..at]);
            let ticks = rest[at..].chars().take_while(|c| *c == '`').count();
            let after = &rest[at + ticks..];
            let mut end = None;
            let mut from = 0;
            while let Some(found) = after[from..].find('`') {
                let start = from + found;
                let run = after[start..].chars().take_while(|c| *c == '`').count();
                if run == ticks {
                    end = Some(start + run);
                    break;
                }
                from = start + run;
            }
            rest = &after[end.expect("a code span is closed on its line")..];
        }
        out + rest
    }
}
