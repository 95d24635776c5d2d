//! Whether an artifact is whole by itself, and whether its reader notices when it is not.

use super::artifact::Artifact;
use super::{Checked, FaultOffer, Injected};
use crate::formats::{Fault, Stage, copy_artifact, faults, open};
use crate::models::canonical_tensors;
use crate::{Error, Kind, Result};
use std::path::Path;
use std::sync::Arc;

impl Artifact {
    /// Every NaN and infinite weight, by tensor. A file that is not its family's is an error.
    pub fn problems(&self) -> Result<Arc<Checked>> {
        self.checked
            .get_or_init(|| {
                let mut checked = Checked { tensors: 0, problems: Vec::new() };
                for tensor in self.tensors()?.iter() {
                    checked.tensors += 1;
                    let values = tensor.to_f32()?;
                    let bad = values.iter().filter(|v| !v.is_finite()).count();
                    if let Some(first) = values.iter().position(|v| !v.is_finite()) {
                        let what = format!(
                            "{bad} weights are not finite, the first is {} at {first}",
                            values[first]
                        );
                        checked.problems.push((tensor.stored.clone(), what));
                    }
                }
                Ok(Arc::new(checked))
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
        Ok(complaint.map_or(Injected::Accepted, |error| Injected::Refused(error.to_string())))
    }
}

/// What the reader, and for a fault of the model the check against its family, says of the file.
fn complaint(path: &Path, stage: Stage) -> Option<Error> {
    let checkpoint = match open(path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some(error),
    };
    match stage {
        Stage::Open => None,
        Stage::Check => canonical_tensors(&checkpoint).err(),
    }
}
