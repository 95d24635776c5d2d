//! JUnit XML: one `<testsuite>` per playbook and model, one `<testcase>` per case.
//! A failed gate is a `<failure>`; a case that could not be measured is an `<error>`.
//!
//! Consumers differ, so the forms are the ones that all of them take: a dotted class name that is never empty, a
//! name that is unique, exactly one failure or error per case with its text inside the element. What only the
//! Jenkins schema (junit-10.xsd of its xUnit plugin) does not know is left out by [`JunitDialect::Strict`].

use super::text::{cut, found, headroom, measured, number, one_line, plain};
use super::verdict::message;
use super::{RenderOptions, Report};
use crate::record::{CaseRecord, Measurement, RunRecord, Verdict};
use quick_junit::{NonSuccessKind, Property, Report as Junits, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// `junit.xml`.
pub(super) struct Junit;

/// Which attributes and elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JunitDialect {
    /// Metrics as properties of each case, `file` and `line` of its gate.
    #[default]
    Full,
    /// Only what the Jenkins schema knows; the metrics stand in `system-out`.
    Strict,
}

/// How an inconclusive case is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JunitInconclusive {
    /// As a failure of type `inconclusive`: it is no pass.
    #[default]
    Failure,
    /// As skipped, for those who want it quiet.
    Skipped,
}

/// GitLab refuses larger files.
const LARGEST_FILE: usize = 30_000_000;
/// Most bytes of text in one node and of one attribute, tried in turn until the file is small enough. XML
/// escapes can grow a text sixfold; the last step fits whatever a playbook's largest plan holds.
const CUTS: [(usize, usize); 4] = [(64 * 1024, 2048), (8 * 1024, 1024), (1024, 256), NAMES_ONLY];
/// The last step: no text and no properties.
const NAMES_ONLY: (usize, usize) = (0, 64);

impl Report for Junit {
    fn id(&self) -> &'static str {
        "junit"
    }

    fn file_name(&self) -> &'static str {
        "junit.xml"
    }

    fn render(&self, record: &RunRecord, options: &RenderOptions) -> Vec<u8> {
        let mut xml = Vec::new();
        for (node, attribute) in CUTS {
            xml = Writer { options, node, attribute }.xml(record);
            if xml.len() <= LARGEST_FILE {
                break;
            }
        }
        xml
    }
}

struct Writer<'a> {
    options: &'a RenderOptions,
    /// Most bytes of a text node.
    node: usize,
    /// Most bytes of an attribute that holds a message.
    attribute: usize,
}

impl Writer<'_> {
    fn xml(&self, record: &RunRecord) -> Vec<u8> {
        let mut root = Junits::new(plain(&record.playbook));
        root.set_time(duration(record.seconds));
        let mut models: Vec<&str> = Vec::new();
        for case in &record.cases {
            if !models.contains(&case.model.as_str()) {
                models.push(&case.model);
            }
        }
        for model in models {
            root.add_test_suite(self.suite(record, model));
        }
        let mut xml = Vec::new();
        root.serialize(&mut xml).expect("writing to memory cannot fail");
        if self.options.junit_dialect == JunitDialect::Strict { without_root_skipped(xml) } else { xml }
    }

    fn suite(&self, record: &RunRecord, model: &str) -> TestSuite {
        let mut suite = TestSuite::new(format!("{}.{}", plain(&record.playbook), plain(model)));
        suite.extra.insert("timestamp".into(), plain(&record.started_at).into());
        for (key, value) in &record.provenance {
            suite.add_property(self.property(key, value));
        }
        if let Some(signal) = &record.interrupted {
            suite.add_property(self.property("interrupted", signal));
        }
        if record.not_run > 0 {
            suite.add_property(self.property("not_run", &record.not_run.to_string()));
        }
        let mut seconds = 0.0;
        for case in record.cases.iter().filter(|c| c.model == model) {
            seconds += case.seconds;
            suite.add_test_case(self.case(record, case));
        }
        suite.set_time(duration(seconds));
        suite
    }

    fn case(&self, record: &RunRecord, case: &CaseRecord) -> TestCase {
        let mut test = TestCase::new(one_line(&case.id), self.status(case));
        let class = [&record.playbook, &case.model, &case.artifact].map(|part| component(part));
        test.set_classname(class.join("."));
        test.set_time(duration(case.seconds));
        match self.options.junit_dialect {
            JunitDialect::Full => {
                test.extra.insert("file".into(), plain(&case.file).into());
                test.extra.insert("line".into(), case.line.to_string().into());
                if (self.node, self.attribute) != NAMES_ONLY {
                    test.add_properties(self.properties(case));
                }
            }
            JunitDialect::Strict if case.verdict == Verdict::Pass => {
                let lines: Vec<String> = summary(case);
                test.set_system_out(self.text(&lines.join("\n")));
            }
            JunitDialect::Strict => {}
        }
        test
    }

    fn status(&self, case: &CaseRecord) -> TestCaseStatus {
        match &case.verdict {
            Verdict::Pass => TestCaseStatus::success(),
            Verdict::Skip { reason } => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(self.message(reason));
                status
            }
            Verdict::Inconclusive { message } => match self.options.junit_inconclusive {
                JunitInconclusive::Failure => self.trouble(case, NonSuccessKind::Failure, "inconclusive"),
                JunitInconclusive::Skipped => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(self.message(&format!("inconclusive: {message}")));
                    status
                }
            },
            Verdict::Fail { kind, .. } => self.trouble(case, NonSuccessKind::Failure, kind),
            Verdict::Error { kind, .. } => self.trouble(case, NonSuccessKind::Error, kind),
        }
    }

    fn trouble(&self, case: &CaseRecord, failure: NonSuccessKind, kind: &str) -> TestCaseStatus {
        let lines = summary(case);
        let mut status = TestCaseStatus::non_success(failure);
        status.set_type(self.message(kind)).set_message(self.message(&lines[0]));
        let mut text = lines.join("\n");
        for finding in &case.findings {
            text.push_str(&format!("\n{}", found(finding)));
        }
        if !case.detail.is_empty() {
            text.push_str(&format!("\n\n{}", plain(&case.detail)));
        }
        let reproduce = format!("\n\nreproduce: {}", one_line(&case.reproduce));
        // The command must survive a cut.
        let room = self.node.saturating_sub(reproduce.len());
        if self.node > 0 {
            status.set_description(cut(&text, room) + &cut(&reproduce, self.node));
        }
        status
    }

    /// Everything that was measured, as numbers that dashboards can plot.
    fn properties(&self, case: &CaseRecord) -> Vec<Property> {
        let mut all = vec![self.property("gate", &case.gate), self.property("suite", &case.suite)];
        if let Some(id) = &case.contract_id {
            all.push(self.property("contract", id));
        }
        if let Some(adapter) = &case.adapter {
            all.push(self.property("adapter", &adapter.to_string()));
            all.push(self.property("adapter.features", &adapter.features.join(" ")));
        }
        for m in &case.measurements {
            let name = one_line(&m.metric);
            all.push(self.property(&format!("metric.{name}"), &number(m.value)));
            all.push(self.property(&format!("n.{name}"), &m.n.to_string()));
            if let Some(l) = &m.limit {
                let shown = format!("{} (source {})", super::text::limit(l), one_line(&l.source));
                all.push(self.property(&format!("limit.{name}"), &shown));
            }
            if let Some(i) = &m.interval {
                all.push(self.property(&format!("metric.{name}.ci_low"), &number(i.low)));
                all.push(self.property(&format!("metric.{name}.ci_high"), &number(i.high)));
            }
            if let Some(floor) = m.floor {
                all.push(self.property(&format!("metric.{name}.floor"), &number(floor)));
            }
        }
        if let Some(room) = case.measurements.first().and_then(headroom) {
            all.push(self.property("headroom", &room));
        }
        if let Some(reason) = &case.expected_failure {
            all.push(self.property("expected_failure", reason));
        }
        all.push(self.property("reproduce", &case.reproduce));
        all
    }

    fn property(&self, name: &str, value: &str) -> Property {
        Property::new(self.message(name), self.message(value))
    }

    /// Text for an attribute, where a line end would become a space.
    fn message(&self, text: &str) -> String {
        cut(&one_line(text), self.attribute)
    }

    fn text(&self, text: &str) -> String {
        cut(text, self.node)
    }
}

/// First line `measured … limit … (source …)` where that decided, then what the gate says, then the other
/// measurements.
fn summary(case: &CaseRecord) -> Vec<String> {
    let mut lines = Vec::new();
    let decided = |m: &&Measurement| m.limit.is_some() && !matches!(&case.verdict, Verdict::Error { .. });
    let deciding = case.measurements.first().filter(decided).map(measured);
    lines.extend(deciding.clone());
    if !message(case).is_empty() {
        lines.push(one_line(message(case)));
    }
    lines.extend(case.measurements.iter().map(measured).filter(|line| Some(line) != deciding.as_ref()));
    if let Some(adapter) = &case.adapter {
        lines.push(format!("adapter: {}", one_line(&adapter.to_string())));
    }
    if let Some(reason) = &case.expected_failure {
        lines.push(format!("expected to fail: {}", one_line(reason)));
    }
    if lines.is_empty() {
        lines.push("no message".to_owned());
    }
    lines
}

/// A part of a class name: consumers split at dots.
fn component(name: &str) -> String {
    let shown = one_line(name).replace('.', "_");
    if shown.is_empty() { "_".to_owned() } else { shown }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The crate always writes `skipped` on the root, which the Jenkins schema does not know.
fn without_root_skipped(xml: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(xml).expect("the writer writes UTF-8");
    let Some(start) = text.find("<testsuites") else { return text.into_bytes() };
    let end = text[start..].find('>').map_or(text.len(), |e| start + e);
    let tag = &text[start..end];
    let Some(at) = tag.find(" skipped=\"") else { return text.into_bytes() };
    let value = at + " skipped=\"".len();
    let close = tag[value..].find('"').map_or(tag.len(), |q| value + q + 1);
    format!("{}{}{}{}", &text[..start], &tag[..at], &tag[close..], &text[end..]).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn xml(record: &RunRecord, options: RenderOptions) -> String {
        String::from_utf8(Junit.render(record, &options)).expect("UTF-8")
    }

    fn count(xml: &str, needle: &str) -> usize {
        xml.matches(needle).count()
    }

    #[test]
    fn every_case_is_one_testcase_with_at_most_one_trouble() {
        let record = fixture::sample();
        let xml = xml(&record, RenderOptions::default());
        assert_eq!(count(&xml, "<testcase "), record.cases.len());
        for case in xml.split("<testcase ").skip(1) {
            let troubles = count(case, "<failure ") + count(case, "<error ") + count(case, "<skipped ");
            assert!(troubles <= 1, "{case}");
        }
        let root = xml.lines().nth(1).expect("the root");
        for attribute in ["name=\"", "tests=\"", "failures=\"", "errors=\"", "time=\""] {
            assert!(root.contains(attribute), "{root}");
        }
        assert_eq!(count(&xml, "<testsuite "), 4, "one for each model");
        assert_eq!(count(&xml, " timestamp=\""), 4);
    }

    #[test]
    fn the_root_counts_are_those_of_the_body() {
        let record = fixture::sample();
        for options in [
            RenderOptions::default(),
            RenderOptions { junit_inconclusive: JunitInconclusive::Skipped, ..RenderOptions::default() },
            RenderOptions { junit_dialect: JunitDialect::Strict, ..RenderOptions::default() },
        ] {
            let xml = xml(&record, options);
            let root = xml.lines().nth(1).expect("the root");
            assert!(root.contains(&format!("tests=\"{}\"", record.cases.len())), "{root}");
            assert!(root.contains(&format!("failures=\"{}\"", count(&xml, "<failure "))), "{root}");
            assert!(root.contains(&format!("errors=\"{}\"", count(&xml, "<error "))), "{root}");
        }
    }

    #[test]
    fn a_failure_begins_with_what_was_measured() {
        let xml = xml(&fixture::sample(), RenderOptions::default());
        let text = xml.split("type=\"mismatches\">").nth(1).expect("a failure");
        assert_eq!(
            text.lines().next(),
            Some("measured mismatches 7 tokens (n 32), limit ≤ 5 (source playbooks/ci.yaml:41)")
        );
    }

    #[test]
    fn intervals_and_floors_are_properties() {
        let xml = xml(&fixture::sample(), RenderOptions::default());
        for (name, value) in [("ci_low", "0.0377"), ("ci_high", "0.0451"), ("floor", "7.200e-5")] {
            let property = format!("<property name=\"metric.kl_mean.{name}\" value=\"{value}\"/>");
            assert!(xml.contains(&property), "{property}");
        }
        assert!(xml.contains("likely cause: rows-permuted"));
    }

    #[test]
    fn the_adapter_of_a_case_is_in_either_dialect() {
        let full = xml(&fixture::sample(), RenderOptions::default());
        let named = "value=\"NVIDIA L4 (discrete, Vulkan, NVIDIA 570.86.15)\"/>";
        assert_eq!(count(&full, &format!("<property name=\"adapter\" {named}")), 5, "each suite, one case");
        assert!(full.contains("name=\"adapter.features\" value=\"SHADER_F16 SUBGROUP TIMESTAMP_QUERY\""));
        let strict = RenderOptions { junit_dialect: JunitDialect::Strict, ..RenderOptions::default() };
        assert!(xml(&fixture::sample(), strict).contains("adapter: NVIDIA L4 (discrete, Vulkan"));
    }

    #[test]
    fn strict_leaves_out_what_the_jenkins_schema_does_not_know() {
        let strict = RenderOptions { junit_dialect: JunitDialect::Strict, ..RenderOptions::default() };
        let xml = xml(&fixture::sample(), strict);
        let root = xml.lines().nth(1).expect("the root");
        assert!(!root.contains("skipped"), "{root}");
        for case in xml.split("<testcase ").skip(1) {
            let tag = case.split('>').next().expect("a tag");
            assert!(!tag.contains(" file=") && !tag.contains(" line="), "{tag}");
            let body = case.split("</testcase>").next().expect("a body");
            assert!(!body.contains("<properties>"), "{body}");
        }
    }

    #[test]
    fn class_names_have_exactly_three_parts() {
        let mut record = fixture::sample();
        record.cases[0].model = "qwen2.5-0.5b".into();
        record.cases[0].artifact = String::new();
        let xml = xml(&record, RenderOptions::default());
        assert!(xml.contains("classname=\"ci.qwen2_5-0_5b._\""));
        for class in xml.split("classname=\"").skip(1).map(|c| c.split('"').next().expect("a quote")) {
            assert_eq!(class.split('.').count(), 3, "{class}");
        }
    }

    #[test]
    fn names_are_unique() {
        let xml = xml(&fixture::sample(), RenderOptions::default());
        let mut names: Vec<&str> = xml.split("<testcase name=\"").skip(1).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn hostile_text_stays_text() {
        let mut record = fixture::sample();
        let hostile =
            "\u{0}\u{8}\u{b}\u{1b}[31m]]>&<script>\u{fffe}\u{ffff}\u{202e}\"'\r\n\u{1b}]0;x\u{7}end";
        let case = record.cases.iter_mut().find(|c| matches!(c.verdict, Verdict::Fail { .. })).expect("one");
        case.detail = hostile.into();
        case.verdict = Verdict::Fail { kind: hostile.into(), message: hostile.into() };
        case.id = hostile.into();
        record.provenance.insert(hostile.into(), hostile.into());
        for junit_dialect in [JunitDialect::Full, JunitDialect::Strict] {
            let xml = xml(&record, RenderOptions { junit_dialect, ..RenderOptions::default() });
            let legal =
                |c: char| matches!(c, '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
            assert!(xml.chars().all(legal));
            assert!(!xml.contains("<script>") && xml.contains("end"));
        }
    }

    /// Long texts are cut with a note, the command stays, and many of them still fit into one file.
    #[test]
    fn nodes_and_files_have_an_end() {
        let mut record = fixture::sample();
        let failed =
            record.cases.iter().position(|c| matches!(c.verdict, Verdict::Fail { .. })).expect("one");
        record.cases[failed].detail = "&".repeat(300_000);
        let one = xml(&record, RenderOptions::default());
        let node = one.split("<failure ").nth(1).expect("one").split("</failure>").next().expect("closed");
        assert!(node.replace("&amp;", "&").len() < 66_000, "{}", node.len());
        assert!(node.contains("bytes omitted)") && node.contains("reproduce: apr-qa-runner"));
        let template = record.cases[failed].clone();
        for n in 0..200 {
            record.cases.push(CaseRecord { id: format!("case/{n}"), ..template.clone() });
        }
        let many = xml(&record, RenderOptions::default());
        assert!(many.len() <= LARGEST_FILE, "{}", many.len());
        assert_eq!(count(&many, "<testcase "), record.cases.len());
        assert!(many.contains("bytes omitted)"));
    }

    #[test]
    fn times_that_are_none_do_no_harm() {
        let mut record = fixture::sample();
        for (case, seconds) in record.cases.iter_mut().zip([f64::NAN, f64::INFINITY, -1.0]) {
            case.seconds = seconds;
        }
        assert!(!xml(&record, RenderOptions::default()).contains("NaN"));
    }
}
