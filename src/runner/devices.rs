//! The adapter of a run's GPU backends, looked for before anything runs: one that must be there and is not ends the
//! run, one that may be missing is the Skip of its cases.

use super::stage::backends;
use crate::engine::{self, DeviceInfo};
use crate::playbook::Case;
use crate::record::{Adapter, Unable};
use crate::subject::Answer;
use crate::{Kind, Result};

/// What GPU backends compute on in this run.
pub struct Devices {
    /// None where no case needs one.
    found: Option<Result<DeviceInfo>>,
}

impl Devices {
    /// Chooses the adapter that `request` means, where a case needs one.
    ///
    /// # Errors
    /// [`Kind::Environment`] where a case needs it that may not miss it, and it is not there; [`Kind::Usage`] where the
    /// request means several.
    pub fn find(cases: &[Case], request: Option<&str>) -> Result<Devices> {
        Devices::settle(cases, || engine::chosen_device(request))
    }

    fn settle(cases: &[Case], choose: impl FnOnce() -> Result<DeviceInfo>) -> Result<Devices> {
        let mut needing = cases.iter().filter(|case| !needed(case).is_empty()).peekable();
        if needing.peek().is_none() {
            return Ok(Devices { found: None });
        }
        let found = choose();
        let error = match &found {
            Ok(_) => return Ok(Devices { found: Some(found) }),
            Err(error) => error,
        };
        if error.kind != Kind::Environment {
            return Err(error.clone());
        }
        match needing.find(|case| needed(case).iter().any(|name| !may_miss(case, name))) {
            Some(case) => Err(error.clone().at(format!("needed by `{}`", case.id))),
            None => Ok(Devices { found: Some(found) }),
        }
    }

    /// Whether `case` has the adapters that it needs.
    ///
    /// # Errors
    /// [`Unable::Missing`] with the reason.
    pub fn check(&self, case: &Case) -> Answer<()> {
        match &self.found {
            Some(Err(error)) if !needed(case).is_empty() => Err(Unable::Missing(error.to_string())),
            Some(Ok(_) | Err(_)) | None => Ok(()),
        }
    }

    /// The adapter, for provenance.
    pub fn adapter(&self) -> Option<Adapter> {
        self.found.as_ref()?.as_ref().ok().map(DeviceInfo::adapter)
    }
}

/// The backends of `case` that compute on an adapter.
fn needed(case: &Case) -> Vec<String> {
    backends(case).into_iter().filter(|name| engine::needs_adapter(name)).collect()
}

fn may_miss(case: &Case, backend: &str) -> bool {
    case.optional_backends.iter().any(|name| name == backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::engine::{Api, DeviceKind, DeviceLimits};
    use crate::playbook::At;
    use std::collections::BTreeMap;

    fn case(backend: &str, optional: &[&str]) -> Case {
        Case {
            id: format!("suite/canary/m/a/{backend}"),
            suite: "suite".into(),
            gate: "canary".into(),
            model: "m".into(),
            artifact: "a".into(),
            backend: backend.into(),
            prompt: None,
            prompts: Vec::new(),
            against: None,
            tokens: 32,
            limits: BTreeMap::new(),
            expect_fail: None,
            optional: false,
            optional_backends: optional.iter().map(|b| (*b).to_owned()).collect(),
            timeout_s: 10,
            at: At { line: 9, column: 1 },
            probe: None,
        }
    }

    fn held_against(case: Case, backend: &str) -> Case {
        Case { gate: "runtime-parity".into(), against: Some(backend.into()), ..case }
    }

    fn none() -> Result<DeviceInfo> {
        Err(Error::new(Kind::Environment, "adapter", "there is none").hint("install one"))
    }

    fn card() -> Result<DeviceInfo> {
        Ok(DeviceInfo {
            name: "card".into(),
            kind: DeviceKind::Discrete,
            driver: "driver".into(),
            driver_info: "1".into(),
            api: Api::Vulkan,
            vendor: 1,
            device: 2,
            features: Vec::new(),
            limits: DeviceLimits {
                max_storage_buffer_binding_size: 1,
                max_buffer_size: 1,
                max_compute_workgroup_storage_size: 1,
                max_compute_invocations_per_workgroup: 1,
                max_compute_workgroups_per_dimension: 1,
                max_immediate_size: 1,
                subgroup_min_size: 1,
                subgroup_max_size: 1,
            },
        })
    }

    #[test]
    fn nobody_looks_for_an_adapter_that_no_case_needs() {
        let cases = [case("cpu", &[]), case("", &[]), held_against(case("cpu", &[]), "reference")];
        let devices = Devices::settle(&cases, || panic!("looked for")).expect("nothing is missing");
        assert!(devices.adapter().is_none() && cases.iter().all(|case| devices.check(case).is_ok()));
    }

    #[test]
    fn a_missing_adapter_skips_the_cases_that_may_miss_it_and_no_others() {
        let cases = [
            case("cpu", &[]),
            case("wgpu", &["wgpu"]),
            held_against(case("cpu", &["wgpu-fast"]), "wgpu-fast"),
            // The name of an artifact, where a gate is held against one.
            Case { gate: "quant-drift".into(), against: Some("wgpu".into()), ..case("cpu", &[]) },
        ];
        let devices = Devices::settle(&cases, none).expect("all of them may miss it");
        let reasons: Vec<Option<String>> = cases
            .iter()
            .map(|case| match devices.check(case) {
                Ok(()) => None,
                Err(Unable::Missing(reason)) => Some(reason),
                Err(other) => panic!("{other:?}"),
            })
            .collect();
        let reason = Some("adapter: there is none; install one".to_owned());
        assert_eq!(reasons, [None, reason.clone(), reason, None]);
        assert!(devices.adapter().is_none());
    }

    #[test]
    fn one_case_that_may_not_miss_it_ends_the_run() {
        let needs = held_against(case("wgpu-fast", &["wgpu-fast"]), "wgpu");
        let error = Devices::settle(&[case("wgpu", &["wgpu"]), needs.clone()], none).err().expect("required");
        assert_eq!((error.kind, error.at), (Kind::Environment, Some(format!("needed by `{}`", needs.id))));
        let several = || Err(Error::new(Kind::Usage, "adapter `x`", "2 adapters are meant by that"));
        let error = Devices::settle(&[case("wgpu", &["wgpu"])], several).err().expect("nothing to skip");
        assert_eq!(error.kind, Kind::Usage);
    }

    #[test]
    fn an_adapter_that_is_there_is_named() {
        let cases = [case("wgpu", &[])];
        let devices = Devices::settle(&cases, card).expect("there");
        assert!(devices.check(&cases[0]).is_ok());
        assert_eq!(devices.adapter().expect("named").to_string(), "card (discrete, Vulkan, driver 1)");
    }
}
