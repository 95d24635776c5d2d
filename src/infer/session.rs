//! A model ready to run, and one sequence on it.

use super::EngineOptions;
use crate::Result;
use crate::engine::{self, Context, DeviceInfo, Engine, KernelResult, KernelTime, Observer, Placement, Want};
use crate::models::{Model, ModelConfig};
use std::sync::Arc;

/// A model on a backend. Cloning is cheap; clones share weights and threads.
#[derive(Clone)]
pub struct LoadedModel {
    engine: Arc<dyn Engine>,
    threads: usize,
}

impl LoadedModel {
    /// Resolves the weights of `model` on the backend of the options; weights stay mapped in their encoding.
    ///
    /// # Errors
    /// Those of [`engine::load`].
    pub fn load(model: &Model, options: &EngineOptions) -> Result<LoadedModel> {
        let at = Placement { threads: options.threads, adapter: options.adapter.as_deref() };
        Ok(LoadedModel { engine: engine::load(model, &options.backend, at)?, threads: options.threads })
    }

    /// The threads that it was given; what is made of its logits may use as many.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Sizes and switches.
    pub fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    /// The name of the backend.
    pub fn backend_name(&self) -> &'static str {
        self.engine.backend_name()
    }

    /// The adapter that it is computed on; none for a backend of the processor.
    pub fn device(&self) -> Option<DeviceInfo> {
        self.engine.device()
    }

    /// Whether the device under it is lost: it must be loaded anew.
    pub fn is_lost(&self) -> bool {
        self.engine.is_lost()
    }

    /// From now on times every kernel on the device; see [`Engine::begin_profile`].
    ///
    /// # Errors
    /// [`crate::Kind::Usage`] where the backend cannot, [`crate::Kind::Environment`] where its adapter cannot.
    pub fn begin_profile(&self) -> Result<()> {
        self.engine.begin_profile()
    }

    /// Ends the profile: the time of every kernel since it began, the longest first.
    ///
    /// # Errors
    /// [`crate::Kind::Environment`] where the device is lost.
    pub fn end_profile(&self) -> Result<Vec<KernelTime>> {
        self.engine.end_profile()
    }

    /// Holds every operation of the backend against the scalar reference on `model`, which must be the loaded one; see
    /// [`Engine::judge_kernels`].
    ///
    /// # Errors
    /// Those of [`Engine::judge_kernels`].
    pub fn judge_kernels(&self, model: &Model) -> Result<Vec<KernelResult>> {
        self.engine.judge_kernels(model)
    }

    /// A new, empty sequence. Sessions of one model do not influence each other.
    pub fn session(&self) -> Session {
        Session { context: Arc::clone(&self.engine).context() }
    }

    /// Appends to several sequences of this model in common passes. `logits` becomes those asked for,
    /// `[wanted of all feeds, vocab]`, in order; its memory is used again, which for many rows is worth much. Weights are
    /// read once for all; every sequence gets the bits that it gets alone.
    ///
    /// # Errors
    /// Those of [`Session::prefill`] of the first sequence that has one, and then nothing was appended to any;
    /// [`crate::Kind::Internal`] for sessions of several models.
    pub fn forward_many(&self, feeds: &mut [Feed<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let mut feeds: Vec<_> = feeds.iter_mut().map(|f| (&mut f.session.context, f.ids, f.want)).collect();
        Context::forward_many(&mut feeds, logits)
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

/// Tokens for one of several sequences that are computed together.
pub struct Feed<'a> {
    /// The sequence.
    pub session: &'a mut Session,
    /// What is appended to it.
    pub ids: &'a [u32],
    /// Which logits are returned.
    pub want: Want,
}

/// One sequence: its keys and values, and how far it is. The cache grows with the sequence.
pub struct Session {
    context: Context,
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

    /// Appends `ids` without any logits: a prefix that forks share.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn append(&mut self, ids: &[u32]) -> Result<()> {
        self.context.forward(ids, Want::None).map(drop)
    }

    /// A second sequence with the same tokens: it continues as this one would, and neither sees what the other
    /// appends. Keys and values of the common tokens are shared, so a fork costs little.
    pub fn fork(&self) -> Session {
        Session { context: self.context.fork() }
    }

    /// Appends one token and returns the logits `[vocab]` after it.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn step(&mut self, id: u32) -> Result<Vec<f32>> {
        self.context.forward(&[id], Want::Last)
    }

    /// Appends `ids` and chooses up to `n` tokens greedily, the last of which is not appended yet; the backend gets all
    /// steps before the first choice is read. See [`Context::greedy`] for where it ends.
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn greedy(&mut self, ids: &[u32], n: usize, stop: &[u32]) -> Result<Vec<u32>> {
        self.context.greedy(ids, n, stop)
    }

    /// Appends `ids` and gives the `k` largest of the logits after the last with their ids, best first, as the backend
    /// picks them; none where the logits must be looked at. See [`Context::best`].
    ///
    /// # Errors
    /// Those of [`Session::prefill`].
    pub fn best(&mut self, ids: &[u32], k: usize) -> Result<Vec<(u32, f32)>> {
        self.context.best(ids, k)
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
