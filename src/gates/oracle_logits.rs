//! `oracle-logits`: at every recorded step the artifact gives the recorded probabilities.

use super::evidence::{Bound, holds};
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, LimitOp, Unable};
use crate::stats::{argmax, logsumexp};
use crate::subject::Answer;

/// Teacher-forced log-probabilities of the recorded top ids, log-sum-exp and argmax. Refuted by one number further
/// away than the limit, or by one recorded token that is not the best.
pub struct OracleLogits;

const PARAMS: &[Param] = &[Param {
    name: "max_logprob_diff",
    doc: "largest difference of a log-probability (nats) or a log-sum-exp from the recorded one",
    default: Some(ParamDefault::Number(1e-3)),
}];

impl Gate for OracleLogits {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "oracle-logits", per_prompt: true, needs_backend: true, against, params: PARAMS }
    }

    fn localises(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "Every recorded log-probability and log-sum-exp is reproduced within `max_logprob_diff`, every recorded token is best."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (limit, limit_source) = trial.settings.number("max_logprob_diff")?;
        let (name, prompt) = trial.one_prompt()?;
        let (recorded, source) = trial.references.oracle_logits(name)?;
        let mut evidence = Evidence::new();
        let own_ids = trial.subject.encode(prompt, true)?;
        if own_ids != recorded.prompt_ids {
            evidence.find("prompt ids", format!("recorded {:?}, found {own_ids:?}", recorded.prompt_ids));
        }
        let fed: Vec<u32> = recorded
            .prompt_ids
            .iter()
            .chain(&recorded.tokens[..recorded.tokens.len() - 1])
            .copied()
            .collect();
        let rows = trial.subject.logits(&fed)?;
        let (mut worst_prob, mut worst_sum, mut n, mut not_best) = (0.0f64, 0.0f64, 0u64, 0u64);
        for (i, (step, token)) in recorded.steps.iter().zip(&recorded.tokens).enumerate() {
            let row = rows
                .row(recorded.prompt_ids.len() - 1 + i)
                .ok_or_else(|| Unable::Vacuous(format!("no logits for step {i}")))?;
            let sum = logsumexp(row);
            worst_sum = further(worst_sum, sum - step.logsumexp);
            for (id, log_prob) in &step.top {
                let found = row.get(*id as usize).map_or(f64::NAN, |x| f64::from(*x) - sum);
                let off = found - log_prob;
                if !holds(LimitOp::AtMost, off.abs(), limit) {
                    let token = trial.subject.decode(&[*id], false)?;
                    evidence.find(
                        format!("step {i}, token {token:?} (id {id})"),
                        format!("log-probability {log_prob:.6} recorded, {found:.6} found"),
                    );
                }
                worst_prob = further(worst_prob, off);
                n += 1;
            }
            if argmax(row) != Some(*token) {
                not_best += 1;
                let best = argmax(row).map_or("no number".to_owned(), |id| format!("id {id}"));
                evidence.find(format!("step {i}"), format!("recorded id {token} is best, found {best}"));
            }
        }
        let steps = recorded.steps.len() as u64;
        evidence.hold("not_best", not_best as f64, "tokens", steps, Bound::zero(source.clone()));
        evidence.hold("logprob_diff", worst_prob, "nats", n, Bound::at_most(limit, limit_source.clone()));
        evidence.hold("logsumexp_diff", worst_sum, "nats", steps, Bound::at_most(limit, limit_source));
        let own = u64::from(own_ids != recorded.prompt_ids);
        evidence.hold("prompt_ids_differ", own as f64, "", own_ids.len() as u64, Bound::zero(source));
        evidence.note("min_top1_gap", recorded.min_top1_gap, "", steps);
        evidence.judge()
    }
}

/// The larger distance; infinite where one is no number.
fn further(worst: f64, off: f64) -> f64 {
    if off.is_nan() { f64::INFINITY } else { worst.max(off.abs()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::oracle::{OracleLogits as Recorded, OracleStep};
    use crate::stats::log_softmax;
    use crate::subject::Subject;
    use crate::subject::fake::FakeSubject;

    /// What a sound fake gives after `a`, recorded.
    fn recorded() -> Bench {
        let sound = FakeSubject::new("source");
        let rows = sound.logits(&[0, 1, 2]).unwrap();
        let step = |i: usize| {
            let row = rows.row(i).unwrap();
            let top = log_softmax(row).into_iter().enumerate().map(|(id, lp)| (id as u32, lp)).collect();
            OracleStep { logsumexp: logsumexp(row), top }
        };
        let mut bench = Bench::default();
        bench.shelf.logits = Some(Recorded {
            model_slug: "fake".into(),
            prompt_file: "a.txt".into(),
            prompt_ids: vec![0],
            tokens: vec![1, 2, 3],
            min_top1_gap: 8.0,
            weights_sha256: "00".into(),
            steps: (0..3).map(step).collect(),
        });
        bench
    }

    #[test]
    fn the_recorded_numbers_pass() {
        let judged = passes(recorded().judge(&OracleLogits, &FakeSubject::new("cpu"), None));
        assert_eq!(judged.measurements[1].n, 27);
    }

    #[test]
    fn numbers_that_moved_fail_before_a_token_does() {
        let mut off = FakeSubject::new("cpu");
        off.noise = 0.01;
        let judged = fails(recorded().judge(&OracleLogits, &off, None), "logprob_diff");
        assert!(judged.findings[0].subject.starts_with("step 0, token"), "{:?}", judged.findings[0]);
    }

    #[test]
    fn another_best_token_and_nan_fail() {
        let mut off = FakeSubject::new("cpu");
        off.next.insert(1, 7);
        fails(recorded().judge(&OracleLogits, &off, None), "not_best");
        let mut nan = FakeSubject::new("cpu");
        nan.noise = f32::NAN;
        fails(recorded().judge(&OracleLogits, &nan, None), "not_best");
    }
}
