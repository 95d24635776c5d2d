//! Exit codes are an API: what the cases say, as one number.

use super::{CaseRecord, Verdict};

/// Every selected case passed, or was skipped where the playbook allows it.
pub const OK: u8 = 0;
/// At least one gate failed; a refused artifact is among these.
pub const FAILED: u8 = 1;
/// Wrong usage, or an invalid playbook or contract; nothing was run.
pub const USAGE: u8 = 2;
/// The environment: a reference missing or unreadable, an adapter or program absent, a report not writable.
pub const ENVIRONMENT: u8 = 3;
/// At least one case ended in an Error.
pub const ERROR: u8 = 4;
/// At least one case was inconclusive.
pub const INCONCLUSIVE: u8 = 5;
/// Nothing was selected, or a required suite was skipped as a whole.
pub const NOTHING: u8 = 6;
/// Interrupted by SIGINT.
pub const SIGINT: u8 = 130;
/// Interrupted by SIGTERM.
pub const SIGTERM: u8 = 143;

/// Kinds of [`Verdict::Error`] that blame the environment rather than the case: exit code 3.
pub const ENVIRONMENT_KINDS: &[&str] = &["reference", "missing", "environment"];

/// The exit code that belongs to `cases`, where several hold the first of 1, 4, 3, 6, 5.
///
/// `required_suites` are the playbook's; one that has cases and skipped them all counts as nothing selected.
/// An interruption and an unwritable report are the caller's to say.
pub fn exit_code(cases: &[CaseRecord], required_suites: &[String]) -> u8 {
    let mut held = [false; 7];
    held[usize::from(NOTHING)] =
        cases.is_empty() || required_suites.iter().any(|suite| skipped_as_a_whole(cases, suite));
    for case in cases {
        let code = match &case.verdict {
            Verdict::Pass | Verdict::Skip { .. } => OK,
            Verdict::Fail { .. } => FAILED,
            Verdict::Inconclusive { .. } => INCONCLUSIVE,
            Verdict::Error { kind, .. } if ENVIRONMENT_KINDS.contains(&kind.as_str()) => ENVIRONMENT,
            Verdict::Error { .. } => ERROR,
        };
        held[usize::from(code)] = true;
    }
    let precedence = [FAILED, ERROR, ENVIRONMENT, NOTHING, INCONCLUSIVE];
    precedence.into_iter().find(|code| held[usize::from(*code)]).unwrap_or(OK)
}

fn skipped_as_a_whole(cases: &[CaseRecord], suite: &str) -> bool {
    let mut of_suite = cases.iter().filter(|c| c.suite == suite).peekable();
    of_suite.peek().is_some() && of_suite.all(|c| matches!(c.verdict, Verdict::Skip { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(suite: &str, verdict: Verdict) -> CaseRecord {
        CaseRecord {
            id: format!("{suite}/gate/model/artifact"),
            suite: suite.into(),
            gate: "gate".into(),
            contract_id: None,
            model: "model".into(),
            artifact: "artifact".into(),
            backend: String::new(),
            adapter: None,
            prompt: None,
            file: "p.yaml".into(),
            line: 1,
            verdict,
            expected_failure: None,
            optional: true,
            measurements: Vec::new(),
            findings: Vec::new(),
            detail: String::new(),
            charts: Vec::new(),
            departures: Vec::new(),
            detection: None,
            reproduce: String::new(),
            seconds: 0.0,
        }
    }

    fn error(kind: &str) -> Verdict {
        Verdict::Error { kind: kind.into(), message: "m".into() }
    }

    /// One verdict for each code that cases can bring about, in the order of precedence.
    fn by_precedence() -> Vec<(u8, CaseRecord)> {
        let fail = Verdict::Fail { kind: "mismatches".into(), message: "m".into() };
        vec![
            (FAILED, case("a", fail)),
            (ERROR, case("a", error("crash"))),
            (ENVIRONMENT, case("a", error("reference"))),
            (NOTHING, case("required", Verdict::Skip { reason: "r".into() })),
            (INCONCLUSIVE, case("a", Verdict::Inconclusive { message: "m".into() })),
            (OK, case("a", Verdict::Pass)),
        ]
    }

    #[test]
    fn each_row() {
        let required = ["required".to_owned()];
        for (code, case) in by_precedence() {
            assert_eq!(exit_code(&[case], &required), code);
        }
        assert_eq!(exit_code(&[], &[]), NOTHING, "nothing was selected");
        let refused = Verdict::Fail { kind: "refused".into(), message: "m".into() };
        assert_eq!(exit_code(&[case("a", refused)], &[]), FAILED);
        for kind in ENVIRONMENT_KINDS {
            assert_eq!(exit_code(&[case("a", error(kind))], &[]), ENVIRONMENT);
        }
        for kind in ["timeout", "vacuous", "io"] {
            assert_eq!(exit_code(&[case("a", error(kind))], &[]), ERROR);
        }
    }

    #[test]
    fn each_pair_has_the_first_in_precedence() {
        let required = ["required".to_owned()];
        let all = by_precedence();
        for (i, (first, a)) in all.iter().enumerate() {
            for (_, b) in &all[i..] {
                assert_eq!(exit_code(&[a.clone(), b.clone()], &required), *first);
                assert_eq!(exit_code(&[b.clone(), a.clone()], &required), *first);
            }
        }
    }

    #[test]
    fn a_required_suite_is_skipped_only_as_a_whole() {
        let required = ["required".to_owned(), "not-selected".to_owned()];
        let skip = case("required", Verdict::Skip { reason: "r".into() });
        assert_eq!(exit_code(&[skip.clone(), case("required", Verdict::Pass)], &required), OK);
        assert_eq!(exit_code(&[skip.clone(), case("other", Verdict::Pass)], &required), NOTHING);
        assert_eq!(exit_code(&[skip], &[]), OK, "not required");
    }
}
