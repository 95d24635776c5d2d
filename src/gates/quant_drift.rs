//! `quant-drift`: the finer encoding is no further from the oracle than the coarser one, but for a little slack.

use super::divergence::of_tokens;
use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::stats::count_mismatches;
use crate::subject::Answer;

/// Mismatches of the artifact (int8) against those of another (int4), both counted against the oracle.
/// Refuted where the artifact has more than the other's plus the slack.
pub struct QuantDrift;

const PARAMS: &[Param] = &[Param {
    name: "slack",
    doc: "how many mismatches more than the coarser artifact's are allowed",
    default: Some(ParamDefault::Number(1.0)),
}];

impl Gate for QuantDrift {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::Artifact;
        GateInfo { id: "quant-drift", per_prompt: true, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "The artifact has at most `slack` more mismatches against the oracle than the coarser artifact has."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (slack, slack_source) = trial.settings.number("slack")?;
        let (oracle, _) = trial.oracle()?;
        let coarser = trial.reference()?;
        let fine = trial.generate(trial.subject, oracle.max_new_tokens)?;
        let coarse = trial.generate(coarser, oracle.max_new_tokens)?;
        // Two silent artifacts are equally far from any oracle.
        for (side, tokens) in [(trial.subject, &fine.tokens), (coarser, &coarse.tokens)] {
            if tokens.is_empty() {
                return Err(Unable::Vacuous(format!("{} generated no token", side.info().artifact)));
            }
        }
        let here = count_mismatches(&oracle.tokens, &fine.tokens);
        let there = count_mismatches(&oracle.tokens, &coarse.tokens);
        let other = &coarser.info().artifact;
        let bound = Bound::at_most(
            there as f64 + slack,
            format!("{there} of {other} + slack {slack}, {slack_source}"),
        );
        let mut evidence = Evidence::new();
        evidence.hold("mismatches", here as f64, "tokens", oracle.tokens.len() as u64, bound);
        evidence.note(&format!("mismatches_of_{other}"), there as f64, "tokens", oracle.tokens.len() as u64);
        evidence.tell(&of_tokens(trial.subject, &oracle.tokens, &fine.tokens)?);
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    fn slips_at(token: u32) -> FakeSubject {
        let mut broken = FakeSubject::new("slipping");
        broken.next.insert(token, 5);
        broken
    }

    #[test]
    fn a_finer_artifact_that_is_nearer_passes() {
        let judged = passes(Bench::default().compare(&QuantDrift, &FakeSubject::new("int8"), &slips_at(1)));
        assert_eq!(judged.measurements[1].value, 3.0);
    }

    #[test]
    fn a_finer_artifact_that_is_further_fails() {
        let judged = fails(
            Bench::default().compare(&QuantDrift, &slips_at(1), &FakeSubject::new("int4")),
            "mismatches",
        );
        assert_eq!(judged.measurements[0].limit.as_ref().unwrap().value, 1.0);
    }
}
