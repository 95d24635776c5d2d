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
