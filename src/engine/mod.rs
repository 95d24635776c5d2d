//! Backends: the fused operations that the one decoder is written in.
//!
//! [`decoder`] tells the forward pass once, generic over [`Backend`]; a backend owns its buffers and the layout of
//! its weights. All values are f32 (`exact` numerics); reduction orders are written down in `contracts/kernels/`.

mod context;
pub mod cpu;
mod cpus;
pub mod decoder;
mod device;
mod greedy;
mod kernel_parity;
mod random_tensor;
pub mod reference;
mod rope;
mod sequences;
mod tap;
mod weights;
#[cfg(feature = "wgpu")]
mod wgpu;

#[cfg(test)]
mod operations;
#[cfg(test)]
mod parity;
#[cfg(test)]
pub(crate) mod random_model;

use crate::models::{Model, ModelConfig, NormKind, Weight};
use crate::stats::{argmax, top_ids};
use crate::{Error, Kind, Result};
use std::ops::Range;
use std::sync::Arc;

pub use context::{Context, Feed, SequenceId, Want};
pub use cpu::Numerics;
pub use cpus::usable_cpus;
pub use device::{Api, DeviceInfo, DeviceKind, DeviceLimits, DeviceRates, KernelTime, choose_device};
pub use kernel_parity::{KernelFault, KernelResult, ProductRule};
pub use rope::{Angles, Rope};
pub use tap::{Observer, Op, Place, Tap};
pub use weights::{LayerWeights, Linear, ModelWeights, Norm};

/// One way to compute. A buffer holds activations `[n_tokens, width]`, row-major; an operation sets the number
/// of tokens of its outputs. On a device an operation may fail for want of memory or because the device is lost; what it
/// computes may be known only when values are read back.
pub trait Backend: Send + Sync + Sized + 'static {
    /// Activations `[n_tokens, width]`, f32.
    type Buffer: Send;
    /// A weight `[out, in]`, in the encoding of its file.
    type Matrix: Send + Sync;
    /// A norm weight or a bias, f32.
    type Vector: Send + Sync;
    /// Keys and values of one layer for positions `0..n`. Copies share what neither writes.
    type Cache: Clone + Send;
    /// Ids that the backend chose one after the other, of which the host may not know yet.
    type Chosen: Send;

    /// The name in [`BACKENDS`].
    fn name(&self) -> &'static str;
    /// The adapter that it computes on; none for a backend of the processor.
    fn device(&self) -> Option<DeviceInfo> {
        None
    }
    /// Whether its device is lost, so that nothing it gives counts any more and no operation will work again.
    fn is_lost(&self) -> bool {
        false
    }
    /// Whether it computes exactly, or rounds activations and keeps keys and values in f16.
    fn numerics(&self) -> Numerics {
        Numerics::Exact
    }
    /// The law that its products of `tokens` tokens with `matrix` obey.
    fn product_rule(&self, _matrix: &Self::Matrix, _tokens: usize) -> ProductRule {
        ProductRule::Plain
    }
    /// From now on times every kernel on the device, which then waits for each.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a backend without kernels on a device, [`Kind::Environment`] on an adapter without timestamps.
    fn begin_profile(&self) -> Result<()> {
        let what = "its work is not kernels on a device, so there is none to time";
        let subject = format!("backend `{}`", self.name());
        Err(Error::new(Kind::Usage, subject, what).hint("use `wgpu` or `wgpu-fast`"))
    }
    /// Ends the profile: the time of every kernel since it began, the longest first.
    ///
    /// # Errors
    /// [`Kind::Environment`] where the device is lost.
    fn end_profile(&self) -> Result<Vec<KernelTime>> {
        Ok(Vec::new())
    }

    /// Prepares a weight of shape `[out, in]`.
    ///
    /// # Errors
    /// An encoding that the backend cannot read.
    fn matrix(&self, weight: &Weight) -> Result<Self::Matrix>;
    /// Prepares a weight of which only rows are read, never a product taken.
    ///
    /// # Errors
    /// Those of [`Backend::matrix`].
    fn table(&self, weight: &Weight) -> Result<Self::Matrix> {
        self.matrix(weight)
    }
    /// Prepares a vector, given in canonical order.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;
    /// An empty buffer of `width` columns.
    fn buffer(&self, width: usize) -> Self::Buffer;
    /// A buffer holding `values`, `[n, width]`.
    fn upload(&self, width: usize, values: &[f32]) -> Result<Self::Buffer>;
    /// The values of a buffer, `[n, width]`.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<f32>>;
    /// An empty cache of one layer.
    fn cache(&self, heads: &Heads) -> Self::Cache;
    /// Room for `most` ids, of which none is chosen yet.
    fn chosen(&self, most: usize) -> Result<Self::Chosen>;
    /// The ids, in the order of choice. None where a logit was NaN: what was chosen after that means nothing.
    fn read_chosen(&self, chosen: &Self::Chosen) -> Result<Vec<Option<u32>>>;

    /// `x[t] = table[ids[t]]`; every id is below the table's rows.
    fn embed(&self, table: &Self::Matrix, ids: &[u32], x: &mut Self::Buffer) -> Result<()>;
    /// `x[0] = table[id]` for the id that was chosen last, of which there is one.
    fn embed_chosen(&self, table: &Self::Matrix, chosen: &Self::Chosen, x: &mut Self::Buffer) -> Result<()>;
    /// `x *= factor`: scaled embeddings.
    fn scale(&self, factor: f32, x: &mut Self::Buffer) -> Result<()>;
    /// `residual += x`.
    fn add(&self, x: &Self::Buffer, residual: &mut Self::Buffer) -> Result<()>;
    /// `x[t, h] = norm(x[t, h])` for every head, in place: `x` is `[n, heads, head_dim]`.
    fn norm_heads(&self, norm: &Norm<Self>, head_dim: usize, x: &mut Self::Buffer) -> Result<()>;
    /// `x[t] += table[positions[t]]`: learned positions.
    fn add_positions(&self, table: &Self::Matrix, positions: &[usize], x: &mut Self::Buffer) -> Result<()>;
    /// `out[t] = norm(x[t])`.
    fn norm(&self, norm: &Norm<Self>, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;
    /// `outs[i] = x weights[i]ᵀ + biases[i]`: several weights of one input at once.
    fn linear<const N: usize>(
        &self,
        weights: [&Linear<Self>; N],
        x: &Self::Buffer,
        outs: [&mut Self::Buffer; N],
    ) -> Result<()>;
    /// `residual += x weightᵀ + bias`.
    fn linear_add(&self, weight: &Linear<Self>, x: &Self::Buffer, residual: &mut Self::Buffer) -> Result<()>;
    /// Rotates `q` `[n, n_heads, head_dim]` and `k` `[n, n_kv_heads, head_dim]` where there are angles, of every
    /// row one, then stores `k` and `v` of every part at its positions. The parts hold all rows, in order.
    fn rope_store(
        &self,
        heads: &Heads,
        angles: Option<&Angles>,
        qkv: (&mut Self::Buffer, &mut Self::Buffer, &Self::Buffer),
        parts: &mut [Part<'_, Self::Cache>],
    ) -> Result<()>;
    /// Causal attention of the queries of every part over the last `window` positions of its cache, or over all:
    /// `out` is `[n, n_heads, head_dim]`. The parts hold all rows, in order.
    fn attend(
        &self,
        heads: &Heads,
        window: Option<usize>,
        q: &Self::Buffer,
        parts: &[Part<'_, Self::Cache>],
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// `out = activation(x gateᵀ) * (x upᵀ)`.
    fn gated(
        &self,
        activation: Activation,
        gate: &Linear<Self>,
        up: &Linear<Self>,
        x: &Self::Buffer,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// `out = gelu_tanh(x upᵀ)`.
    fn gelu(&self, up: &Linear<Self>, x: &Self::Buffer, out: &mut Self::Buffer) -> Result<()>;
    /// Writes the logits of the tokens `rows`, `norm(x[rows]) headᵀ`, to all of `logits`, `[rows, vocab]`.
    fn head(
        &self,
        norm: &Norm<Self>,
        head: &Self::Matrix,
        x: &Self::Buffer,
        rows: &[usize],
        logits: &mut [f32],
    ) -> Result<()>;
    /// Appends to `chosen` the id of the largest of the logits `norm(x[row]) headᵀ`, the lowest id among equals.
    fn choose(
        &self,
        norm: &Norm<Self>,
        head: &Self::Matrix,
        x: &Self::Buffer,
        row: usize,
        chosen: &mut Self::Chosen,
    ) -> Result<()>;
    /// The `k` largest of the logits `norm(x[row]) headᵀ` with their ids, best first, the lowest id first among equals;
    /// none where a logit is NaN. `k` is from 1 to [`MOST_BEST`] and at most the number of logits.
    fn best(
        &self,
        norm: &Norm<Self>,
        head: &Self::Matrix,
        x: &Self::Buffer,
        row: usize,
        k: usize,
    ) -> Result<Vec<(u32, f32)>>;
}

/// So many of the best logits a backend picks at most.
pub const MOST_BEST: usize = 256;

/// As [`Backend::best`], of logits that the host has.
fn best_of(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    match argmax(logits) {
        Some(_) => top_ids(logits, k).into_iter().map(|id| (id, logits[id as usize])).collect(),
        None => Vec::new(),
    }
}

/// The rows of a pass that belong to one sequence, in order of their positions.
pub struct Part<'a, C> {
    /// Rows of the pass.
    pub rows: Range<usize>,
    /// Position of the first of them.
    pub start: usize,
    /// Keys and values of the layer at hand.
    pub cache: &'a mut C,
}

/// A backend in the table.
pub struct BackendEntry {
    /// `reference`, `cpu`, `cpu-fast`, `wgpu`, `wgpu-fast`.
    pub name: &'static str,
    /// Whether it computes on an adapter rather than on the processor.
    needs_adapter: bool,
    /// Loads a model.
    load: fn(&Model, Placement<'_>) -> Result<Arc<dyn Engine>>,
}

/// Where a model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Threads of the processor, at least 1.
    pub threads: usize,
    /// The adapter of a GPU backend: an index, a kind or a part of its name, as [`choose_device`] reads it; none for
    /// the best.
    pub adapter: Option<&'a str>,
}

/// The GPU backends, of which a program that was built without them knows the names.
const WGPU: &str = "wgpu";
const WGPU_FAST: &str = "wgpu-fast";

/// Every backend, in the order a reader is told of them.
pub const BACKENDS: &[BackendEntry] = &[
    BackendEntry {
        name: reference::NAME,
        needs_adapter: false,
        load: |model, _| Ok(Arc::new(decoder::Decoder::load(reference::Reference, model)?)),
    },
    BackendEntry {
        name: Numerics::Exact.backend_name(),
        needs_adapter: false,
        load: |model, at| load_cpu(model, at.threads, Numerics::Exact),
    },
    BackendEntry {
        name: Numerics::Fast.backend_name(),
        needs_adapter: false,
        load: |model, at| load_cpu(model, at.threads, Numerics::Fast),
    },
    #[cfg(feature = "wgpu")]
    BackendEntry {
        name: WGPU,
        needs_adapter: true,
        load: |model, at| load_wgpu(model, at.adapter, Numerics::Exact),
    },
    #[cfg(feature = "wgpu")]
    BackendEntry {
        name: WGPU_FAST,
        needs_adapter: true,
        load: |model, at| load_wgpu(model, at.adapter, Numerics::Fast),
    },
    #[cfg(not(feature = "wgpu"))]
    left_out(WGPU),
    #[cfg(not(feature = "wgpu"))]
    left_out(WGPU_FAST),
];

/// A GPU backend of a program that was built without any: known by name, so that a playbook can call it optional.
#[cfg(not(feature = "wgpu"))]
const fn left_out(name: &'static str) -> BackendEntry {
    BackendEntry { name, needs_adapter: true, load: |_, _| Err(built_without()) }
}

#[cfg(not(feature = "wgpu"))]
fn built_without() -> Error {
    Error::new(Kind::Environment, "adapter", "this program was built without GPU backends")
        .hint("build it with the feature `wgpu`, which is on by default")
}

fn load_cpu(model: &Model, threads: usize, numerics: Numerics) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(decoder::Decoder::load(cpu::Cpu::new(threads, numerics)?, model)?))
}

#[cfg(feature = "wgpu")]
fn load_wgpu(model: &Model, adapter: Option<&str>, numerics: Numerics) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(decoder::Decoder::load(self::wgpu::Wgpu::new(numerics, adapter)?, model)?))
}

/// The names of [`BACKENDS`].
pub fn backend_names() -> Vec<&'static str> {
    BACKENDS.iter().map(|b| b.name).collect()
}

/// Whether the backend of that name rounds activations for speed, so that it is judged by what this costs and is no
/// measure of another's noise.
pub fn is_fast(backend: &str) -> bool {
    backend == Numerics::Fast.backend_name() || backend == WGPU_FAST
}

/// Whether the backend of that name computes on an adapter, so that what it gives depends on which.
pub fn needs_adapter(backend: &str) -> bool {
    BACKENDS.iter().any(|b| b.name == backend && b.needs_adapter)
}

/// The adapters of this machine, best first.
///
/// # Errors
/// [`Kind::Environment`] where this program was built without GPU backends.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    #[cfg(feature = "wgpu")]
    return Ok(self::wgpu::adapters().into_iter().map(|(_, info)| info).collect());
    #[cfg(not(feature = "wgpu"))]
    return Err(built_without());
}

/// The adapter that GPU backends compute on where `request` asks for one; see [`choose_device`].
///
/// # Errors
/// Those of [`devices`] and of [`choose_device`].
pub fn chosen_device(request: Option<&str>) -> Result<DeviceInfo> {
    #[cfg(feature = "wgpu")]
    return self::wgpu::choose(request).map(|(_, info)| info);
    #[cfg(not(feature = "wgpu"))]
    return devices().and_then(|none| choose_device(&none, request).map(|at| none[at].clone()));
}

/// Measures what the adapter that `request` means can do at most, which takes a second or a few.
///
/// # Errors
/// Those of [`chosen_device`]; [`Kind::Environment`] where the adapter has no memory for it or is lost.
pub fn measure_device(request: Option<&str>) -> Result<DeviceRates> {
    #[cfg(feature = "wgpu")]
    return self::wgpu::measure(request);
    #[cfg(not(feature = "wgpu"))]
    return chosen_device(request).and_then(|_| Err(built_without()));
}

/// Loads `model` onto the backend of that name. Weights of a backend of the processor stay where they are mapped.
///
/// # Errors
/// [`Kind::Usage`] for an unknown backend or no threads; [`Kind::Contract`] for a missing, misshapen or unused
/// weight; of a GPU backend those of [`choose_device`].
pub fn load(model: &Model, backend: &str, at: Placement<'_>) -> Result<Arc<dyn Engine>> {
    if at.threads == 0 {
        return Err(Error::new(Kind::Usage, "threads", "0 threads cannot compute").hint("use 1 or more"));
    }
    let entry = BACKENDS.iter().find(|b| b.name == backend).ok_or_else(|| {
        Error::new(Kind::Usage, format!("backend `{backend}`"), "there is no such backend")
            .hint(format!("known: {}", backend_names().join(", ")))
    })?;
    (entry.load)(model, at)
}

/// A model loaded onto some backend, whatever its types.
pub trait Engine: Send + Sync {
    /// The name of its backend.
    fn backend_name(&self) -> &'static str;
    /// The adapter that it computes on; none for a backend of the processor.
    fn device(&self) -> Option<DeviceInfo>;
    /// Whether its device is lost: the model must be loaded anew.
    fn is_lost(&self) -> bool;
    /// From now on times every kernel on the device, which then waits for each.
    ///
    /// # Errors
    /// Those of [`Backend::begin_profile`].
    fn begin_profile(&self) -> Result<()>;
    /// Ends the profile: the time of every kernel since it began, the longest first.
    ///
    /// # Errors
    /// Those of [`Backend::end_profile`].
    fn end_profile(&self) -> Result<Vec<KernelTime>>;
    /// Holds every operation of its backend against the scalar reference, by the tolerance of its contract: on the weights
    /// of `model`, which must be the loaded one, and on shapes and values that kernels stumble over. Every operation is
    /// told, one that nothing was compared of with no element.
    ///
    /// # Errors
    /// [`Kind::Contract`] where `model` is another; [`Kind::Environment`] where the device is lost or has no memory.
    fn judge_kernels(&self, model: &Model) -> Result<Vec<KernelResult>>;
    /// Sizes and switches.
    fn config(&self) -> &ModelConfig;
    /// An empty sequence, as its user holds it.
    fn context(self: Arc<Self>) -> Context;

    /// Begins an empty sequence.
    fn open(&self) -> SequenceId;
    /// Begins a sequence that continues as `sequence` would.
    fn fork(&self, sequence: SequenceId) -> SequenceId;
    /// Forgets a sequence.
    fn close(&self, sequence: SequenceId);
    /// How many tokens a sequence has.
    fn position(&self, sequence: SequenceId) -> usize;
    /// Empties a sequence.
    fn reset(&self, sequence: SequenceId);
    /// From now on shows `observer` what the operations on that sequence give.
    fn observe(&self, sequence: SequenceId, observer: Box<dyn Observer>);
    /// Appends to several sequences. `logits` becomes those asked for, `[wanted of all feeds, vocab]`, in order; its
    /// memory is used again.
    ///
    /// # Errors
    /// Those of [`Context::forward_many`].
    fn forward(&self, feeds: &[Feed<'_>], logits: &mut Vec<f32>) -> Result<()>;
    /// Appends `ids` and goes on greedily; see [`Context::greedy`].
    ///
    /// # Errors
    /// Those of [`Context::greedy`].
    fn greedy(&self, sequence: SequenceId, ids: &[u32], n: usize, stop: &[u32]) -> Result<Vec<u32>>;

    /// Appends `ids` to a sequence and picks the `k` best tokens to follow; see [`Context::best`].
    ///
    /// # Errors
    /// Those of [`Context::best`].
    fn best(&self, sequence: SequenceId, ids: &[u32], k: usize) -> Result<Vec<(u32, f32)>>;
}

/// Geometry of attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; query head `h` reads `h / (n_heads / n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Score scale.
    pub scale: f32,
}

impl Heads {
    /// The key and value head that query head `h` reads.
    pub fn kv_head(&self, h: usize) -> usize {
        h / (self.n_heads / self.n_kv_heads)
    }
}

/// What a gate is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))`.
    GeluTanh,
}

/// The positions that the token at `position` sees: all up to itself, or the last `window` of them.
pub(crate) fn visible(window: Option<usize>, position: usize) -> Range<usize> {
    let end = position + 1;
    end - window.map_or(end, |w| w.min(end))..end
}

/// Kind and epsilon of every norm of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormRule {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub eps: f32,
}
