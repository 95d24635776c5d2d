//! `config-parity`: the artifact says of itself what its original says.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::inspect::cause::settings::of_setting;
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::subject::Answer;

/// Hyperparameters by name. Refuted by one that differs: an epsilon, a theta, a number of heads.
pub struct ConfigParity;

impl Gate for ConfigParity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::ArtifactOrSource;
        GateInfo { id: "config-parity", per_prompt: false, needs_backend: false, against, params: &[] }
    }

    fn claim(&self) -> &'static str {
        "Every hyperparameter of the artifact equals the original's."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let original = trial.reference()?;
        let (theirs, ours) = (original.hyperparameters()?, trial.subject.hyperparameters()?);
        let mut evidence = Evidence::new();
        let absent = "absent".to_owned();
        let mut different = 0u32;
        let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for name in &names {
            let (expected, found) =
                (theirs.get(*name).unwrap_or(&absent), ours.get(*name).unwrap_or(&absent));
            if expected != found {
                different += 1;
                let cause = of_setting(name, expected, found).id;
                evidence.find_cause(name.as_str(), format!("expected {expected}, found {found}"), cause);
            }
        }
        let source = format!("hyperparameters of {}", original.info().artifact);
        evidence.hold(
            "hyperparameters_different",
            f64::from(different),
            "",
            names.len() as u64,
            Bound::zero(source),
        );
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    #[test]
    fn equal_hyperparameters_pass() {
        passes(Bench::default().compare(
            &ConfigParity,
            &FakeSubject::new("apr"),
            &FakeSubject::new("source"),
        ));
    }

    #[test]
    fn another_epsilon_and_a_lost_one_are_named() {
        let mut broken = FakeSubject::new("apr");
        broken.hyperparameters.insert("norm_eps".into(), "0.000001".into());
        broken.hyperparameters.remove("n_heads");
        let judged = Bench::default().compare(&ConfigParity, &broken, &FakeSubject::new("source"));
        let judged = fails(judged, "hyperparameters_different");
        let subjects: Vec<_> = judged.findings.iter().map(|f| f.subject.as_str()).collect();
        assert_eq!(subjects, ["n_heads", "norm_eps"]);
        let causes: Vec<_> = judged.findings.iter().filter_map(|f| f.cause.as_deref()).collect();
        assert_eq!(causes, ["head-count", "norm-eps"]);
    }
}
