//! `config-parity`: the artifact says of itself what its original says.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
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
                let what = format!("expected {expected}, found {found}");
                match cause_of(name) {
                    Some(cause) => evidence.find_cause(name.as_str(), what, cause),
                    None => evidence.find(name.as_str(), what),
                }
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

/// The id of the mistake that leaves another value of this setting.
fn cause_of(setting: &str) -> Option<&'static str> {
    CAUSES.iter().find(|(name, _)| *name == setting).map(|(_, cause)| *cause)
}

const CAUSES: &[(&str, &str)] = &[
    ("attn_scale", "attention-scale"),
    ("embed_scale", "embed-scale"),
    ("family", "family"),
    ("head_dim", "head-dim"),
    ("max_positions", "context-length"),
    ("n_heads", "head-count"),
    ("n_kv_heads", "head-count"),
    ("n_layers", "dropped-layer"),
    ("norm_eps", "norm-eps"),
    ("rope_scaling", "rope-scaling"),
    ("rope_theta", "rope-theta"),
    ("tied_embeddings", "tied-head"),
    ("vocab_size", "vocabulary-padding"),
    ("window", "window"),
];

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
