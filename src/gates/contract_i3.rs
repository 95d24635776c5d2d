//! `contract-i3`: whatever is unknown or missing in the file is an error, never a default.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::{Judgement, Unable};
use crate::subject::{Answer, Injected};

/// Faults injected into copies of the artifact, one at a time. Refuted by one fault that the reader accepts, or
/// complains about without naming what is wrong. It proves the reader on this artifact, and no other reader.
pub struct ContractI3;

const GATE_ID: &str = "F-CONTRACT-I3-001";

impl Gate for ContractI3 {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "contract-i3", per_prompt: false, needs_backend: false, against, params: &[] }
    }

    fn contract_id(&self) -> Option<&'static str> {
        Some(GATE_ID)
    }

    fn claim(&self) -> &'static str {
        "Every fault put into a copy of the artifact is refused with an error that names it."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let faults = trial.subject.faults()?;
        // The control: a reader that refuses everything would refuse every fault too.
        if let Injected::Refused(complaint) = trial.subject.inject(None, trial.scratch)? {
            let what = format!("the unbroken copy is refused already: {complaint}");
            return Err(Unable::Refused(crate::Error::malformed(&trial.subject.info().path, what)));
        }
        let mut evidence = Evidence::new();
        let (mut tried, mut accepted, mut unnamed) = (0u64, 0u64, 0u64);
        for fault in &faults {
            let injected = trial.subject.inject(Some(fault), trial.scratch)?;
            tried += u64::from(!matches!(injected, Injected::Unsuited(_)));
            match injected {
                Injected::Accepted => {
                    accepted += 1;
                    evidence.find(
                        &fault.name,
                        format!("accepted in silence; an error about {} was due", fault.expect),
                    );
                }
                Injected::Refused(complaint) if !names(&complaint, &fault.expect) => {
                    unnamed += 1;
                    evidence
                        .find(&fault.name, format!("the error does not name {}: {complaint}", fault.expect));
                }
                Injected::Refused(complaint) => evidence.tell(&format!("{}: {complaint}", fault.name)),
                Injected::Unsuited(why) => evidence.tell(&format!("{}: not tried, {why}", fault.name)),
            }
        }
        let source = format!("{} I-3", trial.contract.format_source());
        evidence.hold("faults_accepted", accepted as f64, "faults", tried, Bound::zero(source.clone()));
        evidence.hold("faults_unnamed", unnamed as f64, "faults", tried, Bound::zero(source));
        evidence.tell("this proves the built-in reader on this artifact");
        if let Some(law) = trial.contract.invariant(GATE_ID).filter(|_| accepted + unnamed > 0) {
            evidence.tell(&law.headline());
        }
        evidence.judge()
    }
}

fn names(complaint: &str, expected: &str) -> bool {
    complaint.to_lowercase().contains(&expected.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::subject::fake::FakeSubject;

    fn judge(subject: &FakeSubject) -> Answer<Judgement> {
        Bench::default().judge(&ContractI3, subject, None)
    }

    #[test]
    fn a_reader_that_names_every_fault_passes() {
        let judged = passes(judge(&FakeSubject::new("apr")));
        assert!(judged.detail.contains("unknown-dtype: dtype 99 is unknown"), "{}", judged.detail);
    }

    #[test]
    fn a_fault_accepted_in_silence_is_named() {
        let mut lenient = FakeSubject::new("apr");
        lenient.faults[0].1 = None;
        assert_eq!(fails(judge(&lenient), "faults_accepted").findings[0].subject, "unknown-dtype");
    }

    #[test]
    fn an_error_about_something_else_is_not_the_error_that_was_due() {
        let mut vague = FakeSubject::new("apr");
        vague.faults[0].1 = Some("invalid file".into());
        fails(judge(&vague), "faults_unnamed");
    }

    #[test]
    fn a_reader_that_refuses_everything_proves_nothing() {
        let mut strict = FakeSubject::new("apr");
        strict.control = Some("no".into());
        assert!(matches!(judge(&strict), Err(Unable::Refused(_))));
    }

    #[test]
    fn no_faults_are_no_proof() {
        let mut without = FakeSubject::new("apr");
        without.faults.clear();
        assert!(matches!(judge(&without), Err(Unable::Vacuous(_))));
    }
}
