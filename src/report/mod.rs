//! Reports: pure projections of a [`RunRecord`], one file each.
//!
//! No report sees a model, a gate, the environment or the clock: the same record gives the same bytes, whether it
//! comes from the run itself or from its evidence file.

mod chart;
pub mod comparison;
mod detection;
pub mod evidence;
pub mod github;
mod html;
mod json;
mod junit;
mod markdown;
pub mod terminal;
mod text;
mod verdict;

#[cfg(test)]
mod fixture;

pub use evidence::Replay;
pub use junit::{JunitDialect, JunitInconclusive};
pub use markdown::markdown_within;
pub use verdict::{Counts, outcome};

use crate::record::RunRecord;

/// A report: a file that a run leaves behind.
pub trait Report: Sync {
    /// `junit`, `markdown`, `json`.
    fn id(&self) -> &'static str;

    /// Name of the file in the report folder.
    fn file_name(&self) -> &'static str;

    /// Whether this report has anything to say of the record; one that has not leaves no file.
    fn applies(&self, _record: &RunRecord) -> bool {
        true
    }

    /// The bytes of the file.
    fn render(&self, record: &RunRecord, options: &RenderOptions) -> Vec<u8>;
}

/// All reports. The evidence log is not among them: it is written while the run goes on, and they follow from it.
pub const REPORTS: &[&dyn Report] = &[
    &junit::Junit,
    &markdown::Markdown,
    &html::Html,
    &json::RecordJson,
    &detection::DetectionPage,
    &detection::DetectionJson,
];

/// What the command line may choose about reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RenderOptions {
    /// `--junit-dialect`.
    pub junit_dialect: JunitDialect,
    /// `--junit-inconclusive`.
    pub junit_inconclusive: JunitInconclusive,
}

/// The report of that id.
pub fn report(id: &str) -> Option<&'static dyn Report> {
    REPORTS.iter().copied().find(|r| r.id() == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// The bytes against `reports/samples/<name>`, or the sample rewritten under `UPDATE_GOLDENS=1`.
    fn golden(name: &str, actual: &[u8]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/samples").join(name);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is writable");
            return fs::write(&path, actual).expect("the sample is writable");
        }
        let expected =
            fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run with UPDATE_GOLDENS=1", path.display()));
        if expected != actual {
            let (old, new) = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(actual));
            let diff = similar::TextDiff::from_lines(old.as_ref(), new.as_ref());
            panic!("{name} differs; run with UPDATE_GOLDENS=1\n{}", diff.unified_diff());
        }
    }

    #[test]
    fn the_samples_are_what_the_sample_record_gives() {
        let record = fixture::sample();
        for report in REPORTS.iter().filter(|report| report.applies(&record)) {
            golden(report.file_name(), &report.render(&record, &RenderOptions::default()));
        }
        let strict = RenderOptions { junit_dialect: JunitDialect::Strict, ..RenderOptions::default() };
        golden("junit-strict.xml", &junit::Junit.render(&record, &strict));
        golden("evidence.jsonl", evidence::render(&record).as_bytes());
        golden("terminal.txt", terminal::summary(&record, false).as_bytes());
        let detection = fixture::detection();
        for id in ["detection", "detection-json"] {
            let report = report(id).expect("in the table");
            golden(report.file_name(), &report.render(&detection, &RenderOptions::default()));
        }
        golden("github.txt", github::annotations(&record).as_bytes());
    }

    #[test]
    fn ids_and_file_names_are_unique() {
        for (i, a) in REPORTS.iter().enumerate() {
            for b in &REPORTS[i + 1..] {
                assert!(a.id() != b.id() && a.file_name() != b.file_name());
            }
        }
        assert!(report("junit").is_some() && report("html").is_some() && report("xml").is_none());
    }

    #[test]
    fn every_report_follows_from_the_evidence_alone() {
        for record in [fixture::sample(), fixture::detection()] {
            let replay = RunRecord::from_evidence("evidence.jsonl", evidence::render(&record).as_bytes());
            let replay = replay.expect("valid evidence");
            for report in REPORTS {
                let options = RenderOptions::default();
                assert_eq!(report.render(&replay.record, &options), report.render(&record, &options));
            }
        }
    }
}
