//! What a run comes to: counts, the word for its exit code, and which cases a reader must see first.

use crate::record::{CaseRecord, RunRecord, Verdict, exit};

/// Cases by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Passed, expected failures included.
    pub passed: usize,
    /// Of the passed: those that failed as expected.
    pub expected_failures: usize,
    /// Failed.
    pub failed: usize,
    /// Inconclusive.
    pub inconclusive: usize,
    /// Could not be measured.
    pub errors: usize,
    /// Skipped.
    pub skipped: usize,
}

impl Counts {
    /// Counts `cases`.
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a CaseRecord>) -> Counts {
        let mut counts = Counts::default();
        for case in cases {
            match case.verdict {
                Verdict::Pass => counts.passed += 1,
                Verdict::Fail { .. } => counts.failed += 1,
                Verdict::Inconclusive { .. } => counts.inconclusive += 1,
                Verdict::Skip { .. } => counts.skipped += 1,
                Verdict::Error { .. } => counts.errors += 1,
            }
            if case.verdict == Verdict::Pass && case.expected_failure.is_some() {
                counts.expected_failures += 1;
            }
        }
        counts
    }

    /// All cases.
    pub fn total(&self) -> usize {
        self.passed + self.failed + self.inconclusive + self.errors + self.skipped
    }

    /// `12 passed (1 as expected failure), 1 failed, 2 skipped`: what is not zero.
    pub fn in_words(&self) -> String {
        let mut words = vec![format!("{} passed", self.passed)];
        if self.expected_failures > 0 {
            words[0].push_str(&format!(" ({} by an expected failure)", self.expected_failures));
        }
        let others = [
            (self.failed, "failed"),
            (self.errors, if self.errors == 1 { "error" } else { "errors" }),
            (self.inconclusive, "inconclusive"),
            (self.skipped, "skipped"),
        ];
        words.extend(others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        words.join(", ")
    }
}

/// The verdict of the run in one word, from its exit code: `pass`, `fail`, `error`, `environment`,
/// `inconclusive`, `nothing`, `interrupted`.
pub fn outcome(record: &RunRecord) -> &'static str {
    match record.exit_code {
        exit::OK => "pass",
        exit::FAILED => "fail",
        exit::ENVIRONMENT => "environment",
        exit::INCONCLUSIVE => "inconclusive",
        exit::NOTHING => "nothing",
        exit::SIGINT | exit::SIGTERM => "interrupted",
        // 2 is never in a record; a code that nobody knows is no pass.
        _ => "error",
    }
}

/// What the exit code of the run means, as a sentence.
pub(super) fn meaning(record: &RunRecord) -> &'static str {
    match record.exit_code {
        exit::OK => "Every selected case passed, or was skipped where the playbook allows it.",
        exit::FAILED => "At least one gate failed.",
        exit::ENVIRONMENT => "The environment is at fault: a reference, an adapter or a report path.",
        exit::ERROR => "At least one case could not be measured.",
        exit::INCONCLUSIVE => "At least one case is inconclusive, and none failed.",
        exit::NOTHING => "Nothing was selected, or a required suite was skipped as a whole.",
        exit::SIGINT | exit::SIGTERM => "The run was interrupted; what ran before stands here.",
        _ => "No success.",
    }
}

/// The word for a verdict.
pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail { .. } => "fail",
        Verdict::Inconclusive { .. } => "inconclusive",
        Verdict::Skip { .. } => "skip",
        Verdict::Error { .. } => "error",
    }
}

/// One line that says why: the message of the verdict, empty for a pass.
pub(super) fn message(case: &CaseRecord) -> &str {
    match &case.verdict {
        Verdict::Pass => "",
        Verdict::Fail { message, .. }
        | Verdict::Inconclusive { message }
        | Verdict::Error { message, .. } => message,
        Verdict::Skip { reason } => reason,
    }
}

/// The cases that did not pass and were not skipped, worst first: failures, errors, inconclusive; in plan order
/// within each.
pub(super) fn failures(record: &RunRecord) -> Vec<&CaseRecord> {
    let rank = |case: &CaseRecord| match case.verdict {
        Verdict::Fail { .. } => Some(0),
        Verdict::Error { .. } => Some(1),
        Verdict::Inconclusive { .. } => Some(2),
        Verdict::Pass | Verdict::Skip { .. } => None,
    };
    let mut ranked: Vec<_> = record.cases.iter().filter_map(|c| rank(c).map(|r| (r, c))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, case)| case).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn every_case_is_counted_once() {
        let record = fixture::sample();
        let counts = Counts::of(&record.cases);
        assert_eq!(counts.total(), record.cases.len());
        let all = [counts.passed, counts.failed, counts.inconclusive, counts.errors, counts.skipped];
        assert!(all.iter().all(|n| *n > 0), "the sample has every verdict: {counts:?}");
        let not_passed = counts.failed + counts.errors + counts.inconclusive;
        assert_eq!(failures(&record).len(), not_passed);
    }

    #[test]
    fn the_worst_comes_first() {
        let record = fixture::sample();
        let words: Vec<&str> = failures(&record).iter().map(|c| word(&c.verdict)).collect();
        let mut sorted = words.clone();
        sorted.sort_by_key(|w| ["fail", "error", "inconclusive"].iter().position(|x| x == w));
        assert_eq!(words, sorted);
    }

    #[test]
    fn an_unknown_code_is_no_pass() {
        let mut record = fixture::sample();
        for code in 0..=255u8 {
            record.exit_code = code;
            assert_eq!(outcome(&record) == "pass", code == 0, "{code}");
        }
    }
}
