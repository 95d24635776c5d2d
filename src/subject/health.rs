//! Whether an artifact is whole by itself, and whether its reader notices when it is not.

use super::artifact::Artifact;
use super::{Checked, FaultOffer, Injected};
use crate::formats::{Fault, Stage, copy_artifact, faults, open};
use crate::models::{Problem, StageStatus, check};
use crate::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;

impl Artifact {
    /// Everything that is wrong with the file by itself.
    pub fn problems(&self) -> Result<Arc<Checked>> {
        self.checked
            .get_or_init(|| {
                let checkpoint = self.checkpoint()?;
                let name = |p: &Problem| p.tensor.clone().unwrap_or_else(|| "model".to_owned());
                let what = |p: &Problem| match p.index {
                    Some(index) => format!("element {index}: {}", p.sentence()),
                    None => p.sentence(),
                };
                let report = check(&checkpoint);
                let stages = report
                    .stages
                    .iter()
                    .map(|s| (s.name.clone(), s.status == StageStatus::Pass, s.details.clone()));
                Ok(Arc::new(Checked {
                    tensors: checkpoint.tensors().len() as u64,
                    problems: report.problems.iter().map(|p| (name(p), what(p))).collect(),
                    stages: stages.collect(),
                    unknown_family: report.unknown_family,
                }))
            })
            .clone()
    }

    /// The faults that this artifact's format knows.
    pub fn faults(&self) -> Result<Vec<FaultOffer>> {
        let kind = self.checkpoint()?.kind();
        let offer =
            |fault: &Fault| FaultOffer { name: fault.name.to_owned(), expect: fault.expect.to_owned() };
        Ok(faults(kind).iter().map(offer).collect())
    }

    /// What the reader says of a copy with that fault, or of an unbroken one. The copy is removed again.
    pub fn inject(&self, offer: Option<&FaultOffer>, folder: &Path) -> Result<Injected> {
        let checkpoint = self.checkpoint()?;
        // The name says nothing to the reader: a file is known by its first bytes.
        let copy = folder.join("copy");
        let stage = match offer {
            None => {
                copy_artifact(self.path(), &copy)?;
                Stage::Check
            }
            Some(offer) => {
                let known = faults(checkpoint.kind()).iter().find(|fault| fault.name == offer.name);
                let fault = known.ok_or_else(|| Error::new(Kind::Internal, &offer.name, "no such fault"))?;
                if let (Stage::Check, Some(family)) = (fault.stage, self.unknown_family()?) {
                    return Ok(Injected::Unsuited(format!("there is no table of family `{family}`")));
                }
                match (fault.apply)(self.path(), &copy) {
                    Ok(()) => fault.stage,
                    Err(error) if error.kind == Kind::Unsupported => {
                        return Ok(Injected::Unsuited(error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let complaint = complaint(&copy, stage);
        let removed =
            if copy.is_dir() { std::fs::remove_dir_all(&copy) } else { std::fs::remove_file(&copy) };
        removed.map_err(|error| Error::io(&copy, &error))?;
        Ok(complaint.map_or(Injected::Accepted, Injected::Refused))
    }
}

/// What the reader, and for a fault of the model the check against its family, says of the file.
fn complaint(path: &Path, stage: Stage) -> Option<String> {
    let checkpoint = match open(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some(error.to_string()),
    };
    match stage {
        Stage::Open => None,
        Stage::Check => {
            let say = |p: &Problem| match &p.tensor {
                Some(tensor) => format!("tensor `{tensor}`: {}", p.sentence()),
                None => p.sentence(),
            };
            let said: Vec<String> = check(&checkpoint).problems.iter().map(say).collect();
            (!said.is_empty()).then(|| said.join("; "))
        }
    }
}
