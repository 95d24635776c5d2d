//! A model ready to run, and one sequence on it.

use super::EngineOptions;
use crate::Result;
use crate::engine::{self, Context, Engine, Observer, Want};
use crate::models::{Model, ModelConfig};
use std::sync::Arc;

/// A model on a backend. Cloning is cheap; clones share weights and threads.
#[derive(Clone)]
pub struct LoadedModel {
    engine: Arc<dyn Engine>,
}

impl LoadedModel {
    /// Resolves the weights of `model` on the backend of the options; weights stay mapped in their encoding.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for an unknown backend or no threads, [`crate::Kind::Contract`] for a missing,
    /// misshapen or unused weight.
    pub fn load(model: &Model, options: &EngineOptions) -> Result<LoadedModel> {
        Ok(LoadedModel { engine: engine::load(model, &options.backend, options.threads)? })
    }

    /// Sizes and switches.
    pub fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// The name of the backend.
    pub fn backend_name(&self) -> &'static str {
        self.engine.backend_name()
    }

    /// A new, empty sequence. Sessions of one model do not influence each other.
    pub fn session(&self) -> Session {
        Session { context: Arc::clone(&self.engine).context() }
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel")
            .field("backend", &self.backend_name())
            .field("config", self.config())
            .finish()
    }
}

/// One sequence: its keys and values, and how far it is. The cache grows with the sequence.
pub struct Session {
    context: Box<dyn Context>,
}

impl Session {
    /// Appends `ids` in one batch and returns the logits `[vocab]` after the last.
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] for no ids, an id outside the vocabulary, or more tokens than the context holds;
    /// the sequence is then unchanged.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.context.forward(ids, Want::Last)
    }

    /// Appends `ids` in one batch and returns the logits after every one of them, `[ids.len(), vocab]`.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn logits_all(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.context.forward(ids, Want::All)
    }

    /// Appends one token and returns the logits `[vocab]` after it.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn step(&mut self, id: u32) -> Result<Vec<f32>> {
        self.context.forward(&[id], Want::Last)
    }

    /// From now on shows `observer` what the operations that it wants to see give.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.context.observe(observer);
    }

    /// How many tokens the sequence has.
    pub fn position(&self) -> usize {
        self.context.position()
    }

    /// Empties the sequence.
    pub fn reset(&mut self) {
        self.context.reset();
    }
}
