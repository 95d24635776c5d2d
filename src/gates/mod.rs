//! Gates: one falsifiable claim each, one file each, all in [`GATES`].
//!
//! A gate asks a [`Subject`](crate::subject::Subject) and hands back a judgement with what it measured, or says why it
//! could not measure. It never names a backend or a file format, and it cannot pass without a measurement:
//! [`evidence::Evidence`] makes the verdict from the measurements alone.

mod canary;
mod config_parity;
mod contract_i1;
mod contract_i2;
mod contract_i3;
mod contract_i4;
mod contract_i5;
mod declared_config;
mod decoder_stages;
mod divergence;
pub mod evidence;
mod format_roundtrip;
mod generation;
mod hard_strings;
mod kernel_parity;
mod kl_charts;
mod kl_divergence;
mod layer_tree;
mod lint;
mod live_values;
mod numerics_parity;
mod oracle_logits;
mod perplexity;
mod perplexity_drift;
mod quant_drift;
mod runtime_parity;
mod suspects;
mod tensor_fidelity;
mod throughput;
mod token_parity;
pub mod trial;
mod twin_types;
#[cfg(test)]
mod vacuity;
mod weights_check;

pub use evidence::{Evidence, holds};
pub use trial::{Against, References, Settings, Trial};

use crate::playbook::GateInfo;
use crate::record::Judgement;
use crate::subject::Answer;

/// One claim about a subject.
pub trait Gate: Sync {
    /// What the planner must know: id, matrix, `against`, limits.
    fn info(&self) -> GateInfo;

    /// The gate's id in the format contract, where it enforces one of its invariants.
    fn contract_id(&self) -> Option<&'static str> {
        None
    }

    /// Whether a failure is one of numbers, of which a walk beside the original finds the first that is wrong.
    fn localises(&self) -> bool {
        false
    }

    /// Whether it measures time, so that nothing may run beside it.
    fn is_timed(&self) -> bool {
        false
    }

    /// What it claims, in one falsifiable sentence.
    fn claim(&self) -> &'static str;

    /// Measures and judges.
    ///
    /// # Errors
    /// [`crate::record::Unable`] says why nothing could be measured, and whose fault that is.
    fn judge(&self, trial: &Trial) -> Answer<Judgement>;
}

/// Every gate, in the order of a full qualification: files first, then numbers, then behaviour.
pub const GATES: &[&dyn Gate] = &[
    &weights_check::WeightsCheck,
    &declared_config::DeclaredConfig,
    &config_parity::ConfigParity,
    &decoder_stages::DecoderStages,
    &layer_tree::LayerTree,
    &live_values::LiveValues,
    &lint::Lint,
    &contract_i2::ContractI2,
    &contract_i3::ContractI3,
    &contract_i4::ContractI4,
    &tensor_fidelity::TensorFidelity,
    &contract_i5::ContractI5,
    &contract_i1::ContractI1,
    &kernel_parity::KernelParity,
    &oracle_logits::OracleLogits,
    &canary::Canary,
    &token_parity::TokenParity,
    &quant_drift::QuantDrift,
    &format_roundtrip::FormatRoundtrip,
    &generation::Generation,
    &runtime_parity::RuntimeParity,
    &perplexity::Perplexity,
    &perplexity_drift::PerplexityDrift,
    &kl_divergence::KlDivergence,
    &numerics_parity::NumericsParity,
    &throughput::Throughput,
];

/// The gates that hold any candidate against its reference, whoever made it: no recorded oracle is asked. In the
/// order in which they speak: what is cheap and names its culprit comes first.
pub const BATTERY: &[&str] = &[
    "weights-check",
    "config-parity",
    "decoder-stages",
    "layer-tree",
    "live-values",
    "contract-i2",
    "tensor-fidelity",
    "contract-i5",
    "kl-divergence",
    "generation",
];

/// The gate of that id.
pub fn find(id: &str) -> Option<&'static dyn Gate> {
    GATES.iter().copied().find(|gate| gate.info().id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_claims_are_sentences() {
        let ids: BTreeSet<_> = GATES.iter().map(|gate| gate.info().id).collect();
        assert_eq!(ids.len(), GATES.len());
        for gate in GATES {
            let id = gate.info().id;
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{id}");
            assert!(gate.claim().ends_with('.') && gate.claim().len() > 20, "{id}: {}", gate.claim());
            assert!(find(id).is_some());
        }
        assert!(find("no-such-gate").is_none());
    }

    #[test]
    fn the_battery_is_of_known_gates_and_needs_no_prompt() {
        let ids: BTreeSet<_> = BATTERY.iter().collect();
        assert_eq!(ids.len(), BATTERY.len());
        for id in BATTERY {
            let gate = find(id).unwrap_or_else(|| panic!("no gate {id}"));
            assert!(!gate.info().per_prompt, "{id}");
        }
    }

    #[test]
    fn every_invariant_of_the_contract_has_its_gate_and_no_other_id_exists() {
        let of_gates: BTreeSet<_> = GATES.iter().filter_map(|gate| gate.contract_id()).collect();
        let invariants = &Contract::builtin().format.invariants;
        let of_contract: BTreeSet<_> = invariants.iter().map(|i| i.gate_id.as_str()).collect();
        assert_eq!(of_gates, of_contract);
        for invariant in invariants {
            let id = format!("contract-{}", invariant.id.to_lowercase().replace('-', ""));
            let gate = find(&id).unwrap_or_else(|| panic!("no gate {id}"));
            assert_eq!(gate.contract_id(), Some(invariant.gate_id.as_str()));
        }
    }

    #[test]
    fn limits_are_documented_and_named_once() {
        for gate in GATES {
            let info = gate.info();
            let names: BTreeSet<_> = info.params.iter().map(|p| p.name).collect();
            assert_eq!(names.len(), info.params.len(), "{}", info.id);
            assert!(info.params.iter().all(|p| !p.doc.is_empty()), "{}", info.id);
        }
    }
}
