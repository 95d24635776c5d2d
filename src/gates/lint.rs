//! `lint`: nobody who reads the file stumbles over it.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::Judgement;
use crate::subject::Answer;

/// The rules of `lint`. Refuted by one issue as grave as `fail_level`.
pub struct Lint;

/// From the gravest down, as rules name them.
const LEVELS: &[&str] = &["error", "warn", "info"];

const PARAMS: &[Param] = &[Param {
    name: "fail_level",
    doc: "the least grave issue that fails",
    default: Some(ParamDefault::Choice(LEVELS)),
}];

impl Gate for Lint {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "lint", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "No rule of lint finds an issue of the severity that fails, or a graver one."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let fail_level = trial.settings.word("fail_level")?;
        let linted = trial.subject.lint()?;
        // A level that is not in the table would be graver than all: it must not slip through.
        let rank = |level: &str| LEVELS.iter().position(|l| *l == level).unwrap_or(0);
        let (grave, other): (Vec<_>, Vec<_>) =
            linted.issues.iter().partition(|issue| rank(&issue.level) <= rank(fail_level));
        let mut evidence = Evidence::new();
        for issue in &grave {
            evidence.find(&issue.at, format!("{} {}: {}", issue.level, issue.rule, issue.what));
        }
        for issue in &other {
            evidence.tell(&format!("{} {}: {}: {}", issue.level, issue.rule, issue.at, issue.what));
        }
        let source = format!("lint rules, fail_level {fail_level}");
        evidence.hold("issues", grave.len() as f64, "", linted.rules, Bound::zero(source));
        evidence.note("lesser_issues", other.len() as f64, "", linted.rules);
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::LintIssue;
    use crate::subject::fake::FakeSubject;

    fn with_issue(level: &str) -> FakeSubject {
        let mut subject = FakeSubject::new("apr");
        subject.lint.issues.push(LintIssue {
            level: level.into(),
            rule: "license-missing".into(),
            at: "license".into(),
            what: "is absent".into(),
        });
        subject
    }

    #[test]
    fn a_lesser_issue_passes_and_is_told() {
        let judged = passes(Bench::default().judge(&Lint, &with_issue("warn"), None));
        assert!(judged.detail.contains("license-missing"), "{}", judged.detail);
    }

    #[test]
    fn an_issue_of_the_level_fails_with_its_place() {
        let judged = fails(Bench::default().judge(&Lint, &with_issue("error"), None), "issues");
        assert_eq!(judged.findings[0].subject, "license");
        fails(Bench::default().word("fail_level", "warn").judge(&Lint, &with_issue("warn"), None), "issues");
        fails(Bench::default().judge(&Lint, &with_issue("critical"), None), "issues");
    }

    #[test]
    fn no_rules_are_no_lint() {
        let mut subject = FakeSubject::new("apr");
        subject.lint.rules = 0;
        assert!(matches!(Bench::default().judge(&Lint, &subject, None), Err(Unable::Vacuous(_))));
    }
}
