//! What the planner may ask: the gates and the backends that this program has.

use crate::mutate;
use crate::playbook::{self, GateInfo, Ground};
use crate::{engine, gates};

/// The tables of this program.
pub struct Catalog;

impl playbook::Catalog for Catalog {
    fn gate(&self, id: &str) -> Option<GateInfo> {
        gates::find(id).map(|gate| gate.info())
    }

    fn gate_ids(&self) -> Vec<&'static str> {
        gates::GATES.iter().map(|gate| gate.info().id).collect()
    }

    fn backend_names(&self) -> Vec<&'static str> {
        engine::backend_names()
    }

    fn defects(&self) -> Vec<&'static str> {
        mutate::DEFECTS.iter().map(|defect| defect.id).collect()
    }

    fn defect_applies(&self, defect: &str, ground: &Ground) -> bool {
        mutate::find(defect).is_some_and(|defect| (defect.applies)(ground))
    }

    fn battery(&self) -> Vec<&'static str> {
        gates::BATTERY.to_vec()
    }

    fn reads_text(&self, gate: &str) -> bool {
        // Only a gate that scores a text has a context to score it in.
        gates::find(gate).is_some_and(|gate| gate.info().params.iter().any(|p| p.name == "ctx"))
    }
}
