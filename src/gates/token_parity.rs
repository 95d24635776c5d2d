//! `token-parity`: of the oracle's tokens, at most so many come out otherwise.

use super::divergence::of_tokens;
use super::evidence::Bound;
use super::trial::usage;
use super::{Evidence, Gate, Trial};
use crate::oracle::Oracle;
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::{argmax, count_mismatches};
use crate::subject::Answer;

/// Mismatches against the oracle's ids. Refuted by one mismatch more than the limit.
///
/// Free running counts what the artifact generates by itself, where one early slip drags every later token along;
/// teacher forced asks at each of the oracle's own prefixes for the one next token.
pub struct TokenParity;

const PARAMS: &[Param] = &[
    Param {
        name: "max_mismatches",
        doc: "most tokens that may differ from the oracle's",
        default: Some(ParamDefault::Required),
    },
    Param {
        name: "counting",
        doc: "free_running: the artifact's own text; teacher_forced: next token after each of the oracle's prefixes",
        default: Some(ParamDefault::Choice(&["free_running", "teacher_forced"])),
    },
];

impl Gate for TokenParity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "token-parity", per_prompt: true, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "Greedy tokens differ from the oracle's in at most `max_mismatches` places."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (limit, limit_source) = trial.settings.number("max_mismatches")?;
        let (oracle, oracle_source) = trial.oracle()?;
        let (found, metric) = match trial.settings.word("counting")? {
            "free_running" => (free_running(trial, &oracle)?, "mismatches"),
            "teacher_forced" => (teacher_forced(trial, &oracle)?, "mismatches_teacher_forced"),
            other => {
                return Err(usage(format!("counting `{other}` is neither free_running nor teacher_forced")));
            }
        };
        if found.is_empty() {
            return Err(Unable::Vacuous("the artifact generated no token".into()));
        }
        let mut evidence = Evidence::new();
        let mismatches = count_mismatches(&oracle.tokens, &found);
        let n = oracle.tokens.len() as u64;
        evidence.hold(metric, mismatches as f64, "tokens", n, Bound::at_most(limit, limit_source));
        if mismatches > 0 {
            evidence.tell(&of_tokens(trial.subject, &oracle.tokens, &found)?);
            evidence.tell(&format!("oracle: {oracle_source}"));
        }
        evidence.judge()
    }
}

fn free_running(trial: &Trial, oracle: &Oracle) -> Answer<Vec<u32>> {
    Ok(trial.generate(trial.subject, oracle.max_new_tokens)?.tokens.clone())
}

/// The best next token after the prompt and each of the oracle's prefixes; an impossible id where there is none.
fn teacher_forced(trial: &Trial, oracle: &Oracle) -> Answer<Vec<u32>> {
    let (_, prompt) = trial.one_prompt()?;
    let prompt_ids = trial.subject.encode(prompt, true)?;
    let Some(last) = prompt_ids.len().checked_sub(1) else {
        return Err(Unable::Vacuous("the prompt has no tokens".into()));
    };
    // What follows the last recorded token is not recorded, so that token is not fed.
    let fed: Vec<u32> = prompt_ids.iter().chain(&oracle.tokens[..oracle.tokens.len() - 1]).copied().collect();
    let rows = trial.subject.logits(&fed)?;
    Ok((last..fed.len()).map(|i| rows.row(i).and_then(argmax).unwrap_or(u32::MAX)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    /// After `b` it says `x` and ends, where the oracle says `c`, `d` and ends.
    fn slips_once() -> FakeSubject {
        let mut broken = FakeSubject::new("int4");
        broken.next.insert(1, 5);
        broken
    }

    #[test]
    fn a_sound_artifact_passes_by_either_count() {
        for counting in ["free_running", "teacher_forced"] {
            let bench = Bench::default().limit("max_mismatches", 0.0).word("counting", counting);
            let judged = passes(bench.judge(&TokenParity, &FakeSubject::new("int8"), None));
            assert_eq!(judged.measurements[0].n, 4);
        }
    }

    #[test]
    fn one_slip_counts_once_when_forced_and_drags_the_rest_along_when_free() {
        let bench = Bench::default().limit("max_mismatches", 1.0);
        let judged = fails(bench.judge(&TokenParity, &slips_once(), None), "mismatches");
        assert_eq!(judged.measurements[0].value, 3.0);
        let forced = bench.word("counting", "teacher_forced");
        let judged = passes(forced.judge(&TokenParity, &slips_once(), None));
        assert_eq!(judged.measurements[0].value, 1.0);
        assert!(judged.detail.contains("\"c\" (id 2)"), "{}", judged.detail);
    }

    #[test]
    fn an_unknown_count_and_a_missing_limit_are_refused() {
        let bench = Bench::default().limit("max_mismatches", 1.0).word("counting", "guessing");
        assert!(bench.judge(&TokenParity, &slips_once(), None).is_err());
        assert!(Bench::default().judge(&TokenParity, &slips_once(), None).is_err());
    }
}
