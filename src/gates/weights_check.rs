//! `weights-check`: the file is whole by itself.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::subject::Answer;

/// Missing, extra and misshapen tensors, NaN and infinite weights. Refuted by one of them.
pub struct WeightsCheck;

impl Gate for WeightsCheck {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "weights-check", per_prompt: false, needs_backend: false, against, params: &[] }
    }

    fn claim(&self) -> &'static str {
        "Every tensor that the family asks for is there in its shape, no other is, and every weight is a finite number like a trained one's."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let checked = trial.subject.problems()?;
        let mut evidence = Evidence::new();
        for (subject, detail) in &checked.problems {
            evidence.find(subject, detail);
        }
        evidence.hold(
            "problems",
            checked.problems.len() as f64,
            "",
            checked.tensors,
            Bound::zero("family contract"),
        );
        if let Some(family) = &checked.unknown_family {
            let what =
                format!("no family answers to `{family}`: names and shapes were not judged, weights were");
            evidence.tell(&what);
        }
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    #[test]
    fn a_whole_file_passes() {
        passes(Bench::default().judge(&WeightsCheck, &FakeSubject::new("apr"), None));
    }

    #[test]
    fn a_nan_is_named_with_its_tensor() {
        let mut broken = FakeSubject::new("apr");
        broken.problems = vec![("0.q_proj.weight".into(), "NaN at [3, 7]".into())];
        let judged = fails(Bench::default().judge(&WeightsCheck, &broken, None), "problems");
        assert_eq!(judged.findings[0].subject, "0.q_proj.weight");
    }
}
