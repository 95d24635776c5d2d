//! `declared-config`: the file says of itself what the playbook says of the model.

use super::evidence::Bound;
use super::trial::usage;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo, Param, ParamDefault};
use crate::record::{Judgement, LimitOp};
use crate::subject::Answer;

/// Family and sizes against declared ones. Refuted by one that differs, and by one that the file does not have.
pub struct DeclaredConfig;

const PARAMS: &[Param] = &[
    Param {
        name: "architecture",
        doc: "the family that the file must name",
        default: Some(ParamDefault::DerivedWord),
    },
    Param { name: "num_layers", doc: "decoder layers", default: None },
    Param { name: "num_heads", doc: "query heads", default: None },
    Param { name: "num_kv_heads", doc: "key and value heads", default: None },
    Param { name: "hidden_size", doc: "width of the residual stream", default: None },
    Param { name: "vocab_size", doc: "rows of the embedding", default: None },
];

/// What a setting of this gate is called among the hyperparameters.
const SIZES: &[(&str, &str)] = &[
    ("num_layers", "n_layers"),
    ("num_heads", "n_heads"),
    ("num_kv_heads", "n_kv_heads"),
    ("hidden_size", "hidden_size"),
    ("vocab_size", "vocab_size"),
];

impl Gate for DeclaredConfig {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "declared-config", per_prompt: false, needs_backend: false, against, params: PARAMS }
    }

    fn claim(&self) -> &'static str {
        "The file names the family and the sizes that the playbook declares; what it leaves out is a failure."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let found = trial.subject.hyperparameters()?;
        let said = |name: &str| found.get(name).map_or("absent", String::as_str);
        let mut evidence = Evidence::new();
        let (mut declared, mut different, mut source) = (0u64, 0u32, String::new());
        if let Some(family) = trial.settings.given_word("architecture") {
            declared += 1;
            if said("family") != family {
                different += 1;
                evidence.find("architecture", format!("expected {family}, found {}", said("family")));
            }
        }
        for (name, key) in SIZES {
            let Some((size, at)) = trial.settings.given_number(name) else { continue };
            declared += 1;
            source = at;
            if said(key).parse::<f64>().ok() != Some(size) {
                different += 1;
                evidence.find(*name, format!("expected {size}, found {}", said(key)));
            }
        }
        if declared == 0 {
            return Err(usage("nothing is declared: give `architecture` or a size".into()));
        }
        let source = if source.is_empty() { "playbook".to_owned() } else { source };
        let bound = Bound { op: LimitOp::Equal, value: 0.0, source };
        evidence.hold("declared_different", f64::from(different), "", declared, bound);
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::fake::FakeSubject;

    fn subject() -> FakeSubject {
        let mut subject = FakeSubject::new("apr");
        subject.hyperparameters.insert("family".into(), "llama".into());
        subject.hyperparameters.insert("n_layers".into(), "30".into());
        subject
    }

    fn declared() -> Bench {
        Bench::default().word("architecture", "llama").limit("num_layers", 30.0).limit("num_heads", 4.0)
    }

    #[test]
    fn what_is_declared_and_said_passes() {
        let judged = passes(declared().judge(&DeclaredConfig, &subject(), None));
        assert_eq!(judged.measurements[0].n, 3);
    }

    #[test]
    fn an_absent_field_fails_as_a_wrong_one_does() {
        let mut silent = subject();
        silent.hyperparameters.remove("n_layers");
        silent.hyperparameters.insert("family".into(), "llama2".into());
        let judged = fails(declared().judge(&DeclaredConfig, &silent, None), "declared_different");
        let told: Vec<_> = judged.findings.iter().map(|f| format!("{}: {}", f.subject, f.detail)).collect();
        assert_eq!(
            told,
            ["architecture: expected llama, found llama2", "num_layers: expected 30, found absent"]
        );
    }

    #[test]
    fn nothing_declared_is_nothing_judged() {
        let judged = Bench::default().judge(&DeclaredConfig, &subject(), None);
        assert!(matches!(judged, Err(Unable::Failed { .. })));
    }
}
