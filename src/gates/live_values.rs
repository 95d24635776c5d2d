//! `live-values`: the bytes of every weight decode to numbers that are not all the same.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::Judgement;
use crate::stats::Statistics;
use crate::subject::Answer;

/// The standard deviation of every matrix, decoded from its bytes. Refuted by one that is constant, by a value that
/// is no finite number, and by a share of zeros.
pub struct LiveValues;

const PARAMS: &[Param] = &[
    Param {
        name: "min_std",
        doc: "the standard deviation of every matrix is above",
        default: Some(ParamDefault::Number(1e-6)),
    },
    Param {
        name: "max_zeros",
        doc: "the largest share of zeros in any matrix",
        default: Some(ParamDefault::Number(0.8)),
    },
];

impl Gate for LiveValues {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "live-values", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "Every matrix decodes to finite numbers whose standard deviation is above a floor."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let (min_std, std_source) = trial.settings.number("min_std")?;
        let (max_zeros, zeros_source) = trial.settings.number("max_zeros")?;
        let tensors = trial.subject.tensors()?;
        let mut evidence = Evidence::new();
        let (mut n, mut non_finite) = (0u64, 0u64);
        let (mut least, mut most_zeros) = (f64::INFINITY, 0.0f64);
        // A norm of ones is a sound norm: only matrices must vary.
        for facts in tensors.iter().filter(|facts| facts.shape.ndim() > 1) {
            let s = Statistics::of(&trial.subject.values(&facts.name)?);
            let zeros = s.zeros as f64 / s.n.max(1) as f64;
            n += 1;
            non_finite += s.non_finite;
            least = least.min(s.std);
            most_zeros = most_zeros.max(zeros);
            if s.std <= min_std || s.non_finite > 0 || zeros > max_zeros {
                let what =
                    format!("std {:.3e}, {} not finite, {:.0} % zeros", s.std, s.non_finite, 100.0 * zeros);
                evidence.find(&facts.name, what);
            }
        }
        evidence.hold("not_finite", non_finite as f64, "values", n, Bound::zero("gate default"));
        evidence.hold("least_std", least, "", n, Bound::at_least(min_std, std_source));
        evidence.hold("most_zeros", most_zeros, "share", n, Bound::at_most(max_zeros, zeros_source));
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::fake::FakeSubject;

    fn judge(subject: &FakeSubject) -> Answer<Judgement> {
        Bench::default().judge(&LiveValues, subject, None)
    }

    #[test]
    fn values_that_vary_pass() {
        assert_eq!(passes(judge(&FakeSubject::new("apr"))).measurements[0].n, 1, "one of two is a matrix");
    }

    #[test]
    fn a_constant_matrix_is_named() {
        let mut dead = FakeSubject::new("apr");
        dead.weights[1].1.fill(0.5);
        assert_eq!(fails(judge(&dead), "least_std").findings[0].subject, "0.q_proj.weight");
    }

    #[test]
    fn zeros_and_nans_fail() {
        let mut sparse = FakeSubject::new("apr");
        sparse.weights[1].1[..60].fill(0.0);
        fails(judge(&sparse), "most_zeros");
        let mut poisoned = FakeSubject::new("apr");
        poisoned.weights[1].1[7] = f32::NAN;
        fails(judge(&poisoned), "not_finite");
    }

    #[test]
    fn a_file_without_a_matrix_shows_nothing() {
        let mut bare = FakeSubject::new("apr");
        bare.weights.truncate(1);
        assert!(matches!(judge(&bare), Err(Unable::Vacuous(_))));
    }
}
