//! Opening a MODEL argument for a comparison of files: its weights by name and its settings, nothing loaded.

use crate::Result;
use crate::formats::{self, Checkpoint};
use crate::inspect::{self, Side, View};
use crate::{models, subject};
use std::collections::BTreeMap;
use std::path::Path;

/// An opened model.
pub struct Opened {
    /// As opened.
    pub checkpoint: Checkpoint,
    /// Its weights.
    pub view: View,
    /// By name; empty for an unknown family.
    pub hyperparameters: BTreeMap<String, String>,
}

/// Opens the model at `path`.
pub fn open(path: &Path) -> Result<Opened> {
    let checkpoint = formats::open(path)?;
    let view = inspect::view(&checkpoint)?;
    let hyperparameters = match &view.unknown_family {
        Some(_) => BTreeMap::new(),
        None => subject::hyperparameters(&models::config(&checkpoint)?),
    };
    Ok(Opened { checkpoint, view, hyperparameters })
}

impl Opened {
    /// As one side of a comparison.
    pub fn side(&self) -> Side<'_> {
        Side { checkpoint: &self.checkpoint, view: &self.view, hyperparameters: &self.hyperparameters }
    }
}
