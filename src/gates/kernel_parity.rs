//! `kernel-parity`: every operation of the forward pass, as this backend computes it, stays within its contract.

use super::evidence::Bound;
use super::{Evidence, Gate, Trial};
use crate::playbook::{AgainstRule, GateInfo};
use crate::record::Judgement;
use crate::subject::{Answer, KernelResult};

/// Each operation against the scalar reference, with the tolerance of `contracts/kernels/<contract>.yaml`: on the
/// artifact's weights and sizes, and on shapes and values that kernels stumble over, in its encodings. Refuted by one
/// element that is further from the reference than its contract lets it be; what is measured is the largest share of the
/// tolerance that any element takes. An operation of which nothing was compared is no pass.
pub struct KernelParity;

impl Gate for KernelParity {
    fn info(&self) -> GateInfo {
        let against = AgainstRule::None;
        GateInfo { id: "kernel-parity", per_prompt: false, needs_backend: true, against, params: &[] }
    }

    fn claim(&self) -> &'static str {
        "Every operation of the forward pass stays within the tolerance of its contract around the scalar reference."
    }

    fn judge(&self, trial: &Trial) -> Answer<Judgement> {
        let mut evidence = Evidence::new();
        for KernelResult { operation, contract, compared, worst, faults } in &*trial.subject.kernels()? {
            let (metric, source) = match *contract {
                "" => ((*operation).to_owned(), "contracts/kernels".to_owned()),
                law => (format!("{operation}.{law}"), format!("contracts/kernels/{law}.yaml tolerance")),
            };
            evidence.hold(&metric, *worst, "of the tolerance", *compared, Bound::at_most(1.0, source));
            for fault in faults {
                evidence.find(format!("{operation}, {}", fault.place), fault.to_string());
            }
        }
        evidence.judge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::trial::testing::{Bench, fails, passes};
    use crate::record::Unable;
    use crate::subject::KernelFault;
    use crate::subject::fake::FakeSubject;

    fn judge(subject: &FakeSubject) -> Answer<Judgement> {
        Bench::default().judge(&KernelParity, subject, None)
    }

    #[test]
    fn operations_within_their_contracts_pass_with_their_elements_counted() {
        let subject = FakeSubject::new("int8");
        let judged = passes(judge(&subject));
        assert_eq!(judged.measurements.len(), subject.kernels.len());
        let linear = judged.measurements.iter().find(|m| m.metric == "linear.matmul").expect("held");
        assert_eq!((linear.n, linear.value), (102, 0.25));
        let limit = linear.limit.as_ref().expect("a limit");
        assert_eq!((limit.value, limit.source.as_str()), (1.0, "contracts/kernels/matmul.yaml tolerance"));
    }

    #[test]
    fn a_wrong_kernel_fails_and_is_named_with_tensor_element_and_bound() {
        let mut subject = FakeSubject::new("int8");
        let wrong = subject.kernels.iter_mut().find(|k| k.operation == "linear").expect("there");
        wrong.worst = 500.0;
        wrong.faults.push(KernelFault {
            place: "`0.q_proj.weight` [256, 128] Q8_0, 3 tokens".into(),
            at: (2, 17),
            found: 1.5,
            expected: 1.25,
            bound: 5e-4,
            outside: (1, 102),
            share: 500.0,
        });
        let judged = fails(judge(&subject), "linear.matmul");
        let found = &judged.findings[0];
        assert_eq!(found.subject, "linear, `0.q_proj.weight` [256, 128] Q8_0, 3 tokens");
        for part in ["token 2, column 17", "found 1.5e0", "expected 1.25e0", "bound 5.000e-4", "1 of 102"] {
            assert!(found.detail.contains(part), "{part}: {}", found.detail);
        }
    }

    #[test]
    fn an_operation_that_was_not_compared_is_no_pass() {
        let mut subject = FakeSubject::new("int8");
        subject.kernels[1].compared = 0;
        assert!(matches!(judge(&subject), Err(Unable::Vacuous(_))));
        subject.kernels.clear();
        assert!(matches!(judge(&subject), Err(Unable::Vacuous(_))));
    }
}
