//! `throughput`: the artifact generates, and at least this fast.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, Unable};
use crate::subject::Answer;

/// Tokens a second, the median of several timed generations. Refuted by a median below the floor.
pub struct Throughput;

const PARAMS: &[Param] = &[
    Param {
        name: "min_tokens_per_second",
        doc: "the median of the generations is at least this fast",
        default: Some(ParamDefault::Number(1.0)),
    },
    Param {
        name: "iterations",
        doc: "timed generations, after one that is not timed",
        default: Some(ParamDefault::Number(3.0)),
    },
];

impl Gate for Throughput {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "throughput", per_prompt: true, needs_backend: true, against, params: PARAMS }
    }

    fn is_timed(&self) -> bool {
        true
    }

    fn claim(&self) -> &'static str {
        "A greedy generation yields tokens, at least so many a second."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (floor, source) = trial.settings.number("min_tokens_per_second")?;
        let iterations = trial.settings.number("iterations")?.0 as usize;
        let (_, prompt) = trial.one_prompt()?;
        // The first one reads the file and wakes the threads.
        trial.subject.speed(prompt, trial.tokens)?;
        let mut rates = Vec::new();
        let mut tokens = 0;
        for _ in 0..iterations {
            let speed = trial.subject.speed(prompt, trial.tokens)?;
            if speed.seconds.is_nan() || speed.seconds <= 0.0 {
                return Err(Unable::Vacuous("the clock did not move".into()));
            }
            tokens += speed.tokens;
            rates.push(speed.tokens as f64 / speed.seconds);
        }
        rates.sort_by(f64::total_cmp);
        let median = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
        let mut evidence = Evidence::new();
        evidence.hold("tokens_per_second", median, "", tokens, Bound::at_least(floor, source));
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::Speed;
    use crate::subject::fake::FakeSubject;

    fn at(tokens: u64, seconds: f64) -> FakeSubject {
        let mut subject = FakeSubject::new("apr");
        subject.speed = Speed { tokens, seconds };
        subject
    }

    #[test]
    fn fast_enough_passes_with_the_tokens_it_rests_on() {
        let judged = passes(Bench::default().judge(&Throughput, &at(8, 0.5), None));
        assert_eq!((judged.measurements[0].value, judged.measurements[0].n), (16.0, 24));
    }

    #[test]
    fn too_slow_fails() {
        let bench = Bench::default().limit("min_tokens_per_second", 20.0);
        fails(bench.judge(&Throughput, &at(8, 0.5), None), "tokens_per_second");
    }

    #[test]
    fn no_tokens_no_time_and_no_iterations_are_no_speed() {
        let vacuous = |bench: Bench, subject: &FakeSubject| {
            matches!(bench.judge(&Throughput, subject, None), Err(Unable::Vacuous(_)))
        };
        assert!(vacuous(Bench::default(), &at(0, 0.5)));
        assert!(vacuous(Bench::default(), &at(8, 0.0)));
        assert!(vacuous(Bench::default().limit("iterations", 0.0), &at(8, 0.5)));
    }
}
